"""Carries out the trainings that a study is missing, one after the other or several at a time on this machine."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

from mdw.errors import MdwError
from mdw.studies import Planned


def train_missing(
    planned: Sequence[Planned],
    root: str | Path | None = None,
    runs_root: str | Path = "runs",
    device: str | None = None,
    jobs: int = 1,
    say: Callable[[str], None] = lambda line: None,
) -> list[str]:
    """Train every planned run that is not finished; returns one sentence for each that failed.

    One that fails does not keep the others from being tried. With `jobs` > 1 that many processes share the processor's
    cores; small networks on small inputs gain, because one process alone cannot keep the cores busy. `say` is told one line
    when a run begins and ends.
    """
    if jobs < 1:
        raise MdwError(f"jobs is {jobs}; give 1 or more")
    missing = [one for one in planned if one.status != "finished"]
    failed = []
    if jobs == 1:
        for one in missing:
            say(f"training {_name(one)}")
            failed += _failure(one, lambda one=one: _train(one.spec, root, runs_root, device, True), say)
        return failed
    threads = max((os.cpu_count() or 1) // jobs, 1)
    context = get_context("spawn")  # a forked copy of torch's thread pool hangs
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=_share_cores, initargs=(threads,)) as pool:
        futures = {}
        for one in missing:
            say(f"training {_name(one)} (one of {jobs} at a time)")
            futures[pool.submit(_train, one.spec, root, runs_root, device, False)] = one
        for future in as_completed(futures):
            failed += _failure(futures[future], future.result, say)
    return failed


def _failure(one: Planned, outcome: Callable[[], str], say: Callable[[str], None]) -> list[str]:
    try:
        say(f"finished {_name(one)}: {outcome()}")
        return []
    except MdwError as error:
        say(f"failed {_name(one)}: {error}")
        return [f"{one.path.name}: {error}"]


def _name(one: Planned) -> str:
    return f"{one.row.label}, seed {one.seed}"


def _share_cores(threads: int) -> None:
    os.environ["OMP_NUM_THREADS"] = str(threads)  # for torch, which is loaded after this, and for the record


def _train(spec: dict, root, runs_root, device: str | None, bar: bool) -> str:
    from mdw.train import train

    try:
        result = train(spec, root, runs_root, device, bar=bar).result
    except KeyboardInterrupt:
        raise MdwError("stopped; the same command goes on from the last finished epoch") from None
    return f"{result['metric']} {result[result['metric']]:.4g}"
