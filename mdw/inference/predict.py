"""Predicts the poses of people in images."""

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

CHUNK = 4  # photos that are predicted together


@dataclass(frozen=True)
class Predictor:
    """A network ready to predict images; `load_predictor` makes one. `size`: its input (width, height).

    A `detector` finds the people where no boxes are given. `batch_size`: people per forward pass. `backend`: one of
    `mdw.backends.choose`. `name`: the network's, for the legend. `warning`: text in overlays and results where the whole image
    was used as a person's box and the user did not ask for it.
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
        """Returns the people of each image, RGB uint8 (H, W, 3), in the form of `predict`.

        `boxes`: for each image (x, y, width, height) of its people, or None. Batches hold people of several images. Raises
        MdwError for an image of another type and for a bad box.
        """
        for image in images:
            if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
                raise MdwError(f"the image is {image.dtype} {image.shape}; give RGB uint8 (height, width, 3)")
        rows = self._rows(images, boxes)
        samples: list[Sample] = []
        for number, (image, people_rows) in enumerate(zip(images, rows, strict=True)):
            pixels = lambda image=image: image  # noqa: E731  the same object for all its people, so that they are cropped together
            for x, y, width, height, _ in people_rows:
                center, scale = box_to_center_scale((x, y, width, height), self.size)
                no_joints = np.zeros((self.joints.num_joints, 2)), np.zeros(self.joints.num_joints)
                samples.append(Sample(pixels, number, len(samples), center, scale, *no_joints))
        people = Dataset("images", self.joints, tuple(samples))
        xy, scores = predict_dataset(self.model, people, self.size, self.flip_test, self.batch_size, self.device)
        poses = iter(np.concatenate([xy, scores[..., None]], axis=2))
        default_source = self.detector.name if self.detector else "whole image"
        return [
            [self._person(next(poses), row, default_source if image_boxes is None else "given") for row in people_rows]
            for people_rows, image_boxes in zip(rows, boxes, strict=True)
        ]

    def draw(self, image: np.ndarray, people: Sequence[dict], threshold: float = SURE, note: str = "") -> np.ndarray:
        """Returns the image with these people (from `__call__`) drawn over it and a legend below; RGB uint8, higher than it.

        Joints below `threshold` are left out, and a person whose mean score is below it has a dashed frame. The legend names
        the network; above it `note`, or the people's own warning, is in a bright strip.
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
        """Returns (x, y, width, height, score) of all people of each image: given, detected or the whole image."""
        if self.detector and any(image_boxes is None for image_boxes in boxes):
            indices = [i for i, image_boxes in enumerate(boxes) if image_boxes is None]
            detected: dict[int, Iterable] = dict(zip(indices, self.detector([images[i] for i in indices]), strict=True))
        else:
            detected = {i: [(0, 0, *p.shape[1::-1], 1.0)] for i, p in enumerate(images)}
        return [
            [tuple(map(float, row)) for row in detected[i]]
            if image_boxes is None
            else [(*box, 1.0) for box in check_boxes(image_boxes, images[i].shape)]
            for i, image_boxes in enumerate(boxes)
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
    """Returns the `Predictor` of these weights; arguments as in `predict`. Raises MdwError for a bad argument.

    `size`: the input (width, height); None: the size at training. `warning`: see `Predictor`.
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

    Without boxes and without `detector` the whole image is one person's box; `mdw predict` uses the detector
    `mdw.inference.detector.DEFAULT` by itself. The function asks no questions; only a detector downloads its weights, the first
    time.

    `image`: a file, which is turned upright by its EXIF orientation, or RGB uint8 (H, W, 3). `boxes`: one (x, y, width, height)
    in pixels for each person; None: those of `detector`, a name of torchvision's. `weights`: a weights.safetensors, a run's
    folder or an official checkpoint with its network ("lite_hrnet_18=FILE.pth"); None: the network in the package. `device`:
    None is a GPU where there is one. `backend`: see `mdw.backends.choose.choose`.
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

    `boxes`: file name -> boxes (see `mdw.inference.boxes.read_boxes`) in the upright image; for other photos the detector finds
    the people, or the whole image is one person's box. `threshold`: see `Predictor.draw`. Each entry has image_id (see
    `image_ids`), category_id 1, keypoints [x, y, score] * J, score, and besides COCO's fields file_name, joints (the name of
    the joint set), box, box_score, box_from and, where the predictor has one, warning. Entries of earlier calls stay, except
    those with the file name of one of these photos. Threads decode photos and draw and encode overlays beside the network,
    `CHUNK` photos at a time, so that memory does not grow with their number. All files appear at the end, or none after an
    error. Returns the entries of these photos. Raises MdwError for a bad photo or box, where two overlays would have the same
    name, for a predictions.json of another kind, and its subclass `Nobody` where no person is found.
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
    with TemporaryDirectory(prefix=".overlays.", dir=out) as temporary, ThreadPoolExecutor(2) as pool:

        def draw(photo: Path, pixels: np.ndarray, people: list[dict]) -> None:
            drawn = predictor.draw(pixels, people, threshold, "" if people else "Nobody was found in this image.")
            write_image(overlay_path(Path(temporary), photo), drawn)

        images = zip(progress(photos), _ahead(pool, partial(read_image, upright=True), photos), strict=True)
        while chunk := list(islice(images, CHUNK)):
            people_of_chunk = predictor([pixels for _, pixels in chunk], [boxes.get(photo.name) for photo, _ in chunk])
            for job in drawing:
                job.result()
            drawing = [
                pool.submit(draw, photo, pixels, people) for (photo, pixels), people in zip(chunk, people_of_chunk, strict=True)
            ]
            for (photo, _), people in zip(chunk, people_of_chunk, strict=True):
                results += [to_result(person, ids[photo], predictor.joints) | {"file_name": photo.name} for person in people]
        for job in drawing:
            job.result()
        if not results:
            more = f" and {count(len(photos) - 1, 'more photo')}" if len(photos) > 1 else ""
            raise Nobody(f"there is no person in {photos[0]}{more}; lower --detector-threshold, or give the boxes with --boxes")
        for photo in photos:
            os.replace(overlay_path(Path(temporary), photo), overlay_path(out, photo))
    write_json(out / "predictions.json", earlier + results)
    return results


def read_predictions(path: Path, without: Sequence[Path] = ()) -> list[dict]:
    """Reads the entries of earlier calls of `predict_files` from `path`, except those of photos with these names.

    Raises MdwError where the file holds something else.
    """
    entries = read_json(path) if path.exists() else []
    annotations = {"image_id": int, "file_name": str}
    try:
        entries = [
            check_fields(str(path), entry, annotations, tuple(annotations))
            for entry in fit(str(path), entries, tuple[Any, ...])
        ]
    except MdwError:
        raise MdwError(f"{path} is not what an earlier call has left there; name another folder with --out") from None
    names = {photo.name for photo in without}
    return [entry for entry in entries if entry["file_name"] not in names]


def _ahead(pool: ThreadPoolExecutor, function: Callable, items: Iterable) -> Iterator:
    """Yields `function(item)` for each item, in order; threads of `pool` work `CHUNK` items ahead."""
    items, waiting = iter(items), deque[Future]()
    while True:
        waiting.extend(pool.submit(function, item) for item in islice(items, CHUNK + 1 - len(waiting)))
        if not waiting:
            return
        yield waiting.popleft().result()


def to_result(person: dict, image_id: int, joints: JointSet) -> dict:
    """Returns a person of `predict` as an entry of COCO's results form, with more fields: joints, box, box_score, box_from."""
    return {
        "image_id": image_id,
        "category_id": 1,
        "keypoints": np.round(person["keypoints"].astype(float), 3).ravel().tolist(),
        "score": round(person["score"], 5),
        "joints": joints.name,
        "box": [round(side, 3) for side in person["box"]],  # "bbox" would make the entry a detection for pycocotools
        "box_score": round(person["box_score"], 5),
    } | {name: person[name] for name in ("box_from", "warning") if name in person}


def image_ids(photos: Sequence[Path], taken: Collection[int] = ()) -> dict[Path, int]:
    """Returns the photos' ids: their names, as in COCO, where these are different numbers; else numbers from 1 on.

    Ids in `taken` are not used.
    """
    numbers = {int(photo.stem) for photo in photos if photo.stem.isdecimal()} - set(taken)
    if len(numbers) == len(photos):
        return {photo: int(photo.stem) for photo in photos}
    return dict(zip(photos, (number for number in itertools.count(1) if number not in taken), strict=False))


def overlay_path(out: Path, photo: Path) -> Path:
    """Returns the path of the overlay of `photo`: out/<photo>.overlay.jpg, or .png for a PNG photo, which is lossless."""
    return out / f"{photo.stem}.overlay{'.png' if photo.suffix.lower() == '.png' else '.jpg'}"


def one_name_each(files: Sequence[Path]) -> None:
    """Raise MdwError where the overlays of two files would have the same name."""
    by_stem: dict[str, Path] = {}
    for file in files:
        earlier = by_stem.setdefault(file.stem.casefold(), file)
        if earlier is not file:
            raise MdwError(f"{earlier} and {file} would both be written as {file.stem}.overlay; give them one --out each")
