"""The training loop schedules the steps of a run, validates and saves. A step's computation is in `mdw.training.step`."""

import math
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice

import torch

from mdw.data.sample import Dataset
from mdw.training.batches import Batches
from mdw.training.diagnose import where_it_began
from mdw.training.distributed import World
from mdw.training.folder import Folder
from mdw.training.progress import Progress
from mdw.training.recipes import Recipe
from mdw.training.schedule import rate_of, schedule, schedule_validation
from mdw.training.state import State
from mdw.training.step import Backward, Batch, backward
from mdw.training.validation import Outcome, validate
from mdw.training.watch import Watch
from mdw.util.errors import MdwError, OutOfTime, Stopped
from mdw.util.signals import listen


@dataclass
class Loop:
    """Runs the steps of one run, from `state` to the last validation. It is the same in all processes of its `world`.

    The first process, which holds `folder`, saves every `seconds` and around each validation. `faster` replaces `backward`
    where the backend has its own. After `run`, `outcome` holds metrics, joints and scores of the last validation.
    """

    recipe: Recipe
    state: State
    batches: Batches
    val_set: Dataset
    folder: Folder | None
    world: World
    progress: Progress
    seconds: float = 300
    stop_after: float | None = None
    faster: Backward | None = None
    outcome: Outcome = field(init=False, repr=False)
    stop_reasons: list[str] = field(default_factory=list)  # not empty: stop

    def run(self) -> None:
        """Train and validate to the end. Raises Stopped, with everything saved, after a signal or at the time limit."""
        recipe, state, world, sizes = self.recipe, self.state, self.world, self.batches.sizes
        with listen(self.stop_after) as self.stop_reasons:
            while state.epoch < recipe.epochs:
                model, watch = state.model.train(), Watch(world, self.stop_reasons, self.seconds)
                batches = self.batches.epoch(state.epoch, state.step, world.local)
                with closing(batches), self.progress.bar(state.epoch, state.seen) as bar:
                    for step in range(state.step, len(sizes)):
                        step_batches = self._next(batches, watch)
                        schedule(state, recipe, step, len(sizes))
                        state.optimizer.zero_grad(set_to_none=True)
                        losses = []
                        for step_batch in step_batches:
                            crops, targets, weights = (tensor.to(world.device, non_blocking=True) for tensor in step_batch)
                            batch = crops, targets, weights
                            portion = len(crops) / sizes[step]
                            losses.append((self.faster or backward)(model, batch, recipe.loss_factor, portion))
                        world.sum_gradients(model)
                        loss = sum(losses, torch.zeros((), device=world.device))
                        values, save, stop = watch.read(loss, last=step + 1 == len(sizes))
                        for k, value in enumerate(values, step + 1 - len(values)):
                            if not math.isfinite(value):
                                raise self._diverged(value, k, batch)
                            state.count(value, sizes[k])
                            self.progress.step(bar, sizes[k], state.total / state.seen)
                        state.optimizer.step()
                        state.stepped(step + 1, state.epoch * len(sizes) + step + 1)
                        if save:
                            state.seconds += watch.lap()
                            self._save()
                        if stop:
                            raise self._stopped()
                state.seconds += watch.lap()
                self._end_epoch()

    def _next(self, batches: Iterator[Batch], watch: Watch) -> list[Batch]:
        """Returns all batches of the next step: if data can no longer be read, no step is left half done."""
        try:
            return list(islice(batches, self.recipe.accumulate))
        except MdwError:
            if not watch.pending:  # otherwise the sums are incomplete, and the older checkpoint stays
                self._save()
            raise

    def _end_epoch(self) -> None:
        """Validate where it is due, write the epoch's line and save."""
        recipe, state, steps = self.recipe, self.state, len(self.batches.sizes)
        line = state.line(rate_of(recipe, state.epoch, steps - 1, steps))
        schedule_validation(state, recipe)
        if state.epoch + 1 == recipe.epochs or (state.epoch + 1) % recipe.eval_every == 0:
            self._save()  # a validation may take long
            self.outcome = validate(state, recipe, self.val_set, self.world, self._until_stop)
            line[recipe.metric] = self.outcome[0][recipe.metric]
        state.next_epoch(line)
        if self.folder is not None:
            self.folder.write_metrics(state.lines)
            self.progress.line(line)
        if state.epoch < recipe.epochs:  # a finished run needs none; one that is killed from here on validates again
            self._save()

    def _until_stop(self, batches: Iterator) -> Iterator:
        for number, batch in enumerate(batches, 1):
            if self.world.main:
                self.progress.pulse(f"validating, epoch {self.state.epoch + 1}/{self.recipe.epochs}, batch {number}")
            if self.stop_reasons and self.world.size == 1:  # several processes could not agree on it here
                raise self._stopped()
            yield batch

    def _save(self) -> None:
        if self.folder is not None:
            self.folder.save(self.state)

    def _stopped(self) -> Stopped:
        where = f"epoch {self.state.epoch + 1}, step {self.state.step} of {len(self.batches.sizes)}"
        why = self.stop_reasons[0] if self.stop_reasons else "by another process"
        planned = self.stop_after is not None and not why.startswith("SIG")
        return (OutOfTime if planned else Stopped)(f"stopped ({why}) and saved in {where}; the same command goes on from there")

    def _diverged(self, value: float, step: int, batch: Batch) -> MdwError:
        """Returns the error for a loss that is not finite; a single process also finds where in the network it began."""
        where = f", {where_it_began(self.state.model, batch)}" if self.world.size == 1 else ""
        rate = rate_of(self.recipe, self.state.epoch, step, len(self.batches.sizes))
        return MdwError(
            f"the loss is {value} in epoch {self.state.epoch + 1}, step {step + 1} (rate {rate:g}){where}; lower the learning "
            "rate with --set lr=..., what is kept is the last good state"
        )
