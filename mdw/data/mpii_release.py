"""Converts MPII's official annotation file (mpii_human_pose_v1_u12_1.mat) to the JSON files that `mdw.data.mpii` reads.

Its one variable is a struct, in which a missing value is an empty array or a missing field:

    RELEASE.annolist(i).image.name
                       .annorect(k).scale, .objpos.x, .objpos.y, .x1, .y1, .x2, .y2 (head box)
                                   .annopoints.point(p).id (0..15), .x, .y, .is_visible
           .img_train(i)        1 where the labels are public
           .single_person{i}    numbers of the persons that stand apart from others: the single-person test set

The public labels have no official validation split. The usual one is a list of 2,958 persons by Tompson et al. (CVPR 2015).
`convert` reads it from root/annot/valid.json or from the detections.mat (RELEASE_img_index, RELEASE_person_index) that they
published with their predictions (mpii_valid_pred.zip).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.io.matlab import mat_struct

from mdw.data.matlab import read_mat
from mdw.data.mpii import PUBLIC_COUNTS, read_persons
from mdw.util.errors import MdwError
from mdw.util.files import write_json

NAME = "mpii_human_pose_v1_u12_1.mat"
PLACES = (NAME, f"mpii_human_pose_v1_u12_2/{NAME}", f"annot/{NAME}")


@dataclass(frozen=True)
class Person:
    """One `annorect`: numbers of image and person counted from 1, whether its labels are public and whether it stands apart.

    `entry` is the person in HRNet's form: image, center, scale, joints, joints_vis (1: annotated, hidden or not) and headbox
    where there is one; missing joints are (-1, -1).
    """

    image: int
    number: int
    train: bool
    single: bool
    entry: dict


def convert(root: str | Path, validation: str | Path | None = None, tell: Callable[[str], None] = lambda line: None) -> None:
    """Write root/annot/{train,valid,trainval,test}.json from the official annotation file below `root`.

    An existing file is not changed. The validation persons are those of annot/valid.json, or else of `validation`, Tompson's
    detections.mat; with neither, only trainval.json and test.json are written. train.json holds the persons of all images
    without a validation person, as HRNet's does. `tell` gets a line for each file. Raises MdwError where a file is missing or
    does not fit the others.
    """
    root = Path(root)
    source = next((root / candidate for candidate in PLACES if (root / candidate).is_file()), None)
    if source is None:
        raise MdwError(f"{root / PLACES[0]} does not exist; get it with `mdw data download mpii` or unpack it there")
    persons = read_release(source)
    labelled = [p for p in persons if p.train and any(p.entry["joints_vis"])]
    files = {"trainval": labelled, "test": [p for p in persons if not p.train and p.single]}
    valid_file = root / "annot" / "valid.json"
    if valid_file.is_file():
        images = _images_of(valid_file, labelled, source)
    elif validation is not None:
        chosen = _tompson(validation, labelled)
        images = {p.entry["image"] for p in chosen}
        files["valid"] = chosen
    else:
        images = None
        tell(f"no split without a list of validation persons: put HRNet's valid.json at {valid_file} or give --validation")
    if images is not None:
        files["train"] = [p for p in labelled if p.entry["image"] not in images]
    for name, members in files.items():
        path = root / "annot" / f"{name}.json"
        if path.is_file():
            tell(f"{path}: there already, left as it is")
        elif not members:
            tell(f"{path}: not written, {source.name} has no such person")
        else:
            write_json(path, [p.entry for p in members], indent=None)
            tell(f"{path}: {_counted(name, members)}")


def read_release(file: str | Path) -> list[Person]:
    """Reads the persons with a scale and a position, in file order. Raises MdwError, naming file and entry."""
    release = next(_structs(read_mat(file, ["RELEASE"])["RELEASE"]), None)
    if release is None or any(not hasattr(release, name) for name in ("annolist", "img_train")):
        raise MdwError(f"RELEASE in {file} has no annolist and img_train; use {NAME}")
    images, train = list(_structs(release.annolist)), np.ravel(release.img_train)
    single = np.ravel(getattr(release, "single_person", []))
    if len(train) != len(images) or len(single) not in (0, len(images)):
        raise MdwError(f"annolist, img_train and single_person in {file} have different lengths; fetch it again")
    persons = []
    for i, image in enumerate(images):
        apart = set(np.ravel(single[i]).astype(int).tolist()) if len(single) else set()
        for k, rect in enumerate(_structs(getattr(image, "annorect", None)), 1):
            entry = _entry(image, rect, f"person {k} of image {i + 1} of {file}")
            if entry is not None:
                persons.append(Person(i + 1, k, bool(train[i]), k in apart, entry))
    if not persons:
        raise MdwError(f"{file} has no person with a scale and a position; fetch it again")
    return persons


def _entry(image: mat_struct, rect: mat_struct, where: str) -> dict | None:
    position = next(_structs(getattr(rect, "objpos", None)), None)
    center, scale = [_number(position, name, where) for name in "xy"], _number(rect, "scale", where)
    if scale is None or None in center:
        return None
    joints, visible = [[-1.0, -1.0] for _ in range(16)], [0] * 16
    for points in _structs(getattr(rect, "annopoints", None)):
        for point in _structs(getattr(points, "point", None)):
            index, x, y = (_number(point, name, where) for name in ("id", "x", "y"))
            if index is None or index not in range(16) or x is None or y is None:
                raise MdwError(f"{where} has a joint that is not id 0..15 with x and y; fetch the file again")
            joints[int(index)], visible[int(index)] = [x, y], 1
    name = np.ravel(getattr(next(_structs(getattr(image, "image", None)), None), "name", []))
    if len(name) != 1 or not str(name[0]):
        raise MdwError(f"the image of {where} has no name; fetch the file again")
    entry = {"image": str(name[0]), "center": center, "scale": scale, "joints": joints, "joints_vis": visible}
    head = [_number(rect, corner, where) for corner in ("x1", "y1", "x2", "y2")]
    return entry if None in head else entry | {"headbox": [head[:2], head[2:]]}


def _structs(value: object) -> Iterator[mat_struct]:
    """Yields every struct of a struct array, a cell array or a single struct; none for an empty or other value."""
    if isinstance(value, mat_struct):
        yield value
    elif isinstance(value, np.ndarray) and value.dtype == object:
        for item in value.ravel():
            yield from _structs(item)


def _number(struct: mat_struct | None, name: str, where: str) -> float | None:
    """Returns a field as a number; None where struct or field are missing or empty."""
    values = np.ravel(getattr(struct, name, []))
    if not len(values):
        return None
    try:
        number = float(values[0])
    except (TypeError, ValueError):
        number = np.nan
    if len(values) != 1 or not np.isfinite(number):
        raise MdwError(f"{name} of {where} is no single finite number; fetch the file again")
    return number


def _images_of(file: Path, labelled: list[Person], source: Path) -> set[str]:
    """Returns the images of the persons in valid.json. Raises MdwError unless each is one of the official persons."""
    official: dict[str, list[dict]] = {}
    for person in labelled:
        official.setdefault(person.entry["image"], []).append(person.entry)
    for index, entry in enumerate(read_persons(file)):
        near = (np.abs(np.subtract(e["center"], entry.center)).max() <= 0.5 for e in official.get(entry.image, ()))
        if not any(near):
            raise MdwError(f"person {index} of {file} ({entry.image}) is not in {source}; use files of one release")
    return {entry.image for entry in read_persons(file)}


def _tompson(file: str | Path, labelled: list[Person]) -> list[Person]:
    variables = read_mat(file, ("RELEASE_img_index", "RELEASE_person_index"))
    images, numbers = (np.ravel(values).astype(int).tolist() for values in variables.values())
    by_index = {(p.image, p.number): p for p in labelled}
    if len(images) != len(numbers) or not images:
        raise MdwError(f"{file} has {len(images)} image and {len(numbers)} person numbers; fetch it again")
    unlabelled = [pair for pair in zip(images, numbers, strict=True) if pair not in by_index]
    if unlabelled:
        raise MdwError(f"{file} names person {unlabelled[0][1]} of image {unlabelled[0][0]}, who has no labels; use {NAME}")
    return [by_index[pair] for pair in zip(images, numbers, strict=True)]


def _counted(name: str, members: list[Person]) -> str:
    persons, images = PUBLIC_COUNTS[name]
    shown = len({p.entry["image"] for p in members})
    return f"{len(members):,} persons (public: {persons:,}) in {shown:,} images" + (f" (public: {images:,})" if images else "")
