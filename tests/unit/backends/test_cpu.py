"""Does the tuned backend give what the networks as written give, to float32's rounding? Judged by double precision."""

import copy
import platform
import subprocess
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from small_networks import small
from torch import nn

import mdw
from mdw.backends.choose import choose
from mdw.backends.cpu import library, plain, tune
from mdw.backends.cpu.inference import for_inference
from mdw.backends.cpu.modules import REPLACED
from mdw.backends.cpu.ops import Attend, DepthwiseNorm, Fuse, Interleave, Norm, Part, Pointwise, Split, Spread, pointwise
from mdw.backends.cpu.units import FusedUnit
from mdw.models.context import GCM_C, GCM_S
from mdw.models.dynamic_conv import CrossChannelDynamicConv, mix_kernels
from mdw.models.layers import shuffle
from mdw.models.mdw_module import MDWModule
from mdw.util.errors import MdwError
from mdw.util.files import cache_folder

pytestmark = pytest.mark.skipif(not library.available(), reason="no C compiler here, so there is no tuned backend")

BIG = {"mdw_hrnet_30", "lite_hrnet_30", "dite_hrnet_30", "hrnet_w32", "hrnet_w48", "simple_baseline_101", "simple_baseline_152"}
OPTIONS = [
    ("mdw_hrnet_18", options)
    for options in (
        {"cdc": False},
        {"gcm_s": False},
        {"gcm_c": False},
        {"cdc": False, "gcm_s": False, "gcm_c": False},
        {"attention": "line"},
        {"attention": "scalar"},
        {"attention_kernel": 9, "kernels": 2},
        {"order": "channel_first"},
        {"order": "parallel"},
        {"gate": "double"},
        {"gate": "norm"},
        {"gate_start": "one"},
        {"gate_start": "one", "gate": "norm"},
        {"gate_start": "one", "order": "parallel"},
        {"gate_start": "one", "dense_spatial": False, "stem_gcm": True},
        {"attention": "constant"},
        {"attention": "constant", "kernels": 2, "dynamic_stem": True},
        {"down": "3x3"},
        {"down": "single"},
        {"dynamic": "condconv"},
        {"dynamic": "dynamic"},
        {"dynamic": "odconv"},
        {"context": "se"},
        {"context": "eca"},
        {"context": "gc"},
        {"context": "psa"},
        {"head": "highest"},
        {"double_first": True},
        {"dense_spatial": False, "spatial_relu": True},
        {"norm": "group", "conv_relu": True},
        {"dynamic_stem": True, "stem_gcm": True},
    )
] + [(name, {"mode": "as_described"}) for name in ("lite_hrnet_18", "dite_hrnet_18", "naive_lite_hrnet_18")]


def error(value: torch.Tensor, truth: torch.Tensor, scale: float = 1e-12) -> float:
    return float((value.double() - truth).norm() / truth.norm().clamp(min=scale))


def close(tuned: torch.Tensor, single: torch.Tensor, double: torch.Tensor, what: str, times=3, floor=2e-6, scale=1e-12) -> None:
    """Tuned may be off double precision by `times` what the same in single precision is, and by `floor` of its norm.

    What is smaller than `scale` is held against that: a sum that cancels to nearly nothing is rounding and no more.
    """
    off, limit = error(tuned, double, scale), times * error(single, double, scale) + floor
    assert off <= limit, f"{what}: off by {off:.1e}, allowed {limit:.1e}"


def network(name: str, make=mdw.create_model, **options) -> nn.Module:
    """Fresh weights that keep the size of signals and gradients, and few sums near zero, where a ReLU has its kink."""
    torch.manual_seed(0)
    model = make(name, **options)
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.2, 0.4)
            with torch.no_grad():
                module.bias.copy_(torch.where(torch.rand(module.num_features) < 0.75, 3.0, -1.1))
    return model


def step(model: nn.Module, batch, seen=lambda name, gradient: None) -> dict[str, torch.Tensor]:
    """One training step's maps, loss and running statistics. `seen` is told each parameter's gradient, which is not kept."""

    def tell(parameter, name):
        gradient, parameter.grad = parameter.grad, None
        seen(name, gradient)

    handles = [p.register_post_accumulate_grad_hook(partial(tell, name=name)) for name, p in model.named_parameters()]
    crops, targets = (t.to(next(model.parameters()).dtype) for t in batch)
    maps = model.train()(crops)
    loss = (maps - targets).square().mean()
    loss.backward()
    for handle in handles:
        handle.remove()
    running = torch.cat([b.flatten() for name, b in model.named_buffers() if "running" in name])
    return {"maps": maps.detach(), "loss": loss.detach(), "running statistics": running}


