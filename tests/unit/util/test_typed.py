"""What enters is what its annotation says, or is refused in one sentence before anything is written: every field and option."""

import json
import math
import random
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from command import mistake, run
from small_networks import small

import mdw
from mdw import data
from mdw.backends import choose as backend
from mdw.data.augment import Augmentation
from mdw.experiments import studies
from mdw.models import fit_options, model_function, parameters
from mdw.models.dynamic_conv import CrossChannelDynamicConv
from mdw.training import recipes, runs
from mdw.training.recipes import Recipe
from mdw.util.errors import MdwError
from mdw.util.typed import fit

NAN, INF = math.nan, math.inf
SMOKE = recipes.get("smoke")
FLOATS = ["fast", True, None, [1.0], NAN, INF, -1.0, 10**400]
POSITIVE = [*FLOATS, 0]
COUNTS = ["x", True, None, [4], 2.0, 0, -1, 10**9]
FLAGS = ["maybe", "", 2, -1, 1.0, None, [True], NAN]
WORDS = [3, True, None, "", "a/b", "../x", "two words", "x" * 65, "\0", []]
RECIPE = {  # field -> values of a wrong type, out of range, not finite
    "name": WORDS,
    "data": [3, None, "nothing", "photos", []],
    "train_split": WORDS,
    "val_split": WORDS,
    "train_options": [3, "x", [], None],
    "val_options": [3, "x", [], None],
    "input_size": [64, "64x96", None, [64], [64, 96, 64], [64, 100], [0, 0], [-64, 64], [64.0, 96], ["64", "96"], [64, 8192]],
    "sigma": POSITIVE,
    "epochs": COUNTS,
    "batch_size": COUNTS,
    "lr": POSITIVE,
    "lr_steps": [1, "x", None, [0], [-1], ["1"], [1.5], [2, 1], [1, 1], [True]],
    "lr_scale_to": ["x", True, [4], 2.5, 0, -8],
    "warmup_iterations": ["x", True, None, [4], 2.5, -1],
    "weight_decay": FLOATS,
    "loss_factor": POSITIVE,
    "drop_last": FLAGS,
    "augmentation": [3, "x", None, [], {"colour": 1}],
    "eval_every": COUNTS,
    "flip_test": FLAGS,
    "metric": [3, None, "foo", "pckh", "ap", []],
    "blur": ["x", True, [11], 11.0, 4, 0, -3, 101],
    "lr_scaling": [3, None, "cubic"],
    "accumulate": [*COUNTS, SMOKE.batch_size + 1],
    "ema": [*FLOATS, 1.0],
    "sync_batchnorm": FLAGS,
    "deterministic": FLAGS,
    "precision": [3, None, "float16"],
    "init": [3, None, "xavier", True],
}
AUGMENTATION = {
    "rotation": [*FLOATS, 181],
    "scale": [*FLOATS, 1],
    "rotation_probability": [*FLOATS, 1.5],
    "rotation_law": [3, None, "cauchy"],
    "flip_probability": [*FLOATS, 1.5],
    "half_body_probability": [*FLOATS, 1.5],
    "half_body_min_joints": ["x", True, None, 2.0, -1],
    "jitter": [3, None, "static"],
}
RATIOS = ["x", 4, None, [4, 4, 8], [4, 4, 8, 0], [4, 4, 8, "8"], [4, 4, 8, -1], [4, 4, 8, NAN], [4, 4, 8, 4.0], [4, 4, 8, 200]]
OPTIONS = {
    "widths": [*RATIOS, [0, 80, 160, 320], [41, 80, 160, 320], [40, 80, 160, 10**9], [40, 80, 160, 320, 640]],
    "units": COUNTS,
    "cdc": FLAGS,
    "gcm_s": FLAGS,
    "gcm_c": FLAGS,
    "kernels": COUNTS,
    "attention": [3, None, "x", ["line"]],
    "attention_kernel": [*COUNTS, 2, NAN],
    "kernel_sizes": ["x", 3, None, [3, 3, 3, 3], [[3]] * 3, [[3], [3], [3], []], [[3], [3], [3], [4]], [[3], [3], [3], [-1]]],
    "order": [3, None, "x"],
    "spatial_ratio": COUNTS,
    "dense_spatial": FLAGS,
    "spatial_relu": FLAGS,
    "channel_ratios": RATIOS,
    "norm": [3, None, "batch"],
    "down": [3, None, "4x4"],
    "double_first": FLAGS,
    "head": [3, None, "x"],
    "dynamic_stem": FLAGS,
    "stem_gcm": FLAGS,
    "gate": [3, None, "x"],
    "gate_start": [3, None, "zero"],
    "conv_relu": FLAGS,
    "dynamic": [3, None, "x"],
    "context": [3, None, "x"],
    "mode": [3, None, "released", True],
    "pretrained": FLAGS,
}
LATE = {"accumulate": SMOKE.batch_size + 1, "widths": RATIOS[-1], "channel_ratios": [4, 4, 8, 200]}  # depends on other values


