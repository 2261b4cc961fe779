"""Predictions of a network on a data set, along the official path from the original picture, and their metrics."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import nn

from mdw.data.packed import Packed
from mdw.data.sample import Dataset
from mdw.data.warp import crop, normalise
from mdw.errors import MdwError
from mdw.pose import heatmap, metrics
from mdw.pose.average_precision import coco_ap, coco_results


def predict_dataset(
    model: nn.Module,
    dataset: Dataset,
    input_size: tuple[int, int],
    flip_test: bool = True,
    batch_size: int = 32,
    device: str = "cpu",
    progress: Callable = iter,
) -> tuple[np.ndarray, np.ndarray]:
    """Joints of every person of `dataset`: xy (N, J, 2) in image pixels and scores (N, J), both float32.

    `input_size` (width, height). With `flip_test` the maps of the mirrored crop are averaged in, shifted by one column
    (protocol section 7). `progress` wraps the iterable of batches, as tqdm does. The model's mode is restored.
    """
    refuse_pack(dataset)
    was_training = model.training
    model.eval()
    xy, scores = [], []
    try:
        for begin in progress(range(0, len(dataset), batch_size)):
            samples = [dataset[i] for i in range(begin, min(begin + batch_size, len(dataset)))]
            crops = np.stack([crop(s.pixels(), s.center, s.scale, 0.0, input_size) for s in samples])
            maps = heatmaps(model, normalise(crops), dataset.joints.pairs, flip_test, device)
            centers, scales = np.stack([s.center for s in samples]), np.stack([s.scale for s in samples])
            batch_xy, batch_scores = heatmap.decode(maps, centers, scales)
            xy.append(batch_xy)
            scores.append(batch_scores)
    finally:
        model.train(was_training)
    joints = dataset.joints.num_joints
    if not xy:
        return np.zeros((0, joints, 2), np.float32), np.zeros((0, joints), np.float32)
    return np.concatenate(xy).astype(np.float32), np.concatenate(scores).astype(np.float32)


def refuse_pack(dataset: Dataset) -> None:
    """Raise MdwError for a pack: its pictures are not the original ones, and its pixels not theirs."""
    if isinstance(dataset, Packed):
        raise MdwError(f"{dataset.root} is a pack, which is for training only; evaluate on the original pictures")


@torch.no_grad()
def heatmaps(model: nn.Module, crops: np.ndarray, pairs, flip_test: bool = True, device: str = "cpu") -> np.ndarray:
    """Heat maps (N, J, h, w) float32 of normalised crops (N, 3, H, W); with `flip_test` the average of both pictures."""
    x = torch.from_numpy(np.ascontiguousarray(crops)).to(device)
    maps = model(x).float().cpu().numpy()
    if not flip_test:
        return maps
    mirrored = model(x.flip(-1)).float().cpu().numpy()
    return heatmap.flip_average(maps, mirrored, pairs)


def score(dataset: Dataset, xy: np.ndarray, scores: np.ndarray) -> dict:
    """The metrics that `dataset` has: PCK@0.2 for Leeds joints, COCO AP where there is a ground truth for it.

    xy (N, J, 2), scores (N, J). Returns {"pck": percent, ...} or {"AP": 0..1, ...}; drawn people, whose AP stays near
    nothing in the minutes a demo has, get both. Raises MdwError where the data set has neither.
    """
    people = list(dataset.samples)
    if dataset.joints.name == "lsp14" or dataset.name == "people":
        truth, flags = np.stack([s.joints for s in people]), np.stack([s.visible for s in people])
        measured = metrics.pck(xy, truth, flags, joints=dataset.joints)
    elif dataset.ground_truth is not None and dataset.joints.name == "coco17":
        measured = {}
    else:
        raise MdwError(f"the data set {dataset.name} has no ground truth to measure against; choose another split")
    if dataset.ground_truth is None:
        return measured
    centers, scales = np.stack([s.center for s in people]), np.stack([s.scale for s in people])
    box_scores = np.array([s.box_score for s in people])
    results = coco_results([s.image_id for s in people], xy, scores, centers, scales, box_scores)
    return measured | coco_ap(dataset.ground_truth, results)


def evaluate(model: nn.Module, dataset: Dataset, input_size: tuple[int, int], **options) -> dict:
    """`score` of `predict_dataset`, whose `options` it takes."""
    return score(dataset, *predict_dataset(model, dataset, input_size, **options))


def batches(count: int, size: int, drop_last: bool) -> Iterator[tuple[int, int]]:
    """(begin, end) of consecutive batches of `count` things; `drop_last` leaves out an incomplete last one, not an only one."""
    for begin in range(0, count, size):
        end = min(begin + size, count)
        if end - begin == size or not drop_last or count < size:
            yield begin, end
