"""Augmentation and crop: the official samples replayed, the laws of the draws, and what mirrors and crops must keep."""

import subprocess
import sys

import numpy as np
import pytest

from mdw.data import augment as A
from mdw.data.warp import crop, joints_to_crop, normalise
from mdw.pose.affine import affine_matrix, apply
from mdw.pose.boxes import box_to_center_scale
from mdw.pose.heatmap import encode
from mdw.pose.joints import COCO17, LSP14, MPII16
from mdw.util.errors import MdwError


def close(ours, official):
    """Crops of OpenCV 4 and 5: the one rounds sampling positions to 1/32 px."""
    difference = np.abs(ours.astype(int) - official.astype(int))
    assert ours.dtype == np.uint8 and difference.max() <= 5 and difference.mean() <= 0.35


def person(seed=0):
    rng = np.random.default_rng(seed)
    joints = rng.uniform([100, 50], [250, 400], (17, 2))
    center, scale = box_to_center_scale([100, 50, 150, 350], (192, 256))
    return center, scale, joints, np.ones(17, np.float32)


def test_crops_equal_the_official_ones(protocol):
    given = np.load(protocol / "crop.npz")
    size = tuple(given["output_size"])
    for i, official in enumerate(given["crop"]):
        ours = crop(given["image_rgb"], given["center"][i], given["scale"][i], given["rot"][i], size)
        close(ours, official)
        close(ours, given["crop_exact_bilinear"][i])
        np.testing.assert_allclose(normalise(official), given["normalised"][i], atol=1e-5, rtol=0)
    batch = normalise(given["crop"])
    assert batch.dtype == np.float32 and batch.flags.c_contiguous
    np.testing.assert_allclose(batch, given["normalised"], atol=1e-5, rtol=0)


def test_complete_training_samples_equal_the_official_ones(protocol):
    given = np.load(protocol / "train_sample.npz")
    size, maps = tuple(given["image_size"]), tuple(given["heatmap_size"])
    center, scale = box_to_center_scale(given["box_xywh"], size)
    np.testing.assert_allclose(center, given["box_center"], atol=1e-6)
    np.testing.assert_allclose(scale, given["box_scale"], atol=1e-6)
    image, joints, visible = given["image_rgb"], given["joints"][:, :2], given["joints_vis"][:, 0]
    for i, numbers in enumerate(given["draws"]):
        switches = A.MDW_COCO if given["train"][i] else A.NONE
        ours = A.augment(center, scale, joints, visible, image.shape[1], COCO17, size, switches, A.Draws(*numbers.tolist()))
        assert ours.center.dtype == ours.scale.dtype == np.float32
        np.testing.assert_allclose(ours.center, given["center"][i], atol=1e-6, rtol=1e-6)
        np.testing.assert_allclose(ours.scale, given["scale"][i], atol=1e-6, rtol=0)
        assert ours.rotation == pytest.approx(given["rot"][i], abs=1e-6)
        close(crop(image, ours.center, ours.scale, ours.rotation, size, ours.flip), given["crop"][i])
        placed = joints_to_crop(ours.joints, ours.visible, ours.center, ours.scale, ours.rotation, size)
        np.testing.assert_allclose(placed, given["joints_in_crop"][i][:, :2], atol=1e-4, rtol=1e-6)
        assert np.array_equal(ours.visible, given["vis"][i][:, 0])
        target, weight = encode(placed, ours.visible, size, maps, 2)
        np.testing.assert_allclose(target, given["target"][i], atol=1e-6, rtol=0)
        assert np.array_equal(weight, given["weight"][i, :, 0])


def test_half_bodies_equal_the_official_ones(protocol):
    given = np.load(protocol / "half_body.npz")
    for i, z in enumerate(given["normal_draw"]):
        joints, visible = given["joints"][i][:, :2], given["joints_vis"][i][:, 0]
        ours = A.half_body(joints, visible, COCO17, (float(given["aspect"]), 1), z)
        assert ours[2] == given["valid"][i]
        if ours[2]:
            np.testing.assert_allclose(ours[0], given["center"][i], atol=1e-5, rtol=0)
            np.testing.assert_allclose(ours[1], given["scale"][i], atol=1e-5, rtol=0)


@pytest.mark.parametrize("prefix, joint_set", [("coco", COCO17), ("mpii", MPII16)])
def test_mirrored_joints_equal_the_official_ones(protocol, prefix, joint_set):
    given = np.load(protocol / "flip.npz")
    names = ("joints", "joints_vis", "image_width", "joints_flipped", "joints_vis_flipped")
    for joints, visible, width, flipped, flipped_visible in zip(*(given[f"{prefix}_{n}"] for n in names), strict=True):
        ours = A.flip_joints(joints[:, :2], visible[:, 0], width, joint_set)
        assert np.array_equal(ours[0], flipped[:, :2]) and np.array_equal(ours[1], flipped_visible[:, 0])


