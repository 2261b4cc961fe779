"""Compares a pack with the images it was made from: pixel differences, size, reading speed."""

import time

import cv2
import numpy as np

from mdw.data.augment import Augmentation
from mdw.data.packed import Packed, chunk_path
from mdw.data.sample import Dataset
from mdw.training.batches import TrainingBatches
from mdw.training.recipes import Recipe
from mdw.util.errors import MdwError


def check_pack(packed: Packed, direct: Dataset, count: int = 320, workers: tuple[int, ...] = (1, 2)) -> dict:
    """Returns figures of a pack, from the same augmented crops of `count` persons from both sources.

    direct: the data set it was made from, in the same order. The figures: persons and bytes; differences between crops from the
    pack and from the images, in levels of 255 (mean, 99th percentile and maximum over all pixels and colours); and complete
    training samples (read, augmented, warped, normalised, with targets) a second from either, by the number of threads that
    make batches of 32: fastest of three passes, OpenCV's own threads off, files in the disk cache. Raises MdwError where the
    two do not hold the same persons.
    """
    if len(packed) != len(direct) or [s.person_id for s in packed.samples] != [s.person_id for s in direct.samples]:
        raise MdwError(f"the pack {packed.root} and {direct.name} do not hold the same persons; check --root, or pack again")
    settings = packed.settings
    recipe = Recipe(
        "check",
        "people",  # any data set would do: the recipe only says how batches are made
        input_size=settings["input_size"],
        augmentation=Augmentation(**settings["augmentation"]),
        drop_last=False,
    )
    chosen = np.unique(np.linspace(0, len(packed) - 1, min(count, len(packed))).astype(int))
    sources = {
        "direct": TrainingBatches(direct.select(chosen), recipe, 0),
        "packed": TrainingBatches(packed.select(chosen), recipe, 0),
    }
    levels = np.zeros(256, np.int64)
    for begin in range(0, len(chosen), 32):
        indices = np.arange(begin, min(begin + 32, len(chosen)))
        crops, packed_crops = (source.samples(0, indices)[0].astype(np.int16) for source in sources.values())
        levels += np.bincount(np.abs(crops - packed_crops).ravel(), minlength=256)
    size = sum(chunk_path(packed.root, k).stat().st_size for k in range(len(settings["chunks"])))
    result = {
        "persons": len(packed),
        "MiB": size / 2**20,
        "bytes_per_person": round(size / len(packed)),
        "compared": len(chosen),
        "difference_mean": float(levels @ np.arange(256) / levels.sum()),
        "difference_p99": int(np.searchsorted(levels.cumsum(), 0.99 * levels.sum())),
        "difference_max": int(levels.nonzero()[0].max()),
    }
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        for number in workers:
            for name, source in sources.items():
                source.workers = number
                fastest = min(_seconds(source) for _ in range(3))
                result[f"{name}_images_per_s_{number}"] = round(len(chosen) / fastest, 1)
    finally:
        cv2.setNumThreads(threads)
    return result


def _seconds(source: TrainingBatches) -> float:
    start = time.perf_counter()
    for _ in source.epoch(1):
        pass
    return time.perf_counter() - start
