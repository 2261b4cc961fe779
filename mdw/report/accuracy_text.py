"""What the pages of Tables 2 to 4 say of the frames of `mdw.report.accuracy`."""

from pathlib import Path

import pandas as pd

from mdw.report import accuracy, tables
from mdw.report.article import NAMES
from mdw.report.derived import DERIVED
from mdw.report.measurements import measurements
from mdw.report.outputs import ARTICLE, MEASURED, NOT_RUN, Output, facts, say, signed
from mdw.report.tables import and_list
from mdw.training.runs import Run


def provenance(table: accuracy.Table, study: pd.DataFrame) -> Output:
    """The facts of the page's provenance; of a preset without this table there are none but that."""
    if study.empty:
        return facts(finished_runs=NOT_RUN, data=f"{accuracy.DATA[table.data]}: {NOT_RUN}", seeds=NOT_RUN)
    return tables.provenance(study)


def what(table: accuracy.Table, study: pd.DataFrame, preset: str) -> Output:
    """A paragraph on what the runs of this preset measure, and that it is not the table's figure where it is not."""
    if study.empty:
        command = f"mdw reproduce {table.study} --preset coco --root COCO"
        return say(f"The preset *{preset}* has no run for this table; `{command}` makes its runs.")
    if accuracy.own(table, study):
        return say(f"The runs of the preset *{preset}* are trained on {table.data.upper()} and measured as the table is.")
    metric, _, data = accuracy.foreign(study).partition(", ")
    command = f"mdw reproduce {table.study} --preset {table.data} --root {table.data.upper()}"
    return say(
        f"**These are not the table's figures.** The preset *{preset}* trains the same networks on {data} and measures "
        f"{metric}. That shows which network learns faster there; of the table's {table.measured[0]} it says nothing, so those "
        f"columns say *{NOT_RUN}*. `{command}` makes the table's own runs."
    )


def boxes(study: pd.DataFrame) -> Output:
    """A sentence on what the annotated boxes are worth, and on evaluations of a part of COCO only."""
    ours = accuracy.seeds(accuracy.TABLE2, study)
    if not accuracy.own(accuracy.TABLE2, study) or ours.empty:
        return say("")
    ours["gain"] = ours[accuracy.TABLE2.measured[1]] - ours[accuracy.TABLE2.measured[0]]
    gains = [f"{label}: {gain:+.1f}" for label, gain in ours.groupby("label", sort=False)["gain"].mean().dropna().items()]
    lines = [f"AP with ground-truth boxes minus AP with detector boxes: {and_list(gains)}."] if gains else []
    runs = [Run(Path(one.path)) for one in study.dropna(subset=["value"]).itertuples()]
    parts = {(found.boxes, found.part) for run in runs for found in measurements(run) if found.part}
    for name, part in sorted(parts):
        lines.append(f"With {name} boxes only {part} were measured: this does not compare with the table.")
    return say(" ".join(lines) or "No run has been evaluated with detector boxes yet, so what boxes are worth is not known.")


def submissions(study: pd.DataFrame) -> Output:
    """For every run of Table 3 whether its submission was written and its scores are there."""
    lines = []
    for one in study.dropna(subset=["value"]).itertuples() if not study.empty else ():
        run = Run(Path(one.path))
        told = [found for one in run.evaluations("coco", "test-dev") for found in one["measured"].values()]
        written = [found["submission"] for found in told if found.get("submission")]
        zip_ = f"`{Path(written[-1]).name}` was written" if written else "no submission has been written"
        scores = f"the server's scores are in `{run.server_scores.name}`" if run.server_scores else f"the server: {NOT_RUN}"
        lines.append(f"- {one.label}, seed {one.seed} (`{run.path.name}`): {zip_}; {scores}.")
    return say("\n".join(lines) or f"No run of this table is finished: {NOT_RUN}.")


def gaps(table: accuracy.Table, study: pd.DataFrame) -> Output:
    """For each figure that the article states or that is derived from it: ours, or that it has not been measured."""
    lines, ours_title, theirs_title = [], table.measured[0], accuracy.title(table)
    for row in accuracy.beside(table, study).to_dict("records"):
        stated, derived, ours = row[ARTICLE, theirs_title], row[DERIVED, theirs_title], row[MEASURED, ours_title]
        label = f"{row['', 'network'].partition(', ')[0]} at {row['', 'input']}"
        if pd.isna(stated) and pd.isna(derived):
            continue
        theirs = f"derived from the article, {derived}" if pd.isna(stated) else f"the article states {stated:.1f}"
        if pd.isna(ours):
            lines.append(f"- {label}: {ours_title} {NOT_RUN}; {theirs}.")
        else:
            apart = "" if pd.isna(stated) else f": {signed('{:+.1f}', ours - stated)}"
            lines.append(f"- {label}: {ours_title} {ours:.1f}; {theirs}{apart}.")
    return say("\n".join(lines))


def unpublished(table: accuracy.Table, study: pd.DataFrame) -> Output:
    """A sentence on the networks of the table, the article's aside, of which no source that could be read gives a figure."""
    first = next(iter(table.published.values()))
    rows = [
        row["", "network"]
        for row in accuracy.beside(table, study).to_dict("records")
        if pd.isna(row[accuracy.PUBLISHED, first]) and not row["", "network"].startswith(tuple(NAMES.values()))
    ]
    return say(f"No source that could be read gives {first} of {and_list(rows)}; the place stays empty." if rows else "")


def in_words(table: accuracy.Table, study: pd.DataFrame, preset: str) -> str:
    """One sentence for the index."""
    ours = accuracy.seeds(table, study)
    done = ours[table.measured[0]].dropna() if table.measured[0] in ours else ours["label"][:0]
    if len(done):
        first = f"{ours.loc[done.index[0], 'label']}: {table.measured[0]} {done.iloc[0]:.1f}"
        return f"{first}, one of {len(done)} runs on the preset *{preset}*."
    if ours.empty or accuracy.own(table, study):
        return f"The table's {table.measured[0]}: {NOT_RUN}."
    instead = f"the preset *{preset}* measures {accuracy.foreign(study)} instead ({len(ours)} runs)"
    return f"The table's {table.measured[0]}: {NOT_RUN}; {instead}."
