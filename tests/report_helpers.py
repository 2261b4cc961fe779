"""What the tests of the reports share: purpose-made notebooks, and training runs written by hand."""

from pathlib import Path

import numpy as np

from mdw.experiments import studies
from mdw.experiments.studies import STUDIES
from mdw.training import persons, runs
from mdw.util.files import write_json, write_text

NOTEBOOKS = Path(__file__).parent / "notebooks"
EVERYTHING, FAILS, SLEEPS, DIES, KERNEL = (
    NOTEBOOKS / f"{name}.ipynb" for name in ("80_everything", "81_fails", "82_sleeps", "83_dies", "84_kernel")
)


def write_run(root: Path, row, seed: int, value: float, recipe: str = "smoke", **env) -> Path:
    """A finished run of two epochs whose metric is `value` (as stored: AP from 0 to 1). recipe: its name, or a preset's."""
    preset = recipe if recipe in studies.PRESETS else next(key for key, name in studies.PRESETS.items() if name == recipe)
    made = studies.recipe(row, preset)
    spec = runs.make_spec(row.model, made, seed, row.options)
    path = runs.folder(spec, root)
    write_json(path / "recipe.json", spec)
    write_json(path / "env.json", {"hardware": "one core", "commit": "0123456789"} | env)
    lines = [f'{{"epoch": {epoch}, "loss": {0.1 / epoch}, "{made.metric}": {value * epoch / 2}}}\n' for epoch in (1, 2)]
    write_text(path / "metrics.jsonl", "".join(lines))
    write_json(
        path / "result.json",
        {made.metric: value, "epochs": 2, "samples": 16, "train_seconds": 30.0, "flip_test": True, "boxes": "ground truth"},
    )
    return path


def write_study(root: Path, study: str, recipe: str, values: dict[str, tuple[float, ...]], people: int = 80) -> None:
    """Finished runs of a PCK recipe with persons.csv, whose value is about that given: label -> one for each seed, in percent.

    The same persons are hard for all networks.
    """
    rng = np.random.default_rng(0)
    ids, joints, easy = np.arange(people), rng.integers(8, 15, people), rng.normal(0, 1, people)
    for row in STUDIES[study]:
        for seed, value in enumerate(values.get(row.label, ())):
            place = np.log(value / (100 - value)) + easy + np.random.default_rng(seed).normal(0, 0.2, people)
            right = np.round(joints / (1 + np.exp(-place))).astype(int)
            path = write_run(root, row, seed, float(100.0 * right.sum() / joints.sum()), recipe)
            persons.write(path, {"image": ids, "person": ids, "joints": joints, "right": right})


def table5_runs(root: Path) -> None:
    """Two seeds of three rows of Table 5 in the study on real people; the full network is far ahead."""
    values = {"Simple": (10.0, 10.2), "+ CDC": (10.1, 10.3), "CDC + GCM (full)": (30.0, 30.2)}
    for row in STUDIES["table5"]:
        for seed, value in enumerate(values.get(row.label, ())):
            write_run(root, row, seed, value, studies.ON_PEOPLE)
