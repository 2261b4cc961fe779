"""One training loop. `train` carries a run from wherever it stands to its result; two hops to `loss.backward()`."""

import json
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor, nn
from tqdm import tqdm

from mdw import data, runs
from mdw.batches import TrainingBatches
from mdw.data.coco import describe
from mdw.data.lsp import mean_pose, predict_mean_pose
from mdw.data.sample import Dataset
from mdw.device_batches import training_batches
from mdw.errors import MdwError
from mdw.evaluate import predict_dataset, refuse_pack, score
from mdw.files import write_bytes, write_json, write_text
from mdw.models import create_model
from mdw.models.dynamic_conv import set_temperature
from mdw.recipes import Recipe, learning_rate
from mdw.weights import about, read_tensors, save_weights


def heatmap_loss(output: Tensor, target: Tensor, weight: Tensor, factor: float = 0.5) -> Tensor:
    """factor * mean over batch, joints and pixels of (w (P - T))^2 (HRNet's JointsMSELoss; mmpose has factor 1).

    output, target (N, J, h, w); weight (N, J), 0 where a joint is not labelled. The mean is over all of them, not over the
    labelled ones. Returns a scalar, in float32 whatever the precision of `output`.
    """
    return factor * (weight[:, :, None, None] * (output.float() - target)).square().mean()


def train(
    spec: dict,
    root: str | Path | None = None,
    runs_root: str | Path = "runs",
    device: str | None = None,
    quiet: bool = False,
    bar: bool = True,
) -> runs.Run:
    """Train what `spec` (from `runs.make_spec`) asks for and return its finished run; a finished one is returned at once.

    `root` is the data's folder, `device` a torch device (default: a GPU if there is one); `quiet` says nothing, `bar=False`
    leaves only the line per epoch. Each epoch ends with a line in metrics.jsonl and a checkpoint, from which an interrupted
    run goes on. Raises MdwError for bad input, a loss that is not
    finite (the last good checkpoint stays) and a folder that another process is writing.
    """
    path = runs.folder(spec, runs_root)
    run = runs.Run(path)
    if run.result is not None:
        return run
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    recipe = Recipe.from_dict(spec["recipe"])
    load = {"root": root, "aspect": recipe.aspect}
    train_set = data.load(recipe.data, recipe.train_split, **load, **recipe.train_options)
    val_set = data.load(recipe.data, recipe.val_split, **load, **recipe.val_options)
    refuse_pack(val_set)  # now, not after the first epoch
    for dataset in (train_set, val_set) if recipe.data == "coco" and not quiet else ():
        print(describe(dataset), file=sys.stderr)
    if not len(train_set) or not len(val_set):
        raise MdwError(f"{recipe.data} has an empty split ({len(train_set)} to train, {len(val_set)} to validate); see --root")

    torch.manual_seed(spec["seed"])
    model = create_model(spec["model"], train_set.joints.num_joints, **spec["options"]).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay, fused=True)
    source = training_batches(train_set, recipe, spec["seed"], device)
    with runs.lock(path):
        begin, lines = _start(path, spec, model, optimizer, device)
        for epoch in range(begin, recipe.epochs):
            line = _train_epoch(model, optimizer, source, epoch, device, bar and not quiet)
            set_temperature(model, recipe.epochs, annealing_epochs(recipe.epochs))  # validated as it will be used
            last = epoch + 1 == recipe.epochs
            if last or (epoch + 1) % recipe.eval_every == 0:
                xy, scores = predict_dataset(model, val_set, recipe.input_size, recipe.flip_test, device=device)
                metrics = score(val_set, xy, scores)
                line[recipe.metric] = metrics[recipe.metric]
            lines.append(line)
            write_text(path / "metrics.jsonl", "".join(json.dumps(entry) + "\n" for entry in lines))
            _save(path / "checkpoint.safetensors", model, optimizer, epoch + 1)
            if not quiet:
                print(f"{path.name}: {_describe(line, recipe)}", file=sys.stderr)
        if recipe.metric == "pck":  # what knowing the box and nothing of the picture is worth
            metrics["mean_pose_pck"] = score(val_set, predict_mean_pose(val_set, mean_pose(train_set)), scores)["pck"]
        _finish(path, model, recipe, lines, metrics, val_set, (xy, scores))
    return runs.Run(path)


def annealing_epochs(epochs: int) -> float:
    """How long the softmax attentions of dynamic convolutions are annealed: 10 epochs, at most the first half of a run.

    Ten is Chen et al.'s; the half is our choice, so that a run of few epochs also trains at the temperature 1 it is used at.
    """
    return min(10.0, epochs / 2)


