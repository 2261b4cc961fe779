"""The command that trains: train."""

import os
from pathlib import Path
from typing import Annotated

import typer

from mdw.cli.common import (
    Backend,
    Changes,
    Device,
    JointFile,
    Json,
    Options,
    Pack,
    Root,
    RunsRoot,
    as_lines,
    read_values,
    show,
)
from mdw.util.errors import MdwError, OutOfTime
from mdw.util.extras import need


def train(
    model: Annotated[str, typer.Argument(help="A network of `mdw list`.")],
    recipe: Annotated[str, typer.Option(help="How to train (a wrong name lists the recipes); `demo` needs no data.")] = "demo",
    root: Root = None,
    seed: Annotated[int, typer.Option(help="A whole number from 0 on.")] = 0,
    option: Options = None,
    change: Changes = None,
    joints: JointFile = None,
    runs: RunsRoot = Path("runs"),
    device: Device = None,
    checkpoint_seconds: Annotated[float, typer.Option(min=0, help="Save the run's state this often.")] = 300,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write curves for TensorBoard; needs the extra tensorboard.")
    ] = False,
    backend: Backend = "auto",
    pack: Pack = None,
    stop_after: Annotated[float | None, typer.Option(min=0, help="Save and end after so many seconds.")] = None,
    look: Annotated[bool, typer.Option("--look", help="Only show the run as it is, whatever --root holds.")] = False,
    as_json: Json = False,
) -> None:
    """Train a network; the same command goes on with an interrupted run and shows a finished one.

    Both fail where --root holds other data than those that the run was trained on.
    Several processes train one run together: `torchrun --nproc_per_node=4 -m mdw train ...`.
    """
    from dataclasses import replace

    from mdw.backends.choose import check
    from mdw.training import recipes
    from mdw.training import runs as records

    if tensorboard:
        need("tensorboard", "tensorboard")  # before anything is written
    chosen = recipes.get(recipe, **read_values("--set", change))
    if joints:
        joint_options = {name: getattr(chosen, name) | {"joints": str(joints)} for name in ("train_options", "val_options")}
        chosen = replace(chosen, **joint_options)
    check(backend)
    spec = records.make_spec(model, chosen, seed, read_values("--option", option))
    if look:
        run_record = records.Run(records.folder(spec, runs))
        if not run_record.path.is_dir():
            raise MdwError(f"there is no run {run_record.path} to look at; leave --look out to train it")
        show({"run": str(run_record.path), **(run_record.result or records.summary(run_record))}, as_json, as_lines)
        return
    options = {"checkpoint_seconds": checkpoint_seconds, "tensorboard": tensorboard, "backend": backend}
    try:
        run = _train(spec, root, runs, device, packed=pack, stop_after=stop_after, **options)
    except OutOfTime as ended:
        typer.echo(f"mdw: {ended}", err=True)
        return
    if os.environ.get("RANK", "0") == "0":  # under torchrun only the first process prints
        show({"run": str(run.path), **run.result}, as_json, as_lines)


def _train(spec: dict, root: Path | None, runs: Path, device: str | None, **options):
    from mdw.training.train import train

    try:
        return train(spec, root, runs, device, **options)
    except KeyboardInterrupt:
        raise MdwError("stopped; the same command goes on from the last checkpoint") from None
