"""Does the bench measure what it says? No test asserts a time."""

import json
from contextlib import nullcontext

import numpy as np
import pandas as pd
import pytest
import torch
from places import RUNS
from small_networks import loudly
from typer.testing import CliRunner

import mdw.bench.measure
from mdw.backends.choose import FASTEST
from mdw.backends.cpu.library import available
from mdw.backends.cpu.modules import REPLACED
from mdw.bench import processes
from mdw.bench.counts import Traffic, _peak, bytes_and_work, launches
from mdw.bench.measure import _bounds, _figures, _modes, _turn, bench
from mdw.bench.modes import PerSample, _torch_resize, batches, drawn, prepare
from mdw.cli import app
from mdw.models import create_model, fusion
from mdw.models.complexity import measure
from mdw.pose.heatmap import encode
from mdw.report import speed
from mdw.training.recipes import Recipe
from mdw.util.errors import MdwError

RECIPE = Recipe("bench", "people", input_size=(64, 64), batch_size=2)


@pytest.fixture(scope="module")
def images():
    return drawn(1.0, 4)


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    path = tmp_path_factory.mktemp("bench") / "deep" / "one.json"
    given = "bench --device cpu --size 64x64 --batch 2 --seconds 0 --models".split()
    given.append("small_hrnet,mobilenetv2 pretrained=false")
    done = CliRunner().invoke(app, [*given, "--json", "--record", str(path)])
    assert done.exit_code == 0, done.output
    return json.loads(path.read_text()), json.loads(done.stdout)


def test_a_record_tells_all_of_every_mode(record):
    written, printed = record
    assert written == printed and [row["mode"] for row in written] == ["reference", "tuned", "onnx"] * 2
    assert [(row["model"], row["options"]) for row in written[2:4]] == [
        ("small_hrnet", {}),
        ("mobilenetv2", {"pretrained": False}),
    ]
    for row in written:
        trains = row["mode"] != "onnx"
        used, trained = ["infer_images_per_s", "latency_ms"], ["train_images_per_s", "step_images_per_s"]
        for name in used + trained if trains else used:
            low, high = row[f"{name}_spread"]
            assert 0 < low <= row[name] <= high and row[f"{name}_calls"] >= 3
        assert {"size": "64x64", "batch": 2, "device": "cpu"}.items() <= row.items()
        assert {"commit", "hardware", "packages", "threads", "torch_threads", "load"} <= row["environment"].keys()
        assert row["process_peak_mib"] > 100 and row["first_calls_s"] > 0 and row["bounds"]["memory_share_infer"] > 0
        if not trains:
            assert not {"train_images_per_s", "launches", "operators", "loader_share"} & row.keys()
            continue
        assert row["loader_share"] == pytest.approx(1 - row["train_images_per_s"] / row["step_images_per_s"])
        assert row["peak_memory_mib"] > 0 and row["launches"] > 100 and 0 < sum(e["share"] for e in row["operators"]) <= 1


def test_networks_take_turns(monkeypatch):
    """Each mode of each network once a round, in the other direction every second round."""
    visited = []
    monkeypatch.setattr(mdw.bench.measure, "_visit", lambda visit, way, *rest: visited.append((visit, id(way))) or [(1.0, 1.0)])
    bench([("small_hrnet", {}), ("small_hrnet", {})], [(64, 64)], [2], seconds=0, rounds=2, modes=("reference", "tuned"))
    steps = [way for visit, way in visited if visit == "step"]
    assert len(visited) == 4 * 8 and len(set(steps)) == 4 and steps[4:] == steps[3::-1]


def test_networks_share_the_loader_of_a_mode(monkeypatch):
    """A loader's processes hold on to what memory there was when they began; one for each network once took 24 GB."""
    begun = []
    monkeypatch.setattr(mdw.bench.measure, "batches", lambda mode, *rest: begun.append(mode) or batches(mode, *rest))
    bench([("small_hrnet", {}), ("small_hrnet", {})], [(64, 64)], [2], seconds=0, rounds=1, modes=("reference", "tuned"))
    assert begun == ["reference", "tuned"]


