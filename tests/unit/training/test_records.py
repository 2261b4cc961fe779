"""A run's records: damaged ones are named, everything else goes on; what the data and the machine were is recorded."""

import json
import os
import random
import subprocess

import kills
import pytest
from command import mistake, run
from hands import TOML, hands
from junk import JUNK

from mdw.cli.runs import runs as list_runs
from mdw.models import create_model
from mdw.training import loop, recipes, runs
from mdw.training.batches import check_sizes
from mdw.util.errors import MdwError

LINE = {"epoch": 1, "loss": 0.1, "lr": 0.01, "samples": 8, "seconds": 2.0, "images_per_s": 4.0, "AP": 0.25}
ENV = {"started": "2026-01-01", "commit": None, "device": "cpu", "hardware": "one core", "threads": 1, "processes": 1}
RESULT = {"metric": "AP", "AP": 0.25, "epochs": 2, "samples": 16, "train_seconds": 4.0, "blur": None}
SPEC = kills.spec()


def record(path, env=ENV, result=RESULT, lines=(LINE, LINE | {"epoch": 2})):
    path.mkdir(parents=True)
    for name, value in (("recipe", SPEC), ("env", env), ("result", result)):
        (path / f"{name}.json").write_text(json.dumps(value))
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


DAMAGED = {
    "half": lambda path: (path / "result.json").write_text('{"AP": 0.2'),
    "a list": lambda path: (path / "env.json").write_text("[]"),
    "NaN": lambda path: (path / "metrics.jsonl").write_text('{"epoch": 1, "seconds": NaN}\n'),
    "UTF-16": lambda path: (path / "recipe.json").write_bytes(json.dumps(SPEC).encode("utf-16")),
    "without its metric": lambda path: (path / "result.json").write_text('{"PCK": 3}'),
    "a link to nothing": lambda path: ((path / "result.json").unlink(), (path / "result.json").symlink_to("annexed")),
    "a folder": lambda path: ((path / "env.json").unlink(), (path / "env.json").mkdir()),
    "foreign": lambda path: (path / "recipe.json").write_text('{"steps": []}'),
    "nested": lambda path: (path / "result.json").write_text("[" * 100_000),
    "a number without end": lambda path: (path / "metrics.jsonl").write_text('{"epoch": ' + "9" * 5000 + "}"),
    "text for a number": lambda path: (path / "metrics.jsonl").write_text('{"epoch": 1, "seconds": "2"}'),
    "metric": lambda path: (path / "recipe.json").write_text(
        json.dumps(SPEC | {"recipe": SPEC["recipe"] | {"metric": ["AP"]}})
    ),
}


