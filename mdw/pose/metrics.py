"""Benchmark numbers: COCO's average precision, PCKh on MPII, PCK on Leeds Sports Pose.

COCO's ten numbers are fractions 0..1, as pycocotools gives them; PCK and PCKh are percent, 0..100.
"""

from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from mdw.pose.average_precision import COCO_NAMES, coco_ap, coco_results
from mdw.pose.joints import LSP14, MPII16, JointSet
from mdw.util.errors import MdwError

__all__ = ["COCO_NAMES", "coco_ap", "coco_results", "pck", "pckh"]

_GROUPS = {
    "Head": ("head_top", "neck"),  # MPII calls its neck "upper_neck" and leaves it out of the group
    "Shoulder": ("left_shoulder", "right_shoulder"),
    "Elbow": ("left_elbow", "right_elbow"),
    "Wrist": ("left_wrist", "right_wrist"),
    "Hip": ("left_hip", "right_hip"),
    "Knee": ("left_knee", "right_knee"),
    "Ankle": ("left_ankle", "right_ankle"),
}
_BONES_OUT = ("pelvis", "thorax")  # joints that PCKh's mean leaves out


def pckh(
    pred_xy: ArrayLike,
    gt_xy: ArrayLike,
    headboxes: ArrayLike,
    missing: ArrayLike,
    threshold: float = 0.5,
    *,
    compat_0p11: bool = False,
    strict: bool = False,
    macro: bool = False,
) -> dict[str, Any]:
    """Returns MPII's PCKh in percent: a joint is right if its error is at most `threshold` * 0.6 * the head box's diagonal.

    pred_xy, gt_xy: (N, 16, 2) pixels in the same frame. MPII's `pos_gt_src` counts from 1: add 1 to predictions that
    count from 0. headboxes: (N, 2, 2), two corners each. missing: (N, 16), 1 = not annotated. The layout of
    `gt_valid.mat`, (16, 2, N), (2, 2, N), (16, N), is understood as well; predictions may be in either. Returns
      "mean": over all annotated joints but pelvis and thorax (macro=True: plain mean over those 14 joints);
      "mean@0.1": the same at 0.10 (compat_0p11=True: at 0.11, which published tables of HRNet's family call 0.1);
      "groups": Head (head top alone), Shoulder, Elbow, Wrist, Hip, Knee, Ankle, plain means of left and right;
      "per_joint", "joint_counts": 16 numbers each, in MPII order.
    A joint or group that is never annotated is None. strict=True: error < threshold, as in pytorch-pose. A
    prediction that is NaN is wrong. Raises MdwError for shapes that do not fit, annotated joints without a finite
    position, and where nothing is annotated. Source: MPII's evaluation as in HRNet's code.
    """
    error, visible = _pckh_error(pred_xy, gt_xy, headboxes, missing)
    counted = _pckh_joints()

    def table(limit: float) -> tuple[np.ndarray, float]:
        correct = (error < limit if strict else error <= limit) & visible
        rates = _rates(correct, visible)
        mean = np.nanmean(rates[counted]) if macro else 100.0 * correct[:, counted].sum() / visible[:, counted].sum()
        return rates, float(mean)

    if not visible[:, counted].any():
        raise MdwError("no annotated joint to compute PCKh from; check `missing`, where 1 means not annotated")
    rates, mean = table(threshold)
    return {
        "mean": mean,
        "mean@0.1": table(0.11 if compat_0p11 else 0.1)[1],
        "groups": _group_means(rates, MPII16),
        "per_joint": _plain(rates),
        "joint_counts": visible.sum(axis=0).tolist(),
    }


