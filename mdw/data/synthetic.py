"""Synthetic people: data without a download. Figures made of capsules, on a varied background.

`draw` makes one image with annotations in COCO's form, `people` a lazy data set of them. An image depends on (seed, index,
size, crowd) alone and is the same in every process and order.

A person's annotation is COCO's: `keypoints` 17 x (x, y, v), `bbox` and `area` of the pixels that show the person.
v = 2: visible. v = 1: inside the image, hidden by the person's own body, another person or an object. v = 0, x = y = 0:
outside the image, or a nose, eye or ear that is turned away from the camera by more than 101 degrees, as annotators do it.
Face, light chest and toes show the front of the figure and so left and right; therefore a mirrored image is correct, too.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from itertools import count as counting
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
from annotated_types import Interval

from mdw.data.sample import Dataset, Sample
from mdw.pose.boxes import box_to_center_scale, clip_boxes
from mdw.pose.joints import COCO17
from mdw.util.typed import Count, Fraction, Seed, typed

Pixels = Annotated[int, Interval(ge=32, le=4096)]
Aspect = Annotated[float, Interval(ge=0.1, le=10)]

SKIN, HAIR, EYE, SHIRT, CHEST, TROUSERS, SHOE = range(7)
PARTS = 32  # labels of person k: 1 + PARTS * k + the part's index in the figure's list
THING = 255
_CIRCLE = np.stack([np.cos(angles := np.linspace(0, 2 * np.pi, 16, endpoint=False)), np.sin(angles)], axis=1)
_PATCH = np.array([(x, y) for y in (-1, 0, 1) for x in (-1, 0, 1)])
_FACE_NORMALS = np.array([(0, 0, 1), (0.25, 0, 0.97), (-0.25, 0, 0.97), (1, 0, 0), (-1, 0, 0)])
_TURNED_AWAY = -0.2  # cosine
_ACROSS, _DOWN, _FORWARD = np.eye(3)


@dataclass(frozen=True)
class Part:
    """The hull of some balls: (n, 4) x, y, depth towards the viewer and radius. `joints`: those that are visible on it."""

    balls: np.ndarray
    material: int
    joints: tuple[int, ...] = ()


@dataclass(frozen=True)
class Figure:
    """A person in units of its height, pelvis at the origin: x to the right, y down, depth towards the viewer."""

    joints: np.ndarray  # (17, 3)
    parts: tuple[Part, ...]
    turned_away: np.ndarray  # (5,) bool: nose, eyes, ears
    colours: np.ndarray  # (parts, 3) uint8

    def placed(self, scale: float, shift: np.ndarray) -> "Figure":
        """Returns the person with a height of `scale` pixels, the pelvis at `shift` (x, y)."""
        move = np.array([*shift, 0.0])
        parts = (replace(p, balls=p.balls * scale + np.append(move, 0.0)) for p in self.parts)
        return replace(self, joints=self.joints * scale + move, parts=tuple(parts))

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns two corners (x, y) of the box around all parts."""
        balls = np.concatenate([part.balls for part in self.parts])
        return (balls[:, :2] - balls[:, 3:]).min(0), (balls[:, :2] + balls[:, 3:]).max(0)


@typed
def draw(
    seed: Seed, index: Seed, size: tuple[Pixels, Pixels] = (192, 256), crowd: Fraction = 0.3
) -> tuple[np.ndarray, list[dict]]:
    """Draw image `index` of the stream `seed`: RGB uint8 (h, w, 3) and annotations of all visible people.

    `size`: (width, height) in pixels; `crowd`: fraction of images with more than one person. The first annotation is the main
    person, who fills 50 to 95 % of the longer side where the other side allows it; in one image of seven the image border cuts
    the person. Each is a dict with COCO's keys id, image_id (index + 1), category_id, bbox [x, y, w, h], area, keypoints (51
    numbers, v as in the module), num_keypoints and iscrowd (0). Raises MdwError for a value outside its range.
    """
    image, annotations = _image(seed, index, size, crowd)
    return image.copy(), [{**a, "bbox": list(a["bbox"]), "keypoints": list(a["keypoints"])} for a in annotations]