def test_damaged_records_are_named_and_left_out(tmp_path):
    """A folder with later fields, a byte order mark and a link to a run elsewhere are none."""
    for name, damage in DAMAGED.items():
        damage(record(tmp_path / "runs" / name))
    later = record(tmp_path / "runs/later", ENV | {"weather": "fine"}, RESULT | {"PCK3D": [1]}, [LINE | {"mood": None}])
    (later / "env.json").write_bytes(b"\xef\xbb\xbf" + (later / "env.json").read_bytes())
    record(tmp_path / "elsewhere")
    (tmp_path / "runs/link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "runs/bench").mkdir()
    status, output, _ = run("runs", "--runs", tmp_path / "runs", "--json")
    rows = {row["run"]: row for row in json.loads(output)}
    assert status == 0 and rows.keys() == DAMAGED.keys() | {"later", "link"}
    problems = {one.path.name: one.problem for one in runs.find(tmp_path / "runs")}
    for name in ("later", "link"):
        assert rows[name]["status"] == "finished" and rows[name]["best"] == 0.25 and problems[name] is None
    for name in DAMAGED:
        assert problems[name] and str(tmp_path / "runs" / name) in problems[name] and "\n" not in problems[name], name
        assert rows[name]["status"] in ("finished", f"damaged: {problems[name]}")
    assert all(name in run("runs", "--runs", tmp_path / "runs")[1] for name in rows)


def test_any_change_of_a_record_is_a_sentence_or_a_run(tmp_path):
    """1,000 random changes, of bytes and of values, with a fixed seed."""
    rng, path = random.Random(0), record(tmp_path / "run")
    files = {file.name: file.read_bytes() for file in path.iterdir()}
    named = 0
    for _ in range(1000):
        name = rng.choice(sorted(files))
        content = bytearray(files[name])
        if rng.random() < 0.5:
            for _ in range(rng.choice((1, 3))):
                content[rng.randrange(len(content))] = rng.randrange(256)
            content = content[: rng.choice((len(content), rng.randrange(len(content))))]
        else:
            value = json.loads(content.splitlines()[0])
            place = value["recipe"] if "recipe" in value and rng.random() < 0.7 else value
            place[rng.choice(sorted(place))] = rng.choice(JUNK)
            content = json.dumps(value).encode()
        (path / name).write_bytes(content)
        one = runs.Run(path)
        row, problem = runs.summary(one), one.problem
        json.dumps(row, allow_nan=False)
        assert problem is None or ("\n" not in problem and len(problem) < 600 and path.name in problem), problem
        named += problem is not None
        (path / name).write_bytes(files[name])
    assert 200 < named < 1000
    list_runs(tmp_path)


@pytest.fixture
def custom(tmp_path):
    """A folder with 8 hands to train on, another with 12, and the command that trains on the first."""
    for name, count in (("eight", 8), ("twelve", 12)):
        (tmp_path / name).mkdir()
        hands(tmp_path / name, "train", count, 0)
        hands(tmp_path / name, "val", 4, 1)
    (tmp_path / "hand.toml").write_text(TOML)
    plain = [f"-o{name}=false" for name in kills.PLAIN]
    settings = ["epochs=1", "batch_size=4", "input_size=[64,64]", "flip_test=false"]
    sets = [word for setting in settings for word in ("--set", setting)]
    files = ("--joints", tmp_path / "hand.toml", "--runs", tmp_path / "runs", "--device", "cpu")
    return ("train", "mdw_hrnet_18", "--recipe", "custom", *files, *plain, *sets)


def test_a_run_does_not_answer_for_other_data(custom, tmp_path, monkeypatch):
    """Not when it goes on, nor when it is finished; one without a record says so; --look shows it whatever lies there."""
    eight, twelve = tmp_path / "eight", tmp_path / "twelve"
    with monkeypatch.context() as patch:
        patch.setattr(loop, "backward", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run(*custom, "--root", eight)
    assert "no folder" in mistake(*custom, "--root", tmp_path / "none")
    with monkeypatch.context() as patch:  # stopped after its first step
        patch.setattr(loop, "Watch", stopping(loop.Watch))
        assert "saved in epoch 1, step 1 of 2" in mistake(*custom, "--root", eight)
    for root, why in ((twelve, "its train split had 8 persons, not 12"), (tmp_path / "none", "no folder")):
        assert why in mistake(*custom, "--root", root)
    assert json.loads(run(*custom, "--root", twelve, "--look", "--json")[1])["status"] == "interrupted"
    assert run(*custom, "--root", eight)[0] == 0
    (finished,) = runs.find(tmp_path / "runs")
    assert finished.env["data"]["train"]["persons"] == 8 and finished.env["data"]["val"]["images"] == 4
    assert run(*custom, "--root", eight)[0] == run(*custom)[0] == 0
    assert "other data" in mistake(*custom, "--root", twelve) and "no folder" in mistake(*custom, "--root", tmp_path / "none")
    assert run(*custom, "--root", twelve, "--look")[0] == 0
    file = eight / "annotations/train.json"
    original = file.read_text()
    moved = json.loads(original)
    moved["annotations"][0]["keypoints"][0] += 1
    file.write_text(json.dumps(moved))
    assert "its train split had other annotations" in mistake(*custom, "--root", eight)
    file.write_text(json.dumps(json.loads(original), indent=3))  # the same annotations in another file
    assert run(*custom, "--root", eight)[0] == 0
    env = json.loads((finished.path / "env.json").read_text())
    del env["data"]
    (finished.path / "env.json").write_text(json.dumps(env))
    assert "was not recorded" in run(*custom, "--root", twelve)[1]


def stopping(watch):
    """A Watch that asks for a stop after the first step."""

    class Stopping(watch):
        def read(self, loss, last):
            self.stop_reasons.append("SIGTERM")
            return super().read(loss, last)

    return Stopping


def test_a_batch_of_one_is_refused_where_the_network_cannot_train_on_it(custom, tmp_path):
    """Five of the hands in batches of four; also one person to a part. Other networks take it."""
    hands(tmp_path / "eight", "train", 5, 0)
    dite = ("train", "dite_hrnet_18", *[word for word in custom[2:] if "=false" not in str(word) or "flip" in str(word)])
    dite = ["--set=flip_test=false" if word == "flip_test=false" else word for word in dite if word != "--set"]
    dite = [f"--set={word}" if "=" in str(word) and not str(word).startswith("--") else word for word in dite]
    sentence = mistake(*dite, "--set", "drop_last=false", "--root", tmp_path / "eight")
    assert "dite_hrnet_18" in sentence and "batch_size=4" in sentence and "drop_last" in sentence
    assert not (tmp_path / "runs").exists()
    model, small = create_model("dite_hrnet_18", 5), recipes.get("smoke", batch_size=2, accumulate=2)
    with pytest.raises(MdwError, match="batch_size=2 a step has 2 in 2 parts"):
        check_sizes([2, 2], small, 1, model, "dite_hrnet_18")
    check_sizes([4, 4], small, 1, model, "dite_hrnet_18")
    for name in ("mdw_hrnet_18", "lite_hrnet_18"):
        check_sizes([1], recipes.get("smoke", batch_size=1), 1, create_model(name), name)


@pytest.mark.parametrize(("value", "threads"), [("2,1", 2), ("", None), ("auto", None), ("3", 3), ("-1", None)])
def test_any_value_of_omp_num_threads_is_read(value, threads, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    monkeypatch.delitem(runs.sys.modules, "torch")
    assert runs.threads() == (threads or os.cpu_count())


def test_the_commit_is_this_trees_whatever_git_is_told(monkeypatch, tmp_path):
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    expected = runs.commit()
    monkeypatch.setenv("GIT_DIR", str(tmp_path / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(tmp_path))
    assert runs.commit() == expected
