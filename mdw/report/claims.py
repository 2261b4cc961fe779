"""What a study answers: questions that are contrasts of its rows, each with its effect, how sure it is, and a verdict."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from mdw.experiments.studies import Question, ahead
from mdw.report import statistics
from mdw.report.outcome import CONTRADICTED, HOLDS, MARGINS, NOT_RUN, UNDECIDED, VERDICTS, verdict
from mdw.report.outputs import Output, say, signed
from mdw.report.statistics import Noise
from mdw.report.tables import and_list

COLUMNS = ["id", "claim", "difference", "low", "high", "p", "detectable", "outcome"]
PERSONS = ["persons low", "persons high", "over persons"]
PLURAL = {HOLDS: "hold"}


def answer(frame: pd.DataFrame, questions: Sequence[Question], noise: Noise | None = None) -> pd.DataFrame:
    """Each question -> `COLUMNS`, `PERSONS` (what the same persons alone say), bound, relation, family, variance and freedom.

    frame: as `tables.study` gives it, with the rows of the questions; a question with a row that is not there, or has no
    finished run, is "not run". noise: the seeds' noise of the study, that of `frame` if left out. difference: the contrast,
    in the metric's points. low, high: its interval over seeds and p its p value, both adjusted by Holm over all questions of
    its family. outcome: `outcome.verdict` of low and high. detectable: `statistics.Effect.detectable`.
    variance, freedom: the noise.
    """
    noise, cells = noise or statistics.pooled(frame), statistics.cells(frame)
    effects = [statistics.contrast(cells, question.contrast, noise) for question in questions]
    bounds = [0.0 - _margin(frame, question) for question in questions]
    families = np.array([question.family for question in questions])
    known = np.array([np.nan if one is None else one.p(bound) for one, bound in zip(effects, bounds, strict=True)])
    adjusted, level = np.ones(len(known)), np.ones(len(known))
    for family in dict.fromkeys(families):
        adjusted[families == family], level[families == family] = statistics.holm(known[families == family])
    rows = []
    for place, (question, effect) in enumerate(zip(questions, effects, strict=True)):
        row = dict.fromkeys((*COLUMNS, *PERSONS), np.nan) | {"id": question.id, "claim": question.text}
        row |= {"bound": bounds[place], "relation": question.relation, "family": question.family}
        if effect is None:
            row |= {"outcome": NOT_RUN, "over persons": NOT_RUN}
        else:
            low, high = effect.interval(level[place])
            row |= {"difference": effect.size, "low": low, "high": high, "detectable": effect.detectable()}
            row |= {"p": np.nan if np.isnan(known[place]) else adjusted[place]}
            row |= {"outcome": verdict(low, high, question.relation, margin=-bounds[place])}
            row |= statistics.persons_of(frame, question.contrast)
        rows.append(row)
    frame = pd.DataFrame(rows, columns=[*COLUMNS, *PERSONS, "bound", "relation", "family"])
    return frame.assign(variance=noise.variance, freedom=noise.freedom)


def _margin(frame: pd.DataFrame, question: Question) -> float:
    """How much less than nothing still counts as at least nothing: 0 for ">", else fixed for the metric."""
    return MARGINS[frame["metric"].iloc[0]] if question.relation == ">=" and len(frame) else 0.0


def judge(frame: pd.DataFrame, orderings: Sequence[tuple[str, str, str]]) -> pd.DataFrame:
    """`answer` to orderings, (claim, label that should be higher, label that should be lower), which are one family."""
    questions = [
        Question(str(place), claim, ahead(higher, lower), family="orderings")
        for place, (claim, higher, lower) in enumerate(orderings, start=1)
    ]
    return answer(frame, questions)


def of(tested: pd.DataFrame, *ids: str) -> pd.DataFrame:
    """The answers whose ids begin with one of `ids` (all without), in order. What they were adjusted for stays."""
    return tested[tested["id"].str.startswith(ids or "")].reset_index(drop=True)


def in_numbers(row: dict, unit: str) -> str:
    """The figures of an answer: effect, adjusted interval, margin, and what the runs could have detected; "" if not run."""
    if pd.isna(row["difference"]):
        return ""
    effect = f"{_plus(row['difference'])} {unit}"
    if pd.isna(row["low"]):
        return f"{effect}, noise over seeds unknown"
    margin = f", margin {-row['bound']:g} {unit}" if row["relation"] == ">=" else ""
    return (
        f"{effect} (adjusted interval {_plus(row['low'])} to {_plus(row['high'])}{margin}; "
        f"detectable {signed('{:.1f}', row['detectable'])})"
    )


def found(tested: pd.DataFrame, unit: str) -> Output:
    """Paragraphs on what holds, what is undecided and what has not been run; what is contradicted, `not_reproduced` says."""
    titles = {
        HOLDS: "These hold",
        UNDECIDED: "These are undecided, which is no evidence for or against them",
        NOT_RUN: "These have not been run",
    }
    paragraphs = []
    for outcome, title in titles.items():
        chosen = tested[tested["outcome"] == outcome].to_dict("records")
        if chosen:
            lines = [f"- {': '.join(filter(None, (row['claim'], in_numbers(row, unit))))}." for row in chosen]
            paragraphs.append(f"{title} ({len(chosen)} of {len(tested)}):\n\n" + "\n".join(lines))
    return say("\n\n".join(paragraphs))


def not_reproduced(tested: pd.DataFrame, unit: str) -> Output:
    """A paragraph on every claim that is contradicted; what is undecided or not run did not fail and is only counted."""
    failed = tested[tested["outcome"] == CONTRADICTED].to_dict("records")
    lines = [f"- {row['claim']}: the opposite was measured, {in_numbers(row, unit)}." for row in failed]
    open_ = [f"{count} {outcome}" for outcome in (UNDECIDED, NOT_RUN) if (count := int(tested["outcome"].eq(outcome).sum()))]
    rest = f"Of {len(tested)}, {and_list(open_)}: these neither failed nor held." if open_ else ""
    first = "\n".join(lines) or "Nothing that these runs can decide came out against the article."
    return say("\n\n".join(filter(None, (first, rest))))


def in_words(tested: pd.DataFrame, preset: str) -> str:
    """One sentence for the index: how many questions came out how, the failed first. preset: whose runs answer them."""
    return f"Of {len(tested)} questions, answered by the runs of *{preset}*: {counts(tested)}."


def counts(tested: pd.DataFrame) -> str:
    """ "1 contradicted, 2 hold and 3 undecided"."""
    found = tested["outcome"].value_counts()
    return and_list([f"{found[one]} {one if found[one] == 1 else PLURAL.get(one, one)}" for one in VERDICTS if one in found])


def missing(frame: pd.DataFrame, report: str, preset: str) -> Output:
    """A sentence on the runs of a study that are not finished, with the command that makes them and the report again."""
    if frame.empty:
        return say(f"The preset *{preset}* has no run for this.")
    unfinished = frame["value"].isna()
    left_out, left = frame[unfinished & frame["status"].eq("left out")], frame[unfinished & frame["status"].ne("left out")]
    seeds = ",".join(str(seed) for seed in dict.fromkeys(frame["seed"]))
    command = f"mdw reproduce {report} --preset {preset} --seeds {seeds}"
    lines = []
    if len(left):
        lines.append(f"{len(left)} of {len(frame)} runs are not finished, of {_labels(left)}; `{command}` makes them.")
    if len(left_out):
        lines.append(f"The preset *{preset}* leaves {_labels(left_out)} out; `{command} --all-rows` makes them.")
    return say(" ".join(lines) or f"All the runs asked for are finished ({len(frame)}).")


def _labels(frame: pd.DataFrame) -> str:
    return and_list(list(dict.fromkeys(frame["label"])))


def _plus(value: float) -> str:
    return signed("{:+.1f}", value)
