"""Run folders as frames. What a page asks for is noted, there or not: when it changes, the page is stale.

The one door to records: their texts come out of it as Markdown shows them literally, and what is damaged is left out, which the
index names by `damaged`.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from mdw.experiments import studies
from mdw.pose.submission import read_scores
from mdw.report.names import BOXES, METRICS, percent, size_name
from mdw.report.site.safe import literal
from mdw.training import persons
from mdw.training import runs as records
from mdw.training.runs import Fields, Run
from mdw.util.errors import MdwError
from mdw.util.files import read_json
from mdw.util.typed import Count, NotNegative, check_fields, fit

COLUMNS = (
    *("label", "model", "data", "recipe", "seed", "status", "metric", "value", "epochs", "lr"),
    *("boxes", "flip_test", "blur", "input", "minutes", "hardware", "commit", "path"),
)
NOTED: dict[str, list[Path]] = {"runs": [], "folders": []}  # what this process has asked for; `site.kernel` hands it on

READ: list[Path] = []  # the folders of runs that this process was pointed to


NEEDED = ("name", "data", "metric", "epochs", "input_size", "lr", "train_split", "val_split", "val_options", "flip_test")
BENCH: Fields = {"model": str, "options": dict[str, Any], "mode": str, "size": str, "batch": Count, "device": str}
BENCH |= {"environment": dict[str, Any], "bounds": dict[str, NotNegative]}
PRACTITIONER: Fields = {"environment": dict[str, Any], "latency": dict[str, Any], "networks": tuple[dict[str, Any], ...]}
FROM_ELSEWHERE: Fields = dict.fromkeys(("network", "boxes", "given", "trained_on", "source"), str)
FROM_ELSEWHERE |= dict.fromkeys(("weights_mb", "pck", "low", "high", "latency_ms"), float) | {"persons": int, "missed": int}
FIGURES: Fields = dict.fromkeys(("train_images_per_s", "infer_images_per_s", "latency_ms"), NotNegative | None)


@dataclass(frozen=True)
class Shown(Run):
    """A run as pages show it: no text in it is Markdown, and of its evaluations the damaged ones are left out."""

    def _read(self, name: str, known: dict, needed: tuple[str, ...] = ()) -> dict:
        return literal(super()._read(name, known, needed))

    def check(self) -> None:
        super().check()
        recipe = self.spec["recipe"]
        check_fields(f"{self.path / 'recipe.json'}: recipe", recipe, {"metric": Literal[tuple(METRICS)]}, NEEDED)
        check_fields(str(self.path / "result.json"), self.result or {}, {"boxes": Literal[tuple(BOXES)]})

    @cached_property
    def problem(self) -> str | None:
        return super().problem

    def evaluation_files(self) -> list[Path]:
        return [path for path in super().evaluation_files() if _problem(super(Shown, self).evaluation, path) is None]

    def evaluation(self, path: Path) -> dict:
        return literal(super().evaluation(path))

    @property
    def server_scores(self) -> Path | None:
        path = super().server_scores
        return None if path and _problem(read_scores, path) else path


def run(path: str | Path) -> Shown:
    """The run in a folder, noted."""
    _note("runs", Path(path))
    return Shown(Path(path))


def folder(path: Path) -> Path:
    """A folder whose files or runs are looked through, noted: what is new there counts."""
    _note("folders", path)
    return path


def find(runs: str | Path) -> list[Run]:
    """The runs of a folder that are whole, by name, as `mdw.training.runs.find`."""
    return [one for one in _all(runs) if one.problem is None]


def damaged(runs: str | Path) -> dict[str, str]:
    """The records of a folder that pages leave out: path from it -> the sentence on what is wrong with it."""
    root, found = runs_folder(runs), {}
    for one in _all(runs):
        found[one.path] = one.problem
        if one.problem is None:
            found |= {path: _problem(Run(one.path).evaluation, path) for path in Run(one.path).evaluation_files()}
            found |= {path: _problem(read_scores, path) for path in [Run(one.path).server_scores] if path}
            found[one.path / persons.NAME] = _problem(persons.read, one)
    found |= {path: _problem(read, path) for kind, read in APART.items() for path in _files(root, kind)}
    return {path.relative_to(root).as_posix(): sentence for path, sentence in found.items() if sentence}


def bench(runs: str | Path) -> list[dict]:
    """The rows of the records of `mdw bench` in runs/bench that are whole, file by file."""
    rows = []
    for path in _files(runs_folder(runs), "bench"):
        with suppress(MdwError):
            rows += _bench(path)
    return rows


def practitioner(runs: str | Path) -> list[dict]:
    """The records of benchmarks/practitioner.py in runs/practitioner that are whole, the one that was begun last at the end."""
    found = []
    for path in _files(runs_folder(runs), "practitioner"):
        with suppress(MdwError):
            found.append(_practitioner(path))
    return sorted(found, key=lambda record: record["environment"]["started"])


def read_persons(path: str | Path) -> dict | None:
    """persons.csv of the run in a folder, as `mdw.training.persons.read`; None also where it is damaged."""
    with suppress(MdwError):
        return persons.read(Run(Path(path)))
    return None


def _all(runs: str | Path) -> list[Shown]:
    root = folder(runs_folder(runs))
    folder(root / records.SYNTHETIC)
    return [run(one.path) for one in records.find(root)]


def _files(root: Path, kind: str) -> list[Path]:
    return sorted(folder(root / kind).glob("*.json"))


def _bench(path: Path) -> list[dict]:
    """The rows of a record. Raises MdwError, naming the file, where it is damaged."""
    rows = fit(str(path), read_json(path), tuple[dict[str, Any], ...])
    for number, row in enumerate(rows, 1):
        check_fields(f"{path}, row {number}", row, BENCH | FIGURES, tuple(name for name in BENCH if name != "options"))
        environment: Fields = {"hardware": str, "started": str, "commit": str | None, "torch_threads": Count}
        check_fields(f"{path}, row {number}: environment", row["environment"], environment, ("hardware", "started"))
    return literal(list(rows))


def _practitioner(path: Path) -> dict:
    """A record of networks from elsewhere. Raises MdwError, naming the file, where it is damaged."""
    record = check_fields(str(path), read_json(path), PRACTITIONER, tuple(PRACTITIONER))
    for row in record["networks"]:
        check_fields(f"{path}: networks", row, FROM_ELSEWHERE, tuple(FROM_ELSEWHERE))
    check_fields(f"{path}: environment", record["environment"], {"started": str}, ("started",))
    check_fields(f"{path}: latency", record["latency"], {"shared": bool}, ("environment", "shared"))
    return literal(record)


APART = {"bench": _bench, "practitioner": _practitioner}  # what reads the records that belong to no run


def _problem(read: Callable, *what: object) -> str | None:
    """The sentence that reading something ends with; None where it is whole."""
    try:
        read(*what)
    except MdwError as error:
        return str(error)
    return None


def _note(kind: str, path: Path) -> None:
    if path not in NOTED[kind]:
        NOTED[kind].append(path)


def runs_folder(runs: str | Path) -> Path:
    """The folder of runs that a notebook's parameter names, `mdw.training.runs.located`, noted for the page to name it."""
    path = records.located(runs)
    if path not in READ:
        READ.append(path)
    return path


