"""MPII: records of the protocol, PCKh on the real labels, the official annotation file, and input that is not right."""

import json
import shutil

import numpy as np
import pytest
import scipy.io
from PIL import Image
from typer.testing import CliRunner

from mdw import data
from mdw.cli import app
from mdw.data.mpii import mpii, read_predictions, score_mpii
from mdw.data.mpii_release import convert, read_release
from mdw.util.errors import MdwError

NAMES = ["000000007.jpg", "000000007.jpg", "000000003.jpg"]


def people(count=3, seed=0) -> list[dict]:
    """Persons in HRNet's form; the second one's right ankle is missing."""
    draw = np.random.default_rng(seed)
    listed = []
    for k in range(count):
        joints, visible = draw.uniform(1, 90, (16, 2)).round(2), np.ones(16, int)
        if k == 1:
            joints[0], visible[0] = -1, 0
        entry = {"image": NAMES[k], "center": [50.0 + k, 40.0], "scale": 0.5 + k / 10}
        listed.append(entry | {"joints": joints.tolist(), "joints_vis": visible.tolist()})
    return listed


def write(root, entries, name="valid"):
    (root / "annot").mkdir(exist_ok=True)
    (root / "images").mkdir(exist_ok=True)
    for image in {e["image"] for e in entries}:
        Image.new("RGB", (100, 80)).save(root / "images" / image)
    (root / "annot" / f"{name}.json").write_text(json.dumps(entries))
    return root


def write_mat(root, entries, **changes):
    """gt_valid.mat of these persons; every head box is 30 x 40, so a head is 0.6 * 50 = 30 px."""
    values = {
        "pos_gt_src": np.moveaxis(np.array([e["joints"] for e in entries]), 0, -1),
        "jnt_missing": 1 - np.array([e["joints_vis"] for e in entries]).T,
        "headboxes_src": np.tile(np.array([[1.0, 1.0], [31.0, 41.0]])[..., None], len(entries)),
    }
    scipy.io.savemat(root / "annot" / "gt_valid.mat", values | changes)


def refused(match, function, *arguments):
    with pytest.raises(MdwError, match=match) as error:
        function(*arguments)
    assert "\n" not in str(error.value)


def truth(entries):
    return np.array([e["joints"] for e in entries]) - 1


def test_records_equal_the_official_ones(protocol, tmp_path):
    file = protocol / "mpii_annot.json"
    official = np.load(protocol / "mpii_records.npz")
    entries = json.loads(file.read_text())
    got = mpii(write(tmp_path, entries), "val")
    np.testing.assert_allclose([s.center for s in got], official["center"], rtol=1e-6)
    np.testing.assert_allclose([s.scale for s in got], official["scale"], rtol=1e-6)
    visible = official["joints_vis"][..., 0]
    assert np.array_equal([s.visible for s in got], visible)
    assert np.array_equal([s.joints for s in got], np.float32(official["joints"][..., :2] * visible[..., None]))


def test_one_person_by_hand(tmp_path):
    entries = people()
    got = data.load("mpii", "val", write(tmp_path, entries), aspect=1.0)
    assert [s.image.name for s in got] == NAMES and [s.person_id for s in got] == [1, 2, 3]
    assert [s.image_id for s in got] == [7, 7, 3] and got.joints.name == "mpii16" and got[0].pixels().shape == (80, 100, 3)
    np.testing.assert_allclose(got[1].center, [51 - 1, 40 + 15 * 0.6 - 1])
    np.testing.assert_allclose(got[1].scale, [1.25 * 0.6] * 2)
    assert got[1].visible.tolist() == [0] + [1] * 15 and got[1].joints[0].tolist() == [0, 0]
    np.testing.assert_allclose(got[1].joints[5], np.array(entries[1]["joints"][5]) - 1, rtol=1e-6)
    tall = mpii(tmp_path, "valid", aspect=0.75)[1].scale  # the square of the scale stays inside
    np.testing.assert_allclose(tall, [0.75, 1.0])


def test_a_sheet_of_training_samples(tmp_path):
    write(tmp_path, people(), "train")
    command = ["data", "show", "mpii", "--root", tmp_path, "--augmented", "1", "--out", tmp_path / "sheet.png"]
    done = CliRunner().invoke(app, [str(a) for a in command], catch_exceptions=False)
    assert "the 3 people of the data set mpii" in done.stdout
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > sheet.height and np.array(sheet).std() > 10


