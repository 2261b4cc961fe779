"""The study on real people behind several pages: its runs, its questions' answers, and what is to be said of both."""

from collections.abc import Container, Sequence
from pathlib import Path

import pandas as pd

from mdw.data import coco
from mdw.experiments import studies
from mdw.models import counts
from mdw.models.rules import RULES
from mdw.report import names, runs, stats, tables, words
from mdw.report.claims import judge
from mdw.report.claims.words import of
from mdw.report.outputs import Output, say, show
from mdw.report.stats import Noise
from mdw.training import recipes

LABELLERS = 76.0  # PCK@0.2 between two labellers of the same photo, by the README of the data: 31 photos occur twice in LSPET
COUNTED = "counted"  # a column group of figures that need no training


def rows(name: str, preset: str, seeds: Sequence[int], folder: str | Path) -> pd.DataFrame:
    """The runs of a study under a preset, as `runs.study`: of each row's `seeds` those finished and those that are planned."""
    frame = runs.study(name, preset, seeds, folder)
    planned = frame["label"].map(studies.planned_seeds).clip(lower=1)
    first = frame.groupby("label").cumcount()
    return frame[frame["value"].notna() | first.lt(planned)].reset_index(drop=True)


def everything(preset: str, seeds: Sequence[int], folder: str | Path) -> pd.DataFrame:
    """Every row that answers a question, under one preset; a run that tables share is there by each of its names."""
    parts = [rows(name, preset, seeds, folder) for name in studies.ASKED]
    return pd.concat(parts, ignore_index=True).drop_duplicates(["label", "seed"])


def questions(frame: pd.DataFrame, *ids: str) -> pd.DataFrame:
    """`judge.answer` to `studies.QUESTIONS` by the runs of `everything`, those whose ids begin with one of `ids`."""
    return of(judge.answer(frame, studies.QUESTIONS), *ids)


def costs(study: str, size: str = "256x192", labels: Container[str] | None = None) -> pd.DataFrame:
    """The rows of a study by name -> label, params M, executed M (multiply-adds, 10^6): counted at `size`.

    With COCO's 17 joints, whatever the runs were trained on, so that the figures are the article's. labels: these rows only.
    """
    counted = []
    for row in studies.STUDIES[study]:
        if labels is None or row.label in labels:
            found = counts.counted(row.model, names.size_of(size), **row.options)
            counted.append({"label": row.label, "params M": found["params"] / 1e6, "executed M": found["macs"] / 1e6})
    return pd.DataFrame(counted, columns=["label", "params M", "executed M"])


def with_costs(both: pd.DataFrame, costs: pd.DataFrame) -> pd.DataFrame:
    """`tables.beside` and what its rows cost, in the column group `COUNTED` behind the first column."""
    found = costs.set_index("label").reindex(both.iloc[:, 0])
    for place, column in enumerate(found.columns, start=1):
        both.insert(place, (COUNTED, column), found[column].tolist())
    return both


def note(metric: str, counted: bool = True) -> str:
    """What the column groups of a page's table of networks hold."""
    cost = " Counted: at 256x192 with COCO's 17 joints." if counted else ""
    return f"Published: AP on COCO val, 256x192, boxes of a detector. Measured: {metric}, 95 % interval over seeds.{cost}"


def how_judged(tested: pd.DataFrame, metric: str) -> str:
    """What stands in a table of answers: the unit, the adjustment, the margin, and what was detectable."""
    margins = sorted({-bound for bound in tested.loc[tested["relation"] == ">=", "bound"]})
    return words.text("study.how_judged", metric=metric, margins=margins)


def noise_in_words(frame: pd.DataFrame, noise: Noise | None = None) -> str:
    """What the intervals of these runs hold, and what they cannot. noise: as in `stats.intervals`."""
    noise = noise or stats.pooled(frame)
    known = stats.intervals(frame, noise)
    known = known[known["n"] > 0]
    if known.empty:
        return ""
    several, persons = known.dropna(subset=["std"]).astype({"std": float}), bool(known["persons low"].notna().any())
    found = several.to_dict("records") if len(several) > 1 else []
    low, high = (pick(found, key=lambda row: row["std"], default=None) for pick in (min, max))
    alone = list(known.loc[known["n"] == 1, "label"])
    return words.text("study.noise", noise=noise, alone=alone, low=low, high=high, persons=persons)


def confound(preset: str) -> str:
    """How the kernels of the runs under `preset` started, and what that does to the answers."""
    rule = studies.recipe(studies.FULL, preset).init
    return words.text("study.confound", preset=preset, rule=rule, does=RULES[rule])


def ceiling(frame: pd.DataFrame) -> str:
    """What bounds the figures from above, and `tables.floor`'s sentence on what does from below; nothing without LSPET."""
    best = frame["value"].dropna().astype(float).max()
    best = None if pd.isna(best) else best
    return words.text("study.ceiling", labellers=LABELLERS, best=best, floor=tables.floor(frame))


def length(frame: pd.DataFrame) -> str:
    """How short these trainings are beside the article's; empty without a finished run."""
    seen, theirs, persons = runs.results(frame, "samples"), recipes.paper().epochs, coco.PUBLIC_COUNTS["train"]["persons"]
    samples = " to ".join(f"{value:,}" for value in dict.fromkeys((seen[0], seen[-1]))) if seen else ""
    times = f"{theirs * persons / seen[-1]:,.0f}" if seen else ""
    return words.text("study.length", samples=samples, epochs=theirs, persons=f"{persons:,}", times=times)


def marks(frame: pd.DataFrame) -> list[tuple[float, str]]:
    """The floor, where the runs measured it, and the ceiling, for `plots.networks`; none but on LSPET."""
    floor = [(value, "mean pose") for value in runs.results(frame, "mean_pose_pck")[:1]]
    return [*floor, (LABELLERS, "two labellers")] if set(frame["data"]) == {"lspet"} else []


def missing(frame: pd.DataFrame, report: str, preset: str) -> Output | None:
    """A sentence on the runs of a study that are not finished, with the command that makes them and the report again."""
    unfinished = frame["value"].isna()
    left, left_out = frame[unfinished & frame["status"].ne("left out")], frame[unfinished & frame["status"].eq("left out")]
    seeds = ",".join(str(seed) for seed in sorted(set(frame["seed"])))
    command = f"mdw reproduce {report} --preset {preset} --seeds {seeds}"
    told = {"left": list(left["label"]), "left_out": list(left_out["label"])}
    return say(words.text("study.missing", preset=preset, command=command, runs=len(frame), **told))


def similar(frame: pd.DataFrame, baseline: str) -> Output | None:
    """For runs measured by AP the table of `stats.similarity`; nothing for others."""
    found = stats.similarity(frame, baseline)
    if found.empty:
        return say("")
    return show(
        found.rename(columns={"difference": "OKS"}),
        f"AP is no mean over persons. Paired instead: each person's similarity (OKS, %) to its annotation, minus {baseline}'s.",
        formats=dict.fromkeys(("OKS", "persons low", "persons high"), "{:+.1f}"),
    )
