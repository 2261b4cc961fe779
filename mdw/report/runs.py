"""Run folders as frames. What a page asks for is noted, there or not: when it changes, the page is stale."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from mdw.experiments import studies
from mdw.report.names import METRICS, percent, size_name
from mdw.training import runs as records
from mdw.training.runs import Run

COLUMNS = (
    *("label", "model", "data", "recipe", "seed", "status", "metric", "value", "epochs", "lr"),
    *("boxes", "flip_test", "blur", "input", "minutes", "hardware", "commit", "path"),
)
NOTED: dict[str, list[Path]] = {"runs": [], "folders": []}  # what this process has asked for; `site.kernel` hands it on


def run(path: str | Path) -> Run:
    """The run in a folder, noted."""
    _note("runs", Path(path))
    return Run(Path(path))


def folder(path: Path) -> Path:
    """A folder whose files or runs are looked through, noted: what is new there counts."""
    _note("folders", path)
    return path


def find(runs: str | Path) -> list[Run]:
    """All runs of a folder, by name, as `mdw.training.runs.find`."""
    return [run(one.path) for one in records.find(folder(runs_folder(runs)))]


def _note(kind: str, path: Path) -> None:
    if path not in NOTED[kind]:
        NOTED[kind].append(path)


def runs_folder(runs: str | Path) -> Path:
    """The folder of runs that a notebook's parameter names: as it is, or from the folder above for a notebook run by hand."""
    path = Path(runs)
    return path if path.is_absolute() or path.is_dir() or not (Path("..") / path).is_dir() else Path("..") / path


def study(name: str, preset: str, seeds: Sequence[int], runs: str | Path) -> pd.DataFrame:
    """The runs of a study as `runs_frame` gives them, one row per (row of the study, seed), missing ones included.

    Raises MdwError for an unknown study or preset.
    """
    rows = []
    for planned in studies.plan(name, preset, list(seeds), runs_folder(runs)):
        one = run(planned.path)
        if (one.path / "recipe.json").exists():
            rows.append(_row(one, planned.row.label))
        else:
            rows.append(_asked(planned.spec, planned.row.label) | {"status": planned.status, "path": str(one.path)})
    return pd.DataFrame(rows, columns=COLUMNS)


def runs_frame(runs: Iterable[Run], labels: Sequence[str] | None = None) -> pd.DataFrame:
    """One row per run: `COLUMNS`. value: the recipe's metric in percent, absent until the run is finished."""
    found = list(runs)
    labels = [one.spec["model"] for one in found] if labels is None else labels
    return pd.DataFrame([_row(one, label) for one, label in zip(found, labels, strict=True)], columns=COLUMNS)


def _row(one: Run, label: str) -> dict:
    env, result = one.env, one.result or {}
    row = _asked(one.spec, label)
    seconds = result.get("train_seconds")
    return row | {
        "status": one.status,
        "value": percent(row["metric"], result.get(row["metric"])),
        "boxes": result.get("boxes", row["boxes"]),
        "minutes": None if seconds is None else seconds / 60,
        "hardware": env.get("hardware"),
        "commit": env.get("commit"),
        "path": str(one.path),
    }


def _asked(spec: dict, label: str) -> dict:
    """The part of a row that the spec alone determines."""
    recipe = spec["recipe"]
    same = {name: recipe[name] for name in ("data", "metric", "epochs", "lr")}
    return same | {
        "label": label,
        "model": spec["model"],
        "recipe": recipe["name"],
        "seed": spec["seed"],
        "boxes": "detector" if recipe["val_options"].get("detections") else "ground truth",
        "flip_test": bool(recipe["flip_test"]),
        "blur": recipe.get("blur"),
        "input": size_name(recipe["input_size"]),
    }


def results(frame: pd.DataFrame, field: str) -> list:
    """What the finished runs of a frame have under `field` of their result, each value once, sorted."""
    found = {run(path).outcome.get(field) for path in frame.dropna(subset=["value"])["path"]}
    return sorted(found - {None})


def curves(frame: pd.DataFrame) -> pd.DataFrame:
    """The epochs of the runs in a `runs_frame` or `study`: label, seed, epoch, loss, value (the metric, in percent)."""
    rows = [
        (one.label, one.seed, line["epoch"], line["loss"], percent(one.metric, line.get(one.metric)))
        for one in frame.itertuples()
        for line in run(one.path).metrics()
    ]
    return pd.DataFrame(rows, columns=["label", "seed", "epoch", "loss", "value"])


def best_run(runs: str | Path, model: str, with_weights: bool = True) -> Run | None:
    """The finished run of `model` to show, no ablation's: real people before synthetic, then most samples; None if none."""
    fits = [
        one
        for one in find(runs)
        if one.result is not None
        and (one.spec["model"], one.spec["options"]) == (model, {})
        and (one.weights or not with_weights)
    ]
    order = lambda one: (one.spec["recipe"]["data"] != "people", one.result.get("samples", 0), one.path.name)  # noqa: E731
    return max(fits, default=None, key=order)


def seeds_of(one: Run) -> list[Run]:
    """The finished runs beside `one` that ask the same but for the seed, by their seeds; itself among them if finished."""
    asked = question(one.spec)
    found = [other for other in find(one.path.parent) if other.result is not None and question(other.spec) == asked]
    return sorted(found, key=lambda other: other.spec["seed"])


def question(spec: dict) -> str:
    """What a spec asks, whatever its seed, as a key."""
    return json.dumps({name: value for name, value in spec.items() if name != "seed"}, sort_keys=True)


def metric_of(frame: pd.DataFrame) -> str:
    """The name of what the runs of a frame measure: "PCK@0.2"."""
    return METRICS[frame["metric"].iloc[0]]
