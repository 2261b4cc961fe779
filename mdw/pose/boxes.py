"""From an annotation or a detection to the crop the network sees: a centre in pixels and a scale in units of 200 px.

Rules of the official HRNet data sets (COCO, MPII). Image coordinates count from 0, x right, y down, an integer is a
pixel's centre. `200 * scale` is the (width, height) of the crop in image pixels.
"""

import numpy as np
from numpy.typing import ArrayLike

from mdw.util.errors import MdwError

PIXEL_STD = 200.0  # px per unit of scale, inherited from MPII's person height


def box_to_center_scale(box_xywh: ArrayLike, size: tuple[float, float], padding: float = 1.25) -> tuple[np.ndarray, np.ndarray]:
    """Returns centre and scale of the crop around a box, enlarged to the network's aspect ratio and padded.

    box_xywh: (4,) or (N, 4), left, top, width, height in pixels; used as it is, not clipped. size: (w, h) of the
    network's input, of which only the ratio counts. Returns float32 (2,) and (2,), or (N, 2) and (N, 2). A box of zero
    size gives a scale of zero. As in HRNet, there is no padding where the centre's x is exactly -1 (MPII's mark for "no
    box"). Raises MdwError for another shape or a number that is not finite.
    """
    box = np.asarray(box_xywh, np.float64)
    if box.shape == (0,):
        box = box.reshape(0, 4)
    if box.ndim not in (1, 2) or box.shape[-1] != 4:
        raise MdwError(f"a box must be (4,) or (N, 4): x, y, width, height; not {box.shape}")
    if not np.isfinite(box).all():
        raise MdwError("a box holds a number that is not finite; leave that person out")
    center = (box[..., :2] + box[..., 2:] * 0.5).astype(np.float32)
    scale = extent_to_scale(box[..., 2:], size)
    padded = center[..., :1] != -1
    return center, np.where(padded, scale * np.float32(padding), scale)


def extent_to_scale(extent: np.ndarray, size: tuple[float, float]) -> np.ndarray:
    """Returns (..., 2) width, height (px) enlarged to the aspect of `size`: float32 (..., 2), units of 200 px, unpadded."""
    aspect = _aspect(size)
    width, height = extent[..., 0], extent[..., 1]
    wide, tall = width > aspect * height, width < aspect * height
    enlarged = np.stack([np.where(tall, height * aspect, width), np.where(wide, width / aspect, height)], axis=-1)
    return (enlarged / PIXEL_STD).astype(np.float32)


def mpii_center_scale(center: ArrayLike, scale: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Returns centre and scale for MPII's person position: 15 px per unit of scale down, padding 1.25, minus MATLAB's 1.

    center: (2,) or (N, 2) as annotated, counting from 1; scale: () or (N,). A centre with x = -1 is neither moved nor padded.
    Returns float64 centre counting from 0 and float64 (scale, scale), both in the shape of `center`. Joints need minus 1, too.
    """
    center, scale = np.array(center, np.float64), np.asarray(scale, np.float64)
    if center.shape[-1:] != (2,) or center.shape[:-1] != scale.shape:
        raise MdwError(f"MPII centre (N, 2) and scale (N,) do not fit together: {center.shape} and {scale.shape}")
    placed = center[..., 0] != -1
    center[..., 1] += np.where(placed, 15 * scale, 0.0)
    scale = np.where(placed, 1.25 * scale, scale)
    return center - 1, np.stack([scale, scale], axis=-1)


def clip_box(box_xywh: ArrayLike, image_size: tuple[int, int], area: float = 1.0, strict: bool = False) -> np.ndarray | None:
    """Returns an annotated box clipped to its image by HRNet's rule, which makes it a pixel narrower and lower.

    box_xywh: (4,) as annotated. image_size: (width, height). area: the annotation's `area`. Returns float64 (4,) x, y, width,
    height, or None where HRNet drops the annotation: no area, or the box is outside. A negative corner moves to 0 without
    shortening the box. strict=True is mmpose's rule, which also drops a box one pixel wide or high. Raises MdwError for another
    shape or a number that is not finite.
    """
    box = np.asarray(box_xywh, np.float64)
    if box.shape != (4,) or not np.isfinite(box).all():
        raise MdwError("an annotated box must be four finite numbers x, y, width, height")
    (clipped,) = clip_boxes(box[None], np.asarray(image_size, np.float64)[None])
    if not area > 0 or (clipped[2:] < 0).any() or (strict and (clipped[2:] == 0).any()):
        return None
    return clipped


def clip_boxes(boxes: np.ndarray, image_sizes: np.ndarray) -> np.ndarray:
    """Returns boxes (N, 4) clipped as by `clip_box` to their images (N, 2), float64; outside them the extent is negative."""
    low = np.maximum(0.0, boxes[:, :2])
    high = np.minimum(image_sizes - 1, low + np.maximum(0.0, boxes[:, 2:] - 1))
    return np.concatenate([low, high - low], axis=1)


def joints_box(joints: ArrayLike, visible: ArrayLike) -> np.ndarray | None:
    """Returns the tight box (4,) x, y, width, height, float64, around the joints (J, 2) with `visible` (J,) > 0; or None.

    LSP and LSPET have no person boxes; it is our choice to pass this box to `box_to_center_scale`.
    """
    labelled = np.asarray(joints, np.float64)[np.asarray(visible) > 0]
    if not len(labelled):
        return None
    low, high = labelled.min(axis=0), labelled.max(axis=0)
    return np.concatenate([low, high - low])


def _aspect(size: tuple[float, float]) -> float:
    width, height = size
    if not (width > 0 and height > 0):
        raise MdwError(f"the input size must be two positive numbers (w, h), not {tuple(size)}")
    return width / height
