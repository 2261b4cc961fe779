"""A drawn stand-in for COCO val2017's labels and a detector's file, as large as the real ones, and what measuring it costs.

python benchmarks/synthetic_coco.py            # seconds of every step between heatmaps and AP
"""

import tempfile
import time
from pathlib import Path

import numpy as np

from mdw.data import coco
from mdw.pose import heatmap
from mdw.pose.average_precision import coco_ap, coco_results
from mdw.pose.joints import COCO17
from mdw.pose.oks import nms_per_image, rescore
from mdw.util.files import read_json, write_json

# where the 17 joints of a standing person are in the box, as parts of its width and height
STANDING = np.array([
    (0.50, 0.06), (0.54, 0.04), (0.46, 0.04), (0.60, 0.06), (0.40, 0.06), (0.70, 0.20), (0.30, 0.20), (0.82, 0.36),
    (0.18, 0.36), (0.88, 0.50), (0.12, 0.50), (0.63, 0.52), (0.37, 0.52), (0.64, 0.74), (0.36, 0.74), (0.65, 0.96),
    (0.35, 0.96),
])  # fmt: skip


def synthetic_coco(images: int = 5000, persons: int = 11_004, labelled: int = 6352, boxes: int = 104_125, seed: int = 0):
    """Ground truth in COCO's format and a detector's list, both as loaded from JSON.

    Half of the images hold the `persons`, few many and many few; every fiftieth person is a crowd region, `labelled` of the
    others have keypoints, not all of them. The `boxes` are the persons' own, moved, several for each, and false ones
    everywhere, with scores that are better where a box is better. Image ids are neither dense nor in order.
    """
    rng = np.random.default_rng(seed)
    ids = rng.permutation(np.arange(1, images + 1) * 97)
    listed = [{"id": int(i), "width": 640, "height": 480, "file_name": f"{i:012d}.jpg"} for i in ids]
    share = rng.pareto(1.2, images // 2) + 0.3
    home = np.sort(rng.choice(images // 2, persons, p=share / share.sum()))
    home[: images // 2] = np.arange(images // 2)[:persons]
    height = np.exp(rng.normal(4.4, 0.8, persons)).clip(12, 470)
    width = (height * rng.uniform(0.3, 0.9, persons)).clip(6, 630)
    corner = rng.uniform(0, 1, (persons, 2)) * np.stack([640 - width, 480 - height], axis=1)
    box = np.round(np.concatenate([corner, np.stack([width, height], axis=1)], axis=1), 2)
    crowd = np.arange(persons) % 50 == 49
    flags = rng.choice(3, (persons, 17), p=(0.25, 0.15, 0.6))
    flags[:, 5] = 2  # at least one joint
    flags[rng.permutation(np.flatnonzero(~crowd))[labelled:]] = 0
    flags[crowd] = 0
    joints = box[:, None, :2] + box[:, None, 2:] * (STANDING + rng.normal(0, 0.03, (persons, 17, 2)))
    joints = np.where(flags[..., None] > 0, np.round(joints).clip(0, (639, 479)), 0)
    keypoints = np.concatenate([joints, flags[..., None]], axis=2).astype(int).reshape(persons, -1).tolist()
    annotations = [
        {
            "id": 1000 + i,
            "image_id": int(ids[home[i]]),
            "category_id": 1,
            "iscrowd": int(crowd[i]),
            "bbox": box[i].tolist(),
            "area": float(np.round(box[i, 2:].prod() * 0.6, 3)),
            "num_keypoints": int((flags[i] > 0).sum()),
            "keypoints": keypoints[i],
        }
        for i in range(persons)
    ]
    of = np.where(rng.random(boxes) < 0.5, rng.integers(0, persons, boxes), -1)
    quality = np.where(of >= 0, rng.beta(3, 1, boxes), 0)
    found = np.where(of[:, None] >= 0, box[of], box[rng.integers(0, persons, boxes)])
    found = found + (1 - quality[:, None]) * rng.normal(0, 0.2, (boxes, 4)) * found[:, [2, 3, 2, 3]]
    found[:, 2:] = np.abs(found[:, 2:]) + 4
    place = np.where(of >= 0, home[of], rng.integers(0, images, boxes))
    score = np.round((0.05 + 0.9 * quality * rng.random(boxes)).clip(0, 1), 6)
    detections = [
        {"image_id": int(ids[place[i]]), "category_id": 1, "bbox": np.round(found[i], 3).tolist(), "score": float(score[i])}
        for i in np.argsort(place, kind="stable")
    ]
    truth = {"images": listed, "annotations": annotations, "categories": [{"id": 1, "name": "person"}]}
    return truth, detections


def write_folder(root, truth, split="val"):
    """Make `root` a COCO folder of these annotations whose photos are empty files."""
    write_json(root / "annotations" / f"person_keypoints_{split}2017.json", truth, indent=None)
    (root / f"{split}2017").mkdir()
    for image in truth["images"]:
        (root / f"{split}2017" / image["file_name"]).touch()


def synthetic_poses(centers: np.ndarray, box_wh: np.ndarray, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """What a fair network would say of these boxes: xy (N, 17, 2) and scores (N, 17), float32."""
    rng = np.random.default_rng(seed)
    shape = STANDING - 0.5 + rng.normal(0, 0.01, (len(centers), 17, 2))
    scores = rng.beta(4, 2, (len(centers), 17))
    return (centers[:, None] + shape * box_wh[:, None]).astype(np.float32), scores.astype(np.float32)


def measure(images: int = 5000, persons: int = 11_004, labelled: int = 6352, boxes: int = 104_125) -> dict[str, float]:
    """Seconds of every step from the files on disk to AP."""
    seconds = {}

    def timed(name, function, *arguments, **options):
        begun = time.perf_counter()
        value = function(*arguments, **options)
        seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - begun
        return value

    truth, detections = synthetic_coco(images, persons, labelled, boxes)
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        write_folder(root, truth)
        write_json(root / "boxes.json", detections, indent=None)
        dataset = timed("read annotations and detections", coco.detections, root, "val", root / "boxes.json")
        people = dataset.samples
        centers, scales = np.stack([s.center for s in people]), np.stack([s.scale for s in people])
        maps = np.random.default_rng(0).random((32, 17, 64, 48), dtype=np.float32)
        for begin in range(0, len(people), 32):
            c, s = centers[begin : begin + 32], scales[begin : begin + 32]
            averaged = timed("flip average", heatmap.flip_average, maps[: len(c)], maps[: len(c)], COCO17.pairs)
            timed("decode", heatmap.decode, averaged, c, s)
        xy, joint_scores = synthetic_poses(centers, np.stack([s.box_wh for s in people]))
        ids, box_scores = [s.image_id for s in people], np.array([s.box_score for s in people])
        scores = timed("(rescore alone)", rescore, box_scores, joint_scores)
        areas = (scales * 200).prod(axis=1)
        timed("(suppression alone)", nms_per_image, ids, xy, scores, areas)
        results = timed("rescore, suppress, list", coco_results, ids, xy, joint_scores, centers, scales, box_scores)
        timed("write the results file", write_json, root / "results.json", results, indent=None)
        timed("read the results file back", read_json, root / "results.json")
        timed("coco_ap, all", coco_ap, dataset.ground_truth, results)
        truth = read_json(dataset.ground_truth)
        seconds |= {f"pycocotools' own: {name}": value for name, value in _own(truth, results).items()}
    return seconds


def _own(truth: dict, results: list) -> dict[str, float]:
    import contextlib
    import io

    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    seconds, clock = {}, time.perf_counter

    def lap(name, begun):
        seconds[name] = clock() - begun
        return clock()

    with contextlib.redirect_stdout(io.StringIO()):
        begun = clock()
        gt = COCO()
        gt.dataset = truth
        gt.createIndex()
        begun = lap("createIndex", begun)
        dt = gt.loadRes(results)
        begun = lap("loadRes", begun)
        evaluation = COCOeval(gt, dt, "keypoints")
        evaluation.evaluate()
        begun = lap("evaluate", begun)
        evaluation.accumulate()
        evaluation.summarize()
        lap("accumulate", begun)
    return seconds


if __name__ == "__main__":
    for step, value in measure().items():
        print(f"{step:40} {value:7.2f} s")
