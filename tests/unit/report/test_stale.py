"""Does a report know what it was made from, and is it made again when that has changed and only then?"""

import json
import os
import shutil
import time
from pathlib import Path

import pytest
from report_helpers import KERNEL, table5_runs, write_run
from typer.testing import CliRunner

from mdw.cli import app
from mdw.experiments import studies
from mdw.experiments.studies import ASKED, STUDIES
from mdw.report import runs as asked
from mdw.report import speed
from mdw.report.site import kernel, publish, sources
from mdw.training.runs import SYNTHETIC
from mdw.util.errors import MdwError
from mdw.util.files import read_json, write_json, write_text

TABLE5 = "06_table5_modules"


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """Two reports published once: Table 5 from six runs of eight, and one that reads nothing."""
    root = tmp_path_factory.mktemp("made")
    table5_runs(root / "runs")
    (root / "notebooks").mkdir()
    for path in (publish.find([TABLE5])[0], KERNEL):
        shutil.copy(path, root / "notebooks")
    records = publish.publish(
        preset="smoke",
        parameters={"seeds": [0, 1]},
        runs_root=root / "runs",
        out=root / "reports",
        notebooks=root / "notebooks",
    )
    assert [record["status"] for record in records] == ["finished", "finished"]
    return root


@pytest.fixture
def site(made, tmp_path) -> Path:
    """A copy that a test may change. Its pages were made from the folder of runs that it holds."""
    shutil.copytree(made, tmp_path / "site")
    for path in (tmp_path / "site" / "reports").glob("*/run.json"):
        write_text(path, path.read_text().replace(str(made), str(tmp_path / "site")))
    return tmp_path / "site"


def reasons(site: Path, preset: str | None = None, **parameters) -> dict[str, str]:
    jobs = publish.check_parameters([], preset, parameters, preset and site / "runs", site / "notebooks", site / "reports")
    return {name: "; ".join(why) for name, why in publish.stale(jobs, site / "reports").items() if why}


def test_a_page_is_fresh_while_nothing_changes(site):
    assert reasons(site) == {}
    made = read_json(site / "reports" / TABLE5 / "run.json")["sources"]
    asked = [found for name, found in made["runs"].items() if name.endswith("result.json") and "-lspet_small-" in name]
    rows = [row for study in ASKED for row in STUDIES[study]]  # one noise for all of them
    questions = {str((row.model, row.options, studies.recipe(row, studies.ON_PEOPLE))) for row in rows}
    assert len(asked) == 2 * len(questions) and len([one for one in asked if one]) == 6  # those missing are asked for
    assert {"report/tables.py", "report/published.csv", "experiments/studies.py", "models/__init__.py"} <= made["code"].keys()
    assert "report/claims/claims.csv" in made["code"], "tables beside the code that reads them"
    assert "backends/cpu/ops.py" not in made["code"] and "report/site/index.py" not in made["code"]


def test_a_changed_a_new_and_a_lost_run_are_named(site):
    row = STUDIES["table5"][0]
    path = write_run(site / "runs", row, 0, 9.0, studies.ON_PEOPLE)
    assert reasons(site) == {TABLE5: f"{path.name} is changed"}
    missing = next(row for row in STUDIES["table5"] if row.label == "+ GCM")
    new = write_run(site / "runs", missing, 1, 20.0, studies.ON_PEOPLE)
    assert reasons(site)[TABLE5] == f"{new.name} is finished; {path.name} is changed"
    shutil.rmtree(path)
    assert reasons(site)[TABLE5] == f"{new.name} is finished; {path.name} is gone"


def test_runs_that_a_report_does_not_ask_for_leave_it_fresh(site):
    row = STUDIES["table5"][0]
    write_run(site / "runs", row, 7, 9.0, studies.ON_PEOPLE)
    write_run(site / "runs", row, 0, 40.0, recipe="lspet_hour")
    path = next((site / "runs").glob("*-lspet_small-s0-*"))
    write_text(path / "weights.safetensors", "no record")
    (path / ".lock").touch()
    assert reasons(site) == {}