def test_what_is_missing_changes_nothing(tmp_path):
    entries = people()
    clean = mpii(write(tmp_path, entries), "val")[1]
    for poison in ([-1, -1], [1e6, -1e6], [float("nan"), 0]):
        entries[1]["joints"][0] = poison
        dirty = mpii(write(tmp_path, entries), "val")[1]
        for name in ("center", "scale", "joints", "visible"):
            assert np.array_equal(getattr(clean, name), getattr(dirty, name))


def test_the_real_labels_score_what_is_published(shared):
    folder = shared / "data/mpii_annotations"
    own = score_mpii(folder / "gt_valid.mat", read_predictions(folder / "gt_valid.mat"))
    assert own["pckh"] == pytest.approx(82.336716, abs=1e-6)
    assert own["pckh@0.11"] == pytest.approx(33.138173, abs=1e-6) and own["pckh@0.1"] < own["pckh@0.11"]
    # 83.37 beside the data is the mean of 83.37 and 83.36, both rounded; unrounded it is 83.3646
    groups = {"Head": 95.60, "Shoulder": 92.71, "Elbow": 83.36, "Wrist": 76.74, "Hip": 81.93, "Knee": 73.36, "Ankle": 65.45}
    assert own["groups"] == pytest.approx(groups, abs=0.005)
    labels = json.loads((folder / "valid.json").read_text())
    labelled = score_mpii(folder / "gt_valid.mat", truth(labels))
    assert labelled["pckh"] == pytest.approx(99.968774, abs=1e-6) and labelled["persons_scored"] == 2958


def test_the_real_validation_set_as_a_data_set(shared, tmp_path):
    """The two real files belong together although 13 joints differ; each person's crop holds most of the joints."""
    (tmp_path / "annot").mkdir()
    (tmp_path / "images").mkdir()
    for name in ("valid.json", "gt_valid.mat"):
        (tmp_path / "annot" / name).symlink_to(shared / "data/mpii_annotations" / name)
    entries = json.loads((tmp_path / "annot/valid.json").read_text())
    for image in {e["image"] for e in entries}:
        (tmp_path / "images" / image).touch()
    got = mpii(tmp_path, "val")
    assert len(got) == 2958 and len({s.image_id for s in got}) == 2729 and sum(s.visible.sum() for s in got) == 44240
    inside = [abs(s.joints - s.center)[s.visible > 0] <= 100 * s.scale for s in got]
    assert np.concatenate(inside).mean() > 0.98
    xy = np.array([s.joints for s in got])
    assert score_mpii(got, xy)["pckh"] == pytest.approx(99.968774, abs=1e-6)


def test_pckh_of_the_fixture(protocol, tmp_path):
    given = np.load(protocol / "pckh.npz")
    expected = json.loads((protocol / "pckh_expected.json").read_text())
    scipy.io.savemat(tmp_path / "gt.mat", {k: given[k] for k in ("pos_gt_src", "jnt_missing", "headboxes_src")})
    got = score_mpii(tmp_path / "gt.mat", given["preds"][..., :2])
    assert got["pckh"] == pytest.approx(expected["official"]["Mean"], abs=1e-9)
    assert got["pckh@0.11"] == pytest.approx(expected["official"]["Mean@0.1"], abs=1e-9)
    assert got["pckh@0.1"] == pytest.approx(expected["derived"]["mean_at_true_0_10"], abs=1e-9)
    assert got["per_joint"] == pytest.approx(expected["official_pckh_per_joint"], abs=1e-9)


def test_scoring_by_mat_by_head_boxes_and_of_a_selection(tmp_path):
    entries = people()
    write_mat(write(tmp_path, entries), entries)
    by_mat = mpii(tmp_path, "val")
    wrong = truth(entries)
    wrong[2] += [31, 0]  # a little more than half a head is 15 px; this is one
    assert score_mpii(by_mat, truth(entries))["pckh"] == 100
    assert score_mpii(by_mat, wrong)["pckh"] == pytest.approx(100 * (14 + 13) / (14 + 13 + 14))
    assert score_mpii(by_mat.select([2]), wrong[2:])["pckh"] == 0
    assert score_mpii(by_mat.select([1, 0]), truth(entries)[[1, 0]])["pckh"] == 100
    (tmp_path / "annot/gt_valid.mat").unlink()
    refused("no head boxes.*gt_valid.mat", score_mpii, mpii(tmp_path, "val"), wrong)
    for entry in entries:
        entry["headbox"] = [[1, 1], [31, 41]]
    by_json = mpii(write(tmp_path, entries, "train"), "train")
    assert score_mpii(by_json, wrong) == score_mpii(tmp_path / "annot/train.json", wrong)
    assert score_mpii(by_json, wrong)["pckh"] == pytest.approx(100 * (14 + 13) / (14 + 13 + 14))
    refused("for the predictions", score_mpii, by_json, wrong[:2])


