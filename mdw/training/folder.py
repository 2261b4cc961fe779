"""A run's folder while its run is trained: held by one process, which alone writes it."""

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
    """`path` and the identity of its lock file, (device, inode), by which a folder that was moved is noticed."""

    path: Path
    lock: tuple[int, int]

    def check(self) -> None:
        """Raise MdwError where the folder is no longer at its path: what is written there would belong to no run."""
        try:
            found = os.stat(self.path / ".lock")
        except OSError:
            found = None
        if found is None or (found.st_dev, found.st_ino) != self.lock:
            raise MdwError(
                f"{self.path} was moved, removed or replaced while its run was trained; move it back, and the same command "
                "goes on from its last checkpoint, or begins anew without it"
            )

    def save(self, state: State) -> None:
        """Make `state` the newest checkpoint. Raises MdwError as `check` and `checkpoint.save`."""
        self.check()
        checkpoint.save(self.path, state.tensors(), state.values())

    def write_metrics(self, lines: list[dict]) -> None:
        """Write metrics.jsonl, a line per epoch. Raises MdwError as `check` and where it cannot be written."""
        self.check()
        write_text(self.path / "metrics.jsonl", "".join(json.dumps(line) + "\n" for line in lines))


@contextmanager
def hold(path: Path) -> Iterator[Folder]:
    """The folder of a run, made where there is none. Raises MdwError where another process holds it: two would mix two runs."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        held = FileLock(path / ".lock", timeout=0).acquire()
    except Timeout:
        raise MdwError(f"{path} is being written by another process; wait for it, or stop it first") from None
    except OSError as error:
        raise cannot_write(path, error) from None
    with held:
        found = os.stat(path / ".lock")
        yield Folder(path, (found.st_dev, found.st_ino))
