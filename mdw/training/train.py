"""Training: `train` carries a run from wherever it stands to its result; the loop is in `mdw.training.loop`."""

import sys
import time
from contextlib import ExitStack
from pathlib import Path

from mdw import data
from mdw.backends.choose import choose, pick_device
from mdw.data.coco import describe
from mdw.data.lsp import mean_pose, predict_mean_pose
from mdw.inference.evaluate import refuse_pack, score
from mdw.training import checkpoint, result, runs
from mdw.training.device_batches import training_batches
from mdw.training.distributed import join
from mdw.training.loop import Loop
from mdw.training.progress import Progress
from mdw.training.recipes import Recipe
from mdw.training.state import State, deterministic
from mdw.util.errors import MdwError, OutOfTime, Stopped


def train(
    spec: dict,
    root: str | Path | None = None,
    runs_root: str | Path = "runs",
    device: str | None = None,
    quiet: bool = False,
    bar: bool = True,
    checkpoint_seconds: float = 300,
    tensorboard: bool = False,
    computation: str = "auto",
    packed: str | Path | None = None,
    stop_after: float | None = None,
) -> runs.Run:
    """Train what `spec` (from `runs.make_spec`) asks for and return its finished run; a finished one is returned at once.

    `root` is the data's folder, `device` a torch device (default: a GPU if there is one); `quiet` says nothing, `bar=False`
    leaves only the line per epoch. Under torchrun all its processes train this one run together. Every
    `checkpoint_seconds` and around each validation the run's state is saved, from which it goes on exactly, to the bit on a
    CPU; each epoch ends with a line in metrics.jsonl, and with `tensorboard` in the run's folder of that name.
    `computation`: how a new run is computed, see `mdw.backends.choose.choose`; one that goes on keeps its own.
    `packed`: a pack of the training split, read instead of its photos; no part of the question either, env.json says it.
    `stop_after`: seconds after which the run is saved and OutOfTime raised.
    Raises Stopped after Ctrl-C or SIGTERM, and MdwError for bad input, numbers that are not finite (the last good state is
    kept), a place that cannot be written and a folder that another process is writing.
    """
    begun, device = time.monotonic(), pick_device(device)
    path = runs.folder(spec, runs_root)
    if runs.Run(path).result is not None:
        checkpoint.remove(path)  # a run may be killed between its last two acts
        return runs.Run(path)
    recipe = Recipe.from_dict(spec["recipe"])
    load = {"root": root, "aspect": recipe.aspect}
    train_set = data.load(
        recipe.data, recipe.train_split, **load, **recipe.train_options | ({"packed": packed} if packed else {})
    )
    val_set = data.load(recipe.data, recipe.val_split, **load, **recipe.val_options)
    refuse_pack(val_set)  # now, not after the first epoch
    if not len(train_set) or not len(val_set):
        raise MdwError(f"{recipe.data} has an empty split ({len(train_set)} to train, {len(val_set)} to validate); see --root")

    with ExitStack() as stack:
        world = stack.enter_context(join(device))
        computation = choose(computation, world.device)
        stack.enter_context(deterministic(recipe.deterministic))
        quiet = quiet or not world.main
        for dataset in (train_set, val_set) if recipe.data == "coco" and not quiet else ():
            print(describe(dataset), file=sys.stderr)
        state = State.new(spec, train_set.joints.num_joints, world.device)
        source = training_batches(train_set, recipe, spec["seed"], world.device)
        if min(source.sizes) < world.size * recipe.accumulate:
            raise MdwError(
                f"a batch of {min(source.sizes)} persons cannot be split over {world.size} processes and {recipe.accumulate} "
                "parts; start fewer, or give a larger batch_size or drop_last=true with --set"
            )
        if world.main:
            stack.enter_context(runs.lock(path))
        board = path / "tensorboard" if tensorboard and world.main else None
        progress = Progress(path.name, recipe, sum(source.sizes), quiet, bar, board)
        loop = Loop(path, recipe, source, val_set, state, world, progress, checkpoint_seconds)
        loop.start(spec, computation, {"packed": {"compact": train_set.settings["compact"]}} if packed else None)
        if stop_after is not None:
            loop.stop_after = stop_after - (time.monotonic() - begun)
        try:
            loop.run()
        except Stopped as stopped:
            if world.main:
                raise
            sys.exit(0 if isinstance(stopped, OutOfTime) else 1)  # the first process says it for all
        if world.main:
            metrics, xy, scores = loop.outcome
            if recipe.metric == "pck":  # what knowing the box and nothing of the picture is worth
                metrics["mean_pose_pck"] = score(val_set, predict_mean_pose(val_set, mean_pose(train_set)), scores)["pck"]
            result.write(path, recipe, state, metrics, val_set, xy, scores)
        world.wait()
    return runs.Run(path)
