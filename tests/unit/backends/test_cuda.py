"""The GPU's tuned mode, as far as a CPU can tell: no graph breaks, equal values and gradients, recorded steps without a GPU.

Everything runs with torch.compile's front end and "eager" or "aot_eager" behind it; the code inductor makes has no test here.
"""

import copy
import json
import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import mdw
from mdw.backends import choose as backend
from mdw.backends import cuda
from mdw.backends.cpu import plain
from mdw.backends.cuda import (
    WARM_UP,
    Backward,
    Inference,
    Recorded,
    Repeat,
    Settings,
    ShiftedConv1d,
    ShiftedConv2d,
    prepare,
    tune,
    twin,
)
from mdw.models import dite_hrnet, lite_hrnet, mdw_hrnet, simple_baseline
from mdw.models.dy_conv import DyConv
from mdw.models.dynamic_conv import convolve_each, set_temperature, sum_of_shifts
from mdw.models.resize import _upsample_last
from mdw.models.weights import load_network
from mdw.training import recipes, runs
from mdw.training import step as training_step
from mdw.training.train import train
from mdw.util.errors import MdwError, OutOfTime

FRONT = Settings("float32", backend="eager")  # what torch.compile sees, computed by eager torch
DIRECT = Settings("float32", regions="none", channels_last=False)
CLOSE = {"rtol": 1e-9, "atol": 1e-12}  # in double precision

# The deeper and wider networks of the same files repeat these parts.
NETWORKS = {
    "mdw_hrnet": lambda: mdw_hrnet.mdw_hrnet((1, 1)),
    "constant gates, and gates from one": lambda: mdw_hrnet.mdw_hrnet((1, 1), attention="constant", gate_start="one"),
    "lite_hrnet": lambda: lite_hrnet.lite_hrnet((1, 1), widths=(40, 80, 160)),
    "naive_lite_hrnet": lambda: lite_hrnet.lite_hrnet((1,), unit=lite_hrnet.shuffle_units, widths=(30, 60)),
    "dite_hrnet": lambda: dite_hrnet.dite_hrnet((1, 1, 1)),
    "simple_baseline": lambda: simple_baseline._resnet("resnet26", 17, False),
} | {name: lambda name=name: mdw.create_model(name) for name in ("small_hrnet", "mobilenetv2", "mobilenetv3", "shufflenetv2")}


@pytest.fixture(autouse=True)
def nothing_compiled():
    yield
    torch._dynamo.reset()


def spread(model):
    """The network with weights that are not almost 0, so that gates and branches matter."""
    torch.manual_seed(0)
    for p in model.parameters():
        if p.ndim > 1:
            nn.init.normal_(p, std=1 / math.sqrt(max(p[0].numel(), 1)))
    return model


def tiny(**options):
    return spread(mdw_hrnet.mdw_hrnet((1,), **options))


