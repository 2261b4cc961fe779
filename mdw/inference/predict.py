"""Images in, poses out."""

import itertools
import os
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from torch import nn

from mdw.backends.choose import choose, for_use, pick_device, released
from mdw.data.sample import Dataset, Sample, image_shape, read_image
from mdw.inference.boxes import check_boxes
from mdw.inference.detector import Detector, load_detector
from mdw.inference.draw import SURE, caption, frame, overlay, write_image
from mdw.inference.evaluate import predict_dataset
from mdw.models import network_name
from mdw.models.weights import load_network, read_about, weights_file
from mdw.pose.boxes import box_to_center_scale
from mdw.pose.joints import JointSet
from mdw.util.errors import MdwError, Nobody
from mdw.util.files import check_writable, read_json, write_json
from mdw.util.typed import check_fields, fit
from mdw.util.words import count

CHUNK = 4  # photos that go through the network together


@dataclass(frozen=True)
class Predictor:
    """A network that is ready for images; `load_predictor` makes one. `size` is its input (width, height).

    With a `detector` the boxes are what it finds, where none are given. `batch_size` people go through the network at once.
    `backend`: what computes the network, of those that `mdw.backends.choose` names. `name`: the network's, for the legend.
    `warning`: what overlays and results say of an image that is taken whole, where that was not asked for.
    """

    model: nn.Module
    joints: JointSet
    size: tuple[int, int]
    flip_test: bool = True
    device: str = "cpu"
    detector: Detector | None = None
    batch_size: int = 32
    backend: str = "reference"
    name: str = "a network"
    warning: str = ""

    def __call__(self, images: Sequence[np.ndarray], boxes: Sequence[Sequence | None]) -> list[list[dict]]:
        """The people of each image, RGB uint8 (H, W, 3), in the form of `predict`.

        `boxes`: for each image (x, y, width, height) of its people, or None. The people of all images share the batches.
        Raises MdwError for an image of another kind and for a bad box.
        """
        for image in images:
            if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
                raise MdwError(f"the image is {image.dtype} {image.shape}; give RGB uint8 (height, width, 3)")
        rows = self._rows(images, boxes)
        samples: list[Sample] = []
        for number, (image, found) in enumerate(zip(images, rows, strict=True)):
            pixels = lambda image=image: image  # noqa: E731  one for all its people: they are cropped together
            for x, y, width, height, _ in found:
                center, scale = box_to_center_scale((x, y, width, height), self.size)
                nothing = np.zeros((self.joints.num_joints, 2)), np.zeros(self.joints.num_joints)
                samples.append(Sample(pixels, number, len(samples), center, scale, *nothing))
        people = Dataset("images", self.joints, tuple(samples))
        xy, scores = predict_dataset(self.model, people, self.size, self.flip_test, self.batch_size, self.device)
        poses = iter(np.concatenate([xy, scores[..., None]], axis=2))
        found_by = self.detector.name if self.detector else "whole image"
        return [
            [self._person(next(poses), row, found_by if given is None else "given") for row in found]
            for found, given in zip(rows, boxes, strict=True)
        ]

    def draw(self, image: np.ndarray, people: Sequence[dict], threshold: float = SURE, note: str = "") -> np.ndarray:
        """The image with these people of it, as `__call__` gives them, and below it a legend; RGB uint8 (more than H, W, 3).

        Joints below `threshold` are left out, and a person whose mean score is below it has a dashed frame. The legend says
        which network it was, and `note`, or the people's own warning, stands above it in a bright strip.
        """
        if people:
            keypoints = np.stack([person["keypoints"] for person in people])
            scores = np.where(keypoints[..., 2] >= threshold, keypoints[..., 2], 0)
            image = overlay(image, keypoints, self.joints, threshold, scores)
        for person in people:
            if person["score"] < threshold:
                image = frame(image, person["box"], f"{person['score']:.2f}")
        flip = "with" if self.flip_test else "without"
        legend = (
            f"left right middle of the person; {self.name}, input {self.size[1]}x{self.size[0]}, {flip} flip test. "
            f"Joints below a score of {threshold:g} are not drawn; a dashed frame: the person's mean score is below it."
        )
        return caption(image, legend, note or next((p["warning"] for p in people if "warning" in p), ""))

    def _rows(self, images: Sequence[np.ndarray], boxes: Sequence[Sequence | None]) -> list[list[tuple]]:
        """(x, y, width, height, score) for everybody: given, detected or the whole image."""
        if self.detector and any(given is None for given in boxes):
            asked = [i for i, given in enumerate(boxes) if given is None]
            found: dict[int, Iterable] = dict(zip(asked, self.detector([images[i] for i in asked]), strict=True))
        else:
            found = {i: [(0, 0, *p.shape[1::-1], 1.0)] for i, p in enumerate(images)}
        return [
            [tuple(map(float, row)) for row in found[i]]
            if given is None
            else [(*box, 1.0) for box in check_boxes(given, images[i].shape)]
            for i, given in enumerate(boxes)
        ]

    def _person(self, keypoints: np.ndarray, row: tuple, box_from: str) -> dict:
        score = float(keypoints[:, 2].mean())
        return {
            "keypoints": keypoints,
            "score": score,
            "box": row[:4],
            "box_score": row[4],
            "box_from": box_from,
            "joints": self.joints.names,
        } | ({"warning": self.warning} if self.warning and box_from == "whole image" else {})


