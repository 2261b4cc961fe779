"""The command export."""

from pathlib import Path
from typing import Annotated

import typer

from mdw.cli.common import Joints, Json, as_lines, read_size, read_values, show
from mdw.util.errors import MdwError


def export(
    model: Annotated[str, typer.Argument(help="A network of `mdw list`.")],
    weights: Annotated[Path | None, typer.Argument(help="Weights, as for `mdw predict`; random weights if left out.")] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="The file to write.")] = Path("model.onnx"),
    size: Annotated[str | None, typer.Option(help="HEIGHTxWIDTH; what the weights were trained at, else 256x192.")] = None,
    joints: Joints = 17,
    option: Annotated[list[str] | None, typer.Option(help="A network's keyword, NAME=VALUE; repeatable.")] = None,
    as_json: Json = False,
) -> None:
    """Write a network as ONNX with a free batch size, checked against torch with onnxruntime."""
    from mdw.models import create_model, fit_options, model_function
    from mdw.models import export as exporting
    from mdw.models.weights import load_network, read_about, weights_file

    model_function(model)  # a misspelt name is told before anything is read
    asked = read_size(size) if size else None
    if weights is None:
        network, shape = create_model(model, joints, **fit_options(model, read_values("--option", option))), (256, 192)
        typer.echo("random weights: the file shows that the network exports and how fast it is, nothing else", err=True)
    else:
        network, _, (width, height) = load_network(weights)
        shape = (height, width)
        trained = read_about(weights_file(weights))["model"]
        if trained != model:
            raise MdwError(f"{weights} holds {trained}, not {model}; name the network the weights were trained with")
    shape = asked or shape
    found = exporting.export(network, out, shape)
    record = {"file": str(out), "model": model, "opset": exporting.OPSET, "height": shape[0], "width": shape[1]}
    record |= {"largest_difference": found.difference, "largest_value": found.largest, "tolerance": exporting.TOLERANCE}
    show(record, as_json, as_lines)
