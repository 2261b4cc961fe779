"""The command line: it answers, and a user's mistake is one sentence, status 1 and nothing half-written."""

import json
import subprocess
import sys

import cv2
import numpy as np
import pytest
import scipy.io
from command import mistake, run


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.jpg"
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 255, (80, 60, 3), dtype=np.uint8))
    return path


@pytest.mark.parametrize(
    "command", ["list", "train", "evaluate", "predict", "complexity", "data", "runs", "reproduce", "report"]
)
def test_every_command_has_help(command):
    status, output, _ = run(command, "--help")
    assert status == 0 and "Usage" in output


def test_list_and_complexity_speak_json():
    assert "mdw_hrnet_18" in json.loads(run("list", "--json")[1])
    (row,) = json.loads(run("complexity", "mdw_hrnet_18", "--size", "64x64", "--json")[1])
    assert row["params"] == 1_154_977 and row["size"] == "64x64"


def test_a_mistake_is_one_line_on_stderr_and_no_traceback():
    done = subprocess.run([sys.executable, "-m", "mdw", "complexity", "nothing"], capture_output=True, text=True)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("mdw: there is no model 'nothing'") and done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "words",
    [
        "--help",
        "train --help",
        "list",
        "data list",
        "runs",
        "complexity no_such_network",
        "predict no_such_photo.jpg",
        "predict --weights no_such_file",
        "evaluate --data no_such_data",
        "evaluate --data lspet --root no_such_folder",
        "evaluate --data people --weights no_such_file",
        "train mdw_hrnet_18 --recipe no_such_recipe",
        "reproduce --dry-run",
        "report --check",
    ],
)
def test_what_needs_no_network_does_not_wait_for_torch(words):
    code = (
        "import atexit, os, sys\nfrom mdw.cli import main\n"
        "atexit.register(lambda: os._exit(bool({'torch', 'timm'} & sys.modules.keys()) and 3))\nmain()"
    )
    done = subprocess.run([sys.executable, "-c", code, *words.split()], capture_output=True, text=True)
    assert done.returncode == 0, "torch was loaded"
    assert "Traceback" not in done.stderr


def test_counts_are_kept_until_the_code_of_networks_changes(tmp_path, monkeypatch):
    from mdw.models import complexity, counts

    monkeypatch.setenv("MDW_CACHE", str(tmp_path))
    first = counts.counted("mobilenetv2", (64, 64))
    monkeypatch.setattr(complexity, "measure", lambda *_: pytest.fail("counted twice"))
    assert counts.counted("mobilenetv2", (64, 64)) == first
    monkeypatch.setattr(complexity, "measure", lambda *_: {"params": 1})
    assert counts.counted("mobilenetv2", (96, 64)) == counts.counted("mobilenetv2", (64, 64), joints=14) == {"params": 1}
    monkeypatch.setattr(counts, "digest_of_networks", lambda: "0123456789abcdef")
    assert counts.counted("mobilenetv2", (64, 64)) == {"params": 1}
    (tmp_path / "counts-0123456789abcdef.json").write_text("half a fi")
    assert counts.counted("mobilenetv2", (64, 64)) == {"params": 1}


def test_predict_writes_overlays_and_coco_results(tmp_path, photo, weights):
    boxes = tmp_path / "boxes.json"
    boxes.write_text(json.dumps({"photo.jpg": [[5, 5, 40, 60], [20, 10, 30, 50]]}))
    out = tmp_path / "out"
    status, _, _ = run("predict", photo, "--weights", weights, "--boxes", boxes, "--out", out, "--threshold", "-1")
    assert status == 0
    people = json.loads((out / "predictions.json").read_text())
    assert [p["image_id"] for p in people] == [1, 1] and all(len(p["keypoints"]) == 51 for p in people)
    assert not np.array_equal(cv2.imread(str(out / "photo.overlay.jpg")), cv2.imread(str(photo)))


