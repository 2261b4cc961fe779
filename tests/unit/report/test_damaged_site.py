"""Damaged records of runs, of the bench and of pages: each is named on the index and left out, everything else is written."""

import json
import os
import random
import shutil
from pathlib import Path

import pytest
from junk import JUNK
from report_helpers import NOTEBOOKS, write_run, write_study

from mdw.experiments import studies
from mdw.experiments.studies import STUDIES
from mdw.report import runs as frames
from mdw.report import speed
from mdw.report.site import excerpt, notebook, publish
from mdw.report.site.index import build_index
from mdw.util.errors import MdwError
from mdw.util.files import read_json, write_json

BENCH = {"model": "mdw_hrnet_18", "options": {}, "mode": "tuned", "size": "128x96", "batch": 1, "device": "cpu"}
BENCH |= {"bounds": {}, "latency_ms": 3.0, "environment": {"hardware": "one core", "started": "2026-01-01", "commit": None}}
EVALUATION = {
    "data": "lspet",
    "split": "val",
    "environment": {"started": "2026"},
    "measured": {"ground_truth_boxes": {"pck": 1.0}},
}
PAGE = {
    "notebook": "x",
    "title": "A page",
    "status": "finished",
    "parameters": {"seeds": [0]},
    "given": ["seeds"],
    "preset": None,
}
PAGE |= {"started": "2026-01-01T00:00:00+00:00", "seconds": 1.0, "sha256": "0", "python": "3.11", "versions": {}, "error": None}
EXCERPT = {"sections": [{"id": "", "heading": "A page", "text": "zebra"}], "figure": None}


def edit(name, change):
    """A change of a JSON file: a dict that is laid over it, or what makes a new value of it."""

    def damage(folder):
        value = read_json(folder / name)
        write_json(folder / name, value | change if isinstance(change, dict) else change(value))

    return damage


def content(name, data):
    return lambda folder: (folder / name).write_bytes(data if isinstance(data, bytes) else data.encode())


def recipe(**changes):
    return edit("recipe.json", lambda spec: spec | {"recipe": spec["recipe"] | changes})


def without(name, field):
    return edit(name, lambda value: {key: item for key, item in value.items() if key != field})


