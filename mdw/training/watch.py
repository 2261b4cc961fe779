"""Decides between two steps whether to read the losses, to save and to stop."""

import time

import torch
from torch import Tensor

from mdw.training.distributed import World

EVERY = {"cpu": 1}  # steps between two readings; elsewhere 20, because reading a loss waits for the GPU


class Watch:
    """Reads the losses of an epoch, the same for all processes, and measures its time.

    `stop_reasons` is not empty as soon as this process has to stop (`mdw.util.signals.listen`); a save is due `seconds` after
    the last lap.
    """

    def __init__(self, world: World, stop_reasons: list[str], seconds: float):
        self.world, self.stop_reasons, self.seconds = world, stop_reasons, seconds
        self.pending: list[Tensor] = []
        self.begun = time.perf_counter()

    def read(self, loss: Tensor, last: bool) -> tuple[list[float], bool, bool]:
        """Returns the losses of all steps since the last reading; whether to save; whether to stop.

        A step without a reading returns no losses and False twice. The `last` step of an epoch is always read; a single process
        also reads when it has to save or stop.
        """
        self.pending.append(loss)
        due = time.perf_counter() - self.begun > self.seconds
        alone = self.world.size == 1 and (self.stop_reasons or due)
        if not (alone or last or len(self.pending) == EVERY.get(self.world.device, 20)):
            return [], False, False
        flags = torch.tensor([float(due and self.world.main), float(bool(self.stop_reasons))], device=self.world.device)
        *losses, save, stop = self.world.sum(torch.cat([torch.stack(self.pending), flags])).tolist()
        self.pending.clear()
        return losses, bool(save or stop), bool(stop)

    def lap(self) -> float:
        """Returns the seconds since the last lap, or since the beginning."""
        end, start = time.perf_counter(), self.begun
        self.begun = end
        return end - start
