"""Progress messages of a command that does several similar things, so that the user is never left without a sign of life."""

import time
from collections.abc import Callable
from threading import Event, Lock, Thread

QUIET = 15.0  # seconds without a message after which one is due
_last_message = [time.monotonic()]  # when this process last printed a progress message


def silence() -> float:
    """Returns the seconds since `spoken` was last called anywhere in this process."""
    return time.monotonic() - _last_message[0]


def spoken() -> None:
    """Note that a progress message was printed just now."""
    _last_message[0] = time.monotonic()


def clock(seconds: float) -> str:
    """Returns seconds as minutes:seconds, from an hour on as hours:minutes:seconds."""
    minutes, remainder = divmod(max(round(seconds), 0), 60)
    return f"{minutes}:{remainder:02}" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02}:{remainder:02}"


class Stages:
    """Passes `say` a line for each of `total` stages that ends, and after `QUIET` seconds of silence one about those running.

    Each line has the time since the beginning and, once a stage has ended, an estimate of the time left. Used as a context
    manager; stages may run in several threads. watched: whether silence is broken; False where other processes print messages.
    """

    def __init__(self, total: int, say: Callable[[str], None], watched: bool = True) -> None:
        self.total, self._say, self.watched, self.done = total, say, watched, 0
        self.begun = time.monotonic()
        self.running: dict[str, float] = {}
        self._lock, self._over = Lock(), Event()
        self._thread = Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "Stages":
        spoken()
        if self.watched:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self.watched:
            self._thread.join()

    def begin(self, name: str) -> None:
        """Note that the stage `name` begins."""
        with self._lock:
            self.running[name] = time.monotonic()

    def end(self, name: str, result: str) -> None:
        """Note that the stage `name` has ended; `result` says how."""
        with self._lock:
            self.running.pop(name, None)
            self.done += 1
            self._tell(f"[{self.done:{len(str(self.total))}}/{self.total}] {name}: {result}")

    def _tell(self, line: str) -> None:
        spoken()
        spent = time.monotonic() - self.begun
        remaining = self.total - self.done
        estimate = f", about {clock(spent / self.done * remaining)} left" if self.done and remaining else ""
        self._say(f"{line} ({clock(spent)} spent{estimate})")

    def _watch(self) -> None:
        while not self._over.wait(1.0):
            with self._lock:
                now = time.monotonic()
                if self.running and silence() > QUIET:
                    at_work = ", ".join(f"{name} for {clock(now - since)}" for name, since in self.running.items())
                    self._tell(f"still at {at_work}")
