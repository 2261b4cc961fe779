"""Heatmaps: the official targets, peaks and positions, and the round trip from joint to map and back."""

import sys

import cv2
import numpy as np
import pytest

from mdw.pose.affine import affine_matrix, apply
from mdw.pose.heatmap import BLUR_KERNEL, decode, encode, flip_average, flip_back, peaks, quarter_shift, smooth
from mdw.pose.joints import COCO17, MPII16
from mdw.util.errors import MdwError

TARGETS = ["target_256x192_s2", "target_384x288_s3", "target_256x256_s2"]
DECODED = ["decode_coco_48x64", "decode_coco_72x96", "decode_mpii_64x64"]


@pytest.mark.parametrize("name", TARGETS)
def test_targets_equal_the_official_ones(protocol, name):
    given = np.load(protocol / f"{name}.npz")
    sizes = tuple(given["image_size"]), tuple(given["heatmap_size"]), int(given["sigma"])
    joints, visible = given["joints"][..., :2], given["joints_vis"][..., 0]
    for i in range(len(joints)):
        target, weight = encode(joints[i], visible[i], *sizes)
        assert target.dtype == weight.dtype == np.float32
        np.testing.assert_allclose(target, given["target"][i], atol=1e-6, rtol=0)
        assert np.array_equal(weight, given["target_weight"][i, :, 0])
    target, weight = encode(joints, visible, *sizes)  # all at once
    np.testing.assert_allclose(target, given["target"], atol=1e-6, rtol=0)
    assert np.array_equal(weight, given["target_weight"][..., 0])
    if "target_weight_different" in given:
        _, weight = encode(joints, visible, *sizes, joint_weights=COCO17.importance)
        np.testing.assert_allclose(weight, given["target_weight_different"][..., 0], rtol=1e-6)


def test_target_edges():
    def one(x, y, visible=1.0):
        target, weight = encode([[x, y]], [visible], (192, 256), (48, 64), 2)
        return target[0], float(weight[0])

    assert one(-5.9, 100)[0][25, 0] == 1, "truncation towards zero: x/4 in (-1.5, 0.5) lands on 0"
    target, weight = one(4 * -7.2, 100)  # centre at -6: its last column reaches the map
    assert weight == 1 and target.max() > 0 and not target[:, 1:].any()
    target, weight = one(4 * -7.6, 100)  # centre at -7 = -3 sigma - 1: nothing to see, still supervised
    assert weight == 1 and not target.any()
    assert one(4 * -8.6, 100)[1] == 0
    assert one(4 * 53, 100)[1] == 1 and one(4 * 54, 100)[1] == 0
    assert one(1e300, 100)[1] == 0 and one(-1e300, 100)[1] == 0
    target, weight = one(np.nan, np.nan, 0)
    assert weight == 0 and not target.any()
    with pytest.raises(MdwError, match="visible"):
        one(np.nan, 5)
    target, weight = one(100, 100, 0.3)
    assert weight == np.float32(0.3) and not target.any()
    target, _ = one(100, 100)
    assert (target > 0).sum() == 13 * 13 and target.max() == 1
    target, weight = encode(np.empty((0, 2)), np.empty(0), (192, 256), (48, 64), 2)
    assert target.shape == (0, 64, 48) and weight.shape == (0,)
    with pytest.raises(MdwError, match="sigma"):
        encode([[1, 1]], [1], (192, 256), (48, 64), 0)
    with pytest.raises(MdwError, match="joints"):
        encode([[1, 1]], [1, 1], (192, 256), (48, 64), 2)


