"""Leeds Sports Pose: the extended training set (LSPET) and the original 2,000 images (LSP). 14 joints, one person each.

Layout: root/images/im<number>.jpg, root/joints.mat and, for a user's own split, root/split.csv (columns image,split).
Column k of joints.mat belongs to image k + 1. The order of its axes tells which set it is, and so what the flag means:

    (14, 3, N)  LSPET (Johnson & Everingham, CVPR 2011): flag 1 = annotated; other coordinates are meaningless
    (3, 14, N)  LSP (Johnson & Everingham, BMVC 2010): flag 1 = occluded; every joint has a position, weight 1

There are no person boxes. Our choice, as the article has no LSP experiment: the tight box of the annotated joints,
enlarged to the input's aspect and padded by 1.25. Coordinates are used as they are (0-based as far as can be told).
"""

import csv
import os
import re
from pathlib import Path

import numpy as np

from mdw.data.matlab import read_mat
from mdw.data.sample import Dataset, Sample, image_shape
from mdw.pose.boxes import box_to_center_scale, joints_box
from mdw.pose.joints import LSP14
from mdw.util.errors import MdwError
from mdw.util.words import unknown

# LSPET has 8 annotated joints outside their image: seven by at most 1.7 px, which is annotation noise, and one
# by 146 px, a mistake. The limit is between them (our choice); joints farther outside count as not annotated.
OUTSIDE_PX = 5.0

# Every 17th image of the training split is held out (500 of LSPET's 8,500), so that learning rates can be chosen without the
# validation split. Near copies in the training split may fall into both parts.
HOLD_OUT = 17


def lspet(root: str | Path, split: str = "train", aspect: float = 0.75, split_file: str = "split.csv") -> Dataset:
    """Loads LSPET's persons of one split ("all": every image, otherwise a name used in root/`split_file`), in image order.

    "holdout" is every 17th image of the split "train" and "fit" the others, where the file does not define these splits.

    `aspect`: input width / height. Joints that are not annotated are (0, 0) with weight 0. Images with fewer than two
    annotated joints at different positions are left out. Raises MdwError, naming the file, where a file is missing,
    joints.mat has another form, images and labels do not match or the split does not exist.
    """
    return _load("lspet", Path(root), split, aspect, split_file)


def lsp(root: str | Path, split: str = "train", aspect: float = 0.75, split_file: str = "split.csv") -> Dataset:
    """Loads the original LSP as `lspet`; without a split file "train" is the first and "test" the last 1,000 images."""
    return _load("lsp", Path(root), split, aspect, split_file)


def mean_pose(dataset: Dataset) -> np.ndarray:
    """Returns the mean position of each joint in the persons' crops: (J, 2), from (0, 0) top left to (1, 1) bottom right.

    Only joints of weight > 0 count; a joint that is never annotated is at the crop's centre. With `predict_mean_pose` it is
    the baseline that a trained network has to beat.
    """
    xy, weight, center, size = _stack(dataset)
    unit = (xy - center[:, None]) / size[:, None] + 0.5
    total = weight.sum(axis=0)[:, None]
    return np.where(total > 0, (unit * weight[..., None]).sum(axis=0) / np.maximum(total, 1), 0.5)


def predict_mean_pose(dataset: Dataset, mean: np.ndarray) -> np.ndarray:
    """Returns the mean pose (J, 2) placed in every sample's crop: (N, J, 2) float64 image pixels."""
    _, _, center, size = _stack(dataset)
    return center[:, None] + (np.asarray(mean) - 0.5) * size[:, None]


