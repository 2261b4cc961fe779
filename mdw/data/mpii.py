"""MPII Human Pose: one sample for each annotated person, and PCKh against the official labels. 16 joints.

Layout (Andriluka et al., CVPR 2014, with the split of Tompson et al., CVPR 2015, in the form of HRNet's code):

    root/annot/{train,valid,trainval,test}.json   persons: image, center, scale, joints, joints_vis; pixels count from 1
    root/annot/gt_valid.mat                       the same persons as valid.json, with head boxes, for PCKh
    root/images/*.jpg

`mdw data convert mpii` makes the JSON files from the official annotation file and adds "headbox" to each person, so that
PCKh can be computed without gt_valid.mat. There are no detections: MPII gives a rough position and size of each person.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from msgspec import Struct

from mdw.data.matlab import read_mat
from mdw.data.sample import Dataset, Sample, check_images
from mdw.pose import coco_files
from mdw.pose.boxes import mpii_center_scale
from mdw.pose.coco_files import Text
from mdw.pose.joints import MPII16
from mdw.pose.metrics import pckh, pckh_hits
from mdw.util.errors import MdwError
from mdw.util.files import read_bytes
from mdw.util.words import unknown

FILES = {"train": "train", "val": "valid", "valid": "valid", "trainval": "trainval", "test": "test"}

# Persons and images in the JSON files of HRNet's and pytorch-pose's tables. Other persons in an image with a validation person
# are in neither file; the sum of all annotated training persons is the number of Convolutional Pose Machines.
PUBLIC_COUNTS = {"train": (22_246, 14_679), "valid": (2_958, 2_729), "trainval": (28_883, None), "test": (7_247, None)}

# Joint positions of gt_valid.mat and valid.json agree except for 13 of 44,240 joints, which are wrong in the former
SAME_PX, SAME_FRACTION = 0.5, 0.99
REMEDY = "use HRNet's JSON or make it with `mdw data convert mpii`"


class Person(Struct, gc=False):
    """A person in the JSON files' form. Labels are missing in test.json, head boxes in HRNet's files."""

    image: Text
    center: list[float]
    scale: float
    joints: list[list[float]] | None = None
    joints_vis: list[float] | None = None
    headbox: list[list[float]] | None = None


@dataclass(frozen=True, eq=False)
class Entry:
    """A `Person`, checked; arrays are float64: center (2,), scale (), joints (16, 2), joints_vis (16,), headbox (2, 2)."""

    image: str
    center: np.ndarray
    scale: np.ndarray
    joints: np.ndarray
    joints_vis: np.ndarray
    headbox: np.ndarray | None = None


def mpii(root: str | Path, split: str = "train", aspect: float = 1.0) -> Dataset:
    """Loads the persons of root/annot/{train,valid,trainval,test}.json in file order ("val" and "valid" are the same).

    Centre and scale as in HRNet's code: 15 px per unit of scale down, padded by 1.25, and counting from 0; joints count from
    0, too, and those with joints_vis 0 have weight 0. The crop is the square of MPII's scale, enlarged where `aspect` (input
    width / height) is not 1. `person_id` is the person's number in the file, from 1; `ground_truth` is the file that
    `score_mpii` reads: gt_valid.mat or a file with head boxes. Test persons have no joints.
    Raises MdwError, naming file and person, where a field is missing, is not a number, or evidently counts from 0.
    """
    root = Path(root)
    file = _annotation_file(root, split)
    entries = read_persons(file, labels=split != "test")
    joints, visible = np.stack([e.joints for e in entries]), np.stack([e.joints_vis for e in entries])
    truth = _ground_truth(file, entries, joints, visible)
    centers, scales = mpii_center_scale([e.center for e in entries], [e.scale for e in entries])
    scales = scales * np.maximum(1.0, (aspect, 1 / aspect))
    images = [root / "images" / e.image for e in entries]
    check_images(images, file)
    samples = tuple(
        Sample(image, int(image.stem) if image.stem.isdecimal() else index, index, *person)
        for index, (image, *person) in enumerate(zip(images, centers, scales, joints - 1, visible, strict=True), 1)
    )
    return Dataset(f"mpii-{FILES[split]}", MPII16, samples, root, truth)


def truth_file(root: str | Path, split: str = "val") -> Path:
    """Returns the file of a split's labels for `score_mpii`: gt_valid.mat where it exists, else the JSON file."""
    file = _annotation_file(Path(root), split)
    mat = file.with_name("gt_valid.mat")
    return mat if file.stem == "valid" and mat.is_file() else file


