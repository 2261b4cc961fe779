"""What a command says of a row of like things that it does, so that nobody waits in silence or is told nothing of the end."""

import time
from collections.abc import Callable
from threading import Event, Lock, Thread

QUIET = 15.0  # seconds after which somebody who watches a log wonders whether it is still alive
_last = [time.monotonic()]  # when this process last said something of what it is at


def silence() -> float:
    """Seconds since `spoken` was called, by whatever part of this process."""
    return time.monotonic() - _last[0]


def spoken() -> None:
    """Something has been said, so that nobody need be told for a while that the process is alive."""
    _last[0] = time.monotonic()


def clock(seconds: float) -> str:
    """Seconds as minutes:seconds, from an hour on as hours:minutes:seconds."""
    minutes, rest = divmod(max(round(seconds), 0), 60)
    return f"{minutes}:{rest:02}" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


class Stages:
    """Tells `say` a line for each of `total` stages that ends, and every `QUIET` seconds of silence which ones are at work.

    Each line has the time spent since the beginning and, once a stage has ended, about what is left at that pace. Used as a
    context manager; stages may be of several threads. watched: whether silence is broken; False where other processes speak.
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
        """A stage begins."""
        with self._lock:
            self.running[name] = time.monotonic()

    def end(self, name: str, words: str) -> None:
        """A stage has ended; words: how."""
        with self._lock:
            self.running.pop(name, None)
            self.done += 1
            self._tell(f"[{self.done:{len(str(self.total))}}/{self.total}] {name}: {words}")

    def _tell(self, line: str) -> None:
        spoken()
        spent = time.monotonic() - self.begun
        left = self.total - self.done
        about = f", about {clock(spent / self.done * left)} left" if self.done and left else ""
        self._say(f"{line} ({clock(spent)} spent{about})")

    def _watch(self) -> None:
        while not self._over.wait(1.0):
            with self._lock:
                now = time.monotonic()
                if self.running and silence() > QUIET:
                    at_work = ", ".join(f"{name} for {clock(now - since)}" for name, since in self.running.items())
                    self._tell(f"still at {at_work}")
