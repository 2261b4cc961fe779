"""Reads and checks files in COCO's format: annotations, image lists, detectors' boxes and results.

The types below say what a field may be. msgspec checks a whole file, or data in its place, against them before use; other
fields are ignored. Errors give file, entry (`annotations[3].bbox`), the value and what it should be. Without these checks
pycocotools would silently take NaN for a perfect match and annotation id 0 for no match, and ignore results of an unknown
category.
"""

import json
import re
import reprlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast

import msgspec
import numpy as np
from msgspec import Meta, Struct

from mdw.pose.joints import COCO17, JointSet
from mdw.util.errors import MdwError
from mdw.util.files import read_bytes

Id = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | str
Extent = Annotated[float, Meta(gt=0, le=1e6)]
Text = Annotated[str, Meta(min_length=1)]
LIMIT = 1e12  # larger numbers are no pixels, and their squares overflow
REMEDY = "write the file in COCO's format"
T = TypeVar("T")


class ListedImage(Struct, gc=False):
    """An image of which only the id matters, as for AP."""

    id: Id


class Image(ListedImage, gc=False):
    file_name: Text
    width: Extent
    height: Extent


class Category(Struct, gc=False):
    id: Id
    name: str | None = None
    keypoints: list[str] | None = None


class Annotation(Struct, kw_only=True, gc=False):
    """A person or another object. Every one needs id, image_id and category_id; `persons` needs the other fields, too."""

    id: Id | None = None
    image_id: Id
    category_id: Id
    bbox: list[float] | None = None
    area: float | None = None
    keypoints: list[float] | None = None
    iscrowd: bool | float | None = 0


class ImageList(Struct):
    """image_info_*.json: images without labels."""

    images: list[Image]


class Truth(Struct):
    """Annotations as AP needs them."""

    images: list[ListedImage]
    annotations: list[Annotation]
    categories: list[Category]


class Labels(Struct):
    """Annotations as a data set needs them: with the images' names and sizes. Some files have no categories."""

    images: list[Image]
    annotations: list[Annotation]
    categories: list[Category] = []


class Box(Struct, gc=False):
    """A person box of a file for `--boxes`."""

    image_id: Id
    category_id: Id
    bbox: list[float]
    iscrowd: bool | float | None = 0


class NamedImage(ListedImage, gc=False):
    file_name: Text


class Boxes(Struct):
    """Annotations of which only names and boxes matter."""

    images: list[NamedImage]
    annotations: list[Box]
    categories: list[Category] = []


class Detection(Struct, gc=False):
    image_id: Id
    category_id: int
    bbox: list[float]
    score: float


class Result(Struct, gc=False):
    image_id: Id
    category_id: int
    score: float
    keypoints: list[float]
    bbox: list[float] | None = None


@dataclass(frozen=True)
class Persons:
    """Some annotations as arrays, in their order: boxes (N, 4), areas (N,), keypoints (N, J, 3), crowd (N,) bool."""

    boxes: np.ndarray
    areas: np.ndarray
    keypoints: np.ndarray
    crowd: np.ndarray


def read(source: str | Path | object, kind: type[T], name: object = "the data", remedy: str = REMEDY) -> T:
    """Returns `source`, a JSON file or its loaded content, as `kind`; errors name loaded data `name` and end with `remedy`.

    Files are UTF-8, also with a byte-order mark. Raises MdwError for a file that cannot be read, is not JSON or does not fit.
    """
    value, decoded_as = source, cast(Any, kind)
    if isinstance(source, str | Path):
        name, content = source, read_bytes(source)
        try:
            return _decoder(decoded_as).decode(content.removeprefix(b"\xef\xbb\xbf"))
        except (msgspec.MsgspecError, RecursionError):  # find the mistake with the value at hand; Python's reader takes NaN
            value = parse(content, name)
    try:
        return msgspec.convert(value, kind)
    except RecursionError:
        raise MdwError(f"{name} is nested too deeply; write it as a plain COCO file") from None
    except (msgspec.MsgspecError, OverflowError, ValueError) as error:
        if "got `numpy." in str(error):
            return read(json.loads(json.dumps(value, default=_plain)), kind, name, remedy)
        raise _refusal(name, value, str(error), remedy) from None


