"""`mdw evaluate --data coco`: two kinds of boxes, results files, the server's zip, and what is refused."""

import json
import zipfile

import numpy as np
import pytest
from command import mistake, run
from synthetic_coco import write_folder

from mdw import data
from mdw.pose.average_precision import COCO_NAMES
from mdw.training import recipes, runs


@pytest.fixture
def mini(shared):
    return shared / "data/coco_mini"


@pytest.fixture
def fixture_files(protocol):
    return {name: protocol / f"coco_{name}.json" for name in ("gt", "results", "detections", "expected")}


def test_a_results_file_is_measured_without_a_network(fixture_files, tmp_path):
    """Both official cases, to six decimals, from files alone."""
    expected = json.loads(fixture_files["expected"].read_text())
    given = ("evaluate", "--data", "coco", "--ground-truth", fixture_files["gt"], "--json", "--predictions")
    said = json.loads(run(*given, fixture_files["results"])[1])
    assert {k: round(said[k], 6) for k in COCO_NAMES} == expected["after_official_rescoring_and_nms"]["stats"]
    assert said["instances"] == len(json.loads(fixture_files["results"].read_text())) and "areas" not in said

    write_folder(tmp_path, json.loads(fixture_files["gt"].read_text()))
    raw = dict(np.load(fixture_files["gt"].parent / "coco_raw_predictions.npz"))
    people = [d for d in json.loads(fixture_files["detections"].read_text()) if d["category_id"] == 1]
    bare = [
        {"image_id": d["image_id"], "category_id": 1, "keypoints": k.ravel().tolist(), "score": d["score"]}
        for d, k in zip(people, raw["preds"], strict=True)
    ]
    for entries, case in ((bare, "raw_detections_box_score_no_nms"), (boxed(bare, people), "raw_with_bbox_key")):
        (tmp_path / "raw.json").write_text(json.dumps(entries))
        given = ("evaluate", "--data", "coco", "--root", tmp_path, "--predictions", tmp_path / "raw.json", "--json")
        said = json.loads(run(*given)[1])
        assert {k: round(said[k], 6) for k in COCO_NAMES} == expected[case]["stats"]
        assert ("areas" in said) == (case == "raw_with_bbox_key")


