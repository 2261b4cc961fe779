"""Run folders and published.csv -> tidy frames. The article's figures and ours never share a column. Nothing here needs torch.

`outputs.show` sets a frame; this file only says what stands in it.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from mdw.errors import MdwError
from mdw.report.outputs import ARTICLE, MEASURED, NOT_RUN, NOT_STATED, facts, headline, say, show
from mdw.runs import Run, find

__all__ = ["ARTICLE", "MEASURED", "NOT_RUN", "NOT_STATED", "and_list", "beside", "best_run", "complexity", "curves",
           "differences", "facts", "headline", "provenance", "published", "runs_folder", "runs_frame", "runs_table", "say",
           "show", "study", "summary"]

PUBLISHED = Path(__file__).with_name("published.csv")
METRICS = {"pck": "PCK@0.2", "pckh": "PCKh@0.5", "AP": "AP"}  # all in percent
COLUMNS = ("label", "model", "data", "recipe", "seed", "status", "metric", "value", "epochs", "boxes", "flip_test", "input",
           "minutes", "hardware", "commit", "path")


def published(table: str | None = None, models: Sequence[str] | None = None, primary: bool = False) -> pd.DataFrame:
    """Published figures, entered once: published.csv, optionally of one table ("T2" ... "T7") and some models, in order.

    Columns: table, model, backbone, input_size (height x width), pretrain, params_M, gflops, AP ... AR, PCKh50, PCKh10 (in
    percent), boxes, primary, kind ("stated" or "derived" where the article's own text is the source), source, note.
    primary: only the rows that stand for their table.
    """
    frame = pd.read_csv(PUBLISHED, dtype={"pretrain": "string"})
    frame["primary"] = frame["primary"].eq("yes")
    if table is not None:
        frame = frame[frame["table"] == table]
    if models is not None:
        frame = frame[frame["model"].isin(list(models))]
        frame = frame.assign(_order=frame["model"].map({name: i for i, name in enumerate(models)}))
        frame = frame.sort_values("_order", kind="stable").drop(columns="_order")
    if primary:
        frame = frame[frame["primary"]]
    return frame.reset_index(drop=True)


def runs_folder(runs: str | Path) -> Path:
    """The folder of runs that a notebook's parameter names: as it is, or from the folder above for a notebook run by hand."""
    path = Path(runs)
    return path if path.is_absolute() or path.is_dir() or not (Path("..") / path).is_dir() else Path("..") / path


def runs_frame(runs: Iterable[Run], labels: Sequence[str] | None = None) -> pd.DataFrame:
    """One row per run: `COLUMNS`. value: the recipe's metric in percent, absent until the run is finished."""
    rows = [_row(run, run.spec["model"]) for run in runs]
    if labels is not None:
        for row, label in zip(rows, labels, strict=True):
            row["label"] = label
    return pd.DataFrame(rows, columns=COLUMNS)


def _row(run: Run, label: str, status: str | None = None) -> dict:
    spec, env, result = run.spec, run.env, run.result or {}
    return _asked(spec, label) | {
        "status": status or run.status, "value": result.get(spec["recipe"]["metric"]),
        "minutes": result["seconds"] / 60 if "seconds" in result else None,
        "hardware": env.get("hardware"), "commit": env.get("commit"), "path": str(run.path)}


def _asked(spec: dict, label: str) -> dict:
    """The part of a row that the spec alone determines."""
    recipe = spec["recipe"]
    width, height = recipe["input_size"]
    return {"label": label, "model": spec["model"], "data": recipe["data"], "recipe": recipe["name"], "seed": spec["seed"],
            "metric": recipe["metric"], "epochs": recipe["epochs"],
            "boxes": "detector" if recipe["val_options"].get("detections") else "ground truth",
            "flip_test": bool(recipe["flip_test"]), "input": f"{height}x{width}"}


def study(name: str, preset: str, seeds: Sequence[int], runs: str | Path) -> pd.DataFrame:
    """The runs of a study as `runs_frame` gives them, one row per (row of the study, seed), missing ones included.

    Raises MdwError for an unknown study or preset.
    """
    from mdw import studies

    rows = []
    for planned in studies.plan(name, preset, list(seeds), runs_folder(runs)):
        path = Path(planned.path)
        if (path / "recipe.json").exists():
            row = _row(Run(path), planned.row.label)
        else:
            row = _asked(planned.spec, planned.row.label) | {"status": "missing", "path": str(path)}
        rows.append(row)
    return pd.DataFrame(rows, columns=COLUMNS)


def summary(frame: pd.DataFrame) -> pd.DataFrame:
    """-> one row per label, in order: label, n (finished runs), mean, std (n - 1; absent below two runs), then how it was got.

    Columns after std: seeds, epochs, boxes, flip test, input, hardware, commit; values that differ between seeds are joined.
    """
    rows = []
    for label, runs in frame.groupby("label", sort=False):
        done = runs.dropna(subset=["value"])
        values = done["value"].astype(float)
        rows.append({
            "label": label, "n": len(done), "mean": values.mean() if len(done) else None,
            "std": values.std(ddof=1) if len(done) > 1 else None, "seeds": _joined(done["seed"]),
            "epochs": _joined(done["epochs"]), "boxes": _joined(done["boxes"]),
            "flip test": _joined(done["flip_test"].map({True: "yes", False: "no"})), "input": _joined(done["input"]),
            "hardware": _joined(done["hardware"]), "commit": _joined(done["commit"])})
    return pd.DataFrame(rows)


def _joined(column: pd.Series) -> str | None:
    values = list(dict.fromkeys(str(value) for value in column.dropna()))
    return ", ".join(values) if values else None


def beside(article: pd.DataFrame, measured: pd.DataFrame, on: str = "label", head: str = "network") -> pd.DataFrame:
    """Two frames side by side, for `outputs.show`: column `on` of both heads the rows; groups `ARTICLE` and `MEASURED`.

    Every row of `measured` appears, then those of `article` that have no counterpart. Nothing is carried from one group into
    the other. Raises MdwError where the article's frame names a row twice.
    """
    if article[on].duplicated().any():
        raise MdwError(f"the article's row {article[on][article[on].duplicated()].iloc[0]!r} is given twice; keep one")
    keys = list(dict.fromkeys([*measured[on], *article[on]]))
    joined = {("", head): keys}
    for group, frame in ((ARTICLE, article), (MEASURED, measured)):
        for column in frame.columns.drop(on):
            joined[group, column] = frame.set_index(on)[column].reindex(keys).astype(object).tolist()
    return pd.DataFrame(joined)


def differences(frame: pd.DataFrame, baseline: str, confidence: float = 0.95) -> pd.DataFrame:
    """Each label's mean minus the baseline's -> label, difference, low, high (Welch's interval), verdict.

    verdict: "higher" or "lower" where the interval leaves zero out, "within noise" where it does not, "noise unknown" with
    fewer than two seeds on either side, `NOT_RUN` where one has none. Raises MdwError for an unknown baseline.
    """
    groups = {label: runs["value"].dropna().astype(float).to_numpy() for label, runs in frame.groupby("label", sort=False)}
    if baseline not in groups:
        raise MdwError(f"there is no row {baseline!r} to compare with; the rows are {', '.join(groups)}")
    rows = []
    for label, values in groups.items():
        if label != baseline:
            rows.append({"label": label} | _difference(values, groups[baseline], confidence))
    return pd.DataFrame(rows, columns=["label", "difference", "low", "high", "verdict"])


def _difference(a: np.ndarray, b: np.ndarray, confidence: float) -> dict:
    if not len(a) or not len(b):
        return {"verdict": NOT_RUN}
    gap = float(a.mean() - b.mean())
    if len(a) < 2 or len(b) < 2:
        return {"difference": gap, "verdict": "noise unknown"}
    if a.var() == 0 and b.var() == 0:  # identical seeds on both sides: there is no noise to compare with
        return {"difference": gap, "low": gap, "high": gap, "verdict": "within noise" if gap == 0 else _side(gap)}
    low, high = stats.ttest_ind(a, b, equal_var=False).confidence_interval(confidence)
    verdict = "within noise" if low <= 0 <= high else _side(gap)
    return {"difference": gap, "low": float(low), "high": float(high), "verdict": verdict}


def _side(gap: float) -> str:
    return "higher" if gap > 0 else "lower"


def curves(frame: pd.DataFrame) -> pd.DataFrame:
    """The epochs of the runs in a `runs_frame` or `study`: label, seed and the keys of metrics.jsonl (epoch, loss, ...)."""
    rows = []
    for run in frame.itertuples():
        rows += [{"label": run.label, "seed": run.seed} | line for line in Run(Path(run.path)).metrics()]
    return pd.DataFrame(rows) if rows else pd.DataFrame(columns=["label", "seed", "epoch", "loss"])


def best_run(runs: str | Path, model: str, with_weights: bool = True) -> Run | None:
    """The finished run of `model` to show: real people before drawn ones, then the one that saw most samples; None if none."""
    fits = [run for run in find(runs_folder(runs)) if run.result is not None and run.spec["model"] == model
            and (run.weights or not with_weights)]
    return max(fits, default=None, key=lambda run: (run.spec["recipe"]["data"] != "people",
                                                    run.result.get("samples", 0), run.path.name))


def provenance(frame: pd.DataFrame):
    """The facts of the page's provenance that the finished runs of a frame determine."""
    done = frame.dropna(subset=["value"])
    names = {"data": "data", "seeds": "seed", "epochs": "epochs", "boxes": "boxes", "flip_test": "flip_test", "input": "input",
             "hardware": "hardware", "commits_of_the_runs": "commit"}
    found = {name: list(dict.fromkeys(done[column].dropna())) or NOT_RUN for name, column in names.items()}
    return facts(finished_runs=f"{len(done)} of {len(frame)}", **found)


def complexity(models: dict[str, Callable], sizes: Sequence[tuple[int, int]]) -> pd.DataFrame:
    """Measure networks: label -> a function that builds one, at (height, width) sizes -> label, input, params, macs, peer.

    params: count; macs: executed multiply-adds; peer: the sum that the siblings' counter prints, in its unit of 2**20.
    torch is imported here and only here.
    """
    from mdw.complexity import PEER_UNIT, measure

    rows = []
    for label, build in models.items():
        model = build()
        for height, width in sizes:
            cost = measure(model, (height, width))
            rows.append({"label": label, "input": f"{height}x{width}", "params": cost["params"], "macs": cost["macs"],
                         "peer": cost["peer_macs"] / PEER_UNIT})
    return pd.DataFrame(rows)


def runs_table(runs: str | Path, out: str | Path | None = None):
    """The finished runs of a folder as an output, newest last; with links to their records from a page in `out`."""
    found = [run for run in find(runs_folder(runs)) if run.status == "finished"]
    frame = runs_frame(found)
    frame["commit"] = frame["commit"].map(lambda text: f"`{text}`" if text else None)
    frame["metric"] = frame["metric"].map(lambda name: METRICS.get(name, name))
    if out is not None:
        frame["path"] = [f"[{run.path.name.rpartition('-')[2]}]({_link(run.path, out)}/result.json)" for run in found]
    else:
        frame["path"] = [run.path.name for run in found]
    frame = frame[["label", "data", "recipe", "seed", "epochs", "metric", "value", "minutes", "hardware", "commit", "path"]]
    frame = frame.rename(columns={"label": "network", "path": "record"})
    return show(frame, "Finished training runs; metrics in percent on the validation split.",
                formats={"value": "{:.1f}", "minutes": "{:.1f}"})


def _link(path: Path, out: str | Path) -> str:
    return Path(os.path.relpath(path.resolve(), Path(out).resolve())).as_posix()


def and_list(words: Sequence[str], none: str = "none") -> str:
    """["a", "b", "c"] -> "a, b and c"."""
    words = list(words)
    return none if not words else words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
