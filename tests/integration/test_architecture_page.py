"""Does the drawing show the network that is there, do the parts add up, and are the gates those that ran?"""

import copy
import re
import xml.etree.ElementTree as ET
from collections import Counter

import pandas as pd
import pytest
import torch
from small_networks import small
from torch import nn

import mdw
from mdw.models.complexity import measure
from mdw.models.context import GCM_C, SpatialGate
from mdw.report.pages import drawing, gate_statistics, gates, parts
from mdw.util.errors import MdwError

SIZE = (128, 96)
NETWORKS = ["mdw_hrnet_18", "lite_hrnet_18", "dite_hrnet_18", "small_hrnet"]
SVG = "{http://www.w3.org/2000/svg}"


def drawn(model: nn.Module) -> ET.Element:
    rows = drawing.plan(model, SIZE)
    return ET.fromstring(drawing.svg(rows, "network", "A <network> & more", drawing.describe(rows)))


def tensors(model: nn.Module) -> dict[str, list[tuple[int, ...]]]:
    """What the units, transitions, stem, head and last layer give in a real forward pass, as "40x32x24" by branch."""
    found, handles = {}, []
    for name, module in model.named_modules():
        if re.fullmatch(r"stem|transition\d|stage\d\.\d+\.layers|head_layer|final_layer", name):

            def hook(module, inputs, output, name=name):
                outputs = output if isinstance(output, list) else [output]
                found[name.removesuffix(".layers")] = [tuple(y.shape[1:]) for y in outputs]

            handles.append(module.register_forward_hook(hook))
    with torch.no_grad():
        model.eval()(torch.zeros(1, 3, *SIZE))
    for handle in handles:
        handle.remove()
    return found


@pytest.mark.parametrize("name", NETWORKS)
def test_every_box_is_a_tensor_of_the_network(name):
    model = mdw.create_model(name)
    boxes = drawn(model).findall(f"{SVG}rect")
    shown: dict[str, list] = {}
    for box in boxes:
        shown.setdefault(box.get("data-module"), []).append(tuple(map(int, box.get("data-shape").split("x"))))
    assert shown == tensors(model)


@pytest.mark.parametrize("name", [*NETWORKS, "mdw_hrnet_30"])
def test_modules_and_lines_are_counted_off_the_network(name):
    model = mdw.create_model(name)
    root = drawn(model)
    modules = [module for s in range(model.num_stages) for module in model.get_submodule(f"stage{s}")]
    names = {box.get("data-module") for box in root.findall(f"{SVG}rect[@class='module']")}
    assert len(names) == len(modules)
    lines = root.findall(f"{SVG}line[@class='fusion']")
    assert len(lines) == sum(len(paths) for module in modules for paths in module.fuse_layers)
    said = root.find(f"{SVG}desc").text
    assert f"{len(modules)} modules with {sum(len(module.layers) for module in modules)} units" in said
    assert root.find(f"{SVG}title").text == "A <network> & more"
    assert root.get("aria-labelledby").split() == [root.find(f"{SVG}{tag}").get("id") for tag in ("title", "desc")]


def test_another_network_is_another_drawing():
    notes = [drawing.plan(small("mdw_hrnet_18", **options), SIZE) for options in ({}, {"kernel_sizes": [[3]] * 4})]
    assert notes[0][-3].notes[3] == "2 units: 3, 5, 7" and notes[1][-3].notes[3] == "2 units: 3"
    joints = drawn(small("mdw_hrnet_18", 14)).find(f"{SVG}rect[@class='maps']")
    assert joints.get("data-shape") == "14x32x24"
    units = drawing.plan(small("mdw_hrnet_18", units=3), SIZE)
    assert sum(row.units for row in units) == 9


def test_drawing_leaves_the_network_alone_and_follows_the_theme():
    model = mdw.create_model("mdw_hrnet_18").train()
    text = drawing.svg(drawing.plan(model, SIZE), "network", "t", "d")
    assert model.training and next(model.parameters()).device.type == "cpu" and not hooks(model)
    colours = set(re.findall(r"#[0-9a-f]{6}", re.sub(r"var\([^)]*\)", "", text)))
    assert colours == {drawing.COLOURS[0], drawing.COLOURS[1]}  # all else is the page's own


