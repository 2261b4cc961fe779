"""Training: the loss and the schedule of the protocol, learning, resuming, refusing."""

import json
import os
import signal
import sys
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from double_precision import double_precision
from places import RUNS
from small_networks import small
from typer.testing import CliRunner

from mdw import data
from mdw.backends import choose as backend
from mdw.backends.cpu import library as tuned_library
from mdw.backends.cpu import ops as tuned_ops
from mdw.backends.cpu.library import available
from mdw.cli import app
from mdw.data.augment import NONE
from mdw.data.sample import Dataset, Sample
from mdw.experiments import executor, studies
from mdw.models import create_model
from mdw.models.loss import heatmap_loss
from mdw.models.weights import load_network, load_weights
from mdw.pose.joints import COCO17, LSP14
from mdw.training import folder, loop, recipes, runs, train
from mdw.training.batches import TrainingBatches
from mdw.training.state import State, deterministic
from mdw.util.errors import MdwError, Stopped
from mdw.util.fields import later, plain

SMOKE = recipes.get("smoke")


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)  # tiny tensors: more threads only wait for each other


def spec(seed=0, **changes):
    return runs.make_spec("mdw_hrnet_18", replace(SMOKE, **changes), seed, {"cdc": False, "gcm_s": False, "gcm_c": False})


def test_loss_is_the_official_one(protocol):
    f = np.load(protocol / "loss.npz")
    output = torch.tensor(f["output"], requires_grad=True)
    for name, weight in (("weighted", f["weight"]), ("weighted_frac", f["weight_frac"])):
        weight = torch.tensor(weight[..., 0])
        loss = heatmap_loss(output, torch.tensor(f["target"]), weight)
        assert loss.item() == pytest.approx(float(f[f"loss_{name}"]), abs=1e-7)
        (grad,) = torch.autograd.grad(loss, output)
        np.testing.assert_allclose(grad.numpy(), f[f"grad_{name}"], atol=1e-9)
        doubled = heatmap_loss(output, torch.tensor(f["target"]), weight, factor=1.0)
        assert doubled.item() == pytest.approx(float(f[f"loss_mmpose_{name}"]), abs=1e-7)


def test_learning_rate_is_the_official_one(protocol):
    table = json.loads((protocol / "lr_schedule.json").read_text())
    for entry in table["points"]:
        for warm, key in ((500, "lr_warmup500"), (0, "lr_no_warmup")):
            recipe = replace(recipes.paper(), warmup_iterations=warm)
            rate = recipes.learning_rate(recipe, entry["epoch0"], entry["global_iter"])
            assert rate == pytest.approx(entry[key], rel=1e-12)


def test_learning_rate_follows_the_batch_where_asked():
    recipe = replace(recipes.paper(), lr_scale_to=256)
    assert recipes.learning_rate(recipe, 0, 10_000) == pytest.approx(2e-3 * 32 / 256)


def test_large_batches_scale_the_rate_by_either_law():
    assert recipes.learning_rate(recipes.get("large_batch"), 0, 10_000) == pytest.approx(2e-3 * 1024 / 512)
    assert recipes.learning_rate(recipes.get("large_batch_sqrt"), 0, 10_000) == pytest.approx(2e-3 * 2**0.5)
    assert recipes.learning_rate(recipes.get("large_batch"), 0, 0) == pytest.approx(4e-6)
    assert recipes.paper().batch_size == 32 and recipes.paper().ema == 0


def test_the_committed_run_is_found_by_its_question():
    """Fields that recipes and augmentations got after it leave its name alone."""
    root = RUNS
    path = runs.folder(runs.make_spec("mdw_hrnet_18", recipes.get("lspet_hour", init="mixed")), root)
    assert path.name == "mdw_hrnet_18-lspet-lspet_hour-s0-2491d78a" and runs.Run(path).status == "finished"
    written = runs.Run(path).spec["recipe"]
    assert recipes.Recipe.from_dict(written).to_dict() == written == recipes.get("lspet_hour", init="mixed").to_dict()


