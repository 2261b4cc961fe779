"""The user's own joints: any keypoint file in COCO's format, and a small TOML file that describes its joints.

    name = "hand5"                                      # the joint set's name in weights and messages
    names = ["wrist", "thumb", "index", "ring", "little"]   # in the order of the annotations' keypoints
    sigmas = [0.05, 0.04, 0.04, 0.04, 0.04]             # one each: spread between careful annotators / the object's size
    pairs = [["index", "little"]]                       # what a mirrored image exchanges (left and right); optional
    limbs = [["wrist", "thumb"], ["wrist", "index"]]    # lines to draw; optional
    upper = ["thumb", "index"]                          # halves for the half-body augmentation; optional
    lower = ["ring", "little"]

OKS, and with it AP, of two points a distance d apart on an object of area A is exp(-d^2 / (2 (2 sigma)^2 A)): COCO's sigmas
go from 0.025 (eyes) to 0.107 (hips).
"""

import tomllib
from pathlib import Path

from mdw.data.coco import PERSON, person_samples
from mdw.data.sample import Dataset, check_images
from mdw.pose import coco_files
from mdw.pose.coco_files import Category, Labels
from mdw.pose.joints import JOINT_SETS, JointSet
from mdw.util.errors import MdwError
from mdw.util.files import read_bytes

FIELDS = ("name", "names", "sigmas", "pairs", "limbs", "upper", "lower")


def custom(
    root: str | Path,
    split: str,
    aspect: float = 0.75,
    joints: str | Path | dict | JointSet | None = None,
    annotations: str = "annotations/{split}.json",
    images: str = "images",
) -> Dataset:
    """Loads the annotated objects of root/`annotations` with images in root/`images`; "{split}" stands for the split's name.

    `joints`: a TOML file (see above), a joint set or its `to_dict`. Of several categories the one whose "keypoints" are these
    joints is used. The rules are those for COCO's persons, except: `iscrowd` and `num_keypoints` are optional; images are
    turned upright by their EXIF orientation, as viewers and labelling tools show them; ids that are text, below 1 or not unique
    are replaced by new numbers; `ground_truth` has that category alone, as category 1, without the persons that
    `person_samples` leaves out. `aspect`: input width / height. Raises MdwError, naming entry and file.
    """
    if joints is None:
        raise MdwError("the data set custom needs to know its joints; give --joints, a TOML file that names them")
    joints = read_joints(joints)
    file = Path(root) / annotations.replace("{split}", split)
    folder = Path(root) / images.replace("{split}", split)
    truth = coco_files.read(file, Labels)
    coco_files.check_image_ids(truth.images, file)
    chosen = _category(truth.categories, joints, file)
    coco_files.check_categories(truth.annotations, truth.categories, file)
    for entry in truth.annotations:
        entry.category_id = PERSON if entry.category_id == chosen else -1
    _renumber(truth, file)
    samples = person_samples(truth, folder, aspect, file, joints, upright=True)
    check_images((s.image for s in samples), file)
    return Dataset(f"custom-{split}", joints, samples, Path(root), _ground_truth(truth, {s.person_id for s in samples}, joints))


def read_joints(source: str | Path | dict | JointSet) -> JointSet:
    """Returns a checked joint set from a TOML file or from `JointSet.to_dict`. Raises MdwError, naming file and field."""
    if isinstance(source, JointSet):
        return source
    if isinstance(source, dict):
        try:
            return JointSet.from_dict(source)
        except TypeError as error:
            raise MdwError(f"joints is no joint set ({error}); give a TOML file or what JointSet.to_dict gave") from None
    file = Path(source)
    content = read_bytes(file)
    try:
        table = tomllib.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:  # no TOML, no UTF-8, too long a number, too deep a nesting
        raise MdwError(f"{file} is not valid TOML ({error}); correct it") from None
    for field in table:
        if field not in FIELDS:
            raise MdwError(f"{file} has an unknown field {field!r}; the fields are {', '.join(FIELDS)}")
    name, names = table.get("name"), _names(table, "names", file)
    if not isinstance(name, str) or not name or name in JOINT_SETS:
        raise MdwError(f"name in {file} is {name!r}; it should be a text other than {', '.join(JOINT_SETS)}")
    if not names or len(set(names)) != len(names):
        raise MdwError(f"names in {file} should be at least one joint, each once; correct them")
    index = {joint: k for k, joint in enumerate(names)}
    halves = [_indices(_names(table, field, file), index, field, file) for field in ("upper", "lower")]
    pairs, limbs = (_pairs(table, field, index, file) for field in ("pairs", "limbs"))
    paired = [joint for pair in pairs for joint in pair]
    if len(set(paired)) != len(paired):
        twice = next(names[joint] for joint in paired if paired.count(joint) > 1)
        raise MdwError(f"pairs in {file} name {twice!r} more than once; a joint has one mirror image")
    return JointSet(name, tuple(names), pairs, limbs, _sigmas(table, names, file), *halves)