def test_notebook_parameters_and_code(site, monkeypatch):
    assert reasons(site, "smoke", seeds=[0, 1]) == {}
    assert reasons(site, seeds=[0]) == {TABLE5: "seeds is [0], was [0, 1]"}
    assert reasons(site, "demo") == {TABLE5: "preset is 'demo', was 'smoke'; seeds is [0, 1, 2, 3, 4, 5, 6, 7], was [0, 1]"}
    shutil.copytree(sources.PACKAGE / "report", site / "mdw" / "report")
    for name in read_json(site / "reports" / TABLE5 / "run.json")["sources"]["code"]:
        (site / "mdw" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(sources.PACKAGE / name, site / "mdw" / name)
    monkeypatch.setattr(sources, "PACKAGE", site / "mdw")
    assert TABLE5 not in reasons(site)
    for name in (
        "report/pages/gates.py",
        "report/site/index.py",
        "report/site/templates/search.js",
    ):  # other reports', and the index's
        write_text(site / "mdw" / name, "changed")
    assert TABLE5 not in reasons(site)
    write_text(site / "mdw" / "report" / "published.csv", "changed")
    assert reasons(site)[TABLE5] == "mdw/report/published.csv changed"
    notebook = site / "notebooks" / f"{TABLE5}.ipynb"
    write_text(notebook, notebook.read_text() + "\n")
    assert reasons(site)[TABLE5] == "its notebook has changed; mdw/report/published.csv changed"


def test_a_page_that_failed_or_is_missing_is_stale(site):
    path = site / "reports" / TABLE5 / "run.json"
    write_json(path, read_json(path) | {"status": "failed", "error": "x"})
    (site / "reports" / KERNEL.stem / "index.html").unlink()
    assert reasons(site) == {TABLE5: "it is not complete (failed)", KERNEL.stem: "there was no page"}


def test_looking_through_the_folder_is_a_question_too(tmp_path, monkeypatch):
    """All runs, and the records of `mdw bench`: what is new in a folder that was looked through counts."""
    runs = tmp_path / "runs"
    path = write_run(runs, STUDIES["table5"][0], 0, 0.9)
    name = f"{SYNTHETIC}/{path.name}"
    write_json(runs / "bench" / "one.json", [])
    begun = path.stat().st_mtime + 60
    monkeypatch.setattr(asked, "NOTED", {"runs": [], "folders": []})
    assert [one.path for one in asked.find(runs)] == [path] and len(speed.records(runs)) == 0
    notes = kernel.notes()
    made = sources.sources(notes, runs, begun)
    assert {f"{name}/result.json", f"{name}/metrics.jsonl", "bench/one.json"} <= made["runs"].keys()
    listed = {f"{name}/evaluations": [], ".": [], SYNTHETIC: [path.name], "bench": ["one.json"]}
    assert made["listed"] == listed
    record = {"status": "finished", "sources": made, "parameters": {"runs": str(runs)}, "sha256": None}
    why = lambda: sources.changes(record, os.devnull, {"runs": str(runs)})[1:]  # noqa: E731  the first is the notebook
    assert why() == []
    other = write_run(runs, STUDIES["table5"][0], 5, 0.9)
    write_json(runs / "bench" / "two.json", [])
    assert why() == [f"{SYNTHETIC}/{other.name}, bench/two.json are new"]
    (other / "result.json").unlink()
    (runs / "bench" / "two.json").unlink()
    assert why() == []  # begun is not finished
    write_json(runs / "bench" / "one.json", [1])
    assert why() == ["bench/one.json is changed"]
    late = sources.sources(notes, runs, path.stat().st_mtime - 60)["runs"]
    assert late[f"{name}/result.json"] == sources.CHANGING  # it may have changed after it was read


def test_a_run_that_is_a_link_and_one_dated_in_the_future_are_sources(tmp_path, monkeypatch):
    """dvc and git-annex leave links, whole folders or single files; another machine's clock may be ahead."""
    runs, elsewhere = tmp_path / "runs", tmp_path / "elsewhere"
    paths = [write_run(runs, STUDIES["table5"][0], seed, 0.9, "lspet_small") for seed in range(4)]
    paths[0].rename(elsewhere)
    paths[0].symlink_to(elsewhere)
    (paths[1] / "result.json").rename(tmp_path / "object")
    (paths[1] / "result.json").symlink_to(tmp_path / "object")
    future = time.time() + 1e9
    for file in paths[2].iterdir():
        os.utime(file, (future, future))
    (tmp_path / "link").symlink_to(runs)
    for root in (runs, tmp_path / "link"):
        monkeypatch.setattr(asked, "NOTED", {"runs": [], "folders": []})
        assert len(asked.find(root)) == 4
        made = sources.sources(kernel.notes(), root, time.time() + 1)
        assert all(made["runs"][f"{path.name}/result.json"] for path in paths)
        assert sources.CHANGING not in made["runs"].values()
        record = {"status": "finished", "sources": made, "parameters": {"runs": str(root)}, "sha256": None}
        why = lambda: sources.changes(record, os.devnull, {"runs": str(root)})[1:]  # noqa: B023, E731
        assert why() == []
        for path in paths[:3]:
            old = (path / "result.json").read_text()
            (path / "result.json").write_text(old.replace("0.9", "0.8"))
            os.utime(path / "result.json", (future, future))
            assert why() == [f"{path.name} is changed"]
            (path / "result.json").write_text(old)
        assert why() == []


def test_what_is_evaluated_later_makes_a_page_stale(tmp_path, monkeypatch):
    """COCO's server answers, or `mdw evaluate --record` is given, after the page was made: there was no folder then."""
    runs = tmp_path / "runs"
    path = write_run(runs, STUDIES["table5"][0], 0, 0.9)
    name = f"{SYNTHETIC}/{path.name}"
    monkeypatch.setattr(asked, "NOTED", {"runs": [], "folders": []})
    assert asked.run(path).evaluations("coco", "val") == [] and asked.run(path).server_scores is None
    made = sources.sources(kernel.notes(), runs, path.stat().st_mtime + 60)
    assert made["listed"] == {f"{name}/evaluations": []}
    record = {"status": "finished", "sources": made, "parameters": {"runs": str(runs)}, "sha256": None}
    write_text(path / "evaluations" / "test-dev-scores.txt", "AP 0.5")
    why = sources.changes(record, os.devnull, {"runs": str(runs)})[1:]
    assert why == [f"{name}/evaluations/test-dev-scores.txt is new"]


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_only_what_is_stale_is_made_again(site):
    records = lambda: {path.parent.name: path.read_text() for path in (site / "reports").glob("*/run.json")}  # noqa: E731
    write_run(site / "runs", STUDIES["table5"][0], 0, 50.0, studies.ON_PEOPLE)
    said, before = [], records()
    publish.publish([], None, None, None, site / "reports", notebooks=site / "notebooks", say=said.append)
    assert f"{KERNEL.stem}: fresh" in "".join(said) and any(f"{TABLE5}: finished" in line for line in said)
    after = records()
    assert after[KERNEL.stem] == before[KERNEL.stem] and after[TABLE5] != before[TABLE5]
    assert json.loads(after[TABLE5])["parameters"]["seeds"] == [0, 1]  # what a page was given, it keeps
    assert reasons(site) == {}


def test_a_page_is_set_again_without_being_executed(site, monkeypatch):
    real = sources.setting
    monkeypatch.setattr(sources, "setting", lambda: real() | {"report/site/templates/style.css": "another"})
    assert set(reasons(site).values()) == {"mdw/report/site/templates/style.css changed"}
    monkeypatch.setattr(publish, "setting", sources.setting)
    page = site / "reports" / TABLE5 / "index.html"
    write_text(page, "old")
    said, before = [], read_json(page.with_name("run.json"))
    publish.publish(["06"], None, None, None, site / "reports", notebooks=site / "notebooks", say=said.append)
    assert f"[1/1] {TABLE5}: set again because mdw/report/site/templates/style.css changed (" in said[0]
    assert "Table 5" in page.read_text() and read_json(page.with_name("run.json"))["started"] == before["started"]
    assert TABLE5 not in reasons(site)


def test_the_commands(site):
    page = site / "reports" / TABLE5 / "index.html"
    before = page.stat().st_mtime_ns
    assert run("report", "06", "--check", "--out", site / "reports").output == f"{TABLE5}: fresh\n"
    named = run("report", "06", "--out", site / "reports")
    assert f"{TABLE5}: fresh (0:00 spent)\n" in named.output and named.exit_code == 0
    path = write_run(site / "runs", STUDIES["table5"][0], 0, 50.0, studies.ON_PEOPLE)
    checked = run("report", "06", "--check", "--out", site / "reports")
    assert f"{TABLE5}: stale, {path.name} is changed\n" == checked.output
    assert isinstance(checked.exception, MdwError) and "1 of 1 page;" in str(checked.exception)
    assert page.stat().st_mtime_ns == before  # to check is not to make
