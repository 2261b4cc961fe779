"""What the dispatcher counts besides multiply-adds, on nets small enough to count by hand."""

import json

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from typer.testing import CliRunner

from mdw.cli import app
from mdw.models import create_model
from mdw.models.complexity import measure
from mdw.report.pages.zoo import published


class Functional(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(4, 3, 3, 3))

    def forward(self, x):
        return F.relu(F.conv2d(x, self.weight, padding=1).flip(-1).view(-1, 4, 64))


def test_launches_and_bytes_are_those_counted_by_hand():
    found = measure(Functional(), (8, 8))  # convolution, flip, relu; the view is free
    assert found["launches"] == 3
    assert found["activation_bytes"] == 3 * 4 * 64 * 4
    assert found["macs"] == 4 * 27 * 64


def test_they_do_not_depend_on_how_modules_are_arranged():
    modules = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.ReLU())
    nested = nn.Sequential(nn.Sequential(modules[0]), nn.Sequential(nn.Identity(), modules[1]))
    first, second = measure(modules, (8, 8)), measure(nested, (8, 8))
    assert first == second and first["launches"] == 2


def test_work_in_place_writes_nothing_new():
    found = measure(nn.Sequential(nn.Conv2d(3, 4, 1, bias=False), nn.ReLU(inplace=True)), (8, 8))
    assert (found["launches"], found["activation_bytes"]) == (2, 4 * 64 * 4)


def test_the_picture_scales_the_bytes_and_not_the_launches():
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
    small, large = measure(model, (8, 8)), measure(model, (16, 16))
    assert small["launches"] == large["launches"]
    assert 3.9 < large["activation_bytes"] / small["activation_bytes"] <= 4


def test_the_table_has_published_figures_beside_ours_in_the_same_convention():
    models = ["lite_hrnet_18", "dite_hrnet_18", "simple_baseline_50", "small_hrnet"]
    arguments = ["complexity", *models, "--table", "--size", "256x192", "--json"]
    rows = {row["network"]: row for row in json.loads(CliRunner().invoke(app, arguments).stdout)}
    for name in models[:2]:
        assert abs(1000 * rows[name]["published GFLOPs"] - rows[name]["Lite-HRNet's count, 2^20"]) < 0.1
    cut = rows["simple_baseline_50"]["HRNet 2^30"] - rows["simple_baseline_50"]["published GFLOPs"]
    assert 0 <= cut < 0.1  # HRNet's table cuts 8.99 off after one digit
    assert rows["small_hrnet"]["published GFLOPs"] is None and rows["small_hrnet"]["source"] == ""
    assert rows["lite_hrnet_18"]["executed M"] * 1e6 == pytest.approx(
        measure(create_model("lite_hrnet_18"), (256, 192))["macs"]
    )


def test_the_eight_published_figures():
    """As printed; tests/unit/models/test_peers.py holds what we count against the same eight."""
    names = ["lite_hrnet_18", "lite_hrnet_30", "dite_hrnet_18", "dite_hrnet_30"]
    found = [published(name, size) for name in names for size in ("256x192", "384x288")]
    printed = [205.2, 461.6, 319.2, 717.8, 209.8, 471.8, 329.8, 741.7]
    assert [1000 * entry["gflops"] for entry in found] == pytest.approx(printed)
    assert {entry["counter"] for entry in found} == {"Lite-HRNet's, 2^20"}
