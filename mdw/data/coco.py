"""COCO person keypoints: annotated persons for training and tests with ground-truth boxes, detector boxes for reported scores.

Layout of a data set, COCO's own (Lin et al. 2014, https://cocodataset.org):

    root/annotations/person_keypoints_{split}2017.json     split: "train", "val", or the name of any such pair
    root/{split}2017/*.jpg
    root/annotations/image_info_test-dev2017.json          split "test-dev": no labels, images in root/test2017

The rules are those of HRNet's code (Sun et al., CVPR 2019, lib/dataset/coco.py). Images are read as they are stored: its
cv2.imread has IMREAD_IGNORE_ORIENTATION (lib/dataset/JointsDataset.py), because COCO's labels are in the stored pixels.
"""

import logging
from pathlib import Path

import numpy as np

from mdw.data.sample import Dataset, Sample, check_images
from mdw.pose import coco_files
from mdw.pose.boxes import box_to_center_scale, clip_boxes
from mdw.pose.coco_files import ImageList, Labels
from mdw.pose.joints import COCO17, JointSet
from mdw.util.errors import MdwError
from mdw.util.words import count

log = logging.getLogger("mdw")

PERSON = 1  # COCO's category id

# Counts of the public files by split: images, annotated persons with a sample, and person boxes of the detector
# files used by HRNet, Lite-HRNet and Dite-HRNet (from training logs and model cards of these projects).
PUBLIC_COUNTS: dict[str, dict[str, int]] = {
    "train": {"images": 118_287, "persons": 149_813},
    "val": {"images": 5_000, "persons": 6_352, "detections": 104_125},
}


def coco(root: str | Path, split: str, aspect: float = 0.75) -> Dataset:
    """Loads the annotated persons of a COCO folder, one sample each, in image order and then annotation order.

    `aspect`: input width / height. Crowds and persons without labelled joints are left out, and some others, see
    `person_samples`. Boxes are clipped as in HRNet's code (one pixel smaller than annotated). Labelled but hidden joints have
    weight 1. Raises MdwError, naming the file, where the folder, an image or a field is missing or the JSON is broken;
    `Sample.pixels` does so where an image does not have the annotated size.
    """
    root = Path(root)
    file = annotation_file(root, split)
    folder = _image_folder(root, split)
    samples = person_samples(read_annotations(file), folder, aspect, file)
    check_images((s.image for s in samples), file)
    return Dataset(f"coco-{split}", COCO17, samples, root, file)


