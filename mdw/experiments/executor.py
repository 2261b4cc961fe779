"""Carries out the trainings that a study is missing: one by one, several at a time, or as jobs of a cluster."""

import os
import signal
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from queue import SimpleQueue

from mdw.experiments.studies import Planned
from mdw.training.recipes import Recipe
from mdw.util.errors import MdwError, Stopped
from mdw.util.extras import need
from mdw.util.signals import when_parent_ends
from mdw.util.stages import Stages

Say = Callable[[str], None]


def train_missing(
    planned: Sequence[Planned],
    root: str | Path | None = None,
    runs_root: str | Path = "runs",
    device: str | None = None,
    jobs: int = 1,
    say: Say = lambda line: None,
) -> dict[str, str]:
    """Train every planned run that is not finished, on this machine -> {a run's name: why it failed}, empty if none did.

    Whatever ends one, its process's death included, the others are tried. With `jobs` > 1 that many processes share the
    processor's cores; small networks on small inputs gain, because one process alone cannot keep the cores busy. `say` is
    told one line when a run begins and ends. Raises Stopped where Ctrl-C has stopped one: then the others are not begun.
    """
    if jobs < 1:
        raise MdwError(f"jobs is {jobs}; give 1 or more")
    missing = [one for one in planned if one.status != "finished"]
    failed: dict[str, str] = {}
    jobs = min(jobs, len(missing))
    if jobs <= 1:  # in this process, which takes all cores
        with Stages(len(missing), say) as news:
            for one in missing:
                say(f"training {_name(one)}")
                failed |= _failure(one, partial(_train, one.spec, root, runs_root, device, True, _name(one)), news)
        return failed
    threads, context = max((os.cpu_count() or 1) // jobs, 1), get_context("spawn")  # a forked copy of torch's threads hangs
    free: SimpleQueue[ProcessPoolExecutor] = SimpleQueue()  # a pool each: a process that dies takes its whole pool with it

    def new() -> ProcessPoolExecutor:
        return ProcessPoolExecutor(1, mp_context=context, initializer=_begin, initargs=(threads,))

    def elsewhere(one: Planned) -> str:
        worker = free.get()
        say(f"training {_name(one)} ({jobs} at a time)")
        try:
            return worker.submit(_train, one.spec, root, runs_root, device, False, _name(one)).result()
        except BrokenProcessPool:
            worker = new()
            raise MdwError("its process was killed, as when memory runs out; the same command goes on from there") from None
        finally:
            free.put(worker)

    for _ in range(min(jobs, len(missing))):
        free.put(new())
    with ThreadPoolExecutor(jobs) as slots, Stages(len(missing), say, watched=False) as news:
        futures = {slots.submit(elsewhere, one): one for one in missing}
        try:
            for future in as_completed(futures):
                failed |= _failure(futures[future], future.result, news)
        except (KeyboardInterrupt, Stopped):
            slots.shutdown(cancel_futures=True)  # those that run have got the same Ctrl-C and are saving
            raise Stopped("stopped; the same command goes on where each run was left") from None
        finally:
            slots.shutdown()
            while not free.empty():
                free.get().shutdown()
    return failed


def check_finished(planned: Sequence[Planned], root: str | Path, data: str) -> None:
    """Raise MdwError where a finished run on the data set `data` was trained on other data than those at `root`.

    Runs that do not say what their data were are passed over. Each split is read once.
    """
    from mdw.training import fingerprint
    from mdw.training.runs import Run
    from mdw.training.train import load_splits

    known: dict[str, dict] = {}
    for one in planned:
        if one.status == "finished" and one.spec["recipe"]["data"] == data and "data" in Run(one.path).env:
            recipe = Recipe.from_dict(one.spec["recipe"])
            key = repr((recipe.train_split, recipe.val_split, recipe.train_options, recipe.val_options))
            if key not in known:
                known[key] = fingerprint.fingerprint(*load_splits(recipe, root))
            fingerprint.check(Run(one.path), known[key], root)


def farm_missing(
    planned: Sequence[Planned],
    root: str | Path | None = None,
    runs_root: str | Path = "runs",
    device: str | None = None,
    jobs: int | None = None,
    say: Say = lambda line: None,
    settings: dict | None = None,
    cluster: str = "slurm",
) -> dict[str, str]:
    """As `train_missing`, every run a job of a Slurm cluster, at most `jobs` at a time; waits until all have ended.

    `settings` are submitit's parameters: timeout_min, gpus_per_node, cpus_per_task, mem_gb, slurm_partition, ...; with
    tasks_per_node above 1 that many processes train each run together. A job that reaches its time limit or is preempted is
    queued again and goes on from its checkpoint. Scripts and logs are in `runs_root`/slurm. `cluster`: "slurm", or "local"
    for processes of this machine under submitit's care, for tests.
    Raises MdwError where there is no submitit, no Slurm or no such parameter.
    """
    need("slurm", "submitit")
    import submitit

    try:
        executor = submitit.AutoExecutor(Path(runs_root) / "slurm", cluster=cluster)
        executor.update_parameters(**{"name": "mdw", "timeout_min": 24 * 60} | (settings or {}))
        if jobs and cluster == "slurm":
            executor.update_parameters(slurm_array_parallelism=jobs)
    except (RuntimeError, NameError, TypeError, ValueError) as error:
        raise MdwError(f"Slurm cannot be used like this: {error}; see --slurm and --executor") from None
    missing = [one for one in planned if one.status != "finished"]
    with executor.batch():
        tasks = [executor.submit(_Job(one.spec, root, runs_root, device)) for one in missing]
    submitted = {task.job_id: (task, one) for task, one in zip(tasks, missing, strict=True)}
    for name, (_, one) in submitted.items():
        say(f"training {_name(one)} as job {name}")
    failed: dict[str, str] = {}
    news = Stages(len(missing), say, watched=False)
    try:
        for task in submitit.helpers.as_completed(tasks, poll_frequency=10 if cluster == "slurm" else 0.2):
            one = submitted[task.job_id][1]
            failed |= _failure(one, partial(_outcome, task), news)
    except KeyboardInterrupt:
        raise Stopped(f"stopped waiting; the jobs {', '.join(submitted)} go on, scancel stops them") from None
    return failed


class _Job:
    """What a job does; pickled by submitit, for this very job."""

    def __init__(self, spec: dict, root: str | Path | None, runs_root: str | Path, device: str | None):
        self.spec, self.root, self.runs_root, self.device = spec, root, runs_root, device

    def __call__(self) -> tuple[bool, str]:
        import submitit

        if submitit.JobEnvironment().num_tasks > 1:
            submitit.helpers.TorchDistributedEnvironment().export()
        try:
            return True, _train(self.spec, self.root, self.runs_root, self.device, False)
        except MdwError as error:
            return False, str(error)

    def checkpoint(self):
        """The time limit is near: the same job again, which goes on from the run's own checkpoint."""
        import submitit

        return submitit.helpers.DelayedSubmission(self)


def _outcome(task) -> str:
    """What the job's first process says. Raises MdwError for a job that failed, naming its log."""
    from submitit.core.utils import UncompletedJobError

    try:
        well, text = task.results()[0]
    except UncompletedJobError as error:
        last = str(error).strip().splitlines()[-1]
        raise MdwError(f"its job {task.job_id} failed ({last}); see {task.paths.stderr}") from None
    if not well:
        raise MdwError(text)
    return text


def _failure(one: Planned, outcome: Callable[[], str], news: Stages) -> dict[str, str]:
    news.begin(_name(one))
    try:
        news.end(_name(one), f"finished, {outcome()}")
        return {}
    except Stopped:
        raise
    except Exception as error:  # whatever it was, the other runs do not depend on this one
        why = str(error) if isinstance(error, MdwError) else f"{type(error).__name__}: {error}"
        why = " ".join(why.split())[:500]
        news.end(_name(one), f"failed, {why}")
        return {one.path.name: why}


def _name(one: Planned) -> str:
    return f"{one.row.label}, seed {one.seed}"


def _begin(threads: int) -> None:
    """What a process does before its first training."""
    os.environ["OMP_NUM_THREADS"] = str(threads)  # for torch, which is loaded after this, and for the record
    when_parent_ends(_end)


def _end() -> None:
    """A run whose parent was killed is saved and left, or it would keep the same command, given again, out of its folder."""
    while True:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(20)  # saved long before; now nothing listens, and the signal ends the process


def _train(spec: dict, root, runs_root, device: str | None, bar: bool, title: str | None = None) -> str:
    from mdw.training.train import train

    try:
        result = train(spec, root, runs_root, device, bar=bar, title=title).outcome
    except KeyboardInterrupt:
        raise Stopped("stopped; the same command goes on from the last checkpoint") from None
    return f"{result['metric']} {result[result['metric']]:.4g}"
