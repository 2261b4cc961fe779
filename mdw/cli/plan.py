"""The messages of `mdw reproduce`: the plan before training, and the summary of each table afterwards."""

import os
from collections.abc import Sequence
from pathlib import Path

from mdw.cli.common import as_table
from mdw.experiments.studies import Planned, each_once
from mdw.training.runs import network_name
from mdw.training.runs import threads as count_threads
from mdw.util.stages import clock
from mdw.util.words import count


def describe(planned: dict[str, list[Planned]], preset: str, root: Path, device: str | None, jobs: int | None) -> dict:
    """Returns the plan as JSON values: preset, reports, runs and totals.

    A run has: run (its folder's name), status, network, recipe, lr, seed, samples still to be trained, seconds (estimated from
    the speed of the record `basis`; both None without one), trained_by (the flag that trains it, if it is left out) and rows,
    its rows in each report. `jobs`: how many are trained at a time on this machine; None for a cluster, whose speed is unknown.
    """
    from mdw.backends.choose import choose, pick_device
    from mdw.experiments.estimate import Estimate, Speeds

    device = pick_device(device)
    cores = os.cpu_count() or 1
    threads = max(cores // jobs, 1) if jobs is not None and jobs > 1 else count_threads()
    speeds = Speeds(root, device, threads, choose("auto", device))
    lines = []
    for run in each_once(planned):
        estimate = speeds.estimate(run)
        if jobs is None and estimate.seconds:
            estimate = Estimate(estimate.samples)
        rows = {name: [item.row.label for item in runs if item.path == run.path] for name, runs in planned.items()}
        lines.append(
            {
                "run": run.path.name,
                "status": run.status,
                "network": _network(run.spec),
                "recipe": run.spec["recipe"]["name"],
                "lr": run.spec["recipe"]["lr"],
                "seed": run.seed,
                "samples": estimate.samples,
                "seconds": None if estimate.seconds is None else round(estimate.seconds, 1),
                "basis": estimate.basis,
                "trained_by": run.trained_by,
                "rows": {name: list(dict.fromkeys(labels)) for name, labels in rows.items() if labels},
            }
        )
    todo = [line for line in lines if line["status"] not in ("finished", "left out")]
    times = [line["seconds"] for line in todo if line["seconds"] is not None]
    totals = {
        "runs": len(lines),
        "finished": sum(line["status"] == "finished" for line in lines),
        "left_out": sum(line["status"] == "left out" for line in lines),
        "to_train": len(todo),
        "samples": sum(line["samples"] or 0 for line in todo),
        "seconds": round(sum(times), 1) if times or not todo else None,
        "without_estimate": len(todo) - len(times),
        "jobs": jobs,
    }
    return {"preset": preset, "device": device, "reports": list(planned), "runs": lines, "totals": totals}


def as_text(plan: dict) -> str:
    """Returns the plan as text."""
    lines = [
        {
            "status": line["status"],
            "network": line["network"],
            "recipe": line["recipe"],
            "rate": line["lr"],
            "seed": line["seed"],
            "samples": "unknown" if line["samples"] is None else f"{line['samples']:,}",
            "estimated time": _time(line),
            "reports": ", ".join(name.partition("_")[0] for name in line["rows"]),
        }
        for line in plan["runs"]
    ]
    frame = as_table(lines) + "\n" if lines else ""
    return f"{frame}{_totals(plan)}\n{count(len(plan['reports']), 'report')} to write: {', '.join(plan['reports'])}"


def in_short(plan: dict, ready: list[str], waiting: list[str], runs: Path, out: Path) -> str:
    """Returns the plan in at most five lines. ready, waiting: the reports that need no training, and those that do."""
    totals, todo = plan["totals"], [line for line in plan["runs"] if line["status"] not in ("finished", "left out")]
    trainings = (
        f"{totals['finished']} of the {totals['runs']} trainings that the pages ask for are in {runs}" if totals["runs"] else ""
    )
    lines = [f"{trainings or 'These pages ask for no training'}; the pages go to {out}."]
    if ready:
        lines.append(f"First what waits for no training, {count(len(ready), 'page')}: {_numbers(ready)}.")
    if todo:
        names = list(dict.fromkeys(next(iter(line["rows"].values()))[0] for line in todo))
        shown = ", ".join(names[:2]) + (f" and {len(names) - 2} more" if len(names) > 2 else "")
        lines.append(f"Then {count(len(todo), 'training')}, {shown}: {_estimated(totals)}.")
        lines.append(f"Last what shows that, {count(len(waiting), 'page')}: {_numbers(waiting)}.")
    if totals["left_out"]:
        flags = dict.fromkeys(line["trained_by"] for line in plan["runs"] if line["status"] == "left out")
        lines.append(f"Not trained now: {totals['left_out']}; mdw reproduce with {' or '.join(flags)} trains them.")
    return "\n".join(lines)


def _numbers(reports: list[str]) -> str:
    return ", ".join(name.partition("_")[0] for name in reports)


def _estimated(totals: dict) -> str:
    """Returns the time of the missing trainings as text, as far as it is known."""
    if totals["seconds"] is None:
        return "nothing like it was measured here, so its first steps will tell the time"
    exception = f", without {totals['without_estimate']} whose time is unknown" if totals["without_estimate"] else ""
    return f"about {clock(totals['seconds'] / (totals['jobs'] or 1))}{exception}"


def _time(line: dict) -> str:
    if line["status"] == "finished":
        return "-"
    return "unknown" if line["seconds"] is None else clock(line["seconds"])


def _totals(plan: dict) -> str:
    totals = plan["totals"]
    samples = f" ({count(totals['samples'], 'sample')})" if totals["to_train"] else ""
    sentence = f"{count(totals['runs'], 'run')}: {totals['finished']} finished, {totals['to_train']} to train{samples}"
    if totals["left_out"]:
        flags = dict.fromkeys(line["trained_by"] for line in plan["runs"] if line["status"] == "left out")
        sentence += f", {totals['left_out']} left out of {plan['preset']} (trained with {' or '.join(flags)})"
    if not totals["to_train"]:
        return f"{sentence}."
    sentence += ". Estimated"
    if totals["seconds"] is None:
        return f"{sentence} time: unknown, as nothing like them has been measured on this device."
    sentence += f" {clock(totals['seconds'])} of training"
    if (totals["jobs"] or 1) > 1:
        sentence += f", {clock(totals['seconds'] / totals['jobs'])} with {totals['jobs']} at a time"
    if totals["without_estimate"]:
        sentence += f", without {totals['without_estimate']} of them whose time is unknown"
    machines = dict.fromkeys(line["basis"].partition(", ")[2] for line in plan["runs"] if line["basis"])
    return f"{sentence}; from what was measured on {' and '.join(machines)}."


def summary(planned: dict[str, list[Planned]], failed: dict[str, str], records: Sequence[dict], preset: str) -> str:
    """Returns a line for each report with the status of its page and its runs, and below it runs that failed or are missing.

    planned: the runs after training. failed: a run's name -> the reason. records: of the reports, from `publish`.
    """
    lines = []
    for record in records:
        runs = {run.path: run for run in planned[record["notebook"]]}.values()
        finished = sum(run.status == "finished" for run in runs)
        of_runs = f", {finished} of {count(len(runs), 'run')} finished" if runs else ", needs no run"
        error = f" ({record['error']})" if record["error"] else ""
        lines.append(f"{record['notebook']}: page {record['status']}{error}{of_runs}")
        left_out = [run for run in runs if run.trained_by == "--all-rows" and run.status == "left out"]  # else the plan says it
        for run in runs:
            if run.path.name in failed:
                lines.append(f"    failed: {_name(run)}: {failed[run.path.name]}")
            elif run.status not in ("finished", "left out"):
                lines.append(f"    {run.status}: {_name(run)}")
        if left_out:
            names, flag = ", ".join(_name(run) for run in left_out), left_out[0].trained_by
            lines.append(f"    not run: {names}; the preset {preset} leaves them out, {flag} trains them")
    return "\n".join(lines)


def _name(run: Planned) -> str:
    return f"{run.row.label}, seed {run.seed}"


def _network(spec: dict) -> str:
    width, height = spec["recipe"]["input_size"]
    return f"{network_name(spec['model'], spec['options'])} {height}x{width}"