def test_figures_are_medians_with_quartiles():
    taken = [(1.0, 0.5), (2.0, 2.5), (4.0, 3.0), (4.0, 7.0), (8.0, 9.0)]
    times = dict.fromkeys(("train", "infer", "latency"), taken) | {"step": [(2.0, 2.0)]}
    found = _figures(times, 32)
    assert found["train_images_per_s"] == 8 and found["train_images_per_s_spread"] == [8, 16]
    assert found["latency_ms"] == 4000 and found["latency_ms_spread"] == [2000, 4000] and found["latency_ms_calls"] == 5
    assert found["train_cpu_s"] == found["latency_cpu_s"] == 3.0 and found["step_cpu_s"] == 2.0
    assert found["loader_share"] == 0.5


def test_modes_are_one_network(monkeypatch):
    """The same weights, and maps that agree, after both were made; the modules of the reference are not switched.

    In double precision and with weights that let the maps depend on the image, which a new network's hardly do.
    """
    monkeypatch.setattr(
        "mdw.bench.modes.create_model", lambda *rest, **options: loudly(create_model(*rest, **options)).double()
    )
    ways = {mode: prepare(mode, "mdw_hrnet_18", {}, 17, iter(()), "cpu") for mode in ("reference", "tuned")}
    crops = torch.randn(2, 3, 64, 64).double()
    official, ours = (way.infer(crops) for way in ways.values())
    assert official.std() > 0.1 and (ours - official).abs().max() < 1e-8 * official.abs().max()
    switched = {mode: any(type(m) in REPLACED.values() for m in way.model.modules()) for mode, way in ways.items()}
    assert switched == {"reference": False, "tuned": available()}
    assert not ways["reference"].optimizer.defaults["fused"] and ways["tuned"].optimizer.defaults["fused"]


def test_the_reference_enlarges_as_torch_does():
    x = torch.randn(1, 2, 4, 4, requires_grad=True)
    for context, name in ((_torch_resize(), "UpsampleBilinear2DBackward0"), (nullcontext(), "_BilinearBackward")):
        with context:
            assert fusion.upsample(x, (8, 8)).grad_fn.name() == name
            assert name in fusion.PathUp(2, 2, 2)[2](x).grad_fn.name()


def test_the_reference_makes_samples_one_by_one(images):
    """Without augmentation: the same sample as the protocol's pieces give."""
    from dataclasses import replace

    from mdw.data.augment import NONE
    from mdw.data.warp import crop, joints_to_crop, normalise

    recipe = replace(RECIPE, augmentation=NONE)
    crops, targets, weights = PerSample(images, recipe)[1]
    person = images[1]
    assert np.array_equal(crops, normalise(crop(person.pixels(), person.center, person.scale, 0.0, (64, 64))))
    joints = joints_to_crop(person.joints, person.visible, person.center, person.scale, 0.0, (64, 64))
    expected = encode(joints, person.visible, (64, 64), (16, 16), recipe.sigma)
    assert np.array_equal(targets, expected[0]) and np.array_equal(weights, expected[1])
    batch = next(batches("reference", RECIPE, images, "cpu"))
    assert [tuple(t.shape) for t in batch] == [(2, 3, 64, 64), (2, 17, 16, 16), (2, 17)]


def test_counts():
    conv = torch.nn.Conv2d(3, 8, 3, padding=1, bias=False)
    with torch.no_grad(), Traffic() as work:
        torch.relu(conv(torch.zeros(1, 3, 10, 10)))
    assert work.launches == 2 and work.convolution_bytes == 4 * 800 and work.macs == 800 * 27
    assert work.moved_bytes == 4 * (300 + 8 * 27 + 800 + 800 + 800)
    counted = bytes_and_work("small_hrnet", {}, 17, (64, 64))
    assert counted["macs"] == pytest.approx(measure(create_model("small_hrnet"), (64, 64))["macs"])
    assert counted["least_train_bytes"] == 2.5 * counted["least_infer_bytes"] < counted["operator_bytes"] * 2.5


def test_shares_of_the_bound():
    counted = {"copy_gb_per_s": 10.0, "product_gflops": 60.0, "least_train_bytes": 1e8, "least_infer_bytes": 4e7, "macs": 1e8}
    bounds = _bounds(counted, {"step_images_per_s": 20.0, "infer_images_per_s": 50.0})
    assert bounds["memory_train_images_per_s"] == 100 and bounds["memory_share_train"] == pytest.approx(0.2)
    assert bounds["memory_infer_images_per_s"] == 250 and bounds["memory_share_infer"] == pytest.approx(0.2)
    assert bounds["arithmetic_train_images_per_s"] == pytest.approx(100)


