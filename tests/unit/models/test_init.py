"""How networks start: the signal is alive in all of them, and what is compared starts alike."""

import pytest
import torch
from torch import nn

from mdw.models import create_model, list_models
from mdw.models.dynamic_conv import DynamicConv
from mdw.models.init import start
from mdw.models.rules import RULES
from mdw.report.pages import starts
from mdw.training import recipes, runs
from mdw.training.state import State
from mdw.util.errors import MdwError

BIG = {"hrnet_w32", "hrnet_w48", "simple_baseline_101", "simple_baseline_152"}
ZOO = [pytest.param(name, marks=pytest.mark.slow) if name in BIG else name for name in list_models()]
SIMPLE = {"cdc": False, "gcm_s": False, "gcm_c": False}
KINDS = ("cdc", "condconv", "dynamic", "odconv")
VARIANTS = [
    SIMPLE,
    {"gcm_s": False, "gcm_c": False},
    {"cdc": False},
    *({"dynamic": kind} for kind in KINDS[1:]),
    {"down": "single", "norm": "group", "order": "parallel", "gate": "double", "stem_gcm": True, "dynamic_stem": True},
]


def started(name, rule, joints=5, **options):
    torch.manual_seed(0)
    return start(create_model(name, joints, **options), rule)


@pytest.mark.parametrize("name", ZOO)
def test_scaled_kernels_keep_the_signal_alive_in_every_network(name):
    stds = starts.look(started(name, "scaled"), starts.crops())[0]
    assert stds and 0.9 < min(stds.values()) and max(stds.values()) < 1.1


@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_scaled_kernels_keep_the_signal_alive_in_every_ablation(options):
    stds = starts.look(started("mdw_hrnet_18", "scaled", **options), starts.crops())[0]
    assert 0.9 < min(stds.values()) and max(stds.values()) < 1.1


@pytest.mark.parametrize("name", ["mdw_hrnet_18", "lite_hrnet_18", "dite_hrnet_18"])
def test_published_starts_let_it_die(name):
    """N(0, 0.001) leaves behind it a variance below BatchNorm's eps, which then is what the norm divides by."""
    stds = starts.look(started(name, "published"), starts.crops())[0]
    assert min(stds.values()) < 0.1 and sum(std < 0.9 for std in stds.values()) > len(stds) / 2


@pytest.mark.parametrize("rule", ["published", "scaled"])
@pytest.mark.parametrize("kind", KINDS)
def test_static_and_dynamic_kernels_in_one_place_start_alike(rule, kind):
    static, dynamic = started("mdw_hrnet_18", rule, **SIMPLE), started("mdw_hrnet_18", rule, dynamic=kind)
    places = 0
    for path, module in dynamic.named_modules():
        if isinstance(module, DynamicConv):
            places += 1
            plain = static.get_submodule(path).weight
            for kernel in module.bank:
                assert kernel.shape == plain.shape
                ratio = (kernel.std() / plain.std()).item()  # either from at least 180 numbers
                assert 0.75 < ratio < 1.33, f"{path}: {ratio}"
                assert abs(kernel.mean()) < 0.3 * kernel.std()
    assert places == 24 + 2 * 12 + 2 * 4 * 2 - 24 or places > 30
    kernels = torch.cat(
        [k.flatten(2).std(2).flatten() for m in dynamic.modules() if isinstance(m, DynamicConv) for k in m.bank]
    )
    assert kernels.min() > 0, "no kernel is the copy of a constant"


def test_mixed_is_what_the_first_records_had():
    """Their networks were what `create_model` draws: banks 80 to 190 times as wide as the static kernels in their place."""
    torch.manual_seed(0)
    plain = create_model("mdw_hrnet_18", 5)
    mixed = started("mdw_hrnet_18", "mixed")
    assert all(torch.equal(a, b) for a, b in zip(plain.state_dict().values(), mixed.state_dict().values(), strict=True))
    assert 150 < mixed.stage0[0].layers[0].convs[0].convs[0].weight.std() / mixed.stage0[0].fuse_layers[0][1][0].weight.std()
    old = recipes.get("lspet_small").to_dict()
    del old["init"]  # as every record of before has it
    assert recipes.Recipe.from_dict(old).init == "mixed"


def test_dite_hrnet_published_is_its_released_code():
    """Whose banks are Kaiming's; only MDW-HRNet's rules for banks are ours."""
    torch.manual_seed(0)
    plain = create_model("dite_hrnet_18", 5)
    published = started("dite_hrnet_18", "published")
    assert all(torch.equal(a, b) for a, b in zip(plain.state_dict().values(), published.state_dict().values(), strict=True))


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(64, 48, 3, padding=1),
        nn.Conv2d(64, 64, 7, padding=3, groups=64),
        nn.Conv2d(64, 64, 2, stride=2, groups=64),
        nn.Conv2d(64, 48, 1),
        nn.ConvTranspose2d(64, 48, 4, 2, 1),
        nn.Conv2d(64, 64, 3, padding=1, groups=4),
    ],
    ids=str,
)
def test_a_scaled_kernel_keeps_the_variance(layer):
    torch.manual_seed(0)
    model = nn.Sequential(layer)
    model.final_layer = nn.Identity()
    start(model, "scaled")
    x = 3 * torch.randn(16, 64, 32, 32)
    inner = layer(x)[..., 4:-4, 4:-4]  # padding takes something at the edge
    assert 0.85 < (inner.std() / x.std()).item() < 1.15 and layer.bias.eq(0).all()


def test_the_heatmap_layer_starts_small_under_every_rule():
    for rule in RULES:
        weight = started("mdw_hrnet_18", rule).final_layer.weight
        assert 0.0008 < weight.std() < 0.0012


def test_a_run_starts_as_its_recipe_says():
    """And the rule is part of the question: another start is another run."""
    asked = {rule: runs.make_spec("mdw_hrnet_18", recipes.get("smoke", init=rule), 0, SIMPLE) for rule in RULES}
    assert len({runs.identity(spec) for spec in asked.values()}) == 3
    for rule, spec in asked.items():
        found = State.new(spec, 5, "cpu").model.stage0[0].layers[0].convs[0].convs[0].weight.std()
        assert (found > 0.1) == (rule == "scaled")


def test_published_recipes_start_as_published_and_ours_scaled():
    starts_of = {name: make().init for name, make in recipes.RECIPES.items()}
    published = {"paper", "paper_mpii", "large_batch", "large_batch_sqrt", "lite", "dite"}
    assert {name for name, rule in starts_of.items() if rule == "published"} == published
    assert {rule for name, rule in starts_of.items() if name not in published} == {"scaled"}


def test_an_unknown_rule_is_refused():
    with pytest.raises(MdwError, match="'mixed', 'published', 'scaled'"):
        started("mdw_hrnet_18", "xavier")


def test_own_share_orders_the_first_study_as_its_results_did():
    """+ CDC, full, + GCM: what the start gave them is what the trainings had, before CDC or GCM could do anything."""
    found = starts.table(4).set_index(["network", "rule"])["own share"]
    cells = ["+ CDC", "MDW-HRNet-18 (CDC + GCM)", "Simple", "+ GCM"]
    mixed = [found[cell, "mixed"] for cell in cells]
    assert mixed[0] > 1.5 * mixed[2] and mixed[3] < 0.5 * mixed[2]
    scaled = [found[cell, "scaled"] for cell in cells]
    assert abs(scaled[0] - scaled[2]) < 0.05 and abs(scaled[1] - scaled[3]) < 0.05, "equal starts"
