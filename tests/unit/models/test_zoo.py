"""Every network of the zoo on one grid: it computes, learns, is counted and is kept. Export has tests of its own."""

import pytest
import torch
from safetensors.torch import load, save

import mdw.training.schedule as schedule
import mdw.training.train as trainer
from mdw.models import create_model, list_models
from mdw.models.complexity import measure
from mdw.models.dynamic_conv import set_temperature
from mdw.models.loss import heatmap_loss
from mdw.models.mdw_hrnet import mdw_hrnet_18
from mdw.training import runs
from mdw.training.recipes import get
from mdw.training.schedule import annealing_epochs

BIG = {"hrnet_w32", "hrnet_w48", "simple_baseline_101", "simple_baseline_152"}
ZOO = [pytest.param(name, marks=pytest.mark.slow) if name in BIG else name for name in list_models()]
# The released Dite-HRNet has weights that its forward pass never reads (mdw/models/dite_hrnet.py); no gradient reaches those.
UNUSED = {"dite_hrnet_18": "as_described", "dite_hrnet_30": "as_described"}
SIZE = (64, 64)


def build(name, joints=5):
    torch.manual_seed(0)
    return create_model(name, joints, **({"mode": UNUSED[name]} if name in UNUSED else {}))


def batch():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, 3, *SIZE, generator=generator), torch.rand(2, 5, 16, 16, generator=generator), torch.ones(2, 5)


@pytest.mark.parametrize("name", ZOO)
def test_one_step_reaches_every_parameter_and_lowers_the_loss(name):
    model = build(name).train()
    x, target, weight = batch()
    before = model.final_layer.weight.detach().clone()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    loss = heatmap_loss(model(x), target, weight)
    loss.backward()
    silent = [key for key, value in model.named_parameters() if value.grad is None or not value.grad.isfinite().all()]
    assert not silent
    optimizer.step()
    assert not torch.equal(model.final_layer.weight, before)
    with torch.no_grad():
        assert heatmap_loss(model(x), target, weight) < loss


@pytest.mark.parametrize("name", ZOO)
def test_weights_survive_a_file_and_give_the_same_maps(name):
    model, x = build(name), batch()[0]
    with torch.no_grad():
        model.train()(x)  # statistics that are not those of a new network
    torch.manual_seed(2)
    other = create_model(name, 5, **({"mode": UNUSED[name]} if name in UNUSED else {}))
    other.load_state_dict(load(save({key: value.contiguous() for key, value in model.state_dict().items()})))
    with torch.no_grad():
        maps = model.eval()(x)
        assert maps.shape == (2, 5, 16, 16) and maps.isfinite().all()
        assert torch.equal(maps, other.eval()(x))


@pytest.mark.parametrize("name", ZOO)
def test_counts_scale_with_the_picture_and_parameters_do_not(name):
    with torch.device("meta" if name in BIG else "cpu"):  # at these sizes a small network is computed sooner than its shapes
        model = build(name)
    small, large = (measure(model, size) for size in (SIZE, (128, 128)))
    assert small["params"] == large["params"] == sum(p.numel() for p in model.parameters())
    assert 3.2 < large["macs"] / small["macs"] <= 4.0  # gates on pooled vectors cost the same at any size


def test_training_anneals_the_softmax_attentions_and_ends_at_one():
    model = mdw_hrnet_18(5, dynamic="dynamic")
    epochs = get("paper").epochs
    assert set_temperature(model, 0, annealing_epochs(epochs)) == 30
    assert set_temperature(model, 5, annealing_epochs(epochs)) == pytest.approx(15.5)
    for total in (1, 2, 12, 240):
        assert annealing_epochs(total) <= total / 2
        assert set_temperature(model, total, annealing_epochs(total)) == 1
    seen = {module.temperature.item() for module in model.modules() if hasattr(module, "temperature")}
    assert seen == {1}


def test_the_trainer_moves_the_temperature(monkeypatch, tmp_path):
    moments = []
    monkeypatch.setattr(schedule, "set_temperature", lambda model, epoch, epochs: moments.append((epoch, epochs)))
    recipe = get("smoke")
    run = trainer.train(runs.make_spec("mdw_hrnet_18", recipe, 0, {"dynamic": "dynamic"}), None, tmp_path, "cpu", quiet=True)
    assert run.result is not None
    assert moments[0] == (0, recipe.epochs / 2) and moments[-1][0] == recipe.epochs
    steps = [epoch for epoch, _ in moments if epoch != recipe.epochs]  # the others are validations, at the temperature of use
    assert steps == sorted(steps) and len(moments) - len(steps) == recipe.epochs
