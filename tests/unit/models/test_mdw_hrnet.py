"""MDW-HRNet: its budgets, its mechanisms, its keywords."""

from typing import get_args

import pytest
import torch
import torch.nn.functional as F
from small_networks import loudly, small, without_gradient

import mdw
from mdw.models import mdw_hrnet, parameters
from mdw.models.complexity import PEER_UNIT, cost_by_part, measure
from mdw.models.context import GCM_C, GCM_S, STARTS
from mdw.models.dynamic_conv import CrossChannelAttention, CrossChannelDynamicConv, use_static_form
from mdw.models.layers import shuffle, split_evenly

SMALL = (64, 64)
# docs/reconstruction.md, the windows that the article's ratios leave: parameters in M, Lite-HRNet's counter in units of 2**20.
BUDGETS = {
    "mdw_hrnet_18": {"params": (1.09, 1.17), (256, 192): (195, 208)},
    "mdw_hrnet_30": {"params": (1.74, 1.83), (256, 192): (302, 323), (384, 288): (680, 725), (256, 256): (400, 430)},
}


@pytest.mark.parametrize("name", BUDGETS)
def test_budgets(name):
    model = mdw.create_model(name)
    for size in ((256, 192), (384, 288), (256, 256)):
        cost = measure(model, size)
        low, high = BUDGETS[name]["params"]
        assert low <= cost["params"] / 1e6 <= high
        if size in BUDGETS[name]:
            low, high = BUDGETS[name][size]
            assert low <= cost["peer_macs"] / PEER_UNIT <= high


def test_costs_counted_independently():
    """A count by hand of the default network, to its rounding; it had the whole 3x3 of Eq. 5: 24 weights per CDC more."""
    count = {name: measure(mdw.create_model(name), (256, 192)) for name in BUDGETS}
    assert count["mdw_hrnet_18"]["peer_macs"] / PEER_UNIT == pytest.approx(195.5, abs=0.06)
    assert count["mdw_hrnet_30"]["peer_macs"] / PEER_UNIT == pytest.approx(302.4, abs=0.06)
    attentions = sum(isinstance(m, CrossChannelAttention) for m in mdw.create_model("mdw_hrnet_18").modules())
    assert round((count["mdw_hrnet_18"]["params"] + 24 * attentions) / 1e6, 3) == 1.157


@pytest.mark.parametrize(
    ("options", "params"),
    [
        ({"cdc": False, "gcm_s": False, "gcm_c": False}, 0.893),
        ({"cdc": False}, 1.026),
        ({"cdc": False, "gcm_s": False}, 0.961),
        ({"cdc": False, "gcm_c": False}, 0.959),
    ],
)
def test_ablations_cost_what_was_counted_independently(options, params):
    total = measure(mdw.create_model("mdw_hrnet_18", **options), SMALL)["params"]
    assert round(total / 1e6, 3) == params


