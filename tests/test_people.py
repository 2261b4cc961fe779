"""Drawn people: the same in every process, honest about what can be seen, shaped and posed like people."""

import hashlib
import pickle
import subprocess
import sys

import cv2
import numpy as np
import pytest

from mdw.data import load
from mdw.data.body import LIMITS, NODE, PARENTS, Pose, Shape, forward_kinematics, mirrored, sample_shape, turn
from mdw.data.canvas import SCENERY, Camera, Canvas
from mdw.data.figure import Placed, sample_figure
from mdw.data.people import DrawnPeople, _picture, _truth, draw, people
from mdw.data.poses import FAMILIES, sample_pose
from mdw.pose.joints import COCO17
from mdw.pose.metrics import coco_ap
from mdw.util.errors import MdwError

AVERAGE = Shape(stature=1.7, girth=1.0, female=False, head=0.133, shoulder=0.11, hip=0.054, leg=1.0, arm=1.0)
RELAXED = {name: 0.0 for name in LIMITS} | {f"{side}_elevation": 20.0 for side in ("left", "right")}


@pytest.fixture(scope="module")
def pictures():
    """200 pictures and, as arrays, the keypoints (200, 17, 3) of their main persons."""
    drawn = [_picture(5, i, (192, 256), 0.3) for i in range(200)]
    return drawn, np.array([p.annotations[0]["keypoints"] for p in drawn]).reshape(-1, 17, 3)


def placed(pose: Pose, seed: int = 3, shape: Shape = AVERAGE) -> Placed:
    figure = sample_figure(np.random.default_rng(seed), shape)
    return Placed.of(figure, shape.stature, *forward_kinematics(shape, pose))


def seen(persons: list[Placed], light=(0.0, -0.6, 0.8), pitch=0.0) -> tuple[np.ndarray, np.ndarray, list[dict]]:
    """Labels, keypoints (K, 17, 3) and annotations of people around the origin, from 5 m, in 201 x 251 pixels."""
    camera = Camera.looking(np.zeros(3), 5.0, pitch, 0.0)
    camera = Camera(camera.rotation, camera.target, camera.distance, focal=560.0, shift=(100.0, 125.0))
    canvas = Canvas((201, 251), np.array(light))
    with np.errstate(invalid="ignore"):
        canvas.figures(persons, camera)
    label, _ = canvas.finish()
    truth = _truth(label, canvas.depth, camera, persons, 0)
    return label, np.array([a["keypoints"] for a in truth]).reshape(-1, 17, 3), truth


def digest(seed: int, index: int, size=(192, 256)) -> str:
    image, truth = draw(seed, index, size)
    return hashlib.sha256(image.tobytes() + repr(truth).encode()).hexdigest()