def _names(table: dict, field: str, file: Path) -> list[str]:
    names = table.get(field, [])
    if not isinstance(names, list) or not all(isinstance(joint, str) and joint for joint in names):
        raise MdwError(f"{field} in {file} should be a list of joints' names; correct it")
    return names


def _indices(joints: list[str], index: dict[str, int], field: str, file: Path) -> tuple[int, ...]:
    for joint in joints:
        if joint not in index:
            raise MdwError(f"{field} in {file} names {joint!r}, which is not in names; correct it")
    return tuple(index[joint] for joint in joints)


def _pairs(table: dict, field: str, index: dict[str, int], file: Path) -> tuple[tuple[int, int], ...]:
    pairs = table.get(field, [])
    if not isinstance(pairs, list) or not all(
        isinstance(pair, list) and len(pair) == 2 and all(isinstance(joint, str) for joint in pair) for pair in pairs
    ):
        raise MdwError(f'{field} in {file} should be pairs of names, as in [["left_eye", "right_eye"]]; correct it')
    joint_pairs = tuple((a, b) for a, b in (_indices(pair, index, field, file) for pair in pairs))
    if any(a == b for a, b in joint_pairs):
        raise MdwError(f"{field} in {file} joins a joint with itself; correct it")
    return joint_pairs


def _sigmas(table: dict, names: list[str], file: Path) -> tuple[float, ...]:
    sigmas = table.get("sigmas", [])
    numbers = isinstance(sigmas, list) and all(type(s) in (int, float) and 0 < s < 1e6 for s in sigmas)
    if not numbers or len(sigmas) != len(names):
        raise MdwError(f"sigmas in {file} should be {len(names)} numbers above 0, one for each of names; correct them")
    return tuple(map(float, sigmas))


def _renumber(truth: Labels, file: Path) -> None:
    """Number images whose ids are text, and annotations whose ids are text, missing, below 1 or not unique, from 1 on."""
    if any(isinstance(image.id, str) for image in truth.images):
        numbers = {image.id: number for number, image in enumerate(truth.images, 1)}
        for index, entry in enumerate(truth.annotations):
            if entry.image_id not in numbers:
                place = f"annotations[{index}].image_id"
                raise coco_files.refuse(file, place, entry.image_id, "the id of an image that is listed")
            entry.image_id = numbers[entry.image_id]
        for image in truth.images:
            image.id = numbers[image.id]
    ids = [entry.id for entry in truth.annotations]
    if len(set(ids)) < len(ids) or not all(isinstance(id, int) and id >= 1 for id in ids):
        for number, entry in enumerate(truth.annotations, 1):
            entry.id = number


def _ground_truth(truth: Labels, sampled: set[int], joints: JointSet) -> dict:
    """Returns the ground truth for AP: the persons with a sample, and crowds, which do not count as missed."""
    fields = ("id", "image_id", "category_id", "bbox", "area", "keypoints")
    annotations = [
        {field: getattr(entry, field) for field in fields} | {"iscrowd": int(entry.iscrowd or 0)}
        for entry in truth.annotations
        if entry.category_id == PERSON and (entry.iscrowd or entry.id in sampled)
    ]
    category = {"id": PERSON, "name": joints.name, "keypoints": list(joints.names)}
    return {"images": [{"id": image.id} for image in truth.images], "annotations": annotations, "categories": [category]}


def _category(categories: list[Category], joints: JointSet, file: Path) -> int | str:
    same = [c.id for c in categories if c.keypoints == list(joints.names)]
    if len(same) == 1:
        return same[0]
    silent = [c.id for c in categories if not c.keypoints]
    if len(categories) == len(silent) == 1:  # it does not say what its keypoints are
        return silent[0]
    if same:
        raise MdwError(f"{file} has {len(same)} categories with the joints of {joints.name}; leave one")
    listed = "; ".join(f"{c.name}: {c.keypoints}" for c in categories) or "no category"
    keypoints = f"{joints.name}: {list(joints.names)}"
    raise MdwError(f"no category of {file} has the keypoints of {keypoints} (there is {listed}); correct one of the two")
