"""The card beside the shipped weights is what their run's record says."""

import json
import shutil
from pathlib import Path

import pytest
from places import RUNS

from mdw.models.weights import list_shipped, load_network, read_about, shipped
from mdw.pose.joints import LSP14
from mdw.report.card import card, card_path, record_of
from mdw.report.pages import study
from mdw.report.readme import RECIPE, SEEDS
from mdw.training.runs import Run
from mdw.util.errors import MdwError

WEIGHTS = list(list_shipped().values())


@pytest.mark.parametrize("weights", WEIGHTS, ids=lambda path: path.stem)
def test_the_card_is_the_one_that_the_record_gives(weights):
    text = card_path(weights).read_text(encoding="utf-8")
    assert text == card(weights, record_of(weights, RUNS)), "give `python -m mdw.report.card` and commit the card"
    assert weights.stat().st_size < 5 * 2**20
    if "lspet" in weights.stem:
        assert all(f"{k} {name.replace('_', ' ')}" in text for k, name in enumerate(LSP14.names)) and "about 76 %" in text


def test_another_result_gives_another_card_and_no_record_none(tmp_path):
    weights = WEIGHTS[0]
    run = record_of(weights, RUNS)
    copy = tmp_path / run.path.name
    shutil.copytree(run.path, copy)
    (copy / "persons.csv").unlink()  # it would not add up to the figures below
    result = json.loads((copy / "result.json").read_text())
    (copy / "result.json").write_text(json.dumps(result | {"pck": 12.34}))
    assert "12.3**" in card(weights, record_of(weights, tmp_path)) != card(weights, run)
    assert "One seed, so no interval." in card(weights, record_of(weights, tmp_path))
    other = tmp_path / "other"
    shutil.copytree(copy, other)
    (other / "recipe.json").write_text(json.dumps(run.spec | {"seed": 7}))
    (other / "result.json").write_text(json.dumps(result | {"pck": 14.34}))
    said = card(weights, record_of(weights, tmp_path))
    assert "(seed 0 12.3, seed 7 14.3); their mean is 13.3, its 95 % interval over seeds" in said
    scaled = tmp_path / "scaled"  # the same question from another start is another run
    shutil.copytree(copy, scaled)
    (scaled / "recipe.json").write_text(json.dumps(run.spec | {"recipe": run.spec["recipe"] | {"init": "scaled"}}))
    assert record_of(weights, tmp_path).path == copy
    shutil.copytree(copy, tmp_path / "again")
    with pytest.raises(MdwError, match="holds 2 finished runs"):
        record_of(weights, tmp_path)
    with pytest.raises(MdwError, match="holds 0 finished runs"):
        record_of(weights, tmp_path / "none")


@pytest.mark.parametrize("weights", WEIGHTS, ids=lambda path: path.stem)
def test_shipped_networks_are_found_by_their_names(weights, tmp_path, monkeypatch):
    spec, name = record_of(weights, RUNS).spec, weights.stem.partition("-")[0]
    assert name == spec["model"] if not spec["options"] else name.startswith(f"{spec['model']}_")  # an ablation has its own
    assert shipped(name) == weights
    wanted = load_network(weights)[0].state_dict()
    assert all((value == wanted[key]).all() for key, value in load_network(name)[0].state_dict().items())
    monkeypatch.chdir(tmp_path)
    Path(name).mkdir()
    with pytest.raises(MdwError, match="weights.safetensors does not exist"):  # a run's folder of that name goes first
        load_network(name)


def test_the_best_of_the_study_is_shipped():
    everything = study.everything(RECIPE, SEEDS, RUNS).dropna(subset=["value"])
    best = everything.groupby("label")["value"].mean().idxmax()
    spec = Run(Path(everything.set_index("label").loc[[best], "path"].iloc[0])).spec
    assert (spec["model"], spec["options"]) in [(said["model"], said["options"]) for said in map(read_about, WEIGHTS)], best


def test_a_network_without_shipped_weights_is_refused_by_name():
    with pytest.raises(MdwError, match="comes with weights of .*mdw_hrnet_18.*, not of hrnet_w32"):
        load_network("hrnet_w32")
