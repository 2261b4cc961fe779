"""Joint sets, boxes and the affine crop: equality with the official numbers, and what must always hold."""

import json

import numpy as np
import pytest

from mdw.pose.affine import affine_matrix, apply
from mdw.pose.boxes import box_to_center_scale, clip_box, joints_box, mpii_center_scale
from mdw.pose.joints import COCO17, LSP14, MPII16
from mdw.util.errors import MdwError


@pytest.mark.parametrize("joints, count", [(COCO17, 17), (MPII16, 16), (LSP14, 14)])
def test_joint_sets_are_consistent(joints, count):
    assert joints.num_joints == count == len(set(joints.names))
    assert (joints.swap[joints.swap] == np.arange(count)).all()
    for i, name in enumerate(joints.names):
        mirrored = name.replace("left", "?").replace("right", "left").replace("?", "right")
        assert joints.names[joints.swap[i]] == mirrored  # a middle joint stays, a left one meets its right
    assert sorted(joints.upper + joints.lower) == list(range(count))
    assert all(
        "ankle" in joints.names[k] or "knee" in joints.names[k] or "hip" in joints.names[k] or k == 6 for k in joints.lower
    )
    touched = {k for limb in joints.limbs for k in limb}
    assert touched == set(range(count)), "every joint is drawn"
    mirrored_limbs = {frozenset(joints.swap[list(limb)]) for limb in joints.limbs}
    assert mirrored_limbs == {frozenset(limb) for limb in joints.limbs} or joints.name == "coco17"
    assert joints.sigmas is None or len(joints.sigmas) == count


def test_joint_orders_are_those_of_the_files(protocol):
    truth = json.loads((protocol / "coco_gt.json").read_text())["categories"][0]
    assert list(COCO17.names) == truth["keypoints"]
    assert {frozenset(limb) for limb in COCO17.limbs} == {frozenset(k - 1 for k in limb) for limb in truth["skeleton"]}
    flips = np.load(protocol / "flip.npz")
    for prefix, joints in (("coco", COCO17), ("mpii", MPII16)):
        assert np.array_equal(np.array(joints.pairs), flips[f"{prefix}_pairs"])
    short = {"ank": "ankle", "kne": "knee", "hip": "hip", "wri": "wrist", "elb": "elbow", "sho": "shoulder"}
    middle = {"pelv": "pelvis", "thor": "thorax", "head": "head_top"}
    for file, joints, neck in (("pckh_expected.json", MPII16, "upper_neck"), ("lsp_pck_expected.json", LSP14, "neck")):
        names = json.loads((protocol / file).read_text())["joint_names"]
        long = [{**middle, "neck": neck}.get(n) or {"l": "left_", "r": "right_"}[n[0]] + short[n[1:]] for n in names]
        assert list(joints.names) == long


def test_boxes_equal_the_official_ones(protocol):
    given = np.load(protocol / "box2cs.npz")
    for box, aspect, center, scale in zip(*(given[k] for k in ("box_xywh", "aspect", "center", "scale")), strict=True):
        ours = box_to_center_scale(box, (aspect, 1))
        assert ours[0].dtype == ours[1].dtype == np.float32
        np.testing.assert_allclose(ours[0], center, atol=1e-6, rtol=0)
        np.testing.assert_allclose(ours[1], scale, atol=1e-6, rtol=0)
    for aspect in (0.75, 1.0):  # all at once, and from lists
        of = given["aspect"] == aspect
        center, scale = box_to_center_scale(given["box_xywh"][of].tolist(), (256 * aspect, 256))
        np.testing.assert_allclose(center, given["center"][of], atol=1e-6, rtol=0)
        np.testing.assert_allclose(scale, given["scale"][of], atol=1e-6, rtol=0)


def test_a_box_only_ever_grows_to_the_aspect():
    center, scale = box_to_center_scale([[10, 20, 60, 100], [10, 20, 100, 60], [0, 0, 75, 100], [5, 6, 0, 0]], (192, 256), 1)
    np.testing.assert_allclose(scale * 200, [[75, 100], [100, 100 / 0.75], [75, 100], [0, 0]], rtol=1e-6)
    np.testing.assert_allclose(center, [[40, 70], [60, 50], [37.5, 50], [5, 6]])
    _, padded = box_to_center_scale([-11, 0, 20, 30], (192, 256))
    _, bare = box_to_center_scale([-11, 0, 20, 30], (192, 256), padding=1)
    assert np.array_equal(padded, bare), "a centre at x = -1 is not padded"
    center, scale = box_to_center_scale([], (192, 256))
    assert center.shape == scale.shape == (0, 2)
    with pytest.raises(MdwError, match="finite"):
        box_to_center_scale([0, 0, np.nan, 5], (192, 256))
    with pytest.raises(MdwError, match="shape|4,"):
        box_to_center_scale([0, 0, 5], (192, 256))


def test_mpii_records_equal_the_official_ones(protocol):
    annotations = json.loads((protocol / "mpii_annot.json").read_text())
    expected = np.load(protocol / "mpii_records.npz")
    center, scale = mpii_center_scale([a["center"] for a in annotations], [a["scale"] for a in annotations])
    np.testing.assert_allclose(center, expected["center"], atol=1e-9, rtol=0)
    np.testing.assert_allclose(scale, expected["scale"], atol=1e-9, rtol=0)
    one = mpii_center_scale(annotations[0]["center"], annotations[0]["scale"])
    assert np.array_equal(one[0], center[0]) and np.array_equal(one[1], scale[0])


