"""Finds image and video files, and reads and checks the boxes of people in them."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from mdw.pose import coco_files
from mdw.util.errors import MdwError
from mdw.util.files import read_bytes

IMAGES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")  # in folders; a file given by name may have any suffix
VIDEOS = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv")


def find_files(paths: Iterable[str | Path]) -> tuple[list[Path], list[Path]]:
    """Returns the images and the videos among `paths` and in the folders among them, by suffix.

    Raises MdwError for a missing path and for a folder without either.
    """
    photos: list[Path] = []
    videos: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            files = sorted(p for p in path.iterdir() if p.suffix.lower() in IMAGES + VIDEOS and not _is_skipped(p))
            if not files:
                raise MdwError(f"{path} holds no image (jpg, png, webp, bmp or tiff) and no video; name another folder")
        elif path.exists():
            files = [path]
        else:
            raise MdwError(f"{path} does not exist; name an image, a video or a folder of them")
        for file in files:
            (videos if file.suffix.lower() in VIDEOS else photos).append(file)
    return photos, videos


def _is_skipped(path: Path) -> bool:
    """Returns whether a file is an overlay of an earlier call or hidden; Macs write a hidden file beside every other."""
    return path.stem.endswith(".overlay") or path.name.startswith(".")


def check_boxes(boxes: Sequence, shape: tuple[int, ...], where: str = "the image") -> list[tuple[float, float, float, float]]:
    """Returns the boxes as four floats each. Raises MdwError, naming `where`, for a bad one or one outside (height, width)."""
    checked = []
    for box in boxes:
        try:
            x, y, width, height = map(float, box)
        except (TypeError, ValueError):
            raise MdwError(f"the box {box} of {where} is no (x, y, width, height); mend it") from None
        box = (x, y, width, height)
        if not np.isfinite(box).all() or width <= 0 or height <= 0:
            raise MdwError(f"the box {box} of {where} is no (x, y, width, height) with positive width and height; mend it")
        if x >= shape[1] or y >= shape[0] or x + width <= 0 or y + height <= 0:
            size = f"{shape[1]} x {shape[0]}"
            raise MdwError(f"the box {box} lies outside {where}, which is {size} pixels when upright; mend it")
        checked.append(box)
    return checked


def parse_box(text: str) -> list[float]:
    """Returns "x,y,width,height" as four numbers. Raises MdwError for anything else."""
    try:
        x, y, width, height = map(float, text.split(","))
    except ValueError:
        raise MdwError(f"--box {text!r} is no x,y,width,height; write for example --box 120,40,200,380") from None
    return [x, y, width, height]


def read_boxes(path: str | Path) -> dict[str, list]:
    """Reads boxes by file name from JSON: {"photo.jpg": [[x, y, width, height], ...]} or a file of COCO annotations.

    Of COCO annotations the persons are used, or all objects where no category is called "person".
    """
    value = coco_files.parse(read_bytes(path), path)
    if isinstance(value, dict) and {"images", "annotations"} <= value.keys():
        truth = coco_files.read(value, coco_files.Boxes, path)
        names = {id: image.file_name for id, image in coco_files.check_image_ids(truth.images, path).items()}
        people = {category.id for category in truth.categories if category.name == "person"}
        boxes: dict[str, list] = {name: [] for name in names.values()}
        for index, entry in enumerate(truth.annotations):
            if entry.image_id not in names:
                raise coco_files.refuse(path, f"annotations[{index}].image_id", entry.image_id, "the id of a listed image")
            if not entry.iscrowd and (not people or entry.category_id in people):
                boxes[names[entry.image_id]].append(entry.bbox)
        return boxes
    if isinstance(value, dict) and all(isinstance(boxes, list) for boxes in value.values()):
        return {photo: coco_files.read(rows, list[list[float]], f"{path}, {photo!r},") for photo, rows in value.items()}
    raise MdwError(f'{path} holds no boxes; write {{"photo.jpg": [[x, y, width, height], ...]}} or COCO annotations')
