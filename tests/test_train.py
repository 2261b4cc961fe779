"""Training: the loss and the schedule of the protocol, learning, resuming, refusing."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from mdw import data, loop, recipes, runs, train
from mdw.data.augment import NONE
from mdw.data.sample import Dataset, Sample
from mdw.errors import MdwError
from mdw.models import create_model
from mdw.pose.joints import COCO17, LSP14
from mdw.weights import load_network, load_weights

SMOKE = recipes.get("smoke")


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)  # tiny tensors: more threads only wait for each other


def spec(seed=0, **changes):
    return runs.make_spec("mdw_hrnet_18", replace(SMOKE, **changes), seed, {"cdc": False, "gcm_s": False, "gcm_c": False})


def test_loss_is_the_official_one(shared):
    f = np.load(shared / "fixtures/protocol/loss.npz")
    output = torch.tensor(f["output"], requires_grad=True)
    for name, weight in (("weighted", f["weight"]), ("weighted_frac", f["weight_frac"])):
        weight = torch.tensor(weight[..., 0])
        loss = loop.heatmap_loss(output, torch.tensor(f["target"]), weight)
        assert loss.item() == pytest.approx(float(f[f"loss_{name}"]), abs=1e-7)
        (grad,) = torch.autograd.grad(loss, output)
        np.testing.assert_allclose(grad.numpy(), f[f"grad_{name}"], atol=1e-9)
        doubled = loop.heatmap_loss(output, torch.tensor(f["target"]), weight, factor=1.0)
        assert doubled.item() == pytest.approx(float(f[f"loss_mmpose_{name}"]), abs=1e-7)


def test_learning_rate_is_the_official_one(shared):
    table = json.loads((shared / "fixtures/protocol/lr_schedule.json").read_text())
    for entry in table["points"]:
        for warm, key in ((500, "lr_warmup500"), (0, "lr_no_warmup")):
            recipe = replace(recipes.paper(), warmup_iterations=warm)
            rate = recipes.learning_rate(recipe, entry["epoch0"], entry["global_iter"])
            assert rate == pytest.approx(entry[key], rel=1e-12)


def test_learning_rate_follows_the_batch_where_asked():
    recipe = replace(recipes.paper(), lr_scale_to=256)
    assert recipes.learning_rate(recipe, 0, 10_000) == pytest.approx(2e-3 * 32 / 256)


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
    source = train.TrainingBatches(people, recipe, 0)
    crops, targets, weights = source.batch(0, np.arange(4))
    torch.manual_seed(0)
    model = create_model("mdw_hrnet_18")
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(60):
        loss = loop.heatmap_loss(model(crops), targets, weights)
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
    one, other = (train.TrainingBatches(people, SMOKE, seed=3) for _ in range(2))
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
        made.append(train.TrainingBatches(set_, recipe, 0).sample(0, 0))
    for _, target, weight in made:
        np.testing.assert_array_equal(target, made[0][1])
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
    path.mkdir()
    (path / "recipe.json").write_text("{}")
    with runs.lock(path):
        assert runs.Run(path).status == "running"
        with pytest.raises(MdwError, match="another process"):
            train.train(spec(), runs_root=tmp_path, quiet=True)
    assert runs.Run(path).status == "interrupted"
