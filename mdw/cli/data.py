"""Commands about data sets: list, show; download, verify, convert and pack in files of their own."""

from pathlib import Path
from typing import Annotated

import typer

from mdw.cli.common import JointFile, Json, Root, show
from mdw.cli.convert import convert
from mdw.cli.download import download, verify
from mdw.cli.pack import pack

app = typer.Typer(no_args_is_help=True, help="Fetch, check, convert, pack and look at data sets.")
app.command()(download)
app.command()(verify)
app.command()(convert)
app.command()(pack)


@app.command("list")
def data_list(as_json: Json = False) -> None:
    """List the data sets that can be named."""
    from mdw.data import DATASETS

    show(list(DATASETS), as_json, lambda names: "\n".join(names))


@app.command("show")
def data_show(
    name: Annotated[str, typer.Argument(help="A data set of `mdw data list`.")],
    root: Root = None,
    split: Annotated[str | None, typer.Option(help="train, val, ...; the data set's first if left out.")] = None,
    joints: JointFile = None,
    count: Annotated[int, typer.Option(min=1, help="How many people.")] = 24,
    out: Annotated[Path, typer.Option("--out", help="The picture to write.")] = Path("sheet.png"),
) -> None:
    """Write a contact sheet of people with their joints."""
    import numpy as np

    from mdw.data import load
    from mdw.draw import overlay, sheet, write_image

    options = {"joints": joints} if joints else {}
    dataset = load(name, split or ("all" if name == "photos" else "train"), root, **options)
    samples = [dataset[i] for i in range(min(count, len(dataset)))]
    people = [np.concatenate([s.joints, s.visible[:, None]], axis=1)[None] for s in samples]
    pictures = [overlay(s.pixels(), p, dataset.joints, 0.5) for s, p in zip(samples, people, strict=True)]
    write_image(out, sheet(pictures, columns=6))
    typer.echo(f"{len(samples)} of {len(dataset)} people of {dataset.name} are drawn in {out}")
