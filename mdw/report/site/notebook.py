"""Execute one notebook through papermill and keep an honest record of how that ended.

papermill marks every cell "completed" after a timeout or a dead kernel, and runs on whatever kernel is installed under the
notebook's kernel name. So the record is ours (`run.json`) and the kernel is always the Python that runs this process.
"""

import hashlib
import logging
import os
import platform
import re
import tempfile
import time
import traceback
import uuid
from contextlib import suppress
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import nbformat

from mdw.report.site import kernel
from mdw.report.site import parameters as params
from mdw.report.site.provenance import ENDINGS
from mdw.report.site.sources import sources
from mdw.training.runs import commit, hardware
from mdw.util.errors import MdwError
from mdw.util.files import read_json, write_json, write_text
from mdw.util.typed import check_fields

RECORD = "run.json"
FIELDS = {"notebook": str, "title": str, "status": Literal[tuple(ENDINGS)], "parameters": dict[str, Any], "started": str}
FIELDS |= {"seconds": float | None, "given": tuple[str, ...], "preset": str | None, "commit": str | None, "cell": int | None}
FIELDS |= dict.fromkeys(("sha256", "python", "summary", "headline", "host"), str)
FIELDS |= {
    "hardware": str | None,
    "error": str | None,
    "traceback": str | None,
    "pid": int,
    "pid_started": str | None,
    "timeout": float | None,
}
FIELDS |= {"versions": dict[str, str], "facts": dict[str, Any], "files": tuple[str, ...], "setting": dict[str, str | None]}
NEEDED = ("notebook", "title", "status", "parameters", "started", "seconds", "sha256", "python", "versions")
MADE_OF = {"code": dict[str, str | None], "runs": dict[str, str | None], "listed": dict[str, list[str]]}
ABSENT = ("preset", "commit", "hardware", "error", "cell", "traceback")  # None where a record says nothing of it
LIMIT = 2000  # characters kept from the end of a traceback


def run_notebook(
    notebook: str | Path, parameters: dict, out: str | Path, timeout: float | None = None, threads: int | None = None
) -> dict:
    """Execute `notebook` with `parameters` into the folder `out`; returns its record.

    Writes `out/<name>.ipynb` (executed) and `out/run.json` with: notebook (name), title, status, parameters (all, as
    used), given (the names of those that the caller set), preset, started (ISO, UTC), seconds, timeout, commit, hardware,
    sha256 (of the notebook file), python, versions, error (one sentence or None), cell (number of the code cell that failed),
    traceback (its end), sources (see `sources.sources`). `status` is "running" until it is over, then "finished", "failed" (a
    cell raised), "timeout" (`timeout` seconds for the whole notebook are up), "killed" (the kernel died) or "interrupted"
    (stopped from outside). None of these endings raises, except that an interruption
    is raised again after it was recorded. Code in the notebook learns the folder from the variable MDW_REPORT. threads:
    of its backend; None is torch's choice.

    Raises MdwError for an unknown parameter or a value of the wrong kind, before anything is started or written, and
    where another living process is publishing into `out`.
    """
    notebook, out = Path(notebook), Path(out)
    document = params.load(notebook)
    values = params.check(parameters, params.declared(document, notebook.name), notebook.name)
    if (earlier := whole_record(out)) and earlier["status"] == "running":
        raise MdwError(
            f"process {earlier['pid']} is publishing into {out} at this moment; wait for it or choose another folder"
        )
    executed = out / notebook.name
    for old in [executed, out / "index.html", *out.glob("*.svg"), *out.glob("*.csv")]:
        old.unlink(missing_ok=True)  # what an earlier run left must not stand under this run's record
    record = {
        "notebook": notebook.stem,
        "title": title(document) or notebook.stem,
        "status": "running",
        "parameters": values,
        "given": list(parameters),
        "preset": values.get("preset"),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": None,
        "timeout": timeout,
        "commit": commit(),
        "hardware": hardware(),
        "sha256": hashlib.sha256(notebook.read_bytes()).hexdigest(),
        "python": platform.python_version(),
        "versions": versions(),
        "error": None,
        "cell": None,
        "traceback": None,
        "pid": os.getpid(),
        "host": platform.node(),
        "pid_started": _process_started(os.getpid()),
    }
    write_json(out / RECORD, record)
    begun, clock = time.monotonic(), time.time()
    ending: dict[str, Any] = {"status": "interrupted", "error": "It was stopped from outside before it ended"}
    ending |= {"cell": None, "traceback": None}
    try:
        ending, notes = _execute(notebook, values, executed, timeout, threads)
        ending["sources"] = sources(notes, values.get("runs"), clock)
    finally:
        record |= ending | {"seconds": round(time.monotonic() - begun, 2)}
        record = {key: value for key, value in record.items() if key not in ("pid", "host", "pid_started")}
        write_json(out / RECORD, record)
    return record


def read_record(folder: str | Path) -> dict | None:
    """The record of a report folder, or None where there is none.

    A record that says "running" although its process is gone comes back as "interrupted". Raises MdwError, naming the file,
    where it is damaged; fields of a later version stay.
    """
    path = Path(folder) / RECORD
    if not os.path.lexists(path):
        return None
    record = dict.fromkeys(ABSENT) | check_fields(str(path), read_json(path), FIELDS, NEEDED)
    if not re.fullmatch(r"[^./][^/]*", record["notebook"]):
        raise MdwError(f"{path}: notebook is {record['notebook']!r}, which is no file's name; publish the report again")
    if missing := [name for name in record.get("given", ()) if name not in record["parameters"]]:
        raise MdwError(f"{path}: parameters lack {missing[0]!r}, which it was given; publish the report again")
    if record.get("sources") is not None:
        check_fields(f"{path}: sources", record["sources"], MADE_OF, tuple(MADE_OF))
    if record["status"] == "running":
        check_fields(str(path), record, {}, ("pid",))
    if record["status"] == "running" and not _alive(record):
        record |= {"status": "interrupted", "error": "The process that ran it ended without a word"}
    return record