def test_a_later_field_counts_only_where_it_is_used():
    @dataclass(frozen=True)
    class Inner:
        old: tuple = (1, 2)
        new: str = later("none")

    @dataclass(frozen=True)
    class Outer:
        inner: Inner = Inner()
        new: int = later(1)

    assert plain(Outer()) == {"inner": {"old": [1, 2]}}
    assert plain(Outer(Inner(new="x"), 2)) == {"inner": {"old": [1, 2], "new": "x"}, "new": 2}
    used = {"lr_scaling": "sqrt", "accumulate": 2, "ema": 0.99, "sync_batchnorm": False, "deterministic": True}
    assert not used.keys() & SMOKE.to_dict().keys()
    assert len({runs.identity(spec(**{name: value})) for name, value in used.items()} | {runs.identity(spec())}) == 6
    changed = replace(SMOKE, **used)
    assert recipes.Recipe.from_dict(json.loads(json.dumps(changed.to_dict()))) == changed


def test_a_recipe_survives_json():
    for make in recipes.RECIPES.values():
        assert recipes.Recipe.from_dict(json.loads(json.dumps(make().to_dict()))) == make()


def test_identity_is_the_question_and_nothing_else():
    assert runs.identity(spec()) == runs.identity(json.loads(json.dumps(spec())))
    others = [spec(seed=1), spec(lr=1e-3), spec(epochs=3), spec(augmentation=NONE)]
    assert len({runs.identity(s) for s in [spec(), *others]}) == 5