def cases(table):
    return [(name, value) for name, values in table.items() for value in values]


def refused(name, call):
    """The sentence of a refusal, which names `name`."""
    with pytest.raises(MdwError) as caught:
        call()
    sentence = str(caught.value)
    assert name in sentence and "\n" not in sentence and len(sentence) < 400, sentence
    return sentence


def test_the_tables_leave_nothing_out():
    assert RECIPE.keys() == {field.name for field in fields(Recipe)}
    assert AUGMENTATION.keys() == {field.name for field in fields(Augmentation)}
    assert OPTIONS.keys() == {name for model in mdw.list_models() for name in parameters(model_function(model))}


@pytest.mark.parametrize(("name", "value"), cases(RECIPE), ids=lambda x: str(x)[:20])
def test_a_recipe_takes_nothing_else(name, value, tmp_path):
    changes = {name: value}
    refused(name, lambda: recipes.get("smoke", **changes))
    if not (name == "augmentation" and isinstance(value, dict)):
        refused(name, lambda: Recipe(**{"name": "x", "data": "people", "batch_size": 4} | changes))
        refused(name, lambda: replace(SMOKE, **changes))
    refused(name, lambda: Recipe.from_dict(SMOKE.to_dict() | changes))
    text = value if isinstance(value, str) and "\0" not in value else json.dumps(value)
    if not isinstance(value, int) or abs(value) < 10**12:
        train = ("train", "mdw_hrnet_18", "--recipe", "smoke", "--runs", tmp_path / "runs")
        assert name in mistake(*train, "--set", f"{name}={text}")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("name", "value"), cases(AUGMENTATION), ids=lambda x: str(x)[:20])
def test_an_augmentation_takes_nothing_else(name, value):
    refused(name, lambda: Augmentation(**{name: value}))
    refused(name, lambda: recipes.get("smoke", augmentation={name: value}))


def test_an_augmentation_is_changed_switch_by_switch():
    changed = recipes.get("lspet_small", augmentation={"rotation": 45}).augmentation
    assert changed == replace(recipes.get("lspet_small").augmentation, rotation=45.0) and changed.half_body_probability == 0


@pytest.mark.parametrize("model", mdw.list_models())
def test_a_network_takes_nothing_else(model, tmp_path):
    train = ("train", model, "--recipe", "smoke", "--runs", tmp_path / "runs")
    for name in parameters(model_function(model)):
        for value in OPTIONS[name]:
            refused(name, lambda name=name, value=value: mdw.create_model(model, **{name: value}))
            if value != LATE.get(name):
                refused(name, lambda name=name, value=value: runs.make_spec(model, SMOKE, 0, {name: value}))
        assert name in mistake(*train, "-o", f"{name}={json.dumps(OPTIONS[name][-1])}")
    for value in ("x", True, None, 0, -1, 2.0, 10**9):
        refused("num_joints", lambda value=value: mdw.create_model(model, value))
    assert not list(tmp_path.iterdir())


def test_the_sentence_says_the_field_the_value_what_is_wanted_and_an_example():
    assert refused("lr", lambda: recipes.get("paper", lr="fast")) == "lr is 'fast'; it must be a number, for example lr=0.002"
    assert refused("widths", lambda: mdw.create_model("mdw_hrnet_18", widths=[0, 80, 160, 320])) == (
        "widths is [0, 80, 160, 320]; widths[0] must be greater than or equal to 4, for example widths=[40, 80, 160, 320]"
    )
    assert refused("flip_test", lambda: recipes.get("paper", flip_test="maybe")) == (
        "flip_test is 'maybe'; it must be true or false (yes, no, on, off, 1 and 0 are understood too), "
        "for example flip_test=true"
    )
    assert 'init="scaled"' in refused("init", lambda: recipes.get("paper", init="mixd"))
    assert "for example lr_scale_to=512" in refused("lr_scale_to", lambda: recipes.get("paper", lr_scale_to=-8))


SPELLINGS = {True: ("True", "true", "yes", "on", "1", "YES"), False: ("False", "false", "no", "off", "0", "Off")}


@pytest.fixture
def asked(monkeypatch):
    """The specs that `mdw train` hands on to training."""
    specs = []

    def train(spec, root, runs_root, device, **rest):
        specs.append(spec)
        raise MdwError("here training would begin")

    monkeypatch.setattr("mdw.training.train.train", train)
    return specs