RUNS = {  # what may have happened to a run's folder -> how
    "half a result": content("result.json", '{"pck": 0.2'),
    "an empty result": content("result.json", ""),
    "zeros": content("result.json", bytes(100)),
    "a list": content("result.json", "[]"),
    "NaN": content("result.json", '{"pck": NaN}'),
    "infinite": content("result.json", '{"pck": 1e999}'),
    "a percentage above 100": edit("result.json", {"pck": 1e6}),
    "text for a figure": edit("result.json", {"pck": "20"}),
    "true for a figure": edit("result.json", {"pck": True}),
    "without the figure": without("result.json", "pck"),
    "boxes nobody knows": edit("result.json", {"boxes": "guessed"}),
    "UTF-16": lambda folder: content("recipe.json", (folder / "recipe.json").read_text().encode("utf-16"))(folder),
    "Latin-1": content("env.json", '{"hardware": "Prozessor für alle"}'.encode("latin-1")),
    "foreign": content("recipe.json", '{"steps": []}'),
    "a list of recipes": content("recipe.json", "[{}]"),
    "an array as recipe": edit("recipe.json", {"recipe": []}),
    "without its recipe's data": edit("recipe.json", lambda s: s | {"recipe": {"name": "x"}}),
    "a metric nobody knows": recipe(metric="accuracy"),
    "a size of one number": recipe(input_size=[64]),
    "negative epochs": recipe(epochs=-3),
    "null for the rate": recipe(lr=None),
    "a text as options": edit("recipe.json", {"options": "none"}),
    "hardware that is a number": edit("env.json", {"hardware": 3}),
    "data that are a list": edit("env.json", {"data": [1]}),
    "nested": content("env.json", "[" * 100_000),
    "a folder": lambda folder: ((folder / "env.json").unlink(), (folder / "env.json").mkdir()),
    "a link to nothing": lambda folder: ((folder / "result.json").unlink(), (folder / "result.json").symlink_to("annexed")),
    "a pipe": lambda folder: ((folder / "metrics.jsonl").unlink(), os.mkfifo(folder / "metrics.jsonl")),
    "half an epoch": content("metrics.jsonl", '{"epoch": 1}\n{"epo'),
    "an epoch of text": content("metrics.jsonl", '{"epoch": "1"}\n'),
    "NaN seconds": content("metrics.jsonl", '{"epoch": 1, "seconds": NaN}\n'),
}
BESIDE = {  # what lies beside a run's result and is left out alone -> its name, its content
    "half persons": ("persons.csv", "image,person,joints,right\n1,1"),
    "persons of another run": ("persons.csv", "image,person,joints,right\n1,1,14,3\n"),
    "a foreign table": ("persons.csv", "a,b\n1,2\n"),
    "half an evaluation": ("evaluations/a.json", '{"data": '),
    "an evaluation that is a list": ("evaluations/a.json", "[]"),
    "an evaluation without a date": ("evaluations/a.json", json.dumps(EVALUATION | {"environment": {}})),
    "an evaluation of text": ("evaluations/a.json", json.dumps(EVALUATION | {"measured": {"ground_truth_boxes": 3}})),
    "scores that are none": ("evaluations/test-dev-scores.txt", "AP is fine"),
}
PAGES = {  # what may have happened to a page's folder -> how
    "half": content("run.json", '{"notebook": '),
    "a list": content("run.json", "[]"),
    "NaN": edit("run.json", {}),
    "UTF-16": content("run.json", json.dumps(PAGE).encode("utf-16")),
    "foreign": content("run.json", '{"steps": 3}'),
    "no status": without("run.json", "status"),
    "a status nobody knows": edit("run.json", {"status": "splendid"}),
    "running without a process": edit("run.json", {"status": "running"}),
    "text for seconds": edit("run.json", {"seconds": "long"}),
    "parameters that are a list": edit("run.json", {"parameters": [1]}),
    "given what it lacks": edit("run.json", {"given": ["rate"]}),
    "the name of a file elsewhere": edit("run.json", {"notebook": "../../x"}),
    "sources that are none": edit("run.json", {"sources": {"runs": 3}}),
    "files that are a number": edit("run.json", {"files": 3}),
    "a link to nothing": lambda folder: ((folder / "run.json").unlink(), (folder / "run.json").symlink_to("annexed")),
    "a folder": lambda folder: ((folder / "run.json").unlink(), (folder / "run.json").mkdir()),
    "half an excerpt": content("excerpt.json", '{"sections": ['),
    "an excerpt of numbers": content("excerpt.json", '{"sections": [3], "figure": null}'),
    "a figure without a drawing": content("excerpt.json", '{"sections": [], "figure": {"name": "x"}}'),
    "a page in Latin-1": content("index.html", "für".encode("latin-1")),
}
PAGES["NaN"] = lambda folder: content("run.json", json.dumps(PAGE | {"seconds": float("nan")}))(folder)


def page_in(folder: Path, record=PAGE) -> Path:
    write_json(folder / "run.json", record)
    write_json(folder / "excerpt.json", EXCERPT)
    (folder / "index.html").write_text("<!--menu--><!--/menu--><!--turn--><!--/turn-->")
    return folder


def sentences(index: str) -> list[str]:
    """What the index says of damaged records."""
    from html import unescape

    part = index.partition('<h2 id="damaged">')[2].partition("</section>")[0]
    return [unescape(line.partition(">")[2].partition("</li>")[0]) for line in part.splitlines() if "<li" in line]


@pytest.fixture
def whole(tmp_path):
    """Two seeds of a study, whole, and a page; -> the folder above `runs` and `reports`."""
    write_study(tmp_path / "runs", "table5", studies.ON_PEOPLE, {"Simple": (10.0, 10.2)})
    page_in(tmp_path / "reports/01_whole", PAGE | {"title": "The whole page"})
    return tmp_path


