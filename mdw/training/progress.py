"""What a training says while it runs: a bar on a terminal, a line per epoch, curves for TensorBoard where they are wanted."""

import sys
import time
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

from tqdm import tqdm

from mdw.training.recipes import Recipe
from mdw.util.extras import need


class Progress:
    """Speaks for the run `name` on stderr; `bar=False` leaves the lines, `quiet` nothing. `samples` is an epoch's size.

    `board` is the folder for TensorBoard's files, or None. Raises MdwError where TensorBoard is wanted and not installed.
    """

    def __init__(self, name: str, recipe: Recipe, samples: int, quiet: bool, bar: bool, board: Path | None):
        self.name, self.recipe, self.samples, self.quiet, self.board = name, recipe, samples, quiet, board
        self.shown = bar and not quiet
        self.done, self.left, self.begun = 0, 0, time.perf_counter()
        if board:
            _writer(board, 0).close()  # now, not after the first epoch

    def bar(self, epoch: int, seen: int) -> tqdm:
        """The bar of one epoch, in images: a bar on a terminal, nothing in a log; there the line per epoch has to do."""
        title, disable = f"epoch {epoch + 1}/{self.recipe.epochs}", None if self.shown else True
        self.left = (self.recipe.epochs - epoch) * self.samples - seen
        return tqdm(None, title, self.samples, initial=seen, unit=" images", disable=disable, leave=False)

    def step(self, bar: tqdm, samples: int, loss: float) -> None:
        """`samples` more images; `loss` is the mean of the epoch so far."""
        self.done, self.left = self.done + samples, self.left - samples
        if not bar.disable:
            seconds = int((time.perf_counter() - self.begun) / self.done * self.left)
            bar.set_postfix(loss=f"{loss:.6f}", run_left=timedelta(seconds=seconds), refresh=False)
        with suppress(OSError):  # a closed terminal: the run is saved first, and cannot be told of anyway
            bar.update(samples)

    def line(self, line: dict) -> None:
        """An epoch has ended with this line of metrics.jsonl."""
        metric = self.recipe.metric
        value = f"  {metric} {line[metric]:.4g}" if metric in line else ""
        what = f"epoch {line['epoch']:3d}/{self.recipe.epochs}  loss {line['loss']:.6f}  {line['images_per_s']:.1f} images/s"
        self.say(what + value)
        if self.board:
            with _writer(self.board, line["epoch"]) as writer:
                for name in line.keys() - {"epoch"}:
                    writer.add_scalar(name, line[name], line["epoch"])

    def say(self, text: str) -> None:
        if not self.quiet:
            with suppress(OSError):
                tqdm.write(f"{self.name}: {text}", file=sys.stderr)


def _writer(folder: Path, epoch: int):
    """TensorBoard's writer; what an earlier life of the run wrote from `epoch` on is not shown."""
    need("tensorboard", "tensorboard")
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder), purge_step=epoch)