def test_what_has_no_branches_is_refused():
    with pytest.raises(MdwError, match="Linear has no parallel branches to draw"):
        drawing.plan(nn.Linear(1, 1), SIZE)


# parts


def test_parts_add_up_to_the_whole():
    models = parts.of_depth("mdw_hrnet_18")
    frame = parts.costs(models, "64x64")
    for model in models:
        whole, mine = measure(mdw.create_model(model), (64, 64)), frame[frame["model"] == model].set_index("part")
        assert mine[["params", "macs"]].sum().to_dict() == {key: whole[key] for key in ("params", "macs")}
        assert mine.loc[parts.REST, "params"] == 0 and (mine[["params", "macs"]] >= 0).all().all()
        assert (mine.drop(index=parts.REST)["params"] > 0).all()  # no part is named for nothing
    assert parts.beside(frame).shape == (len(parts.PARTS) + 2, 7)
    assert "Lite-HRNet-18: the fusion takes the most parameters" in parts.in_words(frame)


# gates


@pytest.fixture(scope="module")
def model() -> nn.Module:
    """Large random weights, so that gates leave 0.5."""
    torch.manual_seed(0)
    model = mdw.create_model("mdw_hrnet_18")
    for module in model.modules():
        if isinstance(module, nn.Conv1d | nn.Linear):
            nn.init.normal_(module.weight, std=0.1)
        elif isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
    return model.eval()


def hooks(model: nn.Module) -> Counter:
    kinds = ("_forward_hooks", "_forward_pre_hooks")
    return Counter(kind for module in model.modules() for kind in kinds for _ in getattr(module, kind))


def test_gates_are_those_of_the_attention(model):
    seen = gates.look(model, torch.randn(2, 3, *SIZE, generator=torch.Generator().manual_seed(1)))
    layers = [name for name, module in model.named_modules() if name.endswith(".attention")]
    assert list(seen.gates) and set(seen.gates) == set(layers)
    with torch.inference_mode():
        for name, gate in seen.gates.items():
            assert gate.shape[:2] == (2, 4) and (gate > 0).all() and (gate < 1).all()
            assert torch.equal(gate, model.get_submodule(name)(seen.inputs[name]))
    assert any((gate[0] - gate[1]).abs().max() > 1e-3 for gate in seen.gates.values())  # two images, two sets of gates


def test_maps_are_distributions_and_gates(model):
    seen = gates.look(model, torch.randn(1, 3, *SIZE))
    assert len(seen.positions) == sum(isinstance(module, GCM_C) for module in model.modules()) and len(seen.spatial) == 16
    for positions in seen.positions.values():
        assert positions.ndim == 3 and positions.sum().item() == pytest.approx(1, abs=1e-4)
    assert seen.channel.keys() == seen.positions.keys()
    for name, maps in seen.spatial.items():
        assert all((values > 0).all() and (values < 1).all() for values in maps)
        widths = [2 * values.shape[1] for values in maps]
        assert widths == [40, 80, 160, 320][: len(maps)] and len({values.shape[2:] for values in maps}) == 1
        assert seen.squeezed[name] == sum(values.shape[1] for values in maps) // 16


def test_looking_changes_nothing(model):
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    gates.look(model, torch.randn(1, 3, *SIZE))
    assert model.training and all(module.training for module in model.modules()) and not hooks(model)
    with pytest.raises(MdwError, match="multiples of 32"):
        gates.look(model, torch.zeros(1, 3, 50, 50))
    assert not hooks(model) and model.training  # not even where the forward pass fails
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    model.eval()


def test_a_network_without_gates_is_refused():
    with pytest.raises(MdwError, match="no dynamic convolution whose gates"):
        gates.look(mdw.create_model("lite_hrnet_18"), torch.zeros(1, 3, 64, 64))


def test_spread_tells_channels_from_photos(model):
    """The same image twice has no spread across photos; the channels keep theirs."""
    one = torch.randn(1, 3, *SIZE).double()
    table = gates.spread(gates.look(copy.deepcopy(model).double(), torch.cat([one, one])))
    assert len(table) == 68 and table["photos"].max() < 1e-9 < 1e-6 < table["channels"].min()
    assert table["unit"].max() == 16 and set(table["stage"]) == {2, 3, 4} and table["part"].max() == 3


# how far they move


def gates_of(kind: str, frame: pd.DataFrame) -> pd.DataFrame:
    return frame[frame["weighting"] == kind]


