"""Training batches: the same however they are made, and the same on the training device as by OpenCV."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import scipy.io
import torch

from mdw import data
from mdw.data.augment import HRNET_COCO, LITE_COCO, NONE, Augmentation, Draws, augment, draw
from mdw.data.lsp import lspet
from mdw.data.pack import pack
from mdw.data.packed import open_pack
from mdw.data.sample import Dataset
from mdw.data.warp import normalise
from mdw.data.warp import warp as opencv_warp
from mdw.pose.affine import affine_matrix, apply
from mdw.pose.joints import COCO17
from mdw.training import recipes
from mdw.training.batches import TrainingBatches
from mdw.training.device_batches import DeviceBatches, training_batches, warp
from mdw.util.errors import MdwError

SMALL = replace(recipes.get("paper"), input_size=(96, 128), batch_size=5, drop_last=False)
GREY_LEVEL = 1 / 255 / 0.224  # what one of 255 is after `normalise`, at most


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def photos():
    return data.load("photos", "all", aspect=SMALL.aspect).select(range(24))


@pytest.fixture(scope="module")
def packed(photos, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pack")
    pack(photos, folder, SMALL.input_size, HRNET_COCO, {})
    return open_pack(folder)


def same(one, two):
    return all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


def close(levels):
    """OpenCV 5 rounds to whole grey levels as we do, but computes in float32; OpenCV 4 also rounds positions to 1/32 px."""
    if int(cv2.__version__.split(".")[0]) >= 5:
        assert levels.max() <= 1.05 and (levels > 0.01).mean() < 1e-3
    else:
        assert levels.max() <= 5.1 and levels.mean() <= 0.35


def test_many_persons_at_once_are_augmented_like_each_alone():
    rng = np.random.default_rng(0)
    n, center = 300, rng.uniform(0, 300, (300, 2)).astype(np.float32)
    scale = rng.uniform(0.3, 1.5, (n, 2)).astype(np.float32)
    joints, visible = rng.uniform(0, 300, (n, 17, 2)), (rng.random((n, 17)) < rng.choice([0.1, 0.6, 1], (n, 1))).astype(float)
    joints[visible == 0] = np.nan
    widths = rng.integers(100, 500, n)
    for switches in (HRNET_COCO, Augmentation(jitter="per_sample16"), NONE):
        numbers = [draw(np.random.default_rng(k)) for k in range(n)]
        arguments = COCO17, SMALL.input_size, switches
        many = augment(center, scale, joints, visible, widths, *arguments, Draws(*np.array(numbers).T))
        for k in range(n):
            one = augment(center[k], scale[k], joints[k], visible[k], int(widths[k]), *arguments, numbers[k])
            for a, b in zip(one, many, strict=True):
                assert np.array_equal(a, b[k], equal_nan=True)


@pytest.mark.parametrize("make", [TrainingBatches, lambda *a, **k: DeviceBatches(*a, "cpu", **k)])
def test_neither_company_nor_workers_change_a_sample(packed, make):
    alone, together = make(packed, SMALL, 3), make(packed, SMALL, 3, workers=3)
    whole = together.batch(1, np.arange(24))
    for k in range(24):
        assert same(alone.batch(1, np.array([k])), [part[k : k + 1] for part in whole])
    epochs = [list(source.epoch(2)) for source in (alone, together)]
    assert [len(epoch) for epoch in epochs] == [5, 5] == [len(alone), len(together)]
    assert all(same(a, b) for a, b in zip(*epochs, strict=True))
    assert len(epochs[0][-1][0]) == 4 and len(make(packed, replace(SMALL, drop_last=True), 3)) == 4


def test_an_epoch_has_every_person_once(packed):
    """Marked by the number of the joint that is labelled."""
    persons = [replace(s, visible=np.arange(17) == k % 17, joints=np.tile(s.center, (17, 1))) for k, s in enumerate(packed)]
    source = TrainingBatches(Dataset("marked", COCO17, tuple(persons)), replace(SMALL, augmentation=NONE), 0)
    seen = torch.cat([weights for _, _, weights in source.epoch(0)]).sum(0)
    assert seen.tolist() == [2] * 7 + [1] * 10


def centers_of(source, epoch, indices):
    """Where each crop's middle lies in the image."""
    plan = source.plan(epoch, indices, [500] * len(indices))
    middle = [side / 2 for side in SMALL.input_size]
    return np.stack([apply(np.linalg.inv(np.vstack([m, [0, 0, 1]]))[:2], middle) for m in plan.matrices])


def test_static20_moves_the_boxes_once_for_all_epochs(photos):
    many = photos.select(np.arange(3000) % len(photos))
    switches = replace(NONE, jitter="static20")
    indices, seeds = np.arange(len(many)), []
    for seed in (0, 1):
        source = TrainingBatches(many, replace(SMALL, augmentation=switches), seed)
        first, later = centers_of(source, 0, indices), centers_of(source, 7, indices)
        np.testing.assert_allclose(first, later, atol=1e-3)
        parts = (first - [s.center for s in many]) / [s.box_wh for s in many]
        moved = (np.abs(parts) > 1e-4).any(axis=1)
        assert moved.mean() == pytest.approx(0.3, abs=0.03)
        assert np.abs(parts).max() <= 0.2001 and np.abs(parts[moved].mean(axis=0)).max() < 0.015
        assert parts[moved].std(axis=0) == pytest.approx([0.4 / 12**0.5] * 2, rel=0.06)  # uniform
        seeds.append(parts)
    assert not np.allclose(*seeds)
    full = TrainingBatches(many, replace(SMALL, augmentation=LITE_COCO), 0)
    assert np.array_equal(full.offsets, TrainingBatches(many, replace(SMALL, augmentation=switches), 0).offsets)