def refuse(name: object, place: str, value: object, expected: str) -> MdwError:
    """Returns the error for a wrong value in a file."""
    return MdwError(f"{place} of {name} is {_short(value)}, it should be {expected}; correct it")


def check_image_ids(images: Sequence[ListedImage], name: object) -> dict:
    """Returns the images by id. Raises MdwError where an id occurs twice: its annotations could belong to either image."""
    by_id: dict = {}
    for index, image in enumerate(images):
        if (earlier := by_id.setdefault(image.id, image)) is not image:
            files = [getattr(i, "file_name", None) for i in (earlier, image)]
            both = f" ({_short(files[0])} and {_short(files[1])})" if all(files) else ""
            raise MdwError(
                f"images[{index}].id of {name} is {_short(image.id)}, which an image before has already{both}; "
                "give every image and its annotations an id of their own"
            )
    return by_id


def check_annotation_ids(annotations: Sequence[Annotation], name: object) -> None:
    """Raises MdwError unless the ids are different integers from 1 on: pycocotools takes 0 for "no match"."""
    first_index: dict = {}
    for index, entry in enumerate(annotations):
        if not isinstance(entry.id, int) or entry.id < 1:
            raise refuse(name, f"annotations[{index}].id", entry.id, "a whole number from 1 on")
        if (earlier := first_index.setdefault(entry.id, index)) != index:
            raise refuse(name, f"annotations[{index}].id", entry.id, f"another than that of annotations[{earlier}]")


def check_categories(annotations: Sequence[Annotation], categories: Sequence[Category], name: object) -> None:
    """Raises MdwError for an annotation of a category that is not listed: pycocotools would ignore it."""
    ids = {category.id for category in categories}
    for index, entry in enumerate(annotations):
        if entry.category_id not in ids:
            listed = f"one of {_short(sorted(ids, key=str))}, as listed in categories"
            raise refuse(name, f"annotations[{index}].category_id", entry.category_id, listed)


def persons(
    annotations: Sequence[Annotation], chosen: Sequence[int], image_ids: Mapping, joints: JointSet, name: object
) -> Persons:
    """Returns the `chosen` annotations (indices into the list), checked as persons, as arrays.

    `image_ids`: the images' ids, as keys. Keypoints are 3 * J numbers, or none, as tracking exports write an unseen person.
    Raises MdwError, naming the entry, for a field that is missing or not finite, a negative extent and an image not listed.
    """
    entries = [annotations[k] for k in chosen]
    count = 3 * joints.num_joints
    for k, entry in zip(chosen, entries, strict=True):
        if entry.image_id not in image_ids:
            raise refuse(name, f"annotations[{k}].image_id", entry.image_id, "the id of an image that is listed")
        if entry.iscrowd not in (0, 1, None):
            raise refuse(name, f"annotations[{k}].iscrowd", entry.iscrowd, "0 or 1")
        for field in ("bbox", "area", "keypoints"):
            if getattr(entry, field) is None:
                raise MdwError(f"annotations[{k}] of {name} has no field {field!r}; {REMEDY}")

    def place(field: str) -> Callable[[int], str]:
        return lambda row: f"annotations[{chosen[row]}].{field}"

    boxes = _boxes([e.bbox or [] for e in entries], name, place("bbox"))
    keypoints = table([e.keypoints or [0.0] * count for e in entries], count, name, place("keypoints"))
    return Persons(
        boxes,
        table([[e.area or 0.0] for e in entries], 1, name, place("area"))[:, 0],
        keypoints.reshape(-1, joints.num_joints, 3),
        np.array([bool(e.iscrowd) for e in entries], bool),
    )