def check(model: nn.Module, what: str) -> None:
    """A training step and a forward pass in evaluation mode, in double precision and in single.

    In double precision, for which the same kernels are compiled, rounding can hide no mistake: everything is equal to 1e-8 of
    its norm, a parameter's gradient to 1e-7, with what is below a millionth of the whole gradient held against that. In single
    precision a sum that rounding moves over a ReLU's kink changes gradients by far more than rounding, in plain torch as well;
    there the maps, the loss and the statistics are compared, by the limits of `close`.

    One network takes all forms in turn, and gradients are compared as they come: the largest would not fit in memory twice.
    """
    torch.manual_seed(0)
    batch = torch.randn(4, 3, 64, 64), torch.rand(4, 17, 16, 16)
    fresh = {name: b.clone() for name, b in model.named_buffers()}

    def begin_anew() -> nn.Module:
        for name, buffer in model.named_buffers():
            buffer.copy_(fresh[name])
        return model

    def evaluated() -> torch.Tensor:
        with torch.no_grad():
            return model.eval()(batch[0].to(next(model.parameters()).dtype))

    single, maps = step(model, batch), {}
    for way, turn in (("single", plain), ("tuned", tune), ("tuned double", nn.Module.double), ("double", plain)):
        turn(model)
        maps[way] = evaluated()

    truth: dict[str, torch.Tensor] = {}
    double = step(begin_anew(), batch, truth.__setitem__)
    whole = float(torch.stack([g.norm() for g in truth.values()]).norm())
    met, off_whole = set(), []

    def compare(name, gradient):
        met.add(name)
        off_whole.append((gradient - truth[name]).norm() / whole)
        off = error(gradient, truth[name], 1e-6 * whole)
        assert off <= 1e-7, f"{what}: the gradient of {name} is off by {off:.1e} in double precision"

    tuned = step(tune(begin_anew()), batch, compare)
    assert met == truth.keys()
    offs = {part: error(value, double[part]) for part, value in tuned.items()}
    offs |= {"gradients": float(torch.stack(off_whole).norm()), "maps as used": error(maps["tuned double"], maps["double"])}
    assert max(offs.values()) <= 1e-8, f"{what}: off in double precision by {offs}"
    close(maps["tuned"], maps["single"], maps["double"], f"{what}: evaluation mode", times=10)
    fast = step(begin_anew().float(), batch)
    for part, value in fast.items():
        close(value, single[part], double[part], f"{what}: {part}", times=10)


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n in BIG)) for n in mdw.list_models()])
def test_every_network(name):
    check(network(name), name)


FAST = (
    *({"cdc": False, "gcm_s": False, "gcm_c": False}, {"double_first": True}, {"gate": "norm"}, {"order": "parallel"}),
    *({"gate_start": "one"}, {"attention": "constant"}),
)


@pytest.mark.parametrize(
    "name, options",
    [pytest.param(n, o, marks=[pytest.mark.slow] * (o not in FAST), id=f"{n}-{o}") for n, o in OPTIONS],
)
def test_every_ablation(name, options):
    check(network(name, small, **options), f"{name} {options}")


FOLDED = [(name, {}) for name in mdw.list_models() if name not in BIG] + OPTIONS


