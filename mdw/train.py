"""Training: `train` carries a run from wherever it stands to its result; the loop is in `mdw.loop`."""

import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mdw import checkpoint, data, result, runs
from mdw.data.augment import augment, static_jitter
from mdw.data.coco import describe
from mdw.data.lsp import mean_pose, predict_mean_pose
from mdw.data.packed import Packed
from mdw.data.sample import Dataset
from mdw.data.warp import crop, joints_to_crop, normalise
from mdw.distributed import join
from mdw.errors import MdwError, Stopped
from mdw.evaluate import batches, refuse_pack, score
from mdw.loop import Loop
from mdw.pose.heatmap import encode
from mdw.progress import Progress
from mdw.recipes import Recipe
from mdw.state import State, deterministic


class TrainingBatches:
    """Augmented crops and targets of an epoch: every batch is (crops, targets, weights), drawn ahead in one thread.

    crops (B, 3, H, W) float32, targets (B, J, h, w) float32, weights (B, J) float32. What a sample gets depends on (seed,
    epoch, its index) alone, so an epoch can be repeated exactly, in any process.
    """

    def __init__(self, dataset: Dataset, recipe: Recipe, seed: int):
        if isinstance(dataset, Packed):
            dataset.check(recipe.input_size, recipe.augmentation)
        self.dataset, self.recipe, self.seed = dataset, recipe, seed

    def __len__(self) -> int:
        return len(self.sizes)

    @property
    def sizes(self) -> list[int]:
        """How many persons each step of an epoch has."""
        spans = batches(len(self.dataset), self.recipe.batch_size, self.recipe.drop_last)
        return [end - begin for begin, end in spans]

    def sample(self, epoch: int, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Crop uint8 (H, W, 3), target (J, h, w) and weight (J,) of one person."""
        recipe, person = self.recipe, self.dataset[index]
        image = person.pixels()
        size = recipe.input_size
        rng = np.random.default_rng([self.seed, epoch, index])
        center = person.center
        if recipe.augmentation.jitter == "static20":  # no epoch in its seed (the 1 makes it a stream of its own): moved once
            center = center + static_jitter(person.box_wh, np.random.default_rng([self.seed, index, 0, 1]))[0]
        a = augment(
            center,
            person.scale,
            person.joints,
            person.visible,
            image.shape[1],
            self.dataset.joints,
            size,
            recipe.augmentation,
            rng,
        )
        picture = crop(image, a.center, a.scale, a.rotation, size, a.flip)
        joints = joints_to_crop(a.joints, a.visible, a.center, a.scale, a.rotation, size)
        return picture, *encode(joints, a.visible, size, recipe.heatmap_size, recipe.sigma)

    def batch(self, epoch: int, indices: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
        crops, targets, weights = zip(*(self.sample(epoch, int(i)) for i in indices), strict=True)
        return tuple(map(torch.from_numpy, (normalise(np.stack(crops)), np.stack(targets), np.stack(weights))))

    def epoch(self, epoch: int, begin: int = 0, share: Callable = lambda indices: indices):
        """The epoch's batches in their order, from step `begin` on; the next one is made while the network works on this one.

        A step comes in `recipe.accumulate` batches, and `share` picks this process's part of each.
        """
        order = np.random.default_rng([self.seed, epoch]).permutation(len(self.dataset))
        steps = np.split(order, np.cumsum(self.sizes))[begin : len(self)]
        parts = [share(part) for step in steps for part in np.array_split(step, self.recipe.accumulate)]
        with ThreadPoolExecutor(1) as worker:
            ahead = worker.submit(self.batch, epoch, parts[0]) if parts else None
            for part in [*parts[1:], None] if parts else []:
                ready = ahead.result()
                if part is not None:
                    ahead = worker.submit(self.batch, epoch, part)
                yield ready


def train(
    spec: dict,
    root: str | Path | None = None,
    runs_root: str | Path = "runs",
    device: str | None = None,
    quiet: bool = False,
    bar: bool = True,
    checkpoint_seconds: float = 300,
    tensorboard: bool = False,
) -> runs.Run:
    """Train what `spec` (from `runs.make_spec`) asks for and return its finished run; a finished one is returned at once.

    `root` is the data's folder, `device` a torch device (default: a GPU if there is one); `quiet` says nothing, `bar=False`
    leaves only the line per epoch. Under torchrun all its processes train this one run together. Every
    `checkpoint_seconds` and around each validation the run's state is saved, from which it goes on exactly, to the bit on a
    CPU; each epoch ends with a line in metrics.jsonl, and with `tensorboard` in the run's folder of that name.
    Raises Stopped after Ctrl-C or SIGTERM, and MdwError for bad input, numbers that are not finite (the last good state is
    kept), a place that cannot be written and a folder that another process is writing.
    """
    path = runs.folder(spec, runs_root)
    if runs.Run(path).result is not None:
        checkpoint.remove(path)  # a run may be killed between its last two acts
        return runs.Run(path)
    recipe = Recipe.from_dict(spec["recipe"])
    load = {"root": root, "aspect": recipe.aspect}
    train_set = data.load(recipe.data, recipe.train_split, **load, **recipe.train_options)
    val_set = data.load(recipe.data, recipe.val_split, **load, **recipe.val_options)
    refuse_pack(val_set)  # now, not after the first epoch
    if not len(train_set) or not len(val_set):
        raise MdwError(f"{recipe.data} has an empty split ({len(train_set)} to train, {len(val_set)} to validate); see --root")

    with ExitStack() as stack:
        world = stack.enter_context(join(device or ("cuda" if torch.cuda.is_available() else "cpu")))
        stack.enter_context(deterministic(recipe.deterministic))
        quiet = quiet or not world.main
        for dataset in (train_set, val_set) if recipe.data == "coco" and not quiet else ():
            print(describe(dataset), file=sys.stderr)
        state = State.new(spec, train_set.joints.num_joints, world.device)
        source = TrainingBatches(train_set, recipe, spec["seed"])
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
        loop.start(spec)
        try:
            loop.run()
        except Stopped:
            if world.main:
                raise
            sys.exit(1)  # the first process says it for all
        if world.main:
            metrics, xy, scores = loop.outcome
            if recipe.metric == "pck":  # what knowing the box and nothing of the picture is worth
                metrics["mean_pose_pck"] = score(val_set, predict_mean_pose(val_set, mean_pose(train_set)), scores)["pck"]
            result.write(path, recipe, state, metrics, val_set, xy, scores)
        world.wait()
    return runs.Run(path)
