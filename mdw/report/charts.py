"""Drawings of how sure a figure is: networks with their intervals, and answers with theirs. Axes in, axes out."""

import textwrap
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from mdw.report.figures import COLOURS, INK
from mdw.report.outcome import CONTRADICTED, HOLDS, NOT_RUN
from mdw.report.outputs import signed

SHADES = {HOLDS: COLOURS[2], CONTRADICTED: COLOURS[1]}  # of a verdict; the others are grey
GREY = "#7d7870"


def networks(ax: Axes, result: pd.DataFrame, runs: pd.DataFrame, unit: str, marks: Sequence[tuple[float, str]] = ()) -> Axes:
    """A row per network: intervals over seeds (thin) and persons (thick), its mean a bar with the figure, every seed a dot.

    result: as `statistics.intervals` gives it. runs: columns label and value, one row per run. marks: values to compare
    with, each a dotted line with its name above.
    """
    for place, row in enumerate(_named(result)):
        colour = COLOURS[place % len(COLOURS)]
        if not row.n:
            ax.annotate(NOT_RUN, (0, place), xycoords=("axes fraction", "data"), xytext=(6, 0), **_text(GREY))
            continue
        seeds = runs.loc[runs["label"] == row.label, "value"].dropna().astype(float)
        _lines(ax, row, place, colour)
        ax.plot(seeds, [place] * len(seeds), "o", color=colour, alpha=0.55, markeredgewidth=0)
        ax.plot([row.mean] * 2, [place - 0.24, place + 0.24], color=colour, linewidth=2.2)
        end = np.nanmax([row.high, row.persons_high, seeds.max()])
        ax.annotate(f"{row.mean:.1f}", (end, place), xytext=(7, 0), **_text(colour))
    for value, name in marks:
        ax.axvline(value, color=GREY, linewidth=1, linestyle=(0, (1, 2)))
        ax.annotate(
            name, (value, 1), xycoords=("data", "axes fraction"), xytext=(0, 4), **_text(GREY, ha="center", va="bottom")
        )
    return _rows(ax, result["label"], unit)


def answers(ax: Axes, tested: pd.DataFrame, unit: str) -> Axes:
    """A row per answer: its adjusted interval over seeds (thin), that over persons (thick), its bound, the verdict beside.

    tested: as `claims.answer` gives it. What holds and what is contradicted is coloured.
    """
    right = np.nanmax([0.1, *tested[["difference", "high", "persons high"]].max()])
    ax.axvline(0, color=INK, linewidth=0.8)
    for place, row in enumerate(_named(tested)):
        colour = SHADES.get(row.outcome, GREY)
        if row.bound:
            ax.plot([row.bound] * 2, [place - 0.4, place + 0.4], color=INK, linewidth=0.8, linestyle=":")
        _lines(ax, row, place, colour)
        ax.plot(row.difference, place, "o", color=colour)
        number = "" if pd.isna(row.difference) else f"{signed('{:+.1f}', row.difference)}  "
        ax.annotate(f"{number}{row.outcome}", (right, place), xytext=(10, 0), **_text(colour))
    return _rows(ax, tested["id"] + "  " + tested["claim"].str.partition(" (")[0].map(_wrapped), unit)


def _named(frame: pd.DataFrame) -> Iterator:
    """The rows, with an underscore for every space in a column's name."""
    return frame.rename(columns=lambda name: name.replace(" ", "_")).itertuples()


def _lines(ax: Axes, row, place: int, colour: str) -> None:
    """The interval over seeds as a thin line, that over persons as a thick pale one."""
    ax.plot([row.low, row.high], [place, place], color=colour, linewidth=1.2, solid_capstyle="butt")
    persons = [row.persons_low, row.persons_high]
    ax.plot(persons, [place, place], color=colour, linewidth=4, alpha=0.45, solid_capstyle="butt")


def _wrapped(text: str) -> str:
    return textwrap.fill(text, 38)


def _text(colour: str, ha: str = "left", va: str = "center") -> dict:
    offset = {"textcoords": "offset points", "annotation_clip": False}
    return offset | {"color": colour, "fontsize": 8, "ha": ha, "va": va}


def _rows(ax: Axes, labels: pd.Series, unit: str) -> Axes:
    ax.set_yticks(range(len(labels)), labels)
    ax.set_ylim(len(labels) - 0.5, -0.5)
    ax.spines["left"].set_visible(False)
    ax.tick_params(axis="y", length=0)
    ax.set_xlabel(unit)
    return ax