def test_every_damaged_run_is_named_and_left_out(whole):
    runs, row = whole / "runs", STUDIES["table5"][0]
    for name, damage in RUNS.items():
        made = write_run(runs, row, 7, 33.25, studies.ON_PEOPLE)
        damage(made.rename(runs / name))
    later = write_run(runs, row, 8, 44.5, studies.ON_PEOPLE, weather="fine")
    edit("result.json", {"PCK3D": [1]})(later)
    content("env.json", b"\xef\xbb\xbf" + (later / "env.json").read_bytes())(later)  # a byte order mark
    (runs / "notes").mkdir()
    (runs / "notes/readme.txt").write_text("no run")
    index = build_index(whole / "reports", runs).read_text(encoding="utf-8")
    told = sentences(index)
    assert len(told) == len(RUNS) > 24
    for name in RUNS:
        assert sum(f"{runs / name}/" in sentence for sentence in told) == 1, name
    assert ">33.2<" not in index and ">33.3<" not in index and ">44.5<" in index and "The whole page" in index
    assert not any(word in index for word in ("Traceback", "Error:"))
    frame = frames.study("table5", studies.ON_PEOPLE, (0, 1), runs)
    assert frame["value"].notna().sum() == 2


@pytest.mark.parametrize("name", RUNS)
def test_a_planned_run_that_is_damaged_counts_as_not_run(whole, name):
    planned = frames.study("table5", studies.ON_PEOPLE, (0, 1), whole / "runs")
    RUNS[name](Path(planned.loc[1, "path"]))
    found = frames.study("table5", studies.ON_PEOPLE, (0, 1), whole / "runs")
    assert list(found["value"].notna()) == [True] + [False] * (len(found) - 1) and found.loc[1, "status"] == "damaged"
    assert len(frames.curves(found.iloc[:1])) == 2


@pytest.mark.parametrize("name", BESIDE)
def test_what_lies_beside_a_result_is_left_out_alone(whole, name):
    from mdw.report.claims.measurements import measurements

    path = Path(frames.study("table5", studies.ON_PEOPLE, (0,), whole / "runs").loc[0, "path"])
    file, text = BESIDE[name]
    write_json(path / "evaluations/whole.json", EVALUATION)
    (path / file).write_text(text)
    index = build_index(whole / "reports", whole / "runs").read_text(encoding="utf-8")
    (sentence,) = sentences(index)
    assert str(path / file) in sentence and index.count('/result.json"') == 2
    (found,) = measurements(frames.run(path))
    assert found.metrics == {"pck": 1.0} and (frames.read_persons(path) is None) == (file == "persons.csv")


def test_damaged_records_of_the_bench(whole):
    bench = whole / "runs/bench"
    rows = {"whole": [BENCH], "later": [BENCH | {"mode": "quantum", "joules": 3}], "half": None, "dict": {}, "numbers": [1]}
    rows |= {"no model": [{"size": "x"}], "text": [BENCH | {"latency_ms": "3"}], "bare": [BENCH | {"environment": {}}]}
    for name, value in rows.items():
        write_json(bench / f"{name}.json", value)
    (bench / "half.json").write_text('[{"model": ')
    told = sentences(build_index(whole / "reports", whole / "runs").read_text(encoding="utf-8"))
    assert len(told) == 6 and all(f"{name}.json" in "".join(told) for name in rows.keys() - {"whole", "later"})
    assert list(speed.records(whole / "runs")["mode"]) == ["quantum", "tuned"]