@typed
def people(
    count: Count, seed: Seed = 0, size: tuple[Pixels, Pixels] = (192, 256), aspect: Aspect = 0.75, crowd: Fraction = 0.3
) -> Dataset:
    """Returns a data set of the main persons of `count` images of the stream `seed`, drawn on access.

    `aspect` (width / height of the network's input) shapes the samples' boxes; the other arguments are those of `draw`. The
    weight of a joint is 1 where v > 0, as for COCO. Different seeds give independent streams: one for training, one to
    validate.
    """
    return SyntheticPeople("people", COCO17, MainPersons(range(count), seed, size, crowd, aspect))


def _pixels(*image) -> np.ndarray:
    return _image(*image)[0].copy()


@dataclass(frozen=True)
class MainPersons(Sequence):
    """The main persons of some images of one stream; an item is drawn on access."""

    indices: Sequence[int]
    seed: int
    size: tuple[int, int]
    crowd: float
    aspect: float

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, i):
        if isinstance(i, slice):
            return replace(self, indices=self.indices[i])
        image = self.seed, self.indices[i], self.size, self.crowd
        main = _image(*image)[1][0]
        keypoints = np.array(main["keypoints"], np.float32).reshape(17, 3)
        (box,) = clip_boxes(np.array([main["bbox"]], np.float64), np.array([self.size]))  # as for COCO
        center, scale = box_to_center_scale(box, (self.aspect, 1.0))
        visible = (keypoints[:, 2] > 0).astype(np.float32)
        pixels, ids = partial(_pixels, *image), (main["image_id"], main["id"])
        return Sample(pixels, *ids, center, scale, keypoints[:, :2], visible, main["area"], box_wh=box[2:])

    def truth(self) -> dict:
        """Returns COCO ground truth of these images; all but main persons are `iscrowd` 1, which COCO's evaluation ignores."""
        width, height = self.size
        images, annotations = [], []
        for index in self.indices:
            name = f"people-{self.seed}-{index:06d}"
            images.append({"id": index + 1, "width": width, "height": height, "file_name": name})
            persons = draw(self.seed, index, self.size, self.crowd)[1]
            annotations += [{**a, "iscrowd": int(k > 0)} for k, a in enumerate(persons)]
        limbs = [[a + 1, b + 1] for a, b in COCO17.limbs]
        category = {"id": 1, "name": "person", "keypoints": list(COCO17.names), "skeleton": limbs}
        return {"images": images, "annotations": annotations, "categories": [category]}


class SyntheticPeople(Dataset):
    """A `Dataset` whose COCO ground truth is drawn on first access."""

    samples: MainPersons

    @property
    def ground_truth(self) -> dict:
        if self.__dict__.get("_truth") is None:
            self.__dict__["_truth"] = self.samples.truth()
        return self.__dict__["_truth"]

    @ground_truth.setter
    def ground_truth(self, value: dict | Path | None) -> None:
        self.__dict__["_truth"] = value

    def select(self, indices: Iterable[int]) -> "SyntheticPeople":
        """Returns the data set of these samples only, in this order, and their ground truth; nothing is drawn yet."""
        chosen = tuple(self.samples.indices[i] for i in indices)
        return SyntheticPeople(self.name, self.joints, replace(self.samples, indices=chosen), self.root)


@lru_cache(maxsize=16)  # a sample's annotation and pixels are usually read one after the other
def _image(seed: int, index: int, size: tuple[int, int], crowd: float) -> tuple[np.ndarray, tuple[dict, ...]]:
    attempts = counting()
    while True:  # nearly always once: the main person must not be mostly hidden
        rng = np.random.default_rng([seed, index, next(attempts)])
        persons = _persons(rng, size, crowd)
        label, unoccluded = _painted(rng, persons, size)
        annotations = _truth(label, persons, index)
        main = annotations[0] if annotations else {"id": -1}
        if main["id"] % 16 == 0 and main["num_keypoints"] >= 6 and 3 * main["area"] >= unoccluded:
            return _coloured(rng, label, persons), tuple(annotations)


