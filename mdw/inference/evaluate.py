"""Predicts a data set with a network, by the official steps from the original image, and computes the metrics."""

import os
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from itertools import groupby, islice

import numpy as np
import torch
from torch import nn

from mdw.data.mpii import score_mpii
from mdw.data.packed import Packed
from mdw.data.sample import Dataset, Sample
from mdw.data.warp import crop, joints_to_crop, normalise
from mdw.pose import heatmap, metrics
from mdw.pose.average_precision import coco_ap, coco_results
from mdw.util.errors import MdwError

STRIDE = 4  # input pixels per heatmap pixel, in every network here


def predict_dataset(
    model: nn.Module,
    dataset: Dataset,
    input_size: tuple[int, int],
    flip_test: bool = True,
    batch_size: int = 32,
    device: str = "cpu",
    progress: Callable = iter,
    blur: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the predicted joints of every person of `dataset`: xy (N, J, 2) in image pixels, scores (N, J), both float32.

    `input_size` (width, height). With `flip_test` the heatmaps are averaged with those of the mirrored crop, shifted by one
    column (docs/reconstruction.md, P7). `progress` wraps the iterable of batches, as tqdm does. `blur`: the width of a Gaussian
    filter on the averaged heatmaps, as in `mdw.pose.heatmap.decode`. The model's mode is restored. Heatmaps are decoded batch
    by batch and not stored; threads read images ahead, each once for its consecutive persons.
    """
    refuse_pack(dataset)
    was_training = model.training
    model.eval()
    joints, total = dataset.joints.num_joints, len(dataset)
    xy, scores = np.zeros((total, joints, 2), np.float32), np.zeros((total, joints), np.float32)
    try:
        with closing(read_crops(dataset, input_size, batch_size)) as batches_of_crops:
            for begin in progress(range(0, total, batch_size)):
                samples, crops = next(batches_of_crops)
                maps = heatmaps(model, crops, dataset.joints.pairs, flip_test, device)
                centers, scales = np.stack([s.center for s in samples]), np.stack([s.scale for s in samples])
                rows = slice(begin, begin + len(samples))
                xy[rows], scores[rows] = heatmap.decode(maps, centers, scales, blur=blur)
    finally:
        model.train(was_training)
    return xy, scores


def read_crops(
    dataset: Dataset, input_size: tuple[int, int], batch_size: int
) -> Generator[tuple[list[Sample], np.ndarray], None, None]:
    """Yields consecutive samples, `batch_size` at a time, and their normalised crops (n, 3, H, W), float32.

    An image is decoded once for its consecutive persons. Threads work at most two batches ahead, so that memory does not grow
    with the data set.
    """

    def groups() -> Iterator[list[Sample]]:
        for _, same_image in groupby(dataset.samples, lambda sample: sample.image):
            while group := list(islice(same_image, batch_size)):
                yield group

    def load(group: list[Sample]) -> np.ndarray:
        image = group[0].pixels()
        return normalise(np.stack([crop(image, s.center, s.scale, 0.0, input_size) for s in group]))

    remaining, ahead = groups(), deque[tuple[list[Sample], Future[np.ndarray]]]()
    samples: list[Sample] = []
    crops, loading = [], 0
    pool = ThreadPoolExecutor(min(8, os.cpu_count() or 1))
    try:
        while True:
            while loading < 2 * batch_size and (group := next(remaining, None)):
                ahead.append((group, pool.submit(load, group)))
                loading += len(group)
            if not ahead:
                break
            group, ready = ahead.popleft()
            samples, loading = samples + group, loading - len(group)
            crops.append(ready.result())
            if len(samples) >= batch_size:
                joined = np.concatenate(crops)
                yield samples[:batch_size], joined[:batch_size]
                samples, crops = samples[batch_size:], [joined[batch_size:]]
        if samples:
            yield samples, np.concatenate(crops)
    finally:
        pool.shutdown(cancel_futures=True)


def refuse_pack(dataset: Dataset) -> None:
    """Raise MdwError for a pack, whose images are not the original ones."""
    if isinstance(dataset, Packed):
        raise MdwError(f"{dataset.root} is a pack, which is for training only; evaluate on the original images")


@torch.no_grad()
def heatmaps(model: nn.Module, crops: np.ndarray, pairs, flip_test: bool = True, device: str = "cpu") -> np.ndarray:
    """Returns heatmaps (N, J, h, w) float32 of normalised crops (N, 3, H, W), with `flip_test` those of the flip test."""
    x = torch.from_numpy(np.ascontiguousarray(crops)).to(device)
    maps = model(x).float().cpu().numpy()
    if not flip_test:
        return maps
    mirrored = model(x.flip(-1)).float().cpu().numpy()
    return heatmap.flip_average(maps, mirrored, pairs)


def score(dataset: Dataset, xy: np.ndarray, scores: np.ndarray) -> dict:
    """Returns the metrics of `dataset`: PCKh for MPII, PCK@0.2 for Leeds joints, COCO AP where it has the ground truth.

    xy (N, J, 2), scores (N, J). Returns {"pckh": percent, ...}, {"pck": percent, ...} or {"AP": 0..1, ...}; synthetic people
    have both, because their AP stays near 0 in a demo of minutes. Raises MdwError for a data set without ground truth.
    """
    if dataset.joints.name == "mpii16":
        return score_mpii(dataset, xy)
    people = list(dataset.samples)
    if dataset.joints.name == "lsp14" or dataset.name == "people":
        truth, flags = np.stack([s.joints for s in people]), np.stack([s.visible for s in people])
        measured = metrics.pck(xy, truth, flags, joints=dataset.joints)
    elif dataset.ground_truth is not None and dataset.joints.sigmas is not None:
        measured = {}
    else:
        raise MdwError(f"the data set {dataset.name} has no ground truth to measure against; choose another split")
    if dataset.ground_truth is None:
        return measured
    return measured | coco_ap(dataset.ground_truth, results(dataset, xy, scores), joints=dataset.joints)


def results(dataset: Dataset, xy: np.ndarray, scores: np.ndarray) -> list[dict]:
    """Returns COCO's results list for the predictions xy (N, J, 2) and scores (N, J) on `dataset`; see `coco_results`."""
    people = list(dataset.samples)
    if not people:
        return []
    centers, scales = np.stack([s.center for s in people]), np.stack([s.scale for s in people])
    box_scores = [s.box_score for s in people]
    return coco_results([s.image_id for s in people], xy, scores, centers, scales, box_scores, joints=dataset.joints)


def evaluate(model: nn.Module, dataset: Dataset, input_size: tuple[int, int], **options) -> dict:
    """Returns `score` of `predict_dataset`; `options` are those of `predict_dataset`."""
    return score(dataset, *predict_dataset(model, dataset, input_size, **options))


def oracle(dataset: Dataset, input_size: tuple[int, int], sigma: float, flip_test: bool = True) -> dict:
    """Returns `score` of a perfect network, whose output is the training target: the loss by cropping and rounding alone.

    `input_size` (width, height), `sigma` as in the recipe. On COCO the AP is below 1, because `oracle_poses` differ from the
    annotations and OKS at high thresholds shows it. On the 68 persons of COCO mini's val at 256x192 without the flip test AP is
    0.982: six of 652 labelled joints lie outside their crops, which costs 0.017, and rounding costs 0.002.
    """
    return score(dataset, *oracle_poses(dataset, input_size, sigma, flip_test))


def oracle_poses(
    dataset: Dataset, input_size: tuple[int, int], sigma: float, flip_test: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Returns joints (N, J, 2) and scores (N, J) decoded from the targets of `dataset`'s samples. No image is read.

    A target's peak is at a whole pixel and symmetric, so there is no quarter-pixel step and the error is up to half a heatmap
    pixel. In the flip test the two maps are rounded differently for a quarter of the joints, which then have the step. A joint
    outside the crop is decoded at its edge; one far outside, or not labelled, has an empty map, score 0 and the crop's corner.
    """
    size, pairs, swap = (input_size[0] // STRIDE, input_size[1] // STRIDE), dataset.joints.pairs, dataset.joints.swap
    decoded = []
    for s in dataset.samples:
        xy = joints_to_crop(s.joints, s.visible, s.center, s.scale, 0.0, input_size)
        maps, _ = heatmap.encode(xy[None], s.visible[None], input_size, size, sigma)
        if flip_test:
            mirrored = np.stack([input_size[0] - 1 - xy[swap, 0], xy[swap, 1]], axis=1)
            of_mirrored, _ = heatmap.encode(mirrored[None], s.visible[None, swap], input_size, size, sigma)
            maps = heatmap.flip_average(maps, of_mirrored, pairs)
        decoded.append(heatmap.decode(maps, s.center[None], s.scale[None]))
    xy, scores = zip(*decoded, strict=True)
    return np.concatenate(xy), np.concatenate(scores)


def batches(count: int, size: int, drop_last: bool) -> Iterator[tuple[int, int]]:
    """Yields (begin, end) of batches of `count` items; `drop_last` leaves out an incomplete last one, but not a single one."""
    for begin in range(0, count, size):
        end = min(begin + size, count)
        if end - begin == size or not drop_last or count < size:
            yield begin, end
