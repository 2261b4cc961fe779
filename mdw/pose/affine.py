"""The similarity transform between image and crop (or heatmap): rotation, then scaling by the ratio of the widths.

It is computed as in the official HRNet code, from three float32 point pairs solved in float64, so that the numbers are equal;
the closed form differs by up to a hundredth of a pixel. There are no half-pixel terms: the middle of the crop is (w/2, h/2) at
every resolution.
"""

import numpy as np
from numpy.typing import ArrayLike

from mdw.pose.boxes import PIXEL_STD
from mdw.util.errors import MdwError


def affine_matrix(
    center: ArrayLike,
    scale: ArrayLike,
    rotation_deg: ArrayLike,
    size: tuple[int, int],
    shift: ArrayLike = (0.0, 0.0),
    inverse: bool = False,
) -> np.ndarray:
    """Returns the float64 (2, 3) matrix from image to an output of `size` (w, h), pixels; inverse=True: from output to image.

    center: (2,) px. scale: (2,) or one number, in units of 200 px; only its width counts. rotation_deg > 0 turns the
    image counter-clockwise. shift: (2,) moves the centre, in fractions of the crop. With leading axes, (N, 2), (N, 2),
    (N,), the result is (N, 2, 3). A crop of zero width has no matrix and gives zeros (as OpenCV's solver does); its
    inverse sends every point to the centre. Raises MdwError where a number is not finite or a shape is wrong.
    """
    center, scale, shift = _floating(center), _floating(scale), _floating(shift)
    if scale.ndim == 0:
        scale = np.stack([scale, scale])
    if not (center.shape[-1:] == scale.shape[-1:] == shift.shape[-1:] == (2,)):
        raise MdwError(f"centre, scale and shift must be (..., 2), not {center.shape}, {scale.shape}, {shift.shape}")
    theta = np.pi * np.asarray(rotation_deg, np.float64) / 180
    if not (np.isfinite(center).all() and np.isfinite(scale).all() and np.isfinite(theta).all() and np.isfinite(shift).all()):
        raise MdwError("centre, scale, rotation and shift of a crop must be finite numbers; leave that person out")
    width, height = size

    extent = scale * PIXEL_STD  # stays float32 where scale is: the official rounding
    offset = extent * shift
    arm = extent[..., 0] * -0.5
    direction = np.stack(np.broadcast_arrays(-arm * np.sin(theta), arm * np.cos(theta)), axis=-1)
    crop = _three_points(center + offset, center + direction + offset)
    middle = np.array([width * 0.5, height * 0.5])
    output = _three_points(middle, middle + np.array([0.0, width * -0.5]))
    return _solve(output, crop) if inverse else _solve(crop, output)


def apply(matrix: ArrayLike, points: ArrayLike) -> np.ndarray:
    """Returns the points transformed by the matrix: float64, in the shape of `points`.

    matrix (2, 3) with points (2,) or (..., 2), or one matrix per group: (N, 2, 3) with (N, K, 2). A NaN stays a NaN.
    """
    matrix, points = np.asarray(matrix, np.float64), np.asarray(points, np.float64)
    if matrix.shape[-2:] != (2, 3) or points.shape[-1:] != (2,):
        raise MdwError(f"a matrix must be (..., 2, 3) and points (..., 2), not {matrix.shape} and {points.shape}")
    if matrix.ndim > 2:
        matrix = matrix[..., None, :, :]  # one matrix for the K points of its group
    x, y = points[..., 0], points[..., 1]
    return np.stack([matrix[..., i, 0] * x + matrix[..., i, 1] * y + matrix[..., i, 2] for i in (0, 1)], axis=-1)


def _floating(value: ArrayLike) -> np.ndarray:
    value = np.asarray(value)
    return value if value.dtype in (np.float32, np.float64) else value.astype(np.float64)


def _three_points(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Returns (..., 3, 2) float32: both points and a third one at a right angle to them, at the second."""
    start, end = start.astype(np.float32), end.astype(np.float32)
    start, end = np.broadcast_arrays(start, end)
    along = start - end
    third = end + np.stack([-along[..., 1], along[..., 0]], axis=-1)
    return np.stack([start, end, third], axis=-2)


def _solve(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Returns the (..., 2, 3) float64 matrix from three source points to three target points; zeros where those coincide."""
    source, target = source.astype(np.float64), target.astype(np.float64)
    e1, e2 = source[..., 1, :] - source[..., 0, :], source[..., 2, :] - source[..., 1, :]
    f1, f2 = target[..., 1, :] - target[..., 0, :], target[..., 2, :] - target[..., 1, :]
    det = e1[..., 0] * e2[..., 1] - e1[..., 1] * e2[..., 0]
    regular = (det != 0)[..., None]
    det = np.where(regular[..., 0], det, 1.0)[..., None]
    column_x = (f1 * e2[..., 1:] - f2 * e1[..., 1:]) / det  # image of the unit step in x
    column_y = (f2 * e1[..., :1] - f1 * e2[..., :1]) / det
    offset = target[..., 0, :] - column_x * source[..., 0, :1] - column_y * source[..., 0, 1:]
    return np.where(regular[..., None], np.stack(np.broadcast_arrays(column_x, column_y, offset), axis=-1), 0.0)
