"""The drawings of the reports, by seaborn and matplotlib. A function takes an Axes and plain data and returns the Axes."""

import base64
import io
import re
import textwrap
from collections.abc import Sequence
from typing import Any

import cv2
import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.rcsetup import cycler
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator
from matplotlib.transforms import Bbox

from mdw.experiments.studies import STUDIES
from mdw.report.claims.outcome import CONTRADICTED, HOLDS, NOT_RUN
from mdw.report.names import signed
from mdw.report.outputs import Output, report_folder, write_csv
from mdw.report.site import markup
from mdw.util.errors import MdwError
from mdw.util.files import write_text

# Colours that differ in hue and in lightness; all keep a contrast of about 3:1 on light and dark paper.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#c0609a", "#8a7a00", "#7a5fc0", "#a0522d", "#7d7870")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p", "h")
INK = "#1f1c18"  # replaced by the page's own text colour, so that a figure follows the theme
GREY = "#7d7870"
SHADES = {HOLDS: COLOURS[2], CONTRADICTED: COLOURS[1]}  # of a verdict; the others are grey
FAMILIES = ("MDW-HRNet", "Lite-HRNet", "Dite-HRNet", "MobileNet", "Naive Lite-HRNet", "ShuffleNet", "SimpleBaseline", "HRNet")
SAME = ("CDC + GCM (full)", "K = 3", "CDC", "MDW-HRNet-18")  # one network, by its name in each table
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "mdw",
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "lines.linewidth": 1.6,
    "lines.markersize": 5,
    "legend.frameon": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "figure.dpi": 100,
    "axes.prop_cycle": cycler(color=COLOURS),
    "axes.grid": False,
    "figure.constrained_layout.use": True,
}


def _looks() -> dict[str, tuple[str, str]]:
    """A colour and a marker for every row of every study, no two networks alike: a family's colour, a marker for each of it.

    Variants of MDW-HRNet-18 take the other colours row by row, so that neighbours in a table differ.
    """
    labels = list(dict.fromkeys(row.label for rows in STUDIES.values() for row in rows if not row.changes))
    looks, taken = {}, {colour: 0 for colour in COLOURS}

    def take(label: str, colour: str) -> None:
        looks[label] = colour, MARKERS[taken[colour] % len(MARKERS)]
        taken[colour] += 1

    named = [(label, [f for f in FAMILIES if f in label]) for label in labels]
    for label, families in named:
        if families and "," not in label and label not in SAME[:-1]:
            take(label, COLOURS[FAMILIES.index(max(families, key=len))])
    looks |= dict.fromkeys(SAME, looks[SAME[-1]])
    for study in ("table5", "table6", "table7", "lspet_variants", "lspet_starts"):
        used = {looks[row.label][0] for row in STUDIES[study] if row.label in looks}
        for row in STUDIES[study]:
            if row.label not in looks:
                free = [colour for colour in COLOURS if colour not in used] or list(COLOURS[1:])
                colour = min(free, key=lambda colour: taken[colour])
                take(row.label, colour)
                used.add(colour)
    return looks


LOOKS = _looks()


def look(label: str) -> tuple[str, str]:
    """The colour and the marker of a network on the whole site, by its label; what no study has is grey, by its own marker."""
    first = label.partition(", 384x288")[0].removesuffix(" (derived)")
    return LOOKS.get(first, (GREY, MARKERS[sum(map(ord, first)) % len(MARKERS)]))


def new(width: float = 6.4, height: float = 3.6) -> tuple[Figure, Axes]:
    """A figure in the house style and its Axes; sizes in inches."""
    fig, (ax,) = columns(1, width, height)
    return fig, ax


def columns(count: int, width: float, height: float, sharey: bool = False) -> tuple[Figure, list[Axes]]:
    """A figure in the house style and `count` Axes side by side; sizes in inches."""
    with mpl.rc_context(STYLE):
        fig, axes = plt.subplots(1, count, figsize=(width, height), squeeze=False, sharey=sharey)
    return fig, list(axes[0])


def height(rows: Sequence, each: float = 0.3) -> float:
    """Inches for a drawing of so many rows."""
    return 0.9 + each * max(len(rows), 1)


