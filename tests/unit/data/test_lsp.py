import numpy as np
import pytest
import scipy.io
from PIL import Image

from mdw.data.lsp import lsp, lspet, mean_pose, predict_mean_pose
from mdw.util.errors import MdwError


def body(count=5, seed=0):
    """Coordinates (N, 14, 2) inside 60 x 50 images, and flags (N, 14), at least 4 of them set."""
    draw = np.random.default_rng(seed)
    flag = draw.random((count, 14)) < 0.7
    flag[:, :4] = True
    return draw.uniform(1, 48, (count, 14, 2)), flag


def write(root, xy, flag, order="lspet", split=("train", "train", "val", "train", "val"), **names):
    (root / "images").mkdir(exist_ok=True)
    for k in range(len(xy)):
        Image.new("RGB", (60, 50)).save(root / "images" / f"im{k + 1:05d}.jpg")
    values = np.concatenate([xy, flag[..., None]], -1)
    values = values.transpose(1, 2, 0) if order == "lspet" else values.transpose(2, 1, 0)
    scipy.io.savemat(root / "joints.mat", {names.get("variable", "joints"): values})
    if split:
        rows = [f"im{k + 1:05d}.jpg,{name}" for k, name in enumerate(split)]
        (root / "split.csv").write_text("\n".join(["image,split", *rows]) + "\n")
    return root


def refused(match, function, *arguments, **options):
    with pytest.raises(MdwError, match=match) as error:
        function(*arguments, **options)
    assert "\n" not in str(error.value)


def test_lspet_flag_one_means_annotated(tmp_path):
    xy, flag = body()
    data = lspet(write(tmp_path, xy, flag), "train", aspect=1.0)
    assert [s.image_id for s in data] == [1, 2, 4] and data.joints.name == "lsp14"
    for sample in data:
        k = sample.image_id - 1
        assert np.array_equal(sample.visible, flag[k])
        assert np.array_equal(sample.joints, np.float32(np.where(flag[k][:, None], xy[k], 0)))
        low, high = xy[k][flag[k]].min(0), xy[k][flag[k]].max(0)
        np.testing.assert_allclose(sample.center, (low + high) / 2, rtol=1e-5)
        np.testing.assert_allclose(sample.scale, [1.25 * (high - low).max() / 200] * 2, rtol=1e-5)  # square
        assert sample.image.name == f"im{sample.image_id:05d}.jpg" and sample.pixels().shape == (50, 60, 3)
    assert [s.image_id for s in lspet(tmp_path, "val")] == [3, 5] and len(lspet(tmp_path, "all")) == 5


def test_what_is_not_annotated_changes_nothing(tmp_path):
    xy, flag = body()
    clean = lspet(write(tmp_path, xy, flag), "all")
    for poison in (-322.0, 1e7, 25.0, np.nan):
        dirty = lspet(write(tmp_path, np.where(flag[..., None], xy, poison), flag), "all")
        for a, b in zip(clean, dirty, strict=True):
            for name in ("center", "scale", "joints", "visible"):
                assert np.array_equal(getattr(a, name), getattr(b, name)), (poison, name)
        assert np.array_equal(mean_pose(clean), mean_pose(dirty))


def test_lsp_flag_one_means_occluded_and_every_joint_counts(tmp_path):
    xy, flag = body()
    data = lsp(write(tmp_path, xy, flag, order="lsp"), "all")
    assert all(s.visible.sum() == 14 for s in data)
    assert np.array_equal(data[3].joints, np.float32(xy[3]))


def test_labels_of_lspet_with_swapped_axes_are_still_masked(tmp_path):
    xy, flag = body()
    rubbish = np.where(flag[..., None], xy, [0.0, -2.0])
    data = lsp(write(tmp_path, rubbish, flag, order="lsp"), "all")
    assert np.array_equal([s.visible for s in data], flag)


