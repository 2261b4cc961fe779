"""`train` prepares a run and passes it to `mdw.training.loop`, which computes each step by `mdw.training.step`."""

import sys
import time
from contextlib import ExitStack
from pathlib import Path

from mdw import data
from mdw.backends.choose import choose, gradients, pick_device, switch
from mdw.data.coco import describe
from mdw.data.packed import Packed
from mdw.data.sample import Dataset
from mdw.inference.evaluate import refuse_pack
from mdw.training import checkpoint, fingerprint, result, runs
from mdw.training.batches import check_sizes
from mdw.training.device_batches import training_batches
from mdw.training.distributed import World, join
from mdw.training.folder import hold
from mdw.training.loop import Loop
from mdw.training.progress import Progress
from mdw.training.recipes import Recipe
from mdw.training.resume import resume
from mdw.training.state import State, deterministic
from mdw.training.step import Backward
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
    backend: str = "auto",
    packed: str | Path | None = None,
    stop_after: float | None = None,
    title: str | None = None,
) -> runs.Run:
    """Train the run of `spec` (from `runs.make_spec`) and return it when finished; a finished run is returned at once.

    `root`: the data's folder. `device`: a torch device (default: a GPU if there is one). `quiet`: no messages; `bar=False`:
    only the line per epoch. Under torchrun all its processes train this one run together. The state is saved every
    `checkpoint_seconds` and around each validation; a run resumes from it exactly, to the bit on a CPU. Each epoch ends with a
    line in metrics.jsonl and, with `tensorboard`, in the run's folder of that name. `backend`: of a new run, see
    `mdw.backends.choose.choose`; a resumed run keeps its own. `packed`: a pack of the training split, read instead of its
    images. Neither changes the run's identity; env.json records both. `stop_after`: seconds after which the run is saved and
    OutOfTime raised. `title`: the run's name in messages (default: its folder's). Raises Stopped after Ctrl-C, SIGTERM or
    SIGHUP, and MdwError for bad input, for a run that was trained on other data than those at `root`, for numbers that are not
    finite (the last good state stays), for a folder that cannot be written or that another process is writing.
    """
    start, device = time.monotonic(), pick_device(device)
    recipe, run = Recipe.from_dict(spec["recipe"]), runs.Run(runs.folder(spec, runs_root))
    data.check_place(recipe.data, root)
    finished = run.result is not None
    if finished:
        checkpoint.remove(run.path)  # a run may have been killed after writing its result
        if root is None or "data" not in run.env:
            if root is not None and not quiet:
                print(f"{run.path.name}: what data it was trained on was not recorded; --root is not checked", file=sys.stderr)
            return run
    train_set, val_set = load_splits(recipe, root, packed)
    data_of_run = fingerprint.fingerprint(train_set, val_set)
    if finished or checkpoint.exists(run.path):
        fingerprint.check(run, data_of_run, root)
    if finished:
        return run

    with ExitStack() as stack:
        world = stack.enter_context(join(device))
        backend = choose(backend, world.device)
        stack.enter_context(deterministic(recipe.deterministic))
        quiet = quiet or not world.main
        for dataset in (train_set, val_set) if recipe.data == "coco" and not quiet else ():
            print(describe(dataset), file=sys.stderr)
        state = State.new(spec, train_set.joints.num_joints, world.device)
        batches = training_batches(train_set, recipe, spec["seed"], world.device)
        check_sizes(batches.sizes, recipe, world.size, state.model, spec["model"])
        folder = stack.enter_context(hold(run.path)) if world.main else None
        board = run.path / "tensorboard" if tensorboard and world.main else None
        progress = Progress(title or run.path.name, recipe, sum(batches.sizes), quiet, bar, board)
        about = {"computation": backend, "data": data_of_run}
        about |= {"packed": {"compact": train_set.settings["compact"]}} if isinstance(train_set, Packed) else {}
        started_backend = resume(folder, spec, state, len(batches.sizes), world, about, progress.say)
        loop = Loop(recipe, state, batches, val_set, folder, world, progress, checkpoint_seconds)
        loop.faster = _faster(state, recipe, started_backend, world, run)
        if stop_after is not None:
            loop.stop_after = stop_after - (time.monotonic() - start)
        try:
            loop.run()
        except Stopped as stopped:
            if world.main:
                raise
            sys.exit(0 if isinstance(stopped, OutOfTime) else 1)  # only the first process reports it
        if folder is not None:
            folder.check()
            result.write(run.path, recipe, state, loop.outcome, train_set, val_set)
        world.wait()
    return runs.Run(run.path)


def load_splits(recipe: Recipe, root: str | Path | None, packed: str | Path | None = None) -> tuple[Dataset, Dataset]:
    """Returns the training and the validation split of a recipe; `packed`: a pack of the first. MdwError for an empty one."""
    train_options = recipe.train_options | ({"packed": packed} if packed else {})
    train_set = data.load(recipe.data, recipe.train_split, root, recipe.aspect, **train_options)
    val_set = data.load(recipe.data, recipe.val_split, root, recipe.aspect, **recipe.val_options)
    refuse_pack(val_set)  # now, not after the first epoch
    if not len(train_set) or not len(val_set):
        raise MdwError(f"{recipe.data} has an empty split ({len(train_set)} to train, {len(val_set)} to validate); see --root")
    return train_set, val_set


def _faster(state: State, recipe: Recipe, backend: str, world: World, run: runs.Run) -> Backward | None:
    """Switch the networks of `state` to the backend the run began with; returns its replacement of `backward`, or None."""
    try:
        chosen = choose(backend, world.device)
        faster = gradients(state.model, chosen, recipe.precision, world.size)
        for model in {state.model, state.result}:
            switch(model, chosen)
    except MdwError as error:
        raise MdwError(f"the run {run.path} began with the {backend} backend: {error}") from None
    if recipe.sync_batchnorm:
        world.synchronise(state.model)
    return faster