def test_evaluate_gives_pckh(tmp_path):
    from mdw.inference.evaluate import score

    entries = people()
    write_mat(write(tmp_path, entries), entries)
    assert score(mpii(tmp_path, "val"), truth(entries), np.ones((3, 16)))["pckh"] == 100


def test_prediction_files(tmp_path):
    xy = np.random.default_rng(0).uniform(0, 90, (3, 16, 2))
    scipy.io.savemat(tmp_path / "hrnet.mat", {"preds": np.concatenate([xy + 1, np.ones((3, 16, 1))], -1)})
    scipy.io.savemat(tmp_path / "tompson.mat", {"pos_pred_src": np.moveaxis(xy + 1, 0, -1)})
    (tmp_path / "ours.json").write_text(json.dumps({"xy": xy.tolist()}))
    for name in ("hrnet.mat", "tompson.mat", "ours.json"):
        np.testing.assert_allclose(read_predictions(tmp_path / name), xy, atol=1e-9)
    (tmp_path / "other.json").write_text("[1, 2]")
    refused("other.json holds no predictions", read_predictions, tmp_path / "other.json")


@pytest.mark.parametrize(
    "change, named",
    [
        (lambda p: p.clear(), "has no person"),
        (lambda p: p[1].pop("scale"), "1. of .*no field 'scale'"),
        (lambda p: p[1].update(scale=0), "1..scale of"),
        (lambda p: p[1].update(scale=-1.0), "1..scale of .* is -1.0"),
        (lambda p: p[1].update(scale="big"), "1..scale of .* is 'big', it should be a number"),
        (lambda p: p[1].update(center=[1, float("nan")]), "1. of .*not finite"),
        (lambda p: p[1].update(center=[1]), "1..center of"),
        (lambda p: p[2]["joints"].pop(), "2..joints of"),
        (lambda p: p[2]["joints"].__setitem__(4, [float("nan"), 1]), "2. of .*not finite"),
        (lambda p: p[2].update(joints_vis=[2] * 16), "2..joints_vis of"),
        (lambda p: p[2].update(image=7), "2..image of .* is 7, it should be text"),
        (lambda p: p[1]["joints"].__setitem__(0, [-2, -2]), "count from 0"),
        (lambda p: p[0].update(image="gone.jpg"), "gone.jpg"),
    ],
)
def test_damaged_persons_are_refused_by_field(tmp_path, change, named):
    entries = people()
    write(tmp_path, entries)
    change(entries)
    file = tmp_path / "annot/valid.json"
    file.write_text(json.dumps(entries))
    refused(named, mpii, tmp_path, "val")
    refused("valid.json", mpii, tmp_path, "val")


def test_files_that_are_not_there_or_others(tmp_path):
    refused("no split 'x'; there is train, val", mpii, tmp_path, "x")
    refused("train.json does not exist", mpii, tmp_path, "train")
    entries = people()
    write(tmp_path, entries)
    write_mat(tmp_path, entries, jnt_missing=np.zeros((16, 3)))
    refused("same persons in the same order", mpii, tmp_path, "val")
    write_mat(tmp_path, [entries[2], entries[1], entries[0]])
    refused("disagree about the joints; use", mpii, tmp_path, "val")
    counted_from_0 = [e | {"joints": [[x - 1, y - 1] if x > 0 else [x, y] for x, y in e["joints"]]} for e in entries]
    write_mat(tmp_path, entries)
    refused("counts pixels from 0", mpii, write(tmp_path, counted_from_0), "val")
    write(tmp_path, entries)
    write_mat(tmp_path, entries, headboxes_src=np.ones((2, 2, 3)))
    refused("head box of person 0 of .*gt_valid.mat", mpii, tmp_path, "val")
    write_mat(tmp_path, entries, headboxes_src=np.zeros((2, 2, 9)))
    refused("gt_valid.mat has arrays of other shapes", mpii, tmp_path, "val")
    scipy.io.savemat(tmp_path / "annot/gt_valid.mat", {"joints": 1})
    refused("no variable 'pos_gt_src'", mpii, tmp_path, "val")
    (tmp_path / "annot/gt_valid.mat").write_bytes(b"no mat")
    refused("gt_valid.mat is not a readable MATLAB file", mpii, tmp_path, "val")
    (tmp_path / "annot/valid.json").write_text('{"images": [], "annotations": []}')
    refused("valid.json (has no person|holds)", mpii, tmp_path, "val")


# The official annotation file


