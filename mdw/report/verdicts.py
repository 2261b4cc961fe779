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
from mdw.report.outcome import CONTRADICTED, HOLDS, MARGINS, NOT_RUN, UNDECIDED, UNTESTABLE, together, verdict
from mdw.report.outputs import signed
from mdw.report.statistics import holm
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


@dataclass(frozen=True)
class Asked:
    """What a claim asks of a group of runs: a weighted sum of its networks' means, and the bound that it should exceed."""

    weights: tuple[tuple[str, float], ...]
    bound: float


@dataclass(frozen=True)
class Judge:
    """A group of runs, and the level of each question's interval: by Holm over all that the claims ask of these networks."""

    group: Alike
    levels: dict[Asked, float]

    @staticmethod
    def of(group: Alike, claims: Iterable[tuple[Claim, float]], epochs: int) -> "Judge":
        """claims: with the figure that each states, 0 for an ordering. Each question counts once, whoever asks it."""
        asked = dict.fromkeys(one for claim, figure in claims for one in _asks(claim, figure, group, epochs))
        found = {one: effect for one in asked if (effect := evidence.compare(group, dict(one.weights)))}
        _, levels = holm([effect.p(one.bound) for one, effect in found.items()])
        return Judge(group, dict(zip(found, map(float, levels), strict=True)))

    def answer(self, asked: Asked) -> tuple[str, str] | None:
        """The verdict, and its figures in words; None where a network has no run."""
        if asked not in self.levels:
            return None
        effect, metric = evidence.compare(self.group, dict(asked.weights)), self.group.frame["metric"].iloc[0]
        pattern = "{:+.1f}" if len(asked.weights) > 1 else "{:.1f}"
        low, high = effect.interval(self.levels[asked])
        if len(asked.weights) == 1 and self.group.frame["label"].eq(asked.weights[0][0]).sum() < 2:
            low = high = math.nan  # a figure by one seed says nothing of the network's others
        told = f"{signed(pattern, effect.size)} {METRICS[metric]} "
        if math.isnan(low):
            return UNDECIDED, told + "(one seed, which can detect no difference)"
        interval = f"{signed(pattern, low)} to {signed(pattern, high)}; detectable: {signed('{:.1f}', effect.detectable())}"
        return verdict(low, high, gain=asked.bound), f"{told}({interval})"


def judge(runs: str | Path, counted: bool = True, epochs: int = FULL_LENGTH) -> pd.DataFrame:
    """Every claim -> the columns of `Claim` and of `Finding`.

    counted: count the networks, which imports torch. epochs: how long a training must be for a claim as stated.
    """
    known = claims()
    on_accuracy = {row.id: value_of(row, known) for row in known.values() if row.test in ("figure", "gain")}
    on_accuracy |= {row.id: 0.0 for row in known.values() if row.test == "order"}
    asking = [(known[name], figure) for name, figure in on_accuracy.items()]
    judges = [Judge.of(group, asking, epochs) for group in evidence.trained(runs)]
    tests: dict[str, Callable[[Claim], Finding]] = {
        **dict.fromkeys(("figure", "gain", "order"), lambda claim: _accuracy(claim, on_accuracy[claim.id], judges, epochs)),
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


def _accuracy(claim: Claim, figure: float, judges: list[Judge], epochs: int) -> Finding:
    """On the runs that are as stated where there are any; on others only an ordering, which confirms no figure.

    Of several the one that compares most networks tells, of these the first. What was measured as stated, but on a part of
    the split, is told without a verdict where it would have to confirm a figure.
    """
    setting = Setting.read(claim.setting)

    def best(chosen: Callable[[Alike], bool]) -> Finding | None:
        found = (_finding(claim, figure, judge, epochs) for judge in judges if chosen(judge.group))
        return max((one for one in found if one), key=lambda one: one.compared, default=None)

    if found := best(lambda group: group.as_stated(setting, epochs)):
        return found
    if claim.test == "figure":
        found = best(lambda group: group.fits(setting, epochs))
        return replace(found, verdict=NOT_RUN) if found else Finding(NOT_RUN)
    for drawn in (False, True):  # real people before drawn ones
        if found := best(lambda group, drawn=drawn: (group.frame["data"].iloc[0] == "people") == drawn):
            return replace(found, verdict=NOT_RUN, elsewhere=found.verdict)
    return Finding(NOT_RUN)


def _asks(claim: Claim, figure: float, group: Alike, epochs: int) -> list[Asked]:
    """What a claim asks of runs: to reach its figure, or to be ahead of each other network, by the figure where it is a gain.

    A figure is asked only of runs of its own conditions, elsewhere an ordering. "At least as good as" and a figure to be
    reached have the margin of the metric.
    """
    subject, others = evidence.networks(claim.subject)[0], evidence.networks(claim.against)
    fits = group.fits(Setting.read(claim.setting), epochs)
    bound = (figure if fits and not group.part else 0.0) - _margin(claim, group)
    if claim.test == "figure":
        return [Asked(((subject, 1.0),), figure - _margin(claim, group))] if fits else []
    return [Asked(((subject, 1.0), (other, -1.0)), bound) for other in others]


def _margin(claim: Claim, group: Alike) -> float:
    return MARGINS[group.frame["metric"].iloc[0]] if claim.relation == ">=" else 0.0


def _finding(claim: Claim, figure: float, judge: Judge, epochs: int) -> Finding | None:
    """What a group of runs says of a claim, with the margin where there is one; None where it says nothing."""
    group, verdicts, told, missing = judge.group, [], [], []
    labels = []
    for asked in _asks(claim, figure, group, epochs):
        answer, names = judge.answer(asked), [label for label, _ in asked.weights]
        verdicts.append(answer[0] if answer else NOT_RUN)
        if answer:
            labels += names
            told.append(answer[1] + "".join(f" against {evidence.name_of(other)}" for other in names[1:]))
        else:
            missing += map(evidence.name_of, names[1:])
    if not told:
        return None
    compared, unit = len(told), METRICS[group.frame["metric"].iloc[0]]
    told += [f"{signed('{:.1f}', figure)} stated"] if claim.test == "figure" else []
    told += [f"not run: {and_list(missing)}"] if missing else []
    told += [f"margin {margin:g} {unit}"] if (margin := _margin(claim, group)) else []
    return Finding(together(verdicts), "; ".join(told), "", group.in_words(labels), compared)