def table(rows: Sequence[Sequence[float]], count: int, name: object, place: Callable[[int], str]) -> np.ndarray:
    """Returns `rows` as float64 (n, `count`). Raises MdwError, with `place` of its row, for the first that is not finite."""
    lengths = np.fromiter(map(len, rows), int, len(rows))
    if len(wrong := np.flatnonzero(lengths != count)):
        row = int(wrong[0])
        raise MdwError(f"{place(row)} of {name} has {lengths[row]} numbers, it should have {count}; correct it")
    numbers = np.array(rows, np.float64).reshape(-1, count)
    if len(cells := np.argwhere(~(np.abs(numbers) < LIMIT))):
        row, column = cells[0].tolist()
        cell = place(row) + (f"[{column}]" if count > 1 else "")
        finite = np.isfinite(numbers[row, column])
        raise refuse(name, cell, rows[row][column], f"a number of less than {LIMIT:g}" if finite else "a finite number")
    return numbers


def _boxes(rows: Sequence[Sequence[float]], name: object, place: Callable[[int], str]) -> np.ndarray:
    """Returns the `table` of boxes x, y, width, height. Raises MdwError also for a negative extent."""
    boxes = table(rows, 4, name, place)
    if len(negative := np.flatnonzero((boxes[:, 2:] < 0).any(axis=1))):
        row = int(negative[0])
        raise refuse(name, place(row), rows[row], "x, y, width and height, the latter two not negative")
    return boxes


def read_truth(source: str | Path | Mapping, joints: JointSet = COCO17, name: object = "the ground truth") -> dict:
    """Returns ground truth as pycocotools' evaluation needs it, as a new dict, because COCOeval writes into it.

    `num_keypoints` is counted here and not read. Raises MdwError as `persons` does, and for ids that occur twice.
    """
    truth = read(source, Truth, name)
    name = source if isinstance(source, str | Path) else name
    images_by_id = check_image_ids(truth.images, name)
    check_annotation_ids(truth.annotations, name)
    check_categories(truth.annotations, truth.categories, name)
    arrays = persons(truth.annotations, range(len(truth.annotations)), images_by_id, joints, name)
    labelled = (arrays.keypoints[:, :, 2] > 0).sum(axis=1).tolist()
    zeros = [0.0] * (3 * joints.num_joints)
    return {
        "images": [{"id": image.id} for image in truth.images],
        "categories": [{"id": category.id, "name": category.name} for category in truth.categories],
        "annotations": [
            {
                "id": e.id,
                "image_id": e.image_id,
                "category_id": e.category_id,
                "iscrowd": int(e.iscrowd or 0),
                "bbox": e.bbox,
                "area": e.area,
                "num_keypoints": labels,
                "keypoints": e.keypoints or zeros,
            }
            for e, labels in zip(truth.annotations, labelled, strict=True)
        ],
    }


def read_detections(source: str | Path) -> list[Detection]:
    """Reads a detector's boxes in COCO's results format. Raises MdwError as `read`, and for a number that is not finite."""
    entries = read(source, list[Detection])
    _boxes([e.bbox for e in entries], source, lambda row: f"[{row}].bbox")
    table([[e.score] for e in entries], 1, source, lambda row: f"[{row}].score")
    return entries


