"""Run folders and published figures -> tidy frames; the article's figures and ours never share a column.

Nothing here needs torch, except `models`, which says so.
"""

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from mdw.experiments import studies
from mdw.report.article import article_rows, published, published_cost
from mdw.report.outputs import ARTICLE, MEASURED, NOT_RUN, NOT_STATED, Output, facts, headline, say, show
from mdw.report.statistics import differences
from mdw.training.runs import Run, find
from mdw.util.errors import MdwError

__all__ = [
    "ARTICLE",
    "MEASURED",
    "NOT_RUN",
    "NOT_STATED",
    "and_list",
    "article_rows",
    "beside",
    "best_run",
    "seeds_of",
    "curves",
    "differences",
    "facts",
    "headline",
    "in_words",
    "measured",
    "models",
    "percent",
    "provenance",
    "published",
    "published_cost",
    "runs_folder",
    "runs_frame",
    "runs_table",
    "say",
    "shared_recipe",
    "show",
    "study",
    "summary",
]

METRICS = {"pck": "PCK@0.2", "pckh": "PCKh@0.5", "AP": "AP"}  # all in percent
COLUMNS = (
    "label",
    "model",
    "data",
    "recipe",
    "seed",
    "status",
    "metric",
    "value",
    "epochs",
    "lr",
    "boxes",
    "flip_test",
    "blur",
    "input",
    "minutes",
    "hardware",
    "commit",
    "path",
)


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


def _row(run: Run, label: str) -> dict:
    env, result = run.env, run.result or {}
    row = _asked(run.spec, label)
    seconds = result.get("train_seconds")
    return row | {
        "status": run.status,
        "value": percent(row["metric"], result.get(row["metric"])),
        "boxes": result.get("boxes", row["boxes"]),
        "minutes": None if seconds is None else seconds / 60,
        "hardware": env.get("hardware"),
        "commit": env.get("commit"),
        "path": str(run.path),
    }


def _asked(spec: dict, label: str) -> dict:
    """The part of a row that the spec alone determines."""
    recipe = spec["recipe"]
    width, height = recipe["input_size"]
    return {
        "label": label,
        "model": spec["model"],
        "data": recipe["data"],
        "recipe": recipe["name"],
        "seed": spec["seed"],
        "metric": recipe["metric"],
        "epochs": recipe["epochs"],
        "lr": recipe["lr"],
        "boxes": "detector" if recipe["val_options"].get("detections") else "ground truth",
        "flip_test": bool(recipe["flip_test"]),
        "blur": recipe.get("blur"),
        "input": f"{height}x{width}",
    }


def percent(metric: str, value: float | None) -> float | None:
    """A metric as every table states it. COCO's average precision is stored as 0..1, PCK and PCKh in percent."""
    return value if value is None or metric.startswith("pck") else 100 * value


def study(name: str, preset: str, seeds: Sequence[int], runs: str | Path) -> pd.DataFrame:
    """The runs of a study as `runs_frame` gives them, one row per (row of the study, seed), missing ones included.

    Raises MdwError for an unknown study or preset.
    """
    rows = []
    for planned in studies.plan(name, preset, list(seeds), runs_folder(runs)):
        path = Path(planned.path)
        if (path / "recipe.json").exists():
            row = _row(Run(path), planned.row.label)
        else:
            row = _asked(planned.spec, planned.row.label) | {"status": planned.status, "path": str(path)}
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
        rows.append(
            {
                "label": label,
                "n": len(done),
                "mean": values.mean() if len(done) else None,
                "std": values.std(ddof=1) if len(done) > 1 else None,
                "seeds": _joined(done["seed"]),
                "epochs": _joined(done["epochs"]),
                "boxes": _joined(done["boxes"]),
                "flip test": _joined(_tested(done)),
                "input": _joined(done["input"]),
                "hardware": _joined(done["hardware"]),
                "commit": _joined(done["commit"]),
            }
        )
    return pd.DataFrame(rows)


def _tested(frame: pd.DataFrame) -> pd.Series:
    """Of every run whether the flip test was made, and the width of the Gaussian filter on its heat maps where there is one."""
    filtered = frame["blur"].map(lambda width: "" if pd.isna(width) else f", Gaussian filter {width:.0f}")
    return frame["flip_test"].map({True: "yes", False: "no"}) + filtered


