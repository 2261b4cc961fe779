"""A run's folder during training: one process holds its lock and is the only one to write in it."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from mdw.training import checkpoint
from mdw.training.state import State
from mdw.util.errors import MdwError
from mdw.util.files import cannot_write, write_text


@dataclass(frozen=True)
class Folder:
    """The folder at `path`. `lock`: (device, inode) of its lock file, which tell whether the folder was moved."""

    path: Path
    lock: tuple[int, int]

    def check(self) -> None:
        """Raise MdwError where the folder is no longer at its path: files written there would belong to no run."""
        try:
            status = os.stat(self.path / ".lock")
        except OSError:
            status = None
        if status is None or (status.st_dev, status.st_ino) != self.lock:
            raise MdwError(
                f"{self.path} was moved, removed or replaced while its run was trained; move it back, and the same command "
                "goes on from its last checkpoint, or begins anew without it"
            )

    def save(self, state: State) -> None:
        """Save `state` as the newest checkpoint. Raises MdwError as `check` and `checkpoint.save`."""
        self.check()
        checkpoint.save(self.path, state.tensors(), state.values())

    def write_metrics(self, lines: list[dict]) -> None:
        """Write metrics.jsonl, a line per epoch. Raises MdwError as `check` and where it cannot be written."""
        self.check()
        write_text(self.path / "metrics.jsonl", "".join(json.dumps(line) + "\n" for line in lines))


@contextmanager
def hold(path: Path) -> Iterator[Folder]:
    """Yields the folder of a run, made if missing. Raises MdwError where another process holds it: two would mix two runs."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path / ".lock", timeout=0).acquire()
    except Timeout:
        raise MdwError(f"{path} is being written by another process; wait for it, or stop it first") from None
    except OSError as error:
        raise cannot_write(path, error) from None
    with lock:
        status = os.stat(path / ".lock")
        yield Folder(path, (status.st_dev, status.st_ino))
