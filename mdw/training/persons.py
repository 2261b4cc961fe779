"""Results person by person: persons.csv in a run's folder, so that reports compare networks on the same people.

It has one line for each validation person with a joint that counts, in the data set's order:
image, person   the data set's ids; persons of one image are resampled together when intervals are computed
joints          how many joints count
right           how many of them are right: PCK@0.2 or PCKh@0.5, whose value in result.json is 100 * sum(right) / sum(joints)
oks             in place of `right` where the metric is AP, which is no mean over persons and does not follow from this file:
                COCO's similarity of the pose to the person's own annotation, four digits
"""

import csv
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np

from mdw import data
from mdw.data import mpii
from mdw.data.sample import Dataset
from mdw.pose.metrics import pck_hits
from mdw.pose.oks import oks_with_truth
from mdw.training.recipes import Recipe
from mdw.training.runs import Run
from mdw.util.errors import MdwError
from mdw.util.files import read_json, read_text, write_text
from mdw.util.typed import check_fields

NAME = "persons.csv"


def measure(dataset: Dataset, xy: np.ndarray, metric: str) -> dict[str, np.ndarray]:
    """Returns the columns of persons.csv, (n,) each, for predictions xy (N, J, 2) in image pixels.

    metric: the recipe's. Persons without a joint that counts are left out, and so is every detector box, which has no
    annotations. Errors as in `mdw.inference.evaluate.score`.
    """
    people = list(dataset.samples)
    truth, visible = np.stack([s.joints for s in people]), np.stack([s.visible for s in people])
    if metric == "AP":
        joints, name = (visible > 0).sum(axis=1), "oks"
        value = oks_with_truth(xy, truth, visible, [s.area for s in people], dataset.joints.sigmas)
    else:
        hits = mpii.hits(dataset, xy) if metric == "pckh" else pck_hits(xy, truth, visible, joints=dataset.joints)[:2]
        value, joints = (mask.sum(axis=1) for mask in hits)
        name = "right"
    ids = {"image": [s.image_id for s in people], "person": [s.person_id for s in people]}
    return {key: np.asarray(column)[joints > 0] for key, column in (ids | {"joints": joints, name: value}).items()}


def write(path: Path, persons: dict[str, np.ndarray]) -> None:
    """Write `measure`'s columns into the run's folder `path`; no file where no person counts."""
    if not len(persons["person"]):
        return
    columns = [[f"{x:.4f}" for x in column] if name == "oks" else column.tolist() for name, column in persons.items()]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([list(persons), *zip(*columns, strict=True)])
    write_text(path / NAME, text.getvalue())


def read(run: Run) -> dict[str, np.ndarray] | None:
    """Returns the columns of a finished run's persons.csv, (n,) each; None for a run without one.

    Raises MdwError, naming the file, where it is damaged or does not add up to the run's result.
    """
    file = run.path / NAME
    if run.result is None or not file.exists():
        return None
    metric = run.spec["recipe"]["metric"]
    numbers = {"image": int, "person": int, "joints": int} | ({"oks": float} if metric == "AP" else {"right": int})
    try:
        header, *rows = csv.reader(read_text(file).splitlines())
        if header != list(numbers):
            raise ValueError("the columns are not " + ", ".join(numbers))
        columns = zip(*rows, strict=True)
        persons = {name: np.array(list(map(numbers[name], column))) for name, column in zip(header, columns, strict=True)}
    except (OSError, ValueError) as error:
        raise MdwError(f"{file} is damaged ({error}); delete it, and write it again with `mdw persons`") from None
    if not adds_up(persons, run):
        raise MdwError(f"{file} does not add up to the run's result.json; delete it, and write it again with `mdw persons`")
    return persons


def adds_up(persons: dict[str, np.ndarray], run: Run) -> bool:
    """Returns whether the persons give the run's recorded value, to the last digit; OKS cannot be checked and gives True."""
    if "oks" in persons:
        return True
    recorded = run.outcome[run.spec["recipe"]["metric"]]
    return bool(persons["joints"].sum()) and 100.0 * persons["right"].sum() / persons["joints"].sum() == recorded


def add(
    run: Run,
    root: str | Path | None = None,
    weights: str | Path | None = None,
    backend: str = "auto",
    progress: Callable = iter,
) -> Path:
    """Write persons.csv for a finished run that has none, and return its path. `root` is the data's folder.

    Its predictions.json is tried first; it is rounded to hundredths of a pixel, so a joint may be on the other side of the
    threshold. Then its weights predict again (`weights`: a file, where the run's folder has none), by `backend` (see
    `mdw.backends.choose`). Raises MdwError where neither gives the recorded value, to the last digit.
    """
    if run.result is None:
        raise MdwError(f"{run.path} is not a finished run; only its result can be split by persons")
    recipe = Recipe.from_dict(run.spec["recipe"])
    dataset = data.load(recipe.data, recipe.val_split, root, recipe.aspect, **recipe.val_options)
    for predict in (
        lambda: _recorded_joints(run, dataset),
        lambda: _predicted_joints(run, recipe, dataset, weights, backend, progress),
    ):
        xy = predict()
        persons = None if xy is None else measure(dataset, xy, recipe.metric)
        if persons is not None and adds_up(persons, run):
            write(run.path, persons)
            return run.path / NAME
    raise MdwError(
        f"neither predictions nor weights of {run.path} give its recorded {recipe.metric}; check --root, or give --weights "
        "or --backend reference"
    )


def _recorded_joints(run: Run, dataset: Dataset) -> np.ndarray | None:
    file = run.path / "predictions.json"
    if not file.exists():
        return None
    predictions = check_fields(str(file), read_json(file), {"person_id": tuple, "xy": tuple}, ("person_id", "xy"))
    if predictions["person_id"] != [s.person_id for s in dataset.samples]:
        raise MdwError(f"{file} is about other persons than {dataset.name}; give the --root that the run was validated on")
    return np.array(predictions["xy"])


def _predicted_joints(
    run: Run, recipe: Recipe, dataset: Dataset, weights: str | Path | None, backend: str, progress: Callable
) -> np.ndarray | None:
    from mdw.backends.choose import choose, for_use
    from mdw.inference.evaluate import predict_dataset
    from mdw.models.weights import load_network, read_about, weights_file

    weights = weights or run.weights
    if weights is None:
        return None
    about = read_about(weights_file(weights))
    if any(about.get(name) != run.spec[name] for name in ("model", "options", "seed")):
        raise MdwError(f"{weights} are not the weights of {run.path}; give those that this run ended with")
    model = for_use(load_network(weights)[0], choose(backend, "cpu", training=False), recipe.input_size)
    return predict_dataset(model, dataset, recipe.input_size, recipe.flip_test, progress=progress, blur=recipe.blur)[0]
