"""What is asked between two steps: the losses so far, whether to save and whether to stop."""

import time

import torch
from torch import Tensor

from mdw.training.distributed import World

EVERY = {"cpu": 1}  # steps between two readings; elsewhere 20, because reading a loss waits for the GPU


class Watch:
    """Reads the losses of an epoch, for all processes alike, and keeps its time.

    `asked` holds a reason as soon as this process is to stop (`mdw.util.signals.listen`); a save is due `seconds` after the
    last lap.
    """

    def __init__(self, world: World, asked: list[str], seconds: float):
        self.world, self.asked, self.seconds = world, asked, seconds
        self.pending: list[Tensor] = []
        self.begun = time.perf_counter()

    def read(self, loss: Tensor, last: bool) -> tuple[list[float], bool, bool]:
        """Losses of the steps since the last reading, up to this one; whether to save; whether to stop.

        Between two readings there are none, and neither is to be done. The `last` step of an epoch is always read. In one
        process a reason to save or to stop is a reason to read.
        """
        self.pending.append(loss)
        due = time.perf_counter() - self.begun > self.seconds
        alone = self.world.size == 1 and (self.asked or due)
        if not (alone or last or len(self.pending) == EVERY.get(self.world.device, 20)):
            return [], False, False
        flags = torch.tensor([float(due and self.world.main), float(bool(self.asked))], device=self.world.device)
        *losses, save, stop = self.world.sum(torch.cat([torch.stack(self.pending), flags])).tolist()
        self.pending.clear()
        return losses, bool(save or stop), bool(stop)

    def lap(self) -> float:
        """Seconds since the last lap, or since the beginning."""
        now, begun = time.perf_counter(), self.begun
        self.begun = now
        return now - begun