def batch(n=2, size=64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    maps = torch.rand(n, 17, size // 4, size // 4, generator=generator)
    return torch.randn(n, 3, size, size, generator=generator), maps, torch.ones(n, 17)


def step(model, backward=training_step.backward, given=None, share=1.0):
    """Loss, gradients and buffers after one backward pass."""
    loss = backward(model.train(), given or batch(), 0.5, share)
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)  # they are the caller's now
    return {"loss": loss} | gradients | {name: buffer.clone() for name, buffer in model.named_buffers()}


def assert_near(got, expected, relative):
    """In the norm of each tensor, beside that of the largest of its kind where it is as good as 0."""
    assert got.keys() == expected.keys() and len(got) > 10
    for name, tensor in expected.items():
        assert (got[name] - tensor).float().norm() <= relative * (tensor.float().norm() + 1e-3), name


@pytest.mark.parametrize("name", NETWORKS)
def test_nothing_breaks_the_graph_and_values_and_gradients_stay(name):
    model = spread(NETWORKS[name]()).double()  # in double precision what differs is a mistake, not rounding
    same = copy.deepcopy(model)
    given = tuple(t.double() for t in batch())
    expected = step(model, given=given)
    got = step(same, Backward(same, FRONT, Repeat), given)  # fullgraph: a break would be an error
    assert_near(got, expected, 1e-9)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0


def test_repeated_parts_are_compiled_once():
    def graphs(modules):
        torch._dynamo.reset()
        torch._dynamo.utils.counters.clear()
        model = spread(mdw_hrnet.mdw_hrnet(modules))
        step(model, Backward(model, FRONT, Repeat))
        return torch._dynamo.utils.counters["stats"]["unique_graphs"]

    assert graphs((3,)) == graphs((1,)) == 7  # stem, two parts of the transition, unit, fusion, head, last layer


@pytest.fixture
def precisions(monkeypatch):
    """The dtypes of the maps that losses were taken of."""
    seen = set()
    for module in (training_step, cuda):
        loss = module.heatmap_loss
        monkeypatch.setattr(module, "heatmap_loss", lambda maps, *rest, loss=loss: (seen.add(maps.dtype), loss(maps, *rest))[1])
    return seen


def test_what_autograd_traces_is_near_in_bfloat16(precisions):
    """Traced forward and backward, the whole gradient is about as far from double precision's as eager bfloat16's is.

    Rounding by a 256th moves sums over the kinks of ReLUs, so single gradients differ by up to a half in both.
    """
    model, found = tiny(), {}
    truth = step(copy.deepcopy(model).double(), given=tuple(t.double() for t in batch()))
    ways = {"eager": replace(DIRECT, precision="bfloat16"), "traced": Settings("bfloat16", backend="aot_eager")}
    for way, settings in ways.items():
        same = copy.deepcopy(model)
        precisions.clear()
        found[way] = step(same, Backward(same, settings, Repeat))
        assert precisions == {torch.bfloat16} and found[way].keys() == truth.keys()
    names = [name for name, _ in model.named_parameters() if name in truth]

    def off(values):
        differences = torch.stack([(values[name] - truth[name]).norm() for name in names])
        return differences.norm() / torch.stack([truth[name].norm() for name in names]).norm()

    assert off(found["traced"]) < 2 * off(found["eager"]) < 1
    assert found["traced"]["loss"].item() == pytest.approx(truth["loss"].item(), rel=torch.finfo(torch.bfloat16).eps)
    kinds = {t.dtype for t in found["traced"].values()}
    assert kinds == {torch.float32, torch.int64}  # weights' gradients, statistics, counts, the loss


@pytest.mark.parametrize(
    "size, stride, padding, dilation", [(3, 1, 1, 1), (2, 2, 0, 1), (3, 2, 1, 1), (7, 1, 3, 1), (3, 1, 2, 2)]
)
def test_a_sum_of_shifts_is_the_convolution(size, stride, padding, dilation):
    x, kernels = torch.randn(3, 5, 9, 8).double(), torch.randn(3, 5, 1, size, size).double()
    geometry = {"stride": stride, "padding": padding, "dilation": dilation}
    torch.testing.assert_close(sum_of_shifts(x, kernels, **geometry), convolve_each(x, kernels, 5, **geometry), **CLOSE)
    fixed = F.conv2d(x, kernels[0], groups=5, **geometry)
    torch.testing.assert_close(sum_of_shifts(x, kernels[0], **geometry), fixed, **CLOSE)


@pytest.mark.parametrize("factor", [1, 2, 4, 8])
def test_enlargement_by_element_is_torchs(factor):
    x = torch.randn(2, 3, 4, 5, dtype=torch.double, requires_grad=True)
    y = _upsample_last(_upsample_last(x, factor).mT, factor).mT
    expected = F.interpolate(x, scale_factor=factor, mode="bilinear")
    torch.testing.assert_close(y, expected)
    weights = torch.randn_like(y)
    ours, torchs = (torch.autograd.grad((v * weights).sum(), x)[0] for v in (y, expected))
    torch.testing.assert_close(ours, torchs)


def test_plain_undoes_what_tune_did():
    model = tiny()
    kinds = [type(m) for m in model.modules()]
    tune(model, FRONT)
    assert {ShiftedConv1d, ShiftedConv2d} <= {type(m) for m in model.modules()}
    assert [type(m) for m in plain(model).modules()] == kinds
    assert not any({"forward", "fuse"} & vars(m).keys() for m in model.modules())


def test_a_twin_shares_what_is_learnt_and_nothing_else():
    model = tiny()
    other = twin(model)
    assert [id(p) for p in other.parameters()] == [id(p) for p in model.parameters()]
    assert [id(b) for b in other.buffers()] == [id(b) for b in model.buffers()]
    tune(other, FRONT).train()
    model.eval()
    assert model.stem is not other.stem and not any(isinstance(m, ShiftedConv2d) for m in model.modules())


def test_a_replay_reads_new_inputs_and_its_results_are_the_same_tensors():
    calls = []

    def function(x, y):
        calls.append(len(x))
        return [x * y, None]

    recorded = Recorded(function, Repeat)
    for k in range(WARM_UP + 3):
        (product, nothing), last = recorded(torch.full((2,), float(k)), torch.tensor(3.0)), locals().get("product")
        assert product.tolist() == [3.0 * k] * 2 and nothing is None
        assert (product is last) == (k > WARM_UP)
    assert recorded(torch.ones(5), torch.tensor(2.0))[0].tolist() == [2.0] * 5  # another shape is another graph
    assert len(recorded.graphs) == 1


def test_where_nothing_can_be_recorded_the_step_is_computed_as_it_is():
    class Refuses(Repeat):
        def replay(self):
            raise RuntimeError("operation not permitted when stream is capturing")

    recorded = Recorded(lambda x: [2 * x], Refuses)
    for k in range(WARM_UP):
        assert recorded(torch.tensor(float(k)))[0] == 2 * k
    with pytest.warns(UserWarning, match="could not be recorded and runs without a CUDA graph: operation not permitted"):
        assert recorded(torch.tensor(7.0))[0] == 14
    assert recorded(torch.tensor(8.0))[0] == 16


@pytest.mark.parametrize("parts", [1, 2])
def test_recorded_steps_train_as_plain_ones(parts):
    """Losses are kept over steps, gradients set to None between them and summed over a step's parts, rates and heat change."""
    make = lambda: tiny(dynamic="dynamic", widths=(8, 16, 32, 64)).double()  # noqa: E731
    a, b = make(), make()
    assert any(isinstance(m, DyConv) for m in a.modules())
    optimizers = [torch.optim.Adam(m.parameters(), lr=1e-3) for m in (a, b)]
    fast = Backward(b, DIRECT, Repeat)
    losses = [[], []]
    for k in range(WARM_UP + 4):
        for model, optimizer, backward, kept in zip((a, b), optimizers, (training_step.backward, fast), losses, strict=True):
            model.train()
            set_temperature(model, k, 8)
            optimizer.param_groups[0]["lr"] = 1e-3 / (k + 1)
            optimizer.zero_grad(set_to_none=True)
            for part in range(parts):
                given = tuple(t.double() for t in batch(seed=k * parts + part))
                kept.append(backward(model, given, 0.5, (1 + part) / 3))
            optimizer.step()
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-6, atol=0)
    torch.testing.assert_close(b.state_dict(), a.state_dict(), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("mode", ["reference", "tuned"])
def test_what_a_measurement_calls(mode):
    model = tiny().double()
    before = copy.deepcopy(model).eval()
    train_step, infer = prepare(model, mode, "cpu", replace(FRONT, regions="none"))
    crops, targets, weights = (t.double() for t in batch())
    torch.testing.assert_close(infer(crops), before(crops).float())
    losses = [float(train_step(crops, targets, weights)) for _ in range(WARM_UP + 5)]
    assert losses[-1] < losses[0]
    torch.testing.assert_close(infer(crops), copy.deepcopy(model).eval()(crops).float())  # it has seen them
    assert infer(crops).dtype is torch.float32 and not infer(crops).requires_grad


def test_compiled_inference_is_the_networks():
    model = tiny().double().eval()
    crops = batch()[0].double()
    torch.testing.assert_close(Inference(model, FRONT, Repeat)(crops), model(crops).float())


def test_on_a_gpu_use_is_by_the_reference(monkeypatch):
    """What is asked for and not there is refused, instead of something slower in its place."""
    monkeypatch.setattr(backend, "_on_gpu", lambda model: True)
    with pytest.raises(MdwError, match="on GPUs the tuned backend is for training alone; give --backend auto or ref"):
        backend.for_use(tiny(), "tuned")
    model = tiny().train()
    assert backend.for_use(model, backend.choose("auto", "cuda")) is model and not model.training


def test_unknown_settings_are_a_sentence():
    with pytest.raises(MdwError, match="regions is 'all'; use one of 'repeated', 'whole', 'none'"):
        Settings(regions="all")
    with pytest.raises(MdwError, match="mode is 'fast'"):
        prepare(tiny(), "fast", "cpu")
    with pytest.raises(MdwError, match="precision"):
        replace(recipes.smoke(), precision="half")


def test_bfloat16_is_part_of_the_question_and_trains(tmp_path, precisions):
    plainly, half = (runs.make_spec("small_hrnet", replace(recipes.smoke(), precision=p)) for p in ("float32", "bfloat16"))
    assert runs.identity(plainly) == runs.identity(runs.make_spec("small_hrnet", recipes.smoke()))
    assert runs.identity(half) != runs.identity(plainly)
    for spec, wanted in ((plainly, torch.float32), (half, torch.bfloat16)):
        precisions.clear()
        run = train(spec, runs_root=tmp_path, device="cpu", quiet=True)
        assert run.status == "finished" and precisions == {wanted}
        assert {t.dtype for t in load_network(run.path)[0].parameters()} == {torch.float32}


def test_a_run_stops_when_its_time_is_over_and_goes_on(tmp_path):
    spec = runs.make_spec("small_hrnet", recipes.smoke())
    whole = train(spec, runs_root=tmp_path / "whole", device="cpu", quiet=True)
    parts = {"runs_root": tmp_path / "parts", "device": "cpu", "quiet": True}
    for step in (1, 2):
        with pytest.raises(
            OutOfTime, match=rf"stopped \(time\) and saved in epoch 1, step {step} of 2; the same command goes on"
        ):
            train(spec, **parts, stop_after=0)
    run = train(spec, **parts, stop_after=1000)
    assert [line["loss"] for line in run.metrics()] == [line["loss"] for line in whole.metrics()]
    assert json.loads((run.path / "result.json").read_text())["AP"] == whole.result["AP"]
