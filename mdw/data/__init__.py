"""Data sets by name. Nothing here needs torch."""

import inspect
from collections.abc import Callable
from pathlib import Path

from mdw.data.sample import Dataset, Sample
from mdw.pose.joints import JointSet
from mdw.util.errors import MdwError
from mdw.util.typed import fit, fit_all
from mdw.util.words import unknown

__all__ = ["DATASETS", "METRICS", "Dataset", "Sample", "load", "settled"]

# The splits of the synthetic people differ by their seed: the same (seed, index) is always the same person.
PEOPLE_SPLITS = {"train": {"seed": 1, "count": 4096}, "val": {"seed": 2, "count": 512}}


def load(
    name: str, split: str, root: str | Path | None = None, aspect: float = 0.75, packed: str | Path | None = None, **options
) -> Dataset:
    """Loads one split of the data set `name` (a key of `DATASETS`).

    `root`: the folder of data that are read from disk; `aspect`: input width / height. `packed`: the folder of a pack of this
    split, made by `mdw data pack`, whose crops are read instead of the images, for training only.

    | name       | splits                                       | options                                           |
    |------------|----------------------------------------------|---------------------------------------------------|
    | people     | train, val                                   | count, seed, size, crowd: as in synthetic.people     |
    | photos     | all                                          |                                                   |
    | coco       | train, val, ... (its file names); test-dev   | detections: a detector file; min_score            |
    | mpii       | train, val, trainval, test                   |                                                   |
    | lspet, lsp | as in split.csv; all; lsp also train, test   | split_file: another file's name                   |
    | custom     | as its annotation files are called           | joints; annotations, images: as in custom.custom  |

    Raises MdwError for an unknown name, split or option, for an option's value of a wrong type, and as the data set's own
    function does.
    """
    check_place(name, root)
    options = _fitted(name, options)
    if packed is not None:
        from mdw.data.packed import open_pack

        return open_pack(packed, {"data": name, "split": split, "aspect": aspect, "options": settled(name, options)})
    return DATASETS[name](split, None if root is None else Path(root), aspect, **options)


def check_place(name: str, root: str | Path | None) -> None:
    """Raise MdwError for an unknown data set and for a `root` that is no folder."""
    if name not in DATASETS:
        raise unknown("there is no data set", name, DATASETS, "there is")
    if root is not None and not Path(root).is_dir():
        raise MdwError(f"--root {root} is no folder; name the folder of {name}")


def _fitted(name: str, options: dict) -> dict:
    """Returns the options of the data set `name`, converted to the annotations of its function."""
    common = {key: fit(key, options[key], str | Path | None) for key in options.keys() & {"packed"}}
    parameters = dict(list(inspect.signature(DATASETS[name]).parameters.items())[3:])  # after split, root, aspect
    return fit_all(f"the data set {name}", {key: options[key] for key in options if key not in common}, parameters) | common


def settled(name: str, options: dict) -> dict:
    """Returns options of `load` for a record: a joint file's name is replaced by its content.

    Raises MdwError for an option that the data set `name` does not have, and for a value of a wrong type.
    """
    options = _fitted(name, options)
    if not isinstance(options.get("joints"), str | Path | JointSet):
        return options
    from mdw.data.custom import read_joints

    return options | {"joints": read_joints(options["joints"]).to_dict()}


def _people(
    split: str,
    root: Path | None,
    aspect: float,
    count: int | None = None,
    seed: int | None = None,
    size: tuple[int, int] | None = None,
    crowd: float | None = None,
) -> Dataset:
    from mdw.data.synthetic import people

    _check_split("people", split, PEOPLE_SPLITS)
    options = {"count": count, "seed": seed, "size": size, "crowd": crowd}
    arguments = PEOPLE_SPLITS[split] | {name: value for name, value in options.items() if value is not None}
    return people(**arguments, aspect=aspect)


def _photos(split: str, root: Path | None, aspect: float) -> Dataset:
    from mdw.data.photos import photos

    _check_split("photos", split, ("all",))
    return photos(aspect)


def _coco(
    split: str, root: Path | None, aspect: float, detections: str | Path | None = None, min_score: float = 0.0
) -> Dataset:
    from mdw.data import coco

    root = _need(root, "coco", "annotations/ and the image folders")
    if detections is None:
        return coco.coco(root, split, aspect)
    return coco.detections(root, split, detections, aspect, min_score)


def _mpii(split: str, root: Path | None, aspect: float) -> Dataset:
    from mdw.data.mpii import mpii

    return mpii(_need(root, "mpii", "annot/ and images/"), split, aspect)


def _custom(
    split: str,
    root: Path | None,
    aspect: float,
    joints: str | Path | dict | JointSet | None = None,
    annotations: str = "annotations/{split}.json",
    images: str = "images",
) -> Dataset:
    from mdw.data.custom import custom

    return custom(_need(root, "custom", "annotations/ and images/"), split, aspect, joints, annotations, images)


def _lspet(split: str, root: Path | None, aspect: float, split_file: str = "split.csv") -> Dataset:
    from mdw.data.lsp import lspet

    return lspet(_need(root, "lspet", "joints.mat and images/"), split, aspect, split_file)


def _lsp(split: str, root: Path | None, aspect: float, split_file: str = "split.csv") -> Dataset:
    from mdw.data.lsp import lsp

    return lsp(_need(root, "lsp", "joints.mat and images/"), split, aspect, split_file)


DATASETS: dict[str, Callable[..., Dataset]] = {
    "people": _people,
    "photos": _photos,
    "coco": _coco,
    "mpii": _mpii,
    "lspet": _lspet,
    "lsp": _lsp,
    "custom": _custom,
}
# The metrics of `mdw.inference.evaluate.score` on each data set, which a recipe may name.
METRICS: dict[str, tuple[str, ...]] = {
    "people": ("pck", "AP"),
    "photos": (),
    "coco": ("AP",),
    "mpii": ("pckh",),
    "lspet": ("pck",),
    "lsp": ("pck",),
    "custom": ("AP",),
}


def _check_split(name: str, split: str, splits) -> None:
    if split not in splits:
        raise unknown(f"{name} has no split", split, splits, "there is")


def _need(root: Path | None, name: str, content: str) -> Path:
    if root is None:
        raise MdwError(f"the data set {name} is read from your disk; give --root, the folder with {content}")
    return root
