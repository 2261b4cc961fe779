"""COCO from photos to AP: each photo read once, its ceiling, and a fast path that is the plain one."""

import json
import threading
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from synthetic_coco import synthetic_coco, synthetic_poses, write_folder

from mdw import data
from mdw.data import coco
from mdw.data.sample import Dataset, Sample
from mdw.data.warp import crop, joints_to_crop, normalise
from mdw.inference.evaluate import evaluate, oracle, oracle_poses, predict_dataset, results, score
from mdw.pose import heatmap
from mdw.pose.average_precision import coco_ap, coco_results
from mdw.pose.boxes import box_to_center_scale
from mdw.pose.joints import COCO17
from mdw.pose.oks import oks
from mdw.training import recipes, runs, train

SIZE, MAP = (192, 256), (48, 64)


@pytest.fixture
def mini(shared):
    return shared / "data/coco_mini"


class Cheat(torch.nn.Module):
    """A network that knows every crop it will be shown, and the mirrored one, and answers with the target of training."""

    def __init__(self, dataset):
        super().__init__()
        self.answers = {}
        for s in dataset.samples:
            image = normalise(crop(s.pixels(), s.center, s.scale, 0.0, SIZE))
            xy = joints_to_crop(s.joints, s.visible, s.center, s.scale, 0.0, SIZE)
            mirrored = xy.copy()
            mirrored[:, 0] = SIZE[0] - 1 - xy[:, 0]
            swap = COCO17.swap
            self.answers[image.tobytes()] = heatmap.encode(xy, s.visible, SIZE, MAP, 2)[0]
            turned = np.ascontiguousarray(image[..., ::-1])
            self.answers[turned.tobytes()] = heatmap.encode(mirrored[swap], s.visible[swap], SIZE, MAP, 2)[0]

    def forward(self, x):
        return torch.from_numpy(np.stack([self.answers[one.tobytes()] for one in x.contiguous().numpy()]))


# The whole chain on real photos


def test_perfect_heat_maps_give_the_oracle_ap(mini, tmp_path):
    """Photo, crop, network, decoding, results file, AP, with ground-truth boxes: what a network without any error scores.

    It is below 1, and nothing but two things makes it so. (1) Six of the 652 labelled joints lie outside their crops, COCO's
    boxes being tight around what is seen: four are so far out that they have no target and come back at the crop's corner,
    hundreds of crop pixels away; two come back at the edge. Each takes 1/K from the OKS of its person with K labelled
    joints, so that person fails the high thresholds. (2) Target peaks are whole pixels of the map: the other joints come back
    up to half a map pixel (two crop pixels) off in x and in y, which OKS at 0.95 notices on the joints with small sigmas.
    Persons without labels, crowds, instance scores and suppression take nothing: exact joints score 1.
    """
    dataset = data.load("coco", "val", mini)
    network = Cheat(dataset)
    for flip_test in (False, True):
        xy, scores = predict_dataset(network, dataset, SIZE, flip_test, batch_size=7)
        ours = results(dataset, xy, scores)
        (tmp_path / "results.json").write_text(json.dumps(ours))
        measured = coco_ap(dataset.ground_truth, tmp_path / "results.json")
        assert measured == oracle(dataset, SIZE, 2, flip_test) == evaluate(network, dataset, SIZE, flip_test=flip_test)
        assert 0.97 < measured["AP"] < 0.99 and measured["AP50"] == 1

    xy, scores = oracle_poses(dataset, SIZE, 2, flip_test=False)
    truth, labelled = np.stack([s.joints for s in dataset]), np.stack([s.visible for s in dataset]) > 0
    in_map = np.stack([joints_to_crop(s.joints, s.visible, s.center, s.scale, 0.0, SIZE) for s in dataset]) / 4
    inside = labelled & ((in_map >= -0.5) & (in_map < np.array(MAP) - 0.5)).all(axis=2)
    assert labelled.sum() == 652 and (labelled & ~inside).sum() == 6 and (labelled & (scores == 0)).sum() == 4
    pixel = np.stack([s.scale[0] * 200 / MAP[0] for s in dataset])[:, None, None]
    assert (np.abs(xy - truth) / pixel)[inside].max() < 0.5 + 1e-3

    def ap(exact):
        return score(dataset, np.where(exact[..., None], truth, xy), np.where(exact, 1, scores))["AP"]

    assert ap(labelled) == pytest.approx(1)
    whole, rounded, outside = ap(~labelled & labelled), ap(labelled & ~inside), ap(inside)
    assert whole < outside < rounded < 1, "joints outside the crop take more than rounding"
    assert 1 - whole == pytest.approx((1 - rounded) + (1 - outside), abs=2e-3), "and the two explain all of it"