@pytest.mark.parametrize("name", DECODED)
def test_decoding_equals_the_official_one(protocol, name):
    given = np.load(protocol / f"{name}.npz")
    maps, crops = given["heatmaps"], (given["center"], given["scale"])
    xy, score = peaks(maps)
    assert np.array_equal(xy, given["argmax_xy"]) and np.array_equal(score, given["maxvals"][..., 0])
    assert np.array_equal(quarter_shift(maps, xy), given["shifted_xy"])
    xy, score = decode(maps, *crops)
    assert xy.dtype == score.dtype == np.float32 and np.array_equal(score, given["maxvals"][..., 0])
    np.testing.assert_allclose(xy, given["preds_post"], atol=1e-4, rtol=0)
    np.testing.assert_allclose(decode(maps, *crops, refine=False)[0], given["preds_nopost"], atol=1e-4, rtol=0)
    np.testing.assert_allclose(decode(maps, *crops, empty="mm")[0], given["preds_post_mmpose016"], atol=2e-4, rtol=0)
    from_lists = decode(maps.astype(np.float64).tolist(), crops[0].tolist(), crops[1].tolist())[0]
    np.testing.assert_allclose(from_lists, xy, atol=1e-3, rtol=0)


def test_joint_to_map_and_back():
    """A joint inside the map comes back within half a heat-map pixel, 2 crop pixels, each way."""
    rng = np.random.default_rng(0)
    joints = rng.uniform([12, 12], [192 - 16, 256 - 16], (50, 17, 2))
    for (w, h), sigma in (((192, 256), 2), ((288, 384), 3)):
        scaled = joints * (w / 192)
        target, weight = encode(scaled, np.ones((50, 17)), (w, h), (w // 4, h // 4), sigma)
        assert weight.all() and (target.max(axis=(2, 3)) == 1).all()
        center, scale = np.tile([w / 2, h / 2], (50, 1)), np.tile([w / 200, h / 200], (50, 1))
        for refine in (False, True):
            xy, score = decode(target, center, scale, refine=refine)
            assert (score == 1).all()
            assert np.abs(xy - scaled).max() <= 2 + 1e-3  # a symmetric target has no higher neighbour: no step
        shifted = target + 0.2 * np.roll(target, 1, axis=3)  # lean to the right: a quarter step, one crop pixel
        np.testing.assert_allclose(decode(shifted, center, scale)[0] - xy, np.broadcast_to([1.0, 0.0], xy.shape), atol=1e-3)


def test_decoding_follows_the_crop_into_the_image():
    rng = np.random.default_rng(1)
    maps = rng.random((5, 3, 64, 48), dtype=np.float32)
    center, scale = rng.uniform(0, 500, (5, 2)), rng.uniform(0.3, 2, (5, 1)) * [0.75, 1.0]
    xy, _ = decode(maps, center, scale)
    crop_pixels = apply(affine_matrix(center, scale, 0, (192, 256)), xy)
    peak = quarter_shift(maps, peaks(maps)[0])
    np.testing.assert_allclose(crop_pixels / 4, peak, atol=2e-3)
    np.testing.assert_allclose(decode(maps, center + [7, -3], scale)[0] - xy, np.broadcast_to([7, -3], xy.shape), atol=1e-3)


def test_decoding_edges():
    maps = np.zeros((1, 4, 8, 8), np.float32)
    maps[0, 1] = -1
    maps[0, 2, 3, 1] = maps[0, 2, 3, 2] = 1.0  # equal maxima: the first; x = 1 is not moved
    maps[0, 3, 6, 6], maps[0, 3, 6, 7] = 1.0, 0.5  # x = W - 2 is
    xy, score = peaks(maps)
    assert xy[0].tolist() == [[0, 0], [0, 0], [1, 3], [6, 6]] and score[0].tolist() == [0, -1, 1, 1]
    assert peaks(maps, empty="mm")[0][0, :2].tolist() == [[-1, -1], [-1, -1]]
    assert quarter_shift(maps, xy)[0, 2:].tolist() == [[1, 3], [6.25, 6]]
    assert [a.shape for a in decode(np.empty((0, 17, 64, 48)), np.empty((0, 2)), np.empty((0, 2)))] == [
        (0, 17, 2),
        (0, 17),
    ]
    assert decode(np.empty((2, 0, 64, 48)), np.zeros((2, 2)), np.ones((2, 2)))[0].shape == (2, 0, 2)
    broken = np.full((1, 1, 4, 4), np.nan, np.float32)
    assert peaks(broken)[0].tolist() == [[[0, 0]]] and np.isnan(peaks(broken)[1]).all()
    for bad in (np.zeros((3, 8, 8)), np.zeros((1, 1, 0, 4))):
        with pytest.raises(MdwError, match="N, J, H, W"):
            peaks(bad)
    with pytest.raises(MdwError, match="centres"):
        decode(maps, np.zeros((2, 2)), np.ones((2, 2)))
    with pytest.raises(MdwError, match="empty"):
        peaks(maps, empty="other")


@pytest.mark.parametrize("sigma", [2, 3])
def test_smoothing_is_a_gaussian_that_keeps_the_maximum(sigma):
    kernel = BLUR_KERNEL[sigma]
    maps = np.random.default_rng(sigma).random((2, 3, 64, 48), dtype=np.float32)
    smoothed = smooth(maps, kernel)
    for i in range(2):
        for j in range(3):
            reference = cv2.GaussianBlur(maps[i, j], (kernel, kernel), 0, borderType=cv2.BORDER_CONSTANT)
            np.testing.assert_allclose(smoothed[i, j], reference * maps[i, j].max() / reference.max(), atol=1e-5)
    assert np.array_equal(smooth(-maps, kernel), -maps)
    target, _ = encode([[100, 100], [40, 200]], [1, 1], (192, 256), (48, 64), 2)
    box = [[96, 128]], [[0.96, 1.28]]
    for a, b in zip(decode(target[None], *box, blur=kernel), decode(target[None], *box), strict=True):
        assert np.array_equal(a, b), "a symmetric map has no side to step to"
    with pytest.raises(MdwError, match="odd"):
        smooth(maps, 10)


@pytest.mark.parametrize("prefix, joints", [("coco", COCO17), ("mpii", MPII16)])
def test_the_flip_test_equals_the_official_one(protocol, prefix, joints):
    given = {k.removeprefix(f"{prefix}_"): v for k, v in np.load(protocol / "flip.npz").items() if k.startswith(prefix)}
    plain, mirrored = given["output"], given["output_of_mirrored_input"]
    assert np.array_equal(flip_back(mirrored, joints.pairs, shift=False), given["flip_back"])
    assert np.array_equal(flip_back(mirrored, joints.pairs), given["flip_back_shifted"])
    assert np.array_equal(flip_average(plain, mirrored, joints.pairs), given["avg_shift"])
    assert np.array_equal(flip_average(plain, mirrored, joints.pairs, shift=False), given["avg_noshift"])


def test_flipping_back_twice_is_nothing():
    maps = np.random.default_rng(0).random((2, 17, 6, 5), dtype=np.float32)
    before = maps.copy()
    twice = flip_back(flip_back(maps, COCO17.pairs, shift=False), COCO17.pairs, shift=False)
    assert np.array_equal(twice, maps) and np.array_equal(maps, before)
    assert flip_back(maps[0], COCO17.pairs).shape == (17, 6, 5)


def test_decoding_has_no_loop_over_crops_or_joints():
    """As many calls for a thousand crops as for one; a loop over joints would take tens of seconds."""

    def calls(count):
        maps, boxes = np.random.default_rng(0).random((count, 17, 16, 12), dtype=np.float32), np.ones((count, 2))
        made = []
        sys.setprofile(lambda frame, event, argument: made.append(event))
        try:
            decode(maps, boxes, boxes)
        finally:
            sys.setprofile(None)
        return sum(event in ("call", "c_call") for event in made)

    calls(1)  # what NumPy loads at its first use
    assert 20 < calls(1) == calls(1000)
