"""The command that packs person crops for training: pack."""

from pathlib import Path
from typing import Annotated

import typer

from mdw.cli.common import Changes, Json, Root, as_lines, read_values, show
from mdw.errors import MdwError


def pack(
    name: Annotated[str, typer.Argument(help="A data set of `mdw data list`.")],
    out: Annotated[Path, typer.Option(help="The folder to write.")],
    root: Root = None,
    split: str = "train",
    recipe: Annotated[str | None, typer.Option(help="What to be wide enough for; the data set's first if left out.")] = None,
    change: Changes = None,
    compact: Annotated[bool, typer.Option("--compact", help="WebP, with loss, instead of JPEG as the photos have it.")] = False,
    workers: Annotated[int, typer.Option(min=1, help="How many processes.")] = 1,
    as_json: Json = False,
) -> None:
    """Cut out the people of a data set once, so that training need not decode whole photos.

    The same command goes on with an interrupted pack and checks a finished one. To train with it:
    `mdw train ... --set 'train_options={"packed": "FOLDER"}'`.
    """
    from tqdm import tqdm

    from mdw import data, recipes
    from mdw.data.pack import pack as pack_crops
    from mdw.data.packed import verify

    recipe = recipe or next((made.name for make in recipes.RECIPES.values() if (made := make()).data == name), None)
    if recipe is None:
        raise MdwError(f"no recipe trains on {name}; say with --recipe which one's input and augmentation to pack for")
    chosen = recipes.get(recipe, **read_values("--set", change))
    options = {key: value for key, value in chosen.train_options.items() if key != "packed"} if chosen.data == name else {}
    dataset = data.load(name, split, root, chosen.aspect, **options)
    source = {"data": name, "split": split, "aspect": chosen.aspect, "options": data.settled(options)}
    with tqdm(total=len(dataset), desc="packing", unit=" persons", disable=None) as bar:
        made = pack_crops(dataset, out, tuple(chosen.input_size), chosen.augmentation, source, compact, workers, bar.update)
    verify(out)
    show(made | {"bytes_per_person": round(made["bytes"] / made["persons"])}, as_json, as_lines)
