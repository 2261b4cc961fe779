"""Commands about data sets: list, show; download, verify, convert, pack and check-pack are in their own files."""

from pathlib import Path
from typing import Annotated

import typer

from mdw.cli.common import Changes, JointFile, Json, Pack, Root, recipe_for, show
from mdw.cli.convert import convert
from mdw.cli.download import download, verify
from mdw.cli.pack import check_pack, pack
from mdw.util.words import count as number

app = typer.Typer(no_args_is_help=True, help="Fetch, check, convert, pack and look at data sets.")
app.command()(download)
app.command()(verify)
app.command()(convert)
app.command()(pack)
app.command()(check_pack)


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
    augmented: Annotated[int, typer.Option(min=0, help="How many augmented versions of each.")] = 4,
    recipe: Annotated[str | None, typer.Option(help="Whose input and augmentation; the data set's, else `paper`.")] = None,
    change: Changes = None,
    pack: Pack = None,
    out: Annotated[Path, typer.Option("--out", help="The image to write.")] = Path("sheet.png"),
) -> None:
    """Write a sheet of people as training sees them: crop with joints, target heatmaps, augmented versions."""
    from mdw.data import check_place, load

    check_place(name, root)
    chosen = recipe_for(name, recipe, change, otherwise="paper")
    from mdw.inference.draw import write_image
    from mdw.training.samples import sample_sheet

    options = {"joints": joints} if joints else {}
    dataset = load(name, split or ("all" if name == "photos" else "train"), root, chosen.aspect, pack, **options)
    write_image(out, sample_sheet(dataset, chosen, count, augmented))
    shown = f"{count} of " if count < len(dataset) else ""
    typer.echo(f"{out} shows {shown}the {number(len(dataset), 'person', 'people')} of the data set {dataset.name}")