def test_static20_is_the_same_in_a_pack(photos, tmp_path):
    recipe = replace(SMALL, augmentation=replace(LITE_COCO, flip_probability=0.0))
    pack(photos, tmp_path / "pack", SMALL.input_size, LITE_COCO, {})
    stored = open_pack(tmp_path / "pack")
    direct, from_pack = TrainingBatches(photos, recipe, 0), TrainingBatches(stored, recipe, 0)
    assert (direct.offsets != 0).any()
    reduced = [d.scale[0] / s.scale[0] for d, s in zip(photos, stored, strict=True)]
    np.testing.assert_allclose(direct.offsets, from_pack.offsets * np.array(reduced)[:, None], rtol=1e-5)


@pytest.mark.parametrize("resident", [True, False])
def test_the_device_makes_the_batches_that_opencv_makes(packed, resident):
    recipe = replace(SMALL, augmentation=HRNET_COCO)
    opencv, device = TrainingBatches(packed, recipe, 3), DeviceBatches(packed, recipe, 3, "cpu", resident)
    assert device.resident == resident
    different = []
    for epoch in range(6):
        ours, theirs = (source.batch(epoch, np.arange(24)) for source in (device, opencv))
        assert same(ours[1:], theirs[1:])
        assert all(part.is_contiguous() and part.dtype == torch.float32 for part in ours)
        different.append((ours[0] - theirs[0]).abs() / GREY_LEVEL)
    close(torch.stack(different).numpy())


def test_warp_equals_opencvs_at_the_pictures_edges():
    rng = np.random.default_rng(0)
    shapes = [(7, 5), (1, 1), (40, 64), (64, 40), (3, 200)] * 8
    images = [rng.integers(0, 256, (*shape, 3), dtype=np.uint8) for shape in shapes]
    sizes = np.array([image.shape[1::-1] for image in images])
    n = len(images)
    center = rng.uniform(-0.2, 1.2, (n, 2)) * sizes
    matrices = affine_matrix(center, rng.uniform(0.05, 0.5, n)[:, None].repeat(2, 1), rng.uniform(-180, 180, n), (24, 32))
    matrices[::9] = affine_matrix([12, 16], [0.12, 0.16], 0, (24, 32))  # pixel on pixel
    matrices[4] = 0  # a crop without extent
    flips = rng.random(n) < 0.5
    flat = torch.from_numpy(np.concatenate([np.dstack([i, i[..., :1]]).reshape(-1) for i in images]).view(np.int32).copy())
    begins = np.concatenate([[0], np.cumsum(sizes.prod(axis=1))[:-1]])
    ours = warp(flat, begins, sizes, matrices, flips, (24, 32)).numpy()
    theirs = normalise(np.stack([opencv_warp(*given, (24, 32), f) for *given, f in zip(images, matrices, flips, strict=True)]))
    close(np.abs(ours - theirs) / GREY_LEVEL)
    exact = np.arange(0, n, 9)
    np.testing.assert_allclose(ours[exact], theirs[exact], atol=1e-5)


def test_only_packs_go_to_the_device_and_only_where_they_fit(photos, packed, monkeypatch):
    with pytest.raises(MdwError, match="mdw data pack"):
        DeviceBatches(photos, SMALL, 0, "cpu")
    monkeypatch.setattr("mdw.training.device_batches.free_memory", lambda device: 2**20)
    assert not DeviceBatches(packed, SMALL, 0, "cpu").resident
    with pytest.raises(MdwError, match="resident=False"):
        DeviceBatches(packed, SMALL, 0, "cpu", resident=True)
    with pytest.raises(MdwError, match="does not cover"):
        DeviceBatches(packed, replace(SMALL, augmentation=LITE_COCO), 0, "cpu")
    assert (
        type(training_batches(packed, SMALL, 0, "cpu")) is type(training_batches(photos, SMALL, 0, "cuda")) is TrainingBatches
    )


def part_of_lspet(shared, folder, count, poison):
    """The first images of LSPET, with `poison` where nothing is annotated."""
    root = shared / "data/lspet"
    joints = scipy.io.loadmat(root / "joints.mat")["joints"][:, :, :count].copy()
    joints[:, :2][np.repeat(joints[:, 2:] == 0, 2, axis=1)] = poison
    (folder / "images").mkdir(parents=True)
    for k in range(count):
        (folder / f"images/im{k + 1:05d}.jpg").symlink_to(root / f"images/im{k + 1:05d}.jpg")
    scipy.io.savemat(folder / "joints.mat", {"joints": joints})
    rows = (root / "split.csv").read_text().splitlines()[: count + 1]
    rows[5:8] = [row.replace(",train", ",val") for row in rows[5:8]]
    (folder / "split.csv").write_text("\n".join(rows) + "\n")
    return folder


def test_poisoned_joints_and_foreign_splits_never_reach_a_batch(shared, tmp_path):
    made = []
    for k, poison in enumerate((0.0, -322.0, 100.0, 1e7, np.nan)):
        root = part_of_lspet(shared, tmp_path / str(k), 40, poison)
        train, val = lspet(root, "train", 0.75), lspet(root, "val", 0.75)
        assert [s.image_id for s in val] == [5, 6, 7] and len(train) == 37
        assert not {s.image for s in train} & {s.image for s in val}
        pack(train, tmp_path / f"pack{k}", SMALL.input_size, HRNET_COCO, {})
        for dataset in (train, open_pack(tmp_path / f"pack{k}")):
            made.append(TrainingBatches(dataset, replace(SMALL, augmentation=HRNET_COCO), 0).batch(1, np.arange(37)))
    assert sum(int((s.visible == 0).sum()) for s in train) > 20
    assert all(same(made[0], other) for other in made[2::2]) and all(same(made[1], other) for other in made[3::2])