def test_predict_refuses_what_it_cannot_read(tmp_path, photo, weights):
    out = tmp_path / "out"
    cut = tmp_path / "cut.jpg"
    cut.write_bytes(photo.read_bytes()[:-400])
    broken = tmp_path / "broken.json"
    broken.write_text('{"photo.jpg": [[1, 2')
    empty = tmp_path / "empty"
    empty.mkdir()
    flat = tmp_path / "flat.json"
    flat.write_text('{"photo.jpg": [[1, 2, 0, 4]]}')
    assert "cut.jpg" in mistake("predict", photo, cut, "--weights", weights, "--out", out)
    assert "missing.jpg does not exist" in mistake("predict", tmp_path / "missing.jpg", "--weights", weights, "--out", out)
    assert "holds no image" in mistake("predict", empty, "--weights", weights, "--out", out)
    assert "broken.json is not valid JSON" in mistake("predict", photo, "--boxes", broken, "--weights", weights, "--out", out)
    assert "(1.0, 2.0, 0.0, 4.0)" in mistake("predict", photo, "--boxes", flat, "--weights", weights, "--out", out)
    assert not list(out.iterdir())  # a photo's header is read before anything is made, the rest of it in its turn


def test_predict_takes_videos_boxes_and_photos_in_one_call(tmp_path, photo, weights):
    clip, out = tmp_path / "clip.avi", tmp_path / "out"
    writer = cv2.VideoWriter(str(clip), cv2.VideoWriter_fourcc(*"MJPG"), 12.5, (64, 48))
    for k in range(3):
        writer.write(np.full((48, 64, 3), 40 * k, np.uint8))
    writer.release()
    both = ("--box", "5,5,40,30", "--box", "20,10,30,30")
    status, output, _ = run("predict", photo, clip, *both, "--weights", weights, "--no-flip-test", "--out", out, "--json")
    told = json.loads(output)
    assert status == 0 and [entry["box"] for entry in told[:2]] == [[5, 5, 40, 30], [20, 10, 30, 30]]
    assert told[2]["frames"] == 3 and told[2]["people"] == 6 and told[2]["fps"] == 12.5
    lines = (out / "clip.poses.jsonl").read_text().splitlines()
    assert [person["box"][0] for person in json.loads(lines[2])["people"]] == [5, 20]
    assert sorted(path.name for path in out.iterdir()) == [
        "clip.overlay.mp4", "clip.poses.jsonl", "photo.overlay.jpg", "predictions.json",
    ]  # fmt: skip


def test_predict_refuses_flags_that_do_not_fit(tmp_path, photo):
    boxes, text = tmp_path / "boxes.json", tmp_path / "text.mp4"
    boxes.write_text('{"other.jpg": [[1, 2, 3, 4]]}')
    text.write_text("no video")
    out = ("--out", tmp_path / "out")
    assert "--box and --detector each say" in mistake("predict", photo, "--box", "1,2,3,4", "--detector", "x", *out)
    assert "for none of these files" in mistake("predict", photo, "--boxes", boxes, *out)
    assert "--box '1,2' is no" in mistake("predict", photo, "--box", "1,2", *out)
    assert "lies outside photo.jpg" in mistake("predict", photo, "--box", "900,2,5,5", *out)
    assert "--camera reads no files" in mistake("predict", photo, "--camera", "0", *out)
    assert "there is no camera 97" in mistake("predict", "--camera", "97", *out)
    assert "--seconds goes with --camera" in mistake("predict", photo, "--seconds", "3", *out)
    assert "text.mp4 cannot be read as a video" in mistake("predict", photo, text, *out)
    assert "no detector 'x'" in mistake("predict", photo, "--detector", "x", *out)
    assert "no device 'abacus'" in mistake("predict", photo, "--device", "abacus", *out)
    assert not (tmp_path / "out").exists()


def test_weights_that_are_none_are_refused(tmp_path, photo):
    damaged = tmp_path / "weights.safetensors"
    damaged.write_bytes(b"not tensors at all, whatever the name says")
    assert "not a whole safetensors file" in mistake("predict", photo, "--weights", damaged, "--out", tmp_path / "out")
    assert "does not exist" in mistake("predict", photo, "--weights", tmp_path / "no", "--out", tmp_path / "out")


def test_weights_of_another_joint_set_are_refused(tmp_path, weights):
    root = tmp_path / "lspet"
    (root / "images").mkdir(parents=True)
    sentence = mistake("evaluate", "--data", "people", "--weights", weights, "--split", "nothing")
    assert "no split 'nothing'" in sentence
    scipy.io.savemat(root / "joints.mat", {"joints": np.zeros((5, 3, 2))})
    assert "joints.mat" in mistake("evaluate", "--data", "lspet", "--root", root, "--weights", weights, "--split", "all")