def read_results(
    source: str | Path | Sequence[Mapping],
    images: Iterable,
    categories: Iterable,
    truth_name: object,
    joints: JointSet = COCO17,
    name: object = "the results list",
) -> list[dict]:
    """Returns results for pycocotools as new dicts with known keys only: loadRes writes into them and reacts to other keys.

    `images`, `categories`: the ids that `truth_name` lists. Raises MdwError for malformed entries, for images of another split
    and for categories that are not in the ground truth, which pycocotools would ignore.
    """
    entries = read(source, list[Result], name)
    name = source if isinstance(source, str | Path) else name
    images, categories = set(images), set(categories)
    for index, entry in enumerate(entries):
        if entry.image_id not in images:
            raise MdwError(
                f"[{index}].image_id of {name} is {_short(entry.image_id)}, an image that is not in {truth_name}; "
                "use files of one split"
            )
        if entry.category_id not in categories:
            listed = f"as in {truth_name}, {' or '.join(map(str, sorted(categories, key=str)))}"
            raise refuse(name, f"[{index}].category_id", entry.category_id, listed)
    if len(boxed := {entry.bbox is not None for entry in entries}) > 1:
        raise MdwError(f"{name} has a bbox in some entries only, and areas are taken from it; leave it out everywhere")
    table([[e.score] for e in entries], 1, name, lambda row: f"[{row}].score")
    table([e.keypoints for e in entries], 3 * joints.num_joints, name, lambda row: f"[{row}].keypoints")
    fields = ["image_id", "category_id", "score", "keypoints"]
    if True in boxed:
        table([e.bbox or [] for e in entries], 4, name, lambda row: f"[{row}].bbox")
        fields.append("bbox")
    return [{field: getattr(entry, field) for field in fields} for entry in entries]


@cache
def _decoder(kind: type) -> msgspec.json.Decoder:
    return msgspec.json.Decoder(kind)


def _plain(value: object) -> object:
    """Returns NumPy's values as Python's and anything else as text, which the checks then refuse."""
    return value.tolist() if hasattr(value, "tolist") else str(value)


def parse(content: bytes, name: object) -> object:
    """Returns the value of a JSON file's content, in UTF-8 or UTF-16. Raises MdwError, with `name`, where it is not JSON."""
    try:
        return json.loads(content)
    except RecursionError:
        raise MdwError(f"{name} is nested too deeply; write it as a plain COCO file") from None
    except ValueError as error:  # no JSON, no UTF-8, a number of thousands of digits
        raise MdwError(f"{name} is not valid JSON ({error}); fetch or write it again") from None


_WORDS = {"Number out of range": "a finite number", "Integer value out of range": "a number of fewer digits"}
_WANTED = {"int": "a whole number", "float": "a number", "str": "text", "bool": "true or false", "array": "a list"}
_WANTED |= {"object": "an object with names"}


def _refusal(name: object, value: Any, problem: str, remedy: str) -> MdwError:
    """Returns the error for msgspec's problem ("Expected `int`, got `str` - at `$.images[0].id`"), with the value there."""
    message, _, path = problem.partition(" - at ")
    place = path.strip("`").removeprefix("$").removeprefix(".")
    for key, index in re.findall(r"(\w+)|\[(\d+)\]", place):
        try:
            value = value[key] if key else value[int(index)]
        except (KeyError, IndexError, TypeError):
            break
    if absent := re.search(r"missing required field `(\w+)`", message):
        subject = f"{place} of {name}" if place else str(name)
        return MdwError(f"{subject} has no field {absent[1]!r}; {remedy}")
    if not message.startswith("Expected") and message not in _WORDS:
        return MdwError(f"{name} cannot be read ({problem}); write it again")
    expected = message.removeprefix("Expected ").partition(", got")[0]
    kinds = lambda match: " or ".join(_WANTED.get(kind, kind) for kind in match[1].split(" | ") if kind != "null")  # noqa: E731
    expected = _WORDS.get(message) or re.sub(r"`([^`]*)`", kinds, expected)
    if not place:
        return MdwError(f"{name} holds {_short(value)}, it should hold {expected}; {remedy}")
    return refuse(name, place, value, expected)


def _short(value: object) -> str:
    """Returns the value as one short line."""
    try:
        return " ".join(_SHORT.repr(value).split())
    except ValueError:  # an integer of thousands of digits
        return "a number without end"


_SHORT = reprlib.Repr()
_SHORT.maxstring, _SHORT.maxother, _SHORT.maxlevel, _SHORT.maxdict = 60, 60, 2, 3
