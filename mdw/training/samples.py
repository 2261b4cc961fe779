"""Draws training samples: a sheet of crops with their targets and augmented versions."""

from dataclasses import replace

import cv2
import numpy as np

from mdw.data.augment import NONE
from mdw.data.sample import Dataset
from mdw.inference.draw import overlay, sheet
from mdw.training.batches import TrainingBatches
from mdw.training.recipes import Recipe
from mdw.util.errors import MdwError

TARGET = (255, 60, 30)  # colour of a heatmap's peak; it is nowhere in a skeleton


def sample_sheet(
    dataset: Dataset, recipe: Recipe, count: int = 8, augmented: int = 4, seed: int = 0, across: int = 8, height: int = 192
) -> np.ndarray:
    """Returns an RGB image of the first `count` persons as `recipe` trains on them.

    Each person has 2 + `augmented` cells in a row: the plain crop with its labelled joints, the crop under the maximum of its
    target heatmaps, and its augmented crops of the first epochs with `seed`, with the joints that have a weight there. A row
    has about `across` cells, `height` pixels high. Raises MdwError where images cannot be read or the data set is empty.
    """
    if not len(dataset):
        raise MdwError(f"{dataset.name} has nobody to show; choose another split")
    indices = np.arange(min(count, len(dataset)))
    plain, plan = TrainingBatches(dataset, replace(recipe, augmentation=NONE), seed).samples(0, indices)
    persons = [
        [_with_joints(crop, joints, weights, dataset), _with_targets(crop, target)]
        for crop, joints, weights, target in zip(plain, plan.joints, plan.weights, plan.targets(), strict=True)
    ]
    source = TrainingBatches(dataset, recipe, seed)
    for epoch in range(augmented):
        crops, plan = source.samples(epoch, indices)
        for row, crop, joints, weights in zip(persons, crops, plan.joints, plan.weights, strict=True):
            row.append(_with_joints(crop, joints, weights, dataset))
    cells = 2 + augmented
    size = (round(height * recipe.aspect), height)
    return sheet([cell for person in persons for cell in person], cells * max(1, across // cells), size)


def _with_joints(crop: np.ndarray, joints: np.ndarray, weights: np.ndarray, dataset: Dataset) -> np.ndarray:
    return overlay(crop, joints[None], dataset.joints, 0.5, weights[None])


def _with_targets(crop: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Returns the crop under the maximum over joints of its target (J, h, w)."""
    heat = cv2.resize(target.max(axis=0), crop.shape[1::-1], interpolation=cv2.INTER_LINEAR)[..., None]
    return np.rint(0.8 * crop * (1 - heat) + np.array(TARGET) * heat).astype(np.uint8)
