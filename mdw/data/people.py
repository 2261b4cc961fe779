"""Drawn people: the training data that needs no download.

`draw` makes one picture with COCO-style truth, `people` a lazy data set of them. A picture is a function of (seed,
index, size, crowd) alone, the same in every process and order. The skeleton is in `body`, what it does in `poses`,
clothes and faces in `figure`, painting in `canvas`, the rest of the world in `scenery`.

Truth per person, as COCO has it: `keypoints` 17 x (x, y, v), `bbox` and `area` of the pixels that show the person.
v = 2: seen. v = 1: inside the picture, hidden by the person's own body or hair, by somebody else or by a thing.
v = 0, x = y = 0: outside the picture; also a nose, eye or ear on the side of the head that is turned away from the
camera by more than 101 degrees (annotators leave those out).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import count as counting
from numbers import Integral

import cv2
import numpy as np

from mdw.data.body import NODE, Pose, forward_kinematics, sample_shape
from mdw.data.canvas import SCENERY, Camera, Canvas
from mdw.data.figure import MATERIALS, Placed, sample_figure
from mdw.data.poses import sample_pose
from mdw.data.sample import Dataset, Sample
from mdw.data.scenery import background, develop, occlude, seat
from mdw.pose.boxes import box_to_center_scale, clip_box
from mdw.pose.joints import COCO17
from mdw.util.errors import MdwError

# how far below the visible surface a joint may lie and still be "seen", in statures: the flesh and cloth over it
_FLESH = np.array([0.025, 0.022, 0.022, 0.028, 0.028, *np.repeat((0.075, 0.055, 0.045, 0.115, 0.075, 0.055), 2)])
_FACE_NORMALS = np.array([(0, 0, 1), (0.25, 0, 0.97), (-0.25, 0, 0.97), (1, 0, 0), (-1, 0, 0)])
_TURNED_AWAY = -0.2  # cosine
_PATCH = np.array([(x, y) for y in (-1, 0, 1) for x in (-1, 0, 1)])


@dataclass(frozen=True, eq=False)
class Picture:
    """A drawn picture with its truth."""

    image: np.ndarray  # (h, w, 3) uint8 RGB
    labels: np.ndarray  # (h, w) uint8: 0 background, below 16 things, 16 * (k + 1) + material for person k
    annotations: tuple[dict, ...]  # COCO's keys; the main person (k = 0) first, k is id % 16


def draw(seed: int, index: int, size: tuple[int, int] = (192, 256), crowd: float = 0.3) -> tuple[np.ndarray, list[dict]]:
    """Draw picture `index` of the stream `seed`: RGB uint8 (h, w, 3) and the truth of everybody who is seen in it.

    `size` is (width, height) in pixels, `crowd` the share of pictures with more than one person. The first annotation
    is the main person, who fills 50 to 95 % of the picture's longer side where the other side leaves room; in one
    picture of seven the border cuts through. Each is a dict with COCO's keys id, image_id (index + 1), category_id,
    bbox [x, y, w, h], area, keypoints (51 numbers, v as in the module), num_keypoints and iscrowd (0).
    Raises MdwError for a size below 32 or above 4096, a negative seed or index, or a crowd outside 0..1.
    """
    picture = _picture(*_checked(seed, index, size, crowd))
    copies = [{**a, "bbox": list(a["bbox"]), "keypoints": list(a["keypoints"])} for a in picture.annotations]
    return picture.image.copy(), copies


def people(
    count: int, seed: int = 0, size: tuple[int, int] = (192, 256), aspect: float = 0.75, crowd: float = 0.3
) -> "DrawnPeople":
    """`count` pictures of the stream `seed` as a data set of their main persons, drawn when asked for.

    `aspect` (width / height of the network's input) shapes the samples' boxes; the rest is as for `draw`.
    The weight of a joint is 1 where v > 0, as for COCO. Streams of different seeds share nothing: take one for
    training, another to validate. Raises MdwError as `draw`, and for a count below 1 or an aspect outside 0.1..10.
    """
    _checked(seed, 0, size, crowd)
    if not isinstance(count, Integral) or count < 1:
        raise MdwError(f"people: count is {count}, it should be a whole number of pictures from 1 on")
    if not 0.1 <= aspect <= 10:
        raise MdwError(f"people: aspect is {aspect}, it should be the input's width / height, as 0.75")
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
        box = clip_box(main["bbox"], self.size, main["area"])  # as for COCO
        center, scale = box_to_center_scale(box, (self.aspect, 1.0))
        visible = (keypoints[:, 2] > 0).astype(np.float32)
        return Sample(
            pixels, main["image_id"], main["id"], center, scale, keypoints[:, :2], visible, main["area"], box_wh=box[2:]
        )

    def truth(self) -> dict:
        """COCO ground truth of these pictures, everybody in it.

        Whoever is not the main person is `iscrowd` 1, which COCO's evaluation ignores: nobody is missed whom no sample
        asks for, and nobody is wrong who was found.
        """
        width, height = self.size
        images, annotations = [], []
        for index in self.indices:
            name = f"people-{self.seed}-{index:06d}"
            images.append({"id": index + 1, "width": width, "height": height, "file_name": name})
            drawn = draw(self.seed, index, self.size, self.crowd)[1]
            annotations += [{**a, "iscrowd": int(k > 0)} for k, a in enumerate(drawn)]
        limbs = [[a + 1, b + 1] for a, b in COCO17.limbs]
        category = {"id": 1, "name": "person", "supercategory": "person", "keypoints": list(COCO17.names), "skeleton": limbs}
        return {
            "info": {"description": "drawn people"},
            "licenses": [],
            "images": images,
            "annotations": annotations,
            "categories": [category],
        }


class DrawnPeople(Dataset):
    """A `Dataset` whose COCO ground truth is drawn when first asked for (6 ms a picture)."""

    @property
    def ground_truth(self) -> dict:
        if self.__dict__.get("_truth") is None:
            self.__dict__["_truth"] = self.samples.truth()
        return self.__dict__["_truth"]

    @ground_truth.setter
    def ground_truth(self, value: dict | None) -> None:
        self.__dict__["_truth"] = value

    def select(self, indices: Iterable[int]) -> "DrawnPeople":
        """These samples only, in this order, still undrawn; the ground truth is theirs."""
        chosen = tuple(self.samples.indices[i] for i in indices)
        return DrawnPeople(self.name, self.joints, replace(self.samples, indices=chosen), self.root)


def _checked(seed: int, index: int, size: tuple[int, int], crowd: float) -> tuple[int, int, tuple[int, int], float]:
    try:
        width, height = size
    except (TypeError, ValueError):
        width = height = None
    if not all(isinstance(side, Integral) and 32 <= side <= 4096 for side in (width, height)):
        raise MdwError(f"people: size is {size}, it should be (width, height) in whole pixels, 32 to 4096 each")
    if not all(isinstance(number, Integral) and number >= 0 for number in (seed, index)):
        raise MdwError(f"people: seed {seed} and index {index} should be whole numbers from 0 on")
    if not 0 <= crowd <= 1:
        raise MdwError(f"people: crowd is {crowd}, it should be a share of pictures from 0 to 1")
    return int(seed), int(index), (int(width), int(height)), float(crowd)


@lru_cache(maxsize=16)  # a sample's truth and its pixels are usually taken one after the other
def _picture(seed: int, index: int, size: tuple[int, int], crowd: float) -> Picture:
    with np.errstate(invalid="ignore"):  # the canvas takes roots of negative numbers outside of its pieces
        for attempt in counting():  # nearly always the first
            picture = _render(np.random.default_rng([seed, index, attempt]), index, size, crowd)
            if picture is not None:
                return picture


def _somebody(rng: np.random.Generator) -> tuple[Placed, Pose]:
    shape, pose = sample_shape(rng), sample_pose(rng)
    return Placed.of(sample_figure(rng, shape), shape.stature, *forward_kinematics(shape, pose)), pose


def _render(rng: np.random.Generator, index: int, size: tuple[int, int], crowd: float) -> Picture | None:
    """One try at a picture; None where the main person came out mostly hidden."""
    main, pose = _somebody(rng)
    floor = main.lowest() - pose.lift
    camera, box = _camera(rng, main, size)
    persons = [main]
    if rng.random() < crowd:
        others = 1 + int(np.searchsorted((0.65, 0.9), rng.random()))
        persons += [_bystander(rng, floor, camera.distance) for _ in range(others)]
    light = np.array([rng.uniform(-1, 1), rng.uniform(-1, 0.3), rng.uniform(0.3, 1.1)])
    canvas = Canvas(size, light / np.linalg.norm(light))
    palette = np.zeros((256, 3), np.uint8)
    palette[1:SCENERY] = rng.uniform(30, 220, (SCENERY - 1, 1)) + rng.uniform(-25, 25, (SCENERY - 1, 3))
    if pose.family == "sit" and rng.random() < 0.75:
        seat(canvas, camera, main, floor, back=rng.random() < 0.5)
    canvas.figures(persons, camera)
    for k, person in enumerate(persons, 1):
        palette[SCENERY * k : SCENERY * k + len(MATERIALS)] = person.figure.colours
    whole = np.count_nonzero(canvas.value >= 4 * SCENERY)
    if rng.random() < 0.28:
        occlude(rng, canvas, box)
    label, shade = canvas.finish()
    annotations = _truth(label, canvas.depth, camera, persons, index)
    first = annotations[0] if annotations else {"id": -1}
    if first["id"] % SCENERY or first["num_keypoints"] < 6 or 3 * first["area"] < whole / len(persons):
        return None
    image = develop(rng, label, shade, background(rng, size, camera, floor), palette)
    return Picture(image, label, tuple(annotations))


def _camera(rng: np.random.Generator, person: Placed, size: tuple[int, int]) -> tuple[Camera, np.ndarray]:
    """A camera that frames the person, and the person's box (x0, y0, x1, y1) in its picture."""
    width, height = size
    pitch = np.radians(np.clip(8 + 13 * rng.standard_normal(), -35, 60) if rng.random() < 0.93 else rng.uniform(35, 75))
    distance = person.stature * np.exp(rng.uniform(np.log(1.5), np.log(6)))
    target = (person.position.min(0) + person.position.max(0)) / 2
    camera = Camera.looking(target, distance, pitch, np.radians(7 * rng.standard_normal()))
    seen = camera.project(person.ends)
    radii = (person.figure.end_radii * person.stature / seen[..., 2])[..., None]
    low, high = (seen[..., :2] - radii).min((0, 1)), (seen[..., :2] + radii).max((0, 1))
    extent = high - low
    room = np.array([width, height], float)
    cut = rng.random() < 0.15
    fill = rng.uniform(0.5, 0.95) if not cut else rng.uniform(0.8, 1.3)
    focal = fill * max(size) / extent.max()
    if not cut:
        focal = min(focal, *(0.97 * room / extent))
    slack = room - focal * extent
    corner = slack * rng.uniform(0.02, 0.98, 2)
    if cut:  # push the person over one border, mostly the lower one
        axis, sign = ((1, 1), (1, -1), (0, 1), (0, -1))[int(np.searchsorted((0.55, 0.65, 0.83), rng.random()))]
        out = rng.uniform(0.08, 0.35) * focal * extent[axis]
        corner[axis] = (slack[axis] + out) if sign > 0 else -out
    camera = replace(camera, focal=float(focal), shift=tuple((corner - focal * low).tolist()))
    return camera, np.concatenate([corner, corner + focal * extent])


def _bystander(rng: np.random.Generator, floor: float, distance: float) -> Placed:
    """Somebody else on the same floor: mostly beside or behind the main person, sometimes partly in front."""
    person, pose = _somebody(rng)
    if rng.random() < 0.25:
        depth, aside = rng.uniform(0.2, min(0.9, 0.4 * distance)), rng.uniform(0.35, 0.8)
    else:
        depth, aside = -rng.uniform(0.3, 4.0), rng.uniform(0.1, 1.3)
    return person.moved(np.array([aside * rng.choice((-1, 1)), floor - person.lowest() + pose.lift, depth]))


def _truth(label: np.ndarray, depth: np.ndarray, camera: Camera, persons: list[Placed], index: int) -> list[dict]:
    height, width = label.shape
    owner = label >> 4  # SCENERY is 16
    joints = np.stack([p.joints() for p in persons])  # (K, 17, 3)
    seen = camera.project(joints)
    pixel = np.floor(seen[..., :2] + 0.5).clip(-9, 9999).astype(int)
    inside = (pixel >= 0).all(-1) & (pixel[..., 0] < width) & (pixel[..., 1] < height)
    frames = np.stack([p.frame[NODE["head"]] for p in persons])  # (K, 3, 3)
    to_eye = camera.target - camera.distance * camera.rotation[2] - joints[:, :5]
    to_eye /= np.linalg.norm(to_eye, axis=-1, keepdims=True)
    facing = ((_FACE_NORMALS @ frames.transpose(0, 2, 1)) * to_eye).sum(-1)  # cosine, (K, 5)
    around = pixel[..., None, :] + _PATCH  # (K, 17, 9, 2)
    x, y = around[..., 0].clip(0, width - 1), around[..., 1].clip(0, height - 1)
    flesh = _FLESH * np.array([[p.stature] for p in persons])
    own = owner[y, x] == np.arange(1, len(persons) + 1)[:, None, None]
    shown = (own & (depth[y, x] > (seen[..., 2] - flesh)[..., None])).any(-1)
    v = np.where(inside, np.where(shown, 2, 1), 0)
    v[:, :5][facing < _TURNED_AWAY] = 0
    xy = np.where((v > 0)[..., None], np.round(seen[..., :2].clip(0, (width - 1, height - 1)), 2), 0.0)
    keypoints = np.concatenate([xy, v[..., None]], axis=2).reshape(len(persons), 51).tolist()
    annotations = []
    for k in range(len(persons)):
        mine = (owner == k + 1).view(np.uint8)
        area = cv2.countNonZero(mine)
        if area >= 16:
            box = [float(c) for c in cv2.boundingRect(mine)]
            annotations.append(
                {
                    "id": (index + 1) * SCENERY + k,
                    "image_id": index + 1,
                    "category_id": 1,
                    "bbox": box,
                    "area": float(area),
                    "keypoints": keypoints[k],
                    "num_keypoints": int((v[k] > 0).sum()),
                    "iscrowd": 0,
                }
            )
    return annotations
