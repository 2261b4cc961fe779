"""What the pages that compare the rows of one study share: the table with intervals, the answers, what rows cost."""

from collections.abc import Container, Sequence

import pandas as pd

from mdw.experiments import studies
from mdw.report import statistics, tables
from mdw.report.outputs import Output, say
from mdw.report.statistics import Noise

COUNTED = "counted"  # a column group of figures that need no training
FORMATS = dict.fromkeys(("std", "low", "high", "executed M"), "{:.1f}") | {"params M": "{:.3f}"}
SIGNED = dict.fromkeys(("difference", "effect", "low", "high", "persons low", "persons high"), "{:+.1f}")
ANSWERS = SIGNED | {"p": "{:.2g}", "detectable": "{:.1f}"}


def note(metric: str) -> str:
    """What the column groups of a page's first table hold."""
    return (
        "Published: AP on COCO val, 256x192, boxes of a detector. "
        f"Measured: {metric}, low and high of its 95 % interval over seeds. Counted: at 256x192 with COCO's 17 joints."
    )


def measured(study: pd.DataFrame, metric: str, noise: Noise | None = None) -> pd.DataFrame:
    """`tables.summary` ready to be shown, with `statistics.intervals` over seeds behind the standard deviation of its own."""
    known = statistics.intervals(study, noise).set_index("label")
    result = tables.summary(study)
    place = result.columns.get_loc("std") + 1
    for column in ("high", "low"):
        result.insert(place, column, known[column].reindex(result["label"]).tolist())
    return tables.measured(result, metric, head="label")


def costs(study: str, size: str = "256x192", labels: Container[str] | None = None) -> pd.DataFrame:
    """The rows of a study by name -> label, params M, executed M (multiply-adds, 10^6): counted at `size`; imports torch.

    With COCO's 17 joints, whatever the runs were trained on, so that the figures are the article's. labels: these rows only.
    """
    import torch

    import mdw
    from mdw.models.complexity import measure

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


def answers(tested: pd.DataFrame) -> pd.DataFrame:
    """The frame of `claims.answer` for `outputs.show`: what the seeds say, then what persons say of these very trainings."""
    seeds, alone = "over seeds, adjusted", "these trainings over persons"
    groups = {"id": ("", "id"), "claim": ("", "question"), "outcome": ("", "verdict"), "difference": ("", "effect")}
    groups |= {"low": (seeds, "low"), "high": (seeds, "high"), "p": (seeds, "p"), "detectable": ("", "detectable")}
    groups |= {"persons low": (alone, "low"), "persons high": (alone, "high")}
    return tested[list(groups)].set_axis(list(groups.values()), axis="columns")


def how_judged(tested: pd.DataFrame, metric: str) -> str:
    """What stands in `answers`: the unit, the adjustment, the margin, and what was detectable."""
    margins = {-bound for bound in tested.loc[tested["relation"] == ">=", "bound"]}
    at_least = "".join(f" *At least* allows for up to {margin:g} {metric} less." for margin in margins)
    return (
        "The difference of two means, or a sum of such; its interval over seeds and its p value are adjusted by Holm over all "
        f"questions of the study, run or not. A question holds or is contradicted where the whole interval says so.{at_least} "
        "Detectable: the true difference that these runs would have found in four of five cases, at 5 % two-sided, unadjusted."
    )


def noise_in_words(study: pd.DataFrame, noise: Noise | None = None) -> Output:
    """A paragraph on what the intervals of these runs hold, and what they cannot. noise: as in `statistics.intervals`."""
    noise, known = noise or statistics.pooled(study), statistics.intervals(study, noise)
    known = known[known["n"] > 0]
    if known.empty:
        return say("")
    alone, several = list(known.loc[known["n"] == 1, "label"]), known.dropna(subset=["std"]).astype({"std": float})
    if noise.freedom:
        said = [f"Intervals are 95 % over seeds, with Student's t. {spread(noise)}"]
        said += [f"{tables.and_list(alone)} {'have' if len(alone) > 1 else 'has'} one seed and borrow it."] if alone else []
        if len(several) > 1:
            low, high = several.loc[several["std"].idxmin()], several.loc[several["std"].idxmax()]
            said.append(
                f"That all networks vary alike is an assumption: by its own seeds {low['label']} has {low['std']:.2f}, "
                f"{high['label']} {high['std']:.2f}."
            )
    else:
        said = [spread(noise)]
    if known["persons low"].notna().any():
        said.append("Over persons, by resampling the images, an interval speaks of these very trainings and decides nothing.")
    return say(" ".join(said))


def spread(noise: Noise) -> str:
    """A sentence on the seeds' noise of a study, with its degrees of freedom."""
    if not noise.freedom:
        return "No network has two seeds, so the noise over seeds is unknown: no interval is given and nothing is decided."
    return (
        "One variance over seeds is pooled over all networks of the study that have two or more: a standard deviation of "
        f"{noise.variance**0.5:.2f}, {noise.freedom:g} degree{'s' if noise.freedom > 1 else ''} of freedom."
    )


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


def height(rows: Sequence, each: float = 0.3) -> float:
    """Inches for a drawing of so many rows."""
    return 0.9 + each * max(len(rows), 1)
