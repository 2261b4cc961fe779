"""What `mdw bench --out` has written -> tables and sentences. Nothing here measures, and nothing needs torch."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from mdw.report.outputs import MEASURED, NOT_RUN, Output, facts
from mdw.report.runs import bench
from mdw.report.tables import METRICS, and_list, best_run, percent, seeds_of
from mdw.training.runs import Run, network_name

CELL = ["model", "size", "batch", "device"]
FIGURES = {  # a record's name -> a table's
    "train_images_per_s": "training, images/s",
    "infer_images_per_s": "inference, images/s",
    "latency_ms": "latency, ms",
}
IN_USE = {"latency_ms": ("latency, ms", "by"), "infer_images_per_s": ("inference, images/s", "in batches by")}
BACKENDS = {"reference": tuple(FIGURES), "tuned": tuple(FIGURES), "onnx": tuple(IN_USE)}
NOT_MEASURED = "not measured"


def records(runs: str | Path, ablations: bool = False, threads: int | None = None) -> pd.DataFrame:
    """One row per network, size, batch, device and mode of runs/bench/*.json.

    Of several the one with most threads, of these the one that was begun last; `threads`: only those with so many.

    Columns are the names in a record, of its `environment` hardware, commit, started and torch_threads. Empty without records.
    ablations: also networks with keywords, which `model` then tells, as `runs.network_name` does.
    """
    rows = [row | row["environment"] | row["bounds"] for row in bench(runs) if ablations or not row.get("options")]
    frame = pd.DataFrame([row | {"model": network_name(row["model"], row.get("options", {}))} for row in rows])
    if frame.empty:
        return frame
    frame = frame.reindex(columns=list(dict.fromkeys([*frame, *IN_USE])))  # a record may lack one
    if threads is not None:
        frame = frame[frame["torch_threads"] == threads]
    latest = frame.sort_values(["torch_threads", "started"], kind="stable").drop_duplicates([*CELL, "mode"], keep="last")
    return latest.sort_index().reset_index(drop=True)


def provenance(frame: pd.DataFrame) -> Output:
    """The facts of the page's provenance."""
    names = {"hardware": "hardware", "threads": "torch_threads", "commits": "commit", "networks": "model", "input": "size"}
    found = {name: list(dict.fromkeys(frame[column])) if len(frame) else NOT_RUN for name, column in names.items()}
    return facts(data="synthetic people", seeds="none needed", **found)


def in_words(frame: pd.DataFrame) -> str:
    """What has been measured and how, or how to measure it."""
    if frame.empty:
        return "Nothing has been measured. `mdw bench --out runs/bench/NAME.json` measures and writes the record."
    copies, calls = frame["copy_gb_per_s"], frame["train_images_per_s_calls"].dropna().astype(int)
    networks, machines = (and_list(list(dict.fromkeys(frame[column]))) for column in ("model", "hardware"))
    return (
        f"Measured: {networks} on {machines}; medians of {calls.min()} to {calls.max()} training steps. "
        f"Copying ran at {copies.min():.1f} to {copies.max():.1f} GB/s."
    )


def answer(frame: pd.DataFrame) -> str:
    """Which network answers first on the machine of the records, and by which backend."""
    found = at_best(frame).dropna(subset=["latency, ms", "inference, images/s"])
    if found.empty:
        return f"Which network is fastest, and by which backend: {NOT_RUN}."
    sizes = found.groupby("input")["network"].nunique()
    size = sizes[sizes == sizes.max()].index[-1]
    here = found[found["input"] == size]
    one, many = here.loc[here["latency, ms"].idxmin()], here.loc[here["inference, images/s"].idxmax()]
    cpu = _on_cpu(frame)
    last = cpu[cpu["size"] == size].iloc[-1]
    open_ = [backend for backend in BACKENDS if backend not in set(cpu["mode"])]
    left = f" By {and_list(open_)}: {NOT_MEASURED}." if open_ else ""
    return (
        f"{one['network']} by {one['by']} is the fastest of {len(here)} networks for one image, each by its own best backend: "
        f"{one['latency, ms']:.1f} ms at {size} on {last['hardware']}, {last['torch_threads']} threads. In batches "
        f"{many['network']} by {many['in batches by']} is the fastest, {many['inference, images/s']:.0f} images/s.{left}"
    )


def at_best(frame: pd.DataFrame) -> pd.DataFrame:
    """Each network and input on a CPU at its own best: latency, ms, and `by` which backend; images/s, `in batches by`.

    The quickest first, input by input. Of several batches the one that is answered fastest; auto: what `fastest` says.
    """
    rows, chosen = [], fastest(frame)
    for (network, size), found in _on_cpu(frame).groupby(["model", "size"], sort=False) if len(frame) else ():
        row = {"network": network, "input": size}
        for column, (name, by) in IN_USE.items():
            best = ahead(found, column)
            row |= {name: None, by: None} if best is None else {name: best[column], by: best["mode"]}
        rows.append(row | {"auto": chosen[network]})
    columns = ["network", "input", "latency, ms", "by", "inference, images/s", "in batches by", "auto"]
    return pd.DataFrame(rows, columns=columns).sort_values(["input", "latency, ms"], ignore_index=True)


def fastest(frame: pd.DataFrame) -> dict[str, str]:
    """What `--backend auto` should take for each network on a CPU; `mdw.backends.choose.FASTEST` has those not by tuned.

    The backend that is ahead with one image and with a batch in every record of the network; where there is none, tuned.
    """
    chosen = {}
    for network, records_of_it in _on_cpu(frame).groupby("model", sort=False) if len(frame) else ():
        cells = [cell for _, cell in records_of_it.groupby(["size", "batch"])]
        best = [ahead(cell, column) for cell in cells for column in IN_USE]
        modes = {row["mode"] for row in best if row is not None}
        chosen[network] = modes.pop() if len(modes) == 1 else "tuned"
    return chosen


def ahead(found: pd.DataFrame, column: str) -> pd.Series | None:
    """The row that is best by a column of `IN_USE`; None where none has it."""
    values = found[column].dropna().astype(float)
    if values.empty:
        return None
    return found.loc[values.idxmin() if column == "latency_ms" else values.idxmax()]


def _on_cpu(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[frame["device"].eq("cpu")] if len(frame) else frame


def processes(frame: pd.DataFrame) -> str:
    """A sentence for each network on training in one process for each thread, against one with all threads."""
    found = frame.dropna(subset=["processes"]) if "processes" in frame else frame[:0]
    said = [
        f"{row.model} at {row.size} trains {row.processes['apart_images_per_s']:.1f} images/s in {row.processes['threads']} "
        f"processes of one thread, {row.processes['together_images_per_s']:.1f} in one of {row.processes['threads']} threads."
        for row in found.itertuples()
    ]
    return " ".join(said) or f"Several processes of one thread against one of several: {NOT_MEASURED}."


def side_by_side(frame: pd.DataFrame) -> pd.DataFrame:
    """Each backend, and the ratio of tuned to reference, in column groups; for `outputs.show`. A ratio above 1 is better."""
    rows = []
    for cell, found in frame.groupby(CELL, sort=False) if len(frame) else ():
        row = {("", name): value for name, value in zip(("network", "input", "batch", "device"), cell, strict=True)}
        modes = found.set_index("mode")
        for mode, figures in BACKENDS.items():
            for figure in figures:
                row[mode, FIGURES[figure]] = modes[figure].get(mode)
        for figure, title in FIGURES.items():
            row["ratio", title.partition(",")[0]] = ratio(figure, modes[figure].get("tuned"), modes[figure].get("reference"))
        rows.append(row)
    return pd.DataFrame(rows)


def ratio(figure: str, ours: float | None, theirs: float | None) -> float | None:
    """How many times as good `ours` is, by what is better of a figure of the bench; None where one of them is missing."""
    if ours is None or theirs is None:
        return None
    return theirs / ours if figure == "latency_ms" else ours / theirs


def costs(frame: pd.DataFrame) -> pd.DataFrame:
    """What a training step takes beside time, and how near it comes to what the memory would allow."""
    columns = {
        "model": "network",
        "size": "input",
        "batch": "batch",
        "mode": "mode",
        "launches": "launches",
        "peak_memory_mib": "memory, MiB",
        "loader_share": "loader's share",
        "first_calls_s": "first calls, s",
        "memory_train_images_per_s": "memory bound, images/s",
        "memory_share_train": "reached",
        "arithmetic_train_images_per_s": "arithmetic bound, images/s",
    }
    trained = frame.dropna(subset=["launches"]).astype({"launches": int}) if len(frame) else pd.DataFrame(columns=list(columns))
    return trained[list(columns)].rename(columns=columns)


def operators(frame: pd.DataFrame, model: str, size: str, top: int = 8) -> pd.DataFrame:
    """The operators of a training step by time, of both modes, for one network and size: mode, operator, calls, ms, share."""
    rows = []
    for row in frame[(frame["model"] == model) & (frame["size"] == size)].to_dict("records") if len(frame) else ():
        for entry in row["operators"][:top] if isinstance(row["operators"], list) else ():
            rows.append(
                {"mode": row["mode"], "operator": f"`{entry['name']}`"} | {k: entry[k] for k in ("calls", "ms", "share")}
            )
    return pd.DataFrame(rows, columns=["mode", "operator", "calls", "ms", "share"])


def value(frame: pd.DataFrame, model: str, mode: str, figure: str, size: str) -> float | None:
    """A figure of one network and backend on a CPU, batch 32; None where it was not measured."""
    if frame.empty:
        return None
    wanted = {"model": model, "mode": mode, "size": size, "batch": 32, "device": "cpu"}
    found = frame.loc[(frame[list(wanted)] == pd.Series(wanted)).all(axis=1), figure]
    return None if found.empty else float(found.iloc[0])


def beside_accuracy(frame: pd.DataFrame, runs: str | Path, networks: Sequence[str] = ()) -> pd.DataFrame:
    """Each network's own best latency beside its accuracy, for `outputs.show`: the mean of the seeds of `runs.best_run`."""
    found = at_best(frame)
    return pd.DataFrame(
        {
            ("", "network"): row["network"],
            ("", "input"): row["input"],
            ("one image", "latency, ms"): row["latency, ms"],
            ("one image", "by"): row["by"],
        }
        | _accuracy(best_run(runs, row["network"], with_weights=False))
        for row in found.to_dict("records")
        if row["network"] in networks or not networks
    )


def _accuracy(run: Run | None) -> dict:
    if run is None:
        return {(MEASURED, name): None for name in ("accuracy", "seeds", "metric", "trained at")}
    recipe = run.spec["recipe"]
    width, height = recipe["input_size"]
    each = (percent(recipe["metric"], one.outcome[recipe["metric"]]) for one in seeds_of(run))
    values = [value for value in each if value is not None]
    return {
        (MEASURED, "accuracy"): sum(values) / len(values),
        (MEASURED, "seeds"): len(values),
        (MEASURED, "metric"): f"{METRICS[recipe['metric']]}, {recipe['data']}",
        (MEASURED, "trained at"): f"{height}x{width}",
    }
