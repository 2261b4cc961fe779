"""The commands of README and docs: each that can run here without a network, a camera or hours does; no other is unnamed."""

import json
import re
import shlex
import shutil
from pathlib import Path

import cv2
import pytest
from command import run
from places import ROOT

from mdw.cli import app
from mdw.data import sources
from mdw.data.photos import photo_paths
from mdw.experiments.studies import BEST, STUDIES
from mdw.models.weights import list_shipped, shipped
from mdw.report import readme
from mdw.report.card import record_of
from mdw.report.pages import people
from mdw.training import recipes
from mdw.util.files import write_json

TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
DOCS = [ROOT / "docs" / name for name in ("commands.md", "coco.md")]
SHOWN = "\n".join([TEXT, *(path.read_text(encoding="utf-8") for path in DOCS)])
LINES = [line.split("#")[0].strip() for block in re.findall(r"```sh\n(.*?)```", SHOWN, re.S) for line in block.splitlines()]

# The commands that are run here, in a folder with a photo, a film and the records, LSPET standing for the real one.
RUN = (
    "mdw list",
    "mdw predict photo.jpg --out",
    "mdw predict photo.jpg --whole",
    "mdw predict photo.jpg --weights",
    "mdw predict --out poses",
    "mdw predict clip.mp4 --box",
    "mdw complexity mdw_hrnet_18",
    "mdw runs",
    "mdw evaluate --data lspet",
    "mdw data show people",
    "mdw reproduce table5 --preset demo --dry-run",
    "mdw notebooks FOLDER",
)
# Why the others are not run here. What stands in brackets is the test file that runs the same command on something small.
ELSEWHERE = {
    "make": "installs; what `make report` runs then is in test_first_minutes",
    "torchrun": "several processes (test_distributed)",
    "mdw predict FOLDER clip.mp4 --detector": "fetches weights (test_predict)",
    "mdw predict photo.jpg --backend onnx": "an extra (test_export)",
    "mdw predict --camera": "a camera (test_video)",
    "mdw complexity --table": "counts every network (test_complexity)",
    "mdw bench": "minutes (test_bench)",
    "mdw persons": "predictions, which the committed records do not have (test_persons)",
    "mdw export": "an extra (test_export)",
    "mdw train": "minutes to days (test_train, test_samples, test_custom)",
    "mdw evaluate --data coco": "weights trained on COCO (test_cli_coco)",
    "mdw data pack": "minutes (test_pack)",
    "mdw data check-pack": "a pack (test_pack)",
    "mdw data download": "fetches (test_cli_download)",
    "mdw data verify": "all of COCO (test_cli_download)",
    "mdw data convert": "MPII's own file (test_mpii)",
    "mdw reproduce": "trains (test_reproduce)",
    "mdw report": "executes every page (test_stale)",
}


