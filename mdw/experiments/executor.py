"""Runs the unfinished trainings of a study: one by one, several at a time, or as jobs of a cluster."""

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
    """Train every planned run that is not finished, on this machine; returns {run's folder name: reason} of failed runs.

    After a failure, even of a killed process, the other runs are still tried. With `jobs` > 1 that many processes divide the
    cores; small networks on small inputs become faster so, because a single process cannot use all cores. `say` gets a line
    when a run begins and ends. Raises Stopped after Ctrl-C; runs that have not begun are then not started.
    """
    if jobs < 1:
        raise MdwError(f"jobs is {jobs}; give 1 or more")
    unfinished = [run for run in planned if run.status != "finished"]
    failed: dict[str, str] = {}
    jobs = min(jobs, len(unfinished))
    if jobs <= 1:  # in this process, with all cores
        with Stages(len(unfinished), say) as stages:
            for run in unfinished:
                say(f"training {_name(run)}")
                failed |= _failure(run, partial(_train, run.spec, root, runs_root, device, True, _name(run)), stages)
        return failed
    threads, context = max((os.cpu_count() or 1) // jobs, 1), get_context("spawn")  # torch's threads hang after a fork
    free: SimpleQueue[ProcessPoolExecutor] = (
        SimpleQueue()
    )  # one pool for each process, because a killed process breaks its pool

    def new_worker() -> ProcessPoolExecutor:
        return ProcessPoolExecutor(1, mp_context=context, initializer=_begin, initargs=(threads,))

    def in_worker(run: Planned) -> str:
        worker = free.get()
        say(f"training {_name(run)} ({jobs} at a time)")
        try:
            return worker.submit(_train, run.spec, root, runs_root, device, False, _name(run)).result()
        except BrokenProcessPool:
            worker = new_worker()
            raise MdwError("its process was killed, as when memory runs out; the same command goes on from there") from None
        finally:
            free.put(worker)

    for _ in range(min(jobs, len(unfinished))):
        free.put(new_worker())
    with ThreadPoolExecutor(jobs) as slots, Stages(len(unfinished), say, watched=False) as stages:
        futures = {slots.submit(in_worker, run): run for run in unfinished}
        try:
            for future in as_completed(futures):
                failed |= _failure(futures[future], future.result, stages)
        except (KeyboardInterrupt, Stopped):
            slots.shutdown(cancel_futures=True)  # running trainings have got the same Ctrl-C and are saving
            raise Stopped("stopped; the same command goes on where each run was left") from None
        finally:
            slots.shutdown()
            while not free.empty():
                free.get().shutdown()
    return failed


def check_finished(planned: Sequence[Planned], root: str | Path, data: str) -> None:
    """Raise MdwError where a finished run on the data set `data` was trained on other data than those at `root`.

    Runs without recorded data are not checked. Each split is read once.
    """
    from mdw.training import fingerprint
    from mdw.training.runs import Run
    from mdw.training.train import load_splits

    fingerprints: dict[str, dict] = {}
    for run in planned:
        if run.status == "finished" and run.spec["recipe"]["data"] == data and "data" in Run(run.path).env:
            recipe = Recipe.from_dict(run.spec["recipe"])
            key = repr((recipe.train_split, recipe.val_split, recipe.train_options, recipe.val_options))
            if key not in fingerprints:
                fingerprints[key] = fingerprint.fingerprint(*load_splits(recipe, root))
            fingerprint.check(Run(run.path), fingerprints[key], root)


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
    """As `train_missing`, but every run is a job of a Slurm cluster, at most `jobs` at a time; waits until all have ended.

    `settings`: submitit's parameters, timeout_min, gpus_per_node, cpus_per_task, mem_gb, slurm_partition, ...; with
    tasks_per_node above 1 that many processes train each run together. A job that reaches its time limit or is preempted is
    queued again and resumes from its checkpoint. Scripts and logs are in `runs_root`/slurm. `cluster`: "slurm", or "local"
    for processes that submitit starts on this machine, for tests.
    Raises MdwError where submitit or Slurm is missing and for an unknown parameter.
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
    unfinished = [run for run in planned if run.status != "finished"]
    with executor.batch():
        tasks = [executor.submit(_Job(run.spec, root, runs_root, device)) for run in unfinished]
    submitted = {task.job_id: (task, run) for task, run in zip(tasks, unfinished, strict=True)}
    for job_id, (_, run) in submitted.items():
        say(f"training {_name(run)} as job {job_id}")
    failed: dict[str, str] = {}
    stages = Stages(len(unfinished), say, watched=False)
    try:
        for task in submitit.helpers.as_completed(tasks, poll_frequency=10 if cluster == "slurm" else 0.2):
            run = submitted[task.job_id][1]
            failed |= _failure(run, partial(_outcome, task), stages)
    except KeyboardInterrupt:
        raise Stopped(f"stopped waiting; the jobs {', '.join(submitted)} go on, scancel stops them") from None
    return failed


class _Job:
    """The work of one job, pickled by submitit."""

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
        """Returns the same job for another submission near the time limit; it resumes from the run's checkpoint."""
        import submitit

        return submitit.helpers.DelayedSubmission(self)


def _outcome(task) -> str:
    """Returns the result text of the job's first process. Raises MdwError, naming the log, for a failed job."""
    from submitit.core.utils import UncompletedJobError

    try:
        succeeded, text = task.results()[0]
    except UncompletedJobError as error:
        reason = str(error).strip().splitlines()[-1]
        raise MdwError(f"its job {task.job_id} failed ({reason}); see {task.paths.stderr}") from None
    if not succeeded:
        raise MdwError(text)
    return text


def _failure(run: Planned, outcome: Callable[[], str], stages: Stages) -> dict[str, str]:
    stages.begin(_name(run))
    try:
        stages.end(_name(run), f"finished, {outcome()}")
        return {}
    except Stopped:
        raise
    except Exception as error:  # any error: the other runs do not depend on this one
        reason = str(error) if isinstance(error, MdwError) else f"{type(error).__name__}: {error}"
        reason = " ".join(reason.split())[:500]
        stages.end(_name(run), f"failed, {reason}")
        return {run.path.name: reason}


def _name(run: Planned) -> str:
    return f"{run.row.label}, seed {run.seed}"


def _begin(threads: int) -> None:
    """Prepare a worker process before its first training."""
    os.environ["OMP_NUM_THREADS"] = str(threads)  # for torch, which is imported later, and for env.json
    when_parent_ends(_end)


def _end() -> None:
    """End this process after its parent was killed; otherwise its lock would block the same command when given again."""
    while True:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(20)  # the run has been saved by then, and the next signal ends the process


def _train(spec: dict, root, runs_root, device: str | None, bar: bool, title: str | None = None) -> str:
    from mdw.training.train import train

    try:
        result = train(spec, root, runs_root, device, bar=bar, title=title).outcome
    except KeyboardInterrupt:
        raise Stopped("stopped; the same command goes on from the last checkpoint") from None
    return f"{result['metric']} {result[result['metric']]:.4g}"