def curves(ax: Axes, frame: pd.DataFrame, value: str) -> Axes:
    """Learning curves: the mean over seeds of each label as a line, the range of its seeds as a band, named at its right end.

    frame: tidy, with columns epoch, label, seed and `value`; rows without a value are left out.
    """
    frame = frame.dropna(subset=[value]).astype({value: float})
    palette = {label: look(label)[0] for label in dict.fromkeys(frame["label"])}
    band = {"errorbar": ("pi", 100), "err_kws": {"alpha": 0.16, "linewidth": 0}}
    sns.lineplot(frame, x="epoch", y=value, hue="label", palette=palette, legend=False, ax=ax, **band)
    ends = frame.groupby(["label", "epoch"], sort=False)[value].mean().reset_index().groupby("label", sort=False).last()
    name_ends(ax, [(row.epoch, row[value], label, palette[label]) for label, row in ends.iterrows()])
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    return ax


def networks(ax: Axes, result: pd.DataFrame, runs: pd.DataFrame, unit: str, marks: Sequence[tuple[float, str]] = ()) -> Axes:
    """A row per network: intervals over seeds (thin) and persons (thick), its mean a bar with the figure, every seed a dot.

    result: as `stats.intervals` gives it. runs: columns label and value, one row per run. marks: values to compare with, each
    a dotted line with its name above.
    """
    labels, shown = list(result["label"]), runs.dropna(subset=["value"]).astype({"value": float})
    palette = {label: look(label)[0] for label in labels}
    shown = shown[shown["label"].isin(labels)]
    dots = {"jitter": False, "alpha": 0.55, "size": 5, "order": labels, "legend": False}
    sns.stripplot(shown, x="value", y="label", hue="label", palette=palette, hue_order=labels, ax=ax, **dots)
    for place, row in enumerate(result.to_dict("records")):
        colour = palette[row["label"]]
        if not row["n"]:
            ax.annotate(NOT_RUN, (0, place), xycoords=("axes fraction", "data"), xytext=(6, 0), **_text(GREY))
            continue
        _lines(ax, row, place, colour)
        ax.vlines(row["mean"], place - 0.24, place + 0.24, color=colour, linewidth=2.2)
        end = np.nanmax([row["high"], row["persons high"], shown.loc[shown["label"] == row["label"], "value"].max()])
        ax.annotate(f"{row['mean']:.1f}", (end, place), xytext=(7, 0), **_text(colour))
    for value, name in marks:
        ax.axvline(value, color=GREY, linewidth=1, linestyle=(0, (1, 2)))
        style = _text(GREY, ha="center", va="bottom")
        ax.annotate(name, (value, 1), xycoords=("data", "axes fraction"), xytext=(0, 4), **style)
    return _rows(ax, labels, unit)


def answers(ax: Axes, tested: pd.DataFrame, unit: str) -> Axes:
    """A row per answer: its adjusted interval over seeds (thin), that over persons (thick), its bound, the verdict beside.

    tested: as `claims.judge.answer` gives it. What holds and what is contradicted is coloured.
    """
    right = np.nanmax([0.1, *tested[["difference", "high", "persons high"]].max()])
    ax.axvline(0, color=INK, linewidth=0.8)
    for place, row in enumerate(tested.to_dict("records")):
        colour = SHADES.get(row["outcome"], GREY)
        if row["bound"]:
            ax.vlines(row["bound"], place - 0.4, place + 0.4, color=INK, linewidth=0.8, linestyle=":")
        _lines(ax, row, place, colour)
        ax.plot(row["difference"], place, "o", color=colour)
        number = "" if pd.isna(row["difference"]) else f"{signed('{:+.1f}', row['difference'])}  "
        ax.annotate(f"{number}{row['outcome']}", (right, place), xytext=(10, 0), **_text(colour))
    wrapped = tested["claim"].str.partition(" (")[0].map(lambda text: textwrap.fill(text, 38))
    return _rows(ax, tested["id"] + "  " + wrapped, unit)


def _lines(ax: Axes, row: dict, place: int, colour: str) -> None:
    """The interval over seeds as a thin line, that over persons as a thick pale one."""
    ax.hlines(place, row["low"], row["high"], color=colour, linewidth=1.2)
    ax.hlines(place, row["persons low"], row["persons high"], color=colour, linewidth=4, alpha=0.45)


def _text(colour: str, ha: str = "left", va: str = "center") -> dict:
    offset = {"textcoords": "offset points", "annotation_clip": False}
    return offset | {"color": colour, "fontsize": 8, "ha": ha, "va": va}


def _rows(ax: Axes, labels: Sequence[str], unit: str) -> Axes:
    ax.set_yticks(range(len(labels)), list(labels))
    ax.set_ylim(len(labels) - 0.5, -0.5)
    ax.spines["left"].set_visible(False)
    ax.tick_params(axis="y", length=0)
    ax.set_ylabel("")
    ax.set_xlabel(unit)
    return ax


