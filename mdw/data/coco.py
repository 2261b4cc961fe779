"""COCO person key points: annotated persons for training and GT-box testing, detector boxes for reporting.

Layout of a data set, COCO's own (Lin et al. 2014, https://cocodataset.org):

    root/annotations/person_keypoints_{split}2017.json     split: "train", "val", or the name of any such pair
    root/{split}2017/*.jpg
    root/annotations/image_info_test-dev2017.json          split "test-dev": no labels, pictures in root/test2017

The rules are those of HRNet's code (Sun et al., CVPR 2019, lib/dataset/coco.py).
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from mdw.data.sample import Dataset, Sample, check_images
from mdw.pose.boxes import box_to_center_scale, clip_box
from mdw.pose.joints import COCO17, JointSet
from mdw.util.errors import MdwError
from mdw.util.files import read_json

PERSON = 1  # COCO's category id

# What the public files hold, by split: images, annotated persons that make a sample, and person boxes of the detector
# files that HRNet, Lite-HRNet and Dite-HRNet report with (training logs and model cards of these projects).
PUBLIC_COUNTS = {
    "train": {"images": 118_287, "persons": 149_813, "detections": None},
    "val": {"images": 5_000, "persons": 6_352, "detections": 104_125},
}


def coco(root: str | Path, split: str, aspect: float = 0.75) -> Dataset:
    """The annotated persons of a COCO folder, one sample each, in image order and then annotation order.

    `aspect` is input width / height. Crowds, persons without key points and boxes without extent are left out; the box
    is clipped as HRNet's code does (one pixel smaller than annotated). Labelled but hidden joints have weight 1.
    Raises MdwError, naming the file, where the folder, a picture or a field of the JSON is missing or the JSON broken;
    `Sample.pixels` does so where a picture has not the annotated size.
    """
    root = Path(root)
    file = annotation_file(root, split)
    folder = _image_folder(root, split)
    truth = read_annotations(file)
    samples = person_samples(truth, folder, aspect, file)
    if not samples:
        raise MdwError(f"{file} holds no person with key points; choose a split with labels")
    check_images((s.image for s in samples), file)
    return Dataset(f"coco-{split}", COCO17, samples, root, file)


def detections(root: str | Path, split: str, path: str | Path, aspect: float = 0.75, min_score: float = 0.0) -> Dataset:
    """The person boxes of a detector file (COCO results format), one sample each, in file order.

    Every entry of category 1 with score >= `min_score` is used as it is: neither clipped nor thinned out. The samples
    have no joints (all weights 0), `box_score` is the detector's and `person_id` the entry's index in the file.
    Boxes in images that the split does not list are passed over, so that a part of COCO works with the full file.
    `ground_truth` is the split's annotation file, None for test-dev. Raises MdwError as `coco` does.
    """
    root, path = Path(root), Path(path)
    file, folder = annotation_file(root, split), _image_folder(root, split)
    images = {e["id"]: e for e in read_annotations(file, labels=split != "test-dev")["images"]}
    entries = read_json(path)
    if not isinstance(entries, list):
        raise MdwError(f"{path} is not a list of detections; give a file in COCO's results format")
    places = []
    for index, entry in enumerate(entries):
        _require(entry, ("image_id", "category_id", "bbox", "score"), f"entry {index} of {path}")
        if entry["category_id"] == PERSON and entry["image_id"] in images:
            places.append(index)
    boxes = _rows([entries[i]["bbox"] for i in places], 4, lambda row: f"bbox of entry {places[row]} of {path}")
    scores = _rows([[entries[i]["score"]] for i in places], 1, lambda row: f"score of entry {places[row]} of {path}")[:, 0]
    kept = np.flatnonzero(scores >= min_score)
    centers, scales = box_to_center_scale(boxes, (aspect, 1.0))
    joints, visible = np.zeros((COCO17.num_joints, 2), np.float32), np.zeros(COCO17.num_joints, np.float32)
    samples = []
    for row in kept.tolist():
        image, score = images[entries[places[row]]["image_id"]], float(scores[row])
        samples.append(
            Sample(
                folder / image["file_name"], image["id"], places[row], centers[row], scales[row], joints, visible,
                box_score=score, box_wh=boxes[row, 2:], image_size=(image["width"], image["height"]),
            )
        )  # fmt: skip
    if not samples:
        raise MdwError(
            f"{path} holds no person box (category_id 1, score >= {min_score}) in an image of {file}; "
            "give the detector file of the same split"
        )
    check_images((s.image for s in samples), file)
    return Dataset(f"coco-{split}-detections", COCO17, tuple(samples), root, None if split == "test-dev" else file)


def counts(dataset: Dataset) -> dict[str, int | None]:
    """Persons (samples) and images with a sample, beside the public number of samples of that split (None: no such).

    A difference means that the data set is a part of COCO or was changed; published scores then do not compare.
    """
    split, boxes = dataset.name.removeprefix("coco-").removesuffix("-detections"), dataset.name.endswith("-detections")
    public = PUBLIC_COUNTS.get(split, {})
    return {
        "persons": len(dataset),
        "images": len({s.image_id for s in dataset.samples}),
        "public_persons": public.get("detections" if boxes else "persons"),
        "public_images": public.get("images"),
    }


def describe(dataset: Dataset) -> str:
    """`counts` as one line for the user, who is told where scores do not compare with published ones."""
    found = counts(dataset)
    what = "detected boxes" if dataset.name.endswith("-detections") else "annotated persons"
    line = f"{dataset.name}: {found['persons']:,} {what} in {found['images']:,} images"
    if found["public_persons"] is None:
        return f"{line}; no public count is known to compare with"
    if found["public_persons"] == found["persons"]:
        return f"{line}, as many as in the public set"
    return f"{line}; the public set has {found['public_persons']:,}, so scores do not compare with published ones"


def read_annotations(file: str | Path, labels: bool = True) -> dict:
    """Read a key-point annotation file in COCO's format and check the fields that are used later.

    `labels=False` reads an image list (image_info_*.json) that has no annotations. Raises MdwError, naming the file,
    the entry and the field.
    """
    return check_annotations(read_json(file), file, labels)


def check_annotations(truth: object, file: str | Path, labels: bool = True) -> dict:
    """`truth` as it was read from `file`, if it has the fields that are used later; as `read_annotations`."""
    for name in ("images", "annotations") if labels else ("images",):
        if not isinstance(truth, dict) or not isinstance(truth.get(name), list):
            raise MdwError(f"{file} has no list {name!r}; give a file in COCO's annotation format")
    for index, image in enumerate(truth["images"]):
        where = f"image {index} of {file}"
        _require(image, ("id", "file_name", "width", "height"), where)
        _numbers([image["width"], image["height"]], 2, f"width and height of {where}")
    known = {image["id"] for image in truth["images"]}
    for index, entry in enumerate(truth["annotations"] if labels else ()):
        where = f"annotation {index} of {file}"
        _require(entry, ("id", "image_id", "category_id"), where)
        if entry["category_id"] == PERSON:
            _require(entry, ("bbox", "area", "keypoints", "iscrowd"), where)
        if entry["image_id"] not in known:
            raise MdwError(f"{where} belongs to image {entry['image_id']}, which is not listed; add it to 'images'")
    return truth


def person_samples(
    truth: dict, folder: Path, aspect: float, source: str | Path = "the annotations", joints: JointSet = COCO17
) -> tuple[Sample, ...]:
    """Samples of the annotated persons in `truth` (COCO's format, checked), pictures in `folder`; rules as in `coco`."""
    by_image: dict[int, list[dict]] = {image["id"]: [] for image in truth["images"]}
    for entry in truth["annotations"]:
        if entry["category_id"] == PERSON and not entry["iscrowd"]:
            by_image[entry["image_id"]].append(entry)
    kept, boxes = [], []
    for image in truth["images"]:
        for entry in by_image[image["id"]]:
            where = f"of annotation {entry['id']} of {source}"
            keypoints = _numbers(entry["keypoints"], 3 * joints.num_joints, f"keypoints {where}")
            bbox, (area,) = _numbers(entry["bbox"], 4, f"bbox {where}"), _numbers([entry["area"]], 1, f"area {where}")
            box = clip_box(bbox, (image["width"], image["height"]), area)
            if box is not None and keypoints.max() > 0:
                kept.append((image, entry["id"], keypoints.reshape(-1, 3), area))
                boxes.append(box)
    centers, scales = box_to_center_scale(np.array(boxes).reshape(-1, 4), (aspect, 1.0))
    return tuple(
        Sample(
            folder / image["file_name"],
            image["id"],
            id,
            center,
            scale,
            keypoints[:, :2],
            np.minimum(keypoints[:, 2], 1),
            float(area),
            box_wh=box[2:],
            image_size=(image["width"], image["height"]),
        )
        for (image, id, keypoints, area), center, scale, box in zip(kept, centers, scales, boxes, strict=True)
    )


def annotation_file(root: str | Path, split: str) -> Path:
    """The annotations of a split, or the image list of test-dev. Raises MdwError, saying what is there, where it is missing."""
    root = Path(root)
    file = (
        root / "annotations" / (f"image_info_{split}2017.json" if split == "test-dev" else f"person_keypoints_{split}2017.json")
    )
    if not file.is_file():
        found = sorted(p.name for p in file.parent.glob("*.json")) if file.parent.is_dir() else []
        there = f"there is {', '.join(found)}" if found else "there are no annotation files"
        raise MdwError(f"{file} does not exist ({there}); check --root and the split {split!r}")
    return file


def _image_folder(root: Path, split: str) -> Path:
    return root / ("test2017" if split == "test-dev" else f"{split}2017")


def _require(entry: object, fields: tuple[str, ...], where: str) -> None:
    for name in fields:
        if not isinstance(entry, dict) or name not in entry:
            raise MdwError(f"{where} has no field {name!r}; write the file in COCO's format")


def _numbers(values: object, count: int, where: str) -> np.ndarray:
    """`values` as float64 (count,); MdwError where it is anything but `count` finite numbers."""
    try:
        array = np.asarray(values, np.float64)
    except (TypeError, ValueError):
        array = np.empty(0)
    if array.shape != (count,) or not np.isfinite(array).all():
        raise MdwError(f"the {where} should be {count} finite numbers; correct it")
    return array


def _rows(values: list, count: int, where: Callable[[int], str]) -> np.ndarray:
    """All `values` as float64 (n, count); MdwError, with `where` of its row, for the first that is not such numbers."""
    try:
        table = np.asarray(values, np.float64).reshape(len(values), -1)
    except (TypeError, ValueError):
        table = np.empty((0, 0))
    if table.shape == (len(values), count) and np.isfinite(table).all():
        return table
    return np.array([_numbers(value, count, where(row)) for row, value in enumerate(values)]).reshape(-1, count)
