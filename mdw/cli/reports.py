"""Commands about the report: reproduce, report, notebooks."""

from pathlib import Path
from typing import Annotated

import typer

from mdw.cli.common import Device, Root, RunsRoot, read_seeds, read_values, show
from mdw.util.errors import MdwError


def reproduce(
    tables: Annotated[list[str] | None, typer.Argument(help="Reports, e.g. table5 or 02; all if left out.")] = None,
    preset: Annotated[str, typer.Option(help="smoke, demo, lspet_hour, lspet_small, lspet, coco or mpii.")] = "demo",
    root: Root = None,
    seeds: Annotated[str | None, typer.Option(help="Seeds, e.g. 0,1,2; 0 if left out.")] = None,
    all_rows: Annotated[bool, typer.Option("--all-rows", help="Also the rows that smoke and demo leave out.")] = False,
    runs: RunsRoot = Path("runs"),
    out: Annotated[Path, typer.Option("--out", help="Where the pages go.")] = Path("reports"),
    parameter: Annotated[list[str] | None, typer.Option("--parameter", "-p", help="A notebook parameter, NAME=VALUE.")] = None,
    timeout: Annotated[float, typer.Option(help="Seconds for one notebook.")] = 1800,
    executor: Annotated[str, typer.Option(help="local, or slurm, an extra: each training a job.")] = "local",
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Trainings or pages at a time; local 1, slurm all if left out.")
    ] = None,
    slurm: Annotated[list[str] | None, typer.Option(help="submitit's parameter, e.g. slurm_partition=gpu; repeatable.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be trained and written.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="With --dry-run: the plan as JSON.")] = False,
    device: Device = None,
) -> None:
    """Train what the reports need and is missing, then execute and publish their notebooks.

    A training or a report that fails keeps no other from being tried; the summary says what became of each table.
    """
    from mdw.cli.plan import as_text, describe, summary
    from mdw.experiments import studies
    from mdw.experiments.executor import check_finished, farm_missing, train_missing
    from mdw.report.site import publish

    if executor not in ("local", "slurm"):
        raise MdwError(f"there is no executor {executor!r}; give --executor local or slurm")
    if as_json and not dry_run:
        raise MdwError("--json prints the plan; give it together with --dry-run")
    settings = read_values("--slurm", slurm)

    chosen = [path.stem for path in publish.find(tables or [])]
    numbers = read_seeds("0" if seeds is None else seeds)
    planned = studies.plan_reports(chosen, preset, numbers, runs, all_rows)
    at_once = (jobs or 1) if executor == "local" else 1  # on this machine
    plan = describe(planned, preset, runs, device, at_once if executor == "local" else None)
    if dry_run:
        show(plan, as_json, as_text)
        return
    parameters = ({} if seeds is None else {"seeds": numbers}) | read_values("--parameter", parameter)
    publish.check_parameters(chosen, preset, parameters, runs)  # before hours of training, not after
    typer.echo(as_text(plan))
    wanted = [one for one in studies.each_once(planned) if one.status != "left out"]
    if root is not None:
        check_finished(wanted, root, studies.recipe(studies.FULL, preset).data)
    if executor == "slurm":
        failed = farm_missing(wanted, root, runs, device, jobs, typer.echo, settings)
    else:
        failed = train_missing(wanted, root, runs, device, jobs or 1, typer.echo)
    records = publish.publish(chosen, preset, parameters, runs, out, timeout, say=typer.echo, jobs=at_once)
    now = studies.plan_reports(chosen, preset, numbers, runs, all_rows)
    typer.echo(summary(now, failed, records, preset))
    typer.echo(f"{len(records)} reports in {out}; open {out / 'index.html'}")
    bad = [record["notebook"] for record in records if record["status"] != "finished"]
    if failed or bad:
        raise MdwError(
            f"not everything ended well: {len(failed)} trainings and {len(bad)} reports failed; see the summary; "
            "the same command tries them again"
        )


def report(
    names: Annotated[list[str] | None, typer.Argument(help="Reports, e.g. table5 or 02; all if left out.")] = None,
    preset: Annotated[
        str | None, typer.Option(help="As for reproduce; a page keeps its parameters if left out, a new one is demo.")
    ] = None,
    runs: Annotated[Path | None, typer.Option("--runs", help="The folder of training runs; runs if left out.")] = None,
    out: Annotated[Path, typer.Option("--out", help="Where the pages go.")] = Path("reports"),
    parameter: Annotated[list[str] | None, typer.Option("--parameter", "-p", help="A notebook parameter, NAME=VALUE.")] = None,
    timeout: Annotated[float, typer.Option(help="Seconds for one notebook.")] = 1800,
    check: Annotated[bool, typer.Option("--check", help="Only say which pages are stale and why; status 1 if any is.")] = False,
    force: Annotated[bool, typer.Option("--force", "--all", help="Rebuild pages that are fresh, too.")] = False,
    jobs: Annotated[int, typer.Option(min=1, help="Pages at a time.")] = 1,
) -> None:
    """Execute and publish the notebooks whose pages are stale, from the runs that are there; nothing is trained."""
    from mdw.report.site import publish

    given = read_values("--parameter", parameter)
    if check:
        pages = publish.stale(publish.check_parameters(names or [], preset, given, runs, out=out), out)
        for name, why in pages.items():
            typer.echo(f"{name}: {'stale, ' + '; '.join(why) if why else 'fresh'}")
        if old := [name for name, why in pages.items() if why]:
            raise MdwError(f"{len(old)} of {len(pages)} pages in {out} are stale; `mdw report` rebuilds them")
        return
    records = publish.publish(names or [], preset, given, runs, out, timeout, say=typer.echo, force=force, jobs=jobs)
    failed = [f"{record['notebook']}: {record['error']}" for record in records if record["status"] != "finished"]
    typer.echo(f"{len(records)} reports in {out}; open {out / 'index.html'}")
    if failed:
        raise MdwError("not every report ended well: " + "; ".join(failed))


def notebooks(folder: Annotated[Path, typer.Argument(help="Where to put them; made if it is not there.")]) -> None:
    """Copy the report's notebooks into a folder, to run and change them in JupyterLab."""
    from mdw.report.site.notebooks import copy_notebooks

    copied = copy_notebooks(folder)
    typer.echo(f"{len(copied)} notebooks in {folder}; open them with: jupyter lab {folder}")