@pytest.mark.parametrize("joint_set", [COCO17, MPII16, LSP14])
def test_mirroring_twice_is_nothing(joint_set):
    n = joint_set.num_joints
    joints, visible = np.random.default_rng(0).uniform(0, 99, (n, 2)), np.ones(n)
    twice = A.flip_joints(*A.flip_joints(joints, visible, 100, joint_set), 100, joint_set)
    np.testing.assert_allclose(twice[0], joints, atol=1e-12)
    joints[2], visible[2] = np.nan, 0
    assert np.isfinite(A.flip_joints(joints, visible, 100, joint_set)[0]).all()


def test_joints_stay_on_their_pixels():
    """Bright dots on a dark image are found where the joints say, through scale, rotation and mirror."""
    rng = np.random.default_rng(3)
    center, scale, _, visible = person()
    joints = np.array([[110.0 + 35 * (k % 4), 80.0 + 60 * (k // 4)] for k in range(17)])
    image = np.zeros((450, 400, 3), np.uint8)
    for k, (x, y) in enumerate(joints.astype(int)):
        image[y - 2 : y + 3, x - 2 : x + 3] = 100 + 9 * k  # a grey of its own for each joint
    seen = set()
    for _ in range(60):
        ours = A.augment(center, scale, joints, visible, 400, COCO17, (192, 256), A.MDW_COCO, rng)
        warped = crop(image, ours.center, ours.scale, ours.rotation, (192, 256), ours.flip)
        placed = joints_to_crop(ours.joints, ours.visible, ours.center, ours.scale, ours.rotation, (192, 256))
        order = COCO17.swap if ours.flip else np.arange(17)
        for k, (x, y) in enumerate(np.round(placed).astype(int)):
            if 0 <= x < 192 and 0 <= y < 256:
                assert abs(int(warped[y, x, 0]) - (100 + 9 * int(order[k]))) <= 2
                seen.add((k, ours.flip))
    assert len(seen) == 34


def test_augment_repeats_and_changes_nothing_given():
    given = person()
    kept = [a.copy() for a in given]
    one, two = (A.augment(*given, 400, COCO17, (192, 256), A.MDW_COCO, np.random.default_rng(5)) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))
    assert all(np.array_equal(a, b) for a, b in zip(given, kept, strict=True))
    still = A.augment(*given, 400, COCO17, (192, 256), A.NONE, np.random.default_rng(5))
    assert (
        still.rotation == 0 and not still.flip and all(np.array_equal(a, b) for a, b in zip(still[:2], given[:2], strict=True))
    )
    aligned = [np.random.default_rng(7) for _ in range(2)]
    A.augment(*given, 400, COCO17, (192, 256), A.MDW_COCO, aligned[0])
    A.augment(*given, 400, COCO17, (192, 256), A.NONE, aligned[1])
    assert aligned[0].random() == aligned[1].random(), "every sample takes the same count of numbers"


def test_the_laws_of_the_draws():
    many = A.draw(np.random.default_rng(0), 200_000)
    factor = A.scale_factor(A.MDW_COCO, many)
    assert factor.min() == 0.75 and factor.max() == 1.25
    assert np.mean(factor == 0.75) == pytest.approx(0.1587, abs=0.004) and factor.mean() == pytest.approx(1, abs=0.002)
    angle = A.rotation_degrees(A.MDW_COCO, many)
    assert np.mean(angle == 0) == pytest.approx(0.4, abs=0.005) and np.abs(angle).max() == 60
    turned = angle[angle != 0]
    assert np.mean(np.abs(turned) < 30) == pytest.approx(0.6827, abs=0.005)
    assert np.mean(np.abs(turned) == 60) == pytest.approx(0.0455, abs=0.003) and abs(turned.mean()) < 0.5
    flat = A.rotation_degrees(A.Augmentation(rotation_law="uniform", rotation_probability=1.0), many)
    assert np.abs(flat).max() <= 30 and flat.std() == pytest.approx(30 / np.sqrt(3), rel=0.01)
    assert A.flips(A.MDW_COCO, many).mean() == pytest.approx(0.5, abs=0.005)
    assert not A.flips(A.NONE, many).any() and not A.rotation_degrees(A.NONE, many).any()
    assert A.rotation_degrees(A.HRNET_COCO, many).max() == 90


def test_half_body_happens_as_often_as_it_should():
    center, scale, joints, visible = person()
    rng = np.random.default_rng(0)
    still = A.Augmentation(scale=0.0, rotation_probability=0.0, flip_probability=0.0)

    def centers(visible, switches=still):
        return np.array(
            [A.augment(center, scale, joints, visible, 400, COCO17, (192, 256), switches, rng)[0] for _ in range(4000)]
        )

    def share(values, of):
        return np.isclose(values, of, atol=1e-3).all(axis=1).mean()

    values = centers(visible)
    assert share(values, center) == pytest.approx(0.7, abs=0.03)
    assert share(values, joints[:11].mean(axis=0)) == pytest.approx(0.3 * 0.6915, abs=0.03)
    assert share(values, joints[11:].mean(axis=0)) == pytest.approx(0.3 * 0.3085, abs=0.03)
    eight = visible.copy()
    eight[8:] = 0
    assert share(centers(eight), center) == 1, "only with more than eight labelled joints"
    assert share(centers(visible, A.MDW_MPII), center) > 0 and A.MDW_MPII.half_body_probability == 0
    few = np.zeros(17)
    few[:2], few[12:14] = 1, 1  # two above, two below: the upper two
    np.testing.assert_allclose(A.half_body(joints, few, COCO17, (192, 256), 2.0)[0], joints[:2].mean(axis=0), rtol=1e-6)
    few[1] = 0
    assert not A.half_body(joints, few, COCO17, (192, 256), 0.0)[2]


def test_centre_jitter():
    given = person()
    center, scale = given[:2]
    rng = np.random.default_rng(0)
    shifted = A.Augmentation(0.0, 0.0, 0.0, flip_probability=0.0, half_body_probability=0.0, jitter="per_sample16")
    moves = np.array([A.augment(*given, 400, COCO17, (192, 256), shifted, rng).center - center for _ in range(4000)])
    moved = moves[(moves != 0).any(axis=1)] / (200 * scale)
    assert len(moved) / 4000 == pytest.approx(0.3, abs=0.03)
    assert 0.155 < np.abs(moved).max() <= 0.1601 and np.abs(moved.mean(axis=0)).max() < 0.01
    boxes = np.tile([100.0, 40.0], (20_000, 1))
    offsets = A.static_jitter(boxes, rng)
    assert offsets.shape == boxes.shape and (offsets != 0).any(axis=1).mean() == pytest.approx(0.3, abs=0.01)
    np.testing.assert_allclose(np.abs(offsets).max(axis=0), [20, 8], rtol=0.01)
    assert A.static_jitter([], rng).shape == (0, 2)


def test_bad_persons_and_switches_are_named():
    center, scale, joints, visible = person()
    joints[3] = np.nan
    arguments = 400, COCO17, (192, 256), A.MDW_COCO, np.random.default_rng(0)
    with pytest.raises(MdwError, match="finite"):
        A.augment(center, scale, joints, visible, *arguments)
    visible[3] = 0
    for _ in range(20):
        ours = A.augment(center, scale, joints, visible, *arguments)
        assert np.isfinite(ours.center).all() and np.isfinite(ours.joints[ours.visible > 0]).all()
    with pytest.raises(MdwError, match="17"):
        A.augment(center, scale, joints[:16], visible[:16], *arguments)
    for wrong in ({"flip_probability": 1.5}, {"scale": 1.0}, {"rotation_law": "gauss"}, {"jitter": "some"}):
        with pytest.raises(MdwError, match=next(iter(wrong))):
            A.Augmentation(**wrong)


def test_crop_edges():
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    whole = crop(image, [40, 30], [0.4, 0.3], 0, (80, 60))
    assert np.array_equal(whole, image), "the crop of the whole image is the image"
    mirrored = crop(image, [40, 30], [0.4, 0.3], 0, (80, 60), flip=True)
    assert np.array_equal(mirrored, image[:, ::-1])
    assert not crop(image, [500, 500], [0.1, 0.1], 0, (48, 64)).any(), "black outside"
    assert not crop(image, [5, 5], [0, 0], 0, (48, 64)).any(), "black without size"
    assert np.array_equal(crop(image[::-1, ::-1], [40, 30], [0.4, 0.3], 0, (80, 60)), image[::-1, ::-1])
    for bad in (image.astype(np.float32), image[..., 0], image[:0]):
        with pytest.raises(MdwError, match="uint8"):
            crop(bad, [40, 30], [0.4, 0.3], 0, (80, 60))
    black = normalise(np.zeros((2, 3, 3), np.uint8))
    np.testing.assert_allclose(black[:, 0, 0], -np.array([0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225], rtol=1e-5)
    assert normalise(np.zeros((0, 4, 5, 3), np.uint8)).shape == (0, 3, 4, 5)
    points = np.array([[1.0, 2.0], [np.nan, np.nan]])
    placed = joints_to_crop(points, [1, 0], [40, 30], [0.4, 0.3], 12, (80, 60))
    np.testing.assert_allclose(placed[0], apply(affine_matrix([40, 30], [0.4, 0.3], 12, (80, 60)), points[0]))
    assert np.isnan(placed[1]).all()


def test_no_torch_behind_the_protocol():
    code = (
        "import sys, mdw.pose.metrics, mdw.pose.heatmap, importlib.util;"
        "sys.exit(bool({'torch', 'timm', 'pycocotools'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
