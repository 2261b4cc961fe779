"""What was right person by person: the record adds up to the run's value, and an old run gets it from its predictions."""

import json
from pathlib import Path

import numpy as np
import pytest
from places import RUNS
from report_helpers import write_run

from mdw import data
from mdw.experiments.studies import STUDIES
from mdw.pose.joints import MPII16
from mdw.pose.metrics import pckh, pckh_hits
from mdw.pose.oks import oks_with_truth
from mdw.training import persons, recipes
from mdw.training.runs import Run, find
from mdw.util.errors import MdwError
from mdw.util.files import write_json

ROW = STUDIES["table5"][0]


@pytest.fixture(scope="module")
def people():
    """24 synthetic persons as the recipe `demo` validates on, and guesses a few pixels off."""
    dataset = data.load("people", "val", aspect=2 / 3, count=24, size=(64, 96))
    truth = np.stack([s.joints for s in dataset.samples])
    return dataset, truth + np.random.default_rng(0).normal(0, 4, truth.shape)


def run_of(folder: Path, people, recipe: str = "demo", **changes) -> Run:
    """A run by hand that was validated on `people`, without persons.csv."""
    from mdw.inference.evaluate import score

    dataset, xy = people
    run = Run(write_run(folder, ROW, 0, 0.0, recipe, **changes))
    measured = score(dataset, xy, np.ones(xy.shape[:2]))
    write_json(run.path / "result.json", measured)
    return Run(run.path)


def test_right_joints_add_up_to_the_value_to_the_last_digit(people, tmp_path):
    dataset, xy = people
    run = run_of(tmp_path, people)
    found = persons.measure(dataset, xy, "pck")
    persons.write(run.path, found)
    kept = persons.read(run)
    assert 100.0 * kept["right"].sum() / kept["joints"].sum() == run.result["pck"]
    assert kept["joints"].sum() == run.result["joints_used"] and 0 < len(kept["joints"]) <= len(dataset)
    assert all((kept[name] == found[name]).all() for name in found) and (kept["right"] <= kept["joints"]).all()
    text = (run.path / persons.NAME).read_text()
    (run.path / persons.NAME).write_text(text[: text.rindex(",")] + ",99\n")
    with pytest.raises(MdwError, match="does not add up"):
        persons.read(run)
    (run.path / persons.NAME).write_text(text.replace("joints", "points", 1))
    with pytest.raises(MdwError, match="is damaged.*columns"):
        persons.read(run)
    (run.path / persons.NAME).unlink()
    assert persons.read(run) is None


def test_committed_records_add_up():
    """`read` refuses those that do not."""
    found = [run for run in find(RUNS) if (run.path / persons.NAME).exists()]
    assert found
    for run in found:
        assert len(persons.read(run)["person"]) <= run.result["val_persons"]


def test_pckh_leaves_out_pelvis_and_thorax():
    rng = np.random.default_rng(0)
    truth, missing = rng.uniform(0, 200, (30, 16, 2)), rng.random((30, 16)) < 0.2
    heads = np.stack([np.zeros((30, 2)), rng.uniform(20, 60, (30, 2))], axis=1)
    guess = truth + rng.normal(0, 12, truth.shape)
    right, counted = pckh_hits(guess, truth, heads, missing)
    assert 100.0 * right.sum() / counted.sum() == pckh(guess, truth, heads, missing)["mean"]
    assert not counted[:, [MPII16.index("pelvis"), MPII16.index("thorax")]].any() and not (right & ~counted).any()


def test_oks_is_the_one_of_pycocotools(people):
    from pycocotools.cocoeval import COCOeval

    dataset, xy = people
    found = persons.measure(dataset, xy, "AP")
    official = COCOeval.__new__(COCOeval)
    from pycocotools.cocoeval import Params

    official.params = Params("keypoints")
    official.params.useCats = 1
    annotations = {entry["id"]: entry for entry in dataset.ground_truth["annotations"]}
    for sample, guess in zip(dataset.samples, xy, strict=True):
        truth = annotations[sample.person_id]
        pose = np.concatenate([guess, np.ones((17, 1))], axis=1).ravel().tolist()
        official._gts, official._dts = {(1, 1): [truth]}, {(1, 1): [{"keypoints": pose, "score": 1.0}]}
        (expected,) = official.computeOks(1, 1).ravel()
        (mine,) = found["oks"][found["person"] == sample.person_id]
        assert mine == pytest.approx(expected, abs=1e-6)
    assert np.isnan(oks_with_truth(xy[:1], xy[:1], np.zeros((1, 17)), [10.0])).all()


def test_boxes_that_belong_to_nobody_leave_no_file(people, tmp_path):
    from dataclasses import replace

    dataset, xy = people
    nobody = replace(dataset, samples=[replace(s, visible=np.zeros(17)) for s in dataset.samples])
    persons.write(tmp_path, persons.measure(nobody, xy, "AP"))
    assert not (tmp_path / persons.NAME).exists()


def test_an_old_run_gets_its_record_from_its_predictions(people, tmp_path, monkeypatch):
    dataset, xy = people
    xy = np.round(xy, 2)
    run = run_of(tmp_path, (dataset, xy))
    monkeypatch.setattr(persons.data, "load", lambda *_, **__: dataset)
    with pytest.raises(MdwError, match="neither predictions nor weights"):
        persons.add(run)
    kept = {"person_id": [s.person_id for s in dataset.samples], "xy": xy.tolist()}
    write_json(run.path / "predictions.json", kept)
    assert persons.add(run) == run.path / persons.NAME
    assert persons.read(run)["right"].sum() == persons.measure(dataset, xy, "pck")["right"].sum()
    (run.path / persons.NAME).unlink()
    write_json(run.path / "predictions.json", kept | {"xy": (xy + 9).tolist()})
    with pytest.raises(MdwError, match="neither predictions nor weights"):
        persons.add(run)
    write_json(run.path / "predictions.json", kept | {"person_id": [1]})
    with pytest.raises(MdwError, match="other persons"):
        persons.add(run)
    write_json(run.path / "predictions.json", {"xy": []})
    with pytest.raises(MdwError, match=r"predictions.json lacks the field 'person_id'"):
        persons.add(run)
    (run.path / "result.json").unlink()
    with pytest.raises(MdwError, match="not a finished run"):
        persons.add(Run(run.path))


def test_training_leaves_the_record_and_the_command_makes_the_same(tmp_path):
    from typer.testing import CliRunner

    from mdw.cli import app
    from mdw.training.runs import make_spec
    from mdw.training.train import train

    recipe = recipes.get("smoke", metric="pck")
    run = train(make_spec("mobilenetv2", recipe), runs_root=tmp_path, quiet=True)
    found = persons.read(run)
    assert 100.0 * found["right"].sum() / found["joints"].sum() == json.loads((run.path / "result.json").read_text())["pck"]
    text = (run.path / persons.NAME).read_text()
    (run.path / persons.NAME).unlink()
    (run.path / "predictions.json").unlink()  # from the weights, then
    result = CliRunner().invoke(app, ["persons", str(run.path)])
    assert result.exit_code == 0 and (run.path / persons.NAME).read_text() == text
