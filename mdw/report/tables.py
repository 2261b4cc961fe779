"""Frames of runs and of published figures, made ready to be shown; the article's figures and ours never share a column.

Nothing here needs torch.
"""

import ast
import re

import pandas as pd

from mdw.report.claims.outcome import NOT_RUN
from mdw.report.names import METRICS, and_list, percent
from mdw.report.outputs import ARTICLE, MEASURED, Output, facts, headline, say, show
from mdw.report.runs import best_run, data_read, results, runs_folder, seeds_of
from mdw.report.stats import Noise, intervals
from mdw.training.runs import TREE
from mdw.util.errors import MdwError

__all__ = ["METRICS", "and_list", "best_run", "headline", "percent", "runs_folder", "say", "seeds_of", "show"]
FORMATS = dict.fromkeys(("std", "low", "high", "executed M", "COCO AP", *METRICS.values()), "{:.1f}") | {"params M": "{:.3f}"}
HOW = ("epochs", "boxes", "flip test", "input", "hardware", "commit")  # columns that go to the caption where all rows agree


def summary(frame: pd.DataFrame, noise: Noise | None = None) -> pd.DataFrame:
    """-> a row per label, in order: label, n (finished runs), mean, std (n - 1; absent below two), low, high, how it was got.

    low, high: `stats.intervals` over seeds, by `noise`. How: seeds and the columns of `HOW`; values that differ between seeds
    are joined.
    """
    known = intervals(frame, noise).set_index("label")
    rows = []
    for label, runs in frame.groupby("label", sort=False):
        done = runs.dropna(subset=["value"])
        row = {"label": label, "n": len(done)} | {name: known.loc[label, name] for name in ("mean", "std", "low", "high")}
        columns = {name: done[name.replace(" ", "_")] for name in HOW if name != "flip test"} | {"flip test": _tested(done)}
        rows.append(row | {"seeds": _joined(done["seed"])} | {name: _joined(columns[name]) for name in HOW})
    return pd.DataFrame(rows)


def _tested(frame: pd.DataFrame) -> pd.Series:
    """Of every run whether the flip test was made, and the width of the Gaussian filter on its heatmaps where there is one."""
    filtered = frame["blur"].map(lambda width: "" if pd.isna(width) else f", Gaussian filter {width:.0f}")
    return frame["flip_test"].map({True: "yes", False: "no"}) + filtered


def _joined(column: pd.Series) -> str | None:
    values = list(dict.fromkeys(str(value) for value in column.dropna()))
    return ", ".join(values) if values else None


def measured(frame: pd.DataFrame, metric: str, noise: Noise | None = None, head: str = "label") -> tuple[pd.DataFrame, str]:
    """`summary` ready to be shown, the mean under the metric's name, and a sentence on what all rows share.

    That sentence holds the columns of `HOW` that say the same in every row; they are left out of the frame.
    """
    result = summary(frame, noise).rename(columns={"mean": metric, "label": head})
    done, shared = result[result["n"] > 0], []
    for name in HOW:
        values = done[name].unique()
        if len(values) <= 1:
            result = result.drop(columns=name)
            shared += [f"{name} {f'`{values[0]}`' if name == 'commit' else values[0]}"] if len(values) else []
        elif name == "commit":
            codes = [None if pd.isna(text) else ", ".join(f"`{code}`" for code in text.split(", ")) for text in result[name]]
            result[name] = codes
    return result, f" The same for all: {'; '.join(shared)}." if shared else ""


def shared_recipe(frame: pd.DataFrame) -> str:
    """A sentence on the recipe that the rows of a study share, and on what differs, if anything does."""
    if frame.empty:
        return ""
    names = ("data", "recipe", "epochs", "lr", "input", "boxes", "flip_test")
    shown, same, differ = frame.assign(flip_test=_tested(frame)), [], []
    for column in names:
        values, name = [str(value) for value in shown[column]], {"lr": "learning rate"}.get(column, column.replace("_", " "))
        if len(set(values)) == 1:
            same.append(f"{name} *{values[0]}*")
        else:
            labels = frame.groupby(values, sort=False)["label"].unique()
            differ.append(f"{name} ({'; '.join(f'{value} for {and_list(those)}' for value, those in labels.items())})")
    return f"All rows share {and_list(same)}. What differs in the recipe: {and_list(differ, 'nothing')}."


def floor(frame: pd.DataFrame) -> str:
    """A sentence on what the training set's mean pose in the box scores, where the runs measured it; else an empty text."""
    found = results(frame, "mean_pose_pck")
    scores = " to ".join(f"{value:.1f}" for value in sorted({found[0], found[-1]})) if found else ""
    return (
        scores
        and f"Predicting the training set's mean pose in every box, without a look at the image, scores PCK@0.2 {scores}."
    )


def models() -> pd.DataFrame:
    """The networks by name, with the first sentence of what each says of itself; read from their files, which load torch."""
    from mdw.models import MODELS

    said = []
    for name, module in MODELS.items():
        file = TREE / f"{module.replace('.', '/')}.py"
        functions = [node for node in ast.parse(file.read_text(encoding="utf-8")).body if isinstance(node, ast.FunctionDef)]
        text = next(ast.get_docstring(function) or "" for function in functions if function.name == name)
        text = " ".join(text.split()).partition(". ")[0].rstrip(".")
        said.append(re.sub(r"[:;] [\d,.]+ (M )?parameters.*", "", text))  # what is counted is not quoted
    return pd.DataFrame({"name": [f"`{name}`" for name in MODELS], "what it is": said})


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


def provenance(frame: pd.DataFrame) -> Output:
    """The facts of the page's provenance that a frame of runs determines: of the finished runs, else of those asked for."""
    if frame.empty:
        return facts(finished_runs=NOT_RUN, data=NOT_RUN, seeds=NOT_RUN)
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
    read = {"data_as_read": known} if (known := data_read(done)) else {}
    return facts(finished_runs=f"{len(done)} of {len(frame)}", **shared, **ran, **read)
