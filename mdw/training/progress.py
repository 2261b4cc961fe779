"""Messages of a running training: a bar on a terminal, lines elsewhere, curves for TensorBoard on request."""

import sys
import time
from contextlib import suppress
from pathlib import Path

from tqdm import tqdm

from mdw.training.recipes import Recipe
from mdw.util import stages
from mdw.util.extras import need

FIRST = 5.0  # seconds until the first estimate of how long it will take


class Progress:
    """Writes the messages of the run `name` on stderr; `bar=False`: lines only, `quiet`: nothing. `samples`: those of an epoch.

    Each epoch has a line; where no bar is drawn, there is one after the first seconds and after every `stages.QUIET` of
    silence. `board`: the folder for TensorBoard's files, or None. Raises MdwError where TensorBoard is requested and not
    installed.
    """

    def __init__(self, name: str, recipe: Recipe, samples: int, quiet: bool, bar: bool, board: Path | None):
        self.name, self.recipe, self.samples, self.quiet, self.board = name, recipe, samples, quiet, board
        self.shown = bar and not quiet
        self.done, self.left = 0, 0  # samples: computed after the first step, and still to be computed
        self.begun = self.warm = time.perf_counter()
        self.estimated = False
        if board:
            _writer(board, 0).close()  # now, not after the first epoch

    def bar(self, epoch: int, seen: int) -> tqdm:
        """Returns the bar of one epoch, in images; it shows nothing in a log, where `step` writes lines."""
        self.title, disable = f"epoch {epoch + 1}/{self.recipe.epochs}", None if self.shown else True
        self.left = (self.recipe.epochs - epoch) * self.samples - seen
        return tqdm(None, self.title, self.samples, initial=seen, unit=" images", disable=disable, leave=False)

    def step(self, bar: tqdm, samples: int, loss: float) -> None:
        """Count `samples` more images; `loss` is the mean of the epoch so far."""
        time_now, self.left = time.perf_counter(), self.left - samples
        if self.warm == self.begun:
            self.warm = time_now  # the first step includes the work that is done only once
        else:
            self.done += samples
        if bar.disable:
            count = self.samples - self.left % self.samples
            self.pulse(f"{self.title}, {count}/{self.samples} images  loss {loss:.6f}{self._about()}")
        else:
            stages.spoken()
            bar.set_postfix(loss=f"{loss:.6f}", run=self._about().lstrip(", "), refresh=False)
        with suppress(OSError):  # a closed terminal: the run has to be saved first
            bar.update(samples)

    def _about(self) -> str:
        """Returns the estimate of the time left, from the speed since the first step; "" before that."""
        if not (self.done and self.left):
            return ""
        return f", about {stages.clock((time.perf_counter() - self.warm) / self.done * self.left)} left"

    def pulse(self, activity: str) -> None:
        """Write a line with the present activity after `stages.QUIET` of silence; the very first line comes sooner."""
        if stages.silence() > stages.QUIET or not self.estimated and self.done and time.perf_counter() - self.begun > FIRST:
            self.estimated = True
            self.say(f"{activity}, {stages.clock(time.perf_counter() - self.begun)} spent")

    def line(self, line: dict) -> None:
        """Write the line of a finished epoch; `line` is its line of metrics.jsonl."""
        metric = self.recipe.metric
        value = f"  {metric} {line[metric]:.4g}" if metric in line else ""
        figures = f"epoch {line['epoch']:3d}/{self.recipe.epochs}  loss {line['loss']:.6f}  {line['images_per_s']:.1f} images/s"
        self.say(figures + value + self._about())
        if self.board:
            with _writer(self.board, line["epoch"]) as writer:
                for name in line.keys() - {"epoch"}:
                    writer.add_scalar(name, line[name], line["epoch"])

    def say(self, text: str) -> None:
        if not self.quiet:
            stages.spoken()
            with suppress(OSError):
                tqdm.write(f"{self.name}: {text}", file=sys.stderr)


def _writer(folder: Path, epoch: int):
    """Returns TensorBoard's writer; values that an interrupted process of this run wrote from `epoch` on are hidden."""
    need("tensorboard", "tensorboard")
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder), purge_step=epoch)
