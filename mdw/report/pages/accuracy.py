"""Tables 2 to 4: what networks reach on COCO and MPII, for each kind of boxes, beside what was published of them.

A figure that the article states, one derived from it, one that others published and one of ours never share a column, nor do
two kinds of boxes or metrics.
"""

from dataclasses import dataclass

import pandas as pd

from mdw.experiments.studies import STUDIES, Row
from mdw.report import article, derived, names, runs, words
from mdw.report.claims.measurements import measurements
from mdw.report.derived import DERIVED
from mdw.report.names import METRICS, NETWORKS, percent
from mdw.report.outputs import ARTICLE, MEASURED, NOT_RUN, Output, say, show
from mdw.training.runs import Run

PUBLISHED = "published by others"  # a column group, beside `ARTICLE` and `MEASURED`
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
    """The name of what runs on other data measure, such as "PCK@0.2, LSPET"; never the table's column."""
    return f"{METRICS[study['metric'].iloc[0]]}, {names.data_of(study['data'].iloc[0])}"


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
            row |= {"T2": _coco, "T3": _test_dev, "T4": _mpii}[table.key](runs.run(one.path))
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
    return {title: run.outcome[name] for name, title in names.items() if name in run.outcome}


def beside(table: Table, study: pd.DataFrame) -> pd.DataFrame:
    """Every row of the table: the article's figure, the derived one, the others', ours as mean, std and number of seeds.

    For `outputs.show`.
    Rows that this preset does not have are there as well. std is that of the first of our columns.
    """
    ours, rows = seeds(table, study), []
    for line in STUDIES[table.study]:
        size = _size(table, line)
        name = NETWORKS[line.model].published or None
        stated = article.figures(table.key, name, size, list(table.published)[:1], article=True)
        known = article.figures(table.key, name, size, list(table.published))
        figure = stated.get(next(iter(table.published)))
        row = {("", "network"): line.label, ("", "input"): size, (ARTICLE, title(table)): figure}
        row[DERIVED, title(table)] = derived.in_words(derived.figures(table.key, name, size)) if name else None
        row |= {(PUBLISHED, title): known.get(column) for column, title in table.published.items()}
        if table is TABLE2:
            annotated = article.figures("gtbox_val", NETWORKS[line.model].annotated or None, size, ["AP"])
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


def title(table: Table) -> str:
    """The name of the article's column."""
    return {"T2": "AP, COCO val", "T3": "AP, COCO test-dev", "T4": "PCKh, MPII val"}[table.key]


def _size(table: Table, row: Row) -> str:
    return names.size_name(row.changes["input_size"]) if "input_size" in row.changes else table.size


def _convention(known: dict) -> str | None:
    if "PCKh10" not in known:
        return None
    return "0.11" if known["source"].startswith(FAMILY_0P11) else "not stated here"


def shown(table: Table, study: pd.DataFrame, preset: str) -> Output:
    """The table itself, every row: stated, derived, published by others, and our runs under a preset."""
    frame = beside(table, study)
    same = frame["", "input"].nunique() == 1  # then the caption says it
    shown = [frame[c].notna().any() if c[0] not in ("", MEASURED) else c != ("", "input") or not same for c in frame.columns]
    frame = frame.loc[:, shown]
    formats = {column: "{:.1f}" for column in frame.columns if column[0] and column[1] not in ("n", "source")}
    data = names.data_of(table.data, "test-dev" if table is TABLE3 else "val")
    told = {"data": data, "input": table.size, "preset": preset, "number": table.key[1:], "same": same}
    told["stated"] = any(column[0] == ARTICLE for column in frame.columns)
    caption, missing = words.text("accuracy.caption", **told), dict.fromkeys(table.measured, NOT_RUN)
    return show(frame, caption, name=table.study, formats=formats, missing=missing, note=words.text("accuracy.note", **told))


def own_figures(table: Table, study: pd.DataFrame) -> str:
    """What the runs measure, and that it is not the table's figure where it is not."""
    told = {"study": table.study, "preset": table.data, "root": table.data.upper(), "figure": table.measured[0]}
    instead = "" if study.empty or own(table, study) else foreign(study)
    return words.text("accuracy.own", **told, empty=study.empty, instead=instead)


def notes(table: Table, study: pd.DataFrame) -> Output | None:
    """Which figures of others could not be found, what annotated boxes are worth, and which submissions were made."""
    first, frame = next(iter(table.published.values())), beside(table, study)
    absent = frame[frame[PUBLISHED, first].isna() & ~frame["", "network"].str.startswith("MDW-HRNet")]["", "network"]
    parts = [f"No source that could be read gives {first} of {names.and_list(list(absent))}; the place stays empty."]
    parts = parts if len(absent) else []
    parts += [boxes(study)] if table is TABLE2 else [submissions(study)] if table is TABLE3 else []
    return say("\n\n".join(filter(None, parts)))


def boxes(study: pd.DataFrame) -> str:
    """What annotated boxes are worth against a detector's, and which evaluations cover a part of COCO only."""
    ours = seeds(TABLE2, study)
    if not own(TABLE2, study) or ours.empty:
        return ""
    ours["gain"] = ours[TABLE2.measured[1]] - ours[TABLE2.measured[0]]
    gains = ours.groupby("label", sort=False)["gain"].mean().dropna().to_dict()
    found = [one for path in study.dropna(subset=["value"])["path"] for one in measurements(runs.run(path)) if one.part]
    parts = sorted({(names.BOXES[one.boxes], one.part) for one in found})
    return words.text("accuracy.boxes", gains=gains, parts=parts)


def submissions(study: pd.DataFrame) -> str:
    """For every run of Table 3 whether its submission was written and its scores are there."""
    rows = []
    for one in study.dropna(subset=["value"]).itertuples() if not study.empty else ():
        run = runs.run(one.path)
        told = [found for told in run.evaluations("coco", "test-dev") for found in told["measured"].values()]
        written = [found["submission"].rpartition("/")[2] for found in told if found.get("submission")]
        scores = run.server_scores.name if run.server_scores else ""
        rows.append({"label": one.label, "seed": one.seed, "run": run.path.name, "written": written, "scores": scores})
    return words.text("accuracy.submissions", rows=rows)


def gaps(table: Table, study: pd.DataFrame) -> Output | None:
    """For each figure that the article states or that is derived from it: ours, or that it has not been measured."""
    rows, theirs = [], title(table)
    for row in beside(table, study).to_dict("records"):
        stated, derived, ours = row[ARTICLE, theirs], row[DERIVED, theirs], row[MEASURED, table.measured[0]]
        if pd.notna(stated) or pd.notna(derived):
            label = f"{row['', 'network'].partition(', ')[0]} at {row['', 'input']}"
            told = {"stated": None if pd.isna(stated) else stated, "derived": derived, "ours": None if pd.isna(ours) else ours}
            rows.append({"label": label} | told)
    return say(words.text("accuracy.gaps", rows=rows, figure=table.measured[0]))


def in_words(table: Table, study: pd.DataFrame) -> str:
    """A sentence on the table's own figure, for the head of the page."""
    ours = seeds(table, study)
    done = ours[["label", table.measured[0]]].dropna() if table.measured[0] in ours else ours[:0]
    first = done.iloc[0].tolist() if len(done) else []
    return words.text("accuracy.headline", figure=table.measured[0], first=first, runs=len(done))