def whole_record(folder: str | Path) -> dict | None:
    """The record of a report folder, None also where it is damaged."""
    try:
        return read_record(folder)
    except MdwError:
        return None


def _execute(
    notebook: Path, values: dict, executed: Path, timeout: float | None, threads: int | None
) -> tuple[dict, dict[str, list[str]]]:
    """Run the kernel; returns the ending (status, error, cell, traceback) and its notes.

    The notebook so far lands in `executed`.
    """
    import papermill  # its import takes most of a second, which `mdw --help` need not wait for
    from nbclient.exceptions import CellTimeoutError, DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    logging.getLogger("papermill").addHandler(logging.NullHandler())  # how it ended stands in the record, not on stderr
    temporary = executed.with_name(f".{uuid.uuid4().hex[:8]}-{executed.name}")
    deadline = None if timeout is None else time.monotonic() + timeout
    status, error, cell, trace, notes = "finished", None, None, None, {}
    with tempfile.TemporaryDirectory(prefix="mdw-", ignore_cleanup_errors=True) as folder:
        scratch = Path(folder)
        try:
            papermill.execute_notebook(
                _braced(notebook),
                _braced(temporary),
                parameters=values,
                kernel_name="python3",
                language="python",
                progress_bar=False,
                cwd=Path.cwd(),
                kernel_manager_class=kernel.manager(scratch, executed.parent.resolve(), threads),
                timeout_func=None if deadline is None else lambda cell: max(deadline - time.monotonic(), 0.05),
            )
        except PapermillExecutionError as failure:
            status, error = "failed", f"{failure.ename}: {failure.evalue}".strip()
            trace = "\n".join(failure.traceback) if isinstance(failure.traceback, list) else str(failure.traceback)
        except CellTimeoutError:
            status = "timeout"
            error = f"It was stopped after {timeout:g} s, its limit; raise the timeout or choose a smaller preset"
        except DeadKernelError:
            status, error = (
                "killed",
                ("Its Python process died without an exception, as when memory runs out or something kills it"),
            )
            trace = (scratch / kernel.LOG).read_text(encoding="utf-8", errors="replace").strip()
        except Exception as failure:  # the kernel could not be started, or papermill itself failed
            status, error, trace = "failed", f"{type(failure).__name__}: {failure}", traceback.format_exc()
        finally:
            notes = kernel.noted(scratch)
            if temporary.exists():
                if status != "finished":
                    with suppress(MdwError):  # the kernel never began; how that ended is what is to be told
                        cell = _mark_unfinished(temporary, status)
                os.replace(temporary, executed)
    trace = plain(trace)[-LIMIT:] if trace else None
    return {"status": status, "error": _one_line(error), "cell": cell, "traceback": trace}, notes


def _braced(path: Path) -> str:
    """A path for papermill, which takes {x} in it for the name of a parameter."""
    return str(path).replace("{", "{{").replace("}", "}}")


def _mark_unfinished(path: Path, status: str) -> int | None:
    """Correct papermill's cell states in a notebook that did not end; returns the number of the code cell it ended in."""
    document = params.load(path)
    code = [
        cell
        for cell in document.cells
        if cell.cell_type == "code" and "injected-parameters" not in cell.metadata.get("tags", [])
    ]  # numbered as in the notebook itself
    started = [number for number, cell in enumerate(code, 1) if cell.metadata.get("papermill", {}).get("start_time")]
    for number, cell in enumerate(code, 1):
        if number not in started:
            cell.metadata.setdefault("papermill", {})["status"] = "pending"
    if started:
        code[started[-1] - 1].metadata["papermill"]["status"] = status
    write_text(path, nbformat.writes(document))
    return started[-1] if started else None


def title(document: nbformat.NotebookNode) -> str | None:
    """The text of the first `# heading` of a notebook."""
    for cell in document.cells:
        if cell.cell_type == "markdown" and (match := re.search(r"^# +(.+?) *#*$", cell.source, re.M)):
            return match[1]
    return None


def versions() -> dict[str, str]:
    """Versions of the packages that decide a figure, read without importing them."""
    found = {}
    for name in ("mdw", "torch", "numpy", "opencv-python-headless", "papermill"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def plain(text: str) -> str:
    """`text` without terminal colours."""
    return re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", text)


def _one_line(text: str | None) -> str | None:
    return None if text is None else re.sub(r"\s+", " ", plain(text))[:500]


def _alive(record: dict) -> bool:
    """Whether the process of a record still runs. A process of another host counts as alive: it cannot be asked."""
    if record.get("host") != platform.node():
        return True
    try:
        os.kill(record["pid"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return _process_started(record["pid"]) == record.get("pid_started")  # the number may belong to someone else by now


def _process_started(pid: int) -> str | None:
    """The start time of a living process in clock ticks, where /proc tells; None elsewhere and for one that has ended."""
    try:
        told = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        fields = told.rpartition(")")[2].split()  # from field 3, the state, on
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]