def complexity_accuracy(ax: Axes, frame: pd.DataFrame, x: str, y: str, log: bool = False) -> Axes:
    """Accuracy over cost: what was published as hollow marks, what was measured as filled ones with the range of its seeds.

    frame: columns x, y, label and origin ("published" or "measured"); several measured rows of one label are its seeds.
    log: a logarithmic axis of cost, with plain numbers.
    """
    means = frame.groupby(["label", "origin"], sort=False)[[x, y]].mean().reset_index()
    looks = {label: look(label) for label in means["label"]}
    style = {"palette": {k: v[0] for k, v in looks.items()}, "markers": {k: v[1] for k, v in looks.items()}}
    for origin, rows in means.groupby("origin"):
        before = len(ax.collections)
        sns.scatterplot(rows, x=x, y=y, hue="label", style="label", s=52, legend=False, ax=ax, **style)
        for points in ax.collections[before:] if origin == "published" else ():
            points.set_edgecolor(points.get_facecolor())
            points.set_facecolor("none")
            points.set_linewidth(1.2)
    for label, rows in frame[frame["origin"] == "measured"].groupby("label", sort=False):
        ax.vlines(rows[x].mean(), rows[y].min(), rows[y].max(), color=looks[label][0], linewidth=1)
    ends = means.drop_duplicates("label", keep="last").to_dict("records")
    at: dict[str, Any] = {"xytext": (7, 3), "textcoords": "offset points", "fontsize": 8}
    names = [ax.annotate(end["label"], (end[x], end[y]), color=looks[end["label"]][0], **at) for end in ends]
    ax.margins(x=0.12, y=0.12)
    if log:
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.xaxis.set_major_formatter("{x:g}")
        ax.xaxis.set_minor_locator(NullLocator())
    return around(ax, names, [*means[[x, y]].itertuples(index=False, name=None)])


def windowed(ax: Axes, frame: pd.DataFrame, x: str, y: str, xs: tuple[float, float], ys: tuple[float, float] | None) -> Axes:
    """Points named by the column "number", over the window xs by ys that is allowed; the first row is filled.

    Points at one place share their name.
    """
    low, high = ys or (frame[y].min(), frame[y].max())
    ax.fill_between(xs, low, high, color=COLOURS[2], alpha=0.15, linewidth=0)
    first = frame.iloc[0]
    places: dict[tuple[float, float], list[str]] = {}
    for values in frame.iloc[1:].to_dict("records"):
        places.setdefault((round(values[x], 3), round(values[y], 1)), []).append(values["number"])
    same = places.pop((round(first[x], 3), round(first[y], 1)), [])
    text = "default" + (", and at its cost " + ", ".join(same) if same else "")
    ax.plot(first[x], first[y], "D", color=COLOURS[1], markersize=7)
    at: dict[str, Any] = {"xytext": (7, 3), "textcoords": "offset points", "fontsize": 8}
    names = [ax.annotate(textwrap.fill(text, 34), (first[x], first[y]), color=COLOURS[1], **at)]
    for place, numbers in places.items():
        ax.plot(*place, "o", color=COLOURS[0], markerfacecolor="none")
        names.append(ax.annotate(", ".join(numbers), place, color=COLOURS[0], **at))
    ax.set_xlabel(x)
    ax.set_ylabel(y)
    ax.margins(x=0.1, y=0.1)
    return around(ax, names, [(first[x], first[y]), *places])


# Where names stand, so that none covers another one or a point: to the side of a point, then around it, then further off.
ROUND = [((d * a, d * b + c), side) for d in (1, 2, 3, 4) for a, b, c, side in (
    (7, 0, 3, "left"), (-7, 0, 3, "right"), (7, -8, -2, "left"), (-7, -8, -2, "right"),
    (0, 8, 0, "center"), (0, -13, -2, "center"), (7, 8, 3, "left"), (-7, 8, 3, "right"),
)]  # fmt: skip


def name_ends(ax: Axes, ends: Sequence[tuple[float, float, str, str]], gap: float = 0.055) -> Axes:
    """Write the names (x, y, text, colour) beside the ends of their lines, at least `gap` of the Axes' height apart."""
    low, high = ax.get_ylim()
    step, last = (high - low) * gap, -np.inf
    for _, y, text, colour in sorted(ends, key=lambda end: end[1]):
        last = max(y, last + step)
        at: dict[str, Any] = {"xytext": (5, 0), "textcoords": "offset points", "va": "center", "annotation_clip": False}
        ax.annotate(text, (max(x for x, *_ in ends), last), color=colour, **at)
    return ax


