"""Where names stand in a drawing, so that none covers another one or a point."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

ROUND = (
    ((7, 3), "left"),
    ((-7, 3), "right"),
    ((7, -10), "left"),
    ((-7, -10), "right"),
    ((0, 8), "center"),
    ((0, -15), "center"),
)


def name_ends(ax: Axes, ends: Sequence[tuple[float, float, str, str]], gap: float = 0.055) -> Axes:
    """Write the names (x, y, text, colour) beside the ends of their lines, at least `gap` of the Axes' height apart."""
    if not ends:
        return ax
    right = max(x for x, *_ in ends)
    low, high = ax.get_ylim()
    step, last = (high - low) * gap, -np.inf
    for _, y, text, colour in sorted(ends, key=lambda end: end[1]):
        last = max(y, last + step)
        ax.annotate(
            text, (right, last), xytext=(5, 0), textcoords="offset points", va="center", color=colour, annotation_clip=False
        )
    return ax


def apart(ax: Axes, labels: Sequence) -> Axes:
    """Move annotations up until none covers another one; the first stay where they are."""
    ax.figure.draw_without_rendering()
    placed = []
    for label in labels:
        for _ in range(20):
            box = label.get_window_extent()
            if not any(box.overlaps(other) for other in placed):
                break
            x, y = label.get_position()
            label.set_position((x, y + 3))
        placed.append(box)
    return ax


def around(ax: Axes, labels: Sequence, points: Sequence[tuple[float, float]]) -> Axes:
    """Put annotations that are offset in points to the side of their point where they cover no other name and none of `points`.

    points: (x, y) of every mark, in data. Where all sides are taken a name goes up as in `apart`.
    """
    ax.figure.draw_without_rendering()
    marks, half, inside = ax.transData.transform(np.array(points, float)), 4 * ax.figure.dpi / 72, ax.get_window_extent()
    placed, crowded = [], []

    def free(box) -> bool:
        near = (np.abs(marks[:, 0] - np.clip(marks[:, 0], box.x0, box.x1)) < half) & (
            np.abs(marks[:, 1] - np.clip(marks[:, 1], box.y0, box.y1)) < half
        )
        return box.x0 >= inside.x0 and not near.any() and not any(box.overlaps(other) for other in placed)

    for label in labels:
        for offset, side in ROUND:
            label.set_position(offset)
            label.set_ha(side)
            if free(box := label.get_window_extent()):
                placed.append(box)
                break
        else:
            label.set_position(ROUND[0][0])
            label.set_ha(ROUND[0][1])
            crowded.append(label)
    return apart(ax, [*[label for label in labels if label not in crowded], *crowded])