def _turned(axis: np.ndarray, degrees: float) -> np.ndarray:
    return cv2.Rodrigues(np.radians(degrees) * axis)[0]


def _bent(along: np.ndarray, toward: np.ndarray, degrees: float) -> np.ndarray:
    """Returns the unit vector `along` rotated towards `toward`."""
    across = toward - (toward @ along) * along
    angle = np.radians(degrees)
    return np.cos(angle) * along + np.sin(angle) * across / np.linalg.norm(across)


def figure(rng: np.random.Generator) -> Figure:
    """Returns a person in a random pose and view. Lengths are near the usual fractions of height (Drillis and Contini 1966)."""
    lively, girth = (1.0 if rng.random() < 0.6 else 0.3), rng.uniform(0.85, 1.25)
    joints = np.zeros((17, 3))  # in the person's own frame first: to the left, down, forward
    joints[:5] = (0, -0.395, 0.078), (0.024, -0.415, 0.066), (-0.024, -0.415, 0.066), (0.06, -0.4, 0), (-0.06, -0.4, 0)
    fixed = (  # balls of the rigid parts: skull, face, neck, chest
        ((0, -0.42, -0.01, 0.06), (0, -0.385, 0, 0.055)),
        ((0, -0.405, 0.035, 0.043), (0, -0.365, 0.035, 0.034)),
        ((0, -0.3, 0, 0.032), (0, -0.36, 0, 0.032)),
        ((0.055, -0.26, 0.06, 0.02), (-0.055, -0.26, 0.06, 0.02), (0, -0.1, 0.06, 0.02)),
    )
    spine = _turned(_ACROSS, -rng.uniform(-10, 65) * lively) @ _turned(_DOWN, 15 * rng.normal())
    joints[:5] = joints[:5] @ spine.T
    toes = []
    for off, side in ((0, 1), (1, -1)):
        shoulder, hip = np.array([0.105 * side, -0.285, 0]), np.array([0.055 * side, 0.0, 0.0])
        raised, plane = abs(rng.normal(0, 75)) * lively % 170 + 6, np.radians(rng.uniform(-40, 120))
        out, fore = np.sin(np.radians(raised)) * np.array([np.cos(plane), np.sin(plane)])
        upper = np.array([side * out, np.cos(np.radians(raised)), fore])
        lower = _bent(upper, np.array([-0.3 * side, -0.6, 0.75]), rng.uniform(5, 140) * lively)
        joints[[5 + off, 7 + off, 9 + off]] = (
            np.cumsum([shoulder, 0.18 * upper * rng.normal(1, 0.03), 0.15 * lower], axis=0) @ spine.T
        )
        flex = rng.uniform(-20, 110) * lively
        thigh = _turned(_FORWARD, -side * (4 + abs(15 * rng.normal()) * lively)) @ _bent(_DOWN, _FORWARD, flex)
        shank = _bent(thigh, -_FORWARD, rng.uniform(0, 120) * lively)
        joints[[11 + off, 13 + off, 15 + off]] = np.cumsum([hip, 0.245 * thigh, 0.235 * shank], axis=0)
        toes.append(joints[15 + off] + 0.11 * _bent(shank, _FORWARD, 80))
    roll = rng.uniform(-180, 180) if rng.random() < 0.15 else 12 * rng.normal()
    world = _turned(_FORWARD, roll) @ _turned(_ACROSS, 12 * rng.normal()) @ _turned(_DOWN, rng.uniform(-180, 180))
    balls = [np.array(rows, float) for rows in fixed]
    for rows in balls:
        rows[:, :3] = rows[:, :3] @ (world @ spine).T
    facing = (world @ spine)[2] @ _FACE_NORMALS.T
    joints, toes = joints @ world.T, np.array(toes) @ world.T

    def capsule(radii: Sequence[float], material: int, *points: np.ndarray, shows: tuple[int, ...] = ()) -> Part:
        return Part(np.column_stack([points, np.array(radii) * girth]), material, shows)

    parts = [
        *map(Part, balls, (HAIR, SKIN, SKIN, CHEST), ((), (0, 1, 2), (), (5, 6))),
        capsule((0.04, 0.04, 0.055, 0.055), SHIRT, *joints[[5, 6, 11, 12]], shows=(5, 6, 11, 12)),
        *(capsule((r,), m, joints[j], shows=(j,)) for j, r, m in ((0, 0.013, SKIN), (1, 0.012, EYE), (2, 0.012, EYE))),
        *(capsule((0.018,), SKIN, joints[j], shows=(j,)) for j in (3, 4)),
    ]
    for off in (0, 1):  # left and right
        for a, radii, material in ((5, (0.036, 0.028), SHIRT), (7, (0.027, 0.02), SKIN)):
            parts.append(capsule(radii, material, *joints[[a + off, a + 2 + off]], shows=(a + off, a + 2 + off)))
        for a, radii in ((11, (0.055, 0.038)), (13, (0.038, 0.026))):
            parts.append(capsule(radii, TROUSERS, *joints[[a + off, a + 2 + off]], shows=(a + off, a + 2 + off)))
        parts.append(capsule((0.024, 0.02), SHOE, joints[15 + off], toes[off], shows=(15 + off,)))
    skin = np.array((70, 45, 35)) + rng.random() * np.array((155, 135, 115))
    shirt, trousers, shoe = (rng.uniform(15, high, 3) for high in (200, 170, 90))
    cloth = np.array([skin, rng.uniform(0.1, 0.4) * skin, (20, 20, 25), shirt, 0.3 * shirt + 170, trousers, shoe])
    colours = cloth[[p.material for p in parts]] * rng.uniform(0.85, 1.1, (len(parts), 1))  # limbs of one cloth differ
    return Figure(joints, tuple(parts), facing < _TURNED_AWAY, colours.clip(0, 255).astype(np.uint8))