def score_mpii(truth: Dataset | str | Path, xy: np.ndarray) -> dict:
    """Returns PCKh in percent of predictions xy (N, 16, 2), image pixels counting from 0, for the persons of `truth` in order.

    `truth`: a data set of `mpii` (also a selection of one), a gt_valid.mat or a JSON file with head boxes. The result has
    "pckh" (at 0.5), "pckh@0.1", "pckh@0.11" (called 0.1 in the tables of HRNet's family), "groups" (at 0.5: Head, Shoulder,
    Elbow, Wrist, Hip, Knee, Ankle), "per_joint", "joint_counts" and "persons_scored". Means are over all annotated joints
    except pelvis and thorax. Raises MdwError where there are no labels or `xy` does not fit them.
    """
    joints, missing, heads = _truth_for(truth, xy)
    xy = np.asarray(xy, np.float64)
    exact = pckh(xy + 1, joints, heads, missing)
    compat = pckh(xy + 1, joints, heads, missing, compat_0p11=True)
    return {
        "pckh": exact["mean"],
        "pckh@0.1": exact["mean@0.1"],
        "pckh@0.11": compat["mean@0.1"],
        "groups": exact["groups"],
        "per_joint": exact["per_joint"],
        "joint_counts": exact["joint_counts"],
        "persons_scored": len(xy),
    }