def test_coco_records_equal_the_official_ones(protocol):
    truth = json.loads((protocol / "coco_gt.json").read_text())
    expected = np.load(protocol / "coco_records.npz")
    ids, boxes, by_mmpose = [], [], []
    for image in truth["images"]:
        for a in truth["annotations"]:
            if a["image_id"] != image["id"] or a["iscrowd"]:
                continue
            box = clip_box(a["bbox"], (image["width"], image["height"]), a["area"])
            if box is None or max(a["keypoints"]) == 0:
                continue
            ids.append(a["id"])
            boxes.append(box)
            strict = clip_box(a["bbox"], (image["width"], image["height"]), a["area"], strict=True)
            by_mmpose.append(strict is not None and a["num_keypoints"] > 0)
    assert ids == expected["ann_id"].tolist()
    assert by_mmpose == expected["kept_by_mmpose016"].tolist()
    center, scale = box_to_center_scale(boxes, (192, 256))
    np.testing.assert_allclose(center, expected["center"], atol=1e-6, rtol=0)
    np.testing.assert_allclose(scale, expected["scale"], atol=1e-6, rtol=0)


def test_clipping_a_box():
    assert clip_box([-10, -10, 20, 20], (100, 100)).tolist() == [0, 0, 19, 19]  # the corner moves, the box is not cut
    assert clip_box([90, 90, 50, 5], (100, 100)).tolist() == [90, 90, 9, 4]
    assert clip_box([5, 5, 10, 10], (100, 100), area=0) is None
    assert clip_box([120, 5, 10, 10], (100, 100)) is None
    assert clip_box([5, 5, 1, 1], (100, 100)).tolist() == [5, 5, 0, 0]
    assert clip_box([5, 5, 1, 1], (100, 100), strict=True) is None


def test_the_box_around_joints():
    joints = [[3, 4], [10, 2], [np.nan, np.nan], [500, 500]]
    assert joints_box(joints, [1, 1, 0, 0]).tolist() == [3, 2, 7, 2]
    assert joints_box(joints, [0, 0, 0, 0]) is None
    assert joints_box(np.empty((0, 2)), []) is None


def test_affine_equals_the_official_one(protocol):
    given = np.load(protocol / "affine.npz")
    for i, matrix in enumerate(given["matrix"]):
        arguments = (given["center"][i], given["scale"][i], given["rot"][i], tuple(given["output_size"][i]))
        ours = affine_matrix(*arguments, shift=given["shift"][i], inverse=bool(given["inv"][i]))
        assert ours.shape == (2, 3) and ours.dtype == np.float64
        np.testing.assert_allclose(ours, matrix, rtol=1e-6, atol=1e-6 * np.abs(matrix).max())
        np.testing.assert_allclose(apply(ours, given["points"][i]), given["points_out"][i], atol=5e-5, rtol=0)
    for i, out in enumerate(given["tp_out"]):
        size = tuple(given["tp_output_size"][i])
        back = affine_matrix(given["tp_center"][i], given["tp_scale"][i], 0, size, inverse=True)
        np.testing.assert_allclose(apply(back, given["tp_coords"][i]), out, atol=1e-4, rtol=0)


def test_affine_inverse_and_batches():
    rng = np.random.default_rng(0)
    center, scale = rng.uniform(0, 600, (40, 2)), rng.uniform(0.2, 3, (40, 2))
    rotation, points = rng.uniform(-180, 180, 40), rng.uniform(-50, 700, (40, 7, 2))
    there = affine_matrix(center, scale, rotation, (192, 256))
    back = affine_matrix(center, scale, rotation, (192, 256), inverse=True)
    np.testing.assert_allclose(apply(back, apply(there, points)), points, atol=1e-8)
    np.testing.assert_allclose(apply(there, center[:, None])[:, 0], np.tile([96, 128], (40, 1)), atol=1e-3)
    for i in range(40):
        one = affine_matrix(center[i], scale[i], rotation[i], (192, 256))
        assert np.array_equal(one, there[i])
        # a similarity, width to width, against the closed form
        c, s, k = np.cos(np.deg2rad(rotation[i])), np.sin(np.deg2rad(rotation[i])), 192 / (200 * scale[i, 0])
        np.testing.assert_allclose(one[:, :2], k * np.array([[c, s], [-s, c]]), rtol=1e-4, atol=2e-4 * k)
    moved = affine_matrix(center[0] + 200 * scale[0] * [0.1, -0.2], scale[0], 30.0, (192, 256))
    np.testing.assert_allclose(affine_matrix(center[0], scale[0], 30, (192, 256), shift=(0.1, -0.2)), moved, atol=1e-3)
    assert apply(there[0], points[0, 0]).shape == (2,)
    assert affine_matrix(np.empty((0, 2)), np.empty((0, 2)), np.empty(0), (192, 256)).shape == (0, 2, 3)
    assert apply(np.empty((0, 2, 3)), np.empty((0, 5, 2))).shape == (0, 5, 2)


def test_positive_rotation_turns_the_picture_counter_clockwise():
    matrix = affine_matrix([100, 100], [1, 1], 90, (200, 200))
    np.testing.assert_allclose(apply(matrix, [150, 100]), [100, 50], atol=1e-3)  # what was right of the centre is above it


def test_affine_of_a_crop_without_size():
    assert not affine_matrix([5, 6], [0, 0], 0, (192, 256)).any()
    back = affine_matrix([5, 6], [0, 0], 0, (48, 64), inverse=True)
    np.testing.assert_allclose(apply(back, [[0, 0], [47, 63]]), [[5, 6], [5, 6]])
    with pytest.raises(MdwError, match="finite"):
        affine_matrix([np.nan, 6], [1, 1], 0, (192, 256))
    with pytest.raises(MdwError, match="must be"):
        affine_matrix([1, 2, 3], [1, 1], 0, (192, 256))
