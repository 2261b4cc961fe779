"""Object keypoint similarity (OKS), suppression of duplicates by it, and the score of an instance.

Between predictions OKS is COCO's without visibility, with the areas of the padded crops, as in the official HRNet code.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from mdw.pose.joints import COCO17
from mdw.util.errors import MdwError

_BLOCK = 2**21  # numbers in a block of pairs, 16 MB: thousands of people are not compared all at once


def oks(
    keypoints_a: ArrayLike,
    keypoints_b: ArrayLike,
    areas_a: ArrayLike,
    areas_b: ArrayLike,
    sigmas: ArrayLike | None = None,
) -> np.ndarray:
    """Returns the similarity 0..1 of poses: mean over joints of exp(-d^2 / (2 (2 sigma)^2 mean_area)); every joint counts.

    keypoints: (..., K, 2 or more), x and y first, pixels; areas (...), px^2; leading axes broadcast to the shape of the
    result, float64: (n, 1, K, 2) against (1, m, K, 2) gives (n, m). sigmas: (K,), COCO's where None. Without joints (K = 0)
    it is 0.
    """
    a, b = np.asarray(keypoints_a, np.float64), np.asarray(keypoints_b, np.float64)
    sigmas = np.asarray(COCO17.sigmas if sigmas is None else sigmas, np.float64)
    if a.ndim < 2 or b.ndim < 2 or a.shape[-2] != len(sigmas) or b.shape[-2] != len(sigmas):
        raise MdwError(
            f"poses {a.shape} and {b.shape} do not have the {len(sigmas)} joints of the sigmas; pass sigmas to match"
        )
    dx, dy = a[..., 0] - b[..., 0], a[..., 1] - b[..., 1]
    area = (np.asarray(areas_a, np.float64) + np.asarray(areas_b, np.float64)) / 2 + np.spacing(1.0)
    similarity = np.exp((dx * dx + dy * dy) / (-2 * (2 * sigmas) ** 2) / area[..., None])
    return similarity.sum(axis=-1) / max(len(sigmas), 1)


def oks_with_truth(
    xy: ArrayLike, truth_xy: ArrayLike, visible: ArrayLike, areas: ArrayLike, sigmas: ArrayLike | None = None
) -> np.ndarray:
    """Returns COCO's similarity (N,) of poses (N, K, 2) with annotations (N, K, 2): the mean over annotated joints only.

    visible (N, K): > 0 = annotated; areas (N,): annotated areas, px^2; sigmas (K,), COCO's where None. NaN where nothing is
    annotated.
    """
    sigmas = np.asarray(COCO17.sigmas if sigmas is None else sigmas, np.float64)
    counted = np.asarray(visible) > 0
    square = ((np.asarray(xy, np.float64) - np.asarray(truth_xy, np.float64)) ** 2).sum(axis=-1)
    similarity = np.exp(-square / (2 * (2 * sigmas) ** 2) / (np.asarray(areas, np.float64) + np.spacing(1.0))[:, None])
    with np.errstate(invalid="ignore"):
        return np.where(counted, similarity, 0.0).sum(axis=-1) / counted.sum(axis=-1)


def oks_nms(
    keypoints: ArrayLike, scores: ArrayLike, areas: ArrayLike, threshold: float = 0.9, sigmas: ArrayLike | None = None
) -> np.ndarray:
    """Returns the indices (m,) of the poses to keep, best first: each removes the worse ones with OKS > threshold to it.

    keypoints: (n, K, 2 or 3); scores: (n,); areas: (n,) px^2, of the padded crops. Of equal scores the later counts as better.
    """
    poses, scores, areas = _poses(keypoints, scores, areas)
    order = np.argsort(scores, kind="stable")[::-1]
    poses, areas = poses[order], areas[order]
    count = len(order)
    alive = np.ones(count, bool)
    rows = max(1, _BLOCK // max(1, count * poses.shape[1] * 2)) if count else 1
    for start in range(0, count, rows):
        stop = min(start + rows, count)
        block = oks(poses[start:stop, None], poses[None, start:], areas[start:stop, None], areas[None, start:], sigmas)
        similar = block > threshold
        for i in range(start, stop):
            if alive[i]:
                alive[i + 1 :] &= ~similar[i - start, i - start + 1 :]
    return order[alive]


def soft_oks_nms(
    keypoints: ArrayLike,
    scores: ArrayLike,
    areas: ArrayLike,
    threshold: float = 0.9,
    sigmas: ArrayLike | None = None,
    max_kept: int = 20,
) -> np.ndarray:
    """Soft `oks_nms`: scores of poses near a kept one are multiplied by exp(-OKS^2 / threshold); at most `max_kept` indices.

    Arguments as in `oks_nms`. No recipe uses it.
    """
    poses, scores, areas = _poses(keypoints, scores, areas)
    order = np.argsort(scores, kind="stable")[::-1]
    scores = scores[order]
    kept: list[int] = []
    while len(order) and len(kept) < max_kept:
        best, order = order[0], order[1:]
        kept.append(int(best))
        similarity = oks(poses[best], poses[order], areas[best], areas[order], sigmas)
        scores = scores[1:] * np.exp(-(similarity**2) / threshold)
        by_score = np.argsort(scores, kind="stable")[::-1]
        order, scores = order[by_score], scores[by_score]
    return np.array(kept, np.intp)


def nms_per_image(
    image_ids: Sequence[int],
    keypoints: ArrayLike,
    scores: ArrayLike,
    areas: ArrayLike,
    threshold: float = 0.9,
    sigmas: ArrayLike | None = None,
) -> np.ndarray:
    """Returns the indices (m,) that `oks_nms` keeps within each image; images in order of first appearance, best first."""
    images = np.asarray(image_ids)
    poses, scores, areas = _poses(keypoints, scores, areas)
    if images.shape != scores.shape:
        raise MdwError(f"{len(scores)} instances need as many image ids, not {images.shape}")
    if not len(images):
        return np.empty(0, np.intp)
    _, first_index, group = np.unique(images, return_index=True, return_inverse=True)
    order = np.argsort(group, kind="stable")
    members = np.split(order, np.cumsum(np.bincount(group))[:-1])
    in_order = [members[g] for g in np.argsort(first_index)]
    return np.concatenate([m[oks_nms(poses[m], scores[m], areas[m], threshold, sigmas)] for m in in_order])


def rescore(box_score: ArrayLike, joint_scores: ArrayLike, threshold: float = 0.2) -> np.ndarray:
    """Returns instance scores: box score times the mean of the joint scores above `threshold`, 0 where none is.

    box_score: (...); joint_scores: (..., J). Returns float64 (...). Summed in joint order, in float64.
    """
    box, joints = np.asarray(box_score, np.float64), np.asarray(joint_scores, np.float64)
    if joints.ndim < 1:
        raise MdwError("joint_scores must be (..., J)")
    good = joints > threshold
    total = np.zeros(joints.shape[:-1])
    for k in range(joints.shape[-1]):
        total = total + np.where(good[..., k], joints[..., k], 0.0)
    return total / np.maximum(good.sum(axis=-1), 1) * box


def _poses(keypoints: ArrayLike, scores: ArrayLike, areas: ArrayLike) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    poses, scores, areas = (
        np.asarray(keypoints, np.float64),
        np.asarray(scores, np.float64),
        np.asarray(areas, np.float64),
    )
    if not poses.size and not scores.size:
        poses = poses.reshape(0, len(COCO17.names), 2) if poses.ndim != 3 else poses
    if poses.ndim != 3 or scores.shape != (len(poses),) or areas.shape != (len(poses),):
        raise MdwError(f"poses (n, K, 2), scores and areas (n,) do not fit: {poses.shape}, {scores.shape}, {areas.shape}")
    if np.isnan(scores).any():
        raise MdwError("a score is not a number; the network that gave it has diverged")
    return poses, scores, areas