@pytest.mark.parametrize("name, options", FOLDED, ids=[f"{n}-{o}" for n, o in FOLDED])
def test_a_copy_with_folded_norms_gives_the_same_maps(name, options):
    """By the kernels and, while a graph is kept, without them; in double precision, where nothing is rounding, to 1e-9."""
    model = network(name, small if options else mdw.create_model, **options)
    with torch.no_grad():
        for _ in range(3):
            model.train()(torch.randn(4, 3, 64, 64) * 2 + 1)  # statistics that are not those of a new network
    before = {key: value.clone() for key, value in model.state_dict().items()}
    folded, double = for_inference(model), copy.deepcopy(model).double().eval().requires_grad_(False)
    assert (
        all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
        and type(model) not in REPLACED.values()
    )
    assert not any(p.requires_grad for p in folded.parameters())
    x = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        single, truth = model.eval()(x), double(x.double())
        close(folded(x), single, truth, "maps", floor=1e-5)
        close(folded(x[:1]), single[:1], truth[:1], "maps of one image", floor=1e-5)
    exact = for_inference(double)
    seen, wanted = x.double().requires_grad_(), x.double().requires_grad_()
    assert error(exact(x.double()), truth) < 1e-9 and error(exact(seen).detach(), truth) < 1e-9
    exact(seen).square().sum().backward()
    double(wanted).square().sum().backward()
    assert error(seen.grad, wanted.grad) < 1e-7


@pytest.mark.parametrize(
    "name, options, fused",
    [
        ("mdw_hrnet_18", {}, 16),
        ("mdw_hrnet_18", {"gate_start": "one", "attention": "constant"}, 16),
        ("mdw_hrnet_18", {"gate": "norm"}, 0),
        ("lite_hrnet_18", {}, 16),
        ("dite_hrnet_18", {}, 0),
    ],
)
def test_units_that_are_one_call(name, options, fused):
    """Each unit of MDW and Lite is; a copy, other precisions and other images in between do not disturb it."""
    model = for_inference(network(name, **options))
    assert sum(isinstance(module, FusedUnit) for module in model.modules()) == fused
    x = torch.randn(5, 3, 64, 96)
    with torch.no_grad():
        wanted = model(x)
        other = copy.deepcopy(model)
        for parameter in model.parameters():
            parameter.zero_()
        del model
        assert torch.equal(other(x), wanted)
        assert other.double()(x.double()).dtype is torch.float64
        assert error(other(x.double()), wanted.double()) < 1e-3
        assert torch.equal(other.float()(x), wanted)
        one_by_one = torch.cat([other(one[None]) for one in x])
        assert error(one_by_one, wanted.double()) < 1e-5


@pytest.mark.parametrize("spatial, channel", [("half", "half"), ("one", "half"), ("half", "one"), ("", "one"), ("one", "")])
@pytest.mark.parametrize("kernel_sizes", [[(3,), (3, 5, 7)], [(5, 3), (7, 7, 3)]])
def test_a_unit_on_branches_of_odd_sizes(kernel_sizes, spatial, channel):
    """Maps that fill no vector, parts of unequal width, norms with statistics; for one image and for many; to 1e-12."""
    torch.manual_seed(0)
    unit = MDWModule(
        [22, 40],
        CrossChannelDynamicConv,
        partial(GCM_S, ratio=4, gate_start=spatial) if spatial else None,
        partial(GCM_C, gate_start=channel) if channel else None,
        kernel_sizes,
        [4, 4],
        "spatial_first",
        True,
    ).double()
    for module in unit.modules():
        if isinstance(module, nn.BatchNorm2d | nn.LayerNorm):
            nn.init.normal_(module.weight), nn.init.normal_(module.bias)
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean), nn.init.uniform_(module.running_var, 0.5, 2)
    fused = for_inference(nn.Sequential(unit.eval()))
    assert isinstance(fused[0], FusedUnit)
    for images in (1, 2, 6):
        xs = [torch.randn(images, 22, 6, 10).double(), torch.randn(images, 40, 3, 5).double()]
        with torch.no_grad():
            for found, wanted in zip(fused(xs), unit(xs), strict=True):
                assert error(found, wanted) < 1e-12


