"""What every command says of itself, and that a slip is answered with what was meant."""

import inspect
import re
from collections import defaultdict
from typing import get_args

import pytest
import typer
from command import mistake, run

from mdw.cli import app

ROOT = typer.main.get_command(app)


def commands(command=ROOT, path=()):
    """(words, command) of every command, groups too."""
    yield path, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, (*path, name))


COMMANDS = dict(commands())
OPTIONS = [(path, p) for path, command in COMMANDS.items() for p in command.params if p.param_type_name == "option"]
SHOWN = [(path, p) for path, p in OPTIONS if not p.hidden and p.name != "help"]


def squeezed(text):
    """Without spaces, which wrapping moves, and without what click puts at a hyphen."""
    return re.sub(r"\s+", "", text)


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_the_help_shows_every_word_of_it(path):
    """Rich's markup would eat what stands in brackets, as in [[x, y, w, h], ...]."""
    status, output, _ = run(*path, "--help")
    shown = squeezed(output)
    assert status == 0
    texts = [COMMANDS[path].help or "", *(p.help for p in COMMANDS[path].params if p.help and not getattr(p, "hidden", False))]
    for text in texts:
        assert squeezed(text) in shown, text


def test_predicts_help_has_the_librarys_defaults():
    """It is shown without loading torch or OpenCV."""
    from mdw.inference.detector import DEFAULT
    from mdw.inference.draw import SURE

    params = {p.name: p for p in COMMANDS["predict",].params}
    assert params["threshold"].default == SURE and f"{DEFAULT} if left out" in params["detector"].help


def test_every_flag_and_argument_has_a_help():
    arguments = [(path, p) for path, command in COMMANDS.items() for p in command.params if p.param_type_name == "argument"]
    assert not [(*path, p.name) for path, p in SHOWN + arguments if not p.help]


def test_a_flag_means_one_thing_in_every_command():
    kinds, longs = defaultdict(set), defaultdict(set)
    for path, p in SHOWN:
        annotation = inspect.signature(COMMANDS[path].callback, eval_str=True).parameters[p.name].annotation
        for flag in p.opts:
            kinds[flag].update(set(re.findall(r"\b(str|Path|int|float|bool)\b", str(get_args(annotation)[0]))))
            longs[flag].add(max(p.opts, key=len))
    assert {flag: found for flag, found in kinds.items() if len(found) > 1} == {}
    assert {flag: found for flag, found in longs.items() if len(found) > 1} == {}
    assert not {"--packed", "--all"} & kinds.keys()


def test_old_spellings_that_were_written_down_still_work(tmp_path):
    hidden = {(path[-1], flag) for path, p in OPTIONS if p.hidden for flag in p.opts}
    assert hidden == {("bench", "--record"), ("report", "--all")}
    out = tmp_path / "small.onnx"
    assert run("export", "small_hrnet", "--size", "64x64", "-o", out)[0] == 0 and out.is_file()


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_examples_in_helps_are_accepted(path):
    """`mdw WORDS` in a help names a command that there is, and flags that it takes."""
    texts = [COMMANDS[path].help or "", *(p.help or "" for p in COMMANDS[path].params)]
    for example in re.findall(r"`(?:torchrun .*-m )?mdw ([^`]+)`", " ".join(" ".join(texts).split())):
        words = example.split()
        named = max((p for p in COMMANDS if words[: len(p)] == list(p)), key=len)
        assert named, example
        flags = {flag for p in COMMANDS[named].params for flag in p.opts}
        assert {word for word in words if word.startswith("--")} <= flags, example


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        ("train mdw_hrnet18", "mdw_hrnet_18"),
        ("complexity hrnet32", "hrnet_w32"),
        ("export mdw-hrnet-18x", "mdw_hrnet_18"),
        ("bench --models litehrnet_18", "lite_hrnet_18"),
        ("train mdw_hrnet_18 --recipe lspet_smal", "lspet_small"),
        ("train mdw_hrnet_18 -o cdd=false", "cdc"),
        ("train mdw_hrnet_18 --set batchsize=3", "batch_size"),
        ("evaluate --data lsptet", "lspet"),
        ("data show photso", "photos"),
        ("data pack coko --out OUT", "coco"),
        ("data download cocoo --root OUT", "coco"),
        ("reproduce table5 --preset lspet_smal", "lspet_small"),
        ("report --preset dmeo", "demo"),
        ("reproduce tabel5", "table5"),
        ("report quikstart", "quickstart"),
        ("train mdw_hrnet_18 --backend tunde", "tuned"),
        ("predict --backend onxx", "onnx"),
        ("predict --weights litehrnet_18=FILE.pth", "lite_hrnet_18"),
        ("bench --modes tunde", "tuned"),
    ],
)
def test_a_slip_is_answered_with_what_was_meant(tmp_path, words, meant):
    assert f"did you mean {meant}?" in mistake(*(tmp_path / "out" if word == "OUT" else word for word in words.split()))
    assert not (tmp_path / "out").exists()


def test_a_slip_in_a_flag_or_command_too():
    assert "--recipe" in run("train", "--recpie", "x")[1]
    assert "train" in run("trian")[1]
    assert "--num-joints" in run("complexity", "--joints", "14")[1]


def test_what_is_like_nothing_gets_no_suggestion():
    assert "did you mean" not in mistake("train", "xyzzy")


def test_the_example_of_a_pair_fits_the_flag():
    assert "--option cdc=false" in mistake("train", "mdw_hrnet_18", "-o", "cdc")
    assert "--set lr=0.001" in mistake("train", "mdw_hrnet_18", "--set", "lr")


def test_options_are_read_from_the_source_as_from_the_function():
    from mdw.models import MODELS, _keywords, model_function, parameters

    for name, module in MODELS.items():
        assert _keywords(module, name) == list(parameters(model_function(name))), name


def test_one_is_not_many():
    from mdw.util.words import count

    assert [count(n, "photo") for n in (0, 1, 2, 4096)] == ["0 photos", "1 photo", "2 photos", "4,096 photos"]
    assert count(1, "person", "people") == "1 person" and count(2, "person", "people") == "2 people"
