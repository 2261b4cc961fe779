"""The training loop: `Loop.run` carries a run from wherever it stands to its last validation."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from mdw.backends.choose import choose, gradients, switch
from mdw.backends.cpu import plain
from mdw.data.sample import Dataset
from mdw.inference.evaluate import predict_dataset, score
from mdw.models.dynamic_conv import set_temperature
from mdw.models.loss import heatmap_loss
from mdw.training import checkpoint, runs
from mdw.training.diagnose import first_not_finite
from mdw.training.distributed import World
from mdw.training.progress import Progress
from mdw.training.recipes import Recipe, learning_rate
from mdw.training.state import State
from mdw.util.errors import MdwError, OutOfTime, Stopped
from mdw.util.files import sweep, write_json, write_text
from mdw.util.signals import listen


def annealing_epochs(epochs: int) -> float:
    """How long the softmax attentions of dynamic convolutions are annealed: 10 epochs, at most the first half of a run.

    Ten is Chen et al.'s; the half is our choice, so that a run of few epochs also trains at the temperature 1 it is used at.
    """
    return min(10.0, epochs / 2)


def backward(model: nn.Module, batch: tuple[Tensor, Tensor, Tensor], factor: float, share: float) -> Tensor:
    """Add `share` of the loss of `batch` to the gradients and return it; what a faster way to compute a step replaces."""
    crops, targets, weights = batch
    loss = heatmap_loss(model(crops), targets, weights, factor) * share
    loss.backward()
    return loss.detach()


@dataclass
class Loop:
    """The epochs of one run. `source` makes its batches: `sizes`, the persons of each step, and `epoch`, an iterator.

    See `mdw.training.batches.TrainingBatches`. After `stop_after` seconds, if that is given, the run is saved
    and left. `compute` stands in for `backward` where `start` has found something better.
    """

    path: Path
    recipe: Recipe
    source: object
    val_set: Dataset
    state: State
    world: World
    progress: Progress
    checkpoint_seconds: float
    stop_after: float | None = None
    compute: Callable[..., Tensor] | None = None
    outcome: tuple | None = None  # metrics, xy and scores of the last validation

    def start(self, spec: dict, computation: str = "reference", more: dict | None = None) -> None:
        """Go to where the run stands; a new folder gets its recipe and environment. The same in all processes.

        A new run is computed as `computation` says (see `mdw.backends.choose`), one that goes on as it began. `more` is what
        else the environment of a new run should say. Raises MdwError where that is not possible here.
        """
        found, began = None, ""
        if self.world.main:
            sweep(self.path)
            found, told = checkpoint.read(self.path)
            if told:
                self.progress.say(told)
            if found is None:
                began = computation
                about = {"processes": self.world.size, "computation": began}
                write_json(self.path / "recipe.json", spec)
                write_json(self.path / "env.json", runs.environment(self.world.device) | about | (more or {}))
            else:
                began = runs.Run(self.path).env.get("computation", "reference")  # runs were so before there was a choice
                if began != computation:
                    self.progress.say(f"this run goes on by the {began} computation, with which it began")
        found = self.world.first(found or b"")
        if found:
            self.state.restore(*checkpoint.unpack(found))
        self._compute(self.world.first(began.encode()).decode())
        if self.recipe.sync_batchnorm:
            self.world.synchronise(self.state.model)

    def _compute(self, computation: str) -> None:
        try:
            chosen = choose(computation, self.world.device)
            self.compute = gradients(self.state.model, chosen, self.recipe.precision, self.world.size)
            for model in {self.state.model, self.state.result}:
                switch(model, chosen)
        except MdwError as error:
            raise MdwError(f"the run {self.path} began with the {computation} computation: {error}") from None

    def run(self) -> None:
        """Train and validate to the end. Raises Stopped, with everything saved, where a signal or the time asks for it."""
        recipe, state = self.recipe, self.state
        with listen(self.stop_after) as asked:
            while state.epoch < recipe.epochs:
                self._epoch(asked)
                line = state.line(learning_rate(recipe, state.epoch, (state.epoch + 1) * len(self.source.sizes) - 1))
                set_temperature(state.model, recipe.epochs, annealing_epochs(recipe.epochs))  # validated as it will be used
                if state.epoch + 1 == recipe.epochs or (state.epoch + 1) % recipe.eval_every == 0:
                    self._save()  # a validation may take long
                    line[recipe.metric] = self._validate(asked)
                state.next_epoch(line)
                if self.world.main:
                    lines = "".join(json.dumps(entry) + "\n" for entry in state.lines)
                    write_text(self.path / "metrics.jsonl", lines)
                    self.progress.line(line)
                if state.epoch < recipe.epochs:  # a finished run has no use for it, one killed from here on validates again
                    self._save()

    def _epoch(self, asked: list[str]) -> None:
        """The steps of this epoch that are still to be done."""
        recipe, state, world, sizes = self.recipe, self.state, self.world, self.source.sizes
        model, optimizer, device = state.model.train(), state.optimizer, world.device
        every = 1 if device == "cpu" else 20  # reading a loss waits for the GPU
        pending: list[Tensor] = []
        parts = self.source.epoch(state.epoch, state.step, world.share)
        begun = saved = time.perf_counter()
        with self.progress.bar(state.epoch, state.seen) as bar:
            for step in range(state.step, len(sizes)):
                rate = learning_rate(recipe, state.epoch, state.epoch * len(sizes) + step)
                set_temperature(model, state.epoch + step / len(sizes), annealing_epochs(recipe.epochs))
                for group in optimizer.param_groups:
                    group["lr"] = rate
                optimizer.zero_grad(set_to_none=True)
                losses = []
                for part in self._next(parts, pending):
                    batch = tuple(tensor.to(device, non_blocking=True) for tensor in part)
                    losses.append((self.compute or backward)(model, batch, recipe.loss_factor, len(batch[0]) / sizes[step]))
                world.sum_gradients(model)
                pending.append(sum(losses))

                due = time.perf_counter() - saved > self.checkpoint_seconds
                alone = world.size == 1 and (asked or due)
                if alone or len(pending) == every or step + 1 == len(sizes):
                    flags = torch.tensor([float(bool(asked)), float(due and world.main)], device=device)
                    *values, stop, due = world.sum(torch.cat([torch.stack(pending), flags])).tolist()
                    first = step + 1 - len(values)
                    for k, value in enumerate(values, first):
                        if not np.isfinite(value):
                            raise MdwError(self._diverged(value, k, batch))
                        state.total, state.seen = state.total + value * sizes[k], state.seen + sizes[k]
                    pending.clear()
                    self.progress.step(bar, sum(sizes[first : step + 1]), state.total / state.seen)
                else:
                    stop = due = False
                optimizer.step()
                state.stepped(step + 1, state.epoch * len(sizes) + step + 1)
                if stop or due:
                    state.seconds, begun, saved = state.seconds + time.perf_counter() - begun, *[time.perf_counter()] * 2
                    self._save()
                if stop:
                    raise self._stopped(asked)
        state.seconds += time.perf_counter() - begun

    def _next(self, parts, pending: list) -> list[tuple]:
        """All batches of the next step, so that data that has gone cannot leave a step half done."""
        try:
            return [next(parts) for _ in range(self.recipe.accumulate)]
        except MdwError:
            if not pending:  # else the sums are not complete, and an older checkpoint has to do
                self._save()
            raise

    def _validate(self, asked: list[str]) -> float:
        """The recipe's metric, every process having predicted its part; the first one scores."""
        state, world, size = self.state, self.world, 32
        world.share_buffers(state.model)
        if self.state.average:
            world.share_buffers(state.result)

        def until_stopped(parts):
            for part in parts:
                if asked and world.size == 1:  # several could not agree on it here
                    raise self._stopped(asked)
                yield part

        people = self.val_set
        if world.size > 1:  # whole batches each, so that every one is computed as it is by one process
            first = world.share(range(0, len(people), size))
            people = people.select(range(first.start, min(first.stop, len(people))))
        options = {"flip_test": self.recipe.flip_test, "blur": self.recipe.blur, "batch_size": size}
        options |= {"device": world.device, "progress": until_stopped}
        xy, scores = map(world.gather, predict_dataset(state.result, people, self.recipe.input_size, **options))
        metrics = score(self.val_set, xy, scores) if world.main else {self.recipe.metric: 0.0}
        self.outcome = metrics, xy, scores
        return metrics[self.recipe.metric]

    def _save(self) -> None:
        if self.world.main:
            checkpoint.save(self.path, self.state.tensors(), self.state.values())

    def _stopped(self, asked: list[str]) -> Stopped:
        where = f"epoch {self.state.epoch + 1}, step {self.state.step} of {len(self.source.sizes)}"
        why = asked[0] if asked else "by another process"
        planned = self.stop_after is not None and not why.startswith("SIG")
        return (OutOfTime if planned else Stopped)(f"stopped ({why}) and saved in {where}; the same command goes on from there")

    def _diverged(self, value: float, step: int, batch: tuple[Tensor, Tensor, Tensor]) -> str:
        """The sentence about a loss that is not finite. One process alone looks where it began."""
        where = ""
        if self.world.size == 1:
            crops, targets, weights = batch
            model = plain(self.state.model)  # whose modules are all called
            where = f", {first_not_finite(model, crops, lambda output: heatmap_loss(output, targets, weights))}"
        rate = learning_rate(self.recipe, self.state.epoch, self.state.epoch * len(self.source.sizes) + step)
        return (
            f"the loss is {value} in epoch {self.state.epoch + 1}, step {step + 1} (rate {rate:g}){where}; lower the learning "
            "rate with --set lr=..., what is kept is the last good state"
        )
