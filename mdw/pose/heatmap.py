"""Joints to heatmaps and back: Gaussian targets, peak with quarter-pixel step, flip test.

Coordinates are the "biased" ones of the official HRNet code: heatmap = crop / stride with no half-pixel terms. W, H below are a
heatmap's width and height; a map is indexed [y, x].
"""

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from mdw.pose.affine import affine_matrix, apply
from mdw.util.errors import MdwError

BLUR_KERNEL = {
    2: 11,
    3: 17,
}  # Gaussian filter before decoding, by the target's sigma (mmpose's values; the MDW article only names the filter)


def encode(
    joints_xy: ArrayLike,
    visible: ArrayLike,
    input_size: tuple[int, int],
    heatmap_size: tuple[int, int],
    sigma: float,
    joint_weights: ArrayLike | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns targets for the loss: one Gaussian a joint, its peak 1 at the nearest heatmap pixel, cut off beyond 3 sigma.

    joints_xy: (..., J, 2) crop pixels; visible: (..., J) training weight, 0 or 1; input_size (w, h); heatmap_size (W,
    H); sigma in heatmap pixels. Returns target (..., J, H, W) and weight (..., J), float32. A joint more than 3 sigma
    outside the map gets weight 0; nearer to it, the joint keeps its weight and the part of its Gaussian inside the map.
    joint_weights: (J,) factors on the weight (`JointSet.importance`), normally None. A joint with visible = 0 may have any
    position, also NaN. Raises MdwError for a visible joint that is not finite and for shapes that do not fit.
    """
    column, row, weight = encode_factors(joints_xy, visible, input_size, heatmap_size, sigma, joint_weights)
    return column[..., :, None] * row[..., None, :], weight


def encode_factors(
    joints_xy: ArrayLike,
    visible: ArrayLike,
    input_size: tuple[int, int],
    heatmap_size: tuple[int, int],
    sigma: float,
    joint_weights: ArrayLike | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the factors of `encode`'s targets: column (..., J, H), row (..., J, W) and weight (..., J), float32."""
    joints, weight = np.asarray(joints_xy, np.float64), np.asarray(visible, np.float64)
    if joints.shape[-1:] != (2,) or joints.shape[:-1] != weight.shape:
        raise MdwError(f"joints must be (..., J, 2) and visible (..., J), not {joints.shape} and {weight.shape}")
    if not sigma > 0:
        raise MdwError(f"sigma must be positive, not {sigma}; the recipes use 2 or 3")
    finite = np.isfinite(joints).all(axis=-1)
    if not np.isfinite(weight).all() or (~finite & (weight != 0)).any():
        raise MdwError("a visible joint has a position or weight that is not finite; set its visibility to 0")
    width, height = heatmap_size
    stride = np.array([input_size[0] / width, input_size[1] / height])
    reach = 3 * sigma

    joints = np.where(np.asarray(finite)[..., None], joints, 0.0)
    mu = np.trunc(np.clip(joints / stride + 0.5, -(2.0**20), 2.0**20))  # towards zero, as int() does; (-1.5, 0.5) lands on 0
    # "< 0" and not "<= 0": one pixel further out the map is empty and still supervised, as in the official code.
    outside = (mu - reach >= (width, height)).any(axis=-1) | (mu + reach + 1 < 0).any(axis=-1)
    weight = np.where(outside, 0.0, weight)
    row = _gaussian(mu[..., 0], width, sigma, reach) * (weight > 0.5)[..., None].astype(np.float32)  # (..., J, W)
    column = _gaussian(mu[..., 1], height, sigma, reach)  # (..., J, H)
    if joint_weights is not None:
        weight = weight * np.asarray(joint_weights, np.float64)
    return column, row, weight.astype(np.float32)


def _gaussian(mean: np.ndarray, length: int, sigma: float, reach: float) -> np.ndarray:
    distance = np.arange(length) - mean[..., None]
    return np.where(np.abs(distance) <= reach, np.exp(-(distance**2) / (2 * sigma**2)), 0.0).astype(np.float32)


def decode(
    heatmaps: ArrayLike,
    centers: ArrayLike,
    scales: ArrayLike,
    refine: bool = True,
    *,
    empty: Literal["hrnet", "mm"] = "hrnet",
    blur: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns joint positions in the image and their scores from heatmaps.

    heatmaps: (N, J, H, W); centers (N, 2) px and scales (N, 2), units of 200 px, of the crops. Returns xy (N, J, 2)
    float32 image pixels and score (N, J), the map's value at its maximum, which may be <= 0. refine: the quarter-pixel
    step towards the higher neighbour. empty: where a map has no positive value, its joint is at (0, 0) ("hrnet") or
    (-1, -1) ("mm", mmpose) of the map. blur: odd width of a Gaussian filter that is applied first (`BLUR_KERNEL`), each map
    rescaled to keep its maximum; no official configuration uses it.
    """
    maps = _maps(heatmaps)
    if blur is not None:
        maps = smooth(maps, blur)
    xy, score = peaks(maps, empty=empty)
    if refine:
        xy = quarter_shift(maps, xy)
    count = len(maps)
    centers, scales = np.asarray(centers).reshape(-1, 2), np.asarray(scales).reshape(-1, 2)
    if len(centers) != count or len(scales) != count:
        raise MdwError(f"{count} crops need as many centres and scales, not {len(centers)} and {len(scales)}")
    matrix = affine_matrix(centers, scales, 0.0, (maps.shape[3], maps.shape[2]), inverse=True)  # (N, 2, 3)
    return apply(matrix, xy).astype(np.float32), score


def peaks(heatmaps: ArrayLike, *, empty: Literal["hrnet", "mm"] = "hrnet") -> tuple[np.ndarray, np.ndarray]:
    """Returns the first maximum of each map in row-major order: xy (N, J, 2) float32 heatmap pixels, score (N, J).

    Where the maximum is not positive (or NaN), xy is (0, 0), or (-1, -1) with empty="mm".
    """
    if empty not in ("hrnet", "mm"):
        raise MdwError(f'empty must be "hrnet" or "mm", not {empty!r}')
    maps = _maps(heatmaps)
    n, joints, height, width = maps.shape
    flat = maps.reshape(n, joints, height * width)
    best = flat.argmax(axis=-1)  # (N, J)
    score = np.take_along_axis(flat, best[..., None], axis=-1)[..., 0]
    xy = np.stack([best % width, best // width], axis=-1).astype(np.float32)
    xy[~(score > 0)] = 0.0 if empty == "hrnet" else -1.0
    return xy, score


def quarter_shift(heatmaps: ArrayLike, xy: np.ndarray) -> np.ndarray:
    """Returns the peaks xy (N, J, 2), float32, moved a quarter pixel towards the higher neighbour in x and in y.

    Only peaks with 1 < x < W-1 and 1 < y < H-1 move (the official bounds, not symmetric), and not between equal neighbours.
    """
    maps = _maps(heatmaps)
    height, width = maps.shape[2:]
    x, y = xy[..., 0].astype(np.intp), xy[..., 1].astype(np.intp)
    n, j = np.nonzero((x > 1) & (x < width - 1) & (y > 1) & (y < height - 1))
    x, y = x[n, j], y[n, j]
    shifted = xy.astype(np.float32)
    for axis, dx, dy in ((0, 1, 0), (1, 0, 1)):
        next_value, previous_value = maps[n, j, y + dy, x + dx], maps[n, j, y - dy, x - dx]
        shifted[n, j, axis] += 0.25 * ((next_value > previous_value).astype(np.float32) - (next_value < previous_value))
    return shifted


def smooth(heatmaps: ArrayLike, kernel: int) -> np.ndarray:
    """Returns each map (N, J, H, W) filtered by a Gaussian of odd width `kernel` (zeros outside), rescaled to its maximum.

    The kernel is OpenCV's for that width (sigma 2.0 for 11, 2.9 for 17). A map without a positive value is not changed.
    """
    if kernel < 1 or kernel % 2 == 0:
        raise MdwError(f"the Gaussian filter's width must be odd and positive, not {kernel}; 11 goes with sigma 2, 17 with 3")
    maps = _maps(heatmaps)
    spread = 0.3 * ((kernel - 1) * 0.5 - 1) + 0.8
    weights = np.exp(-(np.arange(kernel // 2 + 1) ** 2) / (2 * spread**2))
    weights = (weights / (2 * weights.sum() - weights[0])).astype(maps.dtype)
    filtered = _filter(_filter(maps, weights, axis=2), weights, axis=3)
    old, new = maps.max(axis=(2, 3), keepdims=True), filtered.max(axis=(2, 3), keepdims=True)
    usable = (old > 0) & (new > 0)
    return np.where(usable, filtered * (old / np.where(usable, new, 1)), maps)


def _filter(maps: np.ndarray, weights: np.ndarray, axis: int) -> np.ndarray:
    """Returns the maps filtered symmetrically along one axis, zeros outside; symmetric maps stay exactly symmetric."""
    length, reach = maps.shape[axis], len(weights) - 1
    padded = np.moveaxis(np.pad(maps, [(reach, reach) if i == axis else (0, 0) for i in range(4)]), axis, 0)
    total = padded[reach : reach + length] * weights[0]
    for k in range(1, reach + 1):
        total += weights[k] * (padded[reach + k : reach + k + length] + padded[reach - k : reach - k + length])
    return np.moveaxis(total, 0, axis)


def flip_back(heatmaps: ArrayLike, pairs: ArrayLike, shift: bool = True) -> np.ndarray:
    """Returns heatmaps (..., J, H, W) of a mirrored image mirrored back: columns reversed, left and right joints exchanged.

    pairs: (P, 2) joint indices (`JointSet.pairs`). shift: move the maps one column to the right and repeat the first column,
    because input and map have different mirror axes; on in every official configuration. Returns a new array.
    """
    maps = np.asarray(heatmaps)
    order = np.arange(maps.shape[-3])
    for a, b in np.asarray(pairs, np.intp):
        order[a], order[b] = b, a
    mirrored = maps[..., ::-1]
    turned = np.empty_like(maps)
    for joint, source in enumerate(order):  # joint by joint: no copy in between
        turned[..., joint, :, shift:] = mirrored[..., source, :, : maps.shape[-1] - shift]
        turned[..., joint, :, 0] = mirrored[..., source, :, 0]
    return turned


def flip_average(heatmaps: ArrayLike, of_mirrored: ArrayLike, pairs: ArrayLike, shift: bool = True) -> np.ndarray:
    """Returns the flip test's mean of the maps (..., J, H, W) and the maps of the mirrored image, mirrored back."""
    total = flip_back(of_mirrored, pairs, shift)
    total += heatmaps
    total *= 0.5
    return total


def _maps(heatmaps: ArrayLike) -> np.ndarray:
    maps = np.asarray(heatmaps)
    if maps.ndim != 4 or 0 in maps.shape[2:]:
        raise MdwError(f"heatmaps must be (N, J, H, W) with H and W at least 1, not {maps.shape}")
    return maps if maps.dtype in (np.float32, np.float64) else maps.astype(np.float32)
