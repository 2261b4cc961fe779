"""Notebooks -> reports: execute those whose page is stale, write their pages, then the index of all of them."""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat

from mdw.experiments import studies
from mdw.report.site import page, provenance
from mdw.report.site import parameters as params
from mdw.report.site.excerpt import EXCERPT
from mdw.report.site.notebook import RECORD, read_record, run_notebook, whole_record
from mdw.report.site.notebooks import NOTEBOOKS
from mdw.report.site.sources import changes, setting, setting_changes
from mdw.training.runs import located
from mdw.util.errors import MdwError
from mdw.util.files import write_json, write_text
from mdw.util.stages import Stages
from mdw.util.typed import Seeds, fit
from mdw.util.words import nearest

COMMON = ("preset", "runs", "seeds")  # go to every notebook that declares them; one without is no mistake


def find(names: Iterable[str] = (), notebooks: str | Path = NOTEBOOKS) -> list[Path]:
    """Notebook files for `names`, all of them for none. A name may be the file's, its number ("06") or a part of it.

    Raises MdwError for a name that fits no notebook or several, and where the folder holds none.
    """
    files = sorted(Path(notebooks).glob("*.ipynb"))
    if not files:
        raise MdwError(f"there is no notebook in {notebooks}; name the project's folder `notebooks`")
    stems = [file.stem for file in files]
    found = []
    for name in names:
        name = str(name).removesuffix(".ipynb")
        fits = [file for file in files if file.stem == name] or [
            file for file in files if name and (file.stem.startswith(f"{name}_") or name in file.stem.partition("_")[2])
        ]
        if len(fits) != 1:
            several = f"fits {', '.join(file.stem for file in fits)}" if fits else f"is none of {', '.join(stems)}"
            near = [] if fits else nearest(name, sorted({word for stem in stems for word in (stem, *stem.split("_"))}, key=len))
            meant = f" (did you mean {near[0]}?)" if near else ""
            raise MdwError(f"the report `{name}` {several}; name one of them{meant}")
        found += [file for file in fits if file not in found]
    return found or files


def check_parameters(
    names: Iterable[str],
    preset: str | None,
    parameters: dict | None = None,
    runs_root: str | Path | None = "runs",
    notebooks: str | Path = NOTEBOOKS,
    out: str | Path = "reports",
) -> dict[Path, dict]:
    """-> for each named notebook (all for none) the parameters it is given: those of `COMMON` and `parameters` it declares.

    Without a preset a notebook that has a page in `out` keeps what that page was given, but for what is given here; one
    without a page gets the preset "records".
    Raises MdwError for an unknown name, a value of the wrong kind, or a parameter outside `COMMON` that none of them declares.
    """
    told = {"preset": preset, "runs": None if runs_root is None else str(runs_root)}
    told = {name: value for name, value in told.items() if value is not None} | (parameters or {})
    allowed = {file: params.declared(params.load(file), file.name) for file in find(names, notebooks)}
    known = dict.fromkeys(name for one in allowed.values() for name in one)
    for name in told:
        if name not in known and name not in COMMON:
            raise MdwError(f"no report named here has the parameter `{name}`; they take {', '.join(known) or 'none at all'}")
    jobs = {}
    for file, one in allowed.items():
        kept = _kept(Path(out) / file.stem, one, file.name) if preset is None else {}
        values = {"preset": studies.RECORDS, "runs": "runs"} | kept | told
        if isinstance(values["runs"], str):
            values["runs"] = str(located(values["runs"]))
        jobs[file] = {name: value for name, value in values.items() if name in one}
        params.check(jobs[file], one, file.name)
        if "seeds" in jobs[file]:
            fit("seeds", jobs[file]["seeds"], Seeds, (0, 1, 2))
    return jobs


def _kept(folder: Path, allowed: dict[str, params.Parameter], where: str) -> dict:
    """The parameters that a published page was given; none where there is no page, or where they are none of its notebook's."""
    record = whole_record(folder) or {}
    values = {name: record["parameters"][name] for name in record.get("given", ()) if name in allowed}
    try:
        params.check(values, allowed, where)
    except MdwError:
        return {}
    return values


def stale(jobs: dict[Path, dict], out: str | Path = "reports") -> dict[str, list[str]]:
    """-> for each job of `check_parameters`, by the report's name, why its page in `out` is stale; no reason: it is fresh."""
    return {file.stem: [reason for why in _reasons(file, values, Path(out)) for reason in why] for file, values in jobs.items()}


