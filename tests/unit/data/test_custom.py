"""One's own joints, as an example from the TOML file to predictions: hands of five points, drawn here."""

import copy
import json

import cv2
import numpy as np
import pytest
import torch
from hands import FINGERS, NAMES, TOML, hands
from typer.testing import CliRunner

from mdw import data
from mdw.cli import app
from mdw.data.augment import MDW_COCO
from mdw.data.custom import custom, read_joints
from mdw.data.pack import pack
from mdw.data.packed import open_pack
from mdw.inference.evaluate import score
from mdw.models.weights import load_network, read_about
from mdw.pose.average_precision import coco_ap, coco_results
from mdw.pose.joints import COCO17, JOINT_SETS, joint_set
from mdw.training import recipes, runs
from mdw.util.errors import MdwError


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "hand.toml").write_text(TOML)
    hands(tmp_path, "train", 8, 0)
    hands(tmp_path, "val", 4, 1)
    return tmp_path


def load(folder, split="val", **options):
    return data.load("custom", split, folder, joints=folder / "hand.toml", **options)


def message(function, *arguments, **options) -> str:
    with pytest.raises(MdwError) as error:
        function(*arguments, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_ones_own_joints_are_drawn_and_packed(folder):
    sheet = folder / "sheet.png"
    command = ["data", "show", "custom", "--root", folder, "--joints", folder / "hand.toml", "--count", "2", "--out", sheet]
    done = CliRunner().invoke(app, [str(a) for a in command], catch_exceptions=False)
    assert "2 of the 8 people" in done.stdout and cv2.imread(str(sheet)).std() > 10
    hands_set = load(folder, "train")
    pack(hands_set, folder / "pack", (48, 64), MDW_COCO, {})
    packed = open_pack(folder / "pack")
    assert packed.joints == hands_set.joints and np.array_equal(packed[0].visible, hands_set[0].visible)


def test_from_the_toml_file_to_predictions(folder):
    """The documented example: train, evaluate, predict, each one command."""
    torch.set_num_threads(1)

    def mdw(*arguments):
        done = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
        return json.loads(done.stdout)

    small = (
        "input_size=[64,64] sigma=1.5 batch_size=4 epochs=24 eval_every=24 lr=0.006 lr_steps=[18] warmup_iterations=5".split()
    )
    changes = [word for change in small for word in ("--set", change)]
    plain = ["-o", "cdc=false", "-o", "gcm_s=false", "-o", "gcm_c=false", "--runs", folder / "runs", "--json"]
    command = ["train", "mdw_hrnet_18", "--recipe", "custom", "--root", folder, *changes, *plain]
    made = mdw(*command, "--joints", folder / "hand.toml")
    assert made["AP50"] > 0.5 and made["val_persons"] == 4, "192 samples are enough for hands that differ so little"
    weights = made["run"]
    network, joints, size = load_network(weights)
    assert joints == read_joints(folder / "hand.toml") and size == (64, 64)
    assert network(torch.zeros(1, 3, 64, 64)).shape == (1, 5, 16, 16)

    found = mdw("evaluate", "--data", "custom", "--root", folder, "--weights", weights, "--json")
    assert found["AP"] == made["AP"] and found["persons"] == 4
    people = mdw("predict", folder / "images", "--weights", weights, "--out", folder / "out", "--json")
    assert len(people) == 12 and all(len(p["keypoints"]) == 15 for p in people)

    (folder / "elsewhere.toml").write_text("# a comment\n" + TOML)  # the same joints: the same run
    assert mdw(*command, "--joints", folder / "elsewhere.toml")["run"] == weights
    sheet = CliRunner().invoke(
        app,
        [*map(str, ("data", "show", "custom", "--root", folder, "--joints", folder / "hand.toml", "--out", folder / "s.png"))],
    )
    assert sheet.exit_code == 0 and cv2.imread(str(folder / "s.png")) is not None


def test_the_joints_belong_to_the_question(folder):
    def identity(text):
        (folder / "hand.toml").write_text(text)
        recipe = recipes.get("custom", train_options={"joints": str(folder / "hand.toml")})
        return runs.identity(runs.make_spec("mdw_hrnet_18", recipe))

    assert identity(TOML) == identity(TOML.replace("# hands", "# other words"))
    assert len({identity(TOML), identity(TOML.replace("0.05", "0.06")), identity(TOML.replace('"ring"', '"middle"'))}) == 3
    (folder / "hand.toml").write_text(TOML)
    spec = runs.make_spec("mdw_hrnet_18", recipes.get("custom", train_options={"joints": str(folder / "hand.toml")}))
    (folder / "hand.toml").unlink()
    kept = recipes.Recipe.from_dict(json.loads(json.dumps(spec))["recipe"]).train_options
    assert len(data.load("custom", "val", folder, **kept)) == 4, "the record alone is enough"


def test_samples_are_coco_persons_with_other_joints(folder):
    got = load(folder)
    truth = json.loads((folder / "annotations/val.json").read_text())["annotations"]
    assert got.joints.names == NAMES and got.joints.pairs == ((1, 4), (2, 3)) and got.joints.lower == (0,)
    assert [s.visible.sum() for s in got] == [5, 5, 4, 5]
    np.testing.assert_allclose(got[0].joints.ravel(), np.reshape(truth[0]["keypoints"], (5, 3))[:, :2].ravel(), rtol=1e-6)
    x, y, w, h = truth[0]["bbox"]
    np.testing.assert_allclose(got[0].center, [x + (w - 1) / 2, y + (h - 1) / 2], rtol=1e-5)
    other = custom(folder, "val", 0.75, folder / "hand.toml", "annotations/{split}.json", "images")
    assert [s.person_id for s in other] == [1, 2, 3, 4]


def test_ap_uses_the_sigmas_of_the_joints(folder):
    got = load(folder)
    xy = np.array([s.joints for s in got])
    assert score(got, xy, np.ones((4, 5)))["AP"] == 1
    near = score(got, xy + [6, 0], np.ones((4, 5)))["AP"]
    (folder / "hand.toml").write_text(TOML.replace("0.04", "0.4").replace("0.05", "0.5"))
    lenient = score(load(folder), xy + [6, 0], np.ones((4, 5)))["AP"]
    assert near < 0.5 < lenient == 1


def test_ap_of_other_joints_is_cocos_where_they_are_cocos(protocol):
    """COCO's joints in another order and under another name have COCO's numbers."""
    truth = json.loads((protocol / "coco_gt.json").read_text())
    results = json.loads((protocol / "coco_results.json").read_text())
    results = results if isinstance(results, list) else results["results"]
    order = np.random.default_rng(0).permutation(17)
    values = COCO17.to_dict() | {"name": "turned", "sigmas": [COCO17.sigmas[k] for k in order]}
    turned = read_joints(values | {"names": [COCO17.names[k] for k in order]})
    moved_truth, moved_results = copy.deepcopy(truth), copy.deepcopy(results)
    for entry in (*moved_truth["annotations"], *moved_results):
        entry["keypoints"] = np.reshape(entry["keypoints"], (17, 3))[order].ravel().tolist()
    assert coco_ap(moved_truth, moved_results, joints=turned) == pytest.approx(coco_ap(truth, results), abs=1e-9)


def test_a_double_is_suppressed_by_the_sigmas_of_the_joints(folder):
    joints = read_joints(folder / "hand.toml")
    xy = np.stack([FINGERS, FINGERS + [2, 0]]).astype(float)
    given = [1, 1], xy, np.ones((2, 5)), np.zeros((2, 2)), np.full((2, 2), 0.4)
    assert len(coco_results(*given, joints=joints)) == 1
    sharp = read_joints(joints.to_dict() | {"sigmas": [0.001] * 5})
    assert len(coco_results(*given, joints=sharp)) == 2


def test_joint_sets_come_back_from_their_keys(folder):
    hand = read_joints(folder / "hand.toml")
    for joints in (*JOINT_SETS.values(), hand):
        assert joint_set(json.loads(json.dumps(joints.key))) == joints
    assert COCO17.key == "coco17" and isinstance(hand.key, dict)


@pytest.mark.parametrize(
    "old, new, match",
    [
        ('name = "hand5"', "", "name .*None"),
        ('"hand5"', '"coco17"', "other than coco17"),
        ('"thumb", "index", "ring", "little"]\nsig', '"thumb", "thumb", "ring", "little"]\nsig', "each once"),
        ("0.05, ", "", "sigmas .*5 numbers"),
        ("0.05", "-1", "sigmas .*5 numbers"),
        ("0.05", "nan", "sigmas .*5 numbers"),
        ('["thumb", "little"]', '["thumb", "toe"]', "pairs .*'toe'"),
        ('["thumb", "little"]', '["thumb"]', "pairs .*pairs of names"),
        ('["thumb", "little"]', '["index", "little"]', "pairs .*'index' more than once"),
        ('["thumb", "little"]', '["thumb", "thumb"]', "itself"),
        ('["wrist", "ring"]', '["wrist", 3]', "limbs"),
        ('lower = ["wrist"]', 'lower = ["toe"]', "lower .*'toe'"),
        ('lower = ["wrist"]', "lower = 3", "lower .*list"),
        ("sigmas", "sigma", "unknown field 'sigma'"),
        ("names", "names names", "not valid TOML"),
    ],
)
def test_joint_files_that_are_wrong(folder, old, new, match):
    assert old in TOML
    (folder / "hand.toml").write_text(TOML.replace(old, new, 1))
    with pytest.raises(MdwError, match=match) as error:
        load(folder)
    assert "hand.toml" in str(error.value) and "\n" not in str(error.value)


def test_joints_that_are_missing(folder):
    assert "--joints" in message(data.load, "custom", "val", folder)
    assert "gone.toml" in message(data.load, "custom", "val", folder, joints="gone.toml")
    assert "no joint set" in message(data.load, "custom", "val", folder, joints={"name": "x"})
    assert "val2.json does not exist" in message(load, folder, "val2")


@pytest.mark.parametrize(
    "change, named",
    [
        (lambda t: t.pop("categories"), "no category"),
        (lambda t: t["categories"][1]["keypoints"].reverse(), "hand5: .*'wrist', 'thumb'.*hand: .*'little', 'ring'"),
        (lambda t: t["categories"].append(t["categories"][1] | {"id": 4}), "2 categories"),
        (lambda t: t["annotations"].clear(), "nobody with labelled joints of hand5"),
        (lambda t: t["annotations"][0]["keypoints"].pop(), r"annotations\[0\].keypoints .* 14 numbers"),
        (lambda t: t["annotations"][0]["keypoints"].__setitem__(0, float("nan")), r"annotations\[0\].keypoints\[0\] .* nan"),
        (lambda t: t["annotations"][0].update(keypoints="all"), r"annotations\[0\].keypoints .* 'all', it should be a list;"),
        (lambda t: t["annotations"][0].pop("area"), "'area'"),
        (lambda t: t["annotations"][0].update(image_id=99), "99"),
        (lambda t: t["images"][0].update(file_name="gone.png"), "gone.png"),
    ],
)
def test_annotations_that_are_wrong(folder, change, named):
    file = folder / "annotations/val.json"
    truth = json.loads(file.read_text())
    change(truth)
    file.write_text(json.dumps(truth))
    with pytest.raises(MdwError, match=named) as error:
        load(folder)
    assert "val.json" in str(error.value) and "\n" not in str(error.value)


def test_a_category_that_does_not_say_its_joints_and_boxes_without_extent(folder):
    file = folder / "annotations/val.json"
    truth = json.loads(file.read_text())
    truth["categories"] = [{"id": 3, "name": "hand"}]
    truth["annotations"].pop()  # of the other category
    truth["annotations"][1]["bbox"] = [200, 200, 5, 5]  # outside the image: dropped, as for COCO
    truth["annotations"][2]["area"] = 0
    file.write_text(json.dumps(truth))
    assert [s.person_id for s in load(folder)] == [1, 4]


def test_weights_of_other_joints_do_not_fit(folder):
    from mdw.models import create_model
    from mdw.models.weights import about, save_weights

    hand = read_joints(folder / "hand.toml")
    spec = runs.make_spec("mdw_hrnet_18", recipes.get("custom"))
    network = create_model("mdw_hrnet_18", 5)
    save_weights(folder / "w.safetensors", network, about(spec, hand.key))
    assert read_about(folder / "w.safetensors")["joints"]["names"] == list(NAMES)
    told = CliRunner().invoke(app, ["evaluate", "--data", "people", "--weights", str(folder / "w.safetensors")])
    assert isinstance(told.exception, MdwError) and "predict hand5" in str(told.exception)
    save_weights(folder / "w.safetensors", network, about(spec, {"name": "x"}))
    assert "does not say which network" in message(load_network, folder / "w.safetensors")
