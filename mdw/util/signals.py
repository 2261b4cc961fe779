"""What asks a training to stop, as a question that is answered between two steps.

Ctrl-C, SIGTERM, which Slurm and torchrun send, SIGHUP of a closed terminal, and a limit of time.
"""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import parent_process


@contextmanager
def listen(seconds: float | None = None) -> Iterator[list[str]]:
    """A list that is empty until a signal asks this process to stop, then holds the signal's name; "time" after `seconds`.

    A second Ctrl-C, two seconds later or more, interrupts at once; torchrun passes the first one on twice. Outside the main
    thread, which alone may handle signals, no signal is noted.
    """
    asked: list[str] = []
    clock = threading.Timer(max(seconds or 0, 0), asked.append, ["time"])
    clock.daemon = True
    if seconds is not None:
        clock.start()
    try:
        with _signals(asked):
            yield asked
    finally:
        clock.cancel()


def when_parent_ends(act: Callable[[], None]) -> None:
    """Call `act`, in a thread, once the process has ended that made this one by multiprocessing, however it ended."""
    if (parent := parent_process()) is not None:

        def follow() -> None:
            parent.join()
            act()

        threading.Thread(target=follow, daemon=True).start()


@contextmanager
def _signals(asked: list[str]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    first = 0.0

    def note(number, frame) -> None:
        nonlocal first
        if not asked:
            first = time.monotonic()
            asked.append(signal.Signals(number).name)
        elif number == signal.SIGINT and time.monotonic() - first > 2:
            raise KeyboardInterrupt

    numbers = [signal.SIGINT, signal.SIGTERM]
    hangup = getattr(signal, "SIGHUP", None)  # not on Windows
    if hangup is not None and signal.getsignal(hangup) is not signal.SIG_IGN:  # as nohup leaves it
        numbers.append(hangup)
    before = {number: signal.signal(number, note) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
