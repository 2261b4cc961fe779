"""The one judge of all claims: the article's and our studies' questions. A verdict is computed from figures, never typed."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from mdw.experiments.studies import Question
from mdw.report import stats
from mdw.report.claims import arithmetic, evidence
from mdw.report.claims.evidence import FULL_LENGTH, Alike, Setting
from mdw.report.claims.outcome import CONTRADICTED, HOLDS, MARGINS, NOT_RUN, UNTESTABLE, together, verdict
from mdw.report.claims.table import Claim, claims, stated, value_of
from mdw.report.names import METRICS, and_list, signed
from mdw.report.stats import Effect, Noise

RECONSTRUCTION = "counted on our reconstruction"  # of the article's network only the text is known
SPEED_NOISE = 0.1  # latencies on a machine that others share differ by as much from one record to the next
NUMBERS = ("difference", "low", "high", "p", "detectable", "persons low", "persons high")


@dataclass(frozen=True)
class Comparison:
    """A weighted sum of networks' means, by their labels, and the bound that it should exceed."""

    weights: tuple[tuple[str, float], ...]
    bound: float = 0.0


@dataclass(frozen=True)
class Decision:
    """What became of a comparison: the verdict, the effect (None without runs), its adjusted interval and p value, or NaN."""

    verdict: str = NOT_RUN
    effect: Effect | None = None
    low: float = math.nan
    high: float = math.nan
    p: float = math.nan


def decide(cells: Mapping[str, np.ndarray], noise: Noise, comparisons: Sequence[Comparison]) -> list[Decision]:
    """One family of comparisons of `stats.cells`, adjusted by Holm over all of them, run or not.

    A figure (a comparison of one network alone) by one seed says nothing of the network's others and stays undecided.
    """
    effects = [stats.contrast(cells, dict(one.weights), noise) for one in comparisons]
    known = [math.nan if effect is None else effect.p(one.bound) for one, effect in zip(comparisons, effects, strict=True)]
    decisions = []
    for one, effect, plain, adjusted, level in zip(comparisons, effects, known, *stats.holm(known), strict=True):
        if effect is None:
            decisions.append(Decision())
            continue
        low, high = effect.interval(float(level))
        if len(one.weights) == 1 and len(cells[one.weights[0][0]]) < 2:
            low = high = math.nan
        p = math.nan if math.isnan(plain) else float(adjusted)
        decisions.append(Decision(verdict(low, high, gain=one.bound), effect, low, high, p))
    return decisions


def answer(frame: pd.DataFrame, questions: Sequence[Question], noise: Noise | None = None) -> pd.DataFrame:
    """Each question -> id, claim, `NUMBERS`, outcome, over persons, bound, relation, family, variance and freedom.

    frame: as `runs.study` gives it, with the rows of the questions; a question with a row that is not there, or has no
    finished run, is "not run". noise: the seeds' noise of the study, that of `frame` if left out. difference: the contrast,
    in the metric's points. low, high: its interval over seeds and p its p value, both adjusted by Holm over all questions of
    its family. detectable: `stats.Effect.detectable`. persons low, persons high, over persons: what the persons alone say of
    these very trainings. variance, freedom: the noise.
    """
    noise, cells = noise or stats.pooled(frame), stats.cells(frame)
    asked = {one.id: Comparison(tuple(one.contrast.items()), 0.0 - _margin(frame, one.relation)) for one in questions}
    decided: dict[str, Decision] = {}
    for family in dict.fromkeys(one.family for one in questions):
        ids = [one.id for one in questions if one.family == family]
        decided |= zip(ids, decide(cells, noise, [asked[name] for name in ids]), strict=True)
    rows = []
    for one in questions:
        found = decided[one.id]
        row = {"id": one.id, "claim": one.text} | dict.fromkeys(NUMBERS, math.nan) | {"over persons": NOT_RUN}
        if found.effect is not None:
            row |= {"difference": found.effect.size, "low": found.low, "high": found.high, "p": found.p}
            row |= {"detectable": found.effect.detectable()} | stats.persons_of(frame, one.contrast)
        row |= {"outcome": found.verdict, "bound": asked[one.id].bound, "relation": one.relation, "family": one.family}
        rows.append(row)
    return pd.DataFrame(rows).assign(variance=noise.variance, freedom=noise.freedom)


def _margin(frame: pd.DataFrame, relation: str) -> float:
    """How much less than nothing still counts as at least nothing: 0 for ">", else fixed for the metric."""
    return MARGINS[frame["metric"].iloc[0]] if relation == ">=" and len(frame) else 0.0


@dataclass(frozen=True)
class Finding:
    """What became of a claim: as stated, with what tells it, and under other conditions (empty where that says nothing).

    compared: of how many networks it tells.
    """

    verdict: str
    evidence: str = ""
    elsewhere: str = ""
    conditions: str = ""
    compared: int = 0


@dataclass(frozen=True)
class Bench:
    """A group of runs, and the decisions on all that the claims ask of its networks, each once, as one family."""

    group: Alike
    decisions: dict[Comparison, Decision]


