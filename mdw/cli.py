"""The command line: a thin skin over the library. A mistake of the user's ends with one sentence and status 1."""

import contextlib
import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from mdw.errors import MdwError

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Rebuild, measure and compare lightweight pose networks: MDW-HRNet and its peers.",
)
data_app = typer.Typer(no_args_is_help=True, help="Look at data sets.")
app.add_typer(data_app, name="data")

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Root = Annotated[Path | None, typer.Option(help="The data set's folder.")]
RunsRoot = Annotated[Path, typer.Option("--runs", help="The folder of training runs.")]
Device = Annotated[str | None, typer.Option(help="A torch device; a GPU if there is one.")]
Options = Annotated[list[str] | None, typer.Option("--option", "-o", help="A network's keyword, NAME=VALUE; repeatable.")]
Changes = Annotated[list[str] | None, typer.Option("--set", help="A field of the recipe, as NAME=VALUE; repeatable.")]
Joints = Annotated[int, typer.Option(min=1, help="How many joints the network predicts.")]


def main() -> None:
    """Run the command line; the entry point `mdw`."""
    try:
        app()
    except MdwError as error:
        sys.exit(f"mdw: {error}")
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader has gone; nothing is left to say
        sys.exit(1)


@app.command("list")
def list_(as_json: Json = False) -> None:
    """List the networks."""
    from mdw.models import list_models

    _print(list_models(), as_json, lambda names: "\n".join(names))


