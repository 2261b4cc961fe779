"""The command line: a thin layer over the library. A user's mistake ends with one sentence and status 1."""

import errno
import io
import os
import sys

import typer

from mdw.cli import bench, data, evaluate, export, networks, predict, reports, runs, train
from mdw.util.errors import MdwError

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # markup would eat what stands in brackets
    help="Rebuild, measure and compare lightweight pose networks: MDW-HRNet and those it is compared with.",
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
app.command()(reports.notebooks)
app.add_typer(data.app, name="data")


def main() -> None:
    """Run the command line; the entry point `mdw`.

    Waiting threads of GNU's OpenMP spin for some 20 microseconds and then sleep, unless the environment says otherwise.
    libgomp's default of milliseconds is not faster on a quiet machine, and beside another busy process a training step of
    mdw_hrnet_18 on two threads took 4.4 s instead of 2.4 s. The variable is read when torch is imported.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "20000")
    for number in (0, 1, 2):  # the next opened file would get the number of a closed one
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # for characters that the locale or UTF-8 does not have
    try:
        try:
            app()
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()  # here, because an error at exit would print a traceback
    except MdwError as error:
        sys.exit(f"mdw: {error}")
    except OSError as error:
        if error.errno not in (errno.EPIPE, errno.EBADF, errno.ENOSPC, errno.EIO):
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # for what is still to be flushed
        quiet = error.errno == errno.EPIPE  # no message is needed
        sys.exit(1 if quiet else f"mdw: the output cannot be written ({error.strerror}); make room, or send it elsewhere")