def load_predictor(
    weights: str | Path | None = None,
    flip_test: bool = True,
    device: str | None = "cpu",
    backend: str = "auto",
    detector: str | Detector | None = None,
    detector_threshold: float = 0.5,
    size: tuple[int, int] | None = None,
    warning: str = "",
) -> Predictor:
    """The `Predictor` of these weights; arguments as in `predict`. Raises MdwError where one of them is no good.

    `size`: the input (width, height); None is what the weights were trained at. `warning`: see `Predictor`.
    """
    device, about = pick_device(device), read_about(weights_file(weights))
    model, joints, trained_at = load_network(weights)
    size = size or trained_at
    if isinstance(detector, str):
        detector = load_detector(detector, detector_threshold, device)
    backend = choose(backend, device, training=False, network=released(about))
    model = for_use(model.to(device), backend, size)
    name = network_name(about["model"], about["options"])
    return Predictor(model, joints, size, flip_test, device, detector, backend=backend, name=name, warning=warning)


def predict(
    image: str | Path | np.ndarray,
    weights: str | Path | None = None,
    boxes: Sequence[Sequence[float]] | None = None,
    flip_test: bool = True,
    device: str | None = "cpu",
    backend: str = "auto",
    detector: str | Detector | None = None,
    detector_threshold: float = 0.5,
) -> list[dict]:
    """Find the joints of the people in one image.

    People are not looked for unless there is a `detector`: without boxes and detector the whole image is one person's box.
    Nothing is ever asked, and only a detector fetches its weights, the first time. `mdw predict` looks for people by itself,
    with `mdw.inference.detector.DEFAULT`.

    `image`: a file, which is turned upright as its EXIF entry says, or RGB uint8 (H, W, 3). `boxes`: one (x, y, width,
    height) in pixels for each person; None takes those of `detector`, a name of torchvision's. `weights`: a
    weights.safetensors, a run's folder, an official checkpoint with its network ("lite_hrnet_18=FILE.pth"); None is the network
    that comes with the package. `device`: None is a GPU where there is one. `backend`: see `mdw.backends.choose.choose`.
    Returns one dict per box: "keypoints" (J, 3) array of x, y in pixels and score, "score" (mean of the joint scores), "box",
    "box_score" (the detector's, else 1), "box_from" ("given", "whole image" or the detector's name), "joints" (the joints'
    names, in order). For many images `load_predictor` loads the network once. Raises MdwError for an unreadable image or bad
    boxes.
    """
    predictor = load_predictor(weights, flip_test, device, backend, detector, detector_threshold)
    pixels = read_image(image, upright=True) if isinstance(image, str | Path) else np.asarray(image)
    return predictor([pixels], [boxes])[0]