def test_executed_macs_do_not_depend_on_how_modules_are_arranged():
    linear = torch.nn.Conv2d(3, 8, 1, bias=False)

    class Functional(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = linear.weight

        def forward(self, x):
            return torch.einsum("oc,nchw->nohw", self.weight[:, :, 0, 0], x)

    assert measure(Functional(), SMALL)["macs"] == measure(linear, SMALL)["macs"] == 3 * 8 * 64 * 64


def test_parts_add_up():
    model = mdw.create_model("mdw_hrnet_18")
    parts = cost_by_part(model, SMALL, lambda name: name.split(".")[0])
    assert sum(part["params"] for part in parts.values()) == sum(p.numel() for p in model.parameters())
    # the position-weighted sums and the kernel mixing belong to functions, not to a leaf module
    total = measure(model, SMALL)["macs"]
    assert 0.97 * total < sum(part["macs"] for part in parts.values()) <= total


def test_what_gates_that_begin_at_one_and_constant_ones_cost():
    """Where a gate begins costs nothing; without its attention CDC costs K + 3n = 15 parameters less, 68 times."""
    full, started, constant = (
        measure(mdw.create_model("mdw_hrnet_18", **options), SMALL)
        for options in ({}, {"gate_start": "one"}, {"attention": "constant"})
    )
    counted = ("params", "macs", "peer_macs")
    assert [started[k] for k in counted] == [full[k] for k in counted]
    assert full["params"] - constant["params"] == 68 * 15
    assert full["macs"] > constant["macs"] and full["peer_macs"] > constant["peer_macs"]


def test_every_parameter_learns():
    torch.manual_seed(0)
    assert without_gradient(loudly(small("mdw_hrnet_18"))) == (set(), set())


@pytest.mark.parametrize("name", BUDGETS)
def test_one_picture_is_enough_to_train(name):
    torch.manual_seed(0)
    model = mdw.create_model(name)
    output = model(torch.randn(1, 3, *SMALL))
    assert output.shape == (1, 17, 16, 16)
    (output - torch.rand_like(output)).square().mean().backward()
    assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []
    bank = next(m for m in model.modules() if isinstance(m, CrossChannelDynamicConv)).weight
    assert len({tuple(kernel.flatten().tolist()) for kernel in bank}) == len(bank)


@pytest.mark.parametrize(
    "options",
    [
        {"order": "channel_first"},
        {"order": "parallel"},
        {"attention": "scalar"},
        {"attention": "line"},
        {"attention_kernel": 1},
        {"attention_kernel": 9},
        {"kernels": 2},
        {"kernel_sizes": ((3,), (3,), (3, 5), (3, 5, 7, 9))},
        {"dense_spatial": False, "spatial_ratio": 8, "spatial_relu": True},
        {"norm": "group"},
        {"down": "3x3"},
        {"down": "single"},
        {"double_first": True},
        {"head": "highest"},
        {"dynamic_stem": True, "stem_gcm": True},
        {"gate": "double"},
        {"gate": "norm"},
        {"gate_start": "one"},
        {"attention": "constant"},
        {"conv_relu": True},
        {"cdc": False, "gcm_s": False, "gcm_c": False},
    ],
    ids=str,
)
def test_every_choice_is_another_network_that_learns(options):
    """A keyword that is accepted and ignored would leave the function as it was."""

    def build(**options):
        torch.manual_seed(0)
        model = small("mdw_hrnet_18", 5, **options)
        for parameter in model.parameters():  # the family's start is so near to zero that differences drown
            torch.nn.init.normal_(parameter, std=0.2, generator=torch.Generator().manual_seed(parameter.numel()))
        return model

    x = torch.randn(2, 3, *SMALL, generator=torch.Generator().manual_seed(1))
    variant = build(**options)
    output = variant(x)
    assert output.isfinite().all()
    assert not torch.allclose(output, build()(x), rtol=1e-3)
    output.square().mean().backward()
    dead = [n for n, p in variant.named_parameters() if p.grad is None]
    # choice 12b computes branches that nothing reads (docs/reconstruction.md)
    assert dead == [] or (options == {"head": "highest"} and all("stage2" in name for name in dead))


@pytest.mark.parametrize(
    ("options", "channel", "spatial"),
    [
        ({}, 0.5, 0.5),
        ({"gate_start": "one"}, 1, 1),
        ({"gate": "double"}, 1, 0.5),  # what the committed run with this keyword is
        ({"gate": "norm", "gate_start": "one"}, 1, 1),
        ({"gate_start": "one", "dense_spatial": False, "stem_gcm": True}, 1, 1),
        ({"gate_start": "one", "gcm_c": False}, None, 1),
        ({"gate_start": "one", "gcm_s": False, "order": "parallel"}, 1, None),
        ({"gate_start": "one", "context": "psa"}, None, 1),
        ({"gate": "double", "gcm_c": False, "gcm_s": False, "stem_gcm": True}, 1, None),
    ],
    ids=str,
)
def test_where_the_gates_begin(options, channel, spatial):
    """Of every GCM_C and GCM_S of a new network: what each map is multiplied by, seen on its inputs and outputs."""
    torch.manual_seed(0)
    model, factors = small("mdw_hrnet_18", **options).eval(), {GCM_C: [], GCM_S: []}

    def keep(module, given, output):
        pairs = zip(given[0], output, strict=True) if isinstance(module, GCM_S) else [(given[0], output)]
        factors[type(module)] += [(y.double().norm() / x.double().norm()).item() for x, y in pairs]

    for module in model.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight)
        if isinstance(module, GCM_C | GCM_S):
            module.register_forward_hook(keep)
    with torch.no_grad():
        model(torch.randn(2, 3, *SMALL))
    for kind, start in ((GCM_C, channel), (GCM_S, spatial)):
        assert len(factors[kind]) == 0 if start is None else len(factors[kind]) >= 2
        assert factors[kind] == pytest.approx([start] * len(factors[kind]), rel=0.01), kind  # scores are within +-0.01 of 0