def struct_array(items: list[dict]) -> np.ndarray:
    """A 1 x n MATLAB struct array; fields that an item lacks are empty arrays in it."""
    fields = list(dict.fromkeys(name for item in items for name in item))
    array = np.empty((1, len(items)), [(name, object) for name in fields])
    for k, item in enumerate(items):
        for name in fields:
            array[0, k][name] = item.get(name, np.zeros((0, 0)))
    return array


def points(*joints) -> dict:
    return {"point": struct_array([{"x": x, "y": y, "id": k, **more} for k, x, y, more in joints])}


def person(x, joints, **changes) -> dict:
    position = {"scale": 1.5, "objpos": {"x": x, "y": 20.0}, "x1": 1.0, "y1": 2.0, "x2": 31.0, "y2": 42.0}
    return position | {"annopoints": points(*joints)} | changes


FULL = [(k, 3.0 + k, 5.5, {"is_visible": v}) for k, v in zip(range(15, -1, -1), [1, 0, "1", np.zeros((0, 0))] * 4, strict=True)]
ONE = [(9, 8.0, 7.0, {})]


@pytest.fixture
def release(tmp_path):
    """Seven images: two and one annotated persons; nobody; a person without a scale; a test image; others without fields."""
    images = [
        {"image": {"name": "a.jpg"}, "annorect": struct_array([person(10.0, FULL), person(60.0, ONE)])},
        {"image": {"name": "b.jpg"}, "annorect": person(30.0, ONE)},  # a struct alone
        {"image": {"name": "c.jpg"}},
        {"image": {"name": "d.jpg"}, "annorect": person(30.0, FULL, scale=np.zeros((0, 0)))},
        {
            "image": {"name": "t.jpg"},
            "annorect": struct_array(
                [{"scale": 2.0, "objpos": {"x": 9, "y": 8}}, person(4.0, FULL), {"scale": 2.0, "objpos": {"x": 9, "y": 8}}]
            ),
        },
        {"image": {"name": "e.jpg"}, "annorect": struct_array([{"x1": 1, "y1": 1, "x2": 2, "y2": 2}])},
        {"image": {"name": "f.jpg"}, "annorect": struct_array([person(5.0, FULL, annopoints=np.zeros((0, 0)))])},
    ]
    single = np.empty((7, 1), object)
    for k in range(7):
        single[k, 0] = np.zeros((0, 0))
    single[0, 0], single[4, 0] = np.array([[2]]), np.array([[1], [3]])
    content = {"annolist": struct_array(images), "img_train": np.array([[1, 1, 1, 1, 0, 1, 1]]), "single_person": single}
    scipy.io.savemat(tmp_path / "mpii_human_pose_v1_u12_1.mat", {"RELEASE": content}, do_compression=True)
    return tmp_path


def test_the_official_file_person_by_person(release):
    found = read_release(release / "mpii_human_pose_v1_u12_1.mat")
    assert [(p.image, p.number) for p in found] == [(1, 1), (1, 2), (2, 1), (5, 1), (5, 2), (5, 3), (7, 1)]
    assert [p.single for p in found] == [False, True, False, True, False, True, False]
    assert [p.train for p in found] == [True, True, True, False, False, False, True]
    first, second, third = (p.entry for p in found[:3])
    assert first["joints"] == [[3.0 + k, 5.5] for k in range(16)] and first["joints_vis"] == [1] * 16  # hidden ones too
    assert first["image"] == "a.jpg" and first["center"] == [10, 20] and first["scale"] == 1.5
    assert first["headbox"] == [[1, 2], [31, 42]]
    assert second["joints"][9] == [8, 7] and second["joints"][0] == [-1, -1] and sum(second["joints_vis"]) == 1
    assert third["image"] == "b.jpg" and third["joints_vis"] == second["joints_vis"]
    assert "headbox" not in found[3].entry and not any(found[6].entry["joints_vis"])


def test_without_a_list_there_is_no_split(release):
    told = []
    convert(release, tell=told.append)
    assert sorted(p.name for p in (release / "annot").iterdir()) == ["test.json", "trainval.json"]
    assert "without a list of validation persons" in told[0] and any("3 persons (public: 28,883)" in line for line in told)
    (release / "images").mkdir()
    for name in ("a", "b", "t"):
        Image.new("RGB", (100, 80)).save(release / "images" / f"{name}.jpg")
    got = mpii(release, "trainval")
    assert [s.image.name for s in got] == ["a.jpg", "a.jpg", "b.jpg"]
    assert score_mpii(got, [s.joints for s in got])["pckh"] == 100
    test = mpii(release, "test")
    assert len(test) == 2 and not any(s.visible.any() for s in test) and test.ground_truth is None


