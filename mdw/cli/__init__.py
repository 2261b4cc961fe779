"""The command line: a thin skin over the library. A mistake of the user's ends with one sentence and status 1."""

import os
import sys

import typer

from mdw.cli import bench, data, evaluate, export, networks, predict, reports, runs, train
from mdw.util.errors import MdwError

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Rebuild, measure and compare lightweight pose networks: MDW-HRNet and its peers.",
)
app.command("list")(networks.list_)
app.command()(networks.complexity)
app.command()(bench.bench)
app.command()(export.export)
app.command()(train.train)
app.command()(evaluate.evaluate)
app.command()(predict.predict)
app.command()(runs.runs)
app.command()(runs.persons)
app.command()(reports.reproduce)
app.command()(reports.report)
app.add_typer(data.app, name="data")


def main() -> None:
    """Run the command line; the entry point `mdw`.

    Threads that wait for each other look for some 20 microseconds and then sleep, unless the shell says otherwise. libgomp's
    own choice is to look for milliseconds: on a quiet machine that is no faster, beside another busy process a training step
    of mdw_hrnet_18 on two threads took 4.4 s instead of 2.4 s. Read when torch is loaded, by GNU's OpenMP alone.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "20000")
    try:
        app()
    except MdwError as error:
        sys.exit(f"mdw: {error}")
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader has gone; nothing is left to say
        sys.exit(1)