def predict_files(
    photos: Sequence[Path],
    out: Path,
    predictor: Predictor,
    boxes: dict[str, list] | None = None,
    threshold: float = SURE,
    progress: Callable = iter,
) -> list[dict]:
    """Write an overlay for every photo (see `overlay_path`) and the people into `out/predictions.json`, COCO's results form.

    `boxes`: file name -> boxes (see `mdw.inference.boxes.read_boxes`) in the upright image; a photo that is not in it is the
    detector's, or taken as one person's box. `threshold`: see `Predictor.draw`. Each entry has image_id (see `image_ids`),
    category_id 1, keypoints [x, y, score] * J, score, and beside COCO's fields file_name, joints (the name of the joint set),
    box, box_score, box_from and, where the predictor has one, warning. What the file says of other photos, from earlier calls,
    stays: a photo takes the place of one with its file name. Photos are decoded and overlays drawn and encoded in threads
    beside the network, `CHUNK` photos at a time each: memory does not grow with their number. Files appear when all photos
    have gone well, and none otherwise. Returns the entries of these photos. Raises MdwError for a bad photo or box, where two
    overlays would have one name, for a predictions.json that is none, and `Nobody`, one, where nobody is found.
    """
    boxes = boxes or {}
    earlier = read_predictions(out / "predictions.json", without=photos)
    one_name_each([*photos, *{Path(entry["file_name"]) for entry in earlier}])
    for photo in photos:
        shape = image_shape(photo, upright=True)
        if photo.name in boxes:
            check_boxes(boxes[photo.name], shape, photo.name)
    check_writable(out / "predictions.json")
    ids, results = image_ids(photos, {entry["image_id"] for entry in earlier}), []
    drawing: list[Future[None]] = []
    with TemporaryDirectory(prefix=".overlays.", dir=out) as unseen, ThreadPoolExecutor(2) as pool:

        def draw(photo: Path, pixels: np.ndarray, people: list[dict]) -> None:
            drawn = predictor.draw(pixels, people, threshold, "" if people else "Nobody was found in this image.")
            write_image(overlay_path(Path(unseen), photo), drawn)

        images = zip(progress(photos), _ahead(pool, partial(read_image, upright=True), photos), strict=True)
        while chunk := list(islice(images, CHUNK)):
            found = predictor([pixels for _, pixels in chunk], [boxes.get(photo.name) for photo, _ in chunk])
            for job in drawing:
                job.result()
            drawing = [pool.submit(draw, photo, pixels, people) for (photo, pixels), people in zip(chunk, found, strict=True)]
            for (photo, _), people in zip(chunk, found, strict=True):
                results += [to_result(person, ids[photo], predictor.joints) | {"file_name": photo.name} for person in people]
        for job in drawing:
            job.result()
        if not results:
            others = f" and {count(len(photos) - 1, 'more photo')}" if len(photos) > 1 else ""
            raise Nobody(
                f"there is no person in {photos[0]}{others}; lower --detector-threshold, or give the boxes with --boxes"
            )
        for photo in photos:
            os.replace(overlay_path(Path(unseen), photo), overlay_path(out, photo))
    write_json(out / "predictions.json", earlier + results)
    return results


def read_predictions(path: Path, without: Sequence[Path] = ()) -> list[dict]:
    """The entries that earlier calls of `predict_files` left in `path`, but for those of photos with these names.

    Raises MdwError where the file holds something else.
    """
    entries = read_json(path) if path.exists() else []
    known = {"image_id": int, "file_name": str}
    try:
        entries = [check_fields(str(path), entry, known, tuple(known)) for entry in fit(str(path), entries, tuple[Any, ...])]
    except MdwError:
        raise MdwError(f"{path} is not what an earlier call has left there; name another folder with --out") from None
    names = {photo.name for photo in without}
    return [entry for entry in entries if entry["file_name"] not in names]


def _ahead(pool: ThreadPoolExecutor, function: Callable, items: Iterable) -> Iterator:
    """What `function` makes of each item, in order; threads of `pool` work ahead of the reader by `CHUNK` items."""
    items, waiting = iter(items), deque[Future]()
    while True:
        waiting.extend(pool.submit(function, item) for item in islice(items, CHUNK + 1 - len(waiting)))
        if not waiting:
            return
        yield waiting.popleft().result()


def to_result(person: dict, image_id: int, joints: JointSet) -> dict:
    """A person of `predict` as an entry of COCO's results form, with three more fields: joints, box, box_score."""
    return {
        "image_id": image_id,
        "category_id": 1,
        "keypoints": np.round(person["keypoints"].astype(float), 3).ravel().tolist(),
        "score": round(person["score"], 5),
        "joints": joints.name,
        "box": [round(side, 3) for side in person["box"]],  # not "bbox": pycocotools would take the entry for a detection
        "box_score": round(person["box_score"], 5),
    } | {name: person[name] for name in ("box_from", "warning") if name in person}


def image_ids(photos: Sequence[Path], taken: Collection[int] = ()) -> dict[Path, int]:
    """The numbers that are the photos' names, as in COCO, where all have one and no two the same; else numbers from 1 on.

    Those `taken` are given to none.
    """
    numbers = {int(photo.stem) for photo in photos if photo.stem.isdecimal()} - set(taken)
    if len(numbers) == len(photos):
        return {photo: int(photo.stem) for photo in photos}
    return dict(zip(photos, (number for number in itertools.count(1) if number not in taken), strict=False))


def overlay_path(out: Path, photo: Path) -> Path:
    """Where the overlay of `photo` goes: out/<photo>.overlay.jpg; .png where the photo is one, which then loses nothing."""
    return out / f"{photo.stem}.overlay{'.png' if photo.suffix.lower() == '.png' else '.jpg'}"


def one_name_each(files: Sequence[Path]) -> None:
    """Raise MdwError where two files would be drawn into one."""
    taken: dict[str, Path] = {}
    for file in files:
        other = taken.setdefault(file.stem.casefold(), file)
        if other is not file:
            raise MdwError(f"{other} and {file} would both be written as {file.stem}.overlay; give them one --out each")
