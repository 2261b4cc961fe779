"""COCO keypoint average precision: the official results list, and its ten numbers through pycocotools."""

import contextlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from mdw.pose.boxes import PIXEL_STD
from mdw.pose.joints import COCO17, JointSet
from mdw.pose.oks import nms_per_image, rescore
from mdw.util.errors import MdwError
from mdw.util.files import read_json

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
    """The official results list: instance scores, OKS suppression within each image, one entry an instance.

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
    wanted = ((count, number, 2), (count, number), (count, 2), (count, 2), (count,))
    if tuple(a.shape for a in (xy, joint_scores, centers, scales, box_scores)) != wanted:
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
    """COCO's ten keypoint numbers, fractions 0..1: AP AP50 AP75 APM APL AR AR50 AR75 ARM ARL.

    gt_json: ground truth as a path or loaded; results_json: results list as a path or loaded (`coco_results`). All
    images of the ground truth count. Without any result every number is 0. A number is -1, as in pycocotools, where no
    person of that size is in the ground truth. `joints`: another set, with its own sigmas. `results_name` is what a list
    already loaded is called in errors. Neither argument is changed. Raises MdwError, naming the file, for a missing or broken
    file, results for images that are not in the ground truth, malformed entries, and annotation ids below 1 (which pycocotools
    reads as "unmatched").
    """
    truth_name = gt_json if isinstance(gt_json, str | Path) else "the ground truth"
    results_name = results_json if isinstance(results_json, str | Path) else results_name
    truth = _checked_truth(read_json(gt_json) if isinstance(gt_json, str | Path) else gt_json, truth_name, joints)
    given = read_json(results_json) if isinstance(results_json, str | Path) else results_json
    results = check_results(given, {image["id"] for image in truth["images"]}, results_name, truth_name, joints)

    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
        gt = COCO()
        gt.dataset = truth
        gt.createIndex()
        if results:
            dt = gt.loadRes(results)
        else:  # loadRes looks into the first entry
            dt = COCO()
            dt.dataset = {"images": truth["images"], "categories": truth["categories"], "annotations": []}
            dt.createIndex()
        evaluation = COCOeval(gt, dt, "keypoints")
        evaluation.params.useSegm = None
        if joints != COCO17:  # pycocotools' own differ from ours in the last bit
            evaluation.params.kpt_oks_sigmas = np.array(joints.sigmas)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return {name: float(value) for name, value in zip(COCO_NAMES, evaluation.stats, strict=True)}


def _checked_truth(truth: Any, name: object, joints: JointSet) -> dict[str, Any]:
    """The ground truth with annotations copied: COCOeval writes into them."""
    if not isinstance(truth, Mapping) or not all(
        isinstance(truth.get(k), list) for k in ("images", "annotations", "categories")
    ):
        raise MdwError(f"{name} is not COCO ground truth: it needs the lists images, annotations and categories")
    if not all(isinstance(image, Mapping) and "id" in image for image in truth["images"]):
        raise MdwError(f"{name} has an image without an id; write the file in COCO's format")
    numbers = 3 * joints.num_joints
    needed = {"id", "image_id", "category_id", "area", "bbox", "iscrowd", "num_keypoints", "keypoints"}
    for annotation in truth["annotations"]:
        if not isinstance(annotation, Mapping) or needed - annotation.keys() or len(annotation["keypoints"]) != numbers:
            raise MdwError(f"{name} has an annotation that is no COCO person; use person_keypoints_*.json")
    ids = [annotation["id"] for annotation in truth["annotations"]]
    if len(set(ids)) != len(ids) or any(not i >= 1 for i in ids):
        raise MdwError(f"{name} has annotation ids that are below 1 or not unique; number them from 1")
    return {**truth, "annotations": [dict(annotation) for annotation in truth["annotations"]]}


def check_results(
    results: Any, images: set, name: object, truth_name: object, joints: JointSet = COCO17
) -> list[dict[str, Any]]:
    """What pycocotools may see of the results, copied: loadRes writes into them, and takes keys it knows as a hint.

    images: ids of the split that `truth_name` lists. Raises MdwError for malformed entries and images of another split.
    """
    numbers = 3 * joints.num_joints
    remedy = f"write it with image_id, category_id, score and {numbers} keypoint numbers an entry"
    if isinstance(results, Mapping | str | bytes) or not isinstance(results, Sequence):
        raise MdwError(f"{name} is not a COCO results list; {remedy}")
    needed = {"image_id", "category_id", "score", "keypoints"}
    for entry in results:
        if not isinstance(entry, Mapping) or not needed <= entry.keys() or not isinstance(entry["image_id"], int | str):
            raise MdwError(f"{name} has an entry that is no keypoint result; {remedy}")
    strangers = {entry["image_id"] for entry in results} - images
    if strangers:
        raise MdwError(f"{name} holds image {min(strangers, key=str)}, not in {truth_name}; use files of one split")
    if not results:
        return []
    if len({"bbox" in entry for entry in results}) > 1:
        raise MdwError(f"{name} has a bbox in some entries only, and areas are taken from it; leave it out everywhere")
    kept = [*needed, "bbox"] if "bbox" in results[0] else [*needed]
    for field, shape in {"score": (), "keypoints": (numbers,), "bbox": (4,)}.items():
        if field in kept:
            try:
                table = np.asarray([entry[field] for entry in results])
            except ValueError:  # of different lengths
                table = np.empty(0)
            if table.shape != (len(results), *shape):
                raise MdwError(f"{name} has an entry that is no keypoint result: its {field} has another length; {remedy}")
            if table.dtype.kind not in "iuf":
                raise MdwError(f"{name} has a {field} with something that is not a number; {remedy}")
            if not np.isfinite(table).all():
                raise MdwError(f"{name} has a {field} that is not finite; the network that wrote it has diverged")
    return [{field: entry[field] for field in kept} for entry in results]