def _stack(dataset: Dataset) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Returns joints (N, J, 2), weights (N, J), centres (N, 2) and crop sizes in pixels (N, 2), float64."""
    if not len(dataset):
        raise MdwError(f"the data set {dataset.name} is empty; choose another split")
    joints, visible, center, scale = zip(*((s.joints, s.visible, s.center, s.scale) for s in dataset.samples), strict=True)
    return (
        np.array(joints, np.float64),
        np.array(visible, np.float64),
        np.array(center, np.float64),
        200 * np.array(scale, np.float64),
    )


def _load(name: str, root: Path, split: str, aspect: float, split_file: str) -> Dataset:
    file = root / "joints.mat"
    xy, annotated, original = _read_joints(file)
    images = _image_files(root / "images", len(xy), file)
    samples = []
    for index in _members(name, root / split_file, split, images, original):
        weight = annotated[index] & ~_far_outside(xy[index], images[index])
        box = joints_box(xy[index], weight)
        if box is None or not box[2:].any():
            continue
        center, scale = box_to_center_scale(box, (aspect, 1.0))
        samples.append(Sample(images[index], index + 1, index + 1, center, scale, xy[index], weight, box_wh=box[2:]))
    if not samples:
        raise MdwError(f"no image of the split {split!r} has annotated joints in {file}; choose another split")
    return Dataset(f"{name}-{split}", LSP14, tuple(samples), root)


def _read_joints(file: Path) -> tuple[np.ndarray, np.ndarray, bool]:
    """Reads joints.mat: coordinates (N, 14, 2) float64, annotated (N, 14) bool, and whether it is the original LSP's."""
    values = read_mat(file, ["joints"])["joints"]
    if values.ndim == 2:  # MATLAB drops a last axis of length 1
        values = values[:, :, None]
    if values.shape[:2] not in ((14, 3), (3, 14)) or values.ndim != 3 or values.dtype.kind not in "fiu":
        raise MdwError(
            f"'joints' in {file} has the shape {values.shape}, not 14 x 3 x N (LSPET) or 3 x 14 x N (LSP); "
            "use the joints.mat of LSP or LSPET"
        )
    original = values.shape[0] == 3
    values = values.transpose(2, 1, 0) if original else values.transpose(2, 0, 1)
    xy, flag = values[..., :2].astype(np.float64), values[..., 2] > 0
    if original and not flag.all() and (xy[~flag].min(axis=-1) <= 0).all():
        original = False  # meaningless coordinates wherever the flag is 0: LSPET's labels with their axes swapped
    annotated = np.ones_like(flag) if original else flag
    if not np.isfinite(xy[annotated]).all():
        raise MdwError(f"'joints' in {file} has coordinates that are no numbers; fetch it again")
    return xy, annotated, original


def _image_files(folder: Path, count: int, labels: Path) -> list[Path]:
    """Returns the `count` image paths in the order of their numbers. Raises MdwError unless these are 1 to `count`."""
    if not folder.is_dir():
        raise MdwError(f"{folder} does not exist; check --root (it should hold joints.mat and images/)")
    names = sorted(os.listdir(folder))
    numbered = {int(m[1]): folder / name for name in names if (m := re.fullmatch(r"im(\d+)\.(png|jpg)", name))}
    if set(numbered) != set(range(1, count + 1)):
        wrong = min(set(numbered) ^ set(range(1, count + 1)))
        problem = "has no label" if wrong in numbered else "is missing"
        raise MdwError(
            f"{labels} labels {count} images but {folder} holds {len(numbered)}, and image {wrong} {problem}; "
            "use images and labels of the same release"
        )
    return [numbered[k] for k in range(1, count + 1)]


def _members(name: str, file: Path, split: str, images: list[Path], original: bool) -> list[int]:
    """Returns the indices of the images in `split`, ascending."""
    if split == "all":
        return list(range(len(images)))
    if file.is_file():
        chosen = _read_split(file, images)
    elif original and len(images) == 2000:  # the set's own convention
        chosen = {k: "train" if k < 1000 else "test" for k in range(2000)}
    else:
        raise MdwError(
            f"{file} does not exist, so {name} has no split {split!r}; write it with the columns image,split "
            "or use the split 'all'"
        )
    if split in ("fit", "holdout") and split not in chosen.values():
        train = [k for k in range(len(images)) if chosen.get(k) == "train"]
        return [k for position, k in enumerate(train, start=1) if (position % HOLD_OUT == 0) == (split == "holdout")]
    indices = [k for k in range(len(images)) if chosen.get(k) == split]
    if not indices:
        raise unknown(f"{name} has no split", split, [*sorted(set(chosen.values())), "all"], "there is")
    return indices


def _read_split(file: Path, images: list[Path]) -> dict[int, str]:
    index = {path.name: k for k, path in enumerate(images)}
    chosen: dict[int, str] = {}
    try:
        with open(file, newline="", encoding="utf-8-sig") as lines:
            rows = list(csv.DictReader(lines))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise MdwError(f"cannot read {file} ({error}); write it as CSV with the columns image,split") from None
    for line, row in enumerate(rows, start=2):
        image, split = row.get("image"), row.get("split")
        if not image or not split:
            raise MdwError(f"line {line} of {file} has no image or no split; write it with the columns image,split")
        if image not in index:
            raise MdwError(f"line {line} of {file} names {image}, which is not in {images[0].parent}; correct the name")
        if index[image] in chosen:
            raise MdwError(f"line {line} of {file} names {image} a second time; an image belongs to one split")
        chosen[index[image]] = split
    return chosen


def _far_outside(xy: np.ndarray, image: Path) -> np.ndarray:
    """Returns which joints (14,) are more than `OUTSIDE_PX` outside the image; reads the image's header only."""
    size = np.array(image_shape(image)[::-1])
    return np.any((xy < -OUTSIDE_PX) | (xy > size - 1 + OUTSIDE_PX), axis=-1)