def test_deviations_over_photos_and_positions_are_told_apart(model):
    """One photo twice has none over photos; a map of one colour has none over positions in what it is multiplied by."""
    torch.manual_seed(2)
    one, other = torch.randn(2, 1, 3, *SIZE)
    two, same = (gate_statistics.measured(gates.look(model, torch.cat(pair))) for pair in ((one, other), (one, one)))
    assert len(two) == 2 * 4 * 3 + 3 * 8 * 3 + 4 * 4 * 3 and set(two["unit"]) == set(range(1, 17))
    assert same["photos"].max() < 1e-6 < two["photos"].min()
    assert (gates_of("GCM_S", same)["positions"] > 1e-3).all() and two.loc[
        two["weighting"] != "GCM_S", "positions"
    ].isna().all()
    assert (gates_of("GCM_S", two)["both"] >= gates_of("GCM_S", two)[["photos", "positions"]].max(axis=1) - 1e-6).all()
    assert (same.loc[same["weighting"] != "GCM_S", "constant"] == same.loc[same["weighting"] != "GCM_S", "gates"]).all()
    by_hand = gates.look(model, torch.cat([one, other]))
    row = gates_of("GCM_S", two).query("unit == 16 and branch == 3").iloc[0]
    expected = by_hand.spatial["stage2.1.layers.1.gcm_s"][2]
    assert row["gates"] == 80 and row["photos"] == pytest.approx((expected[0] - expected[1]).abs().mean().item() / 2, rel=1e-4)
    row = gates_of("CDC", two).query("unit == 16 and branch == 4").iloc[0]
    parts = [by_hand.gates[f"stage2.1.layers.1.convs.3.convs.{k}.attention"] for k in range(3)]
    assert row["gates"] == 4 * 160 and row["mean"] == pytest.approx(torch.cat(parts, 2).mean().item(), rel=1e-4)
    row = gates_of("GCM_C", two).query("unit == 5 and branch == 2").iloc[0]
    assert row["mean"] == pytest.approx(by_hand.channel["stage1.0.layers.0.gcm_c.1"].mean().item(), rel=1e-4)


def test_the_words_follow_the_gates(model):
    """A network whose gates cannot move is said to be constant; gates that begin at one are seen to."""
    torch.manual_seed(2)
    crops = torch.randn(2, 3, *SIZE)
    moving = gate_statistics.in_words(gates.look(model, crops))
    assert "squeezes each position to 3, 8 and 18 numbers in stages 2, 3 and 4" in moving
    assert "leaves 1, 6 and 16 degrees of freedom" in moving
    still = small("mdw_hrnet_18", attention="constant", gate_start="one")
    for module in still.modules():
        if isinstance(module, GCM_C | SpatialGate):
            nn.init.zeros_(module.excite.weight)
    seen = gates.look(still, crops)
    words, found = gate_statistics.in_words(seen), gate_statistics.measured(seen)
    assert "That holds for 100 % of CDC's, 100 % of GCM_C's and 100 % of GCM_S's. So CDC, GCM_C and GCM_S are" in words
    assert words != moving and "follow the photo" not in words
    assert (found["photos"] == 0).all() and found.groupby("weighting")["mean"].mean().to_dict() == {
        "CDC": 0.5,
        "GCM_C": 1,
        "GCM_S": 1,
    }


def test_the_shipped_networks_gates_in_the_table_and_the_words():
    seen, people, _ = gates.shipped()
    found, words = gate_statistics.measured(seen), gate_statistics.in_words(seen)
    table = gate_statistics.by_branch(found)
    assert len(people) > 10 and len(table) == 2 + 3 + 4
    gcm_s = found[found["weighting"] == "GCM_S"]
    early, late = gcm_s[gcm_s["stage"] == 2]["both"], gcm_s[gcm_s["stage"] > 2]["both"]
    assert f"is {early.min():.2f} to {early.max():.2f} in stage 2 and {late.min():.2f} to {late.max():.2f} later" in words
    share = found.groupby("weighting")[["constant", "gates"]].sum()
    for name, row in share.iterrows():
        assert f"{100 * row['constant'] / row['gates']:.0f} % of {name}'s" in words
    lines = gate_statistics.figure(found).extra["image/svg+xml"]
    assert all(name in lines for name in ("GCM_C", "GCM_S", "CDC", "stage 4"))
