import numpy as np
import pytest
from PIL import Image

from mdw.inference.draw import COLOURS, overlay, sheet, side, write_image
from mdw.pose.joints import COCO17, LSP14, MPII16
from mdw.util.errors import MdwError

GREY = np.full((600, 480, 3), 120, np.uint8)


def standing(joints=LSP14):
    """One person, joints spread over the image so that none hides another."""
    k = np.arange(joints.num_joints)
    return np.stack([60 + 360 * (k * 5 % joints.num_joints) / joints.num_joints, 45 + 510 * k / joints.num_joints], 1)


def painted(image, colour) -> int:
    return int((image == colour).all(-1).sum())


def test_draws_on_a_copy_in_three_colours():
    image = overlay(GREY, standing(), LSP14)
    assert (GREY == 120).all() and image.shape == GREY.shape and image.dtype == np.uint8
    assert all(painted(image, colour) > 20 for colour in COLOURS.values())


@pytest.mark.parametrize("joints", [COCO17, MPII16, LSP14])
def test_colours_follow_the_persons_own_side(joints):
    xy = standing(joints)
    for a, b in joints.pairs:
        assert {side(joints.names[a]), side(joints.names[b])} == {"left", "right"}
    for wanted in ("left", "right"):
        scores = np.array([float(side(name) == wanted) for name in joints.names])
        image = overlay(GREY, xy, joints, scores=scores)
        other = "right" if wanted == "left" else "left"
        assert painted(image, COLOURS[wanted]) > 20 and painted(image, COLOURS[other]) == 0
        assert painted(image, COLOURS["middle"]) == 0  # limbs of one side have its colour


def test_each_joint_is_where_it_was_said_to_be():
    for j, (x, y) in enumerate(standing()):
        scores = np.arange(14) == j
        image = overlay(GREY, standing(), LSP14, scores=scores)
        where = np.argwhere((image != 120).any(-1))
        np.testing.assert_allclose(where.mean(0), (y, x), atol=0.6)


def test_scores_fill_hollow_out_and_leave_out():
    xy = standing()
    nothing = overlay(GREY, np.column_stack([xy, np.zeros(14)]), LSP14)
    assert np.array_equal(nothing, GREY)
    filled, hollow = (overlay(GREY, np.column_stack([xy, np.full(14, s)]), LSP14) for s in (0.9, 0.1))
    x, y = xy[3].round().astype(int)
    assert tuple(filled[y, x]) == COLOURS[side(LSP14.names[3])] and tuple(hollow[y, x]) == (120, 120, 120)
    assert 0 < (hollow != 120).sum() < (filled != 120).sum()  # and weak joints carry no limbs


def test_lines_grow_with_the_picture():
    small = overlay(GREY, standing(), LSP14)
    big = overlay(np.full((2400, 1920, 3), 120, np.uint8), 4 * standing(), LSP14)
    share = [(image != 120).any(-1).mean() for image in (small, big)]
    assert 0.5 < share[1] / share[0] < 1.5  # a quarter, did they not grow


def test_many_persons_none_and_points_out_of_reach():
    both = overlay(GREY, np.stack([standing(), standing() + 6]), LSP14)
    assert (both != overlay(GREY, standing(), LSP14)).any()
    assert np.array_equal(overlay(GREY, np.zeros((0, 14, 3)), LSP14), GREY)
    wild = standing()
    wild[2], wild[3] = (np.nan, 1), (1e12, -1e12)
    assert overlay(GREY, wild, LSP14).shape == GREY.shape
    with pytest.raises(ValueError, match="keypoints have the shape"):
        overlay(GREY, np.zeros((1, 17, 3)), LSP14)


def test_sheet_places_every_picture_whole():
    images = [np.full((h, w, 3), 10 * (k + 1), np.uint8) for k, (w, h) in enumerate([(40, 80), (80, 40), (7, 7)])]
    page = sheet(images, columns=2, size=(60, 50), gap=4)
    assert page.shape == (2 * 54 + 4, 2 * 64 + 4, 3)
    for k, (w, h) in enumerate([(25, 50), (60, 30), (50, 50)]):
        assert painted(page, 10 * (k + 1)) == w * h
    with pytest.raises(ValueError, match="at least one"):
        sheet([])


def test_write_image_round_trip_and_refusals(tmp_path):
    rgb = np.random.default_rng(0).integers(0, 255, (20, 30, 3), dtype=np.uint8)
    assert np.array_equal(np.array(Image.open(write_image(tmp_path / "deep/a.png", rgb))), rgb)
    write_image(tmp_path / "a.JPG", rgb)
    with pytest.raises(MdwError, match="a.txt"):
        write_image(tmp_path / "a.txt", rgb)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.JPG", "deep"]
