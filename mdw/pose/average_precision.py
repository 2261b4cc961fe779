"""COCO keypoint average precision: makes the official results list and computes its ten numbers with pycocotools."""

import contextlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from mdw.pose.boxes import PIXEL_STD
from mdw.pose.coco_files import read_results, read_truth
from mdw.pose.joints import COCO17, JointSet
from mdw.pose.oks import nms_per_image, rescore
from mdw.util.errors import MdwError

COCO_NAMES = ("AP", "AP50", "AP75", "APM", "APL", "AR", "AR50", "AR75", "ARM", "ARL")


def coco_results(
    image_ids: Sequence[int],
    xy: ArrayLike,
    joint_scores: ArrayLike,
    centers: ArrayLike,
    scales: ArrayLike,
    box_scores: ArrayLike | None = None,
    *,
    score_threshold: float | None = 0.2,
    nms_threshold: float | None = 0.9,
    joints: JointSet = COCO17,
) -> list[dict[str, Any]]:
    """Returns the official results list: instance scores, OKS suppression within each image, one entry an instance.

    image_ids (N,); xy (N, 17, 2) image pixels; joint_scores (N, 17); centers, scales (N, 2) of the crops; box_scores
    (N,), 1 where None (ground-truth boxes). score_threshold=None keeps the box score as the instance's;
    nms_threshold=None keeps every instance. joints: another set with sigmas (J in place of 17). Entries: image_id,
    category_id 1, keypoints [x, y, score] * 17, score, center, scale; images in order of first appearance. There is no
    `bbox` key on purpose: pycocotools would take areas from it, which changes AP(M) and AP(L). Ready for json.
    """
    xy, joint_scores = np.asarray(xy), np.asarray(joint_scores)
    count = len(image_ids)
    if count == 0:
        return []
    centers, scales = np.asarray(centers), np.asarray(scales)
    box_scores = np.ones(count) if box_scores is None else np.asarray(box_scores, np.float64)
    number = joints.num_joints
    shapes = ((count, number, 2), (count, number), (count, 2), (count, 2), (count,))
    if tuple(a.shape for a in (xy, joint_scores, centers, scales, box_scores)) != shapes:
        raise MdwError(
            f"{count} images need predictions (N, {number}, 2), joint scores (N, {number}), centres, scales and "
            "box scores to match"
        )
    if not (np.isfinite(xy).all() and np.isfinite(joint_scores).all() and np.isfinite(box_scores).all()):
        raise MdwError("a prediction is not a finite number; the network that gave it has diverged")
    scores = box_scores if score_threshold is None else rescore(box_scores, joint_scores, score_threshold)
    areas = (scales * PIXEL_STD).prod(axis=1)  # of the padded crop, not of the detector's box
    kept = np.arange(count)
    if nms_threshold is not None:
        kept = nms_per_image(image_ids, xy, scores, areas, nms_threshold, joints.sigmas)
    keypoints = np.concatenate([xy, joint_scores[..., None]], axis=-1).reshape(count, -1)
    columns = np.asarray(image_ids)[kept], keypoints[kept], scores[kept], centers[kept], scales[kept]
    return [
        {"image_id": int(image), "category_id": 1, "keypoints": pose, "score": score, "center": center, "scale": scale}
        for image, pose, score, center, scale in zip(*(column.tolist() for column in columns), strict=True)
    ]


def coco_ap(
    gt_json: str | Path | Mapping[str, Any],
    results_json: str | Path | Sequence[Mapping[str, Any]],
    *,
    joints: JointSet = COCO17,
    results_name: str | Path = "the results list",
) -> dict[str, float]:
    """Returns COCO's ten keypoint numbers, fractions 0..1: AP AP50 AP75 APM APL AR AR50 AR75 ARM ARL.

    gt_json: ground truth as a path or loaded; results_json: results list as a path or loaded (`coco_results`). All
    images of the ground truth count. Without any result every number is 0. A number is -1, as in pycocotools, where no
    person of that size is in the ground truth. `joints`: another set, with its own sigmas. `results_name`: the name of a loaded
    list in errors. Neither argument is changed. Raises MdwError, naming file and entry, as `mdw.pose.coco_files.read_truth`
    and `read_results` do.
    """
    truth_name = gt_json if isinstance(gt_json, str | Path) else "the ground truth"
    truth = read_truth(gt_json, joints, truth_name)
    images, categories = ([entry["id"] for entry in truth[key]] for key in ("images", "categories"))
    results = read_results(results_json, images, categories, truth_name, joints, results_name)

    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
        gt = COCO()
        gt.dataset = {"info": {}} | truth  # pycocotools before 2.0.11 needs "info"
        gt.createIndex()
        if results:
            dt = gt.loadRes(results)
        else:  # loadRes looks into the first entry
            dt = COCO()
            dt.dataset = {"images": truth["images"], "categories": truth["categories"], "annotations": []}
            dt.createIndex()
        evaluation = COCOeval(gt, dt, "keypoints")
        evaluation.params.useSegm = None
        if joints != COCO17:  # pycocotools' own sigmas differ from ours in the last bit
            evaluation.params.kpt_oks_sigmas = np.array(joints.sigmas)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return {name: float(value) for name, value in zip(COCO_NAMES, evaluation.stats, strict=True)}