def test_the_split_by_tompsons_list_keeps_images_apart(release):
    scipy.io.savemat(release / "detections.mat", {"RELEASE_img_index": [[1]], "RELEASE_person_index": [[2]]})
    options = ["--root", str(release), "--validation", str(release / "detections.mat")]
    run = CliRunner().invoke(app, ["data", "convert", "mpii", *options])
    assert run.exit_code == 0 and "train.json: 1 persons (public: 22,246) in 1 images (public: 14,679)" in run.output
    valid, train = (json.loads((release / "annot" / f"{name}.json").read_text()) for name in ("valid", "train"))
    assert [e["center"][0] for e in valid] == [60] and [e["image"] for e in train] == ["b.jpg"]  # nobody else of a.jpg
    before = (release / "annot/train.json").read_bytes()
    (release / "annot/trainval.json").write_text("mine")
    told = []
    convert(release, tell=told.append)
    assert all("there already" in line for line in told) and (release / "annot/train.json").read_bytes() == before
    assert (release / "annot/trainval.json").read_text() == "mine"
    scipy.io.savemat(release / "detections.mat", {"RELEASE_img_index": [[7]], "RELEASE_person_index": [[1]]})
    (release / "annot/valid.json").unlink()
    refused("person 1 of image 7, who has no labels", convert, release, release / "detections.mat")


def test_the_split_by_hrnets_valid_json(release):
    entry = people(1)[0] | {"image": "a.jpg", "center": [60.0, 20.0]}
    (release / "annot").mkdir()
    (release / "annot/valid.json").write_text(json.dumps([entry]))
    convert(release)
    assert [e["image"] for e in json.loads((release / "annot/train.json").read_text())] == ["b.jpg"]
    (release / "annot/valid.json").write_text(json.dumps([entry | {"center": [61.0, 20.0]}]))
    refused(r"person 0 of .*valid.json \(a.jpg\) is not in", convert, release)


@pytest.mark.parametrize(
    "content, match",
    [
        ({"joints": 1}, "no variable 'RELEASE'"),
        ({"RELEASE": 1}, "no annolist"),
        ({"RELEASE": {"annolist": {"image": {"name": "a.jpg"}}, "img_train": [1, 0]}}, "different lengths"),
        ({"RELEASE": {"annolist": {"image": {"name": "a.jpg"}}, "img_train": [1]}}, "no person"),
        ({"RELEASE": {"annolist": {"annorect": person(1.0, ONE)}, "img_train": [1]}}, "has no name"),
        ({"RELEASE": {"annolist": {"annorect": person(1.0, [(16, 1.0, 1.0, {})])}, "img_train": [1]}}, "id 0..15"),
        ({"RELEASE": {"annolist": {"annorect": person(1.0, ONE, scale=np.nan)}, "img_train": [1]}}, "scale of person 1"),
    ],
)
def test_another_file_than_the_official_one(tmp_path, content, match):
    file = tmp_path / "mpii_human_pose_v1_u12_1.mat"
    refused("mpii_human_pose_v1_u12_1.mat does not exist", convert, tmp_path)
    scipy.io.savemat(file, content)
    refused(match, convert, tmp_path)
    assert not (tmp_path / "annot").exists()
    file.write_bytes(file.read_bytes()[:150])
    refused("not a readable MATLAB file", convert, tmp_path)


def test_a_prediction_file_is_measured_from_the_command_line(tmp_path):
    entries = people()
    write_mat(write(tmp_path, entries), entries)
    scipy.io.savemat(tmp_path / "pred.mat", {"preds": truth(entries) + 1})
    options = ["--data", "mpii", "--root", str(tmp_path), "--predictions", str(tmp_path / "pred.mat"), "--json"]
    shutil.rmtree(tmp_path / "images")  # scoring a file needs no image
    assert json.loads(CliRunner().invoke(app, ["evaluate", *options]).stdout)["pckh"] == 100
    alone = ["--data", "mpii", "--ground-truth", str(tmp_path / "annot/gt_valid.mat"), *options[4:]]
    assert json.loads(CliRunner().invoke(app, ["evaluate", *alone]).stdout)["pckh"] == 100
    assert "--root" in str(CliRunner().invoke(app, ["evaluate", "--data", "mpii", *options[4:]]).exception)
    refusal = CliRunner().invoke(app, ["evaluate", *options, "--results", str(tmp_path / "r.json")]).exception
    assert isinstance(refusal, MdwError) and "goes with --data coco" in str(refusal)