def test_the_same_picture_in_any_order_and_process():
    indices = [0, 1, 2, 7, 500]
    here = {i: digest(4, i) for i in indices}
    _picture.cache_clear()
    assert {i: digest(4, i) for i in reversed(indices)} == here
    code = (
        "import sys, hashlib, cv2; from mdw.data.people import draw; cv2.setNumThreads(1)\n"
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


def test_truth_agrees_with_what_was_painted(pictures):
    for picture in pictures[0]:
        height, width = picture.labels.shape
        for a in picture.annotations:
            mine = picture.labels // SCENERY == a["id"] % SCENERY + 1
            keypoints = np.array(a["keypoints"]).reshape(17, 3)
            x, y, v = keypoints.T
            assert a["id"] // SCENERY == a["image_id"] and a["area"] == mine.sum() > 0
            assert tuple(a["bbox"]) == cv2.boundingRect(mine.astype(np.uint8))
            assert a["num_keypoints"] == (v > 0).sum() and set(v) <= {0, 1, 2}
            assert (keypoints[v == 0] == 0).all()
            there = keypoints[v > 0]
            assert (there[:, :2] >= 0).all() and (there[:, 0] <= width - 1).all() and (there[:, 1] <= height - 1).all()
            left, top, w, h = a["bbox"]
            for x, y, _ in keypoints[v == 2]:
                column, row = int(x + 0.5), int(y + 0.5)
                assert mine[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2].any()
                assert left - 2 <= x <= left + w + 1 and top - 2 <= y <= top + h + 1


def test_the_main_person_is_large_and_sometimes_cut(pictures):
    drawn, keypoints = pictures
    boxes = np.array([p.annotations[0]["bbox"] for p in drawn])
    longer = boxes[:, 2:].max(1) / 256
    assert 0.5 < np.median(longer) < 0.95 and (longer > 0.35).mean() > 0.95
    body = keypoints[:, 5:, 2]  # a body joint is unlabelled only beyond the border
    assert 0.05 < (body == 0).any(1).mean() < 0.25
    assert len(np.unique(np.round(boxes[:, :2]), axis=0)) > 150


def test_the_mix_of_views(pictures):
    drawn, keypoints = pictures
    v = keypoints[..., 2]
    shoulders = keypoints[(v[:, 5] > 0) & (v[:, 6] > 0)]
    assert 0.35 < (shoulders[:, 5, 0] > shoulders[:, 6, 0]).mean() < 0.65  # seen from the front, roughly
    trunk = (v[:, [5, 6, 11, 12]] > 0).all(1)
    upside_down = (keypoints[trunk][:, 5:7, 1].mean(1) > keypoints[trunk][:, 11:13, 1].mean(1)).mean()
    assert 0.02 < upside_down < 0.2
    assert 0.1 < (v[:, 5:] == 1).sum() / (v[:, 5:] > 0).sum() < 0.45  # hidden body joints
    assert 0.15 < (v[:, 0] == 0).mean() < 0.6  # noses turned away
    assert 0.1 < np.mean([len(p.annotations) > 1 for p in drawn]) < 0.4
    assert all(len(_picture(5, i, (192, 256), 0.0).annotations) == 1 for i in range(10))


def test_front_back_and_profile():
    _, front, _ = seen([placed(Pose(RELAXED, np.eye(3)))])
    _, back, _ = seen([placed(Pose(RELAXED, turn(("y", 180))))])
    _, left, _ = seen([placed(Pose(RELAXED, turn(("y", -90))))])  # shows the left side
    for a, b in COCO17.pairs[2:]:  # shoulders to ankles
        assert front[0, a, 0] > front[0, b, 0] + 5 and back[0, a, 0] < back[0, b, 0] - 5
    assert (front[0, :, 2] == 2).all()
    assert (back[0, :3] == 0).all() and (back[0, 5:, 2] == 2).all()
    assert left[0, 1, 2] == 2 and left[0, 3, 2] == 2 and left[0, 4, 2] == 0  # one ear
    assert left[0, 0, 0] < left[0, 3, 0] - 3  # the nose is where the face looks
    assert left[0, 5, 2] == 2 and left[0, 6, 2] == 1 and left[0, 12, 2] == 1  # the far side is hidden by the near
    _, head_down, _ = seen([placed(Pose(RELAXED, turn(("z", 180))))])
    assert head_down[0, 0, 1] > head_down[0, 15, 1] + 100


def test_a_mirrored_pose_gives_the_mirrored_picture_and_truth():
    rng = np.random.default_rng(0)
    for family in FAMILIES:
        pose = sample_pose(rng, family)
        here, there = placed(pose), placed(mirrored(pose))
        assert np.allclose(here.joints()[COCO17.swap] * (-1, 1, 1), there.joints(), atol=1e-9)
        label, keypoints, truth = seen([here], (0.3, -0.5, 0.8), 0.2)
        other, swapped, swapped_truth = seen([there], (-0.3, -0.5, 0.8), 0.2)
        assert (label[:, ::-1] != other).sum() <= 0.03 * truth[0]["area"]
        expected = keypoints[0, COCO17.swap]
        both = (expected[:, 2] > 0) & (swapped[0, :, 2] > 0)
        assert (expected[:, 2] != swapped[0, :, 2]).sum() <= 1
        assert np.allclose(200 - expected[both, 0], swapped[0, both, 0], atol=0.02)
        assert abs(truth[0]["area"] - swapped_truth[0]["area"]) <= 0.02 * truth[0]["area"]


def test_poses_keep_the_limits_and_bones_their_length():
    rng = np.random.default_rng(1)
    lengths = np.linalg.norm(AVERAGE.offsets(), axis=1)[1:] * AVERAGE.stature
    touched = set()
    for k in range(650):
        pose = sample_pose(rng, list(FAMILIES)[k % len(FAMILIES)])
        assert set(pose.angles) == set(LIMITS)
        for name, (low, high) in LIMITS.items():
            assert low <= pose.angles[name] <= high
            if pose.angles[name] > 0.6 * high:
                touched.add(name)
        position, frame = forward_kinematics(AVERAGE, pose)
        bones = np.linalg.norm(position[1:] - position[list(PARENTS[1:])], axis=1)
        assert np.allclose(bones, lengths, atol=1e-9)
        assert np.allclose(frame @ frame.swapaxes(1, 2), np.eye(3), atol=1e-9) and np.allclose(np.linalg.det(frame), 1)
    assert touched == set(LIMITS)


def test_joints_bend_the_way_bodies_do():
    def at(name: str, **angles: float) -> np.ndarray:
        return forward_kinematics(AVERAGE, Pose(RELAXED | angles, np.eye(3)))[0][NODE[name]]

    x, y, z = 0, 1, 2  # to the left, up, forward
    assert at("left_ankle", left_knee=90)[z] < at("left_ankle")[z] - 0.3
    assert at("left_knee", left_flex=90)[z] > 0.3 and at("right_knee", right_flex=90)[z] > 0.3
    assert at("left_knee", left_abduct=40)[x] > at("left_knee")[x] and at("right_knee", right_abduct=40)[x] < -0.1
    assert at("right_wrist", right_elbow=100)[z] > at("right_wrist")[z] + 0.15
    assert at("left_wrist", left_elevation=170)[y] > at("head")[y]
    assert at("right_wrist", right_elevation=90, right_plane=90)[z] > 0.4
    assert at("right_wrist", right_elevation=90)[x] < -0.4
    assert at("head", spine_flex=60)[z] > at("head")[z] + 0.2
    assert 0.85 < at("head")[y] - at("left_ankle")[y] + 0.25 * AVERAGE.stature < 2.0


def test_shapes_vary_like_people():
    rng = np.random.default_rng(2)
    shapes = [sample_shape(rng) for _ in range(400)]
    stature = np.array([s.stature for s in shapes])
    assert 0.9 < stature.min() < 1.35 and 1.8 < stature.max() < 2.1 and 0.05 < (stature < 1.5).mean() < 0.25
    assert 0.4 < np.mean([s.female for s in shapes]) < 0.6


def test_somebody_behind_is_hidden():
    pose = Pose(RELAXED, np.eye(3))
    near, far = placed(pose), placed(pose, seed=9).moved(np.array([0.0, 0.0, -0.6]))
    label, keypoints, truth = seen([far, near])
    _, alone, _ = seen([near])
    assert np.array_equal(keypoints[1], alone[0])
    assert (keypoints[0, [0, 5, 6, 11, 12], 2] == 1).all() and truth[0]["area"] < 0.5 * truth[1]["area"]
    assert set(np.unique(label // SCENERY)) == {0, 1, 2}


def test_canvas_paints_balls_where_they_are():
    camera = Camera(Camera.looking(np.zeros(3), 4.0, 0.0, 0.0).rotation, np.zeros(3), 4.0, 400.0, (60.0, 50.0))
    canvas = Canvas((121, 101), np.array([0.0, 0.0, 1.0]))
    ball = np.array([0.1, 0.05, 0.0])
    with np.errstate(invalid="ignore"):
        canvas.capsules(camera, np.array([[ball, ball]]), np.full((1, 2), 0.2), np.array([[33, 33]]), np.ones(1), np.zeros(1))
    label, shade = canvas.finish()
    assert abs((label == 33).sum() - np.pi * 20**2) < 20
    assert canvas.depth[45, 70] == pytest.approx(3.8, abs=1e-3) and shade[45, 70] == pytest.approx(1, abs=0.01)
    axes = np.diag([0.1, 0.3, 0.2])[None]
    with np.errstate(invalid="ignore"):
        canvas.ellipsoids(camera, np.array([[0.1, 0.05, 0.6]]), axes, np.array([[50, 50]]), np.zeros(1))
    label, shade = canvas.finish()
    assert canvas.depth[44, 72] == pytest.approx(3.2, abs=0.01)
    assert abs((label == 50).sum() - np.pi * 0.1 * 0.3 * (400 / 3.4) ** 2) < 30 and (label == 33).any()
    assert np.abs(shade).max() <= 1.01


def test_the_data_set_yields_the_main_persons():
    data = people(5, seed=6)
    assert isinstance(data, DrawnPeople) and len(data) == 5 and data.joints is COCO17 and data.name == "people"
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
