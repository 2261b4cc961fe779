"""Drawn people: the training data that needs no download.

`draw` makes one picture with COCO-style truth, `people` a lazy data set of them. A picture is a function of (seed, index, size, crowd)
alone, the same in every process and order. The bodies are in `body`, clothes and faces in `figure`, painting in `canvas`, the rest of
the world in `scenery`.

Truth per person, as COCO has it: `keypoints` 17 x (x, y, v), `bbox` and `area` of the pixels that show the person. v = 2: seen.
v = 1: inside the picture, hidden by the person's own body, by somebody else or by a thing. v = 0, x = y = 0: outside the picture;
also a nose, eye or ear on the side of the head that is turned away from the camera (annotators skip those).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import count

import cv2
import numpy as np

from mdw.data.body import NODE, forward_kinematics, sample_pose, sample_shape
from mdw.data.canvas import SCENERY, Camera, Canvas
from mdw.data.figure import sample_figure
from mdw.data.sample import Dataset, Sample
from mdw.data.scenery import background, develop, occlude, seat
from mdw.errors import MdwError
from mdw.pose.boxes import box_to_center_scale
from mdw.pose.joints import COCO17

_JOINT_NODES = np.array([NODE[f"{side}_{joint}"] for joint in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
                         for side in ("left", "right")])
# how far below the visible surface a joint may lie and still be "seen", in statures: the flesh and cloth over it
_FLESH = np.array([0.025, 0.022, 0.022, 0.028, 0.028, *np.repeat((0.075, 0.055, 0.045, 0.115, 0.075, 0.055), 2)])
_FACE_NORMALS = np.array([(0, 0, 1), (0.25, 0, 0.97), (-0.25, 0, 0.97), (1, 0, 0), (-1, 0, 0)])
_TURNED_AWAY = -0.2
_PATCH = np.array([(x, y) for y in (-1, 0, 1) for x in (-1, 0, 1)])


@dataclass(frozen=True, eq=False)
class Picture:
    """A drawn picture with its truth. `labels` (h, w) uint8: 0 background, below 16 things, person k from 16 * (k + 1)."""

    image: np.ndarray            # (h, w, 3) uint8 RGB
    labels: np.ndarray
    annotations: tuple[dict, ...]   # the main person first; `person` = k, COCO keys besides
    angles: tuple[dict[str, float], ...]
    skeletons: np.ndarray        # (K, 19, 3) metres, world


def draw(seed: int, index: int, size: tuple[int, int] = (192, 256), crowd: float = 0.35) -> tuple[np.ndarray, list[dict]]:
    """Draw picture `index` of the stream `seed`: RGB uint8 (h, w, 3) and the truth of everybody who can be seen in it.

    `size` is (width, height) in pixels; `crowd` the share of pictures with more than one person. The first annotation is the main
    person, 50 to 95 % as long as the picture (one in seven is cut by the border). Each is a dict with COCO's keys id, image_id
    (index + 1), category_id, bbox [x, y, w, h], area, keypoints (51 numbers), num_keypoints, iscrowd (0); see the module for v.
    Raises MdwError for a size below 32 or above 4096, a negative seed or index, or a crowd outside 0..1.
    """
    picture = _picture(*_checked(seed, index, size, crowd))
    return picture.image.copy(), [{**a, "bbox": list(a["bbox"]), "keypoints": list(a["keypoints"])} for a in picture.annotations]


def people(count: int, seed: int = 0, size: tuple[int, int] = (192, 256), aspect: float = 0.75, crowd: float = 0.35) -> "DrawnPeople":
    """`count` pictures of the stream `seed` as a data set of their main persons, drawn when asked for.

    `aspect` (width / height of the network's input) shapes the samples' boxes; the other arguments are those of `draw`. The weight
    of a joint is 1 where v > 0, as for COCO. Streams of different seeds share nothing: take one for training, another to validate.
    """
    _checked(seed, 0, size, crowd)
    if int(count) != count or count < 1:
        raise MdwError(f"people: count is {count}, it should be a whole number of pictures from 1 on")
    if not 0.1 <= aspect <= 10:
        raise MdwError(f"people: aspect is {aspect}, it should be the width over the height of the network's input, as 0.75")
    pictures = Pictures(range(int(count)), int(seed), (int(size[0]), int(size[1])), float(crowd), float(aspect))
    return DrawnPeople("people", COCO17, pictures)


@dataclass(frozen=True)
class Pixels:
    """A picture to be drawn: call it for RGB uint8 (h, w, 3)."""

    seed: int
    index: int
    size: tuple[int, int]
    crowd: float

    def __call__(self) -> np.ndarray:
        return _picture(self.seed, self.index, self.size, self.crowd).image.copy()


@dataclass(frozen=True)
class Pictures(Sequence):
    """The main persons of some pictures of one stream; an item is drawn when it is taken."""

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
        pixels = Pixels(self.seed, self.indices[i], self.size, self.crowd)
        main = _picture(pixels.seed, pixels.index, pixels.size, pixels.crowd).annotations[0]
        keypoints = np.array(main["keypoints"], np.float32).reshape(17, 3)
        center, scale = box_to_center_scale(main["bbox"], (self.aspect, 1.0))
        return Sample(pixels, main["image_id"], main["id"], center, scale, keypoints[:, :2], (keypoints[:, 2] > 0).astype(np.float32), main["area"])

    def truth(self) -> dict:
        """COCO ground truth of these pictures, everybody in it. Whoever is not the main person is `iscrowd` 1, which COCO's
        evaluation ignores: neither missed when nobody looked for him nor wrong when found."""
        width, height = self.size
        images, annotations = [], []
        for index in self.indices:
            images.append({"id": index + 1, "width": width, "height": height, "file_name": f"people-{self.seed}-{index:06d}"})
            drawn = draw(self.seed, index, self.size, self.crowd)[1]
            annotations += [{**a, "iscrowd": int(k > 0)} for k, a in enumerate(drawn)]
        category = {"id": 1, "name": "person", "supercategory": "person", "keypoints": list(COCO17.names),
                    "skeleton": [[a + 1, b + 1] for a, b in COCO17.limbs]}
        return {"info": {"description": "drawn people"}, "licenses": [], "images": images, "annotations": annotations, "categories": [category]}


class DrawnPeople(Dataset):
    """A `Dataset` whose COCO ground truth is drawn when first asked for, and always is that of its own samples."""

    @property
    def ground_truth(self) -> dict:
        if "_truth" not in self.__dict__:
            self.__dict__["_truth"] = self.samples.truth()
        return self.__dict__["_truth"]

    @ground_truth.setter
    def ground_truth(self, value) -> None:           # the dataclass sets its default; there is nothing to keep
        pass

    def select(self, indices) -> "DrawnPeople":
        """These samples only, in this order, still undrawn."""
        return DrawnPeople(self.name, self.joints, replace(self.samples, indices=tuple(self.samples.indices[i] for i in indices)), self.root)


def _checked(seed, index, size, crowd) -> tuple[int, int, tuple[int, int], float]:
    try:
        width, height = (int(side) for side in size)
        whole = (width, height) == tuple(size)
    except (TypeError, ValueError):
        whole, width, height = False, 0, 0
    if not (whole and 32 <= min(width, height) and max(width, height) <= 4096):
        raise MdwError(f"people: size is {size}, it should be (width, height) in whole pixels, 32 to 4096 each")
    if int(seed) != seed or int(index) != index or seed < 0 or index < 0:
        raise MdwError(f"people: seed {seed} and index {index} should be whole numbers from 0 on")
    if not 0 <= crowd <= 1:
        raise MdwError(f"people: crowd is {crowd}, it should be a share of pictures from 0 to 1")
    return int(seed), int(index), (width, height), float(crowd)


@lru_cache(maxsize=16)                               # a sample's truth and its pixels are usually taken one after the other
def _picture(seed: int, index: int, size: tuple[int, int], crowd: float) -> Picture:
    with np.errstate(invalid="ignore"):              # the canvas takes roots of negative numbers outside of its pieces
        for attempt in count():                      # nearly always the first
            picture = _render(np.random.default_rng([seed, index, attempt]), index, size, crowd)
            if picture is not None:
                return picture


@dataclass(frozen=True, eq=False)
class _Person:
    figure: object
    position: np.ndarray
    frame: np.ndarray
    stature: float
    pose: object

    @staticmethod
    def sample(rng: np.random.Generator) -> "_Person":
        shape, pose = sample_shape(rng), sample_pose(rng)
        position, frame = forward_kinematics(shape, pose)
        return _Person(sample_figure(rng, shape), position, frame, shape.stature, pose)

    def moved(self, by: np.ndarray) -> "_Person":
        return replace(self, position=self.position + by)

    def lowest(self) -> float:
        ends, _ = self.figure.place(self.position, self.frame, self.stature)
        return float((ends[..., 1] - self.figure.end_radii * self.stature).min())

    def joints(self) -> np.ndarray:
        """(17, 3) world positions in COCO's order."""
        head = NODE["head"]
        face = self.position[head] + self.figure.face @ self.frame[head].T * self.stature
        return np.concatenate([face, self.position[_JOINT_NODES]])


def _render(rng: np.random.Generator, index: int, size: tuple[int, int], crowd: float) -> Picture | None:
    """One try at a picture; None where the main person came out mostly hidden."""
    main = _Person.sample(rng)
    floor = main.lowest() - main.pose.lift
    camera, box = _camera(rng, main, size)
    persons = [main]
    if rng.random() < crowd:
        persons += [_bystander(rng, floor, camera.distance) for _ in range(int(rng.choice((1, 2, 3), p=(0.6, 0.25, 0.15))))]
    light = np.array([rng.uniform(-1, 1), rng.uniform(-1, 0.3), rng.uniform(0.3, 1.1)])
    canvas = Canvas(size, light / np.linalg.norm(light))
    palette = np.zeros((256, 3), np.uint8)
    palette[1:SCENERY] = rng.uniform(20, 220, (SCENERY - 1, 1)) + rng.uniform(-25, 25, (SCENERY - 1, 3))
    if main.pose.family == "sit" and rng.random() < 0.75:
        seat(canvas, camera, main.position[0], main.frame[0], floor, main.stature, back=rng.random() < 0.5)
    for k, person in enumerate(persons):
        base = SCENERY * (k + 1)
        canvas.figure(person.figure, person.position, person.frame, person.stature, camera, base)
        palette[base:base + SCENERY] = person.figure.colours
    whole = np.count_nonzero(canvas.value >= 4 * SCENERY)
    if rng.random() < 0.28:
        occlude(rng, canvas, box)
    label, shade = canvas.finish()
    annotations = _truth(label, canvas.depth, camera, persons, index)
    if not annotations or annotations[0]["person"] != 0 or annotations[0]["num_keypoints"] < 6 or 3 * annotations[0]["area"] < whole / len(persons):
        return None
    image = develop(rng, label, shade, background(rng, size, camera, floor), palette)
    return Picture(image, label, tuple(annotations), tuple(p.pose.angles for p in persons), np.stack([p.position for p in persons]))


def _camera(rng: np.random.Generator, person: _Person, size: tuple[int, int]) -> tuple[Camera, np.ndarray]:
    """A camera that frames the person, and the person's box (x0, y0, x1, y1) in its picture."""
    width, height = size
    pitch = np.radians(np.clip(8 + 13 * rng.standard_normal(), -35, 60) if rng.random() < 0.93 else rng.uniform(35, 75))
    distance = person.stature * np.exp(rng.uniform(np.log(1.5), np.log(6)))
    target = (person.position.min(0) + person.position.max(0)) / 2
    camera = Camera.looking(target, distance, pitch, np.radians(7 * rng.standard_normal()))
    ends, _ = person.figure.place(person.position, person.frame, person.stature)
    seen = camera.project(ends)
    radii = (person.figure.end_radii * person.stature / seen[..., 2])[..., None]
    low, high = (seen[..., :2] - radii).min((0, 1)), (seen[..., :2] + radii).max((0, 1))
    extent = high - low
    room = np.array([width, height], float)
    cut = rng.random() < 0.15
    fill = rng.uniform(0.5, 0.95) if not cut else rng.uniform(0.8, 1.5)
    focal = fill * max(size) / extent.max()
    if not cut:
        focal = min(focal, *(0.97 * room / extent))
    slack = room - focal * extent
    corner = slack * rng.uniform(0.02, 0.98, 2)
    if cut:                                          # push the person over one border, mostly the lower one
        axis, sign = ((1, 1), (1, -1), (0, 1), (0, -1))[int(np.searchsorted((0.55, 0.65, 0.83), rng.random()))]
        out = rng.uniform(0.08, 0.40) * focal * extent[axis]
        corner[axis] = (slack[axis] + out) if sign > 0 else -out
    camera = replace(camera, focal=float(focal), shift=tuple((corner - focal * low).tolist()))
    return camera, np.concatenate([corner, corner + focal * extent])


def _bystander(rng: np.random.Generator, floor: float, distance: float) -> _Person:
    """Somebody else on the same floor: mostly beside or behind the main person, sometimes partly in front."""
    person = _Person.sample(rng)
    if rng.random() < 0.25:
        depth, aside = rng.uniform(0.2, min(0.9, 0.4 * distance)), rng.uniform(0.35, 0.8)
    else:
        depth, aside = -rng.uniform(0.3, 4.0), rng.uniform(0.1, 1.3)
    return person.moved(np.array([aside * rng.choice((-1, 1)), floor - person.lowest() + person.pose.lift, depth]))


def _truth(label: np.ndarray, depth: np.ndarray, camera: Camera, persons: list[_Person], index: int) -> list[dict]:
    height, width = label.shape
    owner = label >> 4                                                    # SCENERY is 16
    joints = np.stack([p.joints() for p in persons])                             # (K, 17, 3)
    seen = camera.project(joints)
    pixel = np.floor(seen[..., :2] + 0.5).clip(-9, 9999).astype(int)
    inside = (pixel >= 0).all(-1) & (pixel[..., 0] < width) & (pixel[..., 1] < height)
    frames = np.stack([p.frame[NODE["head"]] for p in persons])                  # (K, 3, 3)
    to_eye = camera.target - camera.distance * camera.rotation[2] - joints[:, :5]
    to_eye /= np.linalg.norm(to_eye, axis=-1, keepdims=True)
    facing = np.einsum("kij,fj,kfi->kf", frames, _FACE_NORMALS, to_eye)
    around = pixel[..., None, :] + _PATCH                                       # (K, 17, 9, 2)
    x, y = around[..., 0].clip(0, width - 1), around[..., 1].clip(0, height - 1)
    flesh = _FLESH * np.array([[p.stature] for p in persons])
    shown = (owner[y, x] == np.arange(1, len(persons) + 1)[:, None, None]) & (depth[y, x] > (seen[..., 2] - flesh)[..., None])
    v = np.where(inside, np.where(shown.any(-1), 2, 1), 0)
    v[:, :5][facing < _TURNED_AWAY] = 0
    xy = np.where((v > 0)[..., None], np.round(seen[..., :2].clip(0, (width - 1, height - 1)), 2), 0.0)
    keypoints = np.concatenate([xy, v[..., None]], axis=2).reshape(len(persons), 51).tolist()
    annotations = []
    for k in range(len(persons)):
        mine = (owner == k + 1).view(np.uint8)
        area = cv2.countNonZero(mine)
        if area >= 16:
            box = [float(c) for c in cv2.boundingRect(mine)]
            annotations.append({"id": (index + 1) * SCENERY + k, "image_id": index + 1, "category_id": 1, "bbox": box, "area": float(area),
                                "keypoints": keypoints[k], "num_keypoints": int((v[k] > 0).sum()), "iscrowd": 0, "person": k})
    return annotations
