"""The `parameters` cell of a notebook: which names it declares, with which literals, and whether a value fits.

papermill only warns about a name it does not know and hands on whatever type it was given, so `-p seeds=fales` would run
with a truthy string. Here both are refused before a kernel is started.
"""

import ast
import io
import json
import re
import tokenize
from dataclasses import dataclass
from pathlib import Path

import nbformat

from mdw.util.errors import MdwError

TAG = "parameters"  # papermill's name for the cell


@dataclass(frozen=True)
class Parameter:
    """One line of the parameters cell: `name = default  # help`."""

    name: str
    default: object
    help: str = ""


def load(notebook: str | Path) -> nbformat.NotebookNode:
    """Read a notebook file (format 4). Raises MdwError, naming the file, where it is absent or no notebook."""
    path = Path(notebook)
    try:
        return nbformat.read(path, as_version=4)
    except OSError as error:
        raise MdwError(f"cannot read the notebook {path}: {error.strerror or error}; check the path") from None
    except Exception as error:  # nbformat raises several unrelated types for a file that is no notebook
        raise MdwError(f"{path} is not a notebook ({_first_line(error)}); save it again from Jupyter") from None


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:120]


def declared(notebook: nbformat.NotebookNode, where: str | Path = "the notebook") -> dict[str, Parameter]:
    """The parameters of a notebook, in its own order; empty where no cell is tagged `parameters`.

    Raises MdwError where more than one cell carries the tag, or the cell holds anything but `name = literal` lines:
    a value derived from another would keep its old value when the other is set.
    """
    cells = [cell for cell in notebook.cells if TAG in cell.metadata.get("tags", [])]
    if not cells:
        return {}
    if len(cells) > 1 or cells[0].cell_type != "code":
        raise MdwError(f"{where} must tag exactly one code cell `{TAG}`, not {len(cells)}; remove the other tags")
    source = cells[0].source
    try:
        statements = ast.parse(source).body
    except SyntaxError as error:
        raise MdwError(f"{where}: line {error.lineno} of its parameters cell is not Python; correct it") from None
    comments = {
        token.start[0]: token.string.lstrip("# ").strip()
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    found = {}
    for statement in statements:
        try:
            target = statement.targets[0] if isinstance(statement, ast.Assign) else statement.target
            if not isinstance(target, ast.Name):
                raise TypeError("a name alone")
            name, default = target.id, ast.literal_eval(statement.value)
        except (AttributeError, ValueError, TypeError):
            raise MdwError(
                f"{where}: line {statement.lineno} of its parameters cell is not `name = literal`; move it to the next cell"
            ) from None
        found[name] = Parameter(name, default, comments.get(statement.end_lineno, ""))
    return found


def check(values: dict, allowed: dict[str, Parameter], where: str | Path = "the notebook") -> dict:
    """`values`, made complete with the defaults and converted where nothing is lost (an int for a float, a tuple for a list).

    Raises MdwError in one sentence that names the parameter and the allowed names or the type, and for anything that is
    no JSON value: the record of a run must be able to hold it.
    """
    for name in values:
        if name not in allowed:
            names = ", ".join(allowed) or "none at all"
            raise MdwError(f"{where} has no parameter `{name}`; it takes {names}")
    return {name: _fit(name, values[name], p.default, where) if name in values else p.default for name, p in allowed.items()}


def _fit(name: str, value: object, default: object, where: str | Path) -> object:
    if isinstance(value, tuple):
        value = list(value)
    if isinstance(value, Path):
        value = str(value)
    try:
        json.dumps(value, allow_nan=False)
        plain = True
    except (TypeError, ValueError):
        plain = False
    if isinstance(value, str) and re.search(r"[\ud800-\udfff]", value):  # which no executed notebook can hold
        raise MdwError(
            f"{where}: parameter `{name}` is {value!r}, whose letters this locale cannot read; set PYTHONUTF8=1 or rename it"
        )
    if not plain or not _same_kind(value, default):
        raise MdwError(f"{where}: parameter `{name}` must be {_kind(default)}, such as {default!r}, not {value!r}")
    return float(value) if isinstance(default, float) and isinstance(value, int | float) else value


def _same_kind(value: object, default: object) -> bool:
    if default is None:
        return True
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(default, bool) and isinstance(value, bool)
    if isinstance(default, float):
        return isinstance(value, int | float)
    if isinstance(default, list | tuple):
        return isinstance(value, list) and (not default or all(_same_kind(item, default[0]) for item in value))
    return isinstance(value, type(default))


def _kind(default: object) -> str:
    if default is None:
        return "a plain value"
    if isinstance(default, list | tuple):
        inner = f" of {type(default[0]).__name__} values" if default else ""
        return f"a list{inner}"
    return {bool: "True or False", int: "a whole number", float: "a number", str: "a string", dict: "a dictionary"}[
        type(default)
    ]
