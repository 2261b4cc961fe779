"""Common parts of the commands: types of their flags, reading NAME=VALUE, printing."""

import contextlib
import json
from pathlib import Path
from typing import Annotated

import typer

from mdw.util.errors import MdwError
from mdw.util.typed import Seeds, Size, fit

EXAMPLES = {"--option": "cdc=false", "--models": "cdc=false", "--slurm": "slurm_partition=gpu", "--parameter": "seeds=[0,1]"}

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Root = Annotated[Path | None, typer.Option(help="The data set's folder.")]
RunsRoot = Annotated[Path, typer.Option("--runs", help="The folder of training runs.")]
Device = Annotated[str | None, typer.Option(help="A torch device; a GPU if there is one.")]
Options = Annotated[list[str] | None, typer.Option("--option", "-o", help="A network's keyword, NAME=VALUE; repeatable.")]
# --computation is the flag's name in the first edition and still works
Backend = Annotated[
    str,
    typer.Option(
        "--backend",
        "--computation",
        help="reference, tuned (a CPU with a C compiler; a GPU for training alone), or auto: tuned on CPUs.",
    ),
]
ForUse = Annotated[
    str,
    typer.Option(
        "--backend",
        "--computation",
        help="reference, tuned (a CPU with a C compiler), onnx (a CPU with the extra export), or auto: the fastest on CPUs.",
    ),
]
Pack = Annotated[
    Path | None, typer.Option(help="A pack of this split, made by `mdw data pack`, which is read instead of the photos.")
]
InputSize = Annotated[str | None, typer.Option("--size", help="HEIGHTxWIDTH; what the weights were trained at, else 256x192.")]
FlipTest = Annotated[bool, typer.Option(help="Average the heatmaps of the image and of its mirror image.")]
Changes = Annotated[list[str] | None, typer.Option("--set", help="A field of the recipe, as NAME=VALUE; repeatable.")]
JointFile = Annotated[Path | None, typer.Option("--joints", help="The joints of a custom data set, a TOML file.")]
Blur = Annotated[
    int | None, typer.Option(help="Odd width of a Gaussian filter on heatmaps before decoding: 11 for a sigma of 2, 17 for 3.")
]
WEIGHTS = (
    "a weights.safetensors; a run's folder; a name that comes with weights (a wrong one lists them); or an official checkpoint "
    "with its network, as lite_hrnet_18=FILE.pth"
)
Weights = Annotated[Path | None, typer.Option(help=f"One of: {WEIGHTS}. MDW-HRNet-18's if left out.")]
Joints = Annotated[int, typer.Option("--num-joints", min=1, help="How many joints the network predicts.")]


def read_values(flag: str, pairs: list[str] | None) -> dict:
    """Returns NAME=VALUE pairs as a dict; values are read as JSON if possible, else as text. MdwError for a repeated name."""
    values = {}
    for pair in pairs or []:
        name, equals, text = pair.partition("=")
        if not equals or not name:
            raise MdwError(f"{flag} {pair!r} is no NAME=VALUE; write for example {flag} {EXAMPLES.get(flag, 'lr=0.001')}")
        if name in values:
            raise MdwError(f"{flag} gives {name} twice; leave one of them out")
        values[name] = text
        with contextlib.suppress(ValueError, RecursionError):  # no JSON, too long a number, too deep a list
            values[name] = json.loads(text)
    return values


def read_seeds(text: str) -> list[int]:
    """Returns different integers from 0 on, separated by commas. Raises MdwError for anything else."""
    try:
        seeds = [int(seed) for seed in text.split(",")]
    except ValueError:
        raise MdwError(f"--seeds {text!r} is no list of whole numbers; write for example --seeds 0,1,2") from None
    return list(fit("--seeds", seeds, Seeds, "0,1,2"))


def read_size(text: str) -> tuple[int, int]:
    """Returns "256x192" as (height, width). Raises MdwError for sides that no network here takes."""
    try:
        height, width = map(int, text.lower().split("x"))
    except ValueError:
        raise MdwError(f"--size {text!r} is no HEIGHTxWIDTH; write for example --size 256x192") from None
    return fit("--size", (height, width), Size, "256x192")


def recipe_for(data: str, name: str | None, changes: list[str] | None, otherwise: str | None = None):
    """Returns the recipe `name`, by default the first one for `data`, else the recipe `otherwise`; with --set's changes."""
    from mdw.training import recipes

    name = name or next((key for key, make in recipes.RECIPES.items() if make().data == data), otherwise)
    if name is None:
        raise MdwError(f"no recipe trains on {data}; say with --recipe which one's input and augmentation to take")
    return recipes.get(name, **read_values("--set", changes))


def show(value, as_json: bool, text) -> None:
    typer.echo(json.dumps(value, indent=1) if as_json else text(value))


def as_table(rows: list[dict]) -> str:
    """Returns rows with the same keys as a text table; without pandas, whose import takes half a second."""
    lines = [list(rows[0]), *([str(value) for value in row.values()] for row in rows)] if rows else []
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(" ".join(text.rjust(width) for text, width in zip(line, widths, strict=True)) for line in lines)


def as_lines(values: dict, width: int = 16) -> str:
    return "\n".join(f"{name:{width}} {_short(value)}" for name, value in values.items() if not isinstance(value, list))


def _short(value) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_short(inner)}" for name, inner in value.items())
    return f"{value:.6g}" if isinstance(value, float) else str(value)
