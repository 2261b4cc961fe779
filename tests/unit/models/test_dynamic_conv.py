"""Dynamic convolutions of Table 7 and the context modules that can stand in GCM_C's place."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from small_networks import loudly, without_gradient
from torch import nn

import mdw
from mdw.models.cond_conv import CondConv
from mdw.models.context import PSA, eca, gc, se
from mdw.models.dite_hrnet import DynamicKernels
from mdw.models.dy_conv import DyConv
from mdw.models.dynamic_conv import (
    ConstantAttention,
    CrossChannelDynamicConv,
    DynamicConv,
    mix_kernels,
    set_temperature,
    sum_of_convolutions,
    use_static_form,
)
from mdw.models.mdw_hrnet import mdw_hrnet
from mdw.models.od_conv import ODConv2d, depthwise_odconv
from mdw.util.errors import MdwError

CONSTANT = partial(CrossChannelDynamicConv, attention=ConstantAttention)
LEARNT = {"cdc": CrossChannelDynamicConv, "condconv": CondConv, "dynamic": DyConv, "odconv": depthwise_odconv}
DEPTHWISE = LEARNT | {"constant": CONSTANT}


def awake(module):
    """Parameters large enough for gates that differ from image to image."""
    torch.manual_seed(0)
    for p in module.parameters():
        nn.init.normal_(p, std=0.7)
    return module.eval()


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [3, 5])
@pytest.mark.parametrize("name", DEPTHWISE)
def test_static_form_is_the_same_function(name, size, stride):
    conv = awake(DEPTHWISE[name](10, size, stride))
    x = torch.randn(3, 10, 8, 6)
    mixed = conv(x)
    assert mixed.shape == (3, 10, 8 // stride, 6 // stride)
    torch.testing.assert_close(use_static_form(conv)(x), mixed, rtol=1e-4, atol=1e-5)
    alone = torch.cat([conv(image[None]) for image in x])  # every image has its own kernel, whoever is beside it
    torch.testing.assert_close(alone, mixed, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("make", [
    lambda: DynamicKernels(8, 12, 1),
    lambda: DynamicKernels(8, 8, 3, 2, groups=8, kernels=2),
    lambda: ODConv2d(8, 12, 3, 2, 1, groups=4),
    lambda: ODConv2d(8, 12, 3, 1, 2, dilation=2, kernel_num=1),
    lambda: ODConv2d(8, 12, 1),
    lambda: ODConv2d(8, 12, 1, kernel_num=1),
])  # fmt: skip
def test_static_form_is_the_same_function_for_dense_and_grouped_ones(make):
    conv, x = awake(make()), torch.randn(2, 8, 9, 7)
    torch.testing.assert_close(use_static_form(conv)(x), use_static_form(conv, False)(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", DEPTHWISE)
def test_every_parameter_learns_in_both_forms(name):
    for static in (False, True):
        conv = use_static_form(awake(DEPTHWISE[name](8, 3)).train(), static)
        conv(torch.randn(4, 8, 6, 6)).square().sum().backward()
        assert [n for n, p in conv.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []
        assert len({tuple(kernel.flatten().tolist()) for kernel in conv.weight.grad}) == (4 if name in LEARNT else 1)


@pytest.mark.parametrize(("kernels", "size", "stride"), [(4, 3, 1), (2, 5, 2), (1, 7, 1)])
def test_constant_gates_make_half_the_sum_of_the_bank(kernels, size, stride):
    """One kernel for every image, and what CDC itself computes as long as its attention says nothing."""
    conv, cdc = CONSTANT(6, size, stride, kernels=kernels), CrossChannelDynamicConv(6, size, stride, kernels=kernels)
    x = torch.randn(3, 6, 9, 7)
    expected = F.conv2d(x, 0.5 * conv.weight.sum(0).unsqueeze(1), stride=stride, padding=size // 2, groups=6)
    torch.testing.assert_close(conv(x), expected)
    assert [name for name, _ in conv.named_parameters()] == ["weight"]
    with torch.no_grad():
        cdc.weight.copy_(conv.weight)
        cdc.attention.to_kernels.weight.zero_()
    torch.testing.assert_close(cdc(x), expected)


def test_one_gate_for_all_channels_or_one_for_each():
    x, bank, gates = torch.randn(2, 6, 5, 5), torch.randn(4, 6, 1, 3, 3), torch.rand(2, 4, 1)
    geometry = {"groups": 6, "stride": 1, "padding": 1}
    one = mix_kernels(x, bank, gates, **geometry)
    torch.testing.assert_close(mix_kernels(x, bank, gates.expand(2, 4, 6), **geometry), one)
    torch.testing.assert_close(sum_of_convolutions(x, bank, gates, **geometry), one)
    kernel = (gates[0, :, 0, None, None, None, None] * bank).sum(0)
    torch.testing.assert_close(F.conv2d(x[:1], kernel, **geometry), one[:1])


def test_condconv_and_dynamic_conv_weight_as_their_papers_say():
    x = torch.randn(2, 8, 5, 5)
    conv = awake(CondConv(8))
    gates = conv.attention(x)
    expected = torch.sigmoid(x.mean((2, 3)) @ conv.attention.to_kernels.weight.T + conv.attention.to_kernels.bias)
    torch.testing.assert_close(gates[..., 0], expected)
    assert (conv.attention(100 * x).sum(1) - 1).abs().max() > 0.1  # sigmoid: the gates are not normalised
    torch.testing.assert_close(awake(DyConv(8)).attention(x).sum(1), torch.ones(2, 1))


def test_odconv_equals_a_loop_over_its_definition():
    conv, x = awake(ODConv2d(6, 4, 3, 1, 1, groups=2)), torch.randn(3, 6, 5, 5)
    conv.attention.temperature.fill_(2.5)
    a = conv.attention
    for n in range(3):
        z = F.relu(a.bn(a.fc(x[n : n + 1].mean((2, 3), keepdim=True))))
        channel, filters, spatial, kernel = (
            (head(z) / 2.5).flatten() for head in (a.channel_fc, a.filter_fc, a.spatial_fc, a.kernel_fc)
        )
        weight = torch.zeros(4, 3, 3, 3)
        for i, share in enumerate(torch.softmax(kernel, 0)):
            weight += share * torch.sigmoid(spatial).reshape(3, 3) * conv.weight[i]
        y = F.conv2d(x[n : n + 1] * torch.sigmoid(channel).reshape(1, 6, 1, 1), weight, padding=1, groups=2)
        torch.testing.assert_close(conv(x)[n : n + 1], y * torch.sigmoid(filters).reshape(1, 4, 1, 1), rtol=1e-4, atol=1e-5)


def test_odconv_has_the_official_parts_and_leaves_out_what_is_one():
    def heads(*args, **kwargs):
        return {name.split(".")[1] for name in ODConv2d(*args, **kwargs).state_dict() if name.startswith("attention.")}

    trunk = {"fc", "bn", "channel_fc"}
    assert heads(32, 64, 3) == trunk | {"filter_fc", "spatial_fc", "kernel_fc"}
    assert heads(32, 32, 3, groups=32) == trunk | {"spatial_fc", "kernel_fc"}
    assert heads(32, 64, 1) == trunk | {"filter_fc", "kernel_fc"}
    assert heads(32, 64, 3, kernel_num=1) == trunk | {"filter_fc", "spatial_fc"}
    assert ODConv2d(32, 64, 3, reduction=0.25).attention.fc.out_channels == 16  # the floor
    assert ODConv2d(512, 64, 3).attention.fc.out_channels == 32
    assert ODConv2d(32, 64, 3, groups=2).weight.shape == (4, 64, 16, 3, 3)


def test_temperature_falls_to_one_and_flattens_before():
    model = mdw.create_model("mdw_hrnet_18", dynamic="dynamic")
    hot = [m for m in model.modules() if hasattr(m, "temperature")]
    assert len(hot) == sum(isinstance(m, DynamicConv) for m in model.modules()) and all(m.temperature == 1 for m in hot)
    assert [set_temperature(model, epoch) for epoch in (0, 5, 10, 200)] == [30, 15.5, 1, 1]
    assert set_temperature(model, 0.5, epochs=1) == 15.5
    conv, x = awake(DyConv(8)), torch.randn(2, 8, 5, 5)
    sharp = conv.attention(x)
    set_temperature(conv, 0)
    assert (conv.attention(x) - 0.25).abs().max() < 0.1 < (sharp - 0.25).abs().max()


@pytest.mark.parametrize(("dynamic", "share"), [("condconv", 0.03), ("dynamic", 0.03), ("odconv", 0.11)])
def test_rows_of_table_7_cost_about_the_same(dynamic, share):
    # ODConv is 9 and 10 percent dearer: its trunk has at least 16 hidden units, whatever the reduction, on 20 to 80 channels
    for name, cdc in (("mdw_hrnet_18", 1_154_977), ("mdw_hrnet_30", 1_807_949)):
        other = sum(p.numel() for p in mdw.create_model(name, dynamic=dynamic).parameters())
        assert 0 < other / cdc - 1 < share


@pytest.mark.parametrize("options", [
    *({"dynamic": name} for name in ("condconv", "dynamic", "odconv", "static")),
    *({"context": name} for name in ("se", "eca", "gc", "psa", "none")),
    {"attention": "constant", "dynamic_stem": True, "gate_start": "one"},
    {"dynamic": "odconv", "context": "se", "dynamic_stem": True, "stem_gcm": True},
], ids=str)  # fmt: skip
def test_replacements_run_inside_mdw_and_learn(options):
    torch.manual_seed(0)
    model = loudly(mdw_hrnet((1, 1, 1), **options))
    for module in model.modules():
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.constant_(module.bias, 0.5)  # pooled values hardly differ between images: keep hidden units awake
    assert without_gradient(model) == (set(), set())


def test_switched_off_is_the_same_network_by_either_name():
    def names(**options):
        return [(n, p.shape) for n, p in mdw.create_model("mdw_hrnet_18", **options).named_parameters()]

    assert names(dynamic="static") == names(cdc=False) != names()
    assert names(context="none") == names(gcm_c=False) != names()
    assert names(dynamic="cdc", context="gcm") == names()


def test_contradictions_and_unknown_names_are_refused():
    with pytest.raises(MdwError, match="dynamic is 'odd'; it must be 'cdc', 'condconv', 'dynamic', 'odconv' or 'static'"):
        mdw.create_model("mdw_hrnet_18", dynamic="odd")
    with pytest.raises(MdwError, match="dynamic is 'odconv' while cdc is off"):
        mdw.create_model("mdw_hrnet_18", dynamic="odconv", cdc=False)
    with pytest.raises(MdwError, match="context is 'se' while gcm_c is off"):
        mdw.create_model("mdw_hrnet_18", context="se", gcm_c=False)


# --- what stands in GCM_C's place, against its papers' formulas ---


@pytest.mark.parametrize("channels", [20, 160])
def test_context_modules_are_what_their_papers_write(channels):
    x = torch.randn(2, channels, 6, 4, dtype=torch.double)
    mean, flat = x.mean((2, 3)), x.flatten(2)  # (N, C), (N, C, HW)
    block = awake(se(channels, 4)).double()
    gate = torch.sigmoid(linear(block.fc2, F.relu(linear(block.fc1, mean))))
    assert block.fc1.out_channels == channels // 4
    torch.testing.assert_close(block(x), x * gate[..., None, None])
    block = awake(eca(channels)).double()
    size = block.conv.weight.shape[-1]
    assert size == {20: 3, 160: 5}[channels]
    padded = F.pad(mean, (size // 2, size // 2))
    scores = sum(block.conv.weight[0, 0, k] * padded[:, k : k + channels] for k in range(size))
    torch.testing.assert_close(block(x), x * torch.sigmoid(scores)[..., None, None])
    block = awake(gc(channels, 4)).double()
    where = torch.einsum("c,ncp->np", block.conv_attn.weight.flatten(), flat).softmax(1)
    hidden = linear(block.mlp_add.fc1, torch.einsum("np,ncp->nc", where, flat))
    norm = block.mlp_add.norm
    added = linear(block.mlp_add.fc2, F.relu(F.layer_norm(hidden, hidden.shape[1:], norm.weight, norm.bias, norm.eps)))
    torch.testing.assert_close(block(x), x + added[..., None, None])


def linear(conv: nn.Conv2d, x: torch.Tensor) -> torch.Tensor:
    """A 1x1 convolution of (N, C)."""
    return F.linear(x, conv.weight.flatten(1), conv.bias)


def test_psa_sums_a_channel_and_a_spatial_gate():
    psa, x = awake(PSA(8)), torch.randn(2, 8, 5, 3)
    gate = psa(x) / x
    assert ((gate > 0) & (gate < 2)).all()
    rows = gate.flatten(2) - gate.flatten(2)[:, :1]  # channel gates differ by the same amount at every position
    torch.testing.assert_close(rows, rows[..., :1].expand_as(rows), rtol=1e-3, atol=1e-4)
    assert rows.abs().max() > 0.01 and gate.flatten(2).std(-1).max() > 0.01
