"""What a newcomer meets first: a plan in a few lines, pages at once, news while it works, and a checkout that stays clean."""

import re
import resource
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from command import run
from places import ROOT
from report_helpers import write_run

from mdw.cli.plan import describe, in_short
from mdw.experiments import executor, studies
from mdw.report import TablePage, outputs
from mdw.report import runs as frames
from mdw.report.pages import poses
from mdw.report.site import publish
from mdw.report.site.notebook import run_notebook
from mdw.training import progress, recipes, runs
from mdw.util import stages
from mdw.util.stages import Stages

NAMES = [path.stem for path in publish.find()]


def test_one_network_is_trained_and_every_other_page_waits_for_nothing(tmp_path):
    planned = studies.plan_reports(NAMES, studies.RECORDS, [0], ROOT / "runs")
    to_train = {one.path: one for found in planned.values() for one in found if one.status == "not run"}
    assert {(one.row.label, one.spec["recipe"]["name"]) for one in to_train.values()} <= {("MDW-HRNet-18", "demo")}
    fresh = studies.plan_reports(NAMES, studies.RECORDS, [0], tmp_path)
    assert [name for name, found in fresh.items() if any(one.status == "not run" for one in found)] == ["00_quickstart"]
    demo = studies.each_once(studies.plan_reports(NAMES, "demo", [0], tmp_path))
    assert sum(one.status == "not run" for one in demo) == 13, "the demo is what it was"
    recorded = {one.spec["recipe"]["name"] for one in studies.each_once(fresh) if one.status == "left out"}
    assert recorded == {"lspet_small", "lspet_search"}, "all else is the study on real people"


@pytest.mark.parametrize("preset", [studies.RECORDS, "demo", "coco"])
def test_what_will_be_done_is_said_in_five_lines(tmp_path, preset):
    planned = studies.plan_reports(NAMES, preset, [0], tmp_path)
    waiting = [name for name, found in planned.items() if any(one.status == "not run" for one in found)]
    plan = describe(planned, preset, tmp_path, "cpu", 2)
    lines = in_short(plan, [name for name in NAMES if name not in waiting], waiting, Path("runs"), Path("reports")).splitlines()
    assert 2 <= len(lines) <= 5 and max(map(len, lines)) < 160, lines
    assert any("MDW-HRNet-18" in line for line in lines), "networks by the names that pages give them"
    assert not any("mdw_hrnet_18" in line for line in lines)


def test_pages_come_first_then_the_training_then_the_page_that_shows_it(tmp_path, monkeypatch):
    order = []

    def train(spec, root, runs_root, device, bar, title):
        order.append(title)
        write_run(Path(runs_root), studies.STUDIES["quickstart"][0], 0, 20.0, "demo")
        return "pck 20"

    def pages(names, *rest, **named):
        order.append(list(names))
        return [{"notebook": name, "status": "finished", "error": None} for name in names]

    monkeypatch.setattr(executor, "_train", train)
    monkeypatch.setattr(publish, "publish", pages)
    status, output, sentence = run("reproduce", "--runs", tmp_path / "runs", "--out", tmp_path / "out", "--device", "cpu")
    assert status == 0, sentence
    assert [sorted(order[0]), *order[1:]] == [NAMES[1:], "MDW-HRNet-18, seed 0", NAMES[:1]]
    assert order[0][0] == "03_table2_coco_val", "what only reads records is there first"
    assert output.index("Then 1 training, MDW-HRNet-18") < output.index("[1/1] MDW-HRNet-18, seed 0: finished, pck 20")


def test_runs_on_synthetic_people_are_found_and_git_never_sees_them(tmp_path):
    row = studies.STUDIES["quickstart"][0]
    for preset in studies.PRESETS:
        spec = runs.make_spec(row.model, studies.recipe(row, preset))
        ignored = subprocess.run(["git", "-C", ROOT, "check-ignore", "-q", runs.folder(spec) / "result.json"]).returncode == 0
        assert ignored == (spec["recipe"]["data"] == "people"), preset
    path = write_run(tmp_path, row, 0, 20.0, "demo")
    assert path.parent == tmp_path / runs.SYNTHETIC and [one.path for one in runs.find(tmp_path)] == [path]
    assert frames.study("quickstart", studies.RECORDS, [0], tmp_path)["value"].tolist() == [20.0]


