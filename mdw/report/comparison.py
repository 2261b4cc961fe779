"""What the pages that compare the rows of one study share: the table with intervals, the paired differences, what rows cost."""

from collections.abc import Container, Sequence

import pandas as pd

from mdw import studies
from mdw.report import statistics, tables
from mdw.report.outputs import Output, say

COUNTED = "counted"  # a column group of figures that need no training
FORMATS = dict.fromkeys(("std", "low", "high", "executed M"), "{:.1f}") | {"params M": "{:.3f}"}
SIGNED = dict.fromkeys(("difference", "low", "high", "persons low", "persons high"), "{:+.1f}")


def note(metric: str) -> str:
    """What the column groups of a page's first table hold."""
    return (
        f"Article: AP on COCO val, 256x192, boxes of a detector. Measured: {metric}, low and high of its 95 % interval. "
        "Counted: at 256x192 with COCO's 17 joints."
    )


def measured(study: pd.DataFrame, metric: str) -> pd.DataFrame:
    """`tables.summary` ready to be shown, with `statistics.intervals` behind the standard deviation of the seeds."""
    noise = statistics.intervals(study).set_index("label")
    result = tables.summary(study)
    place = result.columns.get_loc("std") + 1
    for column in ("noise", "high", "low"):
        found = noise[column].reindex(result["label"]).tolist()
        result.insert(place, "interval holds" if column == "noise" else column, found)
    result.loc[result["n"] == 0, "interval holds"] = None
    return tables.measured(result, metric, head="label")


def costs(study: str, size: str = "256x192", labels: Container[str] | None = None) -> pd.DataFrame:
    """The rows of a study by name -> label, params M, executed M (multiply-adds, 10^6): counted at `size`; imports torch.

    With COCO's 17 joints, whatever the runs were trained on, so that the figures are the article's. labels: these rows only.
    """
    import torch

    import mdw
    from mdw.complexity import measure

    rows = []
    for row in studies.STUDIES[study]:
        if labels is not None and row.label not in labels:
            continue
        with torch.device("meta"):
            network = mdw.create_model(row.model, **row.options)
        found = measure(network, tuple(map(int, size.split("x"))))
        rows.append({"label": row.label, "params M": found["params"] / 1e6, "executed M": found["macs"] / 1e6})
    return pd.DataFrame(rows)


def with_costs(both: pd.DataFrame, costs: pd.DataFrame) -> pd.DataFrame:
    """`tables.beside` and what its rows cost, in the column group `COUNTED` behind the first column."""
    found = costs.set_index("label").reindex(both.iloc[:, 0])
    for place, column in enumerate(found.columns, start=1):
        both.insert(place, (COUNTED, column), found[column].tolist())
    return both


def orderings(tested: pd.DataFrame) -> pd.DataFrame:
    """`claims.judge`'s frame for `outputs.show`: what persons and seeds say, then what the same persons alone say."""
    both, alone = "persons and seeds", "the same persons alone"
    groups = {"claim": ("", "claim"), "difference": ("", "difference")}
    groups |= {"low": (both, "low"), "high": (both, "high"), "outcome": (both, "outcome")}
    groups |= {"persons low": (alone, "low"), "persons high": (alone, "high"), "over persons": (alone, "verdict")}
    return tested[list(groups)].set_axis(list(groups.values()), axis="columns")


def noise_in_words(study: pd.DataFrame) -> Output:
    """A paragraph on what the intervals of these runs hold, and what they cannot."""
    known = statistics.intervals(study)
    known = known[known["n"] > 0]
    if known.empty:
        return say("")
    alone = list(known.loc[known["n"] == 1, "label"])
    without = list(known.loc[~known["noise"].str.contains("persons"), "label"])
    said = [
        "Intervals are 95 %. Over persons they come from resampling the images; two networks are compared on the same draws. "
        "Where a network has two seeds or more, their variance is added with Student's t."
    ]
    if alone:
        said.append(f"One seed each, so noise unknown over seeds: {tables.and_list(alone)}.")
    if without:
        said.append(f"Without a per-person record: {tables.and_list(without)}.")
    return say(" ".join(said))


def similar(study: pd.DataFrame, baseline: str) -> Output:
    """For runs measured by AP the table of `statistics.similarity`; nothing for others."""
    found = statistics.similarity(study, baseline)
    if found.empty:
        return say("")
    return tables.show(
        found.rename(columns={"difference": "OKS"}),
        f"AP is no mean over persons. Paired instead: each person's similarity (OKS, %) to its annotation, minus {baseline}'s.",
        formats=SIGNED | {"OKS": "{:+.1f}"},
    )


def height(rows: Sequence) -> float:
    """Inches for a drawing of so many rows."""
    return 0.9 + 0.3 * max(len(rows), 1)
