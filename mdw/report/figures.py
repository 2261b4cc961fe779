"""The drawings of the reports. A function takes an Axes and plain data and returns the Axes; none reads a file."""

import base64
import io
import re
from collections.abc import Sequence

import cv2
import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from mdw.report import markup
from mdw.report.labels import apart, around, name_ends
from mdw.report.outputs import Output, report_folder
from mdw.util.errors import MdwError
from mdw.util.files import write_text

# Okabe & Ito's colours in an order whose neighbours differ most; all keep a contrast of about 3:1 on light and dark paper.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8a7a00", "#5a7fbf")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")  # one more than colours, so that no pair of both returns soon
INK = "#1f1c18"  # replaced by the page's own text colour, so that a figure follows the theme
STYLE = {
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
    "axes.prop_cycle": mpl.cycler(color=COLOURS),
    "axes.grid": False,
    "figure.constrained_layout.use": True,
}


def new(width: float = 6.4, height: float = 3.6, columns: int = 1, **options: object) -> tuple[Figure, Axes | np.ndarray]:
    """A figure in the house style and its Axes (an array of them for several columns); sizes in inches."""
    with mpl.rc_context(STYLE):
        return plt.subplots(1, columns, figsize=(width, height), **options)


def curves(ax: Axes, frame: pd.DataFrame, value: str, x: str = "epoch", by: str = "label", labels: Sequence[str] = ()) -> Axes:
    """Learning curves: the mean over seeds of each `by` as a line, its range as a band, named at its right end.

    frame: tidy, with columns x, value, by and "seed". Rows without a value are left out. labels: all that could occur, so that
    each keeps its colour where some are missing.
    """
    frame = frame.dropna(subset=[value])
    ends, colours = [], dict(zip(dict.fromkeys([*labels, *frame[by]]), _cycle(COLOURS), strict=False))
    for label, rows in frame.groupby(by, sort=False):
        colour = colours[label]
        seeds = rows.groupby(x)[value]
        mean = seeds.mean()
        ax.plot(mean.index, mean, color=colour, label=label)
        if rows["seed"].nunique() > 1:
            ax.fill_between(mean.index, seeds.min(), seeds.max(), color=colour, alpha=0.16, linewidth=0)
        ends.append((mean.index[-1], mean.iloc[-1], label, colour))
    name_ends(ax, ends)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_xlabel(x)
    ax.set_ylabel(value)
    return ax


def complexity_accuracy(
    ax: Axes, frame: pd.DataFrame, x: str, y: str, label: str = "label", origin: str = "origin", log: bool = False
) -> Axes:
    """Accuracy over cost: what was published as hollow rings, what was measured as filled marks with the range of its seeds.

    frame: columns x, y, `label` and `origin` ("published" or "measured"); several measured rows of one label are its seeds.
    log: a logarithmic axis of cost, with plain numbers.
    """
    names = []
    for (name, rows), colour, marker in zip(frame.groupby(label, sort=False), _cycle(COLOURS), _cycle(MARKERS), strict=False):
        published, measured = rows[rows[origin] == "published"], rows[rows[origin] == "measured"]
        if len(published):
            ax.plot(published[x], published[y], marker, markerfacecolor="none", markeredgecolor=colour, markersize=7)
        if len(measured):
            ax.plot(measured[x].mean(), measured[y].mean(), marker, color=colour, markersize=7)
            ax.plot([measured[x].mean()] * 2, [measured[y].min(), measured[y].max()], color=colour, linewidth=1)
        ends = measured if len(measured) else published
        names.append(
            ax.annotate(name, (ends[x].mean(), ends[y].mean()), xytext=(7, 3), textcoords="offset points", color=colour)
        )
    ax.set_xlabel(x)
    ax.set_ylabel(y)
    ax.margins(x=0.12, y=0.12)
    if log:
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.xaxis.set_major_formatter("{x:g}")
        ax.xaxis.set_minor_locator(NullLocator())
    means = frame.groupby([label, origin], sort=False)[[x, y]].mean()
    return around(ax, names, [*means.itertuples(index=False, name=None)])


def windowed(ax: Axes, frame: pd.DataFrame, x: str, y: str, xs: tuple[float, float], ys: tuple[float, float] | None) -> Axes:
    """Points named by the column "number", over the window xs by ys that is allowed; the first row is filled.

    Points at one place share their name.
    """
    low, high = ys or (frame[y].min(), frame[y].max())
    ax.fill_between(xs, low, high, color=COLOURS[2], alpha=0.15, linewidth=0)
    first = frame.iloc[0]
    labels: list = []
    places: dict[tuple[float, float], list[str]] = {}
    for values in frame.iloc[1:].to_dict("records"):
        places.setdefault((round(values[x], 3), round(values[y], 1)), []).append(values["number"])
    same = places.pop((round(first[x], 3), round(first[y], 1)), [])
    for (px, py), names in places.items():
        ax.plot(px, py, "o", color=COLOURS[0], markerfacecolor="none")
        labels.append(
            ax.annotate(", ".join(names), (px, py), xytext=(5, 3), textcoords="offset points", fontsize=8, color=COLOURS[0])
        )
    ax.plot(first[x], first[y], "D", color=COLOURS[1], markersize=7)
    text = "default" + ("\nand, at the same cost, " + ", ".join(same) if same else "")
    labels.insert(
        0,
        ax.annotate(
            text,
            (first[x], first[y]),
            xytext=(0, -9),
            textcoords="offset points",
            color=COLOURS[1],
            ha="center",
            va="top",
            fontsize=8,
        ),
    )
    ax.set_xlabel(x)
    ax.set_ylabel(y)
    return apart(ax, labels)


def bars(ax: Axes, labels: Sequence[str], parts: dict[str, Sequence[float]], unit: str = "") -> Axes:
    """Horizontal stacked bars, one per label; every part is named above the first bar's segment or in the legend."""
    left = np.zeros(len(labels))
    for (name, values), colour in zip(parts.items(), _cycle(COLOURS), strict=False):
        ax.barh(labels, values, left=left, height=0.62, color=colour, label=name)
        left += np.asarray(values, float)
    for index, total in enumerate(left):
        ax.annotate(f"{total:.3g}", (total, index), xytext=(4, 0), textcoords="offset points", va="center")
    ax.invert_yaxis()
    ax.spines["left"].set_visible(False)
    ax.tick_params(axis="y", length=0)
    ax.set_xlabel(unit)
    if len(parts) > 1:
        ax.legend(loc="upper center", bbox_to_anchor=(0.45, -0.18), ncols=min(len(parts), 5), fontsize=8, handlelength=1)
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
        write_text(folder / f"{name}.csv", frame.to_csv(index=False, lineterminator="\n"))
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
    """An RGB uint8 picture (H, W, 3), such as a sheet of poses, as a figure of the report (WebP)."""
    done, data = cv2.imencode(".webp", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_WEBP_QUALITY, quality])
    if not done:
        raise MdwError(f"a picture of {image.shape[1]} x {image.shape[0]} pixels cannot be encoded; make it smaller")
    encoded = base64.b64encode(data.tobytes()).decode()
    html = f'<img alt="{markup.escape(alt)}" src="data:image/webp;base64,{encoded}">'
    return Output({"kind": "photo", "caption": caption, "alt": alt}, html, f"{caption}\n{alt}", {"image/webp": encoded})


def _cycle(values: Sequence[str]):
    while True:
        yield from values
