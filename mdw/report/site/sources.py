"""What a report was made from, and what of that is no longer so.

A page rests on its notebook, its parameters, the code and tables of this package that its kernel loaded, and the records of the
runs that it asked for, there or not; `kernel.py` notes which. It also rests on what sets the executed notebook as a page, and
where only that has changed it need not be executed again. All are kept as digests in the report's record.
"""

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from mdw.report.site.kernel import PACKAGE
from mdw.training.runs import SYNTHETIC
from mdw.util.errors import MdwError
from mdw.util.files import read_bytes

SITE = "report/site"
SETTERS = ("excerpt.py", "markup.py", "page.py", "provenance.py", "safe.py")  # with the templates, what makes a page
INDEX = ("index.html.j2", "links.html.j2", "search.js")  # templates that no page depends on; the index is always made anew
TABLES = (".csv", ".json", ".js", ".css", ".j2")  # what code reads from its own folder
ELSEWHERE = {  # and what it reads beside that
    "data/photos.py": "photos/*.json",
    "models/weights.py": "shipped/*.safetensors",
    "models/counts.py": "models/*.py",  # what was counted once is found without loading the network
}
RESULT = "result.json"  # its coming is what a report that asked for a run waits for
MEASURED = ("bench", "practitioner")  # folders of records that belong to no run
RECORDS = ("recipe.json", "env.json", "metrics.jsonl", "persons.csv")  # read of a finished run
CHANGING = "changed while it was read"  # no digest is equal to it, so the page is stale at once


def sources(notes: Mapping[str, Sequence[str]], runs: str | Path | None, begun: float) -> dict:
    """-> {"code": {path in the package: digest}, "runs": {path in the folder: digest or None}, "listed": {folder looked
    through: names of the finished runs or of the files with records in it}}, plain JSON values.

    notes: as `kernel.notes`. A run that was asked for stands as its result.json, None while there is none. begun: when the
    reading began, in seconds since 1970; what has changed since then counts as changed already.
    """
    code = {path.resolve().relative_to(PACKAGE.resolve()) for path in map(Path, notes["code"])}
    for folder in {PACKAGE / path.parent for path in code}:
        code |= {path.relative_to(PACKAGE) for path in folder.iterdir() if path.suffix in TABLES}
    for name, pattern in ELSEWHERE.items():
        code |= {path.relative_to(PACKAGE) for path in (PACKAGE.glob(pattern) if Path(name) in code else ())}
    records, listed, root = [], [], _absolute(runs or ".")
    for path in (_absolute(one) for one in notes["runs"] if runs is not None):
        if path.parent in (root, root / SYNTHETIC):
            there = (path / RESULT).exists()
            records += [path / name for name in ((RESULT, *RECORDS) if there else (RESULT,))]
            records += sorted((path / "evaluations").glob("*"))
            listed += [path / "evaluations"] if there else []
    for path in (_absolute(one) for one in notes["folders"] if runs is not None):
        if path.is_relative_to(root):
            records += [] if path == root else sorted(path.glob("*.json"))
            listed.append(path)
    return {
        "code": {path.as_posix(): digest(PACKAGE / path, begun) for path in sorted(code)},
        "runs": {path.relative_to(root).as_posix(): digest(path, begun) for path in records},
        "listed": {path.relative_to(root).as_posix(): _names(path) for path in listed},
    }


def changes(record: dict, notebook: str | Path, parameters: dict) -> list[str]:
    """Why the report of `record` must be executed again: a clause for each reason; empty while it is fresh.

    notebook, parameters: those it would be made with now.
    """
    if record["status"] != "finished":
        return [f"it is not complete ({record['status']})"]
    made = record.get("sources")
    if made is None:
        return ["its record does not say what it was made from"]
    reasons = [
        f"{name} is {value!r}, was {record['parameters'].get(name)!r}"
        for name, value in parameters.items()
        if record["parameters"].get(name) != value
    ]
    if hashlib.sha256(Path(notebook).read_bytes()).hexdigest() != record["sha256"]:
        reasons.append("its notebook has changed")
    changed = [name for name, old in made["code"].items() if digest(PACKAGE / name) != old]
    if changed:
        reasons.append(f"{_some([f'mdw/{name}' for name in changed])} changed")
    return reasons + _runs_changed(made, Path(parameters.get("runs", "runs")))


def _run_of(name: str) -> str:
    """The run that a file belongs to, by their paths in the folder of runs; a record of no run stands for itself."""
    parts = name.split("/")
    return name if parts[0] in MEASURED else "/".join(parts[: 2 if parts[0] == SYNTHETIC else 1])


def setting() -> dict[str, str | None]:
    """Digests of what makes a page of an executed notebook, by path in the package."""
    templates = sorted(path for path in (PACKAGE / SITE / "templates").iterdir() if path.is_file() and path.name not in INDEX)
    files = [*(PACKAGE / SITE / name for name in SETTERS), *templates]
    return {path.relative_to(PACKAGE).as_posix(): digest(path) for path in files}


def setting_changes(record: dict) -> list[str]:
    """Why the page of `record` must be set again from its executed notebook, as `changes` says it."""
    now, then = setting(), record.get("setting", {})
    changed = [f"mdw/{name}" for name in now | then if now.get(name) != then.get(name)]
    return [f"{_some(changed)} changed"] if changed else []


def _runs_changed(made: dict, root: Path) -> list[str]:
    words: dict[str, dict[str, bool]] = {"finished": {}, "new": {}, "changed": {}, "gone": {}}
    finished, new, changed, gone = words.values()
    for name, old in made["runs"].items():
        now, run = digest(root / name), _run_of(name)
        if now != old:
            kind = gone if now is None else finished if old is None and name.endswith(RESULT) else changed
            kind[run] = True
    for folder, old in made["listed"].items():
        new |= {f"{folder}/{name}".removeprefix("./"): True for name in _names(root / folder) if name not in old}
    words["new"] = {name: True for name in new if name not in finished and name not in changed}
    return [f"{_some(list(runs))} {'is' if len(runs) == 1 else 'are'} {word}" for word, runs in words.items() if runs]


def digest(path: Path, begun: float = float("inf")) -> str | None:
    """Sixteen hexadecimal digits of a file's content; None where it is not there; `CHANGING` where it changed after `begun`.

    When it changed is the system's own note, not the date that the file was given, which may lie in the future.
    """
    try:
        return CHANGING if path.stat().st_ctime > begun else hashlib.sha256(read_bytes(path)).hexdigest()[:16]
    except (OSError, MdwError):
        return None


def _absolute(path: str | Path) -> Path:
    """The path without dots, links in it kept: a run that is a link to one elsewhere is a run of this folder."""
    return Path(os.path.abspath(path))


def _names(folder: Path) -> list[str]:
    """The finished runs and the records that lie in a folder, by name."""
    found = folder.iterdir() if folder.is_dir() else ()
    return sorted(path.name for path in found if path.suffix in (".json", ".txt") or (path / RESULT).exists())


def _some(names: list[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