def test_records_are_found_here_above_and_in_the_checkout(tmp_path, monkeypatch):
    (tmp_path / "deep" / "notebooks").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "deep" / "notebooks")
    assert runs.located("runs").resolve() == ROOT / "runs", "the project's, wherever a kernel starts"
    (tmp_path / "deep" / "runs").mkdir()
    assert runs.located("runs").resolve() == tmp_path / "deep" / "runs"
    (tmp_path / "deep" / "notebooks" / "runs").mkdir()
    assert runs.located("runs") == Path("runs")
    assert runs.located("nothing") == Path("nothing") and runs.located(tmp_path) == tmp_path


def test_a_page_says_which_folder_it_read_and_first_that_it_is_empty(tmp_path, monkeypatch):
    monkeypatch.setattr(frames, "READ", [])
    frames.study("quickstart", studies.RECORDS, [0], tmp_path)
    shown = outputs.facts(data="lspet", seeds=[0, 1])
    assert dict(shown.spec["facts"])["Records"] == [str(tmp_path)]
    assert shown.spec["note"].startswith(f"**No run in `{tmp_path}`**") and "`runs`" in shown.spec["note"]
    in_jupyter = shown._repr_mimebundle_()["text/markdown"]
    assert in_jupyter.startswith(shown.spec["note"]) and "**Seeds** 0, 1" in in_jupyter and "[" not in in_jupyter
    write_run(tmp_path, studies.FULL, 0, 20.0, "demo")
    assert not outputs.facts(data="lspet").spec["note"]


def test_what_jupyterlab_shows_has_no_buttons_no_python_lists_and_nothing_empty(tmp_path):
    frame = pd.DataFrame({"network": ["a", "b"], "PCK@0.2": [1.0, 2.0]})
    page = TablePage(5, studies.RECORDS, [0, 1], ROOT / "runs")
    shown = [outputs.show(frame, "A table."), outputs.headline("It is so."), outputs.facts(seeds=[0, 1]), page.provenance()]
    for one in (*shown, page.table(), page.recipe(), page.headline()):
        bundle = one._repr_mimebundle_()
        texts = [text for mime, text in bundle.items() if mime.startswith("text/")]
        assert len(texts) > 1 and all(texts), "a form that is set, beside the plain one"
        assert not re.search(r"<button|\['|\[\d", "".join(texts)), texts
    assert outputs.say("") is None, "nothing to say is no output"


def test_page_00_shows_how_the_network_learned(tmp_path):
    row = studies.STUDIES["quickstart"][0]
    assert poses.learning(frames.study("quickstart", studies.RECORDS, [0], tmp_path)) is None
    write_run(tmp_path, row, 0, 20.0, "demo")
    study = frames.study("quickstart", studies.RECORDS, [0], tmp_path)
    assert "synthetic people" in poses.learning(study).spec["caption"]
    assert "20.0 % on synthetic people" in poses.in_short(study, studies.RECORDS)


def notebook(path: Path, *cells: str) -> Path:
    document = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    document.cells.insert(0, nbformat.v4.new_code_cell('runs = "runs"  # folder', metadata={"tags": ["parameters"]}))
    document.metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(document, path)
    return path


HOSTILE = ("random.py", "code.py", "mdw/pyproject.toml", "mdw/notebooks/x.txt")
CALLS = (
    "import random, code, mdw\nfrom mdw.report import runs as records, tables",
    "tables.provenance(records.runs_frame(records.find(runs)))",
)


@pytest.fixture
def hostile(tmp_path, monkeypatch) -> Path:
    """A folder that holds files named as modules, and a folder named mdw."""
    for name in HOSTILE:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("raise SystemExit('the wrong one')")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_report_is_made_in_a_folder_with_files_that_are_named_as_modules(hostile):
    record = run_notebook(notebook(hostile / "small.ipynb", *CALLS), {}, hostile / "out")
    assert record["status"] == "finished", record["error"]
    said = nbformat.read(hostile / "out" / "small.ipynb", as_version=4).cells[-1].outputs[0]["data"]["text/plain"]
    assert f"Records: {ROOT / 'runs'}" in said


