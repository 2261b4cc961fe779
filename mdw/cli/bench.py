"""The command that measures speed: bench."""

import os
from pathlib import Path
from typing import Annotated

import typer

from mdw.cli.common import Device, Json, Pack, Root, as_table, read_size, read_values, show
from mdw.util.errors import MdwError
from mdw.util.words import unknown


def bench(
    models: Annotated[
        str, typer.Option(help='Networks of `mdw list`, with commas between; "mdw_hrnet_18 cdc=false" for an ablation.')
    ] = "mdw_hrnet_18,lite_hrnet_18",
    size: Annotated[list[str] | None, typer.Option(help="HEIGHTxWIDTH; repeatable. 256x192 if left out.")] = None,
    batch: Annotated[list[int] | None, typer.Option(min=2, help="Images of a batch; repeatable. 32 if left out.")] = None,
    modes: Annotated[
        str | None, typer.Option(help="What to compare, of reference, tuned and, for use alone, onnx; all that work here.")
    ] = None,
    seconds: Annotated[float, typer.Option(min=0, help="Time for each network, size and batch.")] = 60,
    rounds: Annotated[int, typer.Option(min=1, help="At least so many turns of all modes.")] = 3,
    processes: Annotated[
        bool, typer.Option("--processes", help="Also training in a process for each thread, against one with all threads.")
    ] = False,
    data: Annotated[str | None, typer.Option(help="The data set to train on; synthetic people if left out.")] = None,
    root: Root = None,
    pack: Pack = None,
    profile: Annotated[bool, typer.Option("--profile", help="Also the operators of a training step by time.")] = False,
    out: Annotated[Path | None, typer.Option(help="Also write the JSON here; reports read runs/bench/*.json.")] = None,
    record: Annotated[Path | None, typer.Option(hidden=True)] = None,  # what --out was called
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Measure training, inference and latency the official way, ours and by ONNX Runtime, in turns in one process.

    Only the tuned mode reads --pack; the reference reads photos as the official repositories do.
    """
    # both before torch is imported
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # torch's profiler warns about missing GPUs
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # and about memory allocated before it began

    from mdw.backends.choose import FOR_USE
    from mdw.data import check_place

    networks, sizes = [_network(text) for text in models.split(",")], [read_size(text) for text in size or ["256x192"]]
    out = out or record
    for mode in modes.split(",") if modes else ():
        if mode not in FOR_USE[1:]:
            raise unknown("there is no mode", mode, FOR_USE[1:], "the modes are")
    if data:
        check_place(data, root)

    from mdw import data as sets
    from mdw.backends.choose import pick_device
    from mdw.bench.measure import bench as measure
    from mdw.data.packed import open_pack
    from mdw.training.runs import network_name
    from mdw.util.files import check_writable, write_json

    if len(set(w / h for h, w in sizes)) > 1 and data:
        raise MdwError("one data set has crops of one shape; give sizes of one ratio of height and width with --data")
    if out:
        check_writable(out)
    dataset = sets.load(data, "train", root, sizes[0][1] / sizes[0][0]) if data else None
    rows = measure(
        networks,
        sizes,
        batch or [32],
        pick_device(device),
        seconds,
        rounds,
        modes.split(",") if modes else None,
        dataset,
        open_pack(pack) if pack else None,
        lambda line: typer.echo(line, err=True),
        processes,
    )
    if out:
        write_json(out, rows)
    show(rows, as_json, _table)
    for row in rows if not as_json else ():
        if figures := row.get("processes"):
            apart, together = figures["apart_images_per_s"], figures["together_images_per_s"]
            name, n = network_name(row["model"], row["options"]), figures["threads"]
            typer.echo(
                f"\n{name} {row['size']} trains {apart:.1f} images/s in {n} processes with a thread each, "
                f"{together:.1f} in one with {n} threads: {apart / together:.2f} times"
            )
    if profile and not as_json:
        for row in (row for row in rows if "operators" in row):
            typer.echo(f"\n{row['model']} {row['size']} batch {row['batch']}, {row['mode']}: {row['launches']} launches a step")
            for entry in row["operators"]:
                typer.echo("{share:7.1%} {ms:9.1f} ms {calls:6} calls  {name}".format(**entry))


def _network(text: str) -> tuple[str, dict]:
    """Returns name and options of "mdw_hrnet_18 cdc=false". Raises MdwError for unknown ones, before anything is measured."""
    from mdw.models import fit_options

    name, *pairs = text.split() or [""]
    return name, fit_options(name, read_values("--models", pairs))


def _table(rows: list[dict]) -> str:
    from mdw.training.runs import network_name

    figures = {  # field of a row -> column and format; figures that a mode does not have stay empty
        "train_images_per_s": ("train/s", ".1f"),
        "step_images_per_s": ("without loader", ".1f"),
        "loader_share": ("loader", ".0%"),
        "infer_images_per_s": ("infer/s", ".1f"),
        "latency_ms": ("latency ms", ".1f"),
        "peak_memory_mib": ("memory MiB", ".0f"),
        "launches": ("launches", "d"),
        "first_calls_s": ("first calls s", ".1f"),
        "memory_share_train": ("of memory bound", ".0%"),
    }
    lines = [
        {"model": network_name(row["model"], row["options"])}
        | {name: row[name] for name in ("size", "batch", "mode")}
        | {title: format(values[name], form) if name in values else "" for name, (title, form) in figures.items()}
        for row in rows
        for values in [row | row["bounds"]]
    ]
    return as_table(lines)