def test_every_damaged_page_is_named_and_left_out(whole):
    out = whole / "reports"
    for name, damage in PAGES.items():
        damage(page_in(out / name, PAGE | {"title": f"Title of {name}"}))
    later = page_in(out / "99_later", PAGE | {"title": "The later page", "mood": {"a": 1}})
    (later / "13_claims").mkdir()
    index = build_index(out, whole / "runs").read_text(encoding="utf-8")
    told = sentences(index)
    assert len(told) == len(PAGES), told
    for name in PAGES:
        assert sum(f"{out / name}/" in sentence for sentence in told) == 1, name
        assert name == "a page in Latin-1" or f"Title of {name}" not in index
    assert "The whole page" in index and "The later page" in index and "zebra" in index
    assert "01_whole" in (later / "index.html").read_text()  # the list of reports was put into it


@pytest.mark.parametrize("text", ["", "id,part\n1,2,3,4\n", "\0\0", '"', "a,b\n1,2\n", "\ufeffpart,claim\nclaim,x\n"])
def test_damaged_tables_of_the_claims_do_not_stop_the_index(whole, text):
    page_in(whole / "reports/13_claims")
    (whole / "reports/13_claims/claims.csv").write_text(text)
    assert "The whole page" in build_index(whole / "reports", whole / "runs").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", [name for name, damage in PAGES.items() if "excerpt" not in name and "figure" not in name])
def test_a_page_whose_record_is_damaged_is_made_again(tmp_path, name):
    """It neither stops the planning nor the others, and what it was given is forgotten."""
    shutil.copytree(NOTEBOOKS, tmp_path / "notebooks")
    PAGES[name](page_in(tmp_path / "out/81_fails"))
    jobs = publish.check_parameters(["81"], None, notebooks=tmp_path / "notebooks", out=tmp_path / "out")
    (reasons,) = publish.stale(jobs, tmp_path / "out").values()
    assert reasons and (name == "a page in Latin-1" or "run.json is damaged" in reasons[0])


def test_any_change_of_a_pages_record_is_a_sentence_or_a_page(tmp_path):
    """600 random changes, of bytes and of values, with a fixed seed."""
    rng, folder, named = random.Random(0), page_in(tmp_path / "out/01_page", PAGE | {"sources": None}), 0
    files = {name: (folder / name).read_bytes() for name in ("run.json", "excerpt.json")}
    for _ in range(600):
        name = rng.choice(sorted(files))
        data = bytearray(files[name])
        if rng.random() < 0.5:
            for _ in range(rng.choice((1, 3))):
                data[rng.randrange(len(data))] = rng.randrange(256)
            data = data[: rng.choice((len(data), rng.randrange(len(data))))]
        else:
            value = json.loads(data)
            value[rng.choice(sorted(value))] = rng.choice(JUNK)
            data = json.dumps(value).encode()
        (folder / name).write_bytes(data)
        try:
            record = notebook.read_record(folder)
            excerpt.read(folder / "excerpt.json")
        except MdwError as error:
            assert str(folder / name) in str(error) and "\n" not in str(error) and len(str(error)) < 600, str(error)
            named += 1
        else:
            assert record["status"] in notebook.ENDINGS
        if rng.random() < 0.01:
            build_index(tmp_path / "out", tmp_path / "runs")
        (folder / name).write_bytes(files[name])
    assert 200 < named < 600


def test_a_page_says_what_the_data_of_its_runs_were(tmp_path):
    from mdw.report import tables

    told = {
        "train": {"persons": 8000, "images": 7999, "ids": "a1", "annotations": None, "files": "b2"},
        "val": {"persons": 500},
    }
    for seed, data in enumerate((told, None)):
        path = write_run(tmp_path, STUDIES["table5"][0], seed, 20.0, studies.ON_PEOPLE)
        write_json(path / "env.json", {"data": data} if data else {})
    frame = frames.study("table5", studies.ON_PEOPLE, (0, 1), tmp_path)
    shown = dict(tables.provenance(frame).spec["facts"])["Data as read"]
    assert shown == ["train: 8,000 persons, 7,999 images, ids a1, files b2", "val: 500 persons"]
    assert "Data as read" not in dict(tables.provenance(frame.iloc[1:2]).spec["facts"])