def test_every_spelling_of_a_boolean_is_one_run(asked):
    """By the command line and from Python: the same folder, and the network and the validation that are meant."""
    for meant, words in SPELLINGS.items():
        asked.clear()
        for word in words:
            mistake("train", "mdw_hrnet_18", "-o", f"cdc={word}", "--set", f"flip_test={word}")
        spec = runs.make_spec("mdw_hrnet_18", recipes.get("demo", flip_test=meant), 0, {"cdc": meant})
        assert {runs.identity(one) for one in asked} == {runs.identity(spec)} and spec["options"] == {"cdc": meant}
        for value in (*words, meant, int(meant), np.bool_(meant)):
            assert runs.make_spec("mdw_hrnet_18", recipes.get("demo", flip_test=value), 0, {"cdc": value}) == spec
        for word in words[:2]:
            model = mdw.create_model("mdw_hrnet_18", cdc=word)
            assert any(isinstance(module, CrossChannelDynamicConv) for module in model.modules()) is meant


def test_every_boolean_of_every_network_and_recipe_reads_every_spelling():
    flags = {name for name, values in RECIPE.items() if values is FLAGS}
    for meant, words in SPELLINGS.items():
        for word in words:
            assert all(getattr(recipes.get("smoke", **{name: word}), name) is meant for name in flags)
        for model in mdw.list_models():
            for name in (name for name in parameters(model_function(model)) if OPTIONS[name] is FLAGS):
                told = {json.dumps(runs.make_spec(model, SMOKE, 0, {name: word})["options"]) for word in words}
                assert told == {json.dumps({name: meant})}


def test_one_number_in_two_spellings_is_one_run():
    def identity(options=None, seed=0, **changes):
        return runs.identity(runs.make_spec("mdw_hrnet_18", recipes.get("smoke", **changes), seed, options))

    assert identity(lr=1, weight_decay=0, loss_factor=1) == identity(lr=1.0, loss_factor=np.float32(1))
    assert identity(input_size=[64, 96]) == identity(input_size=(64, 96)) == identity(input_size=np.array([64, 96]))
    assert identity({"widths": (40, 80, 160, 320)}, np.int64(1)) == identity({"widths": [40, 80, 160, 320]}, 1)
    crowd = [{"count": 8, "size": [64, 96], "crowd": value} for value in (0, 0.0)]
    assert identity(train_options=crowd[0]) == identity(train_options=crowd[1])


def test_the_committed_records_and_the_studies_keep_their_names():
    """What a record says is what the program would write today, to the last character; a study's rows need no correction."""
    root = recipes.__file__.rpartition("/mdw/")[0] + "/runs"
    found = runs.find(root)
    assert len(found) > 20
    for one in found:
        again = runs.make_spec(one.spec["model"], Recipe.from_dict(one.spec["recipe"]), one.spec["seed"], one.spec["options"])
        assert json.dumps(again, sort_keys=True) == json.dumps(one.spec, sort_keys=True)
        assert runs.folder(again, root) == one.path
    for row in {row.label: row for study in studies.STUDIES.values() for row in study}.values():
        trained = studies.recipe(row, "coco")
        assert runs.make_spec(row.model, trained, 0, row.options) == runs.make_spec(
            row.model, trained, 0, row.options, known=True
        )


@pytest.mark.parametrize("seeds", ["0,0,0", "-1", "0,-1", "1.5", "", ",", "true", str(2**64)])
def test_seeds_are_distinct_whole_numbers_from_0_on(seeds, tmp_path):
    assert "--seeds" in mistake("reproduce", "table5", "--preset", "smoke", "--runs", tmp_path, f"--seeds={seeds}", "--dry-run")
    for wrong in ([0, 0], [-1], [True], [0.0], [], ["0"], 3):
        refused("seeds", lambda wrong=wrong: studies.plan("table5", "smoke", wrong, tmp_path))
    told = ("--runs", tmp_path, "-p", "seeds=[0, 0, 0]", "--out", tmp_path / "out")
    assert "seeds" in mistake("reproduce", "table5", "--preset", "smoke", *told)
    assert "seeds" in mistake("report", "table5", *told)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "size", ["0x0", "-64x64", "64x-64", "100x64", "64x100", "64", "axb", "64x64x64", "64.5x64", "99968x64"]
)
def test_sizes_are_multiples_of_32(size, tmp_path):
    for command in (("complexity", "small_hrnet"), ("bench",), ("export", "small_hrnet", "--out", tmp_path / "x.onnx")):
        assert "--size" in mistake(*command, f"--size={size}")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("device", ["foo", "meta", "cuda:99", "", "cpu:x"])
