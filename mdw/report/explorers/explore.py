"""The explorers of the reports: poses on photos, the weightings of a unit, cost against accuracy."""

import base64
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from mdw.experiments.studies import STUDIES
from mdw.report import plots, speed
from mdw.report.explorers.explorer import Explorer, pack
from mdw.report.outputs import NOT_RUN, Output, say
from mdw.util.errors import MdwError

ORIGINS = ("published", "measured")
TEXTS = ("label", "origin", "about")


def poses(groups: dict[str, Sequence], threshold: float = 0.2) -> Output | None:
    """A pose explorer for `qualitative.chosen` people by group: photo, skeleton, heatmaps, score threshold, annotation."""
    from mdw.inference.draw import limb_side, side
    from mdw.report.pages import qualitative

    people = [(group, person) for group, members in groups.items() for person in members]
    if not people:
        return say(f"*{NOT_RUN}*: there is no trained network here whose poses could be explored.")
    first = people[0][1]
    joints = first.joints
    sides = [side(name) for name in joints.names]
    data = {
        "joints": [name.replace("_", " ") for name in joints.names],
        "sides": sides,
        "limbs": [[a, b, limb_side(sides[a], sides[b])] for a, b in joints.limbs],
        "size": first.size,
        "map": first.maps.shape[:0:-1],
        "threshold": threshold,
        "people": [_person(group, person) for group, person in people],
    }
    still = plots.photo(
        qualitative.drawn(first),
        f"Explore {len(people)} people of the bundled photos (COCO, CC BY and CC BY-SA; see `mdw/photos/ATTRIBUTION.md`): each "
        "joint's heatmap as it was decoded, mean of the photo and its mirror image, scaled to its own peak. A click on the "
        "photo chooses the nearest joint's.",
        f"Person {first.name}: the crop that the network sees, with the pose found in it",
    )
    return Explorer("poses", data, still, [_webp(person.pixels()) for _, person in people])


def _person(group: str, person) -> dict:
    truth = person.in_crop(person.truth).round(1).tolist()
    points = np.concatenate([person.in_crop(person.keypoints[:, :2]).round(2), person.keypoints[:, 2:].round(4)], 1)
    return {
        "name": person.name,
        "group": group,
        "about": person.in_words,
        "points": points.tolist(),
        "truth": [point if labelled else None for point, labelled in zip(truth, person.labelled, strict=True)],
        "maps": pack(np.maximum(person.maps, 0)),
    }


def gates(count: int = 5) -> Output:
    """An explorer of CDC's gates, GCM_C's positions and GCM_S's gates, per unit and branch, on `count` bundled photos.

    Of the network that comes with the package; the people are the first of `mdw.report.gates.people`.
    """
    from mdw.report.pages import gates as looked

    seen, people, crops = looked.shipped()
    count = min(count, len(people))
    units, arrays = _by_unit(seen, looked.spread(seen))
    photos = [cv2.resize(image, (192, 256), interpolation=cv2.INTER_CUBIC) for image in crops[:count]]
    data = {
        "size": photos[0].shape[1::-1],
        "units": units,
        "people": [
            {"name": str(person.image_id), "maps": pack([array[k] for array in arrays])}
            for k, person in enumerate(people[:count])
        ],
    }
    still = looked.context_maps()
    still.spec["caption"] = (
        f"Explore the {len(units)} units of the network on {count} of the bundled photos (COCO, CC BY and CC BY-SA; see "
        "`mdw/photos/ATTRIBUTION.md`): for each branch where GCM_C looks and GCM_S lets pass, the more orange the higher "
        "within the map, and CDC's gates, a row per kernel and a column per channel, orange above 0.5 and violet below; "
        "point at one, or go to it by the arrow keys, to read it."
    )
    return Explorer("gates", data, still, [_webp(photo) for photo in photos])


def _by_unit(seen, places: pd.DataFrame) -> tuple[list[dict], list[np.ndarray]]:
    """-> the units and their branches; per branch three arrays (N, ...): CDC's gates, GCM_C's positions, GCM_S's maps."""
    units: list[dict] = []
    arrays: list[np.ndarray] = []
    for number, layers in places.groupby("unit"):
        path = layers["layer"].iloc[0].partition(".convs.")[0]
        branches = []
        for branch, parts in layers.groupby("branch"):
            gates = [seen.gates[f"{layer}.attention"].numpy() for layer in parts["layer"]]
            spatial = seen.spatial[f"{path}.gcm_s"][branch - 1].mean(1)  # over the branch's channels
            maps = seen.positions[f"{path}.gcm_c.{branch - 1}"].numpy(), spatial.numpy()
            branches.append(
                {
                    "number": int(branch),
                    "first": len(arrays),
                    "parts": [gate.shape[2] for gate in gates],
                    "gates": [gates[0].shape[1], sum(gate.shape[2] for gate in gates)],
                    "positions": maps[0].shape[:0:-1],
                    "spatial": maps[1].shape[:0:-1],
                }
            )
            arrays += [np.concatenate(gates, 2), *maps]
        units.append({"name": f"Unit {number} ({path})", "stage": int(layers["stage"].iloc[0]), "branches": branches})
    return units, arrays


