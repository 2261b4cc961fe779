"""Compares training in one process with all threads and in one process for each thread, for studies of many runs."""

import multiprocessing
import statistics
import time

import torch

from mdw.bench.modes import prepare
from mdw.util.errors import MdwError


def compare(
    name: str,
    options: dict,
    size: tuple[int, int],
    batch: int,
    seconds: float = 15,
    rounds: int = 3,
    threads: int | None = None,
) -> dict:
    """Measures tuned training steps of the network `name` on a CPU, without loading, in both ways in turns.

    `size` (height, width); `threads`: their total number, torch's if None. Every process computes steps for `seconds`, at least
    one, and all start at the same time. Returns threads, together_images_per_s (one process) and apart_images_per_s (the sum
    over one process for each thread), medians of `rounds` turns, and both as lists in `*_turns`. Raises MdwError where a
    process fails.
    """
    threads = threads or torch.get_num_threads()
    turns: dict[str, list[float]] = {"together": [], "apart": []}
    for _ in range(rounds):
        for layout, (count, each) in (("together", (1, threads)), ("apart", (threads, 1))):
            turns[layout].append(sum(_at_once(count, (name, options, size, batch, seconds, each))))
    figures = {f"{layout}_images_per_s": statistics.median(values) for layout, values in turns.items()}
    return {"threads": threads} | figures | {f"{layout}_turns": values for layout, values in turns.items()}


def _at_once(count: int, work: tuple) -> list[float]:
    """Returns the images a second of each of `count` processes that do `work` at the same time."""
    context = multiprocessing.get_context("spawn")
    start, results = context.Barrier(count), context.SimpleQueue()
    workers = [context.Process(target=_train, args=(*work, start, results), daemon=True) for _ in range(count)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if any(worker.exitcode for worker in workers):
        raise MdwError(f"one of {count} processes that train {work[0]} failed; is there memory for all of them?")
    return [results.get() for _ in workers]


def _train(name, options, size, batch, seconds, threads, start, results) -> None:
    torch.set_num_threads(threads)
    joints, (height, width) = 17, size
    way = prepare("tuned", name, options, joints, iter(()), "cpu")
    maps = torch.zeros(batch, joints, height // 4, width // 4)
    fixed = torch.randn(batch, 3, height, width), maps, torch.ones(batch, joints)

    def step() -> None:
        way.gradient(fixed)
        way.update()

    step()
    start.wait(600)  # no longer: another process may have failed
    begin, steps = time.perf_counter(), 0
    while not steps or time.perf_counter() - begin < seconds:
        step()
        steps += 1
    results.put(steps * batch / (time.perf_counter() - begin))
