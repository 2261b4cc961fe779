"""The commands that fetch and check the public data sets: download, verify."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from mdw.cli.common import Json, show
from mdw.util.errors import MdwError
from mdw.util.extras import need
from mdw.util.words import count, unknown

Name = Annotated[str, typer.Argument(help="coco, mpii, lsp or lspet.")]
Folder = Annotated[Path, typer.Option(help="The data set's folder; the one that training and evaluation take.")]
Parts = Annotated[list[str] | None, typer.Option("--part", help="Only this part; repeatable. A wrong name lists them.")]


def download(
    name: Name,
    root: Folder,
    part: Parts = None,
    mirror: Annotated[
        str | None, typer.Option(help="Fetch from here, for example https://mirror.example.org/coco; the paths stay.")
    ] = None,
    keep_archives: Annotated[bool, typer.Option("--keep-archives", help="Leave the zip and tar files there.")] = False,
) -> None:
    """Fetch a data set, check it and unpack it. coco is 27 GB, mpii 13 GB, lsp and lspet are small.

    The free space on the disk is checked first. After an interruption the same command continues; files that are there already
    are not fetched again, nor is an archive that you put into the folder yourself. Files without a public address are listed at
    the end, with what to do.
    """
    need("download", "pooch", "requests")
    from mdw.data import download as library

    library.download(_source(name).pick(part), root, mirror, keep_archives, tell=typer.echo)


def verify(
    name: Name,
    root: Folder,
    part: Parts = None,
    contents: Annotated[bool, typer.Option("--contents", help="Read every file, too, and compare its CRC-32.")] = False,
    as_json: Json = False,
) -> None:
    """Check the files of a data set: presence and size of every file, checksums of archives, numbers of entries.

    A copy that was unpacked by hand can only be counted. Status 1 where something is absent or broken.
    """
    need("download", "pooch", "requests")
    from mdw.data import download as library

    results = library.verify(_source(name).pick(part), root, contents)
    show([asdict(line) for line in results], as_json, lambda lines: "\n".join(_line(**line) for line in lines))
    if bad := [f"{line.part} ({line.state})" for line in results if line.state != "ok"]:
        problem = f"not whole: {len(bad)} of {count(len(results), 'file')} of {name}, {', '.join(bad)}"
        raise MdwError(f"{problem}; `mdw data download {name} --root {root}` mends them or says what to do")


def _source(name: str):
    from mdw.data.sources import SOURCES

    if name not in SOURCES:
        raise unknown("there is no data set to download called", name, SOURCES, "there is")
    return SOURCES[name]


def _line(part: str, file: str, state: str, checked: str) -> str:
    return f"{state:7} {part:15} {file}: {checked}"
