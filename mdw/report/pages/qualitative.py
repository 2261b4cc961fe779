"""What a network finds on the bundled photos, best to worst: chosen by rule, so that failures are shown too."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from mdw.inference.draw import overlay, sheet
from mdw.report.names import and_list
from mdw.report.outputs import NOT_RUN, Output, facts, headline, say
from mdw.report.pages.on_photos import KINDS, Person, chosen, find

__all__ = ["chosen", "drawn", "failures", "find", "in_short", "in_words", "mistakes", "images", "provenance", "table"]
WHERE = ("where the joint of the other side is", "on the same joint of another person in the photo", "on neither")  # KINDS[1:]


def table(people: Sequence[Person]) -> pd.DataFrame:
    """Everybody, best first: place, photo, person, labelled joints, OKS, and PCK@0.2 in percent (absent without a torso)."""
    rows = []
    for place, person in enumerate(people, 1):
        counted = [kind for kind in person.kinds if kind]
        rows.append(
            {
                "place": place,
                "photo": f"`{person.photo.name}`",
                "person": person.number,
                "joints": int(person.labelled.sum()),
                "OKS": person.oks,
                "PCK@0.2": 100 * counted.count("right") / len(counted) if counted else None,
            }
        )
    return pd.DataFrame(rows, columns=["place", "photo", "person", "joints", "OKS", "PCK@0.2"])


def mistakes(people: Sequence[Person]) -> pd.DataFrame:
    """Where the labelled joints ended, by kind of joint (sides joined): joint, n, and a count for each of `KINDS`."""
    rows: dict[str, dict] = {}
    for person in people:
        for name, kind in zip(person.joints.names, person.kinds, strict=True):
            if kind:
                joint = name.removeprefix("left_").removeprefix("right_").replace("_", " ")
                row = rows.setdefault(joint, {"joint": joint, "n": 0} | dict.fromkeys(KINDS, 0))
                row["n"], row[kind] = row["n"] + 1, row[kind] + 1
    return pd.DataFrame(sorted(rows.values(), key=lambda row: -row["right"] / row["n"]), columns=["joint", "n", *KINDS])


def images(people: Sequence[Person], each: int = 4) -> Output | None:
    """The chosen people, a row for the best, the middle and the worst, with the poses found; nothing without any."""
    if not people:
        return say(f"*{NOT_RUN}*: there is no trained network here, so no pose is shown.")
    from mdw.report import plots
    from mdw.report.pages.gates import tile

    groups = chosen(people, each)
    tiles = [tile(drawn(person), None, f"OKS {person.oks:.2f}") for group in groups.values() for person in group]
    rows = and_list([f"the {name}" for name in groups])
    return plots.photo(
        sheet(tiles, len(next(iter(groups.values()))), (216, 316)),
        f"Of {len(people)} people, by OKS, a row each of {rows}. Photos from COCO, CC BY and CC BY-SA, see "
        "`mdw/photos/ATTRIBUTION.md`. "
        "Images are the crops that the network sees. Blue is the person's left, orange the right; hollow: score under 0.2.",
        f"{len(tiles)} people with the skeletons found in them, from the best pose to the worst",
    )


def drawn(person: Person) -> np.ndarray:
    """A person's crop with the pose found in it, RGB uint8."""
    xy = person.in_crop(person.keypoints[:, :2])
    return overlay(person.pixels(), xy, person.joints, scores=person.keypoints[:, 2])


def in_words(people: Sequence[Person]) -> str:
    """How good the poses are, and which joints are."""
    if not people:
        return f"Poses on the bundled photos: *{NOT_RUN}*."
    values, joints = np.array([person.oks for person in people]), mistakes(people)
    share = joints["right"] / joints["n"]
    return (
        f"OKS is {values.mean():.2f} on average over {len(values)} people, {np.median(values):.2f} in the middle, from "
        f"{values.min():.2f} to {values.max():.2f}; {(values >= 0.5).sum()} reach 0.5 and {(values >= 0.75).sum()} reach 0.75. "
        f"By PCK@0.2 {100 * joints['right'].sum() / joints['n'].sum():.0f} % of {joints['n'].sum()} joints are right: most of "
        f"the {joints['joint'].iloc[0]} ({100 * share.iloc[0]:.0f} %), fewest of the {joints['joint'].iloc[-1]} "
        f"({100 * share.iloc[-1]:.0f} %)."
    )


def failures(people: Sequence[Person]) -> str:
    """What becomes of the joints that are wrong."""
    joints = mistakes(people)
    wrong = int((joints["n"] - joints["right"]).sum())
    if not wrong:
        return f"*{NOT_RUN}*." if not people else "No labelled joint is wrong."
    parts = [f"{joints[kind].sum()} lie {where}" for kind, where in zip(KINDS[1:], WHERE, strict=True)]
    return f"Of {wrong} joints that are wrong, {parts[0]}, {parts[1]} and {parts[2]}."


def provenance(people: Sequence[Person], weights: Path | None) -> Output:
    """The facts of the page."""
    if weights is None:
        return facts(data="bundled photos", network=NOT_RUN)
    from mdw.models.weights import read_about

    said = read_about(weights)
    return facts(
        network=said["model"], weights=weights.name, seeds=[said["seed"]], recipe=said["recipe"], data="bundled photos",
        boxes="annotated", flip_test=True, people=len(people),
    )  # fmt: skip


def in_short(people: Sequence[Person]) -> Output:
    """The sentence of the index."""
    if not people:
        return headline(f"Poses on the bundled photos: {NOT_RUN}.")
    values = np.array([person.oks for person in people])
    return headline(
        f"Poses on bundled photos: OKS {values.mean():.2f} on average over {len(values)} people, at worst {values.min():.2f}."
    )
