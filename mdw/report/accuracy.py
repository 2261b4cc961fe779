"""Tables 2 to 4: what networks reach on COCO and MPII, for each kind of boxes, beside what was published of them.

A figure that the article states, one derived from it, one that others published and one of ours never share a column, nor do
two kinds of boxes or metrics.
"""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from mdw.experiments.studies import STUDIES, Row
from mdw.report import article, derived
from mdw.report.derived import DERIVED
from mdw.report.measurements import measurements
from mdw.report.outputs import ARTICLE, MEASURED, NOT_RUN
from mdw.report.tables import METRICS, percent
from mdw.training.runs import Run

PUBLISHED = "published by others"  # a column group, beside `ARTICLE` and `MEASURED`
DATA = {"people": "drawn people", "lspet": "LSPET", "coco": "COCO val", "mpii": "MPII val"}
FAMILY_0P11 = ("HRNet/Lite-HRNet", "ZiyiZhang27/Dite-HRNet", "leoxiaobin/", "microsoft/")  # whose PCKh@0.1 is measured at 0.11


@dataclass(frozen=True)
class Table:
    """One of the article's tables: its study, its letter and number in published.csv, the data, the input, our columns.

    published: column of published.csv -> its title. measured: our columns, of which the first is the table's own figure.
    """

    study: str
    key: str
    data: str
    size: str
    published: dict[str, str]
    measured: tuple[str, ...]


TABLE2 = Table("table2", "T2", "coco", "256x192", {"AP": "AP, detector"}, ("AP, detector boxes", "AP, ground-truth boxes"))
SERVER = {"AP": "AP", "AP50": "AP50", "AP75": "AP75", "APM": "AP medium", "APL": "AP large", "AR": "AR"}
ON_SERVER = tuple(f"{name}, test-dev" for name in SERVER.values())
TABLE3 = Table("table3", "T3", "coco", "384x288", {"AP": "AP, test-dev"}, ON_SERVER)
TABLE4 = Table(
    "table4",
    "T4",
    "mpii",
    "256x256",
    {"PCKh50": "PCKh@0.5", "PCKh10": "PCKh@0.1 as printed"},
    ("PCKh@0.5", "PCKh@0.1", "PCKh@0.11"),
)


def own(table: Table, study: pd.DataFrame) -> bool:
    """Whether these runs measure what the table says: its data set, and therefore its metric."""
    return not study.empty and set(study["data"]) == {table.data}


def foreign(study: pd.DataFrame) -> str:
    """The name of what runs on other data measure, such as "PCK@0.2, drawn people"; never the table's column."""
    metric, data = study["metric"].iloc[0], study["data"].iloc[0]
    return f"{METRICS[metric]}, {DATA.get(data, data)}"


def seeds(table: Table, study: pd.DataFrame) -> pd.DataFrame:
    """One row per finished run -> label, seed and each of the table's columns, or `foreign`'s; in percent, absent without.

    What counts of a run is said by `measurements`; on test-dev only the server's scores do.
    """
    rows = []
    for one in study.dropna(subset=["value"]).itertuples() if not study.empty else ():
        row = {"label": one.label, "seed": one.seed}
        if not own(table, study):
            row[foreign(study)] = one.value
        else:
            row |= {"T2": _coco, "T3": _test_dev, "T4": _mpii}[table.key](Run(Path(one.path)))
        rows.append(row)
    columns = ["label", "seed", *(table.measured if own(table, study) or study.empty else [foreign(study)])]
    return pd.DataFrame(rows).reindex(columns=columns)


def _coco(run: Run) -> dict:
    titles = dict(zip(("detector", "ground truth"), TABLE2.measured, strict=True))
    found = [one for one in measurements(run) if one.split == "val"]
    return {titles[one.boxes]: percent("AP", one.metrics["AP"]) for one in found}


def _test_dev(run: Run) -> dict:
    scores = next((one.metrics for one in measurements(run) if one.split == "test-dev"), {})
    return {f"{title}, test-dev": percent("AP", scores[name]) for name, title in SERVER.items() if name in scores}


def _mpii(run: Run) -> dict:
    names = dict(zip(("pckh", "pckh@0.1", "pckh@0.11"), TABLE4.measured, strict=True))
    return {title: run.result[name] for name, title in names.items() if name in run.result}


def beside(table: Table, study: pd.DataFrame) -> pd.DataFrame:
    """Every row of the table: the article's figure, the derived one, the others', ours as mean, std and number of seeds.

    For `outputs.show`.
    Rows that this preset does not have are there as well. std is that of the first of our columns.
    """
    ours, rows = seeds(table, study), []
    for line in STUDIES[table.study]:
        size = _size(table, line)
        name = article.PUBLISHED_NAMES.get(line.model)
        stated = article.figures(table.key, name, size, list(table.published)[:1], article=True)
        known = article.figures(table.key, name, size, list(table.published))
        figure = stated.get(next(iter(table.published)))
        row = {("", "network"): line.label, ("", "input"): size, (ARTICLE, title(table)): figure}
        row[DERIVED, title(table)] = derived.in_words(derived.figures(table.key, name, size)) if name else None
        row |= {(PUBLISHED, title): known.get(column) for column, title in table.published.items()}
        if table is TABLE2:
            annotated = article.figures("gtbox_val", article.GT_BOXES.get(line.model), size, ["AP"])
            row[PUBLISHED, "AP, ground truth"] = annotated.get("AP")
            known["source"] = "; ".join(dict.fromkeys(one["source"] for one in (known, annotated) if one)) or None
        if table is TABLE4:
            row[PUBLISHED, "its 0.1 is"] = _convention(known)
        row[PUBLISHED, "source"] = known.get("source")
        found = ours[ours["label"] == line.label].dropna(axis="columns", how="all")
        shown = (*table.measured, *(column for column in ours.columns[2:] if column not in table.measured))
        row |= {(MEASURED, column): found[column].mean() if column in found else None for column in shown}
        first = next((column for column in reversed(shown) if column in found), None)
        spread = found[first].dropna() if first else pd.Series(dtype=float)
        row[MEASURED, "n"] = len(spread)
        row[MEASURED, "std"] = spread.std(ddof=1) if len(spread) > 1 else None
        rows.append(row)
    return pd.DataFrame(rows)


def formats(frame: pd.DataFrame) -> dict:
    """One decimal for every figure of `beside`'s frame."""
    return {column: "{:.1f}" for column in frame.columns if column[0] and column[1] not in ("n", "source")}


def missing(table: Table) -> dict[str, str]:
    """Every column of ours says "not run" where nothing was measured, also beside one in which something was."""
    return dict.fromkeys(table.measured, NOT_RUN)


def validation(study: pd.DataFrame) -> str:
    """The name of what the runs' own validation measured, by which their orderings are judged."""
    boxes = {"coco": ", COCO val, ground-truth boxes", "mpii": ", MPII val"}
    data, metric = study["data"].iloc[0], METRICS[study["metric"].iloc[0]]
    return f"{metric}{boxes[data]}" if data in boxes else foreign(study)


def title(table: Table) -> str:
    """The name of the article's column."""
    return {"T2": "AP, COCO val", "T3": "AP, COCO test-dev", "T4": "PCKh, MPII val"}[table.key]


def _size(table: Table, row: Row) -> str:
    width, height = row.changes.get("input_size", (0, 0))
    return f"{height}x{width}" if width else table.size


def _convention(known: dict) -> str | None:
    if "PCKh10" not in known:
        return None
    return "0.11" if known["source"].startswith(FAMILY_0P11) else "not stated here"
