"""The command export."""

from pathlib import Path
from typing import Annotated

import typer

from mdw.cli.common import WEIGHTS, InputSize, Joints, Json, Options, Root, as_lines, read_size, read_values, show
from mdw.util.errors import MdwError


def export(
    model: Annotated[str, typer.Argument(help="A network of `mdw list`.")],
    weights: Annotated[Path | None, typer.Argument(help=f"One of: {WEIGHTS}. Random weights if left out.")] = None,
    out: Annotated[Path, typer.Option("--out", help="The file to write.")] = Path("model.onnx"),
    size: InputSize = None,
    joints: Joints = 17,
    batch: Annotated[int | None, typer.Option(min=1, help="Fix the batch; of 1, each dynamic kernel is mixed first.")] = None,
    precision: Annotated[str, typer.Option(help="fp32, fp16 or int8.")] = "fp32",
    data: Annotated[str | None, typer.Option(help="int8: the data set on whose training persons ranges are found.")] = None,
    root: Root = None,
    persons: Annotated[int, typer.Option(min=1, help="int8: so many of them, evenly over the split.")] = 64,
    option: Options = None,
    as_json: Json = False,
) -> None:
    """Write a network as ONNX, its batch free unless it is fixed, checked against torch with onnxruntime.

    It needs the extra export. `mdw evaluate --onnx FILE` measures what a precision costs in accuracy.
    """
    from mdw.data import check_place
    from mdw.models import fit_options

    files = [text for text in option or () if text.endswith(".onnx") and "=" not in text]  # -o was --out here
    option, out = [text for text in option or () if text not in files], Path(files[0]) if files else out
    keywords = fit_options(model, read_values("--option", option))  # a misspelt name is reported before anything is read
    requested_size = read_size(size) if size else None
    if data:
        check_place(data, root)
    from mdw.models import create_model
    from mdw.models import export as exporting
    from mdw.models.weights import load_network, read_about, weights_file

    if (precision == "int8") != (data is not None):
        raise MdwError("--data goes with --precision int8, which finds the ranges of activations on its training persons")
    exporting.check(precision, batch)
    if weights is None:
        network, shape = create_model(model, joints, **keywords), (256, 192)
        typer.echo("random weights: the file shows that the network exports and how fast it is, nothing else", err=True)
    else:
        network, _, (width, height) = load_network(weights)
        shape = (height, width)
        trained = read_about(weights_file(weights))["model"]
        if trained != model:
            raise MdwError(f"{weights} holds {trained}, not {model}; name the network the weights were trained with")
    shape = requested_size or shape
    crops = _crops(data, root, persons, shape) if data else None
    exported = exporting.export(network, out, shape, batch, precision, crops)
    record = {"file": str(out), "model": model, "opset": exporting.OPSET, "height": shape[0], "width": shape[1]}
    record |= {"batch": batch or "free", "precision": precision, "nodes": exported.nodes}
    record |= {"persons": len(crops), "data": data} if crops is not None else {}
    record |= {"largest_difference": exported.difference, "largest_value": exported.largest}
    record |= {"tolerance": exporting.TOLERANCES[precision]} if precision != "int8" else {}
    show(record, as_json, as_lines)


def _crops(data: str, root: Path | None, persons: int, size: tuple[int, int]):
    """Returns normalised crops (n, 3, H, W) of at most `persons` training persons, evenly over the split; `size` (h, w)."""
    import numpy as np

    from mdw.data import load
    from mdw.inference.evaluate import read_crops

    people = load(data, "train", root, size[1] / size[0])
    selected = people.select(np.unique(np.linspace(0, len(people) - 1, persons).round().astype(int)))
    return np.concatenate([crops for _, crops in read_crops(selected, size[::-1], 32)])