def test_original_split_without_a_file(tmp_path):
    xy, flag = body(2000)
    write(tmp_path, xy[:1], flag[:1], split=None)
    image = tmp_path / "images/im00001.jpg"
    for k in range(2000):
        (tmp_path / "images" / f"im{k + 1:04d}.jpg").hardlink_to(image)
    image.unlink()
    scipy.io.savemat(tmp_path / "joints.mat", {"joints": np.concatenate([xy, flag[..., None]], -1).transpose(2, 1, 0)})
    assert [s.image_id for s in lsp(tmp_path, "test")] == list(range(1001, 2001))
    assert lsp(tmp_path, "train")[-1].image_id == 1000
    refused("there is test, train, all", lsp, tmp_path, "val")


def test_one_image_alone(tmp_path):
    xy, flag = body(1)
    assert len(lspet(write(tmp_path, xy, flag, split=None), "all")) == 1


def test_joint_far_outside_counts_as_not_annotated_but_a_near_one_stays(tmp_path):
    xy, flag = body()
    flag[:] = True
    xy[0, 5], xy[1, 5], xy[3, 5] = (59 + 140, 20), (-1.2, 20), (58.5, 20)  # the images are 60 x 50
    data = lspet(write(tmp_path, xy, flag), "train")
    assert data[0].visible[5] == 0 and data[0].joints[5].tolist() == [0, 0] and data[0].visible.sum() == 13
    assert data[1].visible[5] == 1 and data[1].joints[5, 0] < 0
    assert data[2].visible[5] == 1
    assert 200 * data[0].scale[0] < 1.25 * 60  # the box does not reach for it


def test_images_without_an_extent_are_left_out(tmp_path):
    xy, flag = body()
    flag[0], flag[1] = False, np.arange(14) == 3
    assert [s.image_id for s in lspet(write(tmp_path, xy, flag), "train")] == [4]


def test_mean_pose_is_the_pose_when_all_are_alike(tmp_path):
    xy, _ = body(1)
    xy[0, 0], xy[0, 1] = (0.5, 0.5), (48.5, 48.5)  # the box hangs on these two
    xy = np.concatenate([xy * factor + shift for factor, shift in ((0.5, 0), (0.7, 3), (0.3, 7), (0.9, 1), (0.5, 20))])
    flag = np.ones((5, 14), bool)
    flag[1, 8] = flag[3, 9] = flag[:, 5] = False
    data = lspet(write(tmp_path, xy, flag), "all", aspect=0.75)
    mean = mean_pose(data)
    seen = np.arange(14) != 5
    np.testing.assert_allclose(predict_mean_pose(data, mean)[:, seen], xy[:, seen], atol=1e-3)
    np.testing.assert_allclose(mean[[0, 1, 5]], [[0.1, 0.2], [0.9, 0.8], [0.5, 0.5]], atol=1e-5)  # 1 / 1.25, and 0.75 of it


def test_mean_pose_floor_on_the_real_set(shared):
    from mdw.pose.metrics import pck

    root = shared / "data/lspet"
    train, val = lspet(root, "train", aspect=0.75), lspet(root, "val", aspect=0.75)
    assert (len(train), len(val)) == (8500, 1000)
    assert sum(s.visible.sum() for s in val) == 12392
    assert sum(s.visible.sum() for s in train) == 104610 - 1  # without the one that is 146 px outside
    predicted = predict_mean_pose(val, mean_pose(train))
    result = pck(predicted, np.array([s.joints for s in val]), np.array([s.visible for s in val]))
    assert 4.6 < result["pck"] < 4.8
    assert (
        pck(np.array([s.joints for s in val]), np.array([s.joints for s in val]), np.array([s.visible for s in val]))["pck"]
        == 100
    )