def same(fast, slow, *inputs: torch.Tensor, layout=lambda x: x, floor=2e-6) -> None:
    """`fast` in single precision against `slow` in both: values and every gradient. `layout` places the first input.

    Nothing that a function is given changes, neither its inputs nor the gradients of its outputs: others may read those too.
    """
    found = {}
    for way, function, dtype in (("tuned", fast, None), ("single", slow, None), ("double", slow, torch.float64)):
        leaves = [x.detach().clone().to(dtype or x.dtype).requires_grad_() for x in inputs]
        outputs = function(layout(leaves[0]), *leaves[1:])
        outputs = [y for y in (outputs if isinstance(outputs, tuple | list) else [outputs]) if y is not None]
        weights = [torch.randn(y.shape, generator=torch.Generator().manual_seed(k)) for k, y in enumerate(outputs)]
        graded = [(y, w.to(y.dtype)) for y, w in zip(outputs, weights, strict=True) if y.requires_grad]
        given = [x.detach().clone() for x in (*leaves, *(w for _, w in graded))]
        gradients = torch.autograd.grad([y for y, _ in graded], leaves, [w for _, w in graded])
        assert all(map(torch.equal, given, (*leaves, *(w for _, w in graded)))), f"{way}: what was given has changed"
        found[way] = [*outputs, *gradients]
    for k, (tuned, single, double) in enumerate(zip(found["tuned"], found["single"], found["double"], strict=True)):
        assert tuned.shape == double.shape
        close(tuned.detach(), single.detach(), double.detach(), f"result {k}", floor=floor)


def half(x: torch.Tensor) -> torch.Tensor:
    """x where it lies in the networks: the second half of the channels of a larger map."""
    return torch.cat([x, x], dim=1).chunk(2, dim=1)[1]


SHAPES = [(1, 1), (2, 2), (5, 3), (4, 8), (33, 17), (16, 40)]


def normed(y, gamma, beta, relu, eps=0.1):  # an eps that counts: else one tap before a norm has no gradient but rounding
    if gamma is not None:
        y = F.batch_norm(y, None, None, gamma, beta, True, 0.0, eps)
    return torch.relu(y) if relu else y