def _persons(rng: np.random.Generator, size: tuple[int, int], crowd: float) -> list[Figure]:
    """Returns the main person, placed in the image, and in a part of the images other people on the same ground."""
    main = figure(rng)
    low, high = main.bounds()
    extent, room = high - low, np.array(size, float)
    cut = rng.random() < 0.15
    scale = (rng.uniform(0.8, 1.3) if cut else rng.uniform(0.5, 0.95)) * max(size) / extent.max()
    if not cut:
        scale = min(scale, *(0.97 * room / extent))
    corner = (room - scale * extent) * rng.uniform(0.02, 0.98, 2)
    if cut:  # push the person over one border
        axis = rng.integers(2)
        over = rng.uniform(0.08, 0.35) * scale * extent[axis]
        corner[axis] = rng.choice((-over, room[axis] - scale * extent[axis] + over))
    pelvis = corner - scale * low
    persons = [main.placed(scale, pelvis)]
    if rng.random() < crowd:
        for _ in range(1 + int(np.searchsorted((0.65, 0.9), rng.random()))):
            aside = np.array([rng.choice((-1, 1)) * rng.uniform(0.25, 0.9), rng.uniform(-0.15, 0.05)])
            persons.append(figure(rng).placed(scale * rng.uniform(0.6, 1.1), pelvis + scale * aside))
    return persons


def _hull(canvas: np.ndarray, balls: np.ndarray, value) -> None:
    points = (balls[:, None, :2] + balls[:, None, 3:] * _CIRCLE).reshape(-1, 2)
    hull = cv2.convexHull(points.clip(-9000, 9000).astype(np.float32))
    cv2.fillConvexPoly(canvas, np.round(16 * hull).astype(np.int32), value, shift=4)