def test_jittered_boxes_stand_in_for_a_detector(mini, tmp_path):
    """The same with a detector's file: boxes moved and scored by how good they are, doubles, and boxes of nothing.

    Here not even AP50 is 1. Unlabelled joints are at the corner of each crop and count in suppression, so some doubles differ
    by more than OKS 0.9 allows, stay, and are wrong detections of a good score.
    """
    rng = np.random.default_rng(0)
    annotated = data.load("coco", "val", mini)
    entries, of = [], []
    for number, s in enumerate(annotated.samples):
        for _ in range(2):
            move = rng.normal(0, 0.03, 4)
            wh = s.box_wh * (1 + move[:2])
            corner = s.center + move[2:] * wh - wh / 2
            entries.append([s.image_id, [*corner.tolist(), *wh.tolist()], float(1 - np.abs(move).max())])
            of.append(number)
        entries.append([s.image_id, [*(s.center + 3 * s.box_wh).tolist(), *s.box_wh.tolist()], 0.02])
        of.append(None)
    keys = ("image_id", "bbox", "score")
    detected = [dict(zip(keys, e, strict=True)) | {"category_id": 1} for e in entries]
    (tmp_path / "boxes.json").write_text(json.dumps(detected))

    found = data.load("coco", "val", mini, detections=tmp_path / "boxes.json")
    assert len(found) == 3 * 68 and found.ground_truth == annotated.ground_truth
    known = [
        s if number is None else replace(s, joints=annotated[number].joints, visible=annotated[number].visible)
        for s, number in zip(found.samples, of, strict=True)
    ]
    xy, scores = predict_dataset(Cheat(replace(found, samples=known)), found, SIZE, flip_test=True)
    kept = results(found, xy, scores)
    assert 68 <= len(kept) < len(found), "doubles are suppressed"
    measured, ideal = score(found, xy, scores), oracle(annotated, SIZE, 2)
    assert 0.9 < measured["AP"] < ideal["AP"] and 0.98 < measured["AP50"] < 1 and measured["AR50"] == 1
    assert oracle(replace(found, samples=known), SIZE, 2) == measured
    once = oracle(replace(found, samples=known[::3]), SIZE, 2)
    assert once["AP50"] == 1 and once["AP"] != ideal["AP"], "no doubles; a moved box has other joints outside its crop"


# Reading photos


def test_each_photo_is_read_once_ahead_of_the_network_and_crops_are_the_plain_ones():
    reads, lock = Counter(), threading.Lock()

    class Picture:
        def __init__(self, number):
            self.number = number

        def __call__(self):
            with lock:
                reads[self.number] += 1
            return np.random.default_rng(self.number).integers(0, 255, (40, 30, 3), dtype=np.uint8)

    images = [Picture(n) for n in range(200)]
    sizes = np.random.default_rng(0).integers(1, 9, len(images))
    nothing = np.zeros((17, 2)), np.zeros(17)
    samples = [
        Sample(images[n], n, i, (10.0 + i, 20.0), (0.1, 0.13), *nothing) for n in range(len(images)) for i in range(sizes[n])
    ]
    taken, seen, ahead = [], [], []

    class Counting(tuple):
        def __iter__(self):
            return (taken.append(s) or s for s in tuple.__iter__(self))

    dataset = Dataset("images", COCO17, Counting(samples))

    class Watching(torch.nn.Module):
        def forward(self, x):
            seen.append(x.numpy().copy())
            ahead.append(len(taken) - sum(map(len, seen)))
            return torch.zeros(len(x), 17, 16, 12)

    xy, scores = predict_dataset(Watching(), dataset, (48, 64), flip_test=False, batch_size=16)
    assert xy.shape == (len(samples), 17, 2) and set(reads.values()) == {1} and len(reads) == len(images)
    assert {len(x) for x in seen[:-1]} == {16}
    plain = np.stack([normalise(crop(s.pixels(), s.center, s.scale, 0.0, (48, 64))) for s in samples])
    assert np.array_equal(np.concatenate(seen), plain)
    assert 16 <= max(ahead) <= 2 * 16 + 16 + 8, "two batches are read ahead, give or take a photo, and never more"


def test_a_photo_with_more_people_than_a_batch_and_a_damaged_one(tmp_path):
    from mdw.util.errors import MdwError

    (tmp_path / "bad.jpg").write_bytes(b"no image")
    nothing = np.zeros((17, 2)), np.zeros(17)
    black = np.zeros((20, 20, 3), np.uint8)
    many = [Sample(lambda: black, 1, i, (10.0, 10.0), (0.1, 0.1), *nothing) for i in range(3)]
    crowd = [replace(many[0], person_id=i) for i in range(20)]

    class Nothing(torch.nn.Module):
        def forward(self, x):
            return torch.zeros(len(x), 17, 16, 12)

    for samples in (crowd, many + crowd, []):
        xy, _ = predict_dataset(Nothing(), Dataset("x", COCO17, tuple(samples)), (48, 64), batch_size=8)
        assert xy.shape == (len(samples), 17, 2)
    bad = replace(many[0], image=tmp_path / "bad.jpg")
    with pytest.raises(MdwError, match="bad.jpg"):
        predict_dataset(Nothing(), Dataset("x", COCO17, (*crowd, bad, *many)), (48, 64), batch_size=4)
    assert not [t for t in threading.enumerate() if "ThreadPool" in t.name], "no thread is left behind"


