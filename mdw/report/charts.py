"""Drawings of how sure a figure is: networks with their intervals, and differences with theirs. Axes in, axes out."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from mdw.report.figures import COLOURS, INK
from mdw.report.outputs import NOT_RUN, signed
from mdw.report.statistics import UNKNOWN

SHADES = {"higher": COLOURS[2], "lower": COLOURS[1]}  # of a verdict; noise and the unknown are grey
GREY = "#7d7870"


def networks(ax: Axes, result: pd.DataFrame, runs: pd.DataFrame, unit: str, marks: Sequence[tuple[float, str]] = ()) -> Axes:
    """A row per network: its interval as a line, its mean as a bar with the figure beside, every seed a dot.

    result: as `statistics.intervals` gives it. runs: columns label and value, one row per run. marks: values to compare
    with, each a dotted line with its name above.
    """
    for place, row in enumerate(result.itertuples()):
        colour = COLOURS[place % len(COLOURS)]
        if not row.n:
            ax.annotate(NOT_RUN, (0, place), xycoords=("axes fraction", "data"), xytext=(6, 0), **_text(GREY))
            continue
        seeds = runs.loc[runs["label"] == row.label, "value"].dropna().astype(float)
        ax.plot([row.low, row.high], [place, place], color=colour, linewidth=1.6, solid_capstyle="butt")
        ax.plot(seeds, [place] * len(seeds), "o", color=colour, alpha=0.55, markeredgewidth=0)
        ax.plot([row.mean] * 2, [place - 0.24, place + 0.24], color=colour, linewidth=2.2)
        end = np.nanmax([row.high, seeds.max()])
        ax.annotate(f"{row.mean:.1f}", (end, place), xytext=(7, 0), **_text(colour))
    for value, name in marks:
        ax.axvline(value, color=GREY, linewidth=1, linestyle=(0, (1, 2)))
        ax.annotate(
            name, (value, 1), xycoords=("data", "axes fraction"), xytext=(0, 4), **_text(GREY, ha="center", va="bottom")
        )
    return _rows(ax, result["label"], unit)


def differences(ax: Axes, frame: pd.DataFrame, unit: str) -> Axes:
    """A row per difference: a thick line over persons, a thin one over persons and seeds, zero marked, the verdict beside.

    frame: as `statistics.differences` gives it. Verdicts "higher" and "lower" are coloured; where the noise over seeds is
    unknown but that over persons is not, "one seed" stands beside.
    """
    right = np.nanmax([0.1, *frame[["difference", "high", "persons high"]].max()])
    ax.axvline(0, color=INK, linewidth=0.8)
    for place, row in enumerate(frame.rename(columns=lambda name: name.replace(" ", "_")).itertuples()):
        colour = SHADES.get(row.verdict, GREY)
        ax.plot([row.low, row.high], [place, place], color=colour, linewidth=1)
        ax.plot(
            [row.persons_low, row.persons_high], [place, place], color=colour, linewidth=4, alpha=0.45, solid_capstyle="butt"
        )
        ax.plot(row.difference, place, "o", color=colour)
        number = "" if pd.isna(row.difference) else f"{signed('{:+.1f}', row.difference)}  "
        verdict = "one seed" if row.verdict == UNKNOWN and pd.notna(row.persons_low) else row.verdict
        ax.annotate(f"{number}{verdict}", (right, place), xytext=(10, 0), **_text(colour))
    return _rows(ax, frame["label"], unit)


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