def _reasons(file: Path, values: dict, out: Path) -> tuple[list[str], list[str]]:
    """Why a notebook must be executed again, and why its page must be set again even where it need not be."""
    try:
        record = read_record(out / file.stem)
    except MdwError:
        return [f"its {RECORD} is damaged"], []
    if record is None or not (out / file.stem / "index.html").exists():
        return ["there was no page"], []
    return changes(record, file, params.check(values, params.declared(params.load(file)), file.name)), setting_changes(record)


def publish(
    names: Iterable[str] = (),
    preset: str | None = studies.RECORDS,
    parameters: dict | None = None,
    runs_root: str | Path | None = "runs",
    out: str | Path = "reports",
    timeout: float | None = None,
    notebooks: str | Path = NOTEBOOKS,
    say: Callable[[str], None] = lambda line: None,
    force: bool = False,
    jobs: int = 1,
) -> list[dict]:
    """Execute the named notebooks (all for none) whose pages are stale, or all of them by `force`; returns the records.

    Writes `out/<name>/index.html` and `out/index.html`. Where only the way in which pages are set has changed, that alone is
    done anew. The parameters are those of `check_parameters`, which is called first. timeout: seconds for one notebook. say:
    told a line for each page, as `Stages` has it. jobs: notebooks that are executed at a
    time, each by a process of its own; they share the processor's cores, and after Ctrl-C those that run are ended
    first. A report that fails does not keep the next ones from being written; its page and its record say how it ended. Raises
    MdwError, before any is executed, as `check_parameters` does.
    """
    wanted = check_parameters(names, preset, parameters, runs_root, notebooks, out)
    threads = None if jobs == 1 else max((os.cpu_count() or 1) // jobs, 1)

    with Stages(len(wanted), say) as stages:

        def one(file: Path, values: dict) -> dict:
            return _publish(file, values, Path(out), timeout, stages, force, threads)

        if jobs == 1:
            records = [one(*job) for job in wanted.items()]
        else:
            with ThreadPoolExecutor(jobs) as slots:
                futures = [slots.submit(one, *job) for job in wanted.items()]
                try:
                    records = [future.result() for future in futures]
                except KeyboardInterrupt:
                    slots.shutdown(cancel_futures=True)
                    raise
    from mdw.report.site.index import build_index  # it loads seaborn, which who only plans needs not wait for

    build_index(out, located("runs" if runs_root is None else runs_root))
    return records


def _publish(
    file: Path, values: dict, out: Path, timeout: float | None, stages: Stages, force: bool, threads: int | None
) -> dict:
    """One report, as `publish` has it; returns its record."""
    stages.begin(file.stem)
    why, set_again = _reasons(file, values, out)
    if not (why or set_again or force) and (kept := read_record(out / file.stem)) is not None:
        stages.end(file.stem, "fresh")
        return kept
    execute = bool(why) or force
    try:
        if execute:
            run_notebook(file, values, out / file.stem, timeout, threads)
        record = write_page(out / file.stem)
    except MdwError as error:  # another process is at it, or the folder cannot be written: its record stays as it is
        record = {"notebook": file.stem, "status": "failed", "error": str(error), "seconds": 0.0}
    except Exception as error:  # a page that cannot be made must neither stop the others nor be called finished
        record = _fail(out / file.stem, f"Its page could not be made ({type(error).__name__}: {error})")
    if execute or record["status"] != "finished":
        words = f"{provenance.ENDINGS[record['status']]} after {provenance.duration(record['seconds'])}"
        stages.end(file.stem, f"{words}; {record['error'] or 'made because ' + ('; '.join(why) or 'it was asked for')}")
    else:
        stages.end(file.stem, f"set again because {'; '.join(set_again)}")
    return record


def write_page(folder: str | Path) -> dict:
    """Write `folder/index.html` from the record and the executed notebook there; returns the record.

    The record gains what the index says of the report (summary, headline, facts), the names of its `files` and `setting`, which
    code made the page; the headline figure and the texts for the search go into `excerpt.json` beside it.
    """
    folder = Path(folder)
    record = read_record(folder)
    if record is None:
        raise MdwError(f"{folder} holds no {RECORD}; publish the report again")
    executed = folder / f"{record['notebook']}.ipynb"
    document = params.load(executed) if executed.exists() else nbformat.v4.new_notebook()
    record["files"] = sorted(path.name for kind in ("*.csv", "*.svg") for path in folder.glob(kind))
    text, about = page.render(document, record)
    record |= {name: about[name] for name in ("summary", "headline", "facts")}
    write_text(folder / "index.html", text)
    record["setting"] = setting()
    write_json(folder / EXCERPT, about["excerpt"])
    write_json(folder / RECORD, record)
    return record


def _fail(folder: Path, error: str) -> dict:
    record = (whole_record(folder) or {"notebook": folder.name, "seconds": 0.0}) | {"status": "failed", "error": error}
    write_json(folder / RECORD, record)
    return record
