"""The article's claims, one by one, and what became of them. A verdict is computed from figures; it is never typed."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pandas as pd

from mdw.errors import MdwError
from mdw.report import arithmetic, evidence
from mdw.report.article import percentage
from mdw.report.evidence import Alike, Setting
from mdw.report.outputs import NOT_RUN, signed
from mdw.report.tables import METRICS, and_list

CLAIMS = Path(__file__).with_name("article_claims.csv")
HOLDS, FAILS, NOISE, UNKNOWN, UNTESTABLE = "holds", "does not hold", "within noise", "noise unknown", "cannot be tested"
PARTLY = "holds so far"  # some of its comparisons have not been run
VERDICTS = (FAILS, HOLDS, PARTLY, NOISE, UNKNOWN, NOT_RUN, UNTESTABLE)
RECONSTRUCTION = "counted on our reconstruction"  # of the article's network only the text is known
SPEED_NOISE = 0.1  # latencies on a machine that others share differ by as much from one record to the next
OUTCOMES = {  # what `tables.differences` says of a pair -> of the claim that the first is higher, or that it is not lower
    ">": {"higher": HOLDS, "lower": FAILS, "undecided": NOISE, NOT_RUN: NOT_RUN},
    ">=": {"higher": HOLDS, "lower": FAILS, "undecided": NOISE, NOT_RUN: NOT_RUN},
}


@dataclass(frozen=True)
class Claim:
    """One row of article_claims.csv.

    part: "claim", "consistency" (whether the article agrees with itself) or "hypothesis". test: "figure" (a network reaches a
    figure), "gain" (exceeds another by a figure), "order", "ratio" (a percentage of `article.ratios`), "cost" (of counted
    networks), "speed" (of benched ones), "sum" (of published figures), "none". subject, relation, against: what is held
    against what: networks as `evidence.network` reads them, or sums as `arithmetic.evaluate` does. value: a figure, a margin
    in percent or a tolerance. setting: a `Setting`, or quantities of `evidence.counted`. page: the report that tests it.
    note: our reading, or why there is no test. `{value}` in claim and note stands for the value.
    """

    id: str
    part: str
    where: str
    claim: str
    test: str
    subject: str
    relation: str
    against: str
    value: str
    setting: str
    page: str
    note: str


@dataclass(frozen=True)
class Finding:
    """What became of a claim: as stated, with what tells it, and under other conditions (empty where that says nothing)."""

    verdict: str
    evidence: str = ""
    elsewhere: str = ""
    conditions: str = ""


def claims() -> dict[str, Claim]:
    """All rows by id, with `{value}` filled in. Raises MdwError for an id that is given twice."""
    rows = [Claim(**row) for row in pd.read_csv(CLAIMS, dtype=str, keep_default_na=False).to_dict("records")]
    found = {row.id: row for row in rows}
    if len(found) < len(rows):
        raise MdwError(f"{CLAIMS.name} gives an id twice; make the {len(rows)} ids different")
    texts = {row.id: f"{value_of(row, found):.10g}" if row.value or row.test == "ratio" else "" for row in rows}
    return {
        row.id: replace(row, **{name: getattr(row, name).replace("{value}", texts[row.id]) for name in ("claim", "note")})
        for row in rows
    }


def value_of(claim: Claim, known: dict[str, Claim]) -> float:
    """The figure that a claim states; of a ratio the percentage. Raises MdwError where it states none."""
    if claim.test == "ratio":
        return percentage(claim.id)
    return arithmetic.evaluate(claim.value, partial(_stated, known))


def judge(runs: str | Path, counted: bool = True) -> pd.DataFrame:
    """Every claim -> the columns of `Claim` and of `Finding`. counted: count the networks, which imports torch."""
    known, alike = claims(), evidence.trained(runs)
    tests: dict[str, Callable[[Claim], Finding]] = {
        "figure": lambda claim: _accuracy(claim, value_of(claim, known), alike),
        "gain": lambda claim: _accuracy(claim, value_of(claim, known), alike),
        "order": lambda claim: _accuracy(claim, None, alike),
        "ratio": lambda claim: _percentage(claim, value_of(claim, known)) if counted else Finding(NOT_RUN),
        "cost": lambda claim: _cost(claim, known) if counted else Finding(NOT_RUN),
        "speed": lambda claim: _speed(claim, runs),
        "sum": lambda claim: _sum(claim, known),
        "none": lambda claim: Finding(UNTESTABLE),
    }
    return pd.DataFrame([vars(claim) | vars(tests[claim.test](claim)) for claim in known.values()])


def _stated(known: dict[str, Claim], name: str) -> float:
    """What `{id}` means in a sum: the figure of another claim, a percentage as a share."""
    if name not in known:
        raise MdwError(f"no claim has the id {name!r}; correct it in {CLAIMS.name}")
    value = value_of(known[name], known)
    return value / 100 if known[name].test == "ratio" else value


def _sum(claim: Claim, known: dict[str, Claim]) -> Finding:
    stated = partial(_stated, known)
    left, right = arithmetic.evaluate(claim.subject, stated), arithmetic.evaluate(claim.against, stated)
    tolerance = float(claim.value or 0) + 1e-9  # what floating point adds
    said, should = (arithmetic.in_words(text, stated) for text in (claim.subject, claim.against))
    if claim.relation == "=":
        true = abs(left - right) <= tolerance
        margin = f"; they may differ by {claim.value}" if float(claim.value or 0) else ""
        return Finding(HOLDS if true else FAILS, f"{said} beside {should}{margin}")
    true, word = {
        "<": (left < right - tolerance, "below"),
        ">": (left > right + tolerance, "above"),
        "<=": (left <= right + tolerance, "at most"),
    }[claim.relation]
    return Finding(HOLDS if true else FAILS, f"{said}, which should be {word} {should}")


def _percentage(claim: Claim, percent: float) -> Finding:
    """A percentage holds where ours, both networks counted alike, rounds to no more than the article's."""
    ours, theirs = (evidence.counted(name, claim.setting) for name in (claim.subject, claim.against))
    share = 100 * ours / theirs
    beside = f"{evidence.cost_in_words(ours, claim.setting)} against {evidence.number(theirs, claim.setting)} M"
    told = f"{signed('{:.1f}', share)} %: {beside}"
    return Finding(HOLDS if round(share, 1 if percent % 1 else 0) <= percent else FAILS, told, "", RECONSTRUCTION)


