"""Tables 2 to 4: what networks reach on COCO and MPII, for each kind of boxes, beside what was published of them.

A figure of the article, one that others published and one of ours never share a column, nor do two kinds of boxes or metrics.
"""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from mdw.pose.submission import read_scores
from mdw.report import article
from mdw.report.outputs import ARTICLE, MEASURED, NOT_RUN, Output, facts, say
from mdw.report.tables import METRICS, and_list, percent
from mdw.report.tables import provenance as provenance_of_runs
from mdw.runs import Run
from mdw.studies import STUDIES, Row

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
TABLE3 = Table("table3", "T3", "coco", "384x288", {"AP": "AP, test-dev"}, tuple(f"{name}, test-dev" for name in SERVER.values()))
TABLE4 = Table(
    "table4",
    "T4",
    "mpii",
    "256x256",
    {"PCKh50": "PCKh@0.5", "PCKh10": "PCKh@0.1 as printed"},
    ("PCKh@0.5", "PCKh@0.1", "PCKh@0.11"),
)


def provenance(table: Table, study: pd.DataFrame) -> Output:
    """The facts of the page's provenance; of a preset without this table there are none but that."""
    if study.empty:
        return facts(finished_runs=NOT_RUN, data=f"{DATA[table.data]}: {NOT_RUN}", seeds=NOT_RUN)
    return provenance_of_runs(study)


def own(table: Table, study: pd.DataFrame) -> bool:
    """Whether these runs measure what the table says: its data set, and therefore its metric."""
    return not study.empty and set(study["data"]) == {table.data}


def what(table: Table, study: pd.DataFrame, preset: str) -> Output:
    """A paragraph on what the runs of this preset measure, and that it is not the table's figure where it is not."""
    if study.empty:
        return say(f"The preset *{preset}* has no run for this table; `mdw reproduce {table.study} --preset coco --root COCO` has.")
    if own(table, study):
        return say(f"The runs of the preset *{preset}* are trained on {table.data.upper()} and measured as the table is.")
    metric = foreign(study)
    return say(
        f"**These are not the table's figures.** The preset *{preset}* trains the same networks on "
        f"{DATA.get(study['data'].iloc[0], study['data'].iloc[0])} and measures {metric}. That shows which network learns "
        f"faster there; of the table's {table.measured[0]} it says nothing, so those columns say *{NOT_RUN}*. "
        f"`mdw reproduce {table.study} --preset {table.data} --root {table.data.upper()}` makes the table's own runs."
    )


def foreign(study: pd.DataFrame) -> str:
    """The name of what runs on other data measure, such as "PCK@0.2, drawn people"; never the table's column."""
    metric, data = study["metric"].iloc[0], study["data"].iloc[0]
    return f"{METRICS[metric]}, {DATA.get(data, data)}"