@pytest.mark.slow
def test_papermill_by_its_own_command_line_from_another_folder(tmp_path):
    (tmp_path / "mdw").mkdir()
    made = notebook(tmp_path / "small.ipynb", *CALLS)
    done = subprocess.run(
        [sys.executable, "-m", "papermill", made, tmp_path / "out.ipynb", "--no-progress-bar"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    said = nbformat.read(tmp_path / "out.ipynb", as_version=4).cells[-1].outputs[0]["data"]["text/plain"]
    assert f"Records: {ROOT / 'runs'}" in said


def test_each_stage_is_a_line_with_the_time_spent_and_left(monkeypatch):
    now, said = [0.0], []
    monkeypatch.setattr(stages.time, "monotonic", lambda: now[0])
    work = Stages(4, said.append)
    work.begin("a")
    now[0] = 30.0
    work.end("a", "finished")
    work.begin("b")
    now[0] = 60.0
    work.end("b", "fresh")
    assert said == ["[1/4] a: finished (0:30 spent, about 1:30 left)", "[2/4] b: fresh (1:00 spent, about 1:00 left)"]


def test_nobody_waits_in_silence(monkeypatch):
    said = []
    monkeypatch.setattr(stages, "QUIET", 0.5)
    with Stages(1, said.append) as work:
        work.begin("a slow page")
        time.sleep(2.5)
        work.end("a slow page", "finished")
    assert said[0].startswith("still at a slow page for 0:0") and said[-1].startswith("[1/1] a slow page: finished")


def test_a_training_speaks_within_an_epoch_where_no_bar_is_drawn(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(stages.time, "monotonic", lambda: now[0])
    stages.spoken()
    speaks = progress.Progress("MDW-HRNet-18, seed 0", recipes.get("demo"), 640, False, True, None)
    bar = speaks.bar(0, 0)
    now[0] = 4.0  # what is compiled once is no pace
    speaks.step(bar, 16, 0.01)
    for _ in range(20):
        now[0] += 2.0
        speaks.step(bar, 16, 0.01)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "MDW-HRNet-18, seed 0: epoch 1/4, 32/640 images  loss 0.010000, about 5:16 left, 0:06 spent"
    assert len(lines) == 3, "one from the first steps, then after every 15 s of silence"


@pytest.mark.parametrize("words", ["--help", "list", "runs"])
def test_what_loads_no_network_answers_well_under_a_second(words, monkeypatch):
    """CPU seconds of the process and its children, the best of three: a busy machine takes longer, but not the fastest time."""
    monkeypatch.chdir(ROOT)
    spent = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "mdw", words], check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(spent) < 1.0, spent


def test_git_does_not_call_a_notebook_modified_that_was_run_in_jupyterlab(tmp_path):
    """With the hook that `make lab` names: what JupyterLab saves after Run All is the committed file, byte for byte."""
    (hook,) = re.findall(r"pre_save_hook=(\S+)", (ROOT / "Makefile").read_text())
    module, _, name = hook.rpartition(".")
    for path in publish.find():
        document = nbformat.read(path, as_version=4)
        for number, cell in enumerate(document.cells, 1):
            cell.metadata |= {"editable": True, "slideshow": {"slide_type": ""}, "execution": {"iopub.status.idle": "now"}}
            if cell.cell_type == "code":
                cell |= {"execution_count": number, "outputs": [nbformat.v4.new_output("stream", text="said")]}
        document.metadata |= {"language_info": {"name": "python", "version": "3.11.2"}, "widgets": {"state": {}}}
        getattr(import_module(module), name)({"type": "notebook", "content": document}, path=path.name, contents_manager=None)
        nbformat.write(document, tmp_path / "saved.ipynb")
        assert (tmp_path / "saved.ipynb").read_bytes() == path.read_bytes(), path.name