def _cost(claim: Claim, known: dict[str, Claim]) -> Finding:
    """Every quantity of `setting` against every network of `against`; one that exceeds the margin decides."""
    margin, verdict, told = value_of(claim, known) if claim.value else 0.0, HOLDS, []
    for quantity in (text.strip() for text in claim.setting.split(";")):
        ours = evidence.counted(evidence.networks(claim.subject)[0], quantity)
        gaps = {other: 100 * (ours / evidence.counted(other, quantity) - 1) for other in evidence.networks(claim.against)}
        for gap in gaps.values():
            fits = {"<": gap < 0, "<=": gap <= margin, "~": abs(gap) <= margin}[claim.relation]
            verdict = verdict if fits else FAILS
        alike: dict[str, list[str]] = {}  # the same figure for several networks is said once
        for other, gap in gaps.items():
            alike.setdefault(signed("{:+.1f}", gap), []).append(evidence.name_of(other))
        said = [f"{gap} % against {and_list(names)}" for gap, names in alike.items()]
        told.append(f"{evidence.cost_in_words(ours, quantity)}: {', '.join(said)}")
    return Finding(verdict, "; ".join(told), "", RECONSTRUCTION)


def _speed(claim: Claim, runs: str | Path) -> Finding:
    """Latencies of one machine; the article states no time and names another machine, so it is never tested as stated."""
    others, verdicts, told, where = evidence.networks(claim.against), [], [], ""
    for (hardware, device), found in evidence.latencies(runs, claim.setting).groupby(["hardware", "device"], sort=False):
        times = found.set_index("model")["latency_ms"]
        pairs = {name: times[claim.subject] / times[name] - 1 for name in others if {name, claim.subject} <= set(times.index)}
        if len(pairs) > len(verdicts):
            verdicts = [NOISE if abs(gap) <= SPEED_NOISE else HOLDS if gap < 0 else FAILS for gap in pairs.values()]
            said = [f"{signed('{:.0f}', times[name])} ms of {evidence.name_of(name)}" for name in pairs]
            told = [f"latency {signed('{:.0f}', times[claim.subject])} ms against {and_list(said)}"]
            where = f"{hardware}, {device}, {claim.setting}"
    together = _together(verdicts + [NOT_RUN] * (len(others) - len(verdicts)))
    return Finding(NOT_RUN, "; ".join(told), together if verdicts else "", where)