def test_bad_keywords_are_named():
    for name in ("order", "attention", "norm", "down", "head", "gate", "gate_start"):
        with pytest.raises(mdw.MdwError, match=f"^{name} is 'x'; "):
            mdw.create_model("mdw_hrnet_18", **{name: "x"})
    with pytest.raises(mdw.MdwError, match="attention_kernel is 4"):
        mdw.create_model("mdw_hrnet_18", attention_kernel=4)
    with pytest.raises(mdw.MdwError, match="'colour'.*attention_kernel"):
        mdw.create_model("mdw_hrnet_18", colour=1)
    with pytest.raises(mdw.MdwError, match="no model 'mdw'.*mdw_hrnet_18"):
        mdw.create_model("mdw")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"gate": "double", "gate_start": "one"}, "gate is 'double', which .*; give one of the two"),
        ({"gate": "double", "gcm_c": False}, "gate is 'double', but no GCM_C is in this network; leave gate out"),
        ({"gate": "norm", "context": "se"}, "gate is 'norm', but no GCM_C"),
        ({"gate_start": "one", "gcm_c": False, "gcm_s": False}, "gate_start is 'one', but no GCM"),
        ({"attention": "constant", "cdc": False}, "attention is 'constant', but no CDC"),
        ({"attention": "constant", "dynamic": "odconv"}, "attention is 'constant', but no CDC"),
        ({"attention": "constant", "attention_kernel": 5}, "attention_kernel is 5, but .* leave attention_kernel out"),
    ],
    ids=str,
)
def test_keywords_that_contradict_each_other_are_refused(options, said):
    with pytest.raises(mdw.MdwError, match=said) as refused:
        mdw.create_model("mdw_hrnet_18", **options)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("shape", [(1, 3, 100, 64), (1, 3, 64, 48), (1, 1, 64, 64), (3, 64, 64), (1, 3, 0, 64)])
def test_wrong_input_is_refused_with_sizes_that_work(shape):
    with pytest.raises(mdw.MdwError, match="multiples of 32, for example 256x192"):
        mdw.create_model("mdw_hrnet_18")(torch.zeros(shape))


@pytest.mark.parametrize(("size", "stride"), [(3, 1), (5, 1), (7, 1), (3, 2)])
def test_both_forms_of_cdc_are_one_function(size, stride):
    torch.manual_seed(0)
    conv = CrossChannelDynamicConv(12, size, stride).double()
    x = torch.randn(3, 12, 10, 8, dtype=torch.float64, requires_grad=True)
    mixed = conv(x)
    conv.static_form = True
    summed = conv(x)
    torch.testing.assert_close(mixed, summed, rtol=1e-9, atol=1e-12)
    weights = [*conv.parameters(), x]
    for a, b in zip(
        torch.autograd.grad(mixed.square().sum(), weights), torch.autograd.grad(summed.square().sum(), weights), strict=True
    ):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-10)


def test_both_forms_agree_through_the_whole_network():
    torch.manual_seed(0)
    model = mdw.create_model("mdw_hrnet_18").eval().double()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    x = torch.randn(2, 3, *SMALL).double()
    with torch.no_grad():
        mixed = model(x)
        summed = use_static_form(model)(x)
    assert (mixed - summed).abs().max() < 1e-9 * mixed.abs().max()


