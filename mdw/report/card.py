"""The card of the shipped weights: `python -m mdw.report.card` writes it beside them, from their run's record."""

import hashlib
import json
from pathlib import Path

import pandas as pd

from mdw.models.weights import init_of, list_shipped, read_about
from mdw.pose.joints import joint_set
from mdw.report import statistics
from mdw.report.tables import runs_frame, seeds_of
from mdw.training import runs
from mdw.util.errors import MdwError
from mdw.util.files import write_text

DATA = """Leeds Sports Pose Extended (Johnson and Everingham, CVPR 2011): photos of parkour, gymnastics and athletics from
Flickr, one labelled person each, labels by Mechanical Turk. Its authors ask for a citation and state no licence for the
photos: take these weights as for research only. The photos are not in this repository."""
LABELS = "Labels cap the figure: where one photo was labelled twice, the two agree at PCK@0.2 of about 76 %."


def card_path(weights: Path) -> Path:
    """Where the card of `weights` belongs."""
    return weights.with_suffix(".md")


def record_of(weights: Path, root: str | Path = "runs") -> runs.Run:
    """The finished run below `root` that `weights` came from, by what they say of themselves.

    Raises MdwError where there is none, or several: a card must not guess.
    """
    said = read_about(weights)

    def asked(run: runs.Run) -> dict:
        recipe = run.spec["recipe"]
        return {
            "model": run.spec["model"],
            "options": run.spec["options"],
            "input_size": recipe["input_size"],
            "recipe": recipe["name"],
            "seed": run.spec["seed"],
        } | init_of(recipe)

    wanted = {name: value for name, value in said.items() if name != "joints"}
    found = [run for run in runs.find(root) if run.status == "finished" and asked(run) == wanted]
    if len(found) != 1:
        raise MdwError(f"{root} holds {len(found)} finished runs that {weights.name} may have come from; commit the one record")
    return found[0]


def card(weights: Path, run: runs.Run) -> str:
    """The card as Markdown: what `weights` are, data and terms, recipe, accuracy, limits. Figures are of `run`'s record.

    Raises MdwError where they were trained on something else than LSPET, of which it speaks.
    """
    spec, result, recipe = run.spec, run.result, run.spec["recipe"]
    joints = joint_set(read_about(weights)["joints"])
    if recipe["data"] != "lspet":
        raise MdwError(f"the card speaks of LSPET and {weights.name} was trained on {recipe['data']}; mend mdw/report/card.py")
    width, height = recipe["input_size"]
    pck = f"{result['pck']:.1f}"
    wrong = f"{100 - result['pck']:.0f}"
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    minutes = f"{result['train_seconds'] / 60:.0f}"
    flip = f"{'with' if result['flip_test'] else 'without'} flip test"
    flip += f" and a Gaussian filter of width {result['blur']}" if result.get("blur") else ""
    options = ", ".join(f"{name}={value}" for name, value in spec["options"].items()) or "none, the defaults"
    fields = {name: value for name, value in recipe.items() if name not in ("name", "augmentation")}
    groups = "\n".join(f"| {name} | {value:.1f} |" for name, value in result.get("groups", {}).items())
    each = "\n".join(
        f"| {place} | {name} | {value:.1f} | {count} |"
        for place, (name, value, count) in enumerate(
            zip(joints.names, result["per_joint"], result["joint_counts"], strict=True)
        )
    )
    return f"""# {weights.stem}

Made by `python -m mdw.report.card` from `runs/{run.path.name}`; do not edit.

| | |
|---|---|
| network | {spec["model"]}, {result["params"]:,} parameters; options: {options} |
| input, output | RGB crop of one person, {width}x{height} (width x height); a heat map for each of {len(joints.names)} joints |
| file | `{weights.name}`, safetensors, {weights.stat().st_size:,} bytes, SHA-256 `{digest}` |
| made | {result["finished"][:10]}, commit {run.env["commit"]}, {run.env["hardware"]}, {minutes} minutes |

## Joints
The {len(joints.names)} joints of {joints.name}, in this order; left and right are the person's own:
{", ".join(f"{place} {name.replace('_', ' ')}" for place, name in enumerate(joints.names))}.

## Data and terms
{DATA} Trained on the split *{recipe["train_split"]}*, measured on *{recipe["val_split"]}*, which training never saw. The
code that made the weights is under the MIT licence.

## Recipe
`{recipe["name"]}`, seed {spec["seed"]}, from nothing: {result["epochs"]} epochs, {result["samples"]:,} samples.

{_settings(fields)}

Augmentation: {", ".join(f"{name} {value}" for name, value in recipe["augmentation"].items())}.

## Accuracy
**PCK@0.2 {pck}** on {result["val_persons"]:,} persons, {result["boxes"]} boxes, {flip}; {result["images_used"]:,} of
them have the torso that the measure needs, {result["joints_used"]:,} joints in all. {_seeds(run)} {LABELS}

| part | PCK@0.2 |
|---|---|
{groups}

| | joint | PCK@0.2 | labelled |
|---|---|---|---|
{each}

## Limits
- Of 100 joints {wrong} are further off than a fifth of the torso: look at the overlay before you use a pose for anything.
- One person in each box. Two people in one box give a mixture; a box that cuts limbs off or is much too large, a worse pose.
- Every joint is given a place, seen or not; a hidden one's is a guess. Scores are heights of heat maps, not probabilities.
- It has learnt from photos of sport. How accuracy differs between other scenes, or between groups of people, has not been
  measured.
- It says where joints are, not who somebody is or what he does. Use it for nothing on which safety, health or rights depend.
"""


def _seeds(run: runs.Run) -> str:
    """How sure the figure is, and that a network taken for its figure is flattered by it."""
    found = seeds_of(run)
    noise = statistics.pooled(_alike(run))
    known = statistics.intervals(runs_frame(found), noise).iloc[0]
    over = f"95 % interval over seeds {known['low']:.1f} to {known['high']:.1f}, by a variance that is pooled over the study's"
    over += f" networks ({noise.freedom} degree{'s' if noise.freedom > 1 else ''} of freedom)"
    if len(found) == 1:
        return f"One seed; {over}." if noise.freedom else "One seed, so no interval."
    values = ", ".join(f"seed {one.spec['seed']} {one.result['pck']:.1f}" for one in found)
    # an ablation ships for its figures alone
    chosen = (
        " It was chosen among the study's networks by its figures, which flatters them a little." if run.spec["options"] else ""
    )
    return (
        f"These weights are seed {run.spec['seed']}'s of {len(found)} trainings that differ in nothing else ({values}); their "
        f"mean is {known['mean']:.1f}, its {over}.{chosen}"
    )


def _alike(run: runs.Run) -> pd.DataFrame:
    """The finished runs beside `run` under its recipe's name, a label for each question, for `statistics.pooled`."""
    name = run.spec["recipe"]["name"]
    found = [one for one in runs.find(run.path.parent) if one.result is not None and one.spec["recipe"]["name"] == name]
    return runs_frame(found, [json.dumps(one.spec | {"seed": None}, sort_keys=True) for one in found])


def _settings(fields: dict) -> str:
    rows = "\n".join(f"| {name} | {value} |" for name, value in fields.items())
    return f"| setting | value |\n|---|---|\n{rows}"


def main() -> None:
    """Write the card of every weights file that comes with the package."""
    for weights in list_shipped().values():
        print(write_text(card_path(weights), card(weights, record_of(weights))))


if __name__ == "__main__":
    main()
