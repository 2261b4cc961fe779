"""The sheet of training samples: every data set through the same code, joints and heat where they belong."""

from dataclasses import replace

import numpy as np
import pytest

from mdw import data
from mdw.data.augment import NONE
from mdw.data.sample import Dataset, Sample
from mdw.inference.draw import COLOURS
from mdw.pose.joints import COCO17, LSP14, MPII16, JointSet
from mdw.training import recipes
from mdw.training.samples import TARGET, sample_sheet
from mdw.util.errors import MdwError

RECIPE = replace(recipes.get("paper"), input_size=(96, 128))


def grey() -> np.ndarray:
    return np.full((128, 96, 3), 100, np.uint8)


def one(joints: JointSet, xy, visible) -> Dataset:
    """A person whose plain crop is the grey image itself."""
    sample = Sample(grey, 1, 1, (48, 64), (0.48, 0.64), np.asarray(xy), np.asarray(visible))
    return Dataset("one", joints, (sample,))


def cells(page: np.ndarray, height=64, gap=4):
    width = height * 3 // 4
    return [page[gap : gap + height, x : x + width] for x in range(gap, page.shape[1] - width, width + gap)]


OWN = JointSet("own", ("left_ear", "tail"), (), ((0, 1),), None, (), ())


@pytest.mark.parametrize("joints", [COCO17, LSP14, MPII16, OWN])
def test_joints_and_heat_are_where_the_label_is(joints):
    k = joints.num_joints - 1
    xy, visible = np.full((joints.num_joints, 2), 1e6), np.zeros(joints.num_joints)
    xy[k], visible[k] = (40, 88), 1
    plain, heat, mirrored = cells(
        sample_sheet(
            one(joints, xy, visible), replace(RECIPE, augmentation=replace(NONE, flip_probability=1.0)), 1, 1, height=128
        ),
        height=128,
    )
    for cell, x in ((plain, 40), (mirrored, 96 - 40)):  # the middle is 48 of 0..95, so a mirrored crop is a pixel aside
        painted = np.argwhere((cell != 100).any(axis=-1) & (cell != 0).any(axis=-1))
        np.testing.assert_allclose(painted.mean(axis=0), (88, x), atol=0.6)
    assert any((plain == colour).all(axis=-1).any() for colour in COLOURS.values())
    red = heat[..., 0].astype(int) - heat[..., 2]
    y, x = np.unravel_index(red.argmax(), red.shape)
    assert abs(x - 40) <= 2.5 and abs(y - 88) <= 2.5 and np.abs(heat[y, x].astype(int) - TARGET).max() < 30
    assert (heat[:59] == 80).all()  # 3 sigma of 4 pixels each, and one more of interpolation


def test_one_row_for_each_person_and_as_many_versions_as_asked():
    photos = data.load("photos", "all", aspect=0.75)
    for augmented, across, shape in ((2, 4, (3, 4)), (0, 6, (1, 6)), (6, 4, (3, 8))):
        page = sample_sheet(photos, RECIPE, 3, augmented, across=across, height=64)
        assert page.shape == (shape[0] * 68 + 4, shape[1] * 52 + 4, 3)
    few, more = (sample_sheet(photos, RECIPE, 1, augmented, across=1, height=64) for augmented in (2, 3))
    assert all(np.array_equal(a, b) for a, b in zip(cells(few), cells(more), strict=False)), (
        "versions do not depend on their number"
    )
    first = cells(more)
    assert not any(np.array_equal(first[2], other) for other in first[3:])


@pytest.mark.parametrize("name, split", [("people", "val"), ("photos", "all"), ("coco", "val"), ("lspet", "train")])
def test_every_data_set_goes_through(request, name, split):
    root = {"coco": "coco_mini", "lspet": "lspet"}.get(name)
    root = request.getfixturevalue("shared") / "data" / root if root else None
    page = sample_sheet(data.load(name, split, root), RECIPE, 2, 1, height=64)
    assert page.std() > 10


def test_nobody_to_show():
    with pytest.raises(MdwError, match="nobody"):
        sample_sheet(Dataset("none", COCO17, ()), RECIPE)