@app.command()
def train(
    model: Annotated[str, typer.Argument(help="A network of `mdw list`.")],
    recipe: Annotated[str, typer.Option(help="How to train; `demo` needs no data.")] = "demo",
    root: Root = None,
    seed: int = 0,
    option: Options = None,
    change: Changes = None,
    runs: RunsRoot = Path("runs"),
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Train a network; the same command goes on with an interrupted run and shows a finished one."""
    from mdw import recipes
    from mdw import runs as records

    spec = records.make_spec(model, recipes.get(recipe, **_values("--set", change)), seed, _values("--option", option))
    run = _train(spec, root, runs, device)
    _print({"run": str(run.path), **run.result}, as_json, _lines)


@app.command()
def evaluate(
    data: Annotated[str, typer.Option(help="people, photos, coco, lspet or lsp.")],
    root: Root = None,
    split: str = "val",
    weights: Annotated[Path | None, typer.Option(help="Weights or a run's folder; the shipped network if left out.")] = None,
    flip_test: bool = True,
    batch_size: Annotated[int, typer.Option(min=1)] = 32,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Measure a network on a data set, by that data set's own metric."""
    from tqdm import tqdm

    from mdw.data import load
    from mdw.data.lsp import mean_pose, predict_mean_pose
    from mdw.evaluate import predict_dataset, score
    from mdw.weights import load_network

    network, joints, size = load_network(weights)
    dataset = load(data, split, root, size[0] / size[1])
    if dataset.joints != joints:
        raise MdwError(f"these weights predict {joints.name}, {data} has {dataset.joints.name}; choose weights that fit")
    bar = lambda batches: tqdm(batches, "predicting", disable=None)  # noqa: E731
    xy, scores = predict_dataset(network.to(_device(device)), dataset, size, flip_test, batch_size, _device(device), bar)
    result = score(dataset, xy, scores) | {"persons": len(dataset), "flip_test": flip_test, "boxes": "ground truth"}
    if data in ("lspet", "lsp"):  # what knowing nothing of the picture but the box is worth
        mean = mean_pose(load(data, "train", root, size[0] / size[1]))
        result["mean_pose_pck"] = score(dataset, predict_mean_pose(dataset, mean), scores)["pck"]
    _print(result, as_json, _lines)


@app.command()
def predict(
    photos: Annotated[list[Path] | None, typer.Argument(help="Pictures or folders; the bundled photos if left out.")] = None,
    out: Annotated[Path, typer.Option("--out", help="Where overlays and predictions.json go.")] = Path("predictions"),
    boxes: Annotated[Path | None, typer.Option(help="JSON: file name -> [[x, y, w, h], ...], or COCO annotations.")] = None,
    weights: Annotated[Path | None, typer.Option(help="Weights or a run's folder; the shipped network if left out.")] = None,
    flip_test: bool = True,
    threshold: Annotated[float, typer.Option(help="Joints below this score are not drawn.")] = 0.2,
    device: Device = None,
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
    results = prediction.predict_files(found, out, weights, given, flip_test, _device(device), threshold, bar)
    told = f"{len(results)} people in {len(found)} photos; overlays and predictions.json are in {out}"
    _print(results, as_json, lambda _: told)


@app.command()
def complexity(
    models: Annotated[list[str] | None, typer.Argument(help="Networks; all if left out.")] = None,
    size: Annotated[list[str] | None, typer.Option(help="HEIGHTxWIDTH; repeatable.")] = None,
    joints: Joints = 17,
    option: Options = None,
    as_json: Json = False,
) -> None:
    """Count parameters, executed multiply-adds and what the peers' counter would print."""
    import pandas as pd

    from mdw.complexity import PEER_UNIT, measure
    from mdw.models import create_model, list_models

    rows = []
    for name in models or list_models():
        network = create_model(name, joints, **_values("--option", option))
        for text in size or ["256x192", "384x288", "256x256"]:
            rows.append({"model": name, "size": text} | measure(network, _size(text)))

    def table(rows: list[dict]) -> str:
        frame = pd.DataFrame(rows)
        frame["params"] = (frame["params"] / 1e6).map("{:.3f} M".format)
        frame["executed MACs"] = (frame.pop("macs") / 1e6).map("{:.1f} M".format)
        frame["peers' counter"] = (frame.pop("peer_macs") / PEER_UNIT).map("{:.1f} x 2^20".format)
        return frame.to_string(index=False)

    _print(rows, as_json, table)


@app.command()
def reproduce(
    tables: Annotated[list[str] | None, typer.Argument(help="Reports, e.g. table5 or 02; all if left out.")] = None,
    preset: Annotated[str, typer.Option(help="smoke, demo, lspet_hour, lspet_small, lspet, coco or mpii.")] = "demo",
    root: Root = None,
    seeds: Annotated[str, typer.Option(help="Seeds, e.g. 0,1,2.")] = "0",
    runs: RunsRoot = Path("runs"),
    out: Annotated[Path, typer.Option("--out", help="Where the pages go.")] = Path("reports"),
    parameter: Annotated[list[str] | None, typer.Option("--parameter", "-p", help="A notebook parameter, NAME=VALUE.")] = None,
    timeout: Annotated[float, typer.Option(help="Seconds for one notebook.")] = 1800,
    jobs: Annotated[int, typer.Option(min=1, help="Trainings at a time.")] = 1,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be trained and written.")] = False,
    device: Device = None,
) -> None:
    """Train what the reports need and is missing, then execute and publish their notebooks."""
    from mdw import studies
    from mdw.executor import train_missing
    from mdw.report import publish

    chosen = [path.stem for path in publish.find(tables or [])]
    numbers = _seeds(seeds)
    planned = studies.plan_reports(chosen, preset, numbers, runs)
    for one in planned:
        typer.echo(f"{one.status:12} {one.row.label:18} seed {one.seed}  {one.path}")
    if dry_run:
        typer.echo(f"{len(chosen)} reports would be written to {out}: {', '.join(chosen)}")
        return
    parameters = {"seeds": numbers} | _values("--parameter", parameter)
    publish.check_parameters(chosen, preset, parameters, runs)  # before hours of training, not after
    failed = train_missing(planned, root, runs, device, jobs, typer.echo)
    records = publish.publish(chosen, preset, parameters, runs, out, timeout, say=typer.echo)
    failed += [f"{record['notebook']}: {record['error']}" for record in records if record["status"] != "finished"]
    typer.echo(f"{len(records)} reports in {out}; open {out / 'index.html'}")
    if failed:
        raise MdwError("not everything ended well: " + "; ".join(failed))


@app.command()
def report(
    names: Annotated[list[str] | None, typer.Argument(help="Reports, e.g. table5 or 02; all if left out.")] = None,
    preset: str = "demo",
    runs: RunsRoot = Path("runs"),
    out: Annotated[Path, typer.Option("--out", help="Where the pages go.")] = Path("reports"),
    parameter: Annotated[list[str] | None, typer.Option("--parameter", "-p", help="A notebook parameter, NAME=VALUE.")] = None,
    timeout: Annotated[float, typer.Option(help="Seconds for one notebook.")] = 1800,
) -> None:
    """Execute and publish the notebooks from the runs that are there; nothing is trained."""
    from mdw.report import publish

    records = publish.publish(names or [], preset, _values("--parameter", parameter), runs, out, timeout, say=typer.echo)
    failed = [f"{record['notebook']}: {record['error']}" for record in records if record["status"] != "finished"]
    typer.echo(f"{len(records)} reports in {out}; open {out / 'index.html'}")
    if failed:
        raise MdwError("not every report ended well: " + "; ".join(failed))


@data_app.command("list")
def data_list(as_json: Json = False) -> None:
    """List the data sets that can be named."""
    from mdw.data import DATASETS

    _print(list(DATASETS), as_json, lambda names: "\n".join(names))


@data_app.command("show")
def data_show(
    name: Annotated[str, typer.Argument(help="A data set of `mdw data list`.")],
    root: Root = None,
    split: Annotated[str | None, typer.Option(help="train, val, ...; the data set's first if left out.")] = None,
    count: Annotated[int, typer.Option(min=1, help="How many people.")] = 24,
    out: Annotated[Path, typer.Option("--out", help="The picture to write.")] = Path("sheet.png"),
) -> None:
    """Write a contact sheet of people with their joints."""
    import numpy as np

    from mdw.data import load
    from mdw.draw import overlay, sheet, write_image

    dataset = load(name, split or ("all" if name == "photos" else "train"), root)
    samples = [dataset[i] for i in range(min(count, len(dataset)))]
    people = [np.concatenate([s.joints, s.visible[:, None]], axis=1)[None] for s in samples]
    pictures = [overlay(s.pixels(), p, dataset.joints, 0.5) for s, p in zip(samples, people, strict=True)]
    write_image(out, sheet(pictures, columns=6))
    typer.echo(f"{len(samples)} of {len(dataset)} people of {dataset.name} are drawn in {out}")


def _train(spec: dict, root: Path | None, runs: Path, device: str | None):
    from mdw.train import train

    try:
        return train(spec, root, runs, device)
    except KeyboardInterrupt:
        raise MdwError("stopped; the same command goes on from the last finished epoch") from None


def _values(flag: str, pairs: list[str] | None) -> dict:
    """NAME=VALUE pairs as a dict; a value is JSON where it can be read as such, else text."""
    values = {}
    for pair in pairs or []:
        name, equals, text = pair.partition("=")
        if not equals or not name:
            raise MdwError(f"{flag} {pair!r} is no NAME=VALUE; write for example {flag} lr=0.001")
        values[name] = text
        with contextlib.suppress(json.JSONDecodeError):
            values[name] = json.loads(text)
    return values


def _seeds(text: str) -> list[int]:
    try:
        return [int(seed) for seed in text.split(",")]
    except ValueError:
        raise MdwError(f"--seeds {text!r} is no list of whole numbers; write for example --seeds 0,1,2") from None


def _size(text: str) -> tuple[int, int]:
    try:
        height, width = map(int, text.lower().split("x"))
    except ValueError:
        raise MdwError(f"--size {text!r} is no HEIGHTxWIDTH; write for example --size 256x192") from None
    return height, width


def _device(device: str | None) -> str:
    import torch

    return device or ("cuda" if torch.cuda.is_available() else "cpu")


def _print(value, as_json: bool, text) -> None:
    typer.echo(json.dumps(value, indent=1) if as_json else text(value))


def _lines(values: dict) -> str:
    return "\n".join(f"{name:16} {_short(value)}" for name, value in values.items() if not isinstance(value, list))


def _short(value) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_short(inner)}" for name, inner in value.items())
    return f"{value:.6g}" if isinstance(value, float) else str(value)
