"""The article's other networks: their figures, their quirks, and that they learn."""

import json
from collections import Counter

import pytest
import torch
from official_names import EXACT, SECOND_RUN, shape_only
from small_networks import loudly, without_gradient
from torch import nn

import mdw
from mdw.models.complexity import PEER_UNIT, cost_by_part, hrnet_count, measure, peer_count
from mdw.models.dite_hrnet import DynamicStem, dite_hrnet, pool_memory, pool_regions
from mdw.models.fusion import HighResolutionModule, PathUp, path_down
from mdw.models.lite_hrnet import lite_hrnet, shuffle_units
from mdw.util.errors import MdwError

PRINTED = {  # 256x192 and 384x288, README of Lite-HRNet and of Dite-HRNet, COCO table, in units of 2**20
    "lite_hrnet_18": (205.2, 461.6),
    "lite_hrnet_30": (319.2, 717.8),
    "dite_hrnet_18": (209.8, 471.8),
    "dite_hrnet_30": (329.8, 741.7),
}
MOBILE = {  # parameters in millions and 10**9 operations at 256x192 and 384x288, MMPose 0.x model zoo
    "mobilenetv2": (9.57, 1.59, 3.57),
    "shufflenetv2": (7.55, 1.37, 3.08),
}


@pytest.fixture(scope="module")
def official(numbers):
    return json.loads((numbers / "networks/complexity.json").read_text())["models"]


def slow_ones(*fast):
    return [pytest.param(name, marks=[pytest.mark.slow] * (name not in fast)) for name in EXACT]


@pytest.mark.parametrize("name", slow_ones(*SECOND_RUN, "hrnet_w32", "simple_baseline_50"))
def test_parameters_are_the_official_ones(official, name):
    expected = official[EXACT[name]]
    model = shape_only(name)
    shapes = Counter(tuple(p.shape) for p in model.parameters())
    assert shapes == {tuple(shape): count for shape, count in expected["joints_17"]["param_shapes"]}
    assert sum(p.numel() for p in model.parameters()) == expected["joints_17"]["params_total"]
    assert len(model.state_dict()) == expected["joints_17"]["state_dict_tensors"]
    one_less = model.final_layer.in_channels + 1  # a joint's weights and bias
    assert expected["joints_16"]["params_total"] == expected["joints_17"]["params_total"] - one_less


@pytest.mark.parametrize("name", slow_ones("lite_hrnet_18", "naive_lite_hrnet_18", "dite_hrnet_18", "simple_baseline_50"))
def test_costs_are_the_official_ones(official, name):
    expected, model = official[EXACT[name]]["joints_17"]["cost"]["256x192"], shape_only(name)
    count = measure(model, (256, 192))
    assert expected["macs_executed"] - count["macs"] == SECOND_RUN.get(name, 0)
    counter = count["peer_macs"] if name in SECOND_RUN else hrnet_count(model, (256, 192))
    assert counter == expected["module_count_total"]
    if name in PRINTED:
        assert counter / PEER_UNIT == pytest.approx(PRINTED[name][0], abs=0.1)


@pytest.mark.parametrize("name", PRINTED)
def test_peers_counter_gives_the_printed_figure_at_384x288(name):
    assert peer_count(shape_only(name), (384, 288)) / PEER_UNIT == pytest.approx(PRINTED[name][1], abs=0.1)


@pytest.mark.parametrize("name", ["lite_hrnet_18", "dite_hrnet_18"])
def test_the_plain_sum_costs_what_is_printed_for_the_doubled_one(name):
    described = peer_count(shape_only(name, mode="as_described"), (256, 192)) / PEER_UNIT
    assert described == pytest.approx(PRINTED[name][0], abs=0.2)  # the counter sees each path once anyway


