"""tools/gpu.py without a GPU: its trainings are the studies' runs, and its measurements go on where they were."""

import importlib.util
import json
import re
import shlex
import subprocess
import time

import pytest
from command import run
from places import ROOT

from mdw.experiments import studies
from mdw.training import runs
from mdw.util.errors import OutOfTime

SPEC = importlib.util.spec_from_file_location("gpu_tool", ROOT / "tools" / "gpu.py")
tool = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(tool)


@pytest.fixture
def folder_of(monkeypatch, tmp_path):
    """The folder that a training command would write, which is not begun."""
    asked = []

    def train(spec, root, runs_root, device, **options):
        assert options["backend"] == "tuned" and str(options["packed"]).endswith("pack")
        asked.append(runs.folder(spec, runs_root))
        raise OutOfTime("nothing is trained here")

    monkeypatch.setattr("mdw.training.train.train", train)

    def folder(words):
        assert run(*words, "--runs", tmp_path)[0] == 0
        return asked[-1]

    return folder


def planned(root, *names, seeds=(0, 1)):
    return {one.path for name in names for one in studies.plan(name, "lspet", seeds, root)}


def test_trainings_are_the_studies_runs(folder_of, tmp_path):
    def written(item):
        commands = [tool.command(row, seed, "lspet", "pack", "", "cpu") for row in tool.TRAININGS[item] for seed in (0, 1)]
        found = [folder_of(words[3:]) for words in commands]
        assert len(found) == len(set(found)), "each once"
        return set(found)

    first, ablations = written("first"), written("ablations")
    assert ablations == planned(tmp_path, "table5", "table6", "table7")
    assert first < planned(tmp_path, "lspet") <= first | planned(tmp_path, "table5") and len(first) == 2 * 4
    choices, large = written("choices"), written("large")
    assert planned(tmp_path, "lspet_variants") <= first | choices and len(choices) == 2 * 8
    assert large < planned(tmp_path, "table2") and len(large) == 2 * 5
    (row,) = tool.TRAININGS["fine"]
    wanted = runs.make_spec(row.model, studies.recipe(row, "lspet"), 0)
    assert wanted["recipe"]["input_size"] == [288, 384] and runs.folder(wanted, tmp_path) in written("fine")


@pytest.mark.parametrize("page", ["docs/commands.md", "docs/gpu.md"])
def test_the_single_run_is_the_studys(page, folder_of, tmp_path):
    (line,) = re.findall(r"^mdw (train mdw_hrnet_18 --recipe lspet .*)$", (ROOT / page).read_text(), re.M)
    words = shlex.split(line.split("#")[0].replace("PACK", "pack"))
    assert folder_of([*words, "--device", "cpu"]) == studies.plan("lspet", "lspet", root=tmp_path)[0].path


def test_variants_go_on_and_begin_with_what_matters(monkeypatch, tmp_path, capsys):
    record, measured, refuse = tmp_path / "deep" / "variants.jsonl", [], set()

    def one(command, timeout):
        model, batch, name = json.loads(command[command.index("--one") + 1])
        measured.append((model, batch, name))
        if name in refuse:
            raise subprocess.TimeoutExpired(command, timeout)
        fast = 1 if name == "reference" else 5
        line = {"model": model, "batch": batch, "settings": tool.settings_of(name), "device": "cpu", "ready_s": [1, 2, 3]}
        line |= {f"{kind}_images_per_s": 100.0 * fast for kind in tool.KINDS} | {"latency_ms": 20 / fast, "peak_gib": 1.0}
        line |= {f"memory_share_{kind}": 0.1 * fast for kind in tool.KINDS}
        record.parent.mkdir(exist_ok=True)
        with open(record, "a") as lines:
            lines.write(json.dumps(line) + "\n")
        return subprocess.CompletedProcess(command, 0)

    def call(seconds=1000):
        measured.clear()
        tool.variants(["a", "b"], [2, 4], names, "cpu", record, time.monotonic() + seconds)
        return capsys.readouterr().out

    monkeypatch.setattr(subprocess, "run", one)
    names = ["reference", "tuned", "graph=False", "regions=none"]
    assert "not done" in call(seconds=0) and not measured
    refuse.add("regions=none")
    assert "regions=none         not ready within" in (said := call()) and "is not done: run it again" in said
    pairs = [(model, batch, name) for batch in (2, 4) for model in "ab" for name in names[:2]]
    assert measured[:8] == pairs and [name for *_, name in measured[8:]] == [names[2]] * 4 + [names[3]] * 4
    refuse.clear()
    said = call()
    assert {name for *_, name in measured} == {"regions=none"} and len(measured) == 4, "the rest is there"
    assert said.count("train 5.00x, infer 5.00x, one 5.00x; of memory bound: train 50% (reference 10%), infer 50%") == 4
    assert said.endswith("this item is done\n") and not call().count("not") and not measured
    monkeypatch.setitem(tool.VARIANTS, "tuned", {"shifted": False})  # as if the defaults had changed
    call()
    assert measured == [(model, batch, "tuned") for batch in (2, 4) for model in "ab"]


def test_a_measurement_is_found_again(monkeypatch, tmp_path):
    monkeypatch.setattr("mdw.bench.counts.machine", lambda device: {"copy_gb_per_s": 10.0})
    record = tmp_path / "deep" / "variants.jsonl"
    tool.one("small_hrnet", 2, "reference", "cpu", record, repeats=1)
    line = tool.recorded(record, "small_hrnet", 2, "reference", "cpu")
    assert line and tool.recorded(record, "small_hrnet", 2, "tuned", "cpu") is None
    assert line["train_images_per_s"] > 0 and line["environment"]["hardware"]
    from mdw.bench.counts import bytes_and_work

    allowed = 10e9 / bytes_and_work("small_hrnet", {}, 17, (256, 192))["least_train_bytes"]
    assert line["memory_share_train"] == pytest.approx(line["train_images_per_s"] / allowed)
    assert "train " in tool.as_text(line) and "train 1.00x" in tool.as_ratios(line, line)