def test_no_command_is_unaccounted_for():
    assert len(LINES) > 30
    for line in LINES:
        assert line.startswith((*RUN, *ELSEWHERE)), line
    for start in (*RUN, *ELSEWHERE):
        assert any(line.startswith(start) for line in LINES), f"README and docs no longer have {start!r}"
    for name in re.findall(r"test_\w+", " ".join(ELSEWHERE.values())):
        assert list((ROOT / "tests").rglob(f"{name}.py"))


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with a photo, a film of three frames and this project's records."""
    folder = tmp_path_factory.mktemp("readme")
    first = photo_paths()[0]
    shutil.copy(first, folder / "photo.jpg")
    image = cv2.resize(cv2.imread(str(first)), (320, 400))
    film = cv2.VideoWriter(str(folder / "clip.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 10, (320, 400))
    for _ in range(3):
        film.write(image)
    film.release()
    shutil.copytree(ROOT / "runs", folder / "runs", ignore=shutil.ignore_patterns("slurm", "synthetic"))
    return folder


@pytest.mark.parametrize("start", RUN)
def test_the_command_does_what_it_says(start, place, request, monkeypatch):
    monkeypatch.chdir(place)
    (line, *_) = [line for line in LINES if line.startswith(start)]
    words = shlex.split(line)[1:]
    if "LSPET" in words:
        words[words.index("LSPET")] = str(request.getfixturevalue("shared") / "data" / "lspet")
    status, output, sentence = run(*words)
    assert status == 0, sentence
    if start.startswith("mdw predict photo.jpg"):
        assert list(Path(words[words.index("--out") + 1]).glob("photo*"))
    elif start == "mdw predict clip.mp4 --box":
        assert list(Path().rglob("clip.overlay.mp4"))
    elif start == "mdw evaluate --data lspet":
        for name, weights in list_shipped().items():
            output = output if weights == shipped() else run(*words, "--weights", name)[1]
            recorded = record_of(weights, ROOT / "runs").result["pck"]
            assert f"{json.loads(output)['pck']:.4f}" == f"{recorded:.4f}", "to the last digit that is printed"
    else:
        assert output.strip()


def test_the_lines_of_python_run(place, monkeypatch):
    monkeypatch.chdir(place)
    code = re.search(r"```python\n(.*?)```", TEXT, re.S)[1]
    lines = [line for line in code.splitlines() if "detector=" not in line]  # fetches weights (test_predict)
    space: dict = {}
    exec("\n".join(lines), space)
    assert len(lines) == len(code.splitlines()) - 1 and len(space["people"]) == 1


def test_only_commands_and_options_that_exist_are_named():
    import typer.main

    root = typer.main.get_command(app)
    for _, name, *words in (line.split() for line in LINES if line.startswith("mdw ")):
        command = root.commands[name]
        if hasattr(command, "commands"):
            command, words = command.commands[words[0]], words[1:]
        known = {flag for parameter in command.params for flag in (*parameter.opts, *parameter.secondary_opts)}
        assert {word for word in words if word.startswith("-")} <= known


def test_the_readme_is_a_screen_with_three_doors():
    body = TEXT.partition("## Licence")[0]
    assert len(body.splitlines()) < 60 and body.count("```") == 10
    assert body.index("make setup") < body.index("make report") < body.index("## Three doors")
    targets = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert all(f"\n{target}:" in targets for target in re.findall(r"^make (\w+)", body, re.M))
    for door in ("I have a photo", "I have COCO and a GPU", "I want to read the study in JupyterLab"):
        assert f"**{door}.**" in body
    for path in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
            assert (path.parent / target).exists(), f"{path.name} links to {target}, which is not there"


def test_the_door_to_coco_says_what_the_code_does():
    text, known = (ROOT / "docs" / "coco.md").read_text(encoding="utf-8"), sources.SOURCES["coco"]
    assert all(one.file in text for one in known.manual), "the files that nobody can fetch"
    assert all(f"`{name}`" in text and str(recipes.get(name).epochs) in text for name in ("lite", "paper", "dite"))
    row = next(row for row in STUDIES["table2"] if row.label == "MDW-HRNet-30, 384x288")
    assert row.changes["epochs"] == 270 and row.changes["blur"] == 17 and recipes.get("paper").blur == 11
    assert recipes.get("lite").blur is None and "11 wide at 256x192" in text and "17 at 384x288" in text


def test_hours_come_from_the_records_of_the_bench(tmp_path):
    assert readme.hours(tmp_path).endswith("on a GPU: not measured; on a CPU: not measured.")
    row = {"model": "mdw_hrnet_18", "size": "256x192", "mode": "tuned", "batch": 128, "device": "cuda:0", "bounds": {}}
    place = {"hardware": "a card", "commit": "0", "started": "2026-01-01", "torch_threads": 1}
    write_json(tmp_path / "bench" / "gpu.json", [row | {"train_images_per_s": 1000.0, "environment": place}])
    assert "on a GPU: 10 hours at 1000.0 images a second (a card, tuned); on a CPU: not measured" in readme.hours(tmp_path)


@pytest.mark.parametrize("name", readme.BLOCKS)
def test_what_the_records_decide_is_what_they_say(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    written = readme.replaced(text, readme.BLOCKS[name](ROOT / "runs"), name)
    assert written == text, "give `python -m mdw.report.readme` and commit what it writes"
    for image in re.findall(r"\]\((docs/\S+\.(?:svg|jpg))\)", written):
        assert (ROOT / image).stat().st_size < 300_000


def test_the_rates_of_the_study_are_those_that_its_search_found():
    found = people.search(ROOT / "runs")
    best = found[found["best"].eq("yes")].set_index("network")["learning rate"]
    assert len(best) >= 1
    assert best.to_dict() == {row.label: BEST[row.model] for row in STUDIES["lspet"] if row.label in best}