@pytest.mark.parametrize("name", MOBILE)
def test_mobile_networks_match_the_model_zoo(name):
    params, small, large = MOBILE[name]
    model = shape_only(name)
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(params, abs=0.005)
    assert peer_count(model, (256, 192)) / 1e9 == pytest.approx(small, abs=0.006)
    assert peer_count(model, (384, 288)) / 1e9 == pytest.approx(large, abs=0.006)


def test_mobilenetv3_is_timms_large_one_with_the_head():
    # the article's column says 8.7 M; ours is 9.0 M, and no configuration is published that would decide it
    assert sum(p.numel() for p in shape_only("mobilenetv3").parameters()) == 9_007_169


def test_small_hrnet_matches_its_published_cost():
    model = shape_only("small_hrnet")
    assert sum(p.numel() for p in model.parameters()) == 1_284_961  # published 1.3 M
    assert peer_count(model, (256, 192)) / 2**30 == pytest.approx(0.54, abs=0.005)
    assert peer_count(model, (384, 288)) / 2**30 == pytest.approx(1.21, abs=0.005)


def test_parts_of_a_dynamic_network_add_up():
    stem = DynamicStem(released=True)
    parts = cost_by_part(stem, (64, 64), lambda name: name.split(".")[0])
    assert sum(part["params"] for part in parts.values()) == sum(p.numel() for p in stem.parameters())
    # a mask-weighted sum is a function of its module, not of a leaf: C * H * W in each half
    masks = 16 * 16 * 16 + 16 * 32 * 32
    assert measure(stem, (64, 64))["macs"] - sum(part["macs"] for part in parts.values()) == masks


# --- the released fusion ---


def literal_fusion(xs, paths, inplace_relu):
    """The released loop, in place, which is what the two switches of HighResolutionModule rewrite."""
    xs, ys = [x.clone() for x in xs], []
    for i, row in enumerate(paths):
        y = xs[0] if i == 0 else row[0](xs[0])
        for j, path in enumerate(row):
            y += xs[j] if i == j else path(xs[j])
        ys.append(y.relu_() if inplace_relu else y.relu())
    return ys