def around(ax: Axes, names: Sequence, points: Sequence[tuple[float, float]]) -> Axes:
    """Put annotations that are offset in points to the place of `ROUND` where they cover no other name and none of `points`.

    points: (x, y) of every mark, in data. A name that moved away from its point keeps a thin line to it.
    """
    fig = ax.figure
    assert isinstance(fig, Figure), "no panel within a panel"
    fig.draw_without_rendering()
    marks, half, inside = ax.transData.transform(np.array(points, float)), 4 * fig.dpi / 72, ax.get_window_extent()
    placed: list[Bbox] = []

    def free(box) -> bool:
        near = (np.abs(marks[:, 0] - np.clip(marks[:, 0], box.x0, box.x1)) < half) & (
            np.abs(marks[:, 1] - np.clip(marks[:, 1], box.y0, box.y1)) < half
        )
        return box.x0 >= inside.x0 and not near.any() and not any(box.overlaps(other) for other in placed)

    for name in names:
        for offset, side in ROUND:
            name.set_position(offset)
            name.set_ha(side)
            if free(box := name.get_window_extent()):
                break
        placed.append(box)
        if (offset, side) in ROUND[8:]:
            end = np.clip(ax.transData.transform(name.xy), box.min, box.max)
            line = np.array([name.xy, ax.transData.inverted().transform(end)])
            ax.plot(*line.T, color=name.get_color(), linewidth=0.5, zorder=0, scalex=False, scaley=False)
    return ax


def save(fig: Figure, frame: pd.DataFrame, name: str, caption: str, alt: str) -> Output:
    """The figure as an output of the report. While a report is published, `name.svg` and `name.csv` are written beside it.

    frame: the data behind the drawing, tidy. alt: what the drawing shows, for whoever cannot see it. The SVG is the same
    byte for byte for the same drawing. Raises MdwError for a name that is no plain word, or an empty `alt`.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise MdwError(f"a figure's name is used for its files: {name!r} must be lower-case letters, digits and _")
    if not alt.strip():
        raise MdwError(f"figure {name} has no alternative text; say in a sentence what it shows")
    alone, inline = svg(fig, name, alt)
    plt.close(fig)
    files, folder = [], report_folder()
    if folder is not None:
        write_text(folder / f"{name}.svg", alone)
        write_csv(folder / f"{name}.csv", frame)
        files = [f"{name}.svg", f"{name}.csv"]
    spec = {"kind": "figure", "name": name, "caption": caption, "alt": alt, "files": files}
    return Output(spec, "", f"{caption}\n{alt}", {"image/svg+xml": inline})


def svg(fig: Figure, name: str, alt: str) -> tuple[str, str]:
    """-> (a file of its own, the same to be put into a page): text as text, no date, ids that begin with `name`."""
    buffer = io.StringIO()
    with mpl.rc_context(STYLE):
        fig.savefig(buffer, format="svg")
    text = buffer.getvalue()
    body = text[text.index("<svg") :]
    # its metadata holds the date; a figure must not change with the clock
    body = re.sub(r"<metadata>.*?</metadata>", "", body, count=1, flags=re.S)
    body = re.sub(r"<!--.*?-->\s*", "", body, flags=re.S)
    body = re.sub(r'\b(id="|xlink:href="#|url\(#)', rf"\g<1>{name}-", body)  # two figures share a page, not their ids
    body = re.sub(r"font: ([^;'\"]*)'?DejaVu Sans'?[^;\"]*", r"font: \1system-ui, 'DejaVu Sans', sans-serif", body)
    body = body.replace(INK, "currentColor")
    body = body.replace("<svg ", f'<svg role="img" aria-labelledby="{name}-title" ', 1)
    end = body.index(">") + 1
    body = f'{body[:end]}\n<title id="{name}-title">{markup.escape(alt)}</title>{body[end:]}'
    body = re.sub(r"\n\s*\n", "\n", body)
    alone = '<?xml version="1.0" encoding="utf-8"?>\n' + body.replace("<svg ", '<svg style="background: #fff" ', 1)
    return alone, body


def photo(image: np.ndarray, caption: str, alt: str, quality: int = 80) -> Output:
    """An RGB uint8 image (H, W, 3), such as a sheet of poses, as a figure of the report (WebP)."""
    done, data = cv2.imencode(".webp", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_WEBP_QUALITY, quality])
    if not done:
        raise MdwError(f"an image of {image.shape[1]} x {image.shape[0]} pixels cannot be encoded; make it smaller")
    encoded = base64.b64encode(data.tobytes()).decode()
    html = f'<img alt="{markup.escape(alt)}" src="data:image/webp;base64,{encoded}">'
    return Output({"kind": "photo", "caption": caption, "alt": alt}, html, f"{caption}\n{alt}", {"image/webp": encoded})
