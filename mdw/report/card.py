"""The card of the shipped weights: `python -m mdw.report.card` writes it beside them, from their run's record."""

import hashlib
import json
from pathlib import Path

import pandas as pd

from mdw.models.weights import init_of, list_shipped, read_about
from mdw.pose.joints import joint_set
from mdw.report import stats, words
from mdw.report.runs import runs_frame, seeds_of
from mdw.training import runs
from mdw.util.errors import MdwError
from mdw.util.files import write_text


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
    spec, result, recipe = run.spec, run.outcome, run.spec["recipe"]
    joints = joint_set(read_about(weights)["joints"])
    if recipe["data"] != "lspet":
        raise MdwError(f"the card speaks of LSPET and {weights.name} was trained on {recipe['data']}; mend mdw/report/card.py")
    each = zip(joints.names, result["per_joint"], result["joint_counts"], strict=True)
    told = {"name": weights.stem, "file": weights.name, "bytes": weights.stat().st_size, "run": run.path.name}
    told |= {"digest": hashlib.sha256(weights.read_bytes()).hexdigest(), "env": run.env, "seeds": _seeds(run)}
    fields = {name: value for name, value in recipe.items() if name not in ("name", "augmentation")}
    told |= {"spec": spec, "result": result, "recipe": recipe, "joints": joints, "each": list(each), "fields": fields}
    return words.document("card", **told)


def _seeds(run: runs.Run) -> str:
    """How sure the figure is, and that a network taken for its figure is flattered by it."""
    found = seeds_of(run)
    noise = stats.pooled(_alike(run))
    known = stats.intervals(runs_frame(found), noise).iloc[0]
    over = f"95 % interval over seeds {known['low']:.1f} to {known['high']:.1f}, by a variance that is pooled over the study's"
    over += f" networks ({noise.freedom} degree{'s' if noise.freedom > 1 else ''} of freedom)"
    if len(found) == 1:
        return f"One seed; {over}." if noise.freedom else "One seed, so no interval."
    values = ", ".join(f"seed {one.spec['seed']} {one.outcome['pck']:.1f}" for one in found)
    # an ablation ships for its figures alone
    chosen = (
        " It was chosen among the study's networks by its figures, which flatters them a little." if run.spec["options"] else ""
    )
    return (
        f"These weights are seed {run.spec['seed']}'s of {len(found)} trainings that differ in nothing else ({values}); their "
        f"mean is {known['mean']:.1f}, its {over}.{chosen}"
    )


def _alike(run: runs.Run) -> pd.DataFrame:
    """The finished runs beside `run` under its recipe's name, a label for each question, for `stats.pooled`."""
    name = run.spec["recipe"]["name"]
    found = [one for one in runs.find(run.path.parent) if one.result is not None and one.spec["recipe"]["name"] == name]
    return runs_frame(found, [json.dumps(one.spec | {"seed": None}, sort_keys=True) for one in found])


def main() -> None:
    """Write the card of every weights file that comes with the package."""
    for weights in list_shipped().values():
        print(write_text(card_path(weights), card(weights, record_of(weights))))


if __name__ == "__main__":
    main()