def _painted(rng: np.random.Generator, persons: list[Figure], size: tuple[int, int]) -> tuple[np.ndarray, int]:
    """Returns labels (h, w) uint8 of the part at each pixel, and the main person's number of pixels without occlusion."""
    label = np.zeros(size[::-1], np.uint8)
    near = [0, *rng.uniform(-3, 1, len(persons) - 1)]  # three of four other people stand behind the main person
    unoccluded = 0
    for k in np.argsort(near).tolist():
        order = np.argsort([part.balls[:, 2].mean() for part in persons[k].parts])  # far parts first
        for part in order.tolist():
            _hull(label, persons[k].parts[part].balls, 1 + PARTS * k + part)
        if k == 0:
            unoccluded = int(np.count_nonzero((label > 0) & (label <= PARTS)))
    if rng.random() < 0.28:  # an object in front
        (low, high), reach = persons[0].bounds(), max(size)
        ends = rng.uniform(low, high) + np.outer((-1, 1), rng.normal(0, 0.15 * reach, 2))
        _hull(label, np.column_stack([ends, (0, 0), np.full(2, rng.uniform(0.02, 0.06) * reach)]), THING)
    return label, unoccluded


def _truth(label: np.ndarray, persons: list[Figure], index: int) -> list[dict]:
    height, width = label.shape
    annotations = []
    for k, person in enumerate(persons):
        mask = ((label > PARTS * k) & (label <= PARTS * (k + 1))).astype(np.uint8)
        area = cv2.countNonZero(mask)
        if area < 16:
            continue
        xy = person.joints[:, :2]
        pixel = np.floor(xy + 0.5).clip(-9, 9999).astype(int)
        in_image = (pixel >= 0).all(1) & (pixel < (width, height)).all(1)
        around = pixel[:, None] + _PATCH  # (17, 9, 2)
        labels = label[around[..., 1].clip(0, height - 1), around[..., 0].clip(0, width - 1)]
        shows = np.zeros((256, 17), bool)
        for number, part in enumerate(person.parts):
            shows[1 + PARTS * k + number, list(part.joints)] = True
        v = np.where(in_image, 1 + shows[labels, np.arange(17)[:, None]].any(1), 0)
        v[:5][person.turned_away] = 0
        xy = np.where(v[:, None] > 0, np.round(xy.clip(0, (width - 1, height - 1)), 2), 0.0)
        annotations.append(
            {
                "id": (index + 1) * 16 + k,
                "image_id": index + 1,
                "category_id": 1,
                "bbox": [float(c) for c in cv2.boundingRect(mask)],
                "area": float(area),
                "keypoints": np.column_stack([xy, v]).ravel().tolist(),
                "num_keypoints": int((v > 0).sum()),
                "iscrowd": 0,
            }
        )
    return annotations


def _coloured(rng: np.random.Generator, label: np.ndarray, persons: list[Figure]) -> np.ndarray:
    """Returns the image, RGB uint8 (h, w, 3): a background of soft patches and capsules, then the people, light and noise."""
    height, width = label.shape
    size, reach = (width, height), max(label.shape)
    grid = tuple(rng.integers(2, 7, 2))
    patches = (rng.uniform(20, 235, (*grid, 1)) + rng.uniform(-60, 60, (*grid, 3))).astype(np.float32)
    image = cv2.resize(patches, size, interpolation=cv2.INTER_CUBIC)
    for _ in range(rng.integers(0, 9)):
        ends = rng.uniform(-0.1, 1.1, (2, 2)) * size
        balls = np.column_stack([ends, (0, 0), rng.uniform(0.01, 0.07, 2) * reach])
        _hull(image, balls, rng.uniform(0, 255, 3).tolist())
    palette = np.zeros((256, 3), np.float32)
    palette[THING] = rng.uniform(0, 255, 3)
    for k, person in enumerate(persons):
        palette[1 + PARTS * k : 1 + PARTS * k + len(person.parts)] = person.colours
    image = np.where(label[..., None] > 0, palette[label], image)
    light = cv2.resize(rng.uniform(0.75, 1.2, (3, 3)).astype(np.float32), size, interpolation=cv2.INTER_CUBIC)
    image = cv2.GaussianBlur(image * light[..., None], (3, 3), rng.uniform(0.4, 0.9))
    return (image + rng.normal(0, 5, image.shape)).clip(0, 255).astype(np.uint8)