def random_module(double_first, channels=(4, 6, 8)):
    torch.manual_seed(3)
    module = HighResolutionModule(channels, [], PathUp, path_down, double_first=double_first).double()
    for p in module.parameters():
        nn.init.normal_(p, std=0.5)
    xs = [torch.randn(2, c, 16 // 2**b, 8 // 2**b, dtype=torch.float64) for b, c in enumerate(channels)]
    return module, xs


@pytest.mark.parametrize("double_first", ["before_relu", "after_relu"])
def test_doubled_fusion_equals_the_loop_in_place(double_first):
    module, xs = random_module(double_first)
    literal, _ = random_module(None)
    literal.load_state_dict(module.state_dict())
    inputs, twins = ([x.clone().requires_grad_() for x in xs] for _ in range(2))
    ys = module(inputs)
    expected = literal_fusion(twins, literal.fuse_layers, double_first == "after_relu")
    for y, z in zip(ys, expected, strict=True):
        torch.testing.assert_close(y, z, rtol=1e-12, atol=1e-12)
    sum((y**2).sum() for y in ys).backward()
    sum((z**2).sum() for z in expected).backward()
    for x, twin in zip(inputs, twins, strict=True):
        torch.testing.assert_close(x.grad, twin.grad, rtol=1e-9, atol=1e-9)
    # the loop has run the paths from branch 0 twice: running statistics and counters must agree as well
    for (name, ours), theirs in zip(module.named_buffers(), literal.buffers(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12, msg=name)


def test_the_two_doublings_and_the_plain_sum_differ():
    results = [random_module(mode)[0](random_module(mode)[1])[1] for mode in (None, "before_relu", "after_relu")]
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert (results[a] - results[b]).abs().max() > 0.1


def test_statistics_move_as_by_two_updates():
    module = HighResolutionModule([4, 6], [], PathUp, path_down, double_first="before_relu")
    down, up = module.fuse_layers[1][0][0][1], module.fuse_layers[0][1][1]
    seen = []
    down.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    module([torch.randn(2, 4, 8, 8), torch.randn(2, 6, 4, 4)])
    twin = nn.BatchNorm2d(4)
    twin(seen[0]), twin(seen[0])
    torch.testing.assert_close(down.running_mean, twin.running_mean)
    torch.testing.assert_close(down.running_var, twin.running_var)
    assert down.num_batches_tracked == twin.num_batches_tracked == 2
    assert up.num_batches_tracked == 1 and up.momentum == 0.1
    module.eval()([torch.randn(2, 4, 8, 8), torch.randn(2, 6, 4, 4)])
    assert down.num_batches_tracked == 2


def test_described_networks_have_plain_statistics():
    for name in ("lite_hrnet_18", "dite_hrnet_18"):
        momenta = {
            mode: Counter(round(m.momentum, 6) for m in shape_only(name, mode=mode).modules() if hasattr(m, "momentum"))
            for mode in ("as_released", "as_described")
        }
        assert set(momenta["as_described"]) == {0.1}
        # per module: 2 norms per step, 1, 1 + 2 and 1 + 2 + 3 steps, in 2, 4 and 2 modules
        assert momenta["as_released"][0.19] == 2 * (2 * 1 + 4 * 3 + 2 * 6)


# --- Dite-HRNet's pooling ---


def test_released_pooling_re_reads_memory():
    x, scores = torch.randn(2, 3, 4, 8), torch.randn(2, 1, 4, 8)
    height, width = 2, 4
    positions, run = height * width, 4 * 8 // (height * width)
    expected = torch.zeros(2, 3, height, width)
    for n in range(2):
        memory = [float(v) for channel in x[n] for row in channel for v in row]
        mask = torch.softmax(scores[n].flatten(), 0)
        for m in range(positions):
            piece = memory[m * 3 * run : (m + 1) * 3 * run]
            for c in range(3):
                table_row = piece[c * run : (c + 1) * run]
                terms = zip(table_row, mask[m * run : (m + 1) * run].tolist(), strict=True)
                expected[n, c, m // width, m % width] = sum(value * weight for value, weight in terms)
    torch.testing.assert_close(pool_memory(x, scores, (height, width)), expected)
    as_channels_last = x.to(memory_format=torch.channels_last)
    torch.testing.assert_close(pool_memory(as_channels_last, scores, (height, width)), expected)


def test_described_pooling_is_a_weighted_mean_of_each_region():
    x, scores = torch.randn(2, 3, 4, 8), torch.randn(2, 1, 4, 8)
    pooled = pool_regions(x, scores, (2, 2))
    for row in range(2):
        for column in range(2):
            region = (..., slice(2 * row, 2 * row + 2), slice(4 * column, 4 * column + 4))
            weight = torch.softmax(scores[region].flatten(1), 1).reshape(2, 1, 2, 4)
            torch.testing.assert_close(pooled[..., row, column], (x[region] * weight).sum((2, 3)))


def test_constant_channels_stay_constant_only_as_described():
    constant = torch.arange(4.0).reshape(1, 4, 1, 1).expand(1, 4, 8, 8)
    scores = torch.randn(1, 1, 8, 8)
    torch.testing.assert_close(pool_regions(constant, scores, (2, 2)), constant[..., :2, :2])
    scrambled = pool_memory(constant, scores, (2, 2))  # four pieces of memory, each one channel long: positions show channels
    assert (scrambled == scrambled[:, :1]).all() and not (scrambled == scrambled[..., :1, :1]).all()


# --- learning ---


@pytest.fixture(autouse=True)
def same_numbers():
    torch.manual_seed(0)


@pytest.mark.parametrize("mode", ["as_released", "as_described"])
def test_every_parameter_of_lite_learns(mode):
    assert without_gradient(loudly(lite_hrnet((1, 1, 1), mode=mode))) == (set(), set())
    naive = lite_hrnet((1, 1, 1), mode=mode, unit=shuffle_units, widths=(30, 60, 120, 240))
    assert without_gradient(loudly(naive)) == (set(), set())


def test_dite_learns_but_for_the_idle_masks_it_was_released_with():
    model = dite_hrnet((1, 1, 1))
    unused, zero = without_gradient(loudly(model))
    assert unused == idle_masks((1, 1, 1))
    assert all("conv_mask" in name and name.endswith(".bias") for name in zero)  # a softmax is blind to it
    whole = shape_only("dite_hrnet_18")
    assert sum(whole.get_parameter(name).numel() for name in idle_masks((2, 4, 2))) == 1456


def idle_masks(modules):
    """The masks of the lowest branch of every block."""
    return {
        f"stage{s}.{m}.layers.{block}.dcm.conv_mask.{s + 1}.{kind}"
        for s, count in enumerate(modules)
        for m in range(count)
        for block in range(2)
        for kind in ("weight", "bias")
    }


def test_every_parameter_of_described_dite_learns():
    assert without_gradient(loudly(dite_hrnet((1, 1, 1), mode="as_described"))) == (set(), set())
    released = dict(shape_only("dite_hrnet_18").named_parameters())
    described = dict(shape_only("dite_hrnet_18", mode="as_described").named_parameters())
    left_out = set(released) - set(described)
    assert set(described) < set(released) and idle_masks((2, 4, 2)) < left_out
    assert all("conv_mask" in name and name.endswith(".bias") for name in left_out - idle_masks((2, 4, 2)))


@pytest.mark.parametrize("name", ["small_hrnet", "shufflenetv2"])
def test_every_parameter_of_dense_networks_learns(name):
    assert without_gradient(loudly(mdw.create_model(name))) == (set(), set())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["hrnet_w32", "simple_baseline_50", "mobilenetv2", "mobilenetv3"])
def test_every_parameter_of_the_giants_learns(name):
    assert without_gradient(loudly(mdw.create_model(name)), batch=2) == (set(), set())


def test_lite_trains_on_one_picture_and_dite_cannot():
    output = lite_hrnet((1, 1, 1))(torch.randn(1, 3, 64, 64))
    output.square().mean().backward()
    assert output.shape == (1, 17, 16, 16) and output.isfinite().all()
    with pytest.raises(ValueError, match="more than 1 value per channel"):  # norms behind a global pool, as released
        dite_hrnet((1, 1, 1))(torch.randn(1, 3, 64, 64))


# --- what users meet ---


@pytest.mark.parametrize("name", ["lite_hrnet_18", "dite_hrnet_18", "naive_lite_hrnet_18", "small_hrnet", "mobilenetv2"])
def test_wrong_sizes_are_refused_with_those_that_work(name):
    model = shape_only(name).eval()
    with pytest.raises(MdwError, match="multiples of 32, for example 256x192"):
        model(torch.empty(1, 3, 100, 64, device="meta"))
    with pytest.raises(MdwError, match="give \\(N, 3, height, width\\)"):
        model(torch.empty(3, 64, 64, device="meta"))
    assert model(torch.empty(1, 3, 64, 96, device="meta")).shape == (1, 17, 16, 24)


def test_unknown_modes_and_options_are_named():
    with pytest.raises(MdwError, match="mode is 'released'; it must be 'as_released' or"):
        mdw.create_model("lite_hrnet_18", mode="released")
    with pytest.raises(MdwError, match="its options are mode"):
        mdw.create_model("dite_hrnet_30", modes=1)
    with pytest.raises(MdwError, match="its options are none"):
        mdw.create_model("hrnet_w32", mode="as_released")


def test_the_zoo_is_complete():
    assert set(mdw.list_models()) == {"mdw_hrnet_18", "mdw_hrnet_30", *EXACT, *MOBILE, "small_hrnet", "mobilenetv3"}
