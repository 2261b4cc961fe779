"""How far the gates of CDC, GCM_C and GCM_S move over photos and positions, by stage and branch: figures and words."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor, cat

from mdw.report import plots, words
from mdw.report.names import and_list
from mdw.report.outputs import Output
from mdw.report.pages.gates import Seen
from mdw.report.plots import name_ends

NEARLY = 0.05  # a gate with a smaller standard deviation is called nearly constant: a tenth of the one half at which it begins
MOST = 50  # percent of a weighting's gates that have to be nearly constant before it is called a constant for the most part
WEIGHTINGS = ("CDC", "GCM_C", "GCM_S")
FORMATS = dict.fromkeys(("mean", "photos", "positions", "both", "channels"), "{:.3f}")


def measured(seen: Seen) -> pd.DataFrame:
    """The gates of every unit and branch -> weighting, stage, branch, unit (from the stem on), gates, mean, photos,
    positions, both, channels, constant.

    gates: how many there are for one photo and position. photos, positions, both: a gate's standard deviation over the
    photos, over the positions of its map, which GCM_S alone has, and over all of them; each averaged over the rest. channels:
    that of the gates' means, from one gate to the next. constant: how many gates have "both" below `NEARLY`.
    """
    units: dict[str, int] = {}
    rows = []
    for weighting, unit, branch, gates in _gates(seen):
        moves = gates.std((0, 2), correction=0)  # (gates,)
        rows.append(
            {
                "weighting": weighting,
                "stage": int(unit[len("stage")]) + 2,
                "branch": branch + 1,
                "unit": units.setdefault(unit, len(units) + 1),
                "gates": gates.shape[1],
                "mean": gates.mean().item(),
                "photos": gates.std(0, correction=0).mean().item(),
                "positions": gates.std(2, correction=0).mean().item() if weighting == "GCM_S" else np.nan,
                "both": moves.mean().item(),
                "channels": gates.mean((0, 2)).std(correction=0).item(),
                "constant": int((moves < NEARLY).sum()),
            }
        )
    return pd.DataFrame(rows)


def _gates(seen: Seen) -> Iterator[tuple[str, str, int, Tensor]]:
    """Weighting, path of the unit, branch and gates (photos, gates, positions) of all stages; the stem's are left out."""
    layers: dict[tuple[str, int], list[Tensor]] = {}
    for name, gates in seen.gates.items():  # a branch's channels may be worked on in several parts
        unit, _, rest = name.partition(".convs.")
        if rest:
            layers.setdefault((unit, int(rest.partition(".")[0])), []).append(gates.flatten(1))
    for (unit, branch), parts in layers.items():
        yield "CDC", unit, branch, cat(parts, 1).unsqueeze(2)
    for name, gates in seen.channel.items():
        unit, _, rest = name.partition(".gcm_c.")
        if rest:
            yield "GCM_C", unit, int(rest), gates.unsqueeze(2)
    for name, branches in seen.spatial.items():
        for branch, gates in enumerate(branches):
            yield "GCM_S", name.removesuffix(".gcm_s"), branch, gates.flatten(2)


def by_branch(found: pd.DataFrame) -> pd.DataFrame:
    """`measured` for `tables.show`: a row per stage and branch, a group of columns per weighting, averaged over the gates."""
    groups = found.groupby(["stage", "branch"], sort=True)
    wide: dict[tuple[str, str], list] = {("", "stage"): [], ("", "branch"): []}
    for (stage, branch), rows in groups:
        wide["", "stage"].append(stage)
        wide["", "branch"].append(branch)
        for weighting in WEIGHTINGS:
            own = rows[rows["weighting"] == weighting]
            for name in ("mean", "photos", "positions") if weighting == "GCM_S" else ("mean", "photos"):
                wide.setdefault((weighting, name), []).append(_average(own, name))
    return pd.DataFrame(wide)


