"""What an installation holds and needs: the wheel's files, a core that stands alone, commands that name their extra."""

import re
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import requires
from pathlib import Path

import pytest
from places import ROOT

import mdw
from mdw.report.site.notebooks import copy_notebooks

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRA_MODULES = {  # what must not be needed by the core: the modules of the extras, and what only they bring
    *("papermill", "ipykernel", "IPython", "nbformat", "nbclient", "jinja2.ext", "mistune", "latex2mathml", "pandas"),
    *("matplotlib", "seaborn", "pooch", "requests", "onnx", "onnxruntime", "submitit", "tensorboard", "anywidget"),
}


def without(modules, code: str) -> subprocess.CompletedProcess:
    """Runs Python code where `modules` cannot be imported, as if they were not installed."""
    block = f"import sys; sys.modules.update(dict.fromkeys({sorted(modules)!r}))\n"
    return subprocess.run([sys.executable, "-c", block + code], capture_output=True, text=True)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> zipfile.ZipFile:
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(out)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (path,) = out.glob("mdw-*.whl")
    return zipfile.ZipFile(path)


def test_the_wheel_has_every_file_of_the_package_and_the_notebooks(wheel):
    held = {name for name in wheel.namelist() if not name.split("/")[0].endswith(".dist-info")}
    done = subprocess.run(["git", "-C", str(ROOT), "ls-files", "mdw", "notebooks"], capture_output=True, text=True)
    if done.returncode:
        pytest.skip("not a git checkout")
    tracked = {name for name in done.stdout.splitlines() if (ROOT / name).exists()}
    assert held >= {re.sub("^notebooks/", "mdw/notebooks/", name) for name in tracked}
    assert not [name for name in held if name.endswith(".pyc") or not name.startswith("mdw/")]
    kinds = {Path(name).suffix for name in held}
    assert kinds >= {".py", ".ipynb", ".c", ".csv", ".j2", ".js", ".css", ".jpg", ".json", ".safetensors", ".typed"}


def test_version_and_extras_stand_in_one_place(wheel):
    (metadata,) = [name for name in wheel.namelist() if name.endswith("METADATA")]
    lines = wheel.read(metadata).decode().splitlines()
    assert f"Version: {mdw.__version__}" in lines
    assert {line.split(": ")[1] for line in lines if line.startswith("Provides-Extra")} == set(PROJECT["optional-dependencies"])


def test_the_core_is_small_and_what_it_leaves_to_others_is_theirs():
    assert len(PROJECT["dependencies"]) <= 12
    for package, brings in (("torch", "filelock"), ("torchvision", "pillow"), ("pydantic", "annotated-types")):
        assert any(re.match(rf"{brings}\b(?!.*extra)", line) for line in requires(package)), (
            f"{package} no longer needs {brings}"
        )


def test_networks_training_and_prediction_need_no_extra(tmp_path):
    code = f"""
import os; os.chdir({str(tmp_path)!r})
import mdw, mdw.cli, mdw.train, mdw.inference.predict, mdw.inference.evaluate, mdw.bench.measure, mdw.experiments.executor
mdw.create_model("mdw_hrnet_18"); mdw.models.official.load; mdw.pose.metrics.coco_ap
from typer.testing import CliRunner
commands = ["list"], ["complexity", "mdw_hrnet_18"], ["train", "mdw_hrnet_18", "--recipe", "smoke", "--device", "cpu"], ["runs"]
for words in commands:
    done = CliRunner().invoke(mdw.cli.app, words)
    assert done.exit_code == 0, (words, done.output, done.exception)
"""
    done = without(EXTRA_MODULES, code)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize(
    "extra, missing, words",
    [
        ("report", "papermill", ["report"]),
        ("report", "pandas", ["reproduce", "table5", "--dry-run"]),
        ("report", "mistune", ["notebooks", "there"]),
        ("report", "pandas", ["complexity", "mdw_hrnet_18", "--table"]),
        ("export", "onnxruntime", ["export", "mdw_hrnet_18", "-o", "model.onnx"]),
        ("export", "onnx", ["predict", "--backend", "onnx", "--out", "there"]),
        ("download", "pooch", ["data", "verify", "lsp", "--root", "."]),
        ("tensorboard", "tensorboard", ["train", "mdw_hrnet_18", "--recipe", "smoke", "--tensorboard"]),
        ("slurm", "submitit", ["reproduce", "quickstart", "--preset", "smoke", "--executor", "slurm"]),
    ],
)
def test_a_command_without_its_extra_says_how_to_get_it(extra, missing, words, tmp_path):
    code = f"import os; os.chdir({str(tmp_path)!r})\nfrom mdw.cli import main; sys.argv = ['mdw', *{words!r}]; main()"
    done = without([missing], code)
    assert done.returncode == 1
    *notes, sentence = done.stderr.strip().splitlines()
    assert len(notes) <= 1 and not list(tmp_path.iterdir()), "neither a traceback nor a file half made"
    remedy = f"install the extra {extra} of mdw, from a checkout with pip install -e '.[{extra}]'"
    assert sentence == f"mdw: {missing} is not installed; {remedy}"


def test_notebooks_are_copied_once(tmp_path):
    copied = copy_notebooks(tmp_path / "out")
    assert {path.name for path in copied} == {path.name for path in (ROOT / "notebooks").glob("*.ipynb")}
    with pytest.raises(mdw.MdwError, match="00_quickstart.ipynb is there already"):
        copy_notebooks(tmp_path / "out")