def both(gated: bool, stride: int, padding: int, relu: bool):
    """The kernel and plain torch, as functions of x, bank[, gates][, gamma, beta]."""

    def parts(rest):
        g, affine = (rest[0], rest[1:]) if gated else (None, rest)
        return g, *(affine or (None, None))

    def fast(x, bank, *rest):
        return DepthwiseNorm.apply(x, stride, (padding,), 0.1, relu, *Part(bank, *parts(rest)))[0]

    def slow(x, bank, *rest):
        g, gamma, beta = parts(rest)
        g = x.new_ones(len(x), 1, 1) if g is None else g
        y = mix_kernels(x, bank.unsqueeze(2), g, groups=x.shape[1], stride=stride, padding=padding)
        return normed(y, gamma, beta, relu)

    return fast, slow


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [1, 2, 3, 5, 7])
@pytest.mark.parametrize("n", [1, 4])
def test_depthwise_convolution_with_its_norm(n, size, stride):
    """Kernels of every size on planes of every size: gates or none, a norm or none, a ReLU or none, whole maps and halves."""
    torch.manual_seed(0)
    padding = (size - 1) // 2
    for k, (height, width) in enumerate(SHAPES):
        if min(height, width) + 2 * padding < size:
            continue
        for relu, norm in ((False, False), (False, True), (True, True)):
            N, C = 3, 5
            x, bank = torch.randn(N, C, height, width), torch.randn(n, C, size, size)
            gates = [torch.rand(N, n, C)] if n > 1 else []
            affine = [torch.rand(C) + 0.5, torch.randn(C)] if norm else []

            same(*both(gates != [], stride, padding, relu), x, bank, *gates, *affine, layout=half if k % 2 else lambda x: x)


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("size", [3, 5, 7, 9])
def test_depthwise_convolution_of_more_channels_than_lanes(size, relu):
    """37 channels fill no whole number of vectors; planes small enough for channels in lanes, the largest such, and beyond."""
    torch.manual_seed(0)
    for height, width in ((1, 1), (4, 3), (8, 6), (16, 16), (20, 18)):
        x, bank, gates = torch.randn(3, 37, height, width), torch.randn(2, 37, size, size), torch.rand(3, 2, 37)
        affine = torch.rand(37) + 0.5, torch.randn(37)
        same(*both(True, 1, size // 2, relu), x, bank, gates, *affine, layout=half)
    same(*both(False, 1, size // 2, False), torch.randn(2, 37, 8, 6), torch.randn(1, 37, size, size))


@pytest.mark.parametrize("shape", [(4, 3), (20, 18), (33, 17)])
@pytest.mark.parametrize("relu", [False, True])
def test_convolutions_of_several_sizes_with_their_shuffle(shape, relu):
    """Parts of unequal width, one static, one gated from outside, one by Eq. 5: values and gradients of the parts as written.

    In double precision: Eq. 5's gradients are sums that nearly cancel, whose rounding says nothing.
    """
    torch.manual_seed(0)
    widths, sizes = (14, 13, 13), (3, 5, 7)
    x, along, to = torch.randn(3, sum(widths), *shape) + 1, torch.randn(3), torch.randn(2, 3)
    banks = [torch.randn(n, c, k, k) for n, c, k in zip((1, 3, 2), widths, sizes, strict=True)]
    affine = [t for c in widths for t in (torch.rand(c) + 0.5, torch.randn(c))]
    gates = torch.rand(3, 3, 13)

    def fast(x, first, second, third, gates, along, to, *affine):
        parts = Part(first, None, *affine[:2]), Part(second, gates, *affine[2:4]), Part(third, None, *affine[4:], along, to)
        return DepthwiseNorm.apply(x, 1, (1, 2, 3), 0.1, relu, *(t for part in parts for t in part))[0]

    def slow(x, first, second, third, gates, along, to, *affine):
        a, b, c = x.split(widths, dim=1)
        line = F.conv1d(c.mean((2, 3)).unsqueeze(1), along.view(1, 1, -1), padding=1)
        eq5 = torch.sigmoid(F.conv1d(line, to.unsqueeze(1), padding=1))
        trio = (a, first, x.new_ones(3, 1, 1)), (b, second, gates), (c, third, eq5)
        ys = [mix_kernels(v, w.unsqueeze(2), g, groups=v.shape[1], padding=w.shape[-1] // 2) for v, w, g in trio]
        return shuffle([normed(y, *affine[2 * i : 2 * i + 2], relu) for i, y in enumerate(ys)])

    inputs = (x, *banks, gates, along, to, *affine)
    same(fast, slow, *(t.double() for t in inputs), layout=half, floor=1e-12)


@pytest.mark.parametrize("kernel", [1, 3, 9])
def test_gates_from_the_line_of_channels(kernel):
    """Eq. 5 within the kernel, against the module."""
    from mdw.models.dynamic_conv import CrossChannelDynamicConv

    torch.manual_seed(0)
    conv = CrossChannelDynamicConv(7, 3, attention_kernel=kernel)
    x = torch.randn(3, 7, 9, 5) + 1
    along, to = conv.attention.along_channels.weight.detach(), conv.attention.to_kernels.weight.detach()

    def fast(x, bank, along, to):
        return DepthwiseNorm.apply(x, 1, (1,), 1e-5, False, *Part(bank, along=along.flatten(), to=to.flatten(1)))[0]

    def slow(x, bank, along, to):
        pooled = x.mean((2, 3)).unsqueeze(1)
        gates = torch.sigmoid(F.conv1d(F.conv1d(pooled, along, padding=kernel // 2), to, padding=1))
        return mix_kernels(x, bank.unsqueeze(2), gates, groups=7, stride=1, padding=1)

    same(fast, slow, x, conv.weight.detach(), along, to, layout=half)


@pytest.mark.parametrize("shape", [(3, 5, 1, 2), (3, 5, 5, 3), (2, 6, 33, 17)])
@pytest.mark.parametrize("relu", [False, True])
def test_norm(shape, relu):
    torch.manual_seed(0)
    x, gamma, beta = 3 * torch.randn(shape) + 2, torch.rand(shape[1]) + 0.5, torch.randn(shape[1])
    same(lambda x, g, b: Norm.apply(x, g, b, 0.1, relu)[0], lambda x, g, b: normed(x, g, b, relu), x, gamma, beta, layout=half)
    _, mean, variance = Norm.apply(x, gamma, beta, 1e-5, relu)
    assert torch.allclose(mean, x.mean((0, 2, 3)), atol=1e-5)
    assert torch.allclose(variance, x.var((0, 2, 3), correction=0), rtol=1e-4)


def enlarged(x: torch.Tensor, size, mode: str) -> torch.Tensor:
    if mode == "nearest":
        return F.interpolate(x, size=size, mode="nearest")
    return F.interpolate(x, size=size, mode="bilinear", align_corners=mode == "corners")


@pytest.mark.parametrize("mode", ["nearest", "bilinear", "corners"])
@pytest.mark.parametrize("small", [(1, 1), (2, 3), (5, 3), (8, 6)])
def test_fusion_sum_and_spread_gates(mode, small):
    torch.manual_seed(0)
    (h, w), factors = small, (1, 2, 4, 8)
    height, width = 8 * h, 8 * w
    full = [torch.randn(3, 5, height, width) for _ in range(2)]
    low = [torch.randn(3, 5, height // f, width // f) for f in factors[1:]]
    for relu in (False, True):
        for times in (1.0, 2.0):

            def slow(a, b, *low, times=times, relu=relu):
                y = times * a + b + sum(enlarged(x, (height, width), mode) for x in low)
                return torch.relu(y) if relu else y

            same(lambda *xs, t=times, r=relu: Fuse.apply(t, r, mode, 2, *xs), slow, *full, *low)
    for factor in factors:
        x, gates = torch.randn(3, 5, h * factor, w * factor), torch.rand(3, 5, h, w)
        product = lambda x, g, f=factor: x * enlarged(g, (h * f, w * f), mode)  # noqa: E731
        same(lambda x, g: Spread.apply(x, g, mode), product, x, gates, layout=half)


@pytest.mark.parametrize("small", [(1, 1), (2, 3), (5, 3), (8, 6)])
def test_head_with_aligned_corners(small):
    """As Lite- and Dite-HRNet's heads enlarge: by 2."""
    torch.manual_seed(0)
    size = 2 * small[0], 2 * small[1]
    slow = lambda a, low: a + enlarged(low, size, "corners")  # noqa: E731
    same(lambda a, low: Fuse.apply(1.0, False, "corners", 1, a, low), slow, torch.randn(3, 5, *size), torch.randn(3, 5, *small))


@pytest.mark.parametrize("shape", [(1, 1), (5, 3), (4, 4), (8, 13), (16, 16)])
@pytest.mark.parametrize("channels", [(3, 1), (5, 7), (40, 20)])
def test_pointwise_convolution(channels, shape):
    """Tiles of every height and width: with gradients, and for inference with a bias, a ReLU and what is not a number."""
    torch.manual_seed(0)
    (inputs, outputs), x = channels, torch.randn(3, channels[0], *shape)
    weight, bias = torch.randn(outputs, inputs, 1, 1), torch.randn(outputs)
    same(lambda x, w: Pointwise.apply(x, w, None), lambda x, w: F.conv2d(x, w), x, weight, layout=half)
    same(Pointwise.apply, F.conv2d, x, weight, torch.randn(len(weight)), layout=half)
    for dtype in (torch.float32, torch.float64):
        given = half(x.to(dtype)), weight.to(dtype), bias.to(dtype)
        wanted = F.conv2d(*(t.double() for t in given))
        assert error(pointwise(*given), wanted) < 1e-6 and error(pointwise(*given, True), wanted.relu()) < 1e-6
        given[0][1, 0, 0, 0] = float("nan")
        assert torch.equal(pointwise(*given, True).isnan(), F.conv2d(*given).relu().isnan())


@pytest.mark.parametrize("shape", [(1, 1), (5, 3), (33, 17)])
def test_weighted_sum_over_positions(shape):
    torch.manual_seed(0)
    x, weight = torch.randn(3, 5, *shape), torch.randn(5)

    def slow(x, weight):
        where = torch.einsum("nchw,c->nhw", x, weight).flatten(1).softmax(1)
        return x, torch.einsum("ncp,np->nc", x.flatten(2), where)

    same(lambda x, w: Attend.apply(x, w), slow, x, weight, layout=half)


def test_a_gradient_that_another_tensor_shares():
    """A sum hands one gradient to both of its terms: what the kernel does to its own must not reach the other's."""
    torch.manual_seed(0)
    x, other = (torch.randn(2, 3, 4, 5, dtype=torch.float64, requires_grad=True) for _ in range(2))
    first = other * 1  # older in the graph, so its turn comes after the kernel's
    y, context = Attend.apply(x * 1, torch.randn(3, dtype=torch.float64))
    given = torch.randn_like(y)
    found, _ = torch.autograd.grad([y + first, context], [other, x], [given.clone(), torch.randn_like(context)])
    assert torch.equal(found, given)


@pytest.mark.parametrize("factor", [0, 1, 2, 4])
def test_halves_and_their_means(factor):
    torch.manual_seed(0)

    def slow(x):
        kept, worked = x.chunk(2, dim=1)
        return kept, worked, *([F.avg_pool2d(worked, factor)] if factor else [])

    same(lambda x: Split.apply(x, factor), slow, torch.randn(3, 10, 12, 8))


@pytest.mark.parametrize("gated", [False, True])
def test_interleaving(gated):
    torch.manual_seed(0)
    kept, x, gates = torch.randn(3, 5, 7, 3), torch.randn(3, 5, 7, 3), torch.rand(3, 5)
    slow = lambda kept, x, *g: shuffle([kept, x * g[0][:, :, None, None] if g else x])  # noqa: E731
    same(
        lambda kept, x, *g: Interleave.apply(kept, x, g[0] if g else None),
        slow,
        kept,
        x,
        *([gates] if gated else []),
        layout=half,
    )


@pytest.mark.parametrize("kernel", ["norm", "fusion"])
def test_a_relu_does_not_hide_what_is_not_a_number(kernel):
    """As torch's: a run that diverges has to show it in its loss."""
    x = torch.full((2, 3, 4, 4), float("nan"))
    y = (
        Norm.apply(x, torch.ones(3), torch.zeros(3), 1e-5, True)[0]
        if kernel == "norm"
        else Fuse.apply(1.0, True, "bilinear", 1, x)
    )
    assert y.isnan().all()


def test_a_tuned_network_keeps_its_state_and_can_be_undone():
    model = network("mdw_hrnet_18")
    before, classes = copy.deepcopy(model.state_dict()), [type(m) for m in model.modules()]
    crops = torch.randn(2, 3, 64, 64)
    torch.manual_seed(3)
    expected = copy.deepcopy(model)(crops)
    tune(model)
    assert any(type(m) in REPLACED.values() for m in model.modules())
    assert list(before) == list(model.state_dict())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert isinstance(tune(model), nn.Module) and [type(m) for m in plain(model).modules()] == classes  # twice is once
    assert torch.equal(model(crops), expected)


def test_what_the_kernels_cannot_take_goes_the_ordinary_way():
    model = tune(network("mdw_hrnet_18")).bfloat16()
    crops = torch.randn(2, 3, 64, 64, dtype=torch.bfloat16)
    assert torch.equal(model(crops), plain(copy.deepcopy(model))(crops))


@pytest.mark.parametrize("threads", [1, 2])
def test_it_repeats_to_the_bit(threads):
    before, results = torch.get_num_threads(), []
    torch.set_num_threads(threads)
    try:
        for _ in range(2):
            model = tune(network("mdw_hrnet_18"))
            torch.manual_seed(5)
            gradients: dict[str, torch.Tensor] = {}
            batch = torch.randn(3, 3, 64, 64), torch.rand(3, 17, 16, 16)
            results.append(step(model, batch, gradients.__setitem__) | gradients)
    finally:
        torch.set_num_threads(before)
    for name, value in results[0].items():
        assert torch.equal(value, results[1][name]), name


@pytest.fixture
def fresh_kernels():
    """The kernels are looked for anew, by this test and by the next."""
    library.kernels.cache_clear()
    yield
    library.kernels.cache_clear()


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="the flags are those of an x86-64 processor")
def test_the_kernels_of_a_plain_processor(fresh_kernels, monkeypatch, tmp_path):
    """Without wide vectors and fused multiply-adds, both of which change how sums are rounded, they compute the same network.

    `MDW_CFLAGS=-march=x86-64 pytest tests/unit/backends/test_cpu.py` asks all tests of this file so.
    """
    commands, run = [], subprocess.run
    monkeypatch.setattr(subprocess, "run", lambda command, **rest: (commands.append(command), run(command, **rest))[1])
    monkeypatch.setenv("MDW_CACHE", str(tmp_path))
    monkeypatch.setenv("MDW_CFLAGS", "-march=x86-64")
    check(network("mdw_hrnet_18", small, units=1), "mdw_hrnet_18")
    compiled = [command for command in commands if "-shared" in command]
    assert len(compiled) == len(list(tmp_path.glob("*.so"))) == 2  # for each precision
    assert all([flag for flag in command if flag.startswith("-march")][-1] == "-march=x86-64" for command in compiled)
    library.kernels.cache_clear()
    monkeypatch.setenv("MDW_CFLAGS", "-march=x86-64 --no-such-flag")
    with pytest.raises(MdwError, match="cannot compile.*no-such-flag.*mend MDW_CFLAGS"):
        choose("tuned", "cpu")


def test_without_a_compiler_one_sentence(fresh_kernels, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("MDW_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.delenv("MDW_CFLAGS", raising=False)
    with pytest.raises(MdwError, match="needs a C compiler and found none; install gcc or clang"):
        choose("tuned", "cpu")
    assert choose("auto", "cpu") == "reference"
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(MdwError, match="no-such-compiler"):
        choose("tuned", "cpu")
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\necho 'x.c:1: error: nothing works' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("CC", str(broken))
    with pytest.raises(MdwError, match="cannot compile.*nothing works"):
        choose("tuned", "cpu")
    assert choose("auto", "cpu") == "reference"


FAKE = """#!/bin/sh
case "$*" in *--version*) echo fake 1.0; exit;; esac
echo x >> "$0.log"
while [ "$1" != -o ]; do shift; done
printf 'not a library' > "$2"
"""


@pytest.fixture
def compiler(fresh_kernels, monkeypatch, tmp_path):
    """A compiler that notes in compiler.log how often it is called and makes something that cannot be loaded."""
    path = tmp_path / "compiler"
    path.write_text(FAKE)
    path.chmod(0o755)
    monkeypatch.setenv("CC", str(path))
    monkeypatch.setenv("MDW_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("MDW_CFLAGS", raising=False)
    return path


def test_a_damaged_library_is_never_loaded_but_made_anew(compiler, tmp_path):
    built = library.compiled()
    assert library.compiled() == built and built.read_bytes() == b"not a library"
    for damage in (b"", b"not a lib", bytes(13), b"not a libraru"):
        built.write_bytes(damage)
        assert library.compiled() == built and built.read_bytes() == b"not a library"
    assert len((tmp_path / "compiler.log").read_text().split()) == 5
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [built.name]


def test_why_the_slower_computation_runs_is_said_once(compiler, capfd):
    """What cannot be loaded, as from a disk mounted noexec, is a sentence and no silence."""
    with pytest.raises(MdwError, match="cannot be loaded.*MDW_CACHE"):
        library.kernels()
    library._warn_once.cache_clear()
    assert choose("auto", "cpu") == choose("auto", "cpu") == "reference"
    told = capfd.readouterr().err
    assert told.count("computed by the reference mode, which is slower: the compiled kernels") == 1


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("env LC_ALL=C {}", None),
        ("{} -m64", None),
        ("no-such-cache {}", "CC names 'no-such-cache'"),
        ('{} "', "cannot be split"),
        ("true", "true cannot compile"),
        ("/", "CC names '/'"),
    ],
)
def test_a_compiler_may_have_arguments(compiler, monkeypatch, command, said):
    monkeypatch.setenv("CC", command.format(compiler))
    if said is None:
        assert library.compiled().exists()
        return
    with pytest.raises(MdwError, match=said):
        library.compiled()


def test_what_a_compiler_says_need_not_be_utf_8(compiler):
    compiler.write_text("#!/bin/sh\nprintf 'x.c: error: \\351\\350 nix\\n' >&2\nexit 1\n")
    with pytest.raises(MdwError, match="error: .* nix"):
        library.compiled()
    compiler.write_bytes(b"\x7fELF, but no program")
    with pytest.raises(MdwError, match="cannot be started"):
        library.compiled()


def test_a_user_without_a_home_has_a_cache_of_this_process(monkeypatch):
    def home():
        raise RuntimeError("Could not determine home directory.")

    for name in ("MDW_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pathlib.Path.home", home)
    assert cache_folder() == cache_folder() and cache_folder().is_dir()


def test_the_words_for_a_computation():
    with pytest.raises(MdwError, match="there is no backend 'fast'; the backends are auto, reference, tuned"):
        choose("fast", "cpu")
    with pytest.raises(MdwError, match="not for meta"):
        choose("tuned", "meta")
    assert choose("auto", "meta") == choose("reference", "cpu") == "reference"
    assert choose("auto", "cpu") == "tuned"
