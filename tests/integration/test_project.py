"""What belongs to the project as a whole: light imports, one list of dependencies, nothing that should not be here."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from places import ROOT

import mdw
from mdw.training import runs

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def tracked(*patterns):
    done = subprocess.run(["git", "-C", str(ROOT), "ls-files", *patterns], capture_output=True, text=True)
    if done.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in done.stdout.splitlines() if (ROOT / name).exists()]


@pytest.mark.parametrize(
    "module",
    [
        "mdw",
        "mdw.pose.metrics",
        "mdw.data",
        "mdw.data.synthetic",
        "mdw.training.runs",
        "mdw.experiments.studies",
        "mdw.report.site.publish",
    ],
)
def test_import_is_light(module):
    code = f"import sys, {module}; loaded = {{'torch', 'timm', 'torchvision'}} & sys.modules.keys(); assert not loaded, loaded"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_names_other_programs_rely_on():
    code = """
import mdw
mdw.models.official.load, mdw.list_models(), mdw.create_model, mdw.predict, mdw.complexity.measure
mdw.pose.boxes.box_to_center_scale, mdw.pose.affine.affine_matrix, mdw.pose.heatmap.encode, mdw.pose.heatmap.decode
mdw.pose.heatmap.flip_back, mdw.pose.oks.oks_nms, mdw.pose.metrics.coco_ap, mdw.pose.metrics.pckh, mdw.pose.metrics.pck
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_conda_environment_is_in_step_with_pyproject():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    packages = [d for d in environment["dependencies"] if isinstance(d, str)]
    (pip,) = [d["pip"] for d in environment["dependencies"] if isinstance(d, dict)]
    assert f"python{PROJECT['requires-python']}" in packages
    assert "--constraint constraints.txt" in pip
    (editable,) = [line for line in pip if line.startswith("--editable")]
    extras = set(re.search(r"\[(.*)\]", editable).group(1).split(","))
    assert extras <= PROJECT["optional-dependencies"].keys()


def test_every_dependency_is_pinned():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {re.match(r"[A-Za-z0-9._-]+(?=(\[.*\])?==)", line).group().lower() for line in lines}
    wanted = [*PROJECT["dependencies"], *(d for extra in PROJECT["optional-dependencies"].values() for d in extra)]
    assert {re.match(r"[A-Za-z0-9._-]+", d).group().lower() for d in wanted} - {"mdw"} <= pinned


def test_published_runs_are_whole():
    for run in map(runs.Run, {path.parent for path in tracked("runs/*/recipe.json")}):
        assert run.status == "finished" and run.env["commit"], run.path
        assert run.path.name.endswith(runs.identity(run.spec)), "the recipe was changed after the run"
        metric = run.result["metric"]
        assert run.result[metric] == run.metrics()[-1][metric]
        assert run.result["samples"] == sum(line["samples"] for line in run.metrics())


def test_no_machine_paths_and_no_package_index():
    bad = re.compile(r"(?<![\w./])/(work|root|home/[a-z]+)/\w|--(extra-)?index-url|--find-links|pypi\.org|pythonhosted")
    for path in tracked():
        if path.suffix not in (".jpg", ".png", ".safetensors", ".svg") and path != Path(__file__):
            found = bad.search(path.read_text(encoding="utf-8", errors="ignore"))
            assert not found, f"{path.relative_to(ROOT)}: {found.group()}"


def test_tracked_files_are_small():
    assert [p.name for p in tracked() if p.stat().st_size > 5 * 2**20] == []


ROOMS = ("util", "pose", "data", "models", "backends", "inference", "training", "experiments", "bench", "report", "cli")


def test_a_file_imports_only_from_its_own_room_and_from_those_below():
    assert {path.name for path in tracked("mdw/*.py") if path.parent.name == "mdw"} == {"__init__.py", "__main__.py"}
    for path in tracked("mdw/*/*.py", "mdw/*/*/*.py"):
        room = path.relative_to(ROOT / "mdw").parts[0]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            else:
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for _, other in (name.split(".")[:2] for name in names if name.startswith("mdw.")):
                known = other in ROOMS and ROOMS.index(other) <= ROOMS.index(room)
                assert known or other in mdw.__all__, f"{path}:{node.lineno} imports from {other}, which is above {room}"
