"""Ctrl-C and SIGTERM, which Slurm and torchrun send, as a question that is answered between two steps."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def listen() -> Iterator[list[str]]:
    """A list that is empty until a signal asks this process to stop, then holds the signal's name.

    A second Ctrl-C, two seconds later or more, interrupts at once; torchrun passes the first one on twice. Outside the main
    thread, which alone may handle signals, the list stays empty.
    """
    asked: list[str] = []
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    first = 0.0

    def note(number, frame) -> None:
        nonlocal first
        if not asked:
            first = time.monotonic()
            asked.append(signal.Signals(number).name)
        elif number == signal.SIGINT and time.monotonic() - first > 2:
            raise KeyboardInterrupt

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
