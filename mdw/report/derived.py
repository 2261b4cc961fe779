"""Figures that the article does not state but that follow from what it states and a published figure (derived.csv).

Each is computed from figures entered once; where two sums lead to different figures, both are shown. Never under `ARTICLE`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd

from mdw.report.article import TEXT, published
from mdw.report.claims import arithmetic
from mdw.report.claims.table import claims, stated

SUMS = Path(__file__).with_name("derived.csv")
DERIVED = "derived"  # a column group, beside `ARTICLE` and `MEASURED`


@dataclass(frozen=True)
class Figure:
    """One figure of the article's network in a table ("T4") at an input, by one sum: the sum in words, and what is in it."""

    model: str
    size: str
    column: str
    value: float
    sum: str
    why: str


def figures(table: str, model: str | None = None, size: str | None = None) -> list[Figure]:
    """The derived figures of a table, optionally of one model (by its name in published.csv) at one input ("256x192")."""
    value = partial(stated, claims())
    rows = pd.read_csv(SUMS)
    rows = rows[
        (rows["table"] == table) & rows["model"].eq(model or rows["model"]) & rows["input_size"].eq(size or rows["input_size"])
    ]
    return [
        Figure(r.model, r.input_size, r.column, arithmetic.evaluate(r.sum, value), arithmetic.in_words(r.sum, value), r.why)
        for r in rows.itertuples()
    ]


def in_words(found: Sequence[Figure]) -> str | None:
    """ "69.4", or "86.3 or 87.2" where the sums disagree; None without a figure."""
    return " or ".join(dict.fromkeys(f"{one.value:.1f}" for one in found)) or None


def listed(table: str, column: str, unit: str) -> str:
    """A list of the article's figures for a table: what its text states, then what is derived from it, with the sums."""
    rows = published(table).dropna(subset=[column])
    rows = rows[(rows["source"] == TEXT) & rows["kind"].eq("stated")]
    lines = [f"- {r.model} at {r.input_size}: {unit} {getattr(r, column):.1f}, stated." for r in rows.itertuples()]
    by_model: dict[tuple[str, str], list[Figure]] = {}
    for one in figures(table):
        by_model.setdefault((one.model, one.size), []).append(one)
    for (model, size), found in by_model.items():
        sums = "; or ".join(f"{one.sum} ({one.why})" for one in found)
        apart = (
            ". These disagree, and the text does not say which is meant"
            if len({f"{one.value:.1f}" for one in found}) > 1
            else ""
        )
        lines.append(f"- {model} at {size}: {unit} not stated, derived: {sums}{apart}.")
    return "\n".join(lines)