def detections(root: str | Path, split: str, path: str | Path, aspect: float = 0.75, min_score: float = 0.0) -> Dataset:
    """Loads the person boxes of a detector file (COCO results format), one sample each, in file order.

    Every entry of category 1 with score >= `min_score` is used, without clipping or suppression. The samples have no joints
    (all weights 0); `box_score` is the detector's and `person_id` the entry's index in the file. Boxes in images that the split
    does not list are ignored, so that a part of COCO works with the full file. `ground_truth` is the split's annotation file,
    None for test-dev. Raises MdwError as `coco` does.
    """
    root, path = Path(root), Path(path)
    file, folder = annotation_file(root, split), _image_folder(root, split)
    listed = (read_image_list(file) if split == "test-dev" else read_annotations(file)).images
    images = {image.id: image for image in listed}
    entries = coco_files.read_detections(path)
    indices = [k for k, e in enumerate(entries) if e.category_id == PERSON and e.image_id in images and e.score >= min_score]
    boxes = np.array([entries[k].bbox for k in indices], np.float64).reshape(-1, 4)
    centers, scales = box_to_center_scale(boxes, (aspect, 1.0))
    joints, visible = np.zeros((COCO17.num_joints, 2), np.float32), np.zeros(COCO17.num_joints, np.float32)
    samples = []
    for row, index in enumerate(indices):
        image = images[entries[index].image_id]
        samples.append(
            Sample(
                folder / image.file_name, _whole(image.id), index, centers[row], scales[row], joints, visible,
                box_score=entries[index].score, box_wh=boxes[row, 2:], image_size=size_of(image),
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
    """Returns the numbers of persons (samples) and of images with a sample, and the split's public numbers (None: unknown).

    Where they differ, the data set is a part of COCO or was changed, and its scores do not compare with published ones.
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
    """Returns `counts` as one line, which also says where scores do not compare with published ones."""
    numbers = counts(dataset)
    noun = ("detected box", "detected boxes") if dataset.name.endswith("-detections") else ("annotated person",)
    line = f"{dataset.name}: {count(len(dataset), *noun)} in {count(numbers['images'] or 0, 'image')}"
    if numbers["public_persons"] is None:
        return f"{line}; no public count is known to compare with"
    if numbers["public_persons"] == numbers["persons"]:
        return f"{line}, as many as in the public set"
    return f"{line}; the public set has {numbers['public_persons']:,}, so scores do not compare with published ones"


def read_annotations(file: str | Path) -> Labels:
    """Reads a keypoint annotation file in COCO's format. Raises MdwError, naming file, entry and field."""
    truth = coco_files.read(file, Labels)
    coco_files.check_image_ids(truth.images, file)
    coco_files.check_annotation_ids(truth.annotations, file)
    check_whole_ids(truth.images, file)
    if truth.categories:
        coco_files.check_categories(truth.annotations, truth.categories, file)
    return truth


def read_image_list(file: str | Path) -> ImageList:
    """Reads an image list (image_info_*.json), which has no labels. Raises MdwError as `read_annotations`."""
    listed = coco_files.read(file, ImageList)
    coco_files.check_image_ids(listed.images, file)
    check_whole_ids(listed.images, file)
    return listed


def check_whole_ids(images: list[coco_files.Image], file: str | Path) -> None:
    """Raise MdwError for an image whose id is text: COCO's results and records need numbers."""
    for index, image in enumerate(images):
        if isinstance(image.id, str):
            raise coco_files.refuse(file, f"images[{index}].id", image.id, "a whole number")


def _whole(checked: int | str | None) -> int:
    assert isinstance(checked, int)
    return checked


def person_samples(
    truth: Labels,
    folder: Path,
    aspect: float,
    source: str | Path = "the annotations",
    joints: JointSet = COCO17,
    upright: bool = False,
) -> tuple[Sample, ...]:
    """Returns samples of the annotated persons (category 1) in `truth`, images in `folder`, in image order; rules as in `coco`.

    A joint with v > 0 is labelled and has weight 1. A labelled person whose area is not above 0, or whose box has no extent or
    lies outside its image, is left out; a warning says how many and why. `upright`: see `Sample`. Raises MdwError, naming entry
    and file, for a wrong field, and where no person remains.
    """
    images = {image.id: image for image in truth.images}
    chosen = [k for k, entry in enumerate(truth.annotations) if entry.category_id == PERSON]
    persons = coco_files.persons(truth.annotations, chosen, images, joints, source)
    of_image = [images[truth.annotations[k].image_id] for k in chosen]
    sizes = np.array([size_of(image) for image in of_image], np.float64).reshape(-1, 2)
    boxes = clip_boxes(persons.boxes, sizes)
    labelled = persons.keypoints[:, :, 2] > 0
    left_out = {  # reasons; the first that applies is reported
        "is a crowd": persons.crowd,
        "has no labelled joint": ~labelled.any(axis=1),
        "has an area that is not above 0": ~(persons.areas > 0),
        "has a box outside its image": np.any(boxes[:, 2:] < 0, axis=1),
        "has a box of a pixel or less": np.all(boxes[:, 2:] <= 0, axis=1),
    }
    is_sample = ~np.any(list(left_out.values()), axis=0) if chosen else np.zeros(0, bool)
    _report_left_out(left_out, is_sample, chosen, source, joints)
    order = {image.id: position for position, image in enumerate(truth.images)}
    rows = sorted(np.flatnonzero(is_sample).tolist(), key=lambda row: order[of_image[row].id])  # stable: then annotation order
    with_persons = {of_image[row].id for row in rows}
    files = {id: folder / images[id].file_name for id in with_persons}  # one path for each image: making paths is slow
    centers, scales = box_to_center_scale(boxes[rows].reshape(-1, 4), (aspect, 1.0))
    return tuple(
        Sample(
            files[of_image[row].id],
            _whole(of_image[row].id),
            _whole(truth.annotations[chosen[row]].id),
            center,
            scale,
            persons.keypoints[row, :, :2],
            labelled[row],
            float(persons.areas[row]),
            box_wh=boxes[row, 2:],
            image_size=size_of(of_image[row]),
            upright=upright,
        )
        for row, center, scale in zip(rows, centers, scales, strict=True)
    )


def _report_left_out(
    left_out: dict[str, np.ndarray], is_sample: np.ndarray, chosen: list[int], source: str | Path, joints: JointSet
) -> None:
    """Warn of labelled persons that are left out. Raises MdwError where no person remains."""
    counts, undecided = {}, np.ones(len(is_sample), bool)
    for reason, holds in left_out.items():
        if (affected := undecided & holds).any():
            counts[reason] = f"{affected.sum()} {reason} (the first is annotations[{chosen[int(np.argmax(affected))]}])"
        undecided &= ~holds
    if not is_sample.any():
        reasons = f": {', '.join(counts.values())}" if counts else ""
        raise MdwError(f"{source} has nobody with labelled joints of {joints.name}{reasons}; choose or correct the labels")
    if odd := [text for reason, text in counts.items() if reason not in list(left_out)[:2]]:
        log.warning("mdw: left out of %s: %s", source, ", ".join(odd))


def size_of(image: coco_files.Image) -> tuple[float, float]:
    """Returns the annotated width and height."""
    return image.width, image.height


def annotation_file(root: str | Path, split: str) -> Path:
    """Returns the path of a split's annotations, or of test-dev's image list. Raises MdwError where it is missing."""
    root = Path(root)
    file = (
        root / "annotations" / (f"image_info_{split}2017.json" if split == "test-dev" else f"person_keypoints_{split}2017.json")
    )
    if not file.is_file():
        names = sorted(p.name for p in file.parent.glob("*.json")) if file.parent.is_dir() else []
        listing = f"there is {', '.join(names)}" if names else "there are no annotation files"
        raise MdwError(f"{file} does not exist ({listing}); check --root and the split {split!r}")
    return file


def _image_folder(root: Path, split: str) -> Path:
    return root / ("test2017" if split == "test-dev" else f"{split}2017")
