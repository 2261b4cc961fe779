"""Writes the results of a finished run: weights, predictions, metrics."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from mdw.data.lsp import mean_pose, predict_mean_pose
from mdw.data.sample import Dataset
from mdw.inference.evaluate import score
from mdw.models.weights import about, save_weights
from mdw.training import checkpoint, persons, runs
from mdw.training.recipes import Recipe
from mdw.training.state import State
from mdw.training.validation import Outcome
from mdw.util.files import write_json


def write(path: Path, recipe: Recipe, state: State, outcome: Outcome, train_set: Dataset, val_set: Dataset) -> None:
    """Write the run's results into its folder, result.json last (it marks the run as finished), and remove the checkpoints.

    outcome: metrics, xy (N, J, 2) and scores (N, J) of the last validation, on `val_set`. With PCK there is also the PCK of the
    mean pose of `train_set`, which depends on the box and not on the image.
    """
    metrics, xy, scores = outcome
    if recipe.metric == "pck":
        metrics["mean_pose_pck"] = score(val_set, predict_mean_pose(val_set, mean_pose(train_set)), scores)["pck"]
    save_weights(path / "weights.safetensors", state.result, about(runs.Run(path).spec, val_set.joints.key))
    write_json(
        path / "predictions.json",
        {
            "person_id": [s.person_id for s in val_set.samples],
            "xy": np.round(xy.astype(float), 2).tolist(),
            "score": np.round(scores.astype(float), 4).tolist(),
        },
        indent=None,
    )
    persons.write(path, persons.measure(val_set, xy, recipe.metric))
    write_json(
        path / "result.json",
        metrics
        | {
            "metric": recipe.metric,
            "epochs": recipe.epochs,
            "samples": sum(line["samples"] for line in state.lines),
            "train_seconds": round(sum(line["seconds"] for line in state.lines), 1),
            "params": sum(p.numel() for p in state.model.parameters()),
            "flip_test": recipe.flip_test,
            "blur": recipe.blur,
            "boxes": "ground truth",
            "val_persons": len(val_set),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        },
    )
    checkpoint.remove(path)