def pckh_hits(
    pred_xy: ArrayLike, gt_xy: ArrayLike, headboxes: ArrayLike, missing: ArrayLike, threshold: float = 0.5
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the joints behind `pckh`'s "mean": right and counted, (N, 16) bool each; a right joint is also counted.

    Arguments and errors as in `pckh`.
    """
    error, visible = _pckh_error(pred_xy, gt_xy, headboxes, missing)
    counted = visible & _pckh_joints()
    return (error <= threshold) & counted, counted


def _pckh_joints() -> np.ndarray:
    return np.array([name not in _BONES_OUT for name in MPII16.names])


def _pckh_error(
    pred_xy: ArrayLike, gt_xy: ArrayLike, headboxes: ArrayLike, missing: ArrayLike
) -> tuple[np.ndarray, np.ndarray]:
    """Checks the arguments; returns errors in head lengths (N, 16) and which joints are annotated (N, 16)."""
    gt, heads, absent = np.asarray(gt_xy, np.float64), np.asarray(headboxes, np.float64), np.asarray(missing)
    if gt.ndim == 3 and gt.shape[:2] == (16, 2):
        gt, heads, absent = gt.transpose(2, 0, 1), np.moveaxis(heads, -1, 0), np.moveaxis(absent, -1, 0)
    pred = np.asarray(pred_xy, np.float64)
    if pred.ndim == 3 and pred.shape[:2] == (16, 2):
        pred = pred.transpose(2, 0, 1)
    count = len(gt)
    if not (gt.shape == pred.shape == (count, 16, 2) and heads.shape == (count, 2, 2) and absent.shape == (count, 16)):
        raise MdwError(
            "PCKh needs (N, 16, 2) predictions and ground truth, (N, 2, 2) head boxes, (N, 16) missing flags, "
            f"not {pred.shape}, {gt.shape}, {heads.shape}, {absent.shape}"
        )
    visible = absent == 0
    if not np.isfinite(gt[visible]).all():
        raise MdwError("an annotated joint has a position that is not finite; mark it as missing")
    with np.errstate(divide="ignore", invalid="ignore"):  # a head box of no size, a joint without a position
        error = np.linalg.norm(pred - gt, axis=-1) / (0.6 * np.linalg.norm(heads[:, 1] - heads[:, 0], axis=-1))[:, None]
    return error, visible


Reference = Literal["lspet", "torso", "other_diagonal", "max_of_diagonals", "bbox"]


def pck(
    pred_xy: ArrayLike,
    gt_xy: ArrayLike,
    flags: ArrayLike | None = None,
    threshold: float = 0.2,
    *,
    reference: Reference = "lspet",
    count: Literal["flagged", "all"] = "flagged",
    joints: JointSet = LSP14,
) -> dict[str, Any]:
    """Returns PCK on Leeds Sports Pose in percent: a joint is right if its error is at most `threshold` * torso length.

    pred_xy, gt_xy: (N, 14, 2) pixels in the same frame. flags: (N, 14), > 0 = annotated; None: all are, as in the
    original LSP test, where every joint has a position. `reference`, the length of the annotated person used as unit:
      "lspet": left shoulder to right hip; if that pair is not annotated, right shoulder to left hip; otherwise the
        image is left out. With every flag set, this is the rule for the original LSP test;
      "torso": left shoulder to right hip whatever the flags; "other_diagonal": right shoulder to left hip;
      "max_of_diagonals": the longer of the two;
      "bbox": longer side of the box around the joints that count, much more lenient.
    joints: another set with shoulders and hips (J in place of 14); the literature uses the measure for Leeds only.
    count: "flagged" counts annotated joints, "all" every joint. Returns
      "pck": over all counted joints of all images;
      "groups": Head (mean of neck and head top), Shoulder, Elbow, Wrist, Hip, Knee, Ankle (means of left and right);
      "per_joint", "joint_counts": 14 numbers each, in LSP order; "images_used", "joints_used", "images_total".
    A joint or group that never counts is None. A prediction that is NaN is wrong. Raises MdwError for shapes that do
    not fit, counted joints without a finite position, and where no joint counts. Source: the LSP literature (Sapp and
    Taskar's measure) for the lengths; the rule for unannotated joints is our choice.
    """
    correct, counted, images_used = pck_hits(pred_xy, gt_xy, flags, threshold, reference=reference, count=count, joints=joints)
    rates = _rates(correct, counted)
    return {
        "pck": float(100.0 * correct.sum() / counted.sum()),
        "groups": _group_means(rates, joints),
        "per_joint": _plain(rates),
        "joint_counts": counted.sum(axis=0).tolist(),
        "images_used": int(images_used.sum()),
        "joints_used": int(counted.sum()),
        "images_total": len(images_used),
    }


def pck_hits(
    pred_xy: ArrayLike,
    gt_xy: ArrayLike,
    flags: ArrayLike | None = None,
    threshold: float = 0.2,
    *,
    reference: Reference = "lspet",
    count: Literal["flagged", "all"] = "flagged",
    joints: JointSet = LSP14,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the joints behind `pck`: right (N, J), counted (N, J), images used (N,), bool each; right joints are counted.

    Arguments and errors as in `pck`.
    """
    pred, gt = np.asarray(pred_xy, np.float64), np.asarray(gt_xy, np.float64)
    flagged = np.ones(gt.shape[:-1], bool) if flags is None else np.asarray(flags) > 0
    images = len(gt)
    number = joints.num_joints
    if not (gt.shape == pred.shape == (images, number, 2) and flagged.shape == (images, number)):
        raise MdwError(
            f"PCK needs (N, {number}, 2) predictions and ground truth and (N, {number}) flags, "
            f"not {pred.shape}, {gt.shape}, {flagged.shape}"
        )
    if count not in ("flagged", "all"):
        raise MdwError(f'count must be "flagged" or "all", not {count!r}')
    counted = flagged if count == "flagged" else np.ones_like(flagged)
    if not np.isfinite(gt[counted]).all():
        raise MdwError("a joint that counts has a ground-truth position that is not finite; set its flag to 0")
    length = _reference_length(gt, flagged, counted, reference, joints)  # (N,), NaN: image left out
    has_length = ~np.isnan(length)
    counted = counted & has_length[:, None]
    if not counted.any():
        raise MdwError("no annotated joint to compute PCK from; check the flags, where 1 means annotated")
    with np.errstate(invalid="ignore"):
        correct = (np.linalg.norm(pred - gt, axis=-1) <= threshold * length[:, None]) & counted
    return correct, counted, has_length


def _reference_length(gt: np.ndarray, flagged: np.ndarray, counted: np.ndarray, reference: str, joints: JointSet) -> np.ndarray:
    left_to_right = (joints.index("left_shoulder"), joints.index("right_hip"))
    right_to_left = (joints.index("right_shoulder"), joints.index("left_hip"))

    def diagonal(pair: tuple[int, int]) -> np.ndarray:
        return np.linalg.norm(gt[:, pair[0]] - gt[:, pair[1]], axis=-1)

    if reference == "lspet":
        fallback = np.where(flagged[:, right_to_left].all(axis=1), diagonal(right_to_left), np.nan)
        return np.where(flagged[:, left_to_right].all(axis=1), diagonal(left_to_right), fallback)
    if reference == "torso":
        return diagonal(left_to_right)
    if reference == "other_diagonal":
        return diagonal(right_to_left)
    if reference == "max_of_diagonals":
        return np.maximum(diagonal(left_to_right), diagonal(right_to_left))
    if reference == "bbox":
        low = np.where(counted[..., None], gt, np.inf).min(axis=1)
        high = np.where(counted[..., None], gt, -np.inf).max(axis=1)
        return np.where(counted.any(axis=1), (high - low).max(axis=1), np.nan)
    raise MdwError(f'reference must be "lspet", "torso", "other_diagonal", "max_of_diagonals" or "bbox", not {reference!r}')


def _rates(correct: np.ndarray, counted: np.ndarray) -> np.ndarray:
    """Returns the percentage right per joint (J,) from (N, J) flags; NaN where a joint never counts."""
    with np.errstate(invalid="ignore"):
        return 100.0 * correct.sum(axis=0) / counted.sum(axis=0)


def _plain(rates: np.ndarray) -> list[float | None]:
    return [None if np.isnan(rate) else float(rate) for rate in rates]


def _group_means(rates: np.ndarray, joints: JointSet) -> dict[str, float | None]:
    means = {}
    for group, names in _GROUPS.items():
        values = np.array([rates[joints.index(name)] for name in names if name in joints.names])
        values = values[~np.isnan(values)]
        means[group] = float(values.mean()) if len(values) else None
    return means
