"""The article's claims, one by one, and what became of them. A verdict is computed from figures; it is never typed."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pandas as pd

from mdw.report import arithmetic, evidence
from mdw.report.claim_table import Claim, claims, stated, value_of
from mdw.report.evidence import FULL_LENGTH, Alike, Setting
from mdw.report.outcome import CONTRADICTED, HOLDS, MARGINS, NOT_RUN, UNTESTABLE, together, verdict
from mdw.report.outputs import signed
from mdw.report.tables import METRICS, and_list

RECONSTRUCTION = "counted on our reconstruction"  # of the article's network only the text is known
SPEED_NOISE = 0.1  # latencies on a machine that others share differ by as much from one record to the next


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


def judge(runs: str | Path, counted: bool = True, epochs: int = FULL_LENGTH) -> pd.DataFrame:
    """Every claim -> the columns of `Claim` and of `Finding`.

    counted: count the networks, which imports torch. epochs: how long a training must be for a claim as stated.
    """
    known, alike = claims(), evidence.trained(runs)
    accuracy = partial(_accuracy, alike=alike, epochs=epochs)
    tests: dict[str, Callable[[Claim], Finding]] = {
        "figure": lambda claim: accuracy(claim, value_of(claim, known)),
        "gain": lambda claim: accuracy(claim, value_of(claim, known)),
        "order": lambda claim: accuracy(claim, 0.0),
        "ratio": lambda claim: _percentage(claim, value_of(claim, known)) if counted else Finding(NOT_RUN),
        "cost": lambda claim: _cost(claim, known) if counted else Finding(NOT_RUN),
        "speed": lambda claim: _speed(claim, runs),
        "sum": lambda claim: _sum(claim, known),
        "none": lambda claim: Finding(UNTESTABLE),
    }
    return pd.DataFrame([vars(claim) | vars(tests[claim.test](claim)) for claim in known.values()])


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
    others, verdicts, told, where = evidence.networks(claim.against), [], [], ""
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


def _accuracy(claim: Claim, figure: float, alike: list[Alike], epochs: int) -> Finding:
    """On the runs that are as stated where there are any; on others only an ordering, which confirms no figure.

    Of several the one that compares most networks tells, of these the first. What was measured as stated, but on a part of
    the split, is told without a verdict where it would have to confirm a figure.
    """
    setting = Setting.read(claim.setting)
    test = _reached if claim.test == "figure" else _compared
    if found := _best(test(claim, figure, group) for group in alike if group.as_stated(setting, epochs)):
        return found
    if claim.test == "figure":
        found = _best(test(claim, figure, group) for group in alike if group.fits(setting, epochs))
        return replace(found, verdict=NOT_RUN) if found else Finding(NOT_RUN)
    for drawn in (False, True):  # real people before drawn ones
        groups = [group for group in alike if (group.frame["data"].iloc[0] == "people") == drawn]
        if found := _best(_compared(claim, 0.0, group) for group in groups):
            return replace(found, verdict=NOT_RUN, elsewhere=found.verdict)
    return Finding(NOT_RUN)


def _best(findings: Iterable[Finding | None]) -> Finding | None:
    return max((found for found in findings if found), key=lambda found: found.compared, default=None)


def _reached(claim: Claim, figure: float, group: Alike) -> Finding | None:
    """Whether a network reaches a figure, give or take the margin: where the whole interval of its seeds does."""
    subject = evidence.networks(claim.subject)[0]
    values = group.frame.loc[group.frame["label"] == subject, "value"].astype(float)
    if values.empty:
        return None
    metric = group.frame["metric"].iloc[0]
    low, high = evidence.interval(values)
    told = f"{METRICS[metric]} {signed('{:.1f}', values.mean())}{_between(low, high, '{:.1f}', evidence.detectable(values))}"
    told += f", {signed('{:.1f}', figure)} stated, {_margin(metric)}"
    reached = verdict(low, high, ">=", MARGINS[metric], figure)
    return Finding(reached, told, "", group.in_words([subject]), 1)


def _compared(claim: Claim, gain: float, group: Alike) -> Finding | None:
    """The subject against every other network of the claim that was trained alike; None where no pair was."""
    subject, others = evidence.networks(claim.subject)[0], evidence.networks(claim.against)
    metric = group.frame["metric"].iloc[0]
    verdicts, told, compared = [], [], []
    for other in others:
        pair = evidence.compare(group, subject, other)
        if pair is None:
            verdicts.append(NOT_RUN)
            continue
        verdicts.append(verdict(pair["low"], pair["high"], claim.relation, MARGINS[metric], gain))
        compared.append(other)
        between = _between(pair["low"], pair["high"], "{:+.1f}", pair["detectable"])
        told.append(f"{signed('{:+.1f}', pair['difference'])} {METRICS[metric]}{between} against {evidence.name_of(other)}")
    if not compared:
        return None
    missing = [evidence.name_of(other) for other in others if other not in compared]
    told += [f"not run: {and_list(missing)}"] if missing else []
    told += [_margin(metric)] if claim.relation == ">=" else []
    return Finding(together(verdicts), "; ".join(told), "", group.in_words([subject, *compared]), len(compared))


def _margin(metric: str) -> str:
    """The margin of "at least as good as", as it was fixed beforehand."""
    return f"margin {MARGINS[metric]:g} {METRICS[metric]}"


def _between(low: float, high: float, pattern: str, detectable: float) -> str:
    """An interval, and the difference that so many seeds could have detected."""
    if math.isnan(low):
        return " (one seed, which can detect no difference)"
    return f" ({signed(pattern, low)} to {signed(pattern, high)}; detectable: {detectable:.1f})"