def boxed(entries, people):
    return [e | {"bbox": d["bbox"]} for e, d in zip(entries, people, strict=True)]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Fresh weights of a small input, in the form `mdw train` writes."""
    from mdw.models import create_model
    from mdw.models.weights import about, save_weights

    options = {"cdc": False, "gcm_s": False, "gcm_c": False}
    path = tmp_path_factory.mktemp("weights") / "weights.safetensors"
    spec = runs.make_spec("mdw_hrnet_18", recipes.get("smoke"), 0, options)
    save_weights(path, create_model("mdw_hrnet_18", **options), about(spec, "coco17"))
    return path


def test_two_kinds_of_boxes_are_two_results(mini, weights, tmp_path):
    annotated = data.load("coco", "val", mini)
    detected = [
        {
            "image_id": s.image_id,
            "category_id": 1,
            "bbox": [*(s.center - s.box_wh / 2).tolist(), *s.box_wh.tolist()],
            "score": 0.5,
        }
        for s in annotated.samples[:9]
    ]
    boxes = tmp_path / "boxes.json"
    boxes.write_text(json.dumps(detected))
    given = ("evaluate", "--data", "coco", "--root", mini, "--weights", weights, "--no-flip-test", "--json", "--device", "cpu")
    both = last_json(run(*given, "--detections", boxes, "--gt-boxes")[1])
    assert set(both) == {"detector_boxes", "ground_truth_boxes"}
    assert both["detector_boxes"]["boxes"] == "detector" and both["detector_boxes"]["detections"] == "boxes.json"
    assert both["detector_boxes"]["persons"] == 9 and both["ground_truth_boxes"]["persons"] == 68
    assert both["ground_truth_boxes"]["boxes"] == "ground truth" and "detections" not in both["ground_truth_boxes"]

    output = run(*given, "--detections", boxes, "--results", tmp_path / "r.json", "--submission", "mdw-18", "--out", tmp_path)[
        1
    ]
    one = last_json(output)
    assert one["boxes"] == "detector" and one["AP"] == both["detector_boxes"]["AP"]
    assert "9 detected boxes in" in output and "104,125" in output and "do not compare" in output
    written = json.loads((tmp_path / "r.json").read_text())
    again = json.loads(run(*given[:5], "--predictions", tmp_path / "r.json", "--json")[1])
    assert {k: again[k] for k in COCO_NAMES} == {k: one[k] for k in COCO_NAMES}
    name = "person_keypoints_val2017_mdw-18_results"
    with zipfile.ZipFile(tmp_path / f"{name}.zip") as archive:
        assert archive.namelist() == [f"{name}.json"]
        inside = json.loads(archive.read(f"{name}.json"))
    assert [set(e) for e in inside] == [{"image_id", "category_id", "keypoints", "score"}] * len(written)
    for ours, full in zip(inside, written, strict=True):
        assert np.abs(np.subtract(ours["keypoints"], full["keypoints"])).max() <= 0.005 and ours["score"] == full["score"]


def test_figures_are_kept_in_the_run_that_was_measured(mini, weights, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "weights.safetensors").symlink_to(weights)
    given = ("evaluate", "--data", "coco", "--root", mini, "--no-flip-test", "--json", "--device", "cpu", "--record")
    assert "--weights" in mistake(*given, "x") and "run's folder" in mistake(*given, "x", "--weights", folder)
    (folder / "recipe.json").write_text("{}")
    assert "cannot be a file's name" in mistake(*given, "../x", "--weights", folder)
    assert not (folder / "evaluations").exists()
    one = last_json(run(*given, "mini", "--weights", folder)[1])
    (kept,) = runs.Run(folder).evaluations("coco", "val")
    assert kept["measured"] == {"ground_truth_boxes": one} and one["persons"] == 68 and one["public_persons"] == 6352
    assert {"commit", "hardware", "started"} <= kept["environment"].keys()
    assert not runs.Run(folder).evaluations("coco", "test-dev") and not runs.Run(folder).evaluations("people", "val")


def last_json(output):
    return json.loads(output[output.index("{\n") :])


def test_test_dev_is_written_and_never_scored(mini, weights, tmp_path):
    (tmp_path / "annotations").mkdir()
    (tmp_path / "test2017").symlink_to(mini / "val2017")
    images = json.loads((mini / "annotations/person_keypoints_val2017.json").read_text())["images"][:3]
    (tmp_path / "annotations/image_info_test-dev2017.json").write_text(json.dumps({"images": images}))
    boxes = [{"image_id": e["id"], "category_id": 1, "bbox": [9, 9, 90, 120], "score": 0.5} for e in images]
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    given = ("evaluate", "--data", "coco", "--root", tmp_path, "--split", "test-dev", "--weights", weights, "--json")
    assert "--detections" in mistake(*given) and "server" in mistake(*given)
    given += ("--detections", tmp_path / "boxes.json")
    assert "--submission NAME" in mistake(*given)
    said = last_json(run(*given, "--submission", "mdw18", "--out", tmp_path / "zips", "--device", "cpu")[1])
    assert not set(COCO_NAMES) & set(said) and "server" in said["not_measured"] and said["instances"] == 3
    (path,) = (tmp_path / "zips").iterdir()
    assert path.name == "person_keypoints_test-dev2017_mdw18_results.zip"
    first = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        (tmp_path / "again.json").write_bytes(archive.read(archive.namelist()[0]))
    run(*given[:7], "--predictions", tmp_path / "again.json", "--submission", "mdw18", "--out", tmp_path / "zips")
    assert path.read_bytes() == first, "equal results are equal files"
    (tmp_path / "again.json").write_text(json.dumps([json.loads((tmp_path / "again.json").read_text())[0] | {"image_id": 1}]))
    strange = mistake(*given[:7], "--predictions", tmp_path / "again.json", "--submission", "other", "--out", tmp_path / "zips")
    assert (
        "image_id" in strange
        and " is 1" in strange
        and "image_info_test-dev2017.json" in strange
        and len(list(path.parent.iterdir())) == 1
    )


def test_what_cannot_be_asked_for_is_one_sentence(fixture_files, mini, weights, tmp_path):
    coco_mini = ("evaluate", "--data", "coco", "--root", mini, "--weights", weights)
    ours, theirs = fixture_files["results"], fixture_files["detections"]
    assert "files of one split" in mistake(*coco_mini, "--predictions", ours)
    assert "no field 'bbox'" in mistake(*coco_mini, "--detections", ours)
    assert "no field 'keypoints'" in mistake(*coco_mini, "--predictions", theirs)
    assert "not in" in mistake(*coco_mini, "--predictions", ours, "--split", "train")
    assert "--root" in mistake("evaluate", "--data", "coco", "--predictions", ours)
    assert "--detections" in mistake(*coco_mini, "--gt-boxes")
    assert "one kind of boxes" in mistake(*coco_mini, "--detections", theirs, "--gt-boxes", "--results", tmp_path / "r.json")
    assert "leave the other flag out" in mistake(*coco_mini, "--predictions", ours, "--detections", theirs)
    assert "letters" in mistake(*coco_mini, "--submission", "my_net")
    assert "it is a folder" in mistake(*coco_mini, "--results", tmp_path)
    assert "--data coco" in mistake("evaluate", "--data", "people", "--results", tmp_path / "r.json")
    assert "goes with --predictions" in mistake(*coco_mini, "--ground-truth", fixture_files["gt"])
    mixed = json.loads(ours.read_text())[:2]
    mixed[0]["bbox"] = [1, 2, 3, 4]
    (tmp_path / "mixed.json").write_text(json.dumps(mixed))
    given = ("evaluate", "--data", "coco", "--ground-truth", fixture_files["gt"], "--predictions", tmp_path / "mixed.json")
    assert "bbox in some entries" in mistake(*given)
    assert [p.name for p in tmp_path.iterdir()] == ["mixed.json"], "nothing was written"
