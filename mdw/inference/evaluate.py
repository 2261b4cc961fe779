"""Predictions of a network on a data set, along the official path from the original image, and their metrics."""

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

STRIDE = 4  # input pixels to a heatmap's pixel, in every network here


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
    """Joints of every person of `dataset`: xy (N, J, 2) in image pixels and scores (N, J), both float32.

    `input_size` (width, height). With `flip_test` the maps of the mirrored crop are averaged in, shifted by one column
    (docs/reconstruction.md, P7). `progress` wraps the iterable of batches, as tqdm does. `blur`: as in
    `mdw.pose.heatmap.decode`, the width of a Gaussian filter on the averaged maps. The model's mode is restored. Heatmaps are
    decoded batch by batch and not kept; images are read ahead in threads, each once for all its persons in a row.
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
                these = slice(begin, begin + len(samples))
                xy[these], scores[these] = heatmap.decode(maps, centers, scales, blur=blur)
    finally:
        model.train(was_training)
    return xy, scores


def read_crops(
    dataset: Dataset, input_size: tuple[int, int], batch_size: int
) -> Generator[tuple[list[Sample], np.ndarray], None, None]:
    """Consecutive samples, `batch_size` at a time, and their normalised crops (n, 3, H, W), float32.

    Persons of one image that follow each other share its decoding. Threads work ahead of the reader by two batches, never
    by more, so that memory does not grow with the data set.
    """

    def parts() -> Iterator[list[Sample]]:
        for _, together in groupby(dataset.samples, lambda sample: sample.image):
            while part := list(islice(together, batch_size)):
                yield part

    def load(part: list[Sample]) -> np.ndarray:
        image = part[0].pixels()
        return normalise(np.stack([crop(image, s.center, s.scale, 0.0, input_size) for s in part]))

    waiting, ahead = parts(), deque[tuple[list[Sample], Future[np.ndarray]]]()
    samples: list[Sample] = []
    crops, loading = [], 0
    pool = ThreadPoolExecutor(min(8, os.cpu_count() or 1))
    try:
        while True:
            while loading < 2 * batch_size and (part := next(waiting, None)):
                ahead.append((part, pool.submit(load, part)))
                loading += len(part)
            if not ahead:
                break
            part, ready = ahead.popleft()
            samples, loading = samples + part, loading - len(part)
            crops.append(ready.result())
            if len(samples) >= batch_size:
                whole = np.concatenate(crops)
                yield samples[:batch_size], whole[:batch_size]
                samples, crops = samples[batch_size:], [whole[batch_size:]]
        if samples:
            yield samples, np.concatenate(crops)
    finally:
        pool.shutdown(cancel_futures=True)


def refuse_pack(dataset: Dataset) -> None:
    """Raise MdwError for a pack: its images are not the original ones, and its pixels not theirs."""
    if isinstance(dataset, Packed):
        raise MdwError(f"{dataset.root} is a pack, which is for training only; evaluate on the original images")


@torch.no_grad()
def heatmaps(model: nn.Module, crops: np.ndarray, pairs, flip_test: bool = True, device: str = "cpu") -> np.ndarray:
    """Heatmaps (N, J, h, w) float32 of normalised crops (N, 3, H, W); with `flip_test` the average of both images."""
    x = torch.from_numpy(np.ascontiguousarray(crops)).to(device)
    maps = model(x).float().cpu().numpy()
    if not flip_test:
        return maps
    mirrored = model(x.flip(-1)).float().cpu().numpy()
    return heatmap.flip_average(maps, mirrored, pairs)


def score(dataset: Dataset, xy: np.ndarray, scores: np.ndarray) -> dict:
    """The metrics that `dataset` has: PCKh for MPII, PCK@0.2 for Leeds joints, COCO AP where there is a ground truth for it.

    xy (N, J, 2), scores (N, J). Returns {"pckh": percent, ...}, {"pck": percent, ...} or {"AP": 0..1, ...}; synthetic
    people, whose AP stays near nothing in the minutes a demo has, get both. Raises MdwError where the data set has neither.
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
    """COCO's results list for the predictions xy (N, J, 2) and scores (N, J) on `dataset`; see `coco_results`."""
    people = list(dataset.samples)
    if not people:
        return []
    centers, scales = np.stack([s.center for s in people]), np.stack([s.scale for s in people])
    box_scores = [s.box_score for s in people]
    return coco_results([s.image_id for s in people], xy, scores, centers, scales, box_scores, joints=dataset.joints)


def evaluate(model: nn.Module, dataset: Dataset, input_size: tuple[int, int], **options) -> dict:
    """`score` of `predict_dataset`, whose `options` it takes."""
    return score(dataset, *predict_dataset(model, dataset, input_size, **options))


def oracle(dataset: Dataset, input_size: tuple[int, int], sigma: float, flip_test: bool = True) -> dict:
    """`score` of a network that gives back its training target for every crop: what the chain around it costs.

    `input_size` (width, height), `sigma` as in the recipe. On COCO the answer is below 1, because `oracle_poses` are not the
    annotated ones and OKS at the high thresholds notices. On the 68 persons of COCO mini's val at 256x192 without the flip test
    AP is 0.982: six of 652 labelled joints lie outside their crops, which takes 0.017, and rounding takes 0.002.
    """
    return score(dataset, *oracle_poses(dataset, input_size, sigma, flip_test))


def oracle_poses(
    dataset: Dataset, input_size: tuple[int, int], sigma: float, flip_test: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Joints (N, J, 2) and scores (N, J) decoded from the targets of `dataset`'s samples. No image is read.

    A target's peak is a whole pixel of the map and its sides are alike, so the quarter step has nothing to go by: a joint comes
    back up to half a map pixel off. In the flip test the two maps round to different sides for a quarter of the joints, and
    the step is taken. A joint outside the crop comes back at its edge; one that is far out, or not labelled, has an empty
    map, score 0 and the crop's corner.
    """
    size, pairs, swap = (input_size[0] // STRIDE, input_size[1] // STRIDE), dataset.joints.pairs, dataset.joints.swap
    found = []
    for s in dataset.samples:
        xy = joints_to_crop(s.joints, s.visible, s.center, s.scale, 0.0, input_size)
        maps, _ = heatmap.encode(xy[None], s.visible[None], input_size, size, sigma)
        if flip_test:
            mirrored = np.stack([input_size[0] - 1 - xy[swap, 0], xy[swap, 1]], axis=1)
            of_mirrored, _ = heatmap.encode(mirrored[None], s.visible[None, swap], input_size, size, sigma)
            maps = heatmap.flip_average(maps, of_mirrored, pairs)
        found.append(heatmap.decode(maps, s.center[None], s.scale[None]))
    xy, scores = zip(*found, strict=True)
    return np.concatenate(xy), np.concatenate(scores)


def batches(count: int, size: int, drop_last: bool) -> Iterator[tuple[int, int]]:
    """(begin, end) of consecutive batches of `count` things; `drop_last` leaves out an incomplete last one, not an only one."""
    for begin in range(0, count, size):
        end = min(begin + size, count)
        if end - begin == size or not drop_last or count < size:
            yield begin, end
