"""Digests of a run's data, from annotations and file names, so that other data of the same name are noticed."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from mdw.data.packed import Packed
from mdw.data.sample import Dataset
from mdw.training.runs import Run
from mdw.util.errors import MdwError


def fingerprint(train_set: Dataset, val_set: Dataset) -> dict[str, dict]:
    """Returns {"train": ..., "val": ...}, which a run's env.json keeps as "data".

    Each split has two counts, persons and images, and three digests: ids (of persons and images), annotations (joints, flags,
    boxes, areas) and files (names). A digest is None where it would say nothing: a pack keeps neither names nor coordinates of
    its images, and the recipe determines synthetic people. No image is read; 150,000 persons take about a second.
    """
    return {"train": _split(train_set), "val": _split(val_set)}


def check(run: Run, digests: dict[str, dict], root: str | Path | None) -> None:
    """Raise MdwError where the run was trained on other data than `digests`, the `fingerprint` of those at `root`.

    A run without a recorded fingerprint is not checked.
    """
    recorded = run.env.get("data") or {}
    for split in recorded.keys() & digests.keys():
        for name, value in recorded[split].items():
            if None not in (value, current := digests[split].get(name)) and value != current:
                difference = f"{value} {name}, not {current}" if isinstance(value, int) else f"other {name}"
                raise MdwError(
                    f"{run.path} was trained on other data than those at --root {root}: its {split} split had {difference}; "
                    "give the --root that it was trained on, or --look to see the run as it is"
                )


def _split(dataset: Dataset) -> dict:
    people = list(dataset.samples)
    ids = _digest([np.array([(s.image_id, s.person_id) for s in people], np.int64)])
    files = sorted({s.image.name for s in people if isinstance(s.image, Path)})
    read = not isinstance(dataset, Packed) and bool(files)
    annotations = [np.array([s.area for s in people], np.float64)]
    annotations += [np.stack([getattr(s, name) for s in people]) for name in ("joints", "visible", "box_wh")] if people else []
    return {
        "persons": len(people),
        "images": len({s.image_id for s in people}),
        "ids": ids,
        "annotations": _digest(annotations) if read else None,
        "files": _digest([np.frombuffer("\n".join(files).encode("utf-8", "surrogateescape"), np.uint8)]) if read else None,
    }


def _digest(arrays: Iterable[np.ndarray]) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]
