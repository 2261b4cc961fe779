"""Draws skeletons over images, legends and contact sheets, and writes images. RGB uint8 throughout."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mdw.pose.joints import JointSet
from mdw.util.errors import MdwError
from mdw.util.files import write_bytes

# Okabe & Ito's palette, safe for common colour blindness; sides are the person's own.
COLOURS = {"left": (86, 180, 233), "right": (230, 159, 0), "middle": (240, 240, 240)}
OUTLINE = (20, 20, 20)  # around every line, so that it stands out on bright and dark images
WARNING = (255, 194, 61)  # the background of a warning, and the frame of a person whose pose is not reliable
# A joint of this score is right half of the time: PCK@0.2 of the shipped MDW-HRNet-18, with the flip test, on the 836 people of
# LSPET's val, which it was not trained on. The same holds for this mean score of a person. See benchmarks/joint_scores.py.
SURE = 0.38
_SHIFT = 4  # OpenCV draws in sixteenths of a pixel


def overlay(
    image: np.ndarray, keypoints: np.ndarray, joints: JointSet, threshold: float = 0.2, scores: np.ndarray | None = None
) -> np.ndarray:
    """Returns a copy of `image` (H, W, 3) with the skeletons of N persons drawn over it.

    `keypoints`: (N, J, 3) with x, y in image pixels and a score (or visibility), or (N, J, 2) with separate `scores` (N, J),
    all 1 by default; one person may also be (J, 3) or (J, 2). Limbs are drawn between joints of score >= `threshold`, coloured
    by the person's left, right and middle. Such joints are filled, weaker ones hollow, those of score <= 0 left out. Line
    widths grow with the image. Raises ValueError where the shapes do not fit.
    """
    keypoints = np.asarray(keypoints, np.float64)
    keypoints = keypoints[None] if keypoints.ndim == 2 else keypoints
    if keypoints.ndim != 3 or keypoints.shape[1] != joints.num_joints or keypoints.shape[2] not in (2, 3):
        raise ValueError(f"keypoints have the shape {keypoints.shape}, not (N, {joints.num_joints}, 2 or 3)")
    if scores is not None:
        scores = np.asarray(scores, np.float64).reshape(keypoints.shape[:2])
    else:
        scores = keypoints[..., 2] if keypoints.shape[2] == 3 else np.ones(keypoints.shape[:2])
    canvas = np.ascontiguousarray(image).copy()
    width = max(1, round(max(canvas.shape[:2]) / 220))
    edge = max(1, round(width / 3))
    sides = [side(name) for name in joints.names]
    for xy, score in zip(keypoints[..., :2], scores, strict=True):
        finite = np.isfinite(xy).all(axis=1)
        points = [_fixed(p) if ok else (0, 0) for p, ok in zip(xy, finite, strict=True)]
        drawn, shown = finite & (score >= threshold) & (score > 0), finite & (score > 0)
        limbs = [(a, b) for a, b in joints.limbs if drawn[a] and drawn[b]]
        for a, b in limbs:  # all outlines first: they must not cover the colour of other limbs
            cv2.line(canvas, points[a], points[b], OUTLINE, width + 2 * edge, cv2.LINE_AA, _SHIFT)
        for a, b in limbs:
            cv2.line(canvas, points[a], points[b], COLOURS[limb_side(sides[a], sides[b])], width, cv2.LINE_AA, _SHIFT)
        radius = int((1.2 * width + 0.5) * 2**_SHIFT)
        for j in np.flatnonzero(shown):
            if drawn[j]:
                cv2.circle(canvas, points[j], radius + edge * 2**_SHIFT, OUTLINE, -1, cv2.LINE_AA, _SHIFT)
                cv2.circle(canvas, points[j], radius, COLOURS[sides[j]], -1, cv2.LINE_AA, _SHIFT)
            else:
                ring = max(1, width // 2)
                cv2.circle(canvas, points[j], radius + 2**_SHIFT, OUTLINE, ring + 2 * edge, cv2.LINE_AA, _SHIFT)
                cv2.circle(canvas, points[j], radius + 2**_SHIFT, COLOURS[sides[j]], ring, cv2.LINE_AA, _SHIFT)
    return canvas


def frame(image: np.ndarray, box: Sequence[float], label: str) -> np.ndarray:
    """Returns a copy of `image` with a dashed frame around `box` (x, y, width, height, px) and `label` in it if it fits."""
    canvas = np.ascontiguousarray(image).copy()
    width = max(1, round(max(canvas.shape[:2]) / 400))
    far = np.array(canvas.shape[1::-1]) - 1 - width
    low, high = (np.clip(np.round(corner), width, far).astype(int) for corner in (box[:2], np.add(box[:2], box[2:])))
    dash = max(4, 5 * width)
    corners = [tuple(map(int, corner)) for corner in (low, (high[0], low[1]), high, (low[0], high[1]))]
    for colour, thick in ((OUTLINE, 3 * width), (WARNING, width)):
        for a, b in zip(corners, corners[1:] + corners[:1], strict=True):
            length = max(abs(b[0] - a[0]), abs(b[1] - a[1]))
            for begin in range(0, length, 2 * dash):
                ends = [
                    np.round(np.add(a, np.subtract(b, a) * min(position, length) / length))
                    for position in (begin, begin + dash)
                ]
                start, end = (tuple(map(int, point)) for point in ends)
                cv2.line(canvas, start, end, colour, thick)
    tag = strip(label, paper=WARNING, ink=OUTLINE, size=_letters(canvas.shape[1]))
    if (2 * np.array(tag.shape[1::-1]) <= high - low).all():
        canvas[low[1] : low[1] + tag.shape[0], low[0] : low[0] + tag.shape[1]] = tag
    return canvas


def caption(image: np.ndarray, legend: str, warning: str = "") -> np.ndarray:
    """Returns `image` with `legend` in a strip below it and, if given, `warning` in a bright strip between them.

    The words left, right and middle have a patch of their colour before them. Nothing is added above, so that pixel
    coordinates stay the same.
    """
    width, size = image.shape[1], _letters(image.shape[1])
    below = [strip(warning, width, WARNING, OUTLINE, size)] if warning else []
    return np.concatenate([image, *below, strip(legend, width, OUTLINE, COLOURS["middle"], size)])


@lru_cache(16)
def strip(
    text: str, width: int | None = None, paper: tuple = OUTLINE, ink: tuple = COLOURS["middle"], size: int = 12
) -> np.ndarray:
    """Returns an image of `text` in letters of `size` pixels on colour `paper`: an even number of rows, `width` columns.

    The text is wrapped to `width`; without `width` it is one line, as wide as needed.
    """
    font, margin = ImageFont.load_default(size), size // 2
    rows, x, words = 0, float(margin), []
    patch = round(0.7 * size)
    for word in text.split():
        length = font.getlength(word) + (patch + margin if word in COLOURS else 0)
        if width is not None and x > margin and x + length > width - margin:
            rows, x = rows + 1, margin
        words.append((x, rows, word))
        x += length + font.getlength(" ")
    line = round(1.35 * size)
    height = (rows + 1) * line + margin
    page = Image.new("RGB", (width or round(x + margin), height + height % 2), paper)
    drawing = ImageDraw.Draw(page)
    for x, row, word in words:
        y = margin // 2 + row * line
        if colour := COLOURS.get(word):
            drawing.rectangle((x, y + size // 4, x + patch, y + size // 4 + patch), colour)
            x += patch + margin
        drawing.text((x, y), word, ink, font)
    return np.asarray(page)


def _letters(width: int) -> int:
    """Returns the size of letters, in pixels, for an image of this width."""
    return min(max(round(width / 42), 11), 40)


def sheet(images: Sequence[np.ndarray], columns: int = 4, size: tuple[int, int] = (320, 320), gap: int = 4) -> np.ndarray:
    """Returns a contact sheet on white: each image fitted into a cell of `size` (width, height), row by row."""
    if not len(images):
        raise ValueError("a sheet needs at least one image")
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    w, h = size
    page = np.full((rows * (h + gap) + gap, columns * (w + gap) + gap, 3), 255, np.uint8)
    for index, image in enumerate(images):
        factor = min(w / image.shape[1], h / image.shape[0])
        fitted = (max(1, round(image.shape[1] * factor)), max(1, round(image.shape[0] * factor)))
        small = cv2.resize(image, fitted, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC)
        y = gap + (index // columns) * (h + gap) + (h - fitted[1]) // 2
        x = gap + (index % columns) * (w + gap) + (w - fitted[0]) // 2
        page[y : y + fitted[1], x : x + fitted[0]] = small
    return page


def write_image(path: str | Path, rgb: np.ndarray) -> Path:
    """Write RGB uint8 (H, W, 3) as .png, .jpg or .webp, atomically. Raises MdwError for any other suffix."""
    path = Path(path)
    if path.suffix.lower() not in (".png", ".jpg", ".jpeg", ".webp"):
        raise MdwError(f"{path} has no image's ending; call it .png, .jpg or .webp")
    ok, data = cv2.imencode(path.suffix.lower(), cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
    if not ok:
        raise MdwError(f"cannot encode {path} ({rgb.shape[1]} x {rgb.shape[0]} pixels); choose .png or a smaller image")
    return write_bytes(path, data.tobytes())


def side(joint: str) -> str:
    """Returns the person's side that a joint of this name is on: "left", "right" or "middle"."""
    return next((s for s in ("left", "right") if joint.startswith(s)), "middle")


def limb_side(a: str, b: str) -> str:
    """Returns the side of a limb, from its ends' sides: one side if no end is on the other, else "middle"."""
    sides = {a, b} - {"middle"}
    return sides.pop() if len(sides) == 1 else "middle"


def _fixed(point: np.ndarray) -> tuple[int, int]:
    """Returns OpenCV's fixed-point coordinates; far-away points are clipped, because they would overflow its integers."""
    x, y = np.round(np.clip(point, -1e5, 1e5) * 2**_SHIFT).astype(int)
    return int(x), int(y)
