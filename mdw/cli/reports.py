"""Commands about the report: reproduce, report, notebooks."""

from pathlib import Path
from typing import Annotated

import typer

from mdw.cli.common import Device, Root, RunsRoot, read_seeds, read_values, show
from mdw.util.errors import MdwError
from mdw.util.extras import need
from mdw.util.words import count, unknown


def reproduce(
    tables: Annotated[list[str] | None, typer.Argument(help="Reports, e.g. table5 or 02; all if left out.")] = None,
    preset: Annotated[
        str, typer.Option(help="records (one small training), smoke, demo, lspet_hour, lspet_small, lspet, coco or mpii.")
    ] = "records",
    root: Root = None,
    seeds: Annotated[str | None, typer.Option(help="Seeds, e.g. 0,1,2; 0 if left out.")] = None,
    all_rows: Annotated[bool, typer.Option("--all-rows", help="Also the rows that smoke and demo leave out.")] = False,
    runs: RunsRoot = Path("runs"),
    out: Annotated[Path, typer.Option("--out", help="Where the pages go.")] = Path("reports"),
    parameter: Annotated[list[str] | None, typer.Option("--parameter", "-p", help="A notebook parameter, NAME=VALUE.")] = None,
    timeout: Annotated[float, typer.Option(help="Seconds for one notebook.")] = 1800,
    executor: Annotated[str, typer.Option(help="local; or slurm, which needs the extra slurm: each training a job.")] = "local",
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Trainings or pages at a time; local 1, slurm all if left out.")
    ] = None,
    slurm: Annotated[list[str] | None, typer.Option(help="submitit's parameter, e.g. slurm_partition=gpu; repeatable.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be trained and written.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="With --dry-run: the plan as JSON.")] = False,
    device: Device = None,
) -> None:
    """Publish the reports whose trainings are finished, train what the others are missing, then publish those.

    After a failed training or report the others are still tried; the summary gives the result of each table.
    """
    from mdw.cli.plan import as_text, describe, in_short, summary
    from mdw.experiments import studies
    from mdw.experiments.executor import check_finished, farm_missing, train_missing
    from mdw.report.site import publish
    from mdw.training.runs import located

    if executor not in ("local", "slurm"):
        raise unknown("there is no executor", executor, ("local", "slurm"), "the executors are")
    if as_json and not dry_run:
        raise MdwError("--json prints the plan; give it together with --dry-run")
    settings = read_values("--slurm", slurm)
    if executor == "slurm" and not dry_run:
        need("slurm", "submitit")

    runs, chosen = located(runs), [path.stem for path in publish.find(tables or [])]
    numbers = read_seeds("0" if seeds is None else seeds)
    planned = studies.plan_reports(chosen, preset, numbers, runs, all_rows)
    at_once = (jobs or 1) if executor == "local" else 1  # on this machine
    plan = describe(planned, preset, runs, device, at_once if executor == "local" else None)
    if dry_run:
        show(plan, as_json, as_text)
        return
    parameters = ({} if seeds is None else {"seeds": numbers}) | read_values("--parameter", parameter)
    publish.check_parameters(chosen, preset, parameters, runs)  # before hours of training, not after
    wanted = [run for run in studies.each_once(planned) if run.status != "left out"]
    missing = {run.path for run in wanted if run.status != "finished"}
    waiting = [name for name, planned_runs in planned.items() if any(run.path in missing for run in planned_runs)]
    ready = sorted((name for name in chosen if name not in waiting), key=lambda name: name not in studies.NEEDS)  # fast ones
    typer.echo(in_short(plan, sorted(ready), waiting, runs, out))

    def pages(names: list[str]) -> list[dict]:
        return publish.publish(names, preset, parameters, runs, out, timeout, say=typer.echo, jobs=at_once) if names else []

    if root is not None:
        check_finished(wanted, root, studies.recipe(studies.FULL, preset).data)
    records = pages(ready)
    if executor == "slurm":
        failed = farm_missing(wanted, root, runs, device, jobs, typer.echo, settings)
    else:
        failed = train_missing(wanted, root, runs, device, jobs or 1, typer.echo)
    records = sorted(records + pages(waiting), key=lambda record: record["notebook"])
    planned_now = studies.plan_reports(chosen, preset, numbers, runs, all_rows)
    typer.echo(summary(planned_now, failed, records, preset))
    typer.echo(f"{count(len(records), 'report')} in {out}; open {out / 'index.html'}")
    failed_reports = [record["notebook"] for record in records if record["status"] != "finished"]
    if failed or failed_reports:
        raise MdwError(
            f"not everything ended well: {count(len(failed), 'training')} and {count(len(failed_reports), 'report')} failed; "
            "see the summary; the same command tries them again"
        )


def report(
    names: Annotated[list[str] | None, typer.Argument(help="Reports, e.g. table5 or 02; all if left out.")] = None,
    preset: Annotated[
        str | None, typer.Option(help="As for reproduce; a page keeps its parameters if left out, a new one is records.")
    ] = None,
    runs: Annotated[Path | None, typer.Option("--runs", help="The folder of training runs; runs if left out.")] = None,
    out: Annotated[Path, typer.Option("--out", help="Where the pages go.")] = Path("reports"),
    parameter: Annotated[list[str] | None, typer.Option("--parameter", "-p", help="A notebook parameter, NAME=VALUE.")] = None,
    timeout: Annotated[float, typer.Option(help="Seconds for one notebook.")] = 1800,
    check: Annotated[bool, typer.Option("--check", help="Only say which pages are stale and why; status 1 if any is.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Rebuild pages that are fresh, too.")] = False,
    every: Annotated[bool, typer.Option("--all", hidden=True)] = False,  # what --force was called
    jobs: Annotated[int, typer.Option(min=1, help="Pages at a time.")] = 1,
) -> None:
    """Execute and publish the notebooks whose pages are stale, from the existing runs; nothing is trained."""
    from mdw.experiments import studies
    from mdw.report.site import publish

    if preset is not None:
        studies.answered_by(preset)  # raises for an unknown preset, before anything is executed
    values = read_values("--parameter", parameter)
    if check:
        pages = publish.stale(publish.check_parameters(names or [], preset, values, runs, out=out), out)
        for name, reasons in pages.items():
            typer.echo(f"{name}: {'stale, ' + '; '.join(reasons) if reasons else 'fresh'}")
        if stale := [name for name, reasons in pages.items() if reasons]:
            raise MdwError(f"stale in {out}: {len(stale)} of {count(len(pages), 'page')}; `mdw report` rebuilds them")
        return
    records = publish.publish(names or [], preset, values, runs, out, timeout, say=typer.echo, force=force or every, jobs=jobs)
    failed = [f"{record['notebook']}: {record['error']}" for record in records if record["status"] != "finished"]
    typer.echo(f"{count(len(records), 'report')} in {out}; open {out / 'index.html'}")
    if failed:
        raise MdwError("not every report ended well: " + "; ".join(failed))


def notebooks(folder: Annotated[Path, typer.Argument(help="Where to put them; made if it is not there.")]) -> None:
    """Copy the report's notebooks into a folder, to run and change them in JupyterLab."""
    from mdw.report.site.notebooks import copy_notebooks

    copied = copy_notebooks(folder)
    typer.echo(f"{count(len(copied), 'notebook')} in {folder}; open them with: jupyter lab {folder}")