def hits(truth: Dataset, xy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the joints behind `score_mpii`'s "pckh": right and counted, (N, 16) bool each. Arguments and errors as there."""
    joints, missing, heads = _truth_for(truth, xy)
    return pckh_hits(np.asarray(xy, np.float64) + 1, joints, heads, missing)


def _truth_for(truth: Dataset | str | Path, xy: np.ndarray) -> list[np.ndarray]:
    """Returns joints, missing flags and head boxes, as in `read_truth`, of the persons of `xy`."""
    chosen: slice | list[int] = slice(None)
    if not isinstance(truth, Dataset):
        file = Path(truth)
    elif isinstance(truth.ground_truth, Path):
        file, chosen = truth.ground_truth, [s.person_id - 1 for s in truth.samples]
    else:
        raise MdwError(
            f"{truth.name} has no head boxes to measure PCKh with; put gt_valid.mat into {truth.root}/annot, or make the JSON "
            "files with `mdw data convert mpii`"
        )
    arrays = [array[chosen] for array in read_truth(file)]
    labelled, predicted = arrays[0].shape, np.shape(xy)
    if predicted != labelled:
        raise MdwError(f"{file} has labels {labelled} for the predictions {predicted}; predict the persons of that file")
    return arrays


def read_truth(file: str | Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Reads joints (N, 16, 2) counting from 1, missing (N, 16) and head boxes (N, 2, 2) from a gt_valid.mat or a JSON file."""
    file = Path(file)
    if file.suffix == ".json":
        entries = read_persons(file)
        for index, entry in enumerate(entries):
            if entry.headbox is None:
                raise MdwError(f"[{index}] of {file} has no field 'headbox'; make the file with `mdw data convert mpii`")
        joints, visible, heads = (np.stack([getattr(e, name) for e in entries]) for name in ("joints", "joints_vis", "headbox"))
        return joints, 1 - visible, _checked(heads, file)
    variables = read_mat(file, ("pos_gt_src", "jnt_missing", "headboxes_src"))
    joints, missing, heads = (np.moveaxis(np.asarray(a), -1, 0) for a in variables.values())
    count = len(joints)
    if not (joints.shape == (count, 16, 2) and missing.shape == (count, 16) and heads.shape == (count, 2, 2)):
        raise MdwError(f"{file} has arrays of other shapes than MPII's 16 joints ask for; fetch gt_valid.mat again")
    return joints.astype(np.float64), missing.astype(np.float64), _checked(heads.astype(np.float64), file)


def _checked(heads: np.ndarray, file: Path) -> np.ndarray:
    sizes = np.linalg.norm(heads[:, 1] - heads[:, 0], axis=-1)
    flat = np.flatnonzero(~(np.isfinite(sizes) & (sizes > 0)))
    if len(flat):
        raise MdwError(f"the head box of person {flat[0]} of {file} has no size, and PCKh is measured by it; correct it")
    return heads


def read_predictions(file: str | Path) -> np.ndarray:
    """Reads predicted joints (N, 16, 2), image pixels counting from 0, from a file in the order of the labels.

    A .mat file counts from 1: `preds` (N, 16, 2 or more) by HRNet's and pytorch-pose's code, or `pos_pred_src` (16, 2, N) by
    Tompson's. A .json file of `mdw train` has "xy" and counts from 0.
    """
    file = Path(file)
    if file.suffix == ".json":
        value = coco_files.parse(read_bytes(file), file)
        values = value.get("xy") if isinstance(value, dict) else None
        origin = 0
    else:
        variables, origin = read_mat(file), 1
        values = np.moveaxis(variables["pos_pred_src"], -1, 0) if "pos_pred_src" in variables else variables.get("preds")
    try:
        xy = np.asarray(values, np.float64)
    except (TypeError, ValueError, OverflowError):
        xy = np.empty(0)
    if xy.ndim != 3 or xy.shape[1] != 16 or xy.shape[2] < 2:
        raise MdwError(f"{file} holds no predictions (N, 16, 2) as 'preds', 'pos_pred_src' or 'xy'; write it as one of these")
    return xy[..., :2] - origin


def read_persons(file: str | Path, labels: bool = True) -> list[Entry]:
    """Reads and checks the persons of an annotation file.

    Pixels count from 1 as in the file. `labels=False` is for test.json: joints are then 0 with joints_vis 0.
    """
    file = Path(file)
    entries = coco_files.read(file, list[Person], remedy=REMEDY)
    if not entries:
        raise MdwError(f"{file} has no person; {REMEDY}")
    return [_person(entry, index, file, labels) for index, entry in enumerate(entries)]


def _annotation_file(root: Path, split: str) -> Path:
    if split not in FILES:
        raise unknown("mpii has no split", split, FILES, "there is")
    return root / "annot" / f"{FILES[split]}.json"


def _person(entry: Person, index: int, file: Path, labels: bool) -> Entry:
    person = {"joints": np.zeros((16, 2)), "joints_vis": np.zeros(16)}
    shapes = {"center": (2,), "scale": ()} | ({"joints": (16, 2), "joints_vis": (16,)} if labels else {})
    where = f"[{index}] of {file}"
    for name, shape in (shapes | ({"headbox": (2, 2)} if entry.headbox else {})).items():
        if getattr(entry, name) is None:
            raise MdwError(f"{where} has no field {name!r}; {REMEDY}")
        try:
            person[name] = np.asarray(getattr(entry, name), np.float64)
        except ValueError:  # lists of different lengths
            person[name] = np.empty(0)
        if person[name].shape != shape:
            raise MdwError(f"[{index}].{name} of {file} should be numbers of the shape {shape}; correct it")
    visible = person["joints_vis"]
    if not np.isin(visible, (0, 1)).all():
        raise MdwError(f"[{index}].joints_vis of {file} should be 0 or 1; correct it")
    if not np.isfinite(person["joints"][visible > 0]).all() or not np.isfinite(person["center"]).all():
        raise MdwError(f"{where} has an annotated joint or a centre that is not finite; set its joints_vis to 0 or correct it")
    if not (np.isfinite(person["scale"]) and person["scale"] > 0):
        raise coco_files.refuse(file, f"[{index}].scale", entry.scale, "the person's height / 200, more than 0")
    if (person["joints"][visible == 0] == -2).all(axis=-1).any():
        raise MdwError(f"{where} marks missing joints by -2, so its pixels count from 0; MPII counts from 1, add 1 to all")
    return Entry(entry.image, **person)


def _ground_truth(file: Path, entries: list[Entry], joints: np.ndarray, visible: np.ndarray) -> Path | None:
    """Returns the file for PCKh: gt_valid.mat where it exists (it must fit `file`), else `file` if it has head boxes."""
    mat = truth_file(file.parents[1], file.stem)
    if mat == file:
        return file if all(e.headbox is not None for e in entries) else None
    true, missing, _ = read_truth(mat)
    if not np.array_equal(missing == 0, visible > 0):
        raise MdwError(f"{mat} and {file} do not hold the same persons in the same order; use the two files of one release")
    offset = (true - joints)[visible > 0]
    if (abs(offset).max(axis=-1) <= SAME_PX).mean() < SAME_FRACTION:
        counts = "; one of them counts pixels from 0, and both have to count from 1" if _is_one_off(offset) else ""
        raise MdwError(f"{mat} and {file} disagree about the joints{counts}; use the two files of one release")
    return mat


def _is_one_off(offset: np.ndarray) -> bool:
    middle = np.median(offset, axis=0)
    return bool(abs(abs(middle) - 1).max() < SAME_PX and middle[0] * middle[1] > 0)
