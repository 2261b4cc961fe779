"""The examples of CONTRIBUTING.md do what it says, and the files that others read say what the package says."""

import re
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
import yaml
from places import ROOT

import mdw
from mdw import data
from mdw.data.warp import crop
from mdw.experiments import studies
from mdw.models import MODELS
from mdw.models.complexity import measure
from mdw.report.pages.architecture import CHOICES

TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def example(name: str, monkeypatch) -> ModuleType:
    """The example `name` of the page as a module that can be imported."""
    module = ModuleType(f"example_{name}")
    exec(re.search(rf"```python {name}\n(.*?)```", TEXT, re.S)[1], module.__dict__)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module


def test_a_network_is_a_function_and_a_line(monkeypatch):
    example("network", monkeypatch)
    monkeypatch.setitem(MODELS, "gated_hrnet", "example_network")
    assert "gated_hrnet" in mdw.list_models()
    model = mdw.create_model("gated_hrnet", 5)
    assert model(torch.zeros(1, 3, 64, 64)).shape == (1, 5, 16, 16)
    assert measure(model, (64, 64))["params"] == sum(p.numel() for p in model.parameters())


def test_a_data_set_is_a_function_and_a_line(monkeypatch):
    monkeypatch.setitem(data.DATASETS, "white", example("data", monkeypatch).white)
    people = data.load("white", "val", aspect=0.75)
    assert len(people) == 3 and people.joints.num_joints == 17
    assert (crop(people[0].pixels(), people[0].center, people[0].scale, 0, (48, 64))[32, 24] == 255).all()
    assert np.array_equal(people[0].joints[0], [50, 50])


def test_a_table_is_a_list_of_rows(monkeypatch, tmp_path):
    monkeypatch.setitem(studies.STUDIES, "kernels", example("table", monkeypatch).ROWS)
    planned = studies.plan("kernels", "smoke", (0,), tmp_path)
    assert len({one.path for one in planned}) == 3
    assert planned[1].path in {one.path for one in studies.plan("table5", "smoke", (0,), tmp_path)}, "trained once for both"


def test_every_choice_that_is_counted_is_described_with_its_keyword():
    page = (ROOT / "docs/reconstruction.md").read_text(encoding="utf-8")
    rows = {number: line for line in page.splitlines() for number in re.findall(r"^\| \*\*(\d+)\*\*", line)}
    for choice in CHOICES:
        row = rows[re.match(r"\d+", choice.number)[0]]
        assert f"**{choice.number}**" in row
        assert all(f"`{name}" in row for name in choice.options), choice.number


@pytest.mark.parametrize("folder", ["mdw", "docs", "notebooks", "tests"])
def test_the_code_refers_to_choices_that_the_page_has(folder):
    page = (ROOT / "docs/reconstruction.md").read_text(encoding="utf-8")
    for path in (p for p in (ROOT / folder).rglob("*") if p.suffix in (".py", ".md", ".ipynb") and p != Path(__file__)):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"dossier|protocol section", text, re.I), path
        for number in re.findall(r"choices? (\d+[a-e]?)\b|reconstruction\.md, ([PB]?\d+[a-e]?)\b", text):
            number = "".join(number)
            assert re.search(rf"\*\*{number}\*\*|\*\*{number.rstrip('a')}\*\*", page), f"{path}: {number}"


def test_the_citation_names_the_package_and_its_licence():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["title"].startswith("mdw:") and citation["license"] == "MIT" and "version" not in citation
    assert f"## {mdw.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