def test_four_people_can_be_learnt_by_heart():
    """The loss falls by far, and the peaks land on the joints: the whole chain from crop to decoded joint agrees."""
    recipe = replace(SMOKE, augmentation=NONE, sigma=1.5, batch_size=4)
    people = data.load("people", "train", aspect=recipe.aspect, count=4, size=recipe.input_size)
    source = TrainingBatches(people, recipe, 0)
    crops, targets, weights = source.batch(0, np.arange(4))
    torch.manual_seed(0)
    model = small("mdw_hrnet_18")
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(60):
        loss = heatmap_loss(model(crops), targets, weights)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]
    found = model(crops).detach().flatten(2).argmax(2)
    meant = targets.flatten(2).argmax(2)
    near = torch.hypot((found % 16 - meant % 16).float(), (found // 16 - meant // 16).float()) <= 1.5
    assert near[weights > 0].float().mean() > 0.8


def test_a_batch_is_the_same_whenever_it_is_made():
    people = data.load("people", "train", count=6, size=SMOKE.input_size)
    one, other = (TrainingBatches(people, SMOKE, seed=3) for _ in range(2))
    list(one.epoch(0))  # another history
    for a, b in zip(one.epoch(1), other.epoch(1), strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
    different = next(iter(one.epoch(2)))
    assert not torch.equal(different[0], next(iter(one.epoch(1)))[0])


def test_joints_that_are_not_labelled_are_never_learnt():
    def person(garbage):
        visible = np.ones(14)
        visible[3] = 0
        joints = np.full((14, 2), 20.0) + np.arange(14)[:, None]
        joints[3] = garbage
        return Sample(lambda: np.zeros((64, 64, 3), np.uint8), 1, 1, [32, 32], [0.3, 0.4], joints, visible)

    recipe = replace(SMOKE, augmentation=replace(NONE, flip_probability=1.0))
    made = []
    for garbage in ((30.0, 30.0), (-300.0, 0.0), (np.nan, np.nan)):
        set_ = Dataset("one", LSP14, (person(garbage),))
        plan = TrainingBatches(set_, recipe, 0).samples(0, np.arange(1))[1]
        made.append((plan.targets()[0], plan.weights[0]))
    for target, weight in made:
        np.testing.assert_array_equal(target, made[0][0])
        assert weight.sum() == 13 and weight[LSP14.swap[3]] == 0 and target[weight == 0].max() == 0


def test_training_leaves_a_whole_run_and_finds_it_again(tmp_path):
    run = train.train(spec(), runs_root=tmp_path, quiet=True)
    assert run.status == "finished" and run.spec == spec()
    assert [line["epoch"] for line in run.metrics()] == [1, 2]
    assert {"loss", "lr", "samples", "seconds", "AP"} <= run.metrics()[-1].keys()
    assert run.result["AP"] == run.metrics()[-1]["AP"] and run.result["samples"] == 16
    assert run.env["commit"] is None or len(run.env["commit"]) >= 10
    assert not (run.path / "checkpoint.safetensors").exists()
    before = (run.path / "result.json").stat().st_mtime_ns
    assert train.train(spec(), runs_root=tmp_path).path == run.path
    assert (run.path / "result.json").stat().st_mtime_ns == before
    assert [r.path for r in runs.find(tmp_path)] == [run.path]

    model, joints, size = load_network(run.path)
    assert joints == COCO17 and size == SMOKE.input_size and not model.training
    with pytest.raises(MdwError, match="another network.*mdw_hrnet_18 with coco17"):
        load_weights(run.weights, create_model("mdw_hrnet_18"))
    with pytest.raises(MdwError, match="another network"):
        load_weights(run.weights, create_model("mdw_hrnet_18", 14, cdc=False, gcm_s=False, gcm_c=False))


def test_a_loss_that_is_not_finite_stops_with_a_sentence(tmp_path):
    with pytest.raises(MdwError, match=r"the loss is (nan|inf).*epoch.*--set lr="):
        train.train(spec(lr=1e30, warmup_iterations=0, epochs=8, lr_steps=(9,), eval_every=9), runs_root=tmp_path, quiet=True)
    (left,) = runs.find(tmp_path)
    assert left.status == "interrupted" and not (left.path / "result.json").exists()


def test_two_writers_in_one_run_are_refused(tmp_path):
    path = runs.folder(spec(), tmp_path)
    path.mkdir(parents=True)
    (path / "recipe.json").write_text("{}")
    with folder.hold(path):
        assert runs.Run(path).status == "running"
        with pytest.raises(MdwError, match="another process"):
            train.train(spec(), runs_root=tmp_path, quiet=True)
    assert runs.Run(path).status == "interrupted"


def test_an_accumulated_gradient_is_that_of_the_whole_batch():
    """Without BatchNorm, whose statistics are those of a part, 5 = 3 + 2 persons give what 5 give."""
    torch.manual_seed(0)
    model = torch.nn.Conv2d(3, 17, 4, 4).double()
    batch = torch.randn(5, 3, 32, 16).double(), torch.randn(5, 17, 8, 4).double(), torch.rand(5, 17).double()

    def gradient(*spans):
        model.zero_grad()
        losses = [loop.backward(model, tuple(t[a:b] for t in batch), 0.5, (b - a) / 5) for a, b in spans]
        return model.weight.grad.clone(), sum(losses)

    for one, other in zip(gradient((0, 5)), gradient((0, 3), (3, 5)), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def test_the_average_of_the_weights_is_what_is_kept(tmp_path, monkeypatch):
    """Against an average computed by hand, with timm's warm-up: the first step copies, later decays grow towards `ema`."""
    seen = []
    stepped = State.stepped

    def watching(state, *rest):
        stepped(state, *rest)
        seen.append({name: value.clone() for name, value in state.model.state_dict().items()})

    monkeypatch.setattr(State, "stepped", watching)
    run = train.train(spec(ema=0.5), runs_root=tmp_path, device="cpu", quiet=True)
    assert len(seen) == 4
    average = seen[0]
    for step, weights in enumerate(seen[1:], 1):
        decay = min(0.5, 1 - (1 + step) ** (-2 / 3))
        average = {name: decay * average[name] + (1 - decay) * weights[name] for name in average}
    kept = load_network(run.path)[0].state_dict()
    for name, value in kept.items():
        if value.is_floating_point():
            torch.testing.assert_close(value, average[name], rtol=1e-4, atol=1e-6)
    assert not torch.equal(kept["final_layer.weight"], seen[-1]["final_layer.weight"])


def test_deterministic_mode_is_on_while_training_and_then_off(tmp_path, monkeypatch):
    modes, backward = [], loop.backward
    monkeypatch.setattr(
        loop, "backward", lambda *a: (modes.append(torch.are_deterministic_algorithms_enabled()), backward(*a))[1]
    )
    train.train(spec(deterministic=True, epochs=1), runs_root=tmp_path, device="cpu", quiet=True)
    assert all(modes) and modes and not torch.are_deterministic_algorithms_enabled()
    with pytest.raises(MdwError, match="deterministic=false"), deterministic(True):
        raise RuntimeError("adaptive_avg_pool2d_backward_cuda does not have a deterministic implementation, but ...")


def test_runs_are_listed_with_their_best_value(tmp_path):
    lines = [{"epoch": k + 1, "samples": 10, "seconds": 2.0, "pck": value} for k, value in enumerate((10.0, 30.0, 20.0))]
    path = tmp_path / "run"
    path.mkdir()
    (path / "recipe.json").write_text(json.dumps(spec(metric="pck", epochs=5)))
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn/recipe.json").write_text('{"model"')
    result = CliRunner().invoke(app, ["runs", "--runs", str(tmp_path), "--json"])
    run, torn = json.loads(result.output)
    assert run == {
        **{"run": "run", "status": "interrupted", "done": 3, "epochs": 5, "metric": "pck"},
        **{"best": 30.0, "best_epoch": 2, "seconds": 6.0, "images_per_s": 5.0},
    }
    assert torn["status"].startswith("damaged: ") and "torn/recipe.json" in torn["status"]
    table = CliRunner().invoke(app, ["runs", "--runs", str(tmp_path)]).output
    assert "interrupted" in table and "pck 30 (epoch 2)" in table and "0:06" in table
    assert "no run" in CliRunner().invoke(app, ["runs", "--runs", str(tmp_path / "none")]).output


def test_curves_for_tensorboard(tmp_path, monkeypatch):
    """What its own reader finds is what metrics.jsonl says; without the extra one sentence says how to get it."""
    pytest.importorskip("tensorboard", reason="the extra tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = train.train(spec(), runs_root=tmp_path, device="cpu", quiet=True, tensorboard=True)
    events = EventAccumulator(str(run.path / "tensorboard"))
    events.Reload()
    found = {event.step: event.value for event in events.Scalars("loss")}
    assert found == {line["epoch"]: pytest.approx(line["loss"], rel=1e-6) for line in run.metrics()}


def test_without_tensorboard_a_sentence_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(MdwError, match=r"\[tensorboard\]"):
        train.train(spec(), runs_root=tmp_path, device="cpu", quiet=True, tensorboard=True)


@pytest.mark.slow
def test_jobs_of_a_cluster_by_submitits_local_executor(tmp_path):
    """One job ends, one fails with its own sentence; both are said, and logs are where they are said to be."""
    pytest.importorskip("submitit", reason="the extra slurm is not installed")
    specs = [spec(), spec(data="lspet", metric="pck", train_options={}, val_options={})]
    planned = [studies.Planned(studies.FULL, k, one, runs.folder(one, tmp_path), "not run") for k, one in enumerate(specs)]
    said = []
    failed = executor.farm_missing(planned, None, tmp_path, "cpu", say=said.append, cluster="local")
    assert set(failed) == {planned[1].path.name} and "give --root" in failed[planned[1].path.name]
    assert runs.Run(planned[0].path).status == "finished" and any("finished" in line for line in said)
    assert list((tmp_path / "slurm").glob("*.out"))
    with pytest.raises(MdwError, match="--slurm"):
        executor.farm_missing(planned, None, tmp_path, "cpu", settings={"colour": 1}, cluster="local")


def test_without_slurm_a_sentence_says_so(tmp_path, monkeypatch):
    pytest.importorskip("submitit", reason="the extra slurm is not installed")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(MdwError, match="srun"):
        executor.farm_missing([], None, tmp_path)


def test_after_ctrl_c_no_further_run_is_begun(tmp_path, monkeypatch):
    planned = [studies.Planned(studies.FULL, k, spec(k), runs.folder(spec(k), tmp_path), "not run") for k in range(2)]
    begun = []

    def stopped(*arguments, **options):
        begun.append(arguments)
        raise Stopped("stopped")

    monkeypatch.setattr("mdw.training.train.train", stopped)
    with pytest.raises(Stopped):
        executor.train_missing(planned, runs_root=tmp_path)
    assert len(begun) == 1


needs_kernels = pytest.mark.skipif(not available(), reason="no C compiler here, so there is no tuned backend")


@needs_kernels
def test_the_computation_is_recorded_and_no_part_of_the_question(tmp_path, monkeypatch):
    """Both backends answer the same question, in the same folder; the kernels work for the tuned one and for no other."""
    made, calls = {}, []
    kernels_for = tuned_ops.kernels_for
    monkeypatch.setattr(tuned_ops, "kernels_for", lambda x: calls.append(x.dtype) or kernels_for(x))
    for way in ("reference", "tuned"):
        calls.clear()
        made[way] = train.train(spec(), runs_root=tmp_path / way, device="cpu", quiet=True, backend=way)
        assert set(calls) == ({torch.float32} if way == "tuned" else set())
    assert made["tuned"].path.name == made["reference"].path.name
    assert {name: run.env["computation"] for name, run in made.items()} == {name: name for name in made}


@needs_kernels
def test_both_computations_train_alike(tmp_path):
    """In double precision, for which the same kernels are compiled: every epoch's loss, to what Adam may make of rounding."""
    losses = {}
    with double_precision():
        for way in ("reference", "tuned"):
            run = train.train(spec(), runs_root=tmp_path / way, device="cpu", quiet=True, backend=way)
            losses[way] = [line["loss"] for line in run.metrics()]
    assert losses["tuned"] == pytest.approx(losses["reference"], rel=1e-9)


@needs_kernels
@pytest.mark.parametrize("began, goes_on", [("reference", "tuned"), ("tuned", "reference")])
def test_a_run_keeps_the_computation_it_began_with(tmp_path, monkeypatch, capfd, began, goes_on):
    whole = train.train(spec(), runs_root=tmp_path / "whole", device="cpu", quiet=True, backend=began)
    backward, steps = loop.backward, []

    def stopping(*arguments):
        steps.append(1)
        if len(steps) == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return backward(*arguments)

    monkeypatch.setattr(loop, "backward", stopping)
    with pytest.raises(Stopped):
        train.train(spec(), runs_root=tmp_path / "cut", device="cpu", quiet=True, backend=began)
    monkeypatch.setattr(loop, "backward", backward)
    capfd.readouterr()
    resumed = train.train(spec(), runs_root=tmp_path / "cut", device="cpu", bar=False, backend=goes_on)
    assert f"goes on by the {began} backend" in capfd.readouterr().err
    assert resumed.env["computation"] == began
    assert (resumed.path / "weights.safetensors").read_bytes() == (whole.path / "weights.safetensors").read_bytes()


@needs_kernels
def test_a_tuned_run_without_a_compiler_says_so_and_stays(tmp_path, monkeypatch):
    def stopping(*_):
        os.kill(os.getpid(), signal.SIGTERM)
        return backward(*_)

    backward = loop.backward
    monkeypatch.setattr(loop, "backward", stopping)
    with pytest.raises(Stopped):
        train.train(spec(), runs_root=tmp_path, device="cpu", quiet=True, backend="tuned")
    monkeypatch.setattr(loop, "backward", backward)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    def none():
        raise MdwError("the tuned mode needs a C compiler and found none")

    for module in (backend, tuned_library):
        monkeypatch.setattr(module, "compiled", none)
    with pytest.raises(MdwError, match="began with the tuned backend: the tuned mode needs a C compiler"):
        train.train(spec(), runs_root=tmp_path, device="cpu", quiet=True)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
