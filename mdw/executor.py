"""Carries out the trainings that a study is missing: one by one, several at a time, or as jobs of a cluster."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

from mdw.errors import MdwError, Stopped
from mdw.studies import Planned

Say = Callable[[str], None]


def train_missing(
    planned: Sequence[Planned],
    root: str | Path | None = None,
    runs_root: str | Path = "runs",
    device: str | None = None,
    jobs: int = 1,
    say: Say = lambda line: None,
) -> list[str]:
    """Train every planned run that is not finished, on this machine; returns one sentence for each that failed.

    One that fails does not keep the others from being tried. With `jobs` > 1 that many processes share the processor's
    cores; small networks on small inputs gain, because one process alone cannot keep the cores busy. `say` is told one line
    when a run begins and ends. Raises Stopped where Ctrl-C has stopped one: then the others are not begun.
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
        try:
            for future in as_completed(futures):
                failed += _failure(futures[future], future.result, say)
        except (KeyboardInterrupt, Stopped):
            pool.shutdown(cancel_futures=True)  # those that run have got the same Ctrl-C and are saving
            raise Stopped("stopped; the same command goes on where each run was left") from None
    return failed


def farm_missing(
    planned: Sequence[Planned],
    root: str | Path | None = None,
    runs_root: str | Path = "runs",
    device: str | None = None,
    jobs: int | None = None,
    say: Say = lambda line: None,
    settings: dict | None = None,
    cluster: str = "slurm",
) -> list[str]:
    """As `train_missing`, every run a job of a Slurm cluster, at most `jobs` at a time; waits until all have ended.

    `settings` are submitit's parameters: timeout_min, gpus_per_node, cpus_per_task, mem_gb, slurm_partition, ...; with
    tasks_per_node above 1 that many processes train each run together. A job that reaches its time limit or is preempted is
    queued again and goes on from its checkpoint. Scripts and logs are in `runs_root`/slurm. `cluster`: "slurm", or "local"
    for processes of this machine under submitit's care, for tests.
    Raises MdwError where there is no submitit, no Slurm or no such parameter.
    """
    try:
        import submitit
    except ImportError:
        raise MdwError("submitit is not installed; install the extra: pip install -e '.[slurm]'") from None
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
    failed = []
    try:
        for task in submitit.helpers.as_completed(tasks, poll_frequency=10 if cluster == "slurm" else 0.2):
            one = submitted[task.job_id][1]
            failed += _failure(one, lambda task=task: _outcome(task), say)
    except KeyboardInterrupt:
        raise Stopped(f"stopped waiting; the jobs {', '.join(submitted)} go on, scancel stops them") from None
    return failed


class _Job:
    """What a job does; pickled by submitit, for this very job."""

    def __init__(self, *arguments):
        self.arguments = arguments

    def __call__(self) -> tuple[bool, str]:
        import submitit

        if submitit.JobEnvironment().num_tasks > 1:
            submitit.helpers.TorchDistributedEnvironment().export()
        try:
            return True, _train(*self.arguments, False)
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


def _failure(one: Planned, outcome: Callable[[], str], say: Say) -> list[str]:
    try:
        say(f"finished {_name(one)}: {outcome()}")
        return []
    except Stopped:
        raise
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
        raise Stopped("stopped; the same command goes on from the last checkpoint") from None
    return f"{result['metric']} {result[result['metric']]:.4g}"
