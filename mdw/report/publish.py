"""Notebooks -> reports: execute each one, write its page, then the index of all of them."""

from collections.abc import Callable, Iterable
from pathlib import Path

import nbformat

from mdw.errors import MdwError
from mdw.files import write_json, write_text
from mdw.report import markup, page, tables
from mdw.report import parameters as params
from mdw.report.notebook import RECORD, read_record, run_notebook

COMMON = ("preset", "runs", "seeds")  # go to every notebook that declares them; one without is no mistake
NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"


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
            raise MdwError(f"the report `{name}` {several}; name one of them")
        found += [file for file in fits if file not in found]
    return found or files


def check_parameters(
    names: Iterable[str],
    preset: str,
    parameters: dict | None = None,
    runs_root: str | Path = "runs",
    notebooks: str | Path = NOTEBOOKS,
) -> dict[Path, dict]:
    """-> for each named notebook (all for none) the parameters it is given: those of `COMMON` and `parameters` it declares.

    Raises MdwError for an unknown name, a value of the wrong kind, or a parameter outside `COMMON` that none of them declares.
    """
    values = {"preset": preset, "runs": str(runs_root)} | (parameters or {})
    allowed = {file: params.declared(params.load(file), file.name) for file in find(names, notebooks)}
    known = dict.fromkeys(name for one in allowed.values() for name in one)
    for name in values:
        if name not in known and name not in COMMON:
            raise MdwError(f"no report named here has the parameter `{name}`; they take {', '.join(known) or 'none at all'}")
    jobs = {file: {name: value for name, value in values.items() if name in one} for file, one in allowed.items()}
    for file, given in jobs.items():
        params.check(given, allowed[file], file.name)
    return jobs


def publish(
    names: Iterable[str] = (),
    preset: str = "demo",
    parameters: dict | None = None,
    runs_root: str | Path = "runs",
    out: str | Path = "reports",
    timeout: float | None = None,
    notebooks: str | Path = NOTEBOOKS,
    say: Callable[[str], None] = lambda line: None,
) -> list[dict]:
    """Execute the named notebooks (all for none), write `out/<name>/index.html` and `out/index.html`; returns the records.

    The parameters are those of `check_parameters`, which is called first. timeout: seconds for one notebook. say: told two
    lines per notebook. A report that fails does not keep the next ones from being written; its page and its record say how
    it ended. Raises MdwError, before any is executed, as `check_parameters` does.
    """
    records = []
    for file, values in check_parameters(names, preset, parameters, runs_root, notebooks).items():
        say(f"{file.stem}: running")
        try:
            run_notebook(file, values, Path(out) / file.stem, timeout)
            record = write_page(Path(out) / file.stem)
        except MdwError as error:  # another process is at it, or the folder cannot be written: its record stays as it is
            record = {"notebook": file.stem, "status": "failed", "error": str(error), "seconds": 0.0}
        except Exception as error:  # a page that cannot be made must neither stop the others nor be called finished
            record = _fail(Path(out) / file.stem, f"Its page could not be made ({type(error).__name__}: {error})")
        records.append(record)
        say(
            f"{file.stem}: {page.ENDINGS[record['status']]} after {page.duration(record['seconds'])}"
            + (f" ({record['error']})" if record["error"] else "")
        )
    build_index(out, runs_root)
    return records


def write_page(folder: str | Path) -> dict:
    """Write `folder/index.html` from the record and the executed notebook there; returns the record.

    The record gains what the index needs: summary, headline and facts.
    """
    folder = Path(folder)
    record = read_record(folder)
    if record is None:
        raise MdwError(f"{folder} holds no {RECORD}; publish the report again")
    executed = folder / f"{record['notebook']}.ipynb"
    document = params.load(executed) if executed.exists() else nbformat.v4.new_notebook()
    text, about = page.render(document, record)
    record |= about
    write_text(folder / "index.html", text)
    write_json(folder / RECORD, record)
    return record


def _fail(folder: Path, error: str) -> dict:
    record = read_record(folder) | {"status": "failed", "error": error}
    write_json(folder / RECORD, record)
    return record


def build_index(out: str | Path = "reports", runs_root: str | Path = "runs") -> Path:
    """Write `out/index.html`: every report in `out` with its status, then the finished training runs of `runs_root`.

    Built from the records alone; a report whose process died is shown as interrupted. Returns the page's path.
    """
    out = Path(out)
    reports = []
    for folder in sorted(path.parent for path in out.glob(f"*/{RECORD}")):
        record = read_record(folder)
        facts = record.get("facts", {})
        reports.append(
            {
                "record": record,
                "folder": folder.name,
                "page": (folder / "index.html").exists(),
                "summary": markup.inline(record.get("summary", "")),
                "headline": markup.inline(record.get("headline", "")),
                "hardware": facts.get("Hardware"),
            }
        )
    return write_text(
        out / "index.html",
        page.environment()
        .get_template("index.html.j2")
        .render(title="Reports", root="", reports=reports, runs=_runs(runs_root, out)),
    )


def _runs(root: str | Path, out: Path) -> str:
    """The table of finished runs as markup, or a sentence where there is none."""
    output = tables.runs_table(root, out)
    if not output.spec["rows"]:
        return "<p>No training run has finished yet.</p>"
    return markup.table(output.spec, None, "finished-runs")