def _accuracy(claim: Claim, figure: float | None, alike: list[Alike]) -> Finding:
    """On the runs that are as stated where there are any; on others only an ordering, which confirms no figure."""
    setting = Setting.read(claim.setting)
    test = _reached if claim.test == "figure" else _compared
    for group in alike:
        if group.as_stated(setting) and (finding := test(claim, figure, group)):
            return finding
    others = [group for group in alike if not group.as_stated(setting) and claim.test != "figure"]
    found = [(group, finding) for group in others if (finding := _compared(claim, None, group))]
    if not found:
        return Finding(NOT_RUN)
    # real people before drawn ones, then who was compared with most networks, then the longest training
    _, best = max(found, key=lambda pair: (pair[0].frame["data"].iloc[0] != "people", pair[1].evidence.count("; ")))
    return replace(best, verdict=NOT_RUN, elsewhere=best.verdict)


def _reached(claim: Claim, figure: float, group: Alike) -> Finding | None:
    """Whether a network reaches a figure: its mean does, or the interval of its seeds holds it."""
    subject = evidence.networks(claim.subject)[0]
    values = group.frame.loc[group.frame["label"] == subject, "value"].astype(float)
    if values.empty:
        return None
    low, high = evidence.interval(values)
    unit = METRICS[group.frame["metric"].iloc[0]]
    told = f"{unit} {signed('{:.1f}', values.mean())}{_between(low, high, '{:.1f}')}, {signed('{:.1f}', figure)} stated"
    verdict = HOLDS if values.mean() >= figure else UNKNOWN if low is None else FAILS if high < figure else HOLDS
    return Finding(verdict, told, "", group.in_words([subject]))


def _compared(claim: Claim, gain: float | None, group: Alike) -> Finding | None:
    """The subject against every other network of the claim that was trained alike; None where no pair was."""
    subject, others = evidence.networks(claim.subject)[0], evidence.networks(claim.against)
    unit = METRICS[group.frame["metric"].iloc[0]]
    verdicts, told, compared = [], [], []
    for other in others:
        pair = evidence.compare(group, subject, other)
        verdict = OUTCOMES[claim.relation][pair["verdict"]]
        if gain is not None and verdict in (HOLDS, NOISE):
            verdict = FAILS if pair["high"] < gain else HOLDS if verdict == HOLDS else NOISE
        verdicts.append(verdict)
        if verdict != NOT_RUN:
            compared.append(other)
            gap = signed("{:+.1f}", pair["difference"])
            told.append(f"{gap} {unit}{_between(pair.get('low'), pair.get('high'))} against {evidence.name_of(other)}")
            if verdict == UNKNOWN and "over persons" in pair and not pd.isna(pair["persons low"]):
                persons = _between(pair["persons low"], pair["persons high"])
                told[-1] += f", for these trainings {pair['over persons']} over persons{persons}"
    if not compared:
        return None
    missing = [evidence.name_of(other) for other in others if other not in compared]
    told += [f"not run: {and_list(missing)}"] if missing else []
    return Finding(_together(verdicts), "; ".join(told), "", group.in_words([subject, *compared]))


def _together(verdicts: list[str]) -> str:
    """The verdict of a claim that needs all of its comparisons."""
    for worst in (FAILS, NOISE, UNKNOWN):
        if worst in verdicts:
            return worst
    return HOLDS if NOT_RUN not in verdicts else PARTLY if HOLDS in verdicts else NOT_RUN


def _between(low: float | None, high: float | None, pattern: str = "{:+.1f}") -> str:
    return "" if low is None or pd.isna(low) else f" ({signed(pattern, low)} to {signed(pattern, high)})"