def measured(result: pd.DataFrame, metric: str, head: str = "network") -> pd.DataFrame:
    """A `summary` ready to be shown: the mean under the metric's name, the commit set as code, the labels under `head`."""
    commits = [None if pd.isna(text) else ", ".join(f"`{commit}`" for commit in text.split(", ")) for text in result["commit"]]
    return result.assign(commit=commits).rename(columns={"mean": metric, "label": head})


def shared_recipe(frame: pd.DataFrame) -> str:
    """A sentence on the recipe that the rows of a study share, and on what differs, if anything does."""
    columns = {
        "data": "data",
        "recipe": "recipe",
        "epochs": "epochs",
        "lr": "learning rate",
        "input": "input",
        "boxes": "boxes",
        "flip_test": "flip test",
    }
    shown = frame.assign(flip_test=_tested(frame))
    texts = {name: [str(value) for value in shown[column]] for column, name in columns.items()}
    same = [f"{name} *{values[0]}*" for name, values in texts.items() if len(set(values)) == 1]
    differ = []
    for name, values in texts.items():
        if len(set(values)) > 1:
            labels = frame.groupby(values, sort=False)["label"].unique()
            differ.append(f"{name} ({'; '.join(f'{value} for {and_list(list(those))}' for value, those in labels.items())})")
    return f"All rows share {and_list(same)}. What differs in the recipe: {and_list(differ, 'nothing')}."


def floor(frame: pd.DataFrame) -> str:
    """A sentence on what the training set's mean pose in the box scores, where the runs measured it; else an empty text."""
    found = {Run(Path(path)).result.get("mean_pose_pck") for path in frame.dropna(subset=["value"])["path"]} - {None}
    scores = " to ".join(f"{value:.1f}" for value in sorted({min(found), max(found)})) if found else ""
    return (
        scores
        and f"Predicting the training set's mean pose in every box, without a look at the picture, scores PCK@0.2 {scores}."
    )


def in_words(result: pd.DataFrame, metric: str, preset: str) -> str:
    """One sentence for the index on the first row of a `summary`."""
    row = result.iloc[0]
    if not row["n"]:
        return f"{row['label']}: {NOT_RUN} under the preset *{preset}*."
    spread = "" if pd.isna(row["std"]) else f" ± {row['std']:.1f}"
    seeds = "one seed" if row["n"] == 1 else f"{row['n']} seeds"
    return f"{row['label']}: {metric} {row['mean']:.1f}{spread} % on the preset *{preset}* ({seeds})."


def models() -> pd.DataFrame:
    """The networks by name, with the first sentence of what each says of itself; imports torch."""
    from mdw.models import list_models, model_function

    said = [" ".join((model_function(name).__doc__ or "").split()).partition(". ")[0].rstrip(".") for name in list_models()]
    said = [re.sub(r"[:;] [\d,.]+ (M )?parameters.*", "", text) for text in said]  # what is counted is not quoted
    return pd.DataFrame({"name": [f"`{name}`" for name in list_models()], "what it is": said})


def _joined(column: pd.Series) -> str | None:
    values = list(dict.fromkeys(str(value) for value in column.dropna()))
    return ", ".join(values) if values else None


def beside(
    article: pd.DataFrame, measured: pd.DataFrame, on: str = "label", head: str = "network", group: str = ARTICLE
) -> pd.DataFrame:
    """Two frames side by side, for `outputs.show`: column `on` of both heads the rows; groups `ARTICLE` and `MEASURED`.

    Every row of `measured` appears, then those of `article` that have no counterpart. Nothing is carried from one group into
    the other. group: the head of the first frame's columns, where these are not the article's. Raises MdwError where the
    first frame names a row twice.
    """
    if article[on].duplicated().any():
        raise MdwError(f"the row {article[on][article[on].duplicated()].iloc[0]!r} is given twice under {group!r}; keep one")
    keys = list(dict.fromkeys([*measured[on], *article[on]]))
    joined = {("", head): keys}
    for above, frame in ((group, article), (MEASURED, measured)):
        for column in frame.columns.drop(on):
            joined[above, column] = frame.set_index(on)[column].reindex(keys).astype(object).tolist()
    return pd.DataFrame(joined)