def _train_epoch(model: nn.Module, optimizer, source: TrainingBatches, epoch: int, device: str, bar: bool) -> dict:
    model.train()
    recipe, steps = source.recipe, len(source)
    total, seen, begun = 0.0, 0, time.perf_counter()
    # a bar on a terminal, nothing in a log: there the line per epoch has to do
    shown = tqdm(source.epoch(epoch), f"epoch {epoch + 1}/{recipe.epochs}", steps, disable=None if bar else True, leave=False)
    for step, batch in enumerate(shown):
        crops, targets, weights = (part.to(device, non_blocking=True) for part in batch)
        rate = learning_rate(recipe, epoch, epoch * steps + step)
        set_temperature(model, epoch + step / steps, annealing_epochs(recipe.epochs))
        for group in optimizer.param_groups:
            group["lr"] = rate
        loss = heatmap_loss(model(crops), targets, weights, recipe.loss_factor)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        value = loss.item()
        if not np.isfinite(value):
            raise MdwError(
                f"the loss is {value} in epoch {epoch + 1}, step {step + 1} (rate {rate:g}); lower the learning rate with "
                "--set lr=..., the checkpoint of the epoch before is kept"
            )
        optimizer.step()
        total, seen = total + value * len(crops), seen + len(crops)
        shown.set_postfix(loss=f"{total / seen:.6f}")
    seconds = time.perf_counter() - begun
    return {
        "epoch": epoch + 1,
        "loss": total / seen,
        "lr": rate,
        "samples": seen,
        "seconds": round(seconds, 2),
        "images_per_s": round(seen / seconds, 2),
    }


def _start(path: Path, spec: dict, model: nn.Module, optimizer, device: str) -> tuple[int, list[dict]]:
    """The epoch to go on with and the lines so far; a new folder gets its recipe and environment."""
    checkpoint = path / "checkpoint.safetensors"
    if checkpoint.exists():
        begin = _restore(checkpoint, model, optimizer)
        return begin, [line for line in runs.Run(path).metrics() if line["epoch"] <= begin]
    write_json(path / "recipe.json", spec)
    write_json(path / "env.json", runs.environment(device))
    return 0, []


def _finish(path: Path, model: nn.Module, recipe: Recipe, lines: list[dict], metrics: dict, val_set: Dataset, found) -> None:
    xy, scores = found
    save_weights(path / "weights.safetensors", model, about(runs.Run(path).spec, val_set.joints.key))
    write_json(
        path / "predictions.json",
        {
            "person_id": [s.person_id for s in val_set.samples],
            "xy": np.round(xy.astype(float), 2).tolist(),
            "score": np.round(scores.astype(float), 4).tolist(),
        },
        indent=None,
    )
    write_json(
        path / "result.json",
        metrics
        | {
            "metric": recipe.metric,
            "epochs": recipe.epochs,
            "samples": sum(line["samples"] for line in lines),
            "train_seconds": round(sum(line["seconds"] for line in lines), 1),
            "params": sum(p.numel() for p in model.parameters()),
            "flip_test": recipe.flip_test,
            "boxes": "ground truth",
            "val_persons": len(val_set),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        },
    )
    (path / "checkpoint.safetensors").unlink(missing_ok=True)


def _save(path: Path, model: nn.Module, optimizer, epoch: int) -> None:
    """Model, Adam's state and torch's random state after `epoch` epochs in one file, so they cannot come apart."""
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": torch.as_tensor(value) for name, value in state.items()}
    tensors["random"] = torch.get_rng_state()
    tensors = {name: value.detach().contiguous().cpu() for name, value in tensors.items()}
    write_bytes(path, save(tensors, {"epoch": str(epoch)}))


def _restore(path: Path, model: nn.Module, optimizer) -> int:
    tensors, metadata = read_tensors(path)
    model.load_state_dict({name[6:]: value for name, value in tensors.items() if name.startswith("model.")})
    state: dict[int, dict] = {}
    for name, value in tensors.items():
        if name.startswith("optimizer."):
            _, index, key = name.split(".")
            state.setdefault(int(index), {})[key] = value
    optimizer.load_state_dict(optimizer.state_dict() | {"state": state})
    torch.set_rng_state(tensors["random"])
    return int(metadata["epoch"])


def _describe(line: dict, recipe: Recipe) -> str:
    metric = f"  {recipe.metric} {line[recipe.metric]:.4g}" if recipe.metric in line else ""
    return f"epoch {line['epoch']:3d}/{recipe.epochs}  loss {line['loss']:.6f}  {line['images_per_s']:.1f} images/s{metric}"
