"""Commands about person crops packed for training: pack, check-pack."""

from pathlib import Path
from typing import Annotated

import typer

from mdw.cli.common import Changes, Json, Root, as_lines, recipe_for, show


def pack(
    name: Annotated[str, typer.Argument(help="A data set of `mdw data list`.")],
    out: Annotated[Path, typer.Option(help="The folder to write.")],
    root: Root = None,
    split: Annotated[str, typer.Option(help="Part of the data set; a wrong one lists them.")] = "train",
    recipe: Annotated[str | None, typer.Option(help="What to be wide enough for; the data set's first if left out.")] = None,
    change: Changes = None,
    compact: Annotated[bool, typer.Option("--compact", help="WebP, with loss, instead of JPEG as the photos have it.")] = False,
    workers: Annotated[int, typer.Option(min=1, help="How many processes.")] = 1,
    as_json: Json = False,
) -> None:
    """Cut out the people of a data set once, so that training need not decode whole photos.

    The same command goes on with an interrupted pack and checks a finished one. To train with it:
    `mdw train NETWORK --recipe RECIPE --pack FOLDER`.
    """
    from mdw import data

    data.check_place(name, root)
    chosen = recipe_for(name, recipe, change)

    from tqdm import tqdm

    from mdw.data.pack import pack as pack_crops
    from mdw.data.packed import verify

    options = {key: value for key, value in chosen.train_options.items() if key != "packed"} if chosen.data == name else {}
    dataset = data.load(name, split, root, chosen.aspect, **options)
    source = {"data": name, "split": split, "aspect": chosen.aspect, "options": data.settled(name, options)}
    with tqdm(total=len(dataset), desc="packing", unit=" persons", disable=None) as bar:
        figures = pack_crops(dataset, out, tuple(chosen.input_size), chosen.augmentation, source, compact, workers, bar.update)
    verify(out)
    show(figures | {"bytes_per_person": round(figures["bytes"] / figures["persons"])}, as_json, as_lines)


def check_pack(
    folder: Annotated[Path, typer.Argument(help="A finished pack.")],
    root: Root = None,
    count: Annotated[int, typer.Option(min=1, help="How many persons are compared.")] = 320,
    as_json: Json = False,
) -> None:
    """Verify a pack and measure it against the photos it was made from: size, pixels, images a second."""
    from mdw import data
    from mdw.data.packed import open_pack, verify
    from mdw.training.pack_check import check_pack as measure

    verify(folder)
    packed = open_pack(folder)
    source = packed.settings["source"]
    direct = data.load(source["data"], source["split"], root, source["aspect"], **source["options"])
    show(measure(packed, direct, count), as_json, lambda values: as_lines(values, 26))