# The fast path against the plain rule


def plain_results(ids, xy, joint_scores, centers, scales, box_scores):
    """Sections 7's rule with loops: instance scores, then suppression image by image."""
    instances, by_image, area = [], {}, (scales * 200).prod(axis=1)
    for i, image in enumerate(ids):
        good = [float(v) for v in joint_scores[i] if v > 0.2]
        total = 0.0
        for v in good:
            total += v
        instances.append(float(box_scores[i]) * (total / len(good) if good else 0.0))
        by_image.setdefault(image, []).append(i)
    kept = []
    for members in by_image.values():
        left = sorted(members, key=lambda i: -instances[i])
        while left:
            best = left.pop(0)
            kept.append(best)
            left = [i for i in left if oks(xy[best], xy[i], area[best], area[i]) <= 0.9]
    return kept, instances


def official_numbers(truth, entries):
    """pycocotools, called as its own demo calls it."""
    import contextlib
    import copy
    import io

    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        gt = COCO()
        gt.dataset = copy.deepcopy(truth)
        gt.createIndex()
        evaluation = COCOeval(gt, gt.loadRes(copy.deepcopy(entries)), "keypoints")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats.tolist()


def test_the_fast_path_equals_the_plain_one_on_a_drawn_val_set(tmp_path):
    """200 images, 440 persons, 4,165 boxes: val2017 at a twenty-fifth, crowds of more than 20 boxes included."""
    truth, detected = synthetic_coco(200, 440, 254, 4165)
    write_folder(tmp_path, truth)
    (tmp_path / "boxes.json").write_text(json.dumps(detected))
    dataset = data.load("coco", "val", tmp_path, detections=tmp_path / "boxes.json")
    assert Counter(s.image_id for s in dataset.samples).most_common(1)[0][1] > 100
    centers, scales = box_to_center_scale([d["bbox"] for d in detected], SIZE)
    assert np.array_equal(centers, np.stack([s.center for s in dataset]))
    assert np.array_equal(scales, np.stack([s.scale for s in dataset]))
    assert [d["score"] for d in detected] == [s.box_score for s in dataset]

    xy, joint_scores = synthetic_poses(centers, np.array([d["bbox"][2:] for d in detected]))
    ids, boxes = [d["image_id"] for d in detected], [d["score"] for d in detected]
    kept, instances = plain_results(ids, xy, joint_scores, centers, scales, boxes)
    ours = results(dataset, xy, joint_scores)
    assert ours == coco_results(ids, xy, joint_scores, centers, scales, boxes) and len(kept) < len(ids)
    plain = [
        {
            "image_id": ids[i],
            "category_id": 1,
            "keypoints": [float(v) for k in range(17) for v in (*xy[i, k], joint_scores[i, k])],
            "score": pytest.approx(instances[i], rel=1e-12),
            "center": [float(v) for v in centers[i]],
            "scale": [float(v) for v in scales[i]],
        }
        for i in kept
    ]
    assert ours == plain
    numbers = score(dataset, xy, joint_scores)
    assert list(numbers.values()) == official_numbers(truth, ours) and 0.1 < numbers["AP"] < 0.9


# What is said of counts


def test_counts_are_reported_and_compared(mini):
    ours = data.load("coco", "val", mini)
    said = coco.describe(ours)
    assert "68 annotated persons in 32 images" in said and "6,352" in said and "do not compare" in said and "\n" not in said
    whole = replace(ours, samples=[ours[0]] * 6352)
    assert coco.describe(whole).endswith("as many as in the public set")
    boxes = replace(ours, name="coco-val-detections", samples=[ours[0]] * 104_125)
    assert "104,125 detected boxes" in coco.describe(boxes) and "public set" in coco.describe(boxes)
    assert "149,813" in coco.describe(replace(ours, name="coco-train"))
    assert "no public count" in coco.describe(replace(ours, name="coco-mine"))


def test_training_on_a_part_of_coco_says_so(mini, tmp_path, capsys, monkeypatch):
    spec = runs.make_spec("mdw_hrnet_18", recipes.get("smoke", data="coco", train_options={}, val_options={}), 0)
    monkeypatch.setattr(train, "training_batches", lambda *_: 1 / 0)  # far enough
    for quiet in (True, False):
        with pytest.raises(ZeroDivisionError):
            train.train(spec, mini, tmp_path, "cpu", quiet)
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == (0 if quiet else 2)
    assert "86 annotated persons in 28 images" in lines[0] and "149,813" in lines[0] and "6,352" in lines[1]