def judge(runs: str | Path, counted: bool = True, epochs: int = FULL_LENGTH, page: str = "") -> pd.DataFrame:
    """Every claim of claims.csv, or those of one page -> the columns of `Claim` and of `Finding`.

    counted: count the networks, once for this code. epochs: how long a training must be for a claim as stated.
    """
    known = claims()
    on_accuracy = {row.id: value_of(row, known) for row in known.values() if row.test in ("figure", "gain")}
    on_accuracy |= {row.id: 0.0 for row in known.values() if row.test == "order"}
    benches = []
    for group in evidence.trained(runs):
        cells, noise = stats.cells(group.frame), stats.pooled(group.frame)
        asked = [one for name, figure in on_accuracy.items() for one in _asks(known[name], figure, group, epochs)]
        asked = [one for one in dict.fromkeys(asked) if cells.keys() >= dict(one.weights).keys()]
        benches.append(Bench(group, dict(zip(asked, decide(cells, noise, asked), strict=True))))
    tests: dict[str, Callable[[Claim], Finding]] = {
        **dict.fromkeys(("figure", "gain", "order"), lambda claim: _accuracy(claim, on_accuracy[claim.id], benches, epochs)),
        "ratio": lambda claim: _percentage(claim, value_of(claim, known)) if counted else Finding(NOT_RUN),
        "cost": lambda claim: _cost(claim, known) if counted else Finding(NOT_RUN),
        "speed": lambda claim: _speed(claim, runs),
        "speedup": lambda claim: _speedup(claim, value_of(claim, known), runs),
        "sum": lambda claim: _sum(claim, known),
        "none": lambda claim: Finding(UNTESTABLE),
    }
    chosen = [claim for claim in known.values() if not page or claim.page == page]
    return pd.DataFrame([vars(claim) | vars(tests[claim.test](claim)) for claim in chosen])


def _sum(claim: Claim, known: dict[str, Claim]) -> Finding:
    name = partial(stated, known)
    left, right = arithmetic.evaluate(claim.subject, name), arithmetic.evaluate(claim.against, name)
    tolerance = float(claim.value or 0) + 1e-9  # what floating point adds
    said, should = (arithmetic.in_words(text, name) for text in (claim.subject, claim.against))
    if claim.relation == "=":
        true = abs(left - right) <= tolerance
        margin = f"; they may differ by {claim.value}" if float(claim.value or 0) else ""
        return Finding(HOLDS if true else CONTRADICTED, f"{said} beside {should}{margin}")
    true, word = {
        "<": (left < right - tolerance, "below"),
        ">": (left > right + tolerance, "above"),
        "<=": (left <= right + tolerance, "at most"),
    }[claim.relation]
    return Finding(HOLDS if true else CONTRADICTED, f"{said}, {'' if true else 'not '}{word} {should}")


def _percentage(claim: Claim, percent: float) -> Finding:
    """A percentage holds where ours, both networks counted alike, rounds to no more than the article's."""
    ours, theirs = (evidence.counted(name, claim.setting) for name in (claim.subject, claim.against))
    share = 100 * ours / theirs
    beside = f"{evidence.cost_in_words(ours, claim.setting)} against {evidence.number(theirs, claim.setting)} M"
    told = f"{signed('{:.1f}', share)} %: {beside}"
    return Finding(HOLDS if round(share, 1 if percent % 1 else 0) <= percent else CONTRADICTED, told, "", RECONSTRUCTION)


def _cost(claim: Claim, known: dict[str, Claim]) -> Finding:
    """Every quantity of `setting` against every network of `against`; one that exceeds the margin decides."""
    margin, found, told = value_of(claim, known) if claim.value else 0.0, HOLDS, []
    for quantity in (text.strip() for text in claim.setting.split(";")):
        ours = evidence.counted(evidence.networks(claim.subject)[0], quantity)
        gaps = {other: 100 * (ours / evidence.counted(other, quantity) - 1) for other in evidence.networks(claim.against)}
        for gap in gaps.values():
            fits = {"<": gap < 0, "<=": gap <= margin, "~": abs(gap) <= margin}[claim.relation]
            found = found if fits else CONTRADICTED
        alike: dict[str, list[str]] = {}  # the same figure for several networks is said once
        for other, gap in gaps.items():
            alike.setdefault(signed("{:+.1f}", gap), []).append(evidence.name_of(other))
        said = [f"{gap} % against {and_list(names)}" for gap, names in alike.items()]
        told.append(f"{evidence.cost_in_words(ours, quantity)}: {', '.join(said)}")
    return Finding(found, "; ".join(told), "", RECONSTRUCTION)


