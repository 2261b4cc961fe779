"""The five verdicts on a claim, and the one rule that gives them: absence of evidence is "undecided", never "holds"."""

import math
from collections.abc import Iterable

from mdw.report.names import and_list

HOLDS, CONTRADICTED, UNDECIDED, NOT_RUN, UNTESTABLE = "holds", "contradicted", "undecided", "not run", "cannot be tested"
VERDICTS = {  # in the order in which they are told -> said of one claim, and of several
    CONTRADICTED: ("is contradicted", "are contradicted"),
    HOLDS: ("holds", "hold"),
    UNDECIDED: ("is undecided", "are undecided"),
    NOT_RUN: ("has not been run", "have not been run"),
    UNTESTABLE: ("cannot be tested", "cannot be tested"),
}
# How much worse still counts as "at least as good", in points of the metric (percent); fixed before the runs.
MARGINS = {"pck": 1.0, "pckh": 1.0, "AP": 0.5}


def verdict(low: float, high: float, relation: str = ">", margin: float = 0.0, gain: float = 0.0) -> str:
    """The verdict on "the difference is more than `gain`" (">") or "is at least `gain`, give or take `margin`" (">=").

    low, high: the interval of the difference, in the metric's points; NaN where its noise is unknown. `margin` only counts
    for ">=". Holds where the whole interval agrees with the claim, contradicted where none of it does, else undecided.
    Raises ValueError for another relation.
    """
    if relation not in (">", ">="):
        raise ValueError(f"relation is {relation!r}; use '>' or '>='")
    if math.isnan(low) or math.isnan(high):
        return UNDECIDED
    bound = gain - (margin if relation == ">=" else 0.0)
    return HOLDS if low > bound else CONTRADICTED if high < bound else UNDECIDED


def together(verdicts: list[str]) -> str:
    """The verdict on a claim that needs all of its comparisons: one contradiction is enough, one open one leaves it open."""
    for worst in (CONTRADICTED, UNTESTABLE):
        if worst in verdicts:
            return worst
    if set(verdicts) == {HOLDS}:
        return HOLDS
    return NOT_RUN if set(verdicts) <= {NOT_RUN} else UNDECIDED


def said(count: int, verdict: str) -> str:
    """ "3 are undecided", "none is contradicted"."""
    return f"{count or 'none'} {VERDICTS[verdict][count > 1]}"


def tally(verdicts: Iterable[str]) -> str:
    """ "none is contradicted, 2 hold and 3 are undecided": a verdict that nobody got is left out, but for the first."""
    found = list(verdicts)
    return and_list([said(found.count(kind), kind) for kind in VERDICTS if kind in found or kind == CONTRADICTED])
