"""Synthetic people: the same in every process, honest about what can be seen, left and right told by the front."""

import hashlib
import pickle
import subprocess
import sys

import cv2
import numpy as np
import pytest

from mdw.data import load
from mdw.data.synthetic import PARTS, SyntheticPeople, _image, _painted, _persons, _truth, draw, people
from mdw.pose.joints import COCO17
from mdw.pose.metrics import coco_ap
from mdw.util.errors import MdwError

SIZE = (192, 256)


@pytest.fixture(scope="module")
def images():
    """Of 200 images labels and annotations, and as arrays the keypoints (200, 17, 3) of their main persons."""
    found = []
    for index in range(200):
        rng = np.random.default_rng([5, index, 0])
        persons = _persons(rng, SIZE, 0.3)
        label, _ = _painted(rng, persons, SIZE)
        found.append((label, _truth(label, persons, index)))
    return found, np.array([draw(5, i, SIZE)[1][0]["keypoints"] for i in range(200)]).reshape(-1, 17, 3)


def digest(seed: int, index: int, size=(192, 256)) -> str:
    image, truth = draw(seed, index, size)
    return hashlib.sha256(image.tobytes() + repr(truth).encode()).hexdigest()


def test_the_same_picture_in_any_order_and_process():
    indices = [0, 1, 2, 7, 500]
    here = {i: digest(4, i) for i in indices}
    _image.cache_clear()
    assert {i: digest(4, i) for i in reversed(indices)} == here
    code = (
        "import sys, hashlib, cv2; from mdw.data.synthetic import draw; cv2.setNumThreads(1)\n"
        "for i in (500, 7, 2, 1, 0):\n"
        "    image, truth = draw(4, i); print(i, hashlib.sha256(image.tobytes() + repr(truth).encode()).hexdigest())"
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert dict(zip(map(int, other[::2]), other[1::2], strict=True)) == here


def test_streams_and_indices_differ_and_results_are_the_callers_own():
    assert len({digest(seed, index) for seed in (0, 1, 2) for index in (0, 1, 2)}) == 9
    image, truth = draw(0, 0)
    image[:], truth[0]["keypoints"][0], truth[0]["bbox"][0] = 0, -5.0, -5.0
    again, fresh = draw(0, 0)
    assert again.any() and fresh[0]["keypoints"][0] != -5.0 and fresh[0]["bbox"][0] != -5.0


@pytest.mark.parametrize("size", [(192, 256), (288, 384), (256, 256), (97, 64)])
def test_sizes(size):
    for index in range(3):
        image, truth = draw(8, index, size)
        assert image.shape == (size[1], size[0], 3) and image.dtype == np.uint8 and image.std() > 3
        assert truth[0]["num_keypoints"] >= 6


def test_truth_agrees_with_what_was_painted(images):
    for label, annotations in images[0]:
        height, width = label.shape
        for a in annotations:
            mine = (label.astype(int) - 1) // PARTS == a["id"] % 16
            keypoints = np.array(a["keypoints"]).reshape(17, 3)
            v = keypoints[:, 2]
            assert a["id"] // 16 == a["image_id"] and a["area"] == mine.sum() > 0
            assert tuple(a["bbox"]) == cv2.boundingRect(mine.astype(np.uint8))
            assert a["num_keypoints"] == (v > 0).sum() and set(v) <= {0, 1, 2}
            assert (keypoints[v == 0] == 0).all()
            labelled = keypoints[v > 0]
            assert (labelled[:, :2] >= 0).all() and (labelled[:, :2] <= (width - 1, height - 1)).all()
            left, top, w, h = a["bbox"]
            for x, y, _ in keypoints[v == 2]:
                column, row = int(x + 0.5), int(y + 0.5)
                assert mine[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2].any()
                assert left - 2 <= x <= left + w + 1 and top - 2 <= y <= top + h + 1


def test_the_main_person_is_large_and_sometimes_cut(images):
    boxes = np.array([draw(5, i, SIZE)[1][0]["bbox"] for i in range(200)])
    longer = boxes[:, 2:].max(1) / 256
    assert 0.5 < np.median(longer) < 0.95 and (longer > 0.35).mean() > 0.9
    body = images[1][:, 5:, 2]  # a body joint is unlabelled only beyond the border
    assert 0.05 < (body == 0).any(1).mean() < 0.25
    assert len(np.unique(np.round(boxes[:, :2]), axis=0)) > 150


def test_views_and_hidden_joints_are_mixed(images):
    annotations, keypoints = [a for _, a in images[0]], images[1]
    v = keypoints[..., 2]
    trunk = (v[:, [5, 6, 11, 12]] > 0).all(1)
    upside_down = (keypoints[trunk][:, 5:7, 1].mean(1) > keypoints[trunk][:, 11:13, 1].mean(1)).mean()
    assert 0.02 < upside_down < 0.2
    assert 0.1 < (v[:, 5:] == 1).sum() / (v[:, 5:] > 0).sum() < 0.45
    assert 0.15 < (v[:, 0] == 0).mean() < 0.6  # noses turned away
    assert 0.1 < np.mean([len(a) > 1 for a in annotations]) < 0.4
    assert all(len(draw(5, i, SIZE, 0.0)[1]) == 1 for i in range(10))


def test_left_and_right_follow_from_the_front_of_the_figure(images):
    """Who shows the nose has the left shoulder on the image's right, who shows the back has it on the left."""
    keypoints = images[1]
    v = keypoints[..., 2]
    up = keypoints[:, 5:7, 1].mean(1) < keypoints[:, 11:13, 1].mean(1) - 20
    chosen = (v[:, [5, 6, 11, 12]] > 0).all(1) & up
    reach = np.linalg.norm(keypoints[:, 5, :2] - keypoints[:, 11, :2], axis=1)
    across = (keypoints[:, 5, 0] - keypoints[:, 6, 0]) / np.maximum(reach, 1)
    front, back = chosen & (v[:, 0] == 2) & (abs(across) > 0.3), chosen & (v[:, :3] == 0).all(1) & (abs(across) > 0.3)
    assert front.sum() > 15 and back.sum() > 15
    assert (across[front] > 0).mean() > 0.9 and (across[back] < 0).mean() > 0.9
    hips = keypoints[:, 11, 0] - keypoints[:, 12, 0]
    assert ((hips * across)[front | back] > 0).mean() > 0.85  # the trunk is one: both of its ends agree


def test_the_data_set_yields_the_main_persons():
    data = people(5, seed=6)
    assert isinstance(data, SyntheticPeople) and len(data) == 5 and data.joints is COCO17 and data.name == "people"
    for index, sample in enumerate(data.samples):
        image, truth = draw(6, index)
        keypoints = np.array(truth[0]["keypoints"]).reshape(17, 3)
        assert np.array_equal(sample.pixels(), image)
        assert np.allclose(sample.joints, keypoints[:, :2], atol=1e-3)
        assert np.array_equal(sample.visible, keypoints[:, 2] > 0)
        x, y, w, h = truth[0]["bbox"]
        assert np.allclose(sample.center, (x + w / 2, y + h / 2), atol=1)
        assert sample.scale[0] / sample.scale[1] == pytest.approx(0.75) and sample.area == truth[0]["area"]
        assert (sample.image_id, sample.person_id) == (index + 1, truth[0]["id"])
    assert np.array_equal(data[-1].joints, data[4].joints) and len(data.samples[1:3]) == 2
    with pytest.raises(IndexError):
        data[5]
    copy = pickle.loads(pickle.dumps(data))
    assert np.array_equal(copy[3].pixels(), data[3].pixels())
    wide = people(2, seed=6, aspect=1.0)[1]
    assert wide.scale[0] == pytest.approx(wide.scale[1])


def test_splits_share_no_picture():
    train, val = load("people", "train", count=6), load("people", "val", count=6)
    pixels = [sample.pixels().tobytes() for data in (train, val) for sample in data.samples]
    assert len(set(pixels)) == 12


def test_a_perfect_prediction_scores_one_and_bystanders_do_not_count():
    data = people(12, seed=7, crowd=1.0)
    truth = data.ground_truth
    assert len(truth["images"]) == 12 < len(truth["annotations"])
    assert all(a["id"] >= 1 for a in truth["annotations"])
    assert len({a["id"] for a in truth["annotations"]}) == len(truth["annotations"])
    assert sum(not a["iscrowd"] for a in truth["annotations"]) == 12
    results = [
        {
            "image_id": s.image_id,
            "category_id": 1,
            "score": 1.0,
            "keypoints": np.concatenate([s.joints, np.ones((17, 1))], axis=1).ravel().tolist(),
        }
        for s in data.samples
    ]
    assert coco_ap(truth, results)["AP"] == pytest.approx(1.0)
    everybody = [
        {"image_id": a["image_id"], "category_id": 1, "score": 0.9, "keypoints": a["keypoints"]}
        for a in truth["annotations"]
        if a["num_keypoints"]
    ]
    assert coco_ap(truth, everybody)["AP"] == pytest.approx(1.0)
    for result in results:
        result["keypoints"] = (np.array(result["keypoints"]) + 40).tolist()
    assert coco_ap(truth, results)["AP"] < 0.1
    some = data.select([3, 1])
    assert [s.image_id for s in some.samples] == [4, 2] == [i["id"] for i in some.ground_truth["images"]]


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"size": (192, 0)}, "size"),
        ({"size": (20000, 256)}, "size"),
        ({"size": 256}, "size"),
        ({"size": (19.5, 256)}, "size"),
        ({"size": (192, 256, 3)}, "size"),
        ({"seed": -1}, "seed"),
        ({"seed": 0.5}, "seed"),
        ({"crowd": 1.5}, "crowd"),
        ({"count": 0}, "count"),
        ({"count": 2.5}, "count"),
        ({"aspect": 0}, "aspect"),
        ({"aspect": float("nan")}, "aspect"),
    ],
)
def test_nonsense_is_refused_in_one_sentence(arguments, word):
    with pytest.raises(MdwError, match=word) as refused:
        people(**({"count": 3} | arguments))
    assert "\n" not in str(refused.value)
