"""Photos in, poses out."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from torch import nn

from mdw.computation import choose, for_use
from mdw.data.sample import Dataset, Sample, read_image
from mdw.draw import overlay, write_image
from mdw.errors import MdwError
from mdw.evaluate import predict_dataset
from mdw.files import read_json, write_json
from mdw.pose.boxes import box_to_center_scale
from mdw.pose.joints import JointSet
from mdw.weights import load_network


def predict(
    image: str | Path | np.ndarray,
    weights: str | Path | None = None,
    boxes: Sequence[Sequence[float]] | None = None,
    flip_test: bool = True,
    device: str = "cpu",
    computation: str = "auto",
) -> list[dict]:
    """Find the joints of the people in one picture.

    `image`: a file or RGB uint8 (H, W, 3). `boxes`: one (x, y, width, height) in pixels for each person; None takes the
    whole picture as one person's box. `weights`: a weights.safetensors or a run's folder; None takes the network that comes
    with the package. Returns one dict per box: "keypoints" (J, 3) array of x, y in pixels and score, "score" (mean of the
    joint scores), "box", "joints" (the joints' names, in order). `computation`: see `mdw.computation.choose`. Raises MdwError
    for an unreadable picture or bad boxes.
    """
    network = _network(weights, device, computation)
    pixels = read_image(image) if isinstance(image, str | Path) else np.asarray(image)
    return _people(pixels, boxes, network, flip_test, device)


def predict_files(
    photos: Sequence[Path],
    out: Path,
    weights: str | Path | None = None,
    boxes: dict[str, list] | None = None,
    flip_test: bool = True,
    device: str = "cpu",
    threshold: float = 0.2,
    progress=iter,
    computation: str = "auto",
) -> list[dict]:
    """Write `out/<photo>.overlay.png` for every photo and `out/predictions.json`, in COCO's results form, for all.

    `boxes`: file name -> boxes (see `read_boxes`); a photo that is not in it is taken as one person's box. Each entry has
    image_id (the number in the file's name, else its place in the list, from 1), category_id 1, keypoints [x, y, score] * J,
    score, and file_name. Every photo is read before anything is written. Returns the entries.
    """
    network = _network(weights, device, computation)
    pictures = [read_image(photo) for photo in photos]
    results, drawn = [], []
    for place, (photo, pixels) in enumerate(progress(list(zip(photos, pictures, strict=True))), 1):
        people = _people(pixels, (boxes or {}).get(photo.name), network, flip_test, device)
        keypoints = np.stack([person["keypoints"] for person in people]) if people else np.zeros((0, 1, 3))
        picture = overlay(pixels, keypoints, network[1], threshold) if people else pixels
        drawn.append((out / f"{photo.stem}.overlay.png", picture))
        for person in people:
            results.append(
                {
                    "image_id": int(photo.stem) if photo.stem.isdecimal() else place,
                    "category_id": 1,
                    "keypoints": np.round(person["keypoints"].astype(float), 3).ravel().tolist(),
                    "score": round(person["score"], 5),
                    "file_name": photo.name,
                }
            )
    for path, picture in drawn:
        write_image(path, picture)
    write_json(out / "predictions.json", results)
    return results


def find_photos(paths: Iterable[str | Path]) -> list[Path]:
    """The picture files named, and those in the folders named. Raises MdwError for one that is missing or empty."""
    photos = []
    for path in map(Path, paths):
        if path.is_dir():
            inside = sorted(p for p in path.iterdir() if p.suffix.lower() in (".jpg", ".jpeg", ".png", ".webp", ".bmp"))
            if not inside:
                raise MdwError(f"{path} holds no picture (jpg, png, webp or bmp); name another folder")
            photos += inside
        elif path.exists():
            photos.append(path)
        else:
            raise MdwError(f"{path} does not exist; name a picture or a folder of pictures")
    return photos


def read_boxes(path: str | Path) -> dict[str, list]:
    """Boxes by file name from JSON: {"photo.jpg": [[x, y, width, height], ...]} or a file in COCO's annotation form."""
    value = read_json(path)
    if isinstance(value, dict) and {"images", "annotations"} <= value.keys():
        try:
            names = {image["id"]: image["file_name"] for image in value["images"]}
            boxes: dict[str, list] = {name: [] for name in names.values()}
            for entry in value["annotations"]:
                if not entry.get("iscrowd"):
                    boxes[names[entry["image_id"]]].append(entry["bbox"])
            return boxes
        except (KeyError, TypeError) as error:
            raise MdwError(f"{path} looks like COCO annotations but has an entry without {error}; mend that entry") from None
    if isinstance(value, dict) and all(isinstance(boxes, list) for boxes in value.values()):
        return value
    raise MdwError(f'{path} holds no boxes; write {{"photo.jpg": [[x, y, width, height], ...]}} or COCO annotations')


def _network(weights: str | Path | None, device: str, computation: str) -> tuple[nn.Module, JointSet, tuple[int, int]]:
    model, joints, size = load_network(weights)
    return for_use(model.to(device), choose(computation, device)), joints, size


def _people(
    pixels: np.ndarray, boxes, network: tuple[nn.Module, JointSet, tuple[int, int]], flip_test: bool, device: str
) -> list[dict]:
    model, joints, size = network
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
        raise MdwError(f"the picture is {pixels.dtype} {pixels.shape}; give RGB uint8 (height, width, 3)")
    height, width = pixels.shape[:2]
    boxes = [(0, 0, width, height)] if boxes is None else [tuple(map(float, box)) for box in boxes]
    for box in boxes:
        if len(box) != 4 or not np.isfinite(box).all() or box[2] <= 0 or box[3] <= 0:
            raise MdwError(f"the box {box} is no (x, y, width, height) with positive width and height; mend it")
    samples = []
    for index, box in enumerate(boxes):
        center, scale = box_to_center_scale(box, size)
        nothing = np.zeros((joints.num_joints, 2)), np.zeros(joints.num_joints)
        samples.append(Sample(lambda: pixels, 1, index + 1, center, scale, *nothing))
    xy, scores = predict_dataset(model, Dataset("picture", joints, tuple(samples)), size, flip_test, device=device)
    return [
        {
            "keypoints": np.concatenate([xy[i], scores[i][:, None]], axis=1),
            "score": float(scores[i].mean()),
            "box": boxes[i],
            "joints": joints.names,
        }
        for i in range(len(boxes))
    ]
