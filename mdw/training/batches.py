"""Training batches from images: augmented crops and their targets, made by OpenCV and NumPy ahead of the network."""

from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import nn

from mdw.data.augment import Draws, augment, draw, static_jitter
from mdw.data.packed import Packed
from mdw.data.sample import Dataset
from mdw.data.warp import normalise, warp
from mdw.inference.evaluate import batches
from mdw.pose.affine import affine_matrix, apply
from mdw.pose.heatmap import encode_factors
from mdw.training.recipes import Recipe
from mdw.training.step import Batch
from mdw.util.errors import MdwError


class Batches(Protocol):
    """The training data as the loop uses them."""

    @property
    def sizes(self) -> Sequence[int]:
        """The number of persons of each step of an epoch, over all processes; one entry a step."""
        ...

    def epoch(
        self, epoch: int, begin: int = 0, local: Callable[[np.ndarray], np.ndarray] = lambda indices: indices
    ) -> Generator[Batch, None, None]:
        """Yields the epoch's batches in order, from step `begin` on; a caller that leaves early closes the generator.

        A step has `Recipe.accumulate` batches; `local` selects this process's persons of each. The same (epoch, begin) gives
        the same batches in any process and at any time, so a killed run goes on as if nothing had happened.
        """
        ...


class Plan(NamedTuple):
    """Crops and targets of N persons, without the pixels.

    matrices (N, 2, 3) float64 from pixels of the image, mirrored where `flips` (N,), to crop pixels; joints (N, J, 2) in crop
    pixels. A target is the outer product of columns (N, J, h) and rows (N, J, w); weights (N, J). These three are float32.
    """

    matrices: np.ndarray
    flips: np.ndarray
    joints: np.ndarray
    columns: np.ndarray
    rows: np.ndarray
    weights: np.ndarray

    def targets(self) -> np.ndarray:
        """Returns the target heatmaps, (N, J, h, w) float32."""
        return self.columns[..., :, None] * self.rows[..., None, :]


class TrainingBatches:
    """`Batches` of augmented crops and targets: every batch is (crops, targets, weights).

    crops (B, 3, H, W) float32, targets (B, J, h, w) float32, weights (B, J) float32. A sample's augmentation depends on (seed,
    epoch, its index) alone, so an epoch can be repeated exactly, in any process. `workers` batches are made ahead, each in a
    thread of its own; their number changes the speed only. Raises MdwError where `dataset` is a pack for another recipe.
    """

    def __init__(self, dataset: Dataset, recipe: Recipe, seed: int, workers: int = 1):
        if isinstance(dataset, Packed):
            dataset.check(recipe.input_size, recipe.augmentation)
        self.dataset, self.recipe, self.seed, self.workers = dataset, recipe, seed, workers
        self.offsets = None
        if recipe.augmentation.jitter == "static20":  # once for all epochs; the 1 keeps this stream apart from the samples'
            boxes = np.stack([sample.box_wh for sample in dataset.samples])
            self.offsets = static_jitter(boxes, np.random.default_rng([seed, 0, 0, 1]))

    def __len__(self) -> int:
        return len(self.sizes)

    @property
    def sizes(self) -> list[int]:
        """The number of persons of each step of an epoch."""
        spans = batches(len(self.dataset), self.recipe.batch_size, self.recipe.drop_last)
        return [end - begin for begin, end in spans]

    def plan(self, epoch: int, indices: np.ndarray, widths: list[int]) -> Plan:
        """Returns augmentation and targets of these persons; `widths`: of their images, in pixels."""
        recipe = self.recipe
        persons = [self.dataset[int(i)] for i in indices]
        center, scale, joints, visible = (
            np.stack([getattr(person, name) for person in persons]) for name in ("center", "scale", "joints", "visible")
        )
        if self.offsets is not None:
            center = center + self.offsets[indices]
        drawn = [draw(np.random.default_rng([self.seed, epoch, int(i)])) for i in indices]
        draws = Draws(*np.array(drawn).T)
        arguments = np.array(widths), self.dataset.joints, recipe.input_size, recipe.augmentation, draws
        a = augment(center, scale, joints, visible, *arguments)
        matrices = affine_matrix(a.center, a.scale, a.rotation, recipe.input_size)
        joints = apply(matrices, a.joints)
        factors = encode_factors(joints, a.visible, recipe.input_size, recipe.heatmap_size, recipe.sigma)
        return Plan(matrices, a.flip, joints, *factors)

    def samples(self, epoch: int, indices: np.ndarray) -> tuple[np.ndarray, Plan]:
        """Returns crops uint8 (N, H, W, 3) of these persons, and the plan they were made by."""
        images = [self.dataset[int(i)].pixels() for i in indices]
        plan = self.plan(epoch, indices, [image.shape[1] for image in images])
        size = self.recipe.input_size
        crops = [warp(image, m, size, f) for image, m, f in zip(images, plan.matrices, plan.flips, strict=True)]
        return np.stack(crops), plan

    def batch(self, epoch: int, indices: np.ndarray) -> Batch:
        """Returns the batch of these persons: crops, targets, weights."""
        crops, plan = self.samples(epoch, indices)
        return torch.from_numpy(normalise(crops)), torch.from_numpy(plan.targets()), torch.from_numpy(plan.weights)

    def epoch(
        self, epoch: int, begin: int = 0, local: Callable[[np.ndarray], np.ndarray] = lambda indices: indices
    ) -> Generator[Batch, None, None]:
        """Yields batches as `Batches.epoch`; the next ones are made while the network computes."""
        order = np.random.default_rng([self.seed, epoch]).permutation(len(self.dataset))
        steps = np.split(order, np.cumsum(self.sizes))[begin : len(self)]
        with ThreadPoolExecutor(self.workers) as pool:
            ahead: deque = deque()
            for part in (part for step in steps for part in np.array_split(step, self.recipe.accumulate)):
                ahead.append(pool.submit(self.batch, epoch, local(part)))
                if len(ahead) > self.workers:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()


def check_sizes(sizes: Sequence[int], recipe: Recipe, processes: int, model: nn.Module, name: str) -> None:
    """Raise MdwError for steps of `sizes` persons that cannot be split over `processes`, or are too small for BatchNorm.

    A batch of one person is tried on `model`, called `name`, on torch's meta device, which computes no numbers.
    """
    smallest = min(sizes)
    if smallest < processes * recipe.accumulate:
        raise MdwError(
            f"a batch of {smallest} persons cannot be split over {processes} processes and {recipe.accumulate} "
            "parts; start fewer, or give a larger batch_size or drop_last=true with --set"
        )
    if smallest // (recipe.accumulate * (1 if recipe.sync_batchnorm else processes)) > 1:
        return
    width, height = recipe.input_size
    try:
        deepcopy(model).to("meta").train()(torch.zeros(1, 3, height, width, device="meta"))
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        split = f" in {recipe.accumulate} parts" if recipe.accumulate > 1 else ""
        raise MdwError(
            f"{name} cannot train on a batch of one person, and with batch_size={recipe.batch_size} a step has {smallest}"
            f"{split}: its BatchNorm needs two values of a channel; give another batch_size, or drop_last=true, with --set"
        ) from None