def _speed(claim: Claim, runs: str | Path) -> Finding:
    """Latencies of one machine; the article states no time and names another machine, so it is never tested as stated."""
    others, told, where = evidence.networks(claim.against), [], ""
    verdicts: list[str] = []
    for (hardware, device), found in evidence.latencies(runs, claim.setting).groupby(["hardware", "device"], sort=False):
        times = found.set_index("model")["latency_ms"]
        pairs = {name: 1 - times[claim.subject] / times[name] for name in others if {name, claim.subject} <= set(times.index)}
        if len(pairs) > len(verdicts):
            verdicts = [verdict(gain - SPEED_NOISE, gain + SPEED_NOISE) for gain in pairs.values()]
            said = [f"{signed('{:.0f}', times[name])} ms of {evidence.name_of(name)}" for name in pairs]
            told = [f"latency {signed('{:.0f}', times[claim.subject])} ms against {and_list(said)}"]
            where = f"{hardware}, {device}, {claim.setting}"
    all_of_them = together(verdicts + [NOT_RUN] * (len(others) - len(verdicts)))
    return Finding(NOT_RUN, "; ".join(told), all_of_them if verdicts else "", where)


def _speedup(claim: Claim, wanted: float, runs: str | Path) -> Finding:
    """A goal of our own: medians of one record, so it holds or not, without an interval."""
    times = evidence.speedup(runs, claim.subject, claim.against, claim.setting)
    if times is None:
        return Finding(NOT_RUN)
    return Finding(HOLDS if times >= wanted else CONTRADICTED, f"{times:.2f} times")


def _accuracy(claim: Claim, figure: float, benches: list[Bench], epochs: int) -> Finding:
    """On the runs that are as stated where there are any; on others only an ordering, which confirms no figure.

    Of several the one that compares most networks tells, of these the first. What was measured as stated, but on a part of
    the split, is told without a verdict where it would have to confirm a figure.
    """
    setting = Setting.read(claim.setting)

    def best(chosen: Callable[[Alike], bool]) -> Finding | None:
        found = (_finding(claim, figure, bench, epochs) for bench in benches if chosen(bench.group))
        return max((one for one in found if one), key=lambda one: one.compared, default=None)

    if found := best(lambda group: group.as_stated(setting, epochs)):
        return found
    if claim.test == "figure":
        found = best(lambda group: group.fits(setting, epochs))
        return replace(found, verdict=NOT_RUN) if found else Finding(NOT_RUN)

    def synthetic(group: Alike) -> bool:
        return group.frame["data"].iloc[0] == "people"

    if found := best(lambda group: not synthetic(group)) or best(synthetic):  # real people first
        return replace(found, verdict=NOT_RUN, elsewhere=found.verdict)
    return Finding(NOT_RUN)


def _asks(claim: Claim, figure: float, group: Alike, epochs: int) -> list[Comparison]:
    """What a claim asks of runs: to reach its figure, or to be ahead of each other network, by the figure where it is a gain.

    A figure is asked only of runs of its own conditions, elsewhere an ordering. "At least as good as" and a figure to be
    reached have the margin of the metric.
    """
    subject, others = evidence.networks(claim.subject)[0], evidence.networks(claim.against)
    fits, margin = group.fits(Setting.read(claim.setting), epochs), _margin(group.frame, claim.relation)
    if claim.test == "figure":
        return [Comparison(((subject, 1.0),), figure - margin)] if fits else []
    bound = (figure if fits and not group.part else 0.0) - margin
    return [Comparison(((subject, 1.0), (other, -1.0)), bound) for other in others]


def _finding(claim: Claim, figure: float, bench: Bench, epochs: int) -> Finding | None:
    """What a group of runs says of a claim, with the margin where there is one; None where it says nothing."""
    group, verdicts, told, labels = bench.group, [], [], []
    missing: list[str] = []
    unit, margin = METRICS[group.frame["metric"].iloc[0]], _margin(group.frame, claim.relation)
    for asked in _asks(claim, figure, group, epochs):
        names, decision = [label for label, _ in asked.weights], bench.decisions.get(asked, Decision())
        verdicts.append(decision.verdict)
        if decision.effect is None:
            missing += map(evidence.name_of, names[1:])
        else:
            labels += names
            against = "".join(f" against {evidence.name_of(name)}" for name in names[1:])
            told.append(_told(decision, decision.effect, len(names), unit) + against)
    if not told:
        return None
    compared = len(told)
    told += [f"{signed('{:.1f}', figure)} stated"] if claim.test == "figure" else []
    told += [f"not run: {and_list(missing)}"] if missing else []
    told += [f"margin {margin:g} {unit}"] if margin else []
    return Finding(together(verdicts), "; ".join(told), "", group.in_words(labels), compared)


def _told(found: Decision, effect: Effect, networks: int, unit: str) -> str:
    """The figures of a decision on so many networks, in words."""
    pattern = "{:+.1f}" if networks > 1 else "{:.1f}"
    size = f"{signed(pattern, effect.size)} {unit}"
    if math.isnan(found.low):
        return f"{size} (one seed, which can detect no difference)"
    interval = f"{signed(pattern, found.low)} to {signed(pattern, found.high)}"
    return f"{size} ({interval}; detectable: {signed('{:.1f}', effect.detectable())})"