def test_a_device_that_is_not_here_is_refused_before_anything_is_written(device, tmp_path):
    out = tmp_path / "out"
    for command in (
        ("train", "mdw_hrnet_18", "--recipe", "smoke", "--runs", out),
        ("reproduce", "table5", "--preset", "smoke", "--runs", out, "--dry-run"),
        ("predict", "--out", out),
        ("evaluate", "--data", "people"),
        ("bench",),
    ):
        assert f"no device {device!r}" in mistake(*command, "--device", device)
    for wrong in (device, ["cpu"], 1.5):
        refused("device", lambda wrong=wrong: backend.pick_device(wrong))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--seed", "-1"), "seed"),
        (("--set", "metric=pckh"), "metric"),
        (("--set", "lr=0.1", "--set", "lr=0.2"), "lr twice"),
        (("--set", f"epochs={'9' * 5000}"), "epochs"),
        (("-o", f"kernels={'[' * 5000}"), "kernels"),
        (("-o", "kernels={"), "kernels"),
        (("-o", "kernels=1e400"), "kernels"),
        (("--set", "train_options={}", "--set", "val_options={}", "--set", "data=lspet"), "metric"),
        (("--set", 'train_options={"count": true}'), "count"),
        (("--set", 'train_options={"packed": 5}'), "packed"),
        (("--set", 'train_options={"packed": ["x"]}'), "packed"),
        (("--set", 'train_options={"size": [64]}'), "size"),
        (("--set", 'val_options={"crowd": NaN}'), "crowd"),
        (("--set", 'val_options={"colour": 1}'), "colour"),
    ],
    ids=lambda x: str(x)[:30],
)
def test_mistakes_on_the_command_line(arguments, named, tmp_path):
    sentence = mistake("train", "mdw_hrnet_18", "--recipe", "smoke", "--runs", tmp_path / "runs", *arguments)
    assert named in sentence and len(sentence) < 400
    assert not list(tmp_path.iterdir())


def test_what_a_data_set_is_measured_by_is_what_its_metric_may_be():
    assert data.METRICS.keys() == data.DATASETS.keys()
    people = data.load("people", "val", count=2, size=(64, 96))
    measured = mdw.inference.evaluate.score(people, np.zeros((2, 17, 2)), np.zeros((2, 17)))
    assert set(data.METRICS["people"]) <= measured.keys()
    for recipe in map(recipes.get, recipes.RECIPES):
        assert recipe.metric in data.METRICS[recipe.data]


JUNK = [
    None, True, False, -1, 0, 1, 2, 3, 4, 5, 8, 17, 64, 2.5, NAN, INF, 10**30, 1e-300, "", "x", "true", "off", "../x", "\0",
    "é", "line", "scalar", "group", "single", "parallel", "odconv", "se", "norm", "sqrt", "pck", "lspet", [], [1], [64, 96],
    [64] * 4, [4] * 4, [2] * 4, [[3], [3], [3], [3, 5]], [[[1]]], {}, {"a": 1}, {"count": 3}, object(),
]  # fmt: skip


def test_any_change_of_a_recipe_is_a_refusal_or_a_recipe():
    rng, taken = random.Random(0), 0
    names = list(RECIPE)
    for _ in range(3000):
        changes = {name: rng.choice(JUNK) for name in rng.sample(names, rng.choice((1, 1, 2)))}
        try:
            spec = runs.make_spec("mdw_hrnet_18", recipes.get("smoke", **changes), rng.choice((0, 1)))
        except MdwError:
            continue
        made = Recipe.from_dict(json.loads(json.dumps(spec, allow_nan=False))["recipe"])
        assert made.to_dict() == spec["recipe"] and recipes.learning_rate(made, 0, 0) > 0
        assert runs.folder(spec, "").parts[:-1] in ((), (runs.SYNTHETIC,)), "the name is one folder's"
        taken += 1
    assert taken > 200


def test_any_change_of_a_network_is_a_refusal_or_a_network():
    rng, taken = random.Random(0), 0
    names = list(parameters(model_function("mdw_hrnet_18")))
    for _ in range(1200):
        options = {name: rng.choice(JUNK) for name in rng.sample(names, rng.choice((1, 2, 3)))}
        try:
            options = fit_options("mdw_hrnet_18", options)
            model = small("mdw_hrnet_18", 5, **options).eval()
        except MdwError:
            continue
        taken += 1
        with torch.no_grad():
            assert model(torch.zeros(1, 3, 64, 32)).isfinite().all(), options
    assert taken > 30


def test_a_value_that_never_ends_is_refused():
    endless: list = []
    endless.append(endless)
    refused("kernels", lambda: mdw.create_model("mdw_hrnet_18", kernels=endless))
    refused("x", lambda: fit("x", np.zeros((3, 3)), int))


def test_help_names_every_flag_that_is_checked():
    for command, flag in (("evaluate", "--blur"), ("train", "--seed"), ("reproduce", "--seeds")):
        assert flag in run(command, "--help")[1]