def test_cdc_is_equation_6_per_sample_and_channel():
    torch.manual_seed(0)
    conv = CrossChannelDynamicConv(4, 3, kernels=3).double()
    x = torch.randn(2, 4, 6, 5).double()
    gates = conv.attention(x)
    assert gates.shape == (2, 3, 4) and (gates > 0).all() and (gates < 1).all()
    for sample in range(2):
        for channel in range(4):
            kernel = sum(gates[sample, i, channel] * conv.weight[i, channel] for i in range(3))
            expected = F.conv2d(x[sample, channel][None, None], kernel[None, None], padding=1)[0, 0]
            torch.testing.assert_close(conv(x)[sample, channel], expected, rtol=1e-9, atol=1e-12)


def test_k_1_looks_at_no_neighbour_in_the_conv1d():
    """Eq. 5 with K = 1 mixes channels in its second convolution only: three neighbours, not more; K = 3 reaches five."""
    torch.manual_seed(0)
    x = torch.randn(1, 16, 4, 4).double()
    for size, reach in ((1, 1), (3, 2), (5, 3)):
        attention = CrossChannelAttention(16, attention_kernel=size).double()
        changed = x.clone()
        changed[:, 8] += 1
        moved = (attention(changed) - attention(x)).abs().sum((0, 1)) > 1e-12
        assert moved.nonzero().flatten().tolist() == list(range(8 - reach, 8 + reach + 1))


def test_gcm_c_weighs_positions_and_gates_channels():
    torch.manual_seed(0)
    gcm = GCM_C(8)
    where, gate = gcm.weights(torch.ones(2, 8, 6, 4) * torch.randn(1, 8, 1, 1))
    torch.testing.assert_close(where, torch.full((2, 24), 1 / 24))  # a constant image has no place to prefer
    assert (gate > 0).all() and (gate < 1).all()
    x = torch.randn(2, 8, 6, 4)
    order = torch.randperm(24)
    shuffled = gcm(x.flatten(2)[..., order].unflatten(-1, (6, 4)))
    torch.testing.assert_close(shuffled, gcm(x).flatten(2)[..., order].unflatten(-1, (6, 4)))  # places are interchangeable


def test_gcm_s_reads_all_branches_at_the_lowest_resolution():
    torch.manual_seed(0)
    xs = [torch.randn(1, 4, 16, 8), torch.randn(1, 6, 8, 4), torch.randn(1, 8, 4, 2)]
    dense, apart = GCM_S([4, 6, 8], ratio=2), GCM_S([4, 6, 8], ratio=2, dense=False)
    assert [tuple(w.shape) for w in dense.weights(xs)] == [(1, 4, 4, 2), (1, 6, 4, 2), (1, 8, 4, 2)]
    changed = [*xs[:2], xs[2] + torch.randn(1, 8, 4, 2)]
    assert not torch.allclose(dense(changed)[0], dense(xs)[0])
    torch.testing.assert_close(apart(changed)[0], apart(xs)[0])
    for gate in (*dense.weights(xs), *apart.weights(xs)):
        assert (gate > 0).all() and (gate < 1).all()


def test_shuffle_deals_out_in_turn():
    a, b = torch.arange(3.0).view(1, 3, 1, 1), torch.arange(10.0, 13.0).view(1, 3, 1, 1)
    assert shuffle([a, b]).flatten().tolist() == [0, 10, 1, 11, 2, 12]
    parts = torch.arange(160.0).view(1, 160, 1, 1).split(split_evenly(160, 3), 1)
    dealt = shuffle(parts).flatten().tolist()
    assert dealt[:4] == [0, 54, 107, 1] and sorted(dealt) == list(range(160))


def test_every_option_is_in_the_table_that_builds_it():
    options = {name: get_args(p.annotation) for name, p in parameters(mdw_hrnet.mdw_hrnet).items()}
    assert options["attention"] == tuple(mdw_hrnet.ATTENTIONS) and options["gate_start"] == tuple(STARTS)
    assert options["dynamic"] == ("cdc", *mdw_hrnet.DYNAMIC, "static")
    assert options["context"] == ("gcm", *mdw_hrnet.CONTEXTS, "none")