def test_training_mistakes(tmp_path):
    train = ("train", "mdw_hrnet_18", "--runs", tmp_path / "runs")
    assert "no model" in mistake("train", "nothing", "--runs", tmp_path / "runs", "--recipe", "smoke")
    assert "no recipe 'x'" in mistake(*train, "--recipe", "x")
    assert "no field 'x'" in mistake(*train, "--set", "x=1")
    assert "NAME=VALUE" in mistake(*train, "--set", "x")
    assert "no option 'x'" in mistake(*train, "--recipe", "smoke", "-o", "x=1")
    assert "--root" in mistake(*train, "--recipe", "lspet_small")
    assert "gone" in mistake(*train, "--recipe", "lspet_small", "--root", tmp_path / "gone")
    assert not list(tmp_path.glob("runs/*"))


def test_an_output_that_cannot_be_written_is_named(tmp_path, photo, weights):
    (tmp_path / "file").write_text("a file where a folder is wanted")
    assert "cannot write" in mistake("predict", photo, "--weights", weights, "--out", tmp_path / "file" / "out")
    assert "cannot write" in mistake("train", "mdw_hrnet_18", "--recipe", "smoke", "--runs", tmp_path / "file" / "runs")


def test_reproduce_plans_without_training(tmp_path):
    status, output, _ = run("reproduce", "table5", "--preset", "smoke", "--runs", tmp_path, "--seeds", "0,1", "--dry-run")
    assert status == 0 and output.count("not run") == 10 and "06_table5_modules" in output
    assert "no preset 'x'" in mistake("reproduce", "table5", "--preset", "x", "--runs", tmp_path)
    assert "is none of" in mistake("reproduce", "table99", "--runs", tmp_path)
    assert "parameter `colour`" in mistake("reproduce", "02", "-p", "colour=1", "--preset", "smoke", "--runs", tmp_path)
    assert "--seeds 'a'" in mistake("reproduce", "table5", "--seeds", "a")
    assert not list(tmp_path.iterdir())


def test_data_show_draws_a_sheet(tmp_path):
    out = tmp_path / "sheet.png"
    assert run("data", "show", "people", "--count", "2", "--augmented", "1", "--out", out)[0] == 0
    assert cv2.imread(str(out)) is not None
    assert "no recipe 'x'" in mistake("data", "show", "people", "--recipe", "x", "--out", out)
    assert "no data set 'x'" in mistake("data", "show", "x", "--out", out)


def test_a_pack_is_made_checked_and_shown(tmp_path, photo):
    pack, out = tmp_path / "pack", tmp_path / "sheet.png"
    smoke = ("--recipe", "smoke", "--set", 'train_options={"count": 3, "size": [64, 96]}')
    status, output, _ = run("data", "pack", "people", *smoke, "--out", pack, "--json")
    assert status == 0 and json.loads(output)["persons"] == 3
    figures = json.loads(run("data", "check-pack", pack, "--count", "3", "--json")[1])
    assert figures["persons"] == figures["compared"] == 3 and 0 < figures["difference_mean"] < 5
    assert all(figures[f"{kind}_images_per_s_{n}"] > 0 for kind in ("direct", "packed") for n in (1, 2))
    assert "other data or settings" in mistake("data", "pack", "people", *smoke, "--compact", "--out", pack)
    assert "was made from" in mistake("data", "show", "people", *smoke, "--pack", pack, "--split", "val", "--out", out)
    assert "no recipe trains on photos" in mistake("data", "pack", "photos", "--split", "all", "--out", tmp_path / "other")
    assert "pack.json" in mistake("data", "check-pack", tmp_path / "nothing")
    assert "has no split" in mistake("data", "pack", "people", *smoke, "--split", "x", "--out", tmp_path / "other")
    assert not out.exists() and not (tmp_path / "other").exists()


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Fresh weights of the plain network, in the form `mdw train` writes."""
    from mdw.models import create_model
    from mdw.models.weights import about, save_weights
    from mdw.training import recipes, runs

    options = {"cdc": False, "gcm_s": False, "gcm_c": False}
    spec = runs.make_spec("mdw_hrnet_18", recipes.get("smoke"), 0, options)
    path = tmp_path_factory.mktemp("weights") / "weights.safetensors"
    save_weights(path, create_model("mdw_hrnet_18", **options), about(spec, "coco17"))
    return path
