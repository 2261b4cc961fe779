"""The rule behind every verdict."""

import math

import pandas as pd
import pytest

from mdw.report.claims import words
from mdw.report.claims.outcome import CONTRADICTED, HOLDS, NOT_RUN, UNDECIDED, together, verdict


@pytest.mark.parametrize(
    ("low", "high", "relation", "margin", "gain", "expected"),
    [
        (0.1, 2.0, ">", 0.0, 0.0, HOLDS),
        (-0.1, 2.0, ">", 0.0, 0.0, UNDECIDED),
        (-2.0, -0.1, ">", 0.0, 0.0, CONTRADICTED),
        (-24.7, 16.9, ">=", 1.0, 0.0, UNDECIDED),  # -3.9 on two seeds once "held"
        (-0.9, 0.5, ">=", 1.0, 0.0, HOLDS),
        (-1.1, 0.5, ">=", 1.0, 0.0, UNDECIDED),
        (-3.0, -1.1, ">=", 1.0, 0.0, CONTRADICTED),
        (-0.9, 0.5, ">", 1.0, 0.0, UNDECIDED),  # a margin is no excuse for "more than"
        (2.5, 4.0, ">", 0.0, 3.0, UNDECIDED),
        (3.1, 4.0, ">", 0.0, 3.0, HOLDS),
        (math.nan, math.nan, ">=", 1.0, 0.0, UNDECIDED),
    ],
)
def test_an_interval_decides_only_where_all_of_it_agrees(low, high, relation, margin, gain, expected):
    assert verdict(low, high, relation, margin, gain) == expected


def test_a_claim_of_several_comparisons_needs_them_all():
    assert together([HOLDS, HOLDS]) == HOLDS
    assert together([HOLDS, NOT_RUN]) == UNDECIDED
    assert together([NOT_RUN, NOT_RUN]) == NOT_RUN
    assert together([HOLDS, UNDECIDED, CONTRADICTED]) == CONTRADICTED


def test_every_count_says_of_which_verdict_it_is():
    parts, verdicts, elsewhere = zip(("claim", HOLDS, ""), ("claim", NOT_RUN, HOLDS), ("consistency", HOLDS, ""), strict=True)
    frame = words.counts(pd.DataFrame({"part": parts, "verdict": verdicts, "elsewhere": elsewhere}))
    assert frame.to_numpy().tolist() == [[HOLDS, 1, 1, 1], [NOT_RUN, 1, 0, 0]]
