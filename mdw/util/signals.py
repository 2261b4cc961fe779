"""Notes requests to stop a training, which the training looks at between two steps.

They are Ctrl-C, SIGTERM (sent by Slurm and torchrun), SIGHUP of a closed terminal, and a time limit.
"""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import parent_process


@contextmanager
def listen(seconds: float | None = None) -> Iterator[list[str]]:
    """Yields the list of reasons to stop: empty at first, then the signal's name, or "time" after `seconds`.

    A second Ctrl-C at least two seconds later interrupts at once (torchrun passes the first one on twice). Only the main thread
    may handle signals; in another thread no signal is noted.
    """
    reasons: list[str] = []
    clock = threading.Timer(max(seconds or 0, 0), reasons.append, ["time"])
    clock.daemon = True
    if seconds is not None:
        clock.start()
    try:
        with _signals(reasons):
            yield reasons
    finally:
        clock.cancel()


def when_parent_ends(act: Callable[[], None]) -> None:
    """Call `act`, in a thread, once the parent process (by multiprocessing) of this one has ended, however it ended."""
    if (parent := parent_process()) is not None:

        def follow() -> None:
            parent.join()
            act()

        threading.Thread(target=follow, daemon=True).start()


@contextmanager
def _signals(reasons: list[str]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    first_signal = 0.0

    def note(number, frame) -> None:
        nonlocal first_signal
        if not reasons:
            first_signal = time.monotonic()
            reasons.append(signal.Signals(number).name)
        elif number == signal.SIGINT and time.monotonic() - first_signal > 2:
            raise KeyboardInterrupt

    numbers = [signal.SIGINT, signal.SIGTERM]
    hangup = getattr(signal, "SIGHUP", None)  # not on Windows
    if hangup is not None and signal.getsignal(hangup) is not signal.SIG_IGN:  # as nohup leaves it
        numbers.append(hangup)
    handlers = {number: signal.signal(number, note) for number in numbers}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
