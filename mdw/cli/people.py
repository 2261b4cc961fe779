"""Commands about people in pictures: train, predict."""

import os
from pathlib import Path
from typing import Annotated

import typer

from mdw.cli.common import (
    Changes,
    Computation,
    Device,
    JointFile,
    Json,
    Options,
    Root,
    RunsRoot,
    as_lines,
    pick_device,
    read_values,
    show,
)
from mdw.errors import MdwError, OutOfTime


def train(
    model: Annotated[str, typer.Argument(help="A network of `mdw list`.")],
    recipe: Annotated[str, typer.Option(help="How to train; `demo` needs no data.")] = "demo",
    root: Root = None,
    seed: int = 0,
    option: Options = None,
    change: Changes = None,
    joints: JointFile = None,
    runs: RunsRoot = Path("runs"),
    device: Device = None,
    checkpoint_seconds: Annotated[float, typer.Option(min=0, help="Save the run's state this often.")] = 300,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Write curves for TensorBoard, an extra.")] = False,
    computation: Computation = "auto",
    pack: Annotated[Path | None, typer.Option(help="A pack of the training split (`mdw data pack`), read instead.")] = None,
    stop_after: Annotated[float | None, typer.Option(min=0, help="Save and end after so many seconds.")] = None,
    as_json: Json = False,
) -> None:
    """Train a network; the same command goes on with an interrupted run and shows a finished one.

    Several processes train one run together: `torchrun --nproc_per_node=4 -m mdw train ...`.
    """
    from dataclasses import replace

    from mdw import recipes
    from mdw import runs as records

    chosen = recipes.get(recipe, **read_values("--set", change))
    if joints:
        both = {name: getattr(chosen, name) | {"joints": str(joints)} for name in ("train_options", "val_options")}
        chosen = replace(chosen, **both)
    spec = records.make_spec(model, chosen, seed, read_values("--option", option))
    options = {"checkpoint_seconds": checkpoint_seconds, "tensorboard": tensorboard, "computation": computation}
    try:
        run = _train(spec, root, runs, device, packed=pack, stop_after=stop_after, **options)
    except OutOfTime as ended:
        typer.echo(f"mdw: {ended}", err=True)
        return
    if os.environ.get("RANK", "0") == "0":  # under torchrun one speaks for all
        show({"run": str(run.path), **run.result}, as_json, as_lines)


def predict(
    photos: Annotated[list[Path] | None, typer.Argument(help="Pictures or folders; the bundled photos if left out.")] = None,
    out: Annotated[Path, typer.Option("--out", help="Where overlays and predictions.json go.")] = Path("predictions"),
    boxes: Annotated[Path | None, typer.Option(help="JSON: file name -> [[x, y, w, h], ...], or COCO annotations.")] = None,
    weights: Annotated[Path | None, typer.Option(help="Weights or a run's folder; the shipped network if left out.")] = None,
    flip_test: bool = True,
    threshold: Annotated[float, typer.Option(help="Joints below this score are not drawn.")] = 0.2,
    device: Device = None,
    computation: Computation = "auto",
    as_json: Json = False,
) -> None:
    """Find people's joints in photos: an overlay for each, and one JSON in COCO's results form."""
    from tqdm import tqdm

    from mdw import prediction
    from mdw.data.photos import photo_paths

    found = prediction.find_photos(photos or photo_paths())
    beside = found[0].parent / "person_keypoints.json"
    if boxes is None and beside.exists():  # the bundled photos come with their boxes
        boxes = beside
    given = prediction.read_boxes(boxes) if boxes else None
    bar = lambda files: tqdm(files, "photos", disable=None)  # noqa: E731
    results = prediction.predict_files(found, out, weights, given, flip_test, pick_device(device), threshold, bar, computation)
    told = f"{len(results)} people in {len(found)} photos; overlays and predictions.json are in {out}"
    show(results, as_json, lambda _: told)


def _train(spec: dict, root: Path | None, runs: Path, device: str | None, **options):
    from mdw.train import train

    try:
        return train(spec, root, runs, device, **options)
    except KeyboardInterrupt:
        raise MdwError("stopped; the same command goes on from the last checkpoint") from None
