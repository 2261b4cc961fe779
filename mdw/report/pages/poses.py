"""Images with the poses that a trained network finds in them, for the reports that show some."""

from pathlib import Path

import numpy as np
import pandas as pd

from mdw.data import load
from mdw.data.photos import photo_paths
from mdw.data.sample import read_image
from mdw.inference.draw import overlay, sheet
from mdw.report.names import data_of
from mdw.report.outputs import NOT_RUN, Output, say
from mdw.report.pages.table_page import curves
from mdw.report.plots import photo
from mdw.report.runs import best_run, metric_of
from mdw.report.stats import intervals
from mdw.util.errors import MdwError
from mdw.util.files import read_json
from mdw.util.typed import check_fields
from mdw.util.words import count as number_of


def weights(runs: str | Path, model: str = "mdw_hrnet_18") -> Path | None:
    """The weights to show on photos: those that come with the package (real people), else the best run's, else None."""
    from mdw.models.weights import shipped

    try:
        return shipped()
    except MdwError:
        run = best_run(runs, model)
        return None if run is None else run.weights


def own_weights(study: pd.DataFrame) -> Path | None:
    """The weights of the first finished run in `study` that kept them: the network this preset trained; None without one."""
    for path in study.loc[study["status"] == "finished", "path"]:
        if (Path(path) / "weights.safetensors").exists():
            return Path(path) / "weights.safetensors"
    return None


def photos(path: Path | None, most: int = 8, columns: int = 4) -> Output | None:
    """Bundled photos with the poses that `path`'s network finds, those with the largest people first; nothing without one."""
    if path is None:
        return say("")
    boxes = _clear_people()
    files = {file.name: file for file in photo_paths()}
    names = sorted(boxes, key=lambda name: -max(width * height for _, _, width, height in boxes[name]))[:most]
    drawn = [_drawn(read_image(files[name]), path, boxes[name]) for name in names]
    people = sum(len(boxes[name]) for name in names)
    return _sheet(
        drawn,
        columns,
        (320, 320),
        f"{people} persons in {len(drawn)} bundled photos (COCO, CC BY and CC BY-SA; see `mdw/photos/ATTRIBUTION.md`): "
        "everybody with ten or more labelled joints, in the annotated box. Blue is the person's left, orange the right.",
    )


def _clear_people() -> dict[str, list]:
    """Boxes by file name of the bundled photos' people who have ten or more labelled joints."""
    truth = check_fields("person_keypoints.json", read_json(photo_paths()[0].parent / "person_keypoints.json"), {})
    names = {image["id"]: image["file_name"] for image in truth["images"]}
    boxes: dict[str, list] = {}
    for person in truth["annotations"]:
        if person["num_keypoints"] >= 10 and not person["iscrowd"]:
            boxes.setdefault(names[person["image_id"]], []).append(person["bbox"])
    return boxes


def drawn_people(path: Path | None, count: int = 8, columns: int = 8) -> Output | None:
    """Synthetic people with the poses that `path`'s network finds, each image one person's box; nothing without one."""
    if path is None:
        return say("")
    people = load("people", "val", count=count)
    drawn = [_drawn(person.pixels(), path, None) for person in people.samples]
    return _sheet(drawn, columns, (150, 200), f"{len(drawn)} synthetic people, and what the network finds.")


def training_samples(count: int = 4, augmented: int = 6, data: str = "people", recipe: str = "lspet") -> Output:
    """Synthetic people (or `photos`) as `recipe` would train on them: crop and joints, target heatmaps, augmented versions."""
    from mdw.training import recipes
    from mdw.training.samples import sample_sheet

    chosen = recipes.get(recipe)
    people = load(data, "all" if data == "photos" else "train", aspect=chosen.aspect)
    return photo(
        sample_sheet(people, chosen, count, augmented),
        f"{count} persons as training sees them: the crop with its labelled joints, the target heatmaps (the highest of all "
        f"joints) over it, and {augmented} augmented versions under the recipe *{recipe}*. Blue is the person's left.",
        f"A sheet of {count} persons: joints, heatmaps, and turned, scaled and mirrored crops",
    )


def about(path: Path | None) -> Output | None:
    """A sentence on which weights were shown, or that there are none."""
    if path is None:
        return say(f"*{NOT_RUN}*: there is no trained network here, so no pose is shown. `mdw reproduce 00` trains one.")
    from mdw.models.weights import read_about
    from mdw.pose.joints import joint_set

    said = read_about(path)
    return say(
        f"The network is `{said['model']}` with the joints of {joint_set(said['joints']).name}, trained by the recipe "
        f"*{said['recipe']}* (seed {said['seed']})."
    )


def in_short(study: pd.DataFrame, preset: str) -> str:
    """The finding for the head of the page: what the preset's own training reached."""
    row, metric = intervals(study).iloc[0], metric_of(study)
    if not row["n"]:
        return f"{row['label']}: {NOT_RUN} under the preset *{preset}*; the poses below are those of the shipped weights."
    spread = "" if pd.isna(row["std"]) else f" ± {row['std']:.1f}"
    where = f"on {data_of(study['data'].iloc[0])}, preset *{preset}* ({number_of(row['n'], 'seed')})"
    return f"{row['label']}: {metric} {row['mean']:.1f}{spread} % {where}."


def learning(study: pd.DataFrame) -> Output | None:
    """The learning curve of what this preset trained, as a figure; nothing before it is."""
    return curves(study, metric_of(study), data_of(study["data"].iloc[0]))


def _drawn(image: np.ndarray, path: Path, boxes: list | None) -> np.ndarray:
    import mdw
    from mdw.pose.joints import JOINT_SETS

    people = mdw.predict(image, weights=path, boxes=boxes)
    if not people:
        return image
    joints = next(joints for joints in JOINT_SETS.values() if tuple(joints.names) == tuple(people[0]["joints"]))
    return overlay(image, np.stack([person["keypoints"] for person in people]), joints)


def _sheet(images: list[np.ndarray], columns: int, size: tuple[int, int], caption: str) -> Output:
    alt = f"A sheet of {len(images)} images with skeletons drawn over the people in them"
    return photo(sheet(images, columns, size), caption, alt)