def test_peak_is_that_of_what_lives_together():
    class Event:
        def __init__(self, at, size):
            self.at, self.size = at, size

        name = lambda self: "[memory]"  # noqa: E731
        start_ns = lambda self: self.at  # noqa: E731
        nbytes = lambda self: self.size  # noqa: E731

    assert _peak([Event(4, -30), Event(1, 100), Event(3, 50), Event(2, -100), Event(5, 60)]) == 100


@pytest.mark.skipif(not available(), reason="no C compiler here, so there is no tuned backend")
def test_own_kernels_are_launches():
    """A tuned step has fewer launches, yet not as few as if calls of our own kernels did not count."""
    batch = torch.zeros(2, 3, 64, 64), torch.zeros(2, 17, 16, 16), torch.ones(2, 17)
    ways = {mode: prepare(mode, "mdw_hrnet_18", {}, 17, iter(()), "cpu") for mode in ("reference", "tuned")}
    found = {mode: launches(way, batch) for mode, way in ways.items()}
    with Traffic() as without:
        ways["tuned"].gradient(batch)
        ways["tuned"].update()
    assert without.launches + 200 < found["tuned"] < found["reference"] / 2


def test_a_turn_leaves_no_gradients():
    way = prepare("tuned", "small_hrnet", {}, 17, iter(()), "cpu")
    with _turn(way):
        way.gradient((torch.zeros(2, 3, 64, 64), torch.zeros(2, 17, 16, 16), torch.ones(2, 17)))
        assert any(parameter.grad is not None for parameter in way.model.parameters())
    assert all(parameter.grad is None for parameter in way.model.parameters())


def test_processes_train_side_by_side(monkeypatch):
    speeds = processes._at_once(2, ("small_hrnet", {}, (64, 64), 2, 0, 1))
    assert len(speeds) == 2 and min(speeds) > 0
    with pytest.raises(MdwError, match="one of 1 processes that train no_network failed"):
        processes._at_once(1, ("no_network", {}, (64, 64), 2, 0, 1))
    monkeypatch.setattr(processes, "_at_once", lambda count, work: [10.0 * work[-1] + count] * count)
    found = processes.compare("small_hrnet", {}, (64, 64), 2, threads=4)
    assert found["together_images_per_s"] == 41 and found["apart_turns"] == [4 * 14.0] * 3 and found["threads"] == 4


def test_without_onnx_runtime_its_column_is_left_out(monkeypatch):
    said = []
    monkeypatch.setattr("mdw.backends.onnx.NEEDED", ("no_such_package",))
    assert _modes(None, "cpu", said.append) == ("reference", "tuned") and "pip install -e '.[export]'" in said[0]
    with pytest.raises(MdwError, match="no_such_package is not installed; install the extra export"):
        _modes(["onnx"], "cpu", said.append)


def test_auto_rests_on_the_records():
    """What is written in `FASTEST` is what the committed records say; new records change it."""
    chosen = speed.fastest(speed.records(RUNS))
    assert chosen and {network: backend for network, backend in chosen.items() if backend != "tuned"} == FASTEST


def test_the_fastest_is_ahead_with_one_image_and_with_a_batch():
    cell = {"model": "a", "size": "64x64", "batch": 32, "device": "cpu"}
    rows = [cell | {"mode": "tuned", "latency_ms": 2.0, "infer_images_per_s": 10.0}]
    rows += [cell | {"mode": "onnx", "latency_ms": 1.0, "infer_images_per_s": 11.0}]
    assert speed.fastest(pd.DataFrame(rows)) == {"a": "onnx"}
    rows += [row | {"size": "96x64", "infer_images_per_s": 9.0 + (row["mode"] == "tuned")} for row in rows]
    assert speed.fastest(pd.DataFrame(rows)) == {"a": "tuned"}


def test_what_it_refuses(tmp_path):
    assert "no model 'nothing'" in str(CliRunner().invoke(app, ["bench", "--models", "nothing"]).exception)
    assert "cannot write" in str(CliRunner().invoke(app, ["bench", "--record", str(tmp_path)]).exception)
    with pytest.raises(MdwError, match="there is no mode 'fast'; the modes are reference, tuned, onnx"):
        bench([("small_hrnet", {})], [(64, 64)], [2], modes=["fast"])
