"""The command that converts a data set's official labels into the form that mdw reads: convert."""

from pathlib import Path
from typing import Annotated

import typer

from mdw.util.errors import MdwError


def convert(
    name: Annotated[str, typer.Argument(help="mpii")],
    root: Annotated[Path, typer.Option(help="The data set's folder, which holds the official annotation file.")],
    validation: Annotated[
        Path | None,
        typer.Option(help="Tompson's detections.mat, the list of validation persons where valid.json is not."),
    ] = None,
) -> None:
    """Write MPII's official annotations as JSON: annot/train.json, valid.json, trainval.json and test.json."""
    from mdw.data.mpii_release import convert as convert_mpii

    if name != "mpii":
        raise MdwError(f"there is nothing to convert for {name!r}; mpii can be converted")
    convert_mpii(root, validation, typer.echo)