def seeds(table: Table, study: pd.DataFrame) -> pd.DataFrame:
    """One row per finished run -> label, seed and, where it was measured, each of the table's columns or `foreign`'s, in percent.

    On COCO val an evaluation that `mdw evaluate --record` left counts before the run's own last validation, whose boxes are
    the annotated ones; on test-dev only the server's scores count.
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
    found = {}
    if run.result.get("boxes") == "ground truth":
        found["AP, ground-truth boxes"] = percent("AP", run.result["AP"])
    for evaluation in run.evaluations("coco", "val"):
        for name, column in (("detector_boxes", 0), ("ground_truth_boxes", 1)):
            if name in evaluation["measured"]:
                found[TABLE2.measured[column]] = percent("AP", evaluation["measured"][name]["AP"])
    return found


def _test_dev(run: Run) -> dict:
    scores = read_scores(run.server_scores) if run.server_scores else {}
    return {f"{title}, test-dev": percent("AP", scores[name]) for name, title in SERVER.items() if name in scores}


def _mpii(run: Run) -> dict:
    names = dict(zip(("pckh", "pckh@0.1", "pckh@0.11"), TABLE4.measured, strict=True))
    return {title: run.result[name] for name, title in names.items() if name in run.result}


def beside(table: Table, study: pd.DataFrame) -> pd.DataFrame:
    """Every row of the table: the article's figure, the others', ours as mean, std and number of seeds; for `outputs.show`.

    Rows that this preset does not have are there as well. std is that of the first of our columns.
    """
    ours, rows = seeds(table, study), []
    for line in STUDIES[table.study]:
        size = _size(table, line)
        name = article.PUBLISHED_NAMES.get(line.model)
        stated = article.figures(table.key, name, size, list(table.published)[:1], article=True)
        known = article.figures(table.key, name, size, list(table.published))
        row = {("", "network"): line.label, ("", "input"): size, (ARTICLE, _title(table)): stated.get(next(iter(table.published)))}
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
        spread = found[first].dropna() if first else found["label"][:0]
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


def _title(table: Table) -> str:
    return {"T2": "AP, COCO val", "T3": "AP, COCO test-dev", "T4": "PCKh, MPII val"}[table.key]


def _size(table: Table, row: Row) -> str:
    width, height = row.changes.get("input_size", (0, 0))
    return f"{height}x{width}" if width else table.size


def _convention(known: dict) -> str | None:
    if "PCKh10" not in known:
        return None
    return "0.11" if known["source"].startswith(FAMILY_0P11) else "not stated here"


def boxes(study: pd.DataFrame) -> Output:
    """A sentence on what the annotated boxes are worth, and on evaluations of a part of COCO only."""
    ours = seeds(TABLE2, study)
    if not own(TABLE2, study) or ours.empty:
        return say("")
    ours["gain"] = ours[TABLE2.measured[1]] - ours[TABLE2.measured[0]]
    gains = [f"{label}: {gain:+.1f}" for label, gain in ours.groupby("label", sort=False)["gain"].mean().dropna().items()]
    lines = [f"AP with ground-truth boxes minus AP with detector boxes: {and_list(gains)}."] if gains else []
    parts = {
        (name.replace("_", " "), found["persons"], found["public_persons"])
        for one in study.dropna(subset=["value"]).itertuples()
        for evaluation in Run(Path(one.path)).evaluations("coco", "val")
        for name, found in evaluation["measured"].items()
        if found.get("public_persons") not in (None, found["persons"])
    }
    lines += [f"With {name} {n:,} of {public:,} were measured: this does not compare with the table." for name, n, public in sorted(parts)]
    return say(" ".join(lines) or "No run has been evaluated with detector boxes yet, so nothing is known of what boxes are worth.")


def submissions(study: pd.DataFrame) -> Output:
    """For every run of Table 3 whether its submission was written and its scores are there."""
    lines = []
    for one in study.dropna(subset=["value"]).itertuples() if not study.empty else ():
        run = Run(Path(one.path))
        written = [m["submission"] for e in run.evaluations("coco", "test-dev") for m in e["measured"].values() if m.get("submission")]
        zip_ = f"`{Path(written[-1]).name}` was written" if written else "no submission has been written"
        scores = f"the server's scores are in `{run.server_scores.name}`" if run.server_scores else f"the server: {NOT_RUN}"
        lines.append(f"- {one.label}, seed {one.seed} (`{run.path.name}`): {zip_}; {scores}.")
    return say("\n".join(lines) or f"No run of this table is finished: {NOT_RUN}.")


def gaps(table: Table, study: pd.DataFrame) -> Output:
    """For each of the article's figures how far ours is from it, or that it has not been measured."""
    lines, title = [], table.measured[0]
    for row in beside(table, study).to_dict("records"):
        theirs, ours, label = row[ARTICLE, _title(table)], row[MEASURED, title], f"{row['', 'network']} at {row['', 'input']}"
        if pd.isna(theirs):
            continue
        if pd.isna(ours):
            lines.append(f"- {label}: {title} {NOT_RUN}; the article has {theirs:.1f}.")
        else:
            lines.append(f"- {label}: {title} {ours:.1f}, the article {theirs:.1f}: {ours - theirs:+.1f}.")
    return say("\n".join(lines))


def in_words(table: Table, study: pd.DataFrame, preset: str) -> str:
    """One sentence for the index."""
    ours = seeds(table, study)
    done = ours[table.measured[0]].dropna() if table.measured[0] in ours else ours["label"][:0]
    if len(done):
        return f"{ours.loc[done.index[0], 'label']}: {table.measured[0]} {done.iloc[0]:.1f}, one of {len(done)} runs on the preset *{preset}*."
    other = "" if ours.empty or own(table, study) else f"; the preset *{preset}* measures {foreign(study)} instead ({len(ours)} runs)"
    return f"The table's {table.measured[0]}: {NOT_RUN}{other}."