def study(name: str, preset: str, seeds: Sequence[int], runs: str | Path) -> pd.DataFrame:
    """The runs of a study as `runs_frame` gives them, one row per (row of the study, seed), missing ones included.

    Raises MdwError for an unknown study or preset.
    """
    rows = []
    for planned in studies.plan(name, preset, list(seeds), runs_folder(runs)):
        one = run(planned.path)
        if (one.path / "recipe.json").exists() and one.problem is None:
            rows.append(_row(one, planned.row.label))
        else:
            status = planned.status if planned.status != "finished" else "damaged"
            rows.append(_asked(planned.spec, planned.row.label) | {"status": status, "path": str(one.path)})
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
        (one.label, one.seed, line["epoch"], line.get("loss"), percent(one.metric, line.get(one.metric)))
        for one in frame.itertuples()
        for line in run(one.path).metrics()
    ]
    return pd.DataFrame(rows, columns=["label", "seed", "epoch", "loss", "value"])


def data_read(frame: pd.DataFrame) -> list[str]:
    """What the data of the finished runs were, as their env.json says it, each once; see `mdw.training.fingerprint`."""
    found = {}
    for path in frame.dropna(subset=["value"])["path"]:
        for split, told in (run(path).env.get("data") or {}).items():
            counts = ", ".join(f"{told[name]:,} {name}" for name in ("persons", "images") if told.get(name) is not None)
            digests = "".join(f", {name} {told[name]}" for name in ("ids", "annotations", "files") if told.get(name))
            found[f"{split}: {counts}{digests}"] = True
    return list(found)


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