def curves(frame: pd.DataFrame) -> pd.DataFrame:
    """The epochs of the runs in a `runs_frame` or `study`: label, seed, epoch, loss, value (the metric, in percent)."""
    rows = []
    for run in frame.itertuples():
        rows += [
            {
                "label": run.label,
                "seed": run.seed,
                "epoch": line["epoch"],
                "loss": line["loss"],
                "value": percent(run.metric, line.get(run.metric)),
            }
            for line in Run(Path(run.path)).metrics()
        ]
    return pd.DataFrame(rows, columns=["label", "seed", "epoch", "loss", "value"])


def best_run(runs: str | Path, model: str, with_weights: bool = True) -> Run | None:
    """The finished run of `model` to show, no ablation's: real people before drawn ones, then most samples; None if none."""
    fits = [
        run
        for run in find(runs_folder(runs))
        if run.result is not None
        and (run.spec["model"], run.spec["options"]) == (model, {})
        and (run.weights or not with_weights)
    ]
    return max(
        fits,
        default=None,
        key=lambda run: (run.spec["recipe"]["data"] != "people", run.result.get("samples", 0), run.path.name),
    )


def seeds_of(run: Run) -> list[Run]:
    """The finished runs beside `run` that ask the same but for the seed, `run` among them if it is finished, by their seeds."""
    asked = run.spec | {"seed": None}
    found = [one for one in find(run.path.parent) if one.result is not None and one.spec | {"seed": None} == asked]
    return sorted(found, key=lambda one: one.spec["seed"])


def provenance(frame: pd.DataFrame) -> Output:
    """The facts of the page's provenance that a frame of runs determines: of the finished runs, else of those asked for."""
    frame = frame.drop_duplicates("path")
    done = frame.dropna(subset=["value"])
    names = {"data": "data", "seeds": "seed", "epochs": "epochs", "boxes": "boxes", "flip_test": "flip_test", "input": "input"}
    asked = done if len(done) else frame
    names |= {"gaussian_filter": "blur"} if asked["blur"].notna().any() else {}
    shared = {name: list(dict.fromkeys(asked[column].dropna())) for name, column in names.items()}
    ran = {
        name: list(dict.fromkeys(done[column].dropna())) or NOT_RUN
        for name, column in (("hardware", "hardware"), ("commits_of_the_runs", "commit"))
    }
    return facts(finished_runs=f"{len(done)} of {len(frame)}", **shared, **ran)


def runs_table(runs: str | Path, out: str | Path | None = None) -> Output:
    """The finished runs of a folder as an output, newest last; with links to their records from a page in `out`."""
    found = [run for run in find(runs_folder(runs)) if run.status == "finished"]
    frame = runs_frame(found)
    frame["commit"] = [None if pd.isna(text) else f"`{text}`" for text in frame["commit"]]
    frame["metric"] = frame["metric"].map(lambda name: METRICS.get(name, name))
    frame["options"] = [", ".join(f"{name}={value}" for name, value in run.spec["options"].items()) or None for run in found]
    if out is not None:
        frame["path"] = [f"[{run.path.name.rpartition('-')[2]}]({_link(run.path, out)}/result.json)" for run in found]
    else:
        frame["path"] = [run.path.name for run in found]
    columns = [
        "label",
        "options",
        "data",
        "recipe",
        "seed",
        "epochs",
        "metric",
        "value",
        "minutes",
        "hardware",
        "commit",
        "path",
    ]
    frame = frame[columns].rename(columns={"label": "network", "path": "record"})
    return show(
        frame,
        "Finished training runs; metrics in percent on the validation split.",
        formats={"value": "{:.1f}", "minutes": "{:.1f}"},
    )


def _link(path: Path, out: str | Path) -> str:
    return Path(os.path.relpath(path.resolve(), Path(out).resolve())).as_posix()


def and_list(words: Sequence[str], none: str = "none") -> str:
    """["a", "b", "c"] -> "a, b and c"."""
    words = list(words)
    return none if not words else words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
