"""The people in the bundled photos, what a network finds there, and how far off it is."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mdw.data.photos import photo_paths
from mdw.data.sample import read_image
from mdw.data.warp import crop, joints_to_crop, normalise
from mdw.pose import heatmap, metrics
from mdw.pose.boxes import box_to_center_scale
from mdw.pose.joints import COCO17, JointSet
from mdw.pose.oks import oks
from mdw.util.errors import MdwError
from mdw.util.files import read_json
from mdw.util.typed import check_fields

TALL = 400  # pixels of a person's image
GROUPS = ("best", "middle", "worst")
KINDS = ("right", "left and right exchanged", "another person's", "elsewhere")


@dataclass(frozen=True, eq=False)
class Person:
    """A person in a photo, in the annotated box, and what a network finds there; pixels are those of the photo.

    keypoints (J, 3): x, y, score; maps (J, h, w): the averaged heatmaps that were decoded; truth (J, 2) and labelled (J,): the
    annotation's joints under the network's names; oks: over the labelled ones; kinds (J,): one of `KINDS` for each that is
    labelled, None where it is not or the torso is not, without which there is no PCK@0.2.
    """

    photo: Path
    number: int  # in its photo, from 1
    box: tuple[float, float, float, float]
    center: np.ndarray
    scale: np.ndarray
    joints: JointSet
    keypoints: np.ndarray
    maps: np.ndarray
    truth: np.ndarray
    labelled: np.ndarray
    oks: float
    kinds: tuple[str | None, ...]

    @property
    def name(self) -> str:
        return f"{int(self.photo.stem)}, person {self.number}"

    @property
    def in_words(self) -> str:
        counted = [kind for kind in self.kinds if kind]
        pck = f"{counted.count('right')} of {len(counted)} joints within 0.2 of the torso" if counted else "no torso for PCK"
        return f"OKS {self.oks:.2f} over {self.labelled.sum()} labelled joints; {pck}"

    def pixels(self) -> np.ndarray:
        """The crop that the network sees, at `size`, RGB uint8."""
        return crop(read_image(self.photo), self.center, self.scale, 0.0, self.size)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of `pixels`."""
        return round(TALL * self.maps.shape[2] / self.maps.shape[1]), TALL

    def in_crop(self, xy: np.ndarray) -> np.ndarray:
        """Points (K, 2) of the photo as pixels of `pixels`."""
        return joints_to_crop(xy, np.ones(len(xy)), self.center, self.scale, 0.0, self.size)


def find(weights: Path | None, least: int = 10) -> list[Person]:
    """Everybody in the bundled photos with `least` labelled joints, by falling OKS; nobody without weights.

    Boxes are the annotated ones, decoding and flip test those of `mdw.predict`. Raises MdwError for a network that shares no
    joint with COCO's annotations.
    """
    if weights is None:
        return []
    from mdw.backends.choose import choose, for_use
    from mdw.inference.evaluate import heatmaps
    from mdw.models.weights import load_network

    model, joints, size = load_network(weights)
    shared = [name for name in joints.names if name in COCO17.names]
    if not shared:
        raise MdwError(f"the joints of {weights} ({', '.join(joints.names)}) are none of COCO's; nothing can be compared")
    model = for_use(model, choose("auto", "cpu"), size)
    known = np.isin(joints.names, shared)
    columns = [COCO17.index(name) if name in shared else 0 for name in joints.names]
    sigmas = np.array(COCO17.sigmas)[columns]
    people = []
    for photo, entries in _annotated():
        truths = [np.reshape(entry["keypoints"], (-1, 3))[columns].astype(float) for entry in entries]
        flags = [known & (truth[:, 2] > 0) for truth in truths]
        chosen = [i for i, entry in enumerate(entries) if entry["num_keypoints"] >= least and flags[i].any()]
        if not chosen:
            continue
        image = read_image(photo)
        places = [box_to_center_scale(entries[i]["bbox"], size) for i in chosen]
        crops = normalise(np.stack([crop(image, center, scale, 0.0, size) for center, scale in places]))
        maps = heatmaps(model, crops, joints.pairs, flip_test=True)
        centers, scales = map(np.stack, zip(*places, strict=True))
        xy, scores = heatmap.decode(maps, centers, scales)
        for k, i in enumerate(chosen):
            truth, flag, area = truths[i][:, :2], flags[i], entries[i]["area"]
            others = [(truths[o][:, :2], flags[o]) for o in range(len(entries)) if o != i]
            people.append(
                Person(
                    photo, i + 1, tuple(entries[i]["bbox"]), *places[k], joints,
                    np.concatenate([xy[k], scores[k][:, None]], 1), maps[k], truth, flag,
                    float(oks(xy[k][flag], truth[flag], area, area, sigmas[flag])), _kinds(xy[k], truth, flag, others, joints),
                )
            )  # fmt: skip
    return sorted(people, key=lambda person: -person.oks)


def _annotated() -> list[tuple[Path, list[dict]]]:
    """The photos with their annotated persons, crowds left out."""
    files = photo_paths()
    truth = check_fields("person_keypoints.json", read_json(files[0].parent / "person_keypoints.json"), {})
    images = {file.name: file for file in files}
    found: dict[int, list[dict]] = {image["id"]: [] for image in truth["images"]}
    for entry in truth["annotations"]:
        if not entry["iscrowd"]:
            found[entry["image_id"]].append(entry)
    return [(images[image["file_name"]], found[image["id"]]) for image in truth["images"]]


def _kinds(xy, truth, flag, others, joints: JointSet) -> tuple[str | None, ...]:
    """One of `KINDS` for each joint that counts."""
    right = _right(xy, truth, flag, joints)
    swapped = _right(xy[joints.swap], truth, flag, joints)
    if right is None or swapped is None:
        return (None,) * joints.num_joints
    exchanged = swapped[joints.swap]  # the joint lies where its partner should
    elsewhere = [found for theirs, known in others if (found := _right(xy, theirs, known, joints)) is not None]
    taken = np.any(elsewhere, axis=0) if elsewhere else np.zeros(joints.num_joints, bool)
    kinds = np.select([right, exchanged, taken], KINDS[:3], KINDS[3])
    return tuple(str(kind) if counts else None for kind, counts in zip(kinds, flag, strict=True))


def _right(xy: np.ndarray, truth: np.ndarray, flag: np.ndarray, joints: JointSet) -> np.ndarray | None:
    """Which joints (J,) are right by PCK@0.2; None for a person whose torso is not labelled."""
    try:
        rates = metrics.pck(xy[None], truth[None], flag[None], joints=joints)["per_joint"]
    except MdwError:  # nothing counts
        return None
    return np.array([rate is not None and rate > 50 for rate in rates])


def chosen(people: Sequence[Person], each: int = 3) -> dict[str, list[Person]]:
    """`each` of the best, of those around the median and of the worst; fewer people give fewer of each, nobody twice."""
    each = min(each, len(people) // len(GROUPS))
    start = (len(people) - each) // 2
    parts = people[:each], people[start : start + each], people[len(people) - each :]
    return dict(zip(GROUPS, map(list, parts), strict=True)) if each else ({"best": list(people)} if people else {})
