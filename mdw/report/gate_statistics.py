"""How far the gates of CDC, GCM_C and GCM_S move over photos and positions, by stage and branch: figures and words."""

from collections.abc import Iterable, Iterator

import numpy as np
import pandas as pd
from torch import Tensor, cat

from mdw.report import figures, tables
from mdw.report.gates import Seen
from mdw.report.labels import name_ends
from mdw.report.outputs import Output

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
        unit, _, branch = name.partition(".gcm_c.")
        if branch:
            yield "GCM_C", unit, int(branch), gates.unsqueeze(2)
    for name, branches in seen.spatial.items():
        for branch, gates in enumerate(branches):
            yield "GCM_S", name.removesuffix(".gcm_s"), branch, gates.flatten(2)


def by_branch(found: pd.DataFrame) -> pd.DataFrame:
    """`measured` for `tables.show`: a row per stage and branch, a group of columns per weighting, averaged over the gates."""
    groups = found.groupby(["stage", "branch"], sort=True)
    wide = {("", "stage"): [], ("", "branch"): []}
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
    fig, ax = figures.new(height=2.8)
    rows, ends = [], []
    for weighting, colour, marker in zip(WEIGHTINGS, figures.COLOURS, figures.MARKERS, strict=False):
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
    return figures.save(
        fig,
        pd.DataFrame(rows),
        "gates_move",
        "How far a gate moves over the photos, GCM_S's over positions as well: standard deviations, the mean over the gates of "
        f"all branches. Below the dashed line, {NEARLY:g}, a gate is called nearly constant.",
        f"Lines of the standard deviations of {tables.and_list([name for *_, name, _ in ends])} over the units of the network.",
    )


def in_words(seen: Seen) -> str:
    """What the gates do: which are nearly constant, and what becomes of GCM_S where it squeezes most; computed sentences."""
    found = measured(seen)
    sums = found.groupby("weighting")[["constant", "gates"]].sum()
    percent = (100 * sums["constant"] / sums["gates"]).reindex(WEIGHTINGS).dropna()
    constant, moving = ([name for name in percent.index if (percent[name] > MOST) == most] for most in (True, False))
    held = tables.and_list([f"{value:.0f} % of {name}'s" for name, value in percent.items()])
    words = [
        "A gate is called nearly constant here where its standard deviation over the photos, and over the positions if it has "
        f"one for each, is below {NEARLY:g}, a tenth of the one half at which it begins. That holds for {held}."
    ]
    if constant:
        verb = "is" if len(constant) == 1 else "are"
        words.append(
            f"So {tables.and_list(constant)} {verb} for the most part, that is in more than {MOST} % of the gates, constant: "
            "factors of a channel whatever the photo, which the kernels or the norm beside them can hold without a gate."
        )
    if moving:
        words.append(f"Most gates of {tables.and_list(moving)} follow the photo or the position.")
    paragraphs = [" ".join(words)]
    channel = found[found["weighting"] == "GCM_C"]
    if len(channel):
        mean, photos, channels = (_average(channel, name) for name in ("mean", "photos", "channels"))
        paragraphs.append(
            f"The mean of GCM_C's gates is {mean:.2f}. Their standard deviation is {channels:.2f} from channel to channel and "
            f"{photos:.2f} from photo to photo (by unit and branch {_range(channel['photos'])})."
        )
    spatial = found[found["weighting"] == "GCM_S"]
    if spatial["stage"].nunique() > 1:
        paragraphs.append(_squeezed(seen, spatial))
    return "\n\n".join(paragraphs)


def _squeezed(seen: Seen, found: pd.DataFrame) -> str:
    """On GCM_S: how many numbers its LayerNorm is over in each stage, and how far its gates move in the first and later."""
    hidden = {int(name[len("stage")]) + 2: count for name, count in seen.squeezed.items()}
    counts, free = [*hidden.values()], [max(count - 2, 0) for count in hidden.values()]
    first = found["stage"] == min(hidden)
    early, late = found[first], found[~first]
    return (
        f"Before its LayerNorm GCM_S squeezes each position to {_listed(counts)} numbers in stages {_listed(hidden)}. The "
        f"norm takes their mean and their scale away, which leaves {_listed(free)} degrees of freedom. The standard deviation "
        f"of its gates over photos and positions, by unit and branch, is {_range(early['both'])} in stage {min(hidden)} and "
        f"{_range(late['both'])} later, {_average(early, 'both'):.2f} and {_average(late, 'both'):.2f} on average."
    )


def _listed(values: Iterable[int]) -> str:
    return tables.and_list([str(value) for value in values])


def _range(values: pd.Series) -> str:
    return f"{values.min():.2f} to {values.max():.2f}"
