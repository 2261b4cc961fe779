"""The commands about training runs: runs, persons."""

from pathlib import Path
from typing import Annotated

import typer

from mdw.cli.common import ForUse, Json, Root, as_table, show
from mdw.util.stages import clock


def runs(
    folder: Annotated[Path, typer.Option("--runs", help="The folder of training runs.")] = Path("runs"),
    as_json: Json = False,
) -> None:
    """List the runs of a folder: how far each is, its best value so far and the time it took."""
    from mdw.training.runs import find, located, summary

    folder = located(folder)
    show([summary(run) for run in find(folder)], as_json, lambda rows: _table(rows) or f"there is no run in {folder}")


def persons(
    folders: Annotated[list[Path], typer.Argument(help="Folders of finished runs.")],
    root: Root = None,
    weights: Annotated[Path | None, typer.Option(help="The run's weights, where its folder has none.")] = None,
    backend: ForUse = "auto",
) -> None:
    """Write persons.csv, the results person by person, for finished runs that have none. It needs their validation set."""
    from tqdm import tqdm

    from mdw.training.persons import NAME, add
    from mdw.training.runs import Run

    for folder in folders:
        if (folder / NAME).exists():
            typer.echo(f"{folder / NAME} is there already")
        else:
            bar = lambda batches: tqdm(batches, "predicting", disable=None)  # noqa: E731
            typer.echo(add(Run(folder), root, weights, backend, bar))


def _table(rows: list[dict]) -> str:
    lines = [
        {
            "run": row["run"],
            "status": row["status"],
            "epochs": "-" if row["epochs"] is None else f"{row['done']}/{row['epochs']}",
            "best": "-" if row["best"] is None else f"{row['metric']} {row['best']:.4g} (epoch {row['best_epoch']})",
            "time": clock(row["seconds"]),
            "images/s": "-" if row["images_per_s"] is None else f"{row['images_per_s']:.1f}",
        }
        for row in rows
    ]
    return as_table(lines)
