"""The Gaussian filter on heatmaps: off it changes nothing, on it reaches every validation and evaluation, and is recorded."""

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from command import mistake, run
from report_helpers import write_run
from torch import nn

from mdw import data
from mdw.experiments import studies
from mdw.inference.evaluate import predict_dataset
from mdw.models.weights import load_network
from mdw.pose import heatmap
from mdw.report import runs as frames
from mdw.report import tables
from mdw.training import recipes, runs, train

SIZE = (64, 96)
SMOKE = recipes.get("smoke", epochs=1, eval_every=1)


class Noise(nn.Module):
    """Heatmaps of noise, the same for the same crop, whose peaks a filter moves; `seen` keeps them."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, x):
        rng = np.random.default_rng(int(x.abs().sum().item() * 1000) % 2**32)
        maps = torch.from_numpy(rng.random((len(x), 17, 24, 16), np.float32))
        self.seen.append(maps.numpy())
        return maps


def people():
    return data.load("people", "val", None, SIZE[0] / SIZE[1], count=3, size=SIZE)


def blurred(maps, width):
    """OpenCV's own filter, each map brought back to its maximum."""
    out = np.zeros_like(maps)
    for place in np.ndindex(maps.shape[:2]):
        padded = np.pad(maps[place], width)  # zeros outside, as mmpose pads
        found = cv2.GaussianBlur(padded, (width, width), 0)[width:-width, width:-width]
        out[place] = found * (maps[place].max() / found.max())
    return out


@pytest.mark.parametrize("flip", [False, True])
def test_predictions_are_those_of_the_filtered_maps(flip):
    found, network = people(), Noise()
    centers, scales = (np.stack([getattr(s, name) for s in found.samples]) for name in ("center", "scale"))
    xy, scores = predict_dataset(network, found, SIZE, flip, blur=11)
    maps = network.seen[0]
    if flip:
        maps = heatmap.flip_average(maps, network.seen[1], found.joints.pairs)
    for other in (heatmap.decode(maps, centers, scales, blur=11), heatmap.decode(blurred(maps, 11), centers, scales)):
        np.testing.assert_allclose(xy, other[0], atol=1e-4)
        np.testing.assert_allclose(scores, other[1], atol=1e-5)
    plain = predict_dataset(Noise(), found, SIZE, flip)
    for off in (predict_dataset(Noise(), found, SIZE, flip, blur=None), heatmap.decode(maps, centers, scales)):
        assert all(np.array_equal(a, b) for a, b in zip(plain, off, strict=True))
    assert (np.abs(plain[0] - xy).max(axis=2) > 1).mean() > 0.5, "a filter moves the peaks of noise"


def test_the_articles_recipes_have_it_and_the_released_codes_have_not():
    widths = {name: recipes.get(name).blur for name in recipes.RECIPES}
    assert {name for name, width in widths.items() if width} == {"paper", "paper_mpii", "large_batch", "large_batch_sqrt"}
    assert {width for width in widths.values() if width} == {11} == {heatmap.BLUR_KERNEL[recipes.get("paper").sigma]}
    assert "blur" not in recipes.get("lspet").to_dict() and recipes.get("paper").to_dict()["blur"] == 11
    off, on = (runs.identity(runs.make_spec("mdw_hrnet_18", replace(SMOKE, blur=width))) for width in (None, 11))
    assert off != on and off == runs.identity(runs.make_spec("mdw_hrnet_18", SMOKE))
    assert recipes.get("paper", blur=None).blur is None


def test_at_384x288_the_filter_is_wider_and_one_network_trains_longer():
    """The article: COCO val, MDW-HRNet-30 at 384x288 "after 270 epochs"; its recipe for everything else has 240."""
    for study in ("table2", "table3"):
        rows = [(row, studies.recipe(row, "coco")) for row in studies.STUDIES[study]]
        for row, recipe in rows:
            high = recipe.input_size == (288, 384)
            assert (recipe.blur, recipe.sigma) == ((17, 3.0) if high else (11, 2.0))
            assert recipe.epochs == (270 if high and row.model == "mdw_hrnet_30" else 240) and recipe.lr_steps == (170, 200)
        assert sum(recipe.epochs == 270 for _, recipe in rows) == 1


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """One epoch of the smallest training, validated with the filter."""
    spec = runs.make_spec("small_hrnet", replace(SMOKE, blur=5))
    return train.train(spec, None, tmp_path_factory.mktemp("runs"), "cpu", quiet=True, backend="reference")


def test_a_runs_validation_is_filtered_and_says_so(trained):
    recipe = recipes.Recipe.from_dict(trained.spec["recipe"])
    assert trained.result["blur"] == recipe.blur == 5
    kept = np.array(json.loads((trained.path / "predictions.json").read_text())["xy"])
    val = data.load("people", "val", None, recipe.aspect, **recipe.val_options)
    model = load_network(trained.path)[0]
    filtered, plain = (predict_dataset(model, val, recipe.input_size, blur=width)[0] for width in (5, None))
    np.testing.assert_allclose(kept, filtered, atol=0.02)
    assert np.abs(kept - plain).max() > 0.5


def test_an_evaluation_is_filtered_where_asked_and_records_it(trained, monkeypatch):
    decoded, decode = [], heatmap.decode

    def keep(*maps, **options):
        decoded.append(decode(*maps, **options))
        return decoded[-1]

    monkeypatch.setitem(data.PEOPLE_SPLITS, "val", {"seed": 2, "count": 3})
    monkeypatch.setattr(heatmap, "decode", keep)
    weights = ("evaluate", "--data", "people", "--weights", trained.path, "--device", "cpu", "--record")
    for name, flags, width in (("with", ("--blur", "11"), 11), ("without", (), None)):
        assert run(*weights, name, *flags, "--json")[0] == 0
        (measured,) = json.loads(trained.evaluation_file(name).read_text())["measured"].values()
        assert measured["blur"] == width and measured["flip_test"] is True
    assert np.abs(decoded[0][0] - decoded[1][0]).max() > 0.5, "what is measured differs, not only what is said"
    for wrong in ("4", "0", "-3", "101"):
        assert "--blur" in mistake(*weights, "wrong", "--blur", wrong) and not trained.evaluation_file("wrong").exists()
    given = ("--data", "coco", "--root", "x", "--predictions", "x.json")
    assert "--blur goes with a network" in mistake("evaluate", *given, "--blur", "11")


def test_tables_say_it_beside_the_flip_test(tmp_path):
    row = studies.Row("Filtered", "mdw_hrnet_18", changes={"blur": 11})
    paths = [write_run(tmp_path, one, 0, 0.2) for one in (row, studies.Row("Plain", "mdw_hrnet_18"))]
    frame = frames.runs_frame([runs.Run(path) for path in paths], ["Filtered", "Plain"])
    assert list(tables.summary(frame)["flip test"]) == ["yes, Gaussian filter 11", "yes"]
    assert "flip test (yes, Gaussian filter 11 for Filtered; yes for Plain)" in tables.shared_recipe(frame)
    assert "flip test *yes*" in tables.shared_recipe(frame[1:]) and "Gaussian" not in tables.shared_recipe(frame[1:])
