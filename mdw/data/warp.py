"""Cuts a person out of an image as the network's input. NumPy and OpenCV only.

OpenCV uses its own threads for a warp; where many processes load data, call `cv2.setNumThreads(0)` at the start of each.
"""

import cv2
import numpy as np
from numpy.typing import ArrayLike

from mdw.pose.affine import affine_matrix, apply
from mdw.util.errors import MdwError

MEAN = (0.485, 0.456, 0.406)  # ImageNet, RGB, of values 0..1
STD = (0.229, 0.224, 0.225)


def crop(
    image: np.ndarray, center: ArrayLike, scale: ArrayLike, rotation: float, size: tuple[int, int], flip: bool = False
) -> np.ndarray:
    """Returns the person's crop, uint8 RGB (h, w, 3), bilinear, black outside the image.

    image: uint8 RGB (H, W, 3). center, scale, rotation, size (w, h) as in `affine_matrix`. flip: the image is mirrored first,
    and `center` is in the mirrored image (as from `augment`). A crop of zero size is black. OpenCV 4 rounds the sampling
    position to 1/32 px, OpenCV 5 does not: crops differ by up to 4 grey levels.
    """
    width, height = (int(side) for side in size)
    if width < 1 or height < 1:
        raise MdwError(f"the size of a crop must be two positive numbers (w, h), not {tuple(size)}")
    return warp(image, affine_matrix(center, scale, rotation, (width, height)), (width, height), flip)


def warp(image: np.ndarray, matrix: np.ndarray, size: tuple[int, int], flip: bool = False) -> np.ndarray:
    """Returns `crop` by a given matrix (2, 3), from pixels of the image (mirrored if `flip`) to pixels of the crop."""
    image = np.asarray(image)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise MdwError(f"an image must be uint8 (H, W, 3), not {image.dtype} {image.shape}")
    if not matrix[:, :2].any():
        return np.zeros((size[1], size[0], 3), np.uint8)
    image = cv2.flip(image, 1) if flip else np.ascontiguousarray(image)
    return cv2.warpAffine(image, matrix, size, flags=cv2.INTER_LINEAR)


def joints_to_crop(
    joints: ArrayLike, visible: ArrayLike, center: ArrayLike, scale: ArrayLike, rotation: float, size: tuple[int, int]
) -> np.ndarray:
    """Returns joints (J, 2) with `visible` (J,) > 0 in crop pixels, float64 (J, 2), and the others unchanged."""
    joints = np.asarray(joints, np.float64)
    transformed = apply(affine_matrix(center, scale, rotation, size), joints)
    return np.where((np.asarray(visible) > 0)[:, None], transformed, joints)


def normalise(crop: np.ndarray) -> np.ndarray:
    """Returns uint8 RGB (..., h, w, 3) as float32 (..., 3, h, w): (value / 255 - mean) / deviation, both ImageNet's."""
    pixels = np.moveaxis(np.asarray(crop), -1, -3).astype(np.float32, order="C")
    mean, std = (np.array(values, np.float32)[:, None, None] for values in (MEAN, STD))
    pixels /= 255
    pixels -= mean
    pixels /= std
    return pixels