def _average(rows: pd.DataFrame, name: str) -> float:
    return float(np.average(rows[name], weights=rows["gates"])) if len(rows) else np.nan


def figure(found: pd.DataFrame) -> Output:
    """How far the gates of each unit move, a line per weighting, over all its branches."""
    fig, ax = plots.new(height=2.8)
    rows, ends = [], []
    for weighting, colour, marker in zip(WEIGHTINGS, plots.COLOURS, plots.MARKERS, strict=False):
        own = found[found["weighting"] == weighting]
        line = {unit: _average(part, "both") for unit, part in own.groupby("unit")}
        if line:
            ax.plot(list(line), list(line.values()), marker=marker, color=colour, markersize=4)
            ends.append((max(line), line[max(line)], weighting, colour))
        rows += [{"weighting": weighting, "unit": unit, "both": value} for unit, value in line.items()]
    stages = found.groupby("stage")["unit"].agg(["min", "max"])
    ax.set_ylim(bottom=0)
    for stage, (first, _) in stages.iterrows():
        if first > 1:
            ax.axvline(first - 0.5, color="#808080", linewidth=0.6)
        ax.annotate(f"stage {stage}", (first - 0.4, 1), xycoords=("data", "axes fraction"), va="top", fontsize=8)
    ax.axhline(NEARLY, color="#808080", linewidth=0.8, linestyle="--")
    ax.set_xticks(range(1, int(stages["max"].max()) + 1))
    ax.set_xlabel("unit, from the stem on")
    ax.set_ylabel("standard deviation")
    name_ends(ax, ends)
    return plots.save(
        fig,
        pd.DataFrame(rows),
        "gates_move",
        "How far a gate moves over the photos, GCM_S's over positions as well: standard deviations, the mean over the gates of "
        f"all branches. Below the dashed line, {NEARLY:g}, a gate is called nearly constant.",
        f"Lines of the standard deviations of {and_list([name for *_, name, _ in ends])} over the units of the network.",
    )


def in_words(seen: Seen) -> str:
    """What the gates do: which are nearly constant, and what becomes of GCM_S where it squeezes most; computed sentences."""
    found = measured(seen)
    sums = found.groupby("weighting")[["constant", "gates"]].sum()
    percent = (100 * sums["constant"] / sums["gates"]).reindex(WEIGHTINGS).dropna()
    constant, moving = ([name for name in percent.index if (percent[name] > MOST) == most] for most in (True, False))
    held = [f"{value:.0f} % of {name}'s" for name, value in percent.items()]
    channel, spatial = (found[found["weighting"] == name] for name in ("GCM_C", "GCM_S"))
    told: dict[str, Any] = {"nearly": NEARLY, "most": MOST, "held": held, "constant": constant, "moving": moving}
    told["channel"] = None
    if len(channel):
        told["channel"] = {name: _average(channel, name) for name in ("mean", "photos", "channels")}
        told["channel"]["range"] = _range(channel["photos"])
    squeezed = _squeezed(seen, spatial) if spatial["stage"].nunique() > 1 else None
    return words.text("gates.moves", **told, spatial=squeezed)


def _squeezed(seen: Seen, found: pd.DataFrame) -> dict:
    """Of GCM_S: how many numbers its LayerNorm is over in each stage, and how far its gates move in the first and later."""
    hidden = {int(name[len("stage")]) + 2: count for name, count in seen.squeezed.items()}
    early, late = (found[(found["stage"] == min(hidden)) == first] for first in (True, False))
    counted = {"stages": list(hidden), "counts": list(hidden.values()), "free": [max(n - 2, 0) for n in hidden.values()]}
    told: dict[str, Any] = {name: [str(value) for value in values] for name, values in counted.items()}
    told |= {"early": _average(early, "both"), "late": _average(late, "both")}
    return told | {"early_range": _range(early["both"]), "late_range": _range(late["both"])}


def _range(values: pd.Series) -> str:
    return f"{values.min():.2f} to {values.max():.2f}"