def test_a_part_of_the_training_split_is_held_out(tmp_path):
    count = 40
    xy = np.arange(count * 28, dtype=float).reshape(count, 14, 2) % 50
    write(tmp_path, xy, np.ones((count, 14)), split=["val" if k % 4 == 0 else "train" for k in range(count)])
    ids = {split: [s.image_id for s in lspet(tmp_path, split)] for split in ("train", "fit", "holdout", "val")}
    assert len(ids["train"]) == 30 and len(ids["holdout"]) == 1 and len(ids["fit"]) == 29
    assert sorted(ids["fit"] + ids["holdout"]) == ids["train"] and not set(ids["val"]) & set(ids["holdout"])
    (tmp_path / "named.csv").write_text("image,split\nim00002.jpg,holdout\n")  # a file's own word comes first
    assert [s.image_id for s in lspet(tmp_path, "holdout", split_file="named.csv")] == [2]


def test_splits_that_do_not_exist(tmp_path):
    xy, flag = body()
    write(tmp_path, xy, flag)
    refused("no split 'test'; there is train, val, all", lspet, tmp_path, "test")
    (tmp_path / "other.csv").write_text("\ufeffimage,split\nim00002.jpg,fold1\n")
    assert [s.image_id for s in lspet(tmp_path, "fold1", split_file="other.csv")] == [2]
    (tmp_path / "split.csv").unlink()
    refused("split.csv does not exist", lspet, tmp_path, "val")
    refused("split.csv does not exist", lsp, tmp_path, "train")
    assert len(lspet(tmp_path, "all")) == 5


@pytest.mark.parametrize(
    "rows, match",
    [
        ("image,part\nim00001.jpg,train\n", "line 2"),
        ("image,split\nim00009.jpg,train\n", "im00009.jpg"),
        ("image,split\nim00001.jpg,train\nim00001.jpg,val\n", "second time"),
        ("image,split\nim00001.jpg\n", "line 2"),
        ("", "no split"),
    ],
)
def test_damaged_split_files(tmp_path, rows, match):
    xy, flag = body()
    write(tmp_path, xy, flag)
    (tmp_path / "split.csv").write_text(rows)
    refused(match, lspet, tmp_path, "train")


def test_damaged_labels(tmp_path):
    xy, flag = body()
    refused("joints.mat does not exist", lspet, tmp_path)
    write(tmp_path, xy, flag, variable="points")
    refused("no variable 'joints'", lspet, tmp_path)
    for shape in ((14, 4, 5), (5, 14, 3), (14, 3, 5, 2), (14,)):
        scipy.io.savemat(tmp_path / "joints.mat", {"joints": np.zeros(shape)})
        refused("shape", lspet, tmp_path)
    scipy.io.savemat(tmp_path / "joints.mat", {"joints": np.array([["a"]])})
    refused("shape", lspet, tmp_path)
    whole = (write(tmp_path, xy, flag) / "joints.mat").read_bytes()
    for content in (b"", b"not a mat file at all", whole[:200], whole[: len(whole) // 2]):
        (tmp_path / "joints.mat").write_bytes(content)
        refused("joints.mat", lspet, tmp_path)
    flag[:] = True
    xy[2, 3] = np.nan
    refused("no numbers", lspet, write(tmp_path, xy, flag), "all")


def test_pictures_and_labels_that_do_not_match(tmp_path):
    xy, flag = body()
    write(tmp_path, xy, flag)
    (tmp_path / "images/im00003.jpg").rename(tmp_path / "images/im00006.jpg")  # the count alone would not tell
    refused("image 3 is missing", lspet, tmp_path)
    Image.new("RGB", (60, 50)).save(tmp_path / "images/im00003.jpg")
    refused("image 6 has no label", lspet, tmp_path)
    (tmp_path / "images/im00006.jpg").unlink()
    (tmp_path / "images/im00001.jpg").write_bytes(b"no image")
    refused("im00001.jpg", lspet, tmp_path)
    for file in (tmp_path / "images").iterdir():
        file.unlink()
    (tmp_path / "images").rmdir()
    refused("images does not exist", lspet, tmp_path)