def fig5(frame: pd.DataFrame, x: str | None = None, y: str | None = None, ours: str = "MDW-HRNet") -> Output:
    """Fig. 5 with axes of the reader's choice.

    frame: a row per point; columns label, origin ("published" or "measured"), if wished about (a few words such as the input
    or the boxes), and every further column of numbers is an axis. A column holds one quantity measured one way, for
    published and measured points alike: what was measured on other data or with other boxes is another column, so that no
    axis mixes two metrics. A point is drawn where both of its values are there. x, y: the axes at first; else the first and
    the last column. Labels that begin with `ours` are set off. Raises MdwError for a frame that is not so.
    """
    missing = [name for name in ("label", "origin") if name not in frame]
    values = frame.drop(columns=list(TEXTS), errors="ignore").apply(pd.to_numeric, errors="coerce").dropna(axis=1, how="all")
    axes = list(values)
    if missing or len(axes) < 2 or not set(frame["origin"]) <= set(ORIGINS):
        raise MdwError(
            f"a frame for Fig. 5 needs the columns label, origin ({' or '.join(ORIGINS)}) and two of numbers; "
            f"it has {', '.join(map(str, frame.columns))}"
        )
    x, y = x or axes[0], y or axes[-1]
    if {x, y} - set(axes):
        raise MdwError(f"there is no axis {', '.join({x, y} - set(axes))}; the columns of numbers are {', '.join(axes)}")
    points = [
        {
            "label": row["label"],
            "origin": row["origin"],
            "about": "" if pd.isna(row.get("about", "")) else str(row.get("about", "")),
            "ours": row["label"].startswith(ours),
            "values": {axis: float(f"{value:.6g}") for axis, value in found.items() if pd.notna(value)},
        }
        for row, found in zip(frame.to_dict("records"), values.to_dict("records"), strict=True)
    ]
    shown = frame.assign(**values).dropna(subset=[x, y])
    fig, ax = plots.new(6.4, 4.2)
    plots.complexity_accuracy(ax, shown, x, y)
    still = plots.save(
        fig,
        frame,
        "fig5_explorer",
        f"Explore {len(frame)} points on axes of your choice: rings are published, filled marks were measured here.",
        f"{len(shown)} networks by {x} and {y}",
    )
    return Explorer("points", {"axes": axes, "x": x, "y": y, "points": points}, still)


def with_latency(
    points: pd.DataFrame,
    runs: str | Path,
    size: str = "256x192",
    parameters: str = "parameters, M",
    executed: str = "multiply-adds executed, M",
) -> pd.DataFrame:
    """`fig5`'s points and how long our networks take for one image on a CPU, from the bench's records in `runs`.

    A column for each backend and machine, since times of two machines are two quantities. Times go to the measured
    points of their network; a network without one becomes a point of its own, with its cost as counted under `parameters` and
    `executed`. Without records the points come back as they were.
    """
    found = speed.records(runs)
    found = found[(found["size"] == size) & (found["device"] == "cpu")].dropna(subset=["latency_ms"]) if len(found) else found
    if found.empty:
        return points
    names = {row.model: row.label for row in reversed(STUDIES["table2"]) if not row.changes}
    column = [f"one image, ms ({mode}, {machine})" for mode, machine in zip(found["mode"], found["hardware"], strict=True)]
    times = found.assign(column=column).pivot_table(index="model", columns="column", values="latency_ms")
    times.index = [names.get(model, model) for model in times.index]
    trained = set(points.loc[points["origin"] == "measured", "label"])
    alone = [model for model in dict.fromkeys(found["model"]) if names.get(model, model) not in trained]
    if alone:
        from mdw.report.pages.zoo import costs

        counted = costs(alone, [size])
        cost = {parameters: counted["params M"], executed: counted["executed M"]}
        labels = [names.get(model, model) for model in counted["network"]]
        more = pd.DataFrame({"label": labels, "origin": "measured", "about": "not trained here"} | cost)
        points = pd.concat([points, more], ignore_index=True)
    ours = points["origin"] == "measured"
    return points.assign(**{name: points["label"].map(values).where(ours) for name, values in times.items()})


def _webp(image: np.ndarray, quality: int = 75) -> str:
    """RGB uint8 as a data URI."""
    _, data = cv2.imencode(".webp", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_WEBP_QUALITY, quality])
    return f"data:image/webp;base64,{base64.b64encode(data.tobytes()).decode()}"
