"""What a report notebook displays beside plain text: tables, facts about its runs, its headline.

Each is an object that Jupyter shows by itself and that carries, under `markup.MIME`, what the page needs to set it well.
"""

import math
import numbers
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from mdw.report import runs
from mdw.report.claims.outcome import NOT_RUN
from mdw.report.names import signed
from mdw.report.site import markup
from mdw.report.site.provenance import show_value
from mdw.training import runs as records
from mdw.util.files import write_text

NOT_STATED = "not stated"
EMPTY = "nothing on this page is measured. The parameter `runs` names the folder that holds the records."
ARTICLE, MEASURED = "article", "measured"  # column groups; a figure is in one or the other, never between


class Output:
    """An object with a richest form (`spec`), an HTML form for Jupyter and a plain one."""

    def __init__(self, spec: dict, html: str, text: str, extra: dict | None = None) -> None:
        self.spec, self.html, self.text, self.extra = spec, html, text, extra or {}

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict:
        html = {"text/html": self.html} if self.html else {}
        return {markup.MIME: self.spec, "text/plain": self.text} | html | self.extra

    def __repr__(self) -> str:
        return self.text


def report_folder() -> Path | None:
    """The folder of the report that is being published, or None where a notebook is run by hand."""
    folder = os.environ.get("MDW_REPORT")
    return Path(folder) if folder else None


def show(
    frame: pd.DataFrame,
    caption: str,
    name: str = "",
    note: str = "",
    formats: Mapping[Any, str] | None = None,
    missing: dict[str, str] | None = None,
    data: pd.DataFrame | None = None,
) -> Output:
    """`frame` as a table of the report; its first column heads the rows, its index is not shown.

    Columns may be plain names or pairs (group, name), where the group stands above its columns. formats: column name (or
    pair) -> format such as "{:.1f}", for its numbers. Text cells and headings may hold Markdown and $maths$.
    An absent value is "not stated" under `ARTICLE`, and a dash elsewhere; a row with nothing but counts ("n") under `MEASURED`
    says "not run" once. missing: column -> another word. With `name`, `<name>.csv` is written beside the published page:
    the frame, or `data`, where what is shown is cut short for the reader.
    """
    formats, missing = formats or {}, missing or {}
    pairs = [column if isinstance(column, tuple) else ("", column) for column in frame.columns]
    columns = [
        {"group": str(group), "name": str(title), "numeric": _is_numeric(frame.iloc[:, i])}
        for i, (group, title) in enumerate(pairs)
    ]
    rows = []
    for values in frame.itertuples(index=False, name=None):
        run = any(
            group == MEASURED and title != "n" and not _absent(value)
            for (group, title), value in zip(pairs, values, strict=True)
        )
        row, said = [], run
        for (group, title), value in zip(pairs, values, strict=True):
            if _absent(value):
                word = NOT_STATED if group == ARTICLE else "–"
                if group == MEASURED and not said:
                    word, said = NOT_RUN, True
                row.append({"text": missing.get(title, word), "missing": True})
            else:
                number = isinstance(value, numbers.Real) and not isinstance(value, bool)
                pattern = formats.get((group, title), formats.get(title)) if number else None
                row.append(
                    {
                        "text": signed(pattern, value) if pattern else _text(value),
                        "sort": float(value) if number else str(value),
                    }
                )
        rows.append(row)
    spec = {
        "kind": "table",
        "caption": caption,
        "note": note,
        "columns": columns,
        "rows": rows,
        "files": _write_csv(frame if data is None else data, name),
    }
    return Output(spec, markup.table(spec, sortable=False), f"{caption}\n{frame.to_string(index=False)}")


def facts(**values: object) -> Output:
    """Facts for the provenance of the page, such as facts(seeds=[0, 1], data="lspet", flip_test=True).

    Names are shown with a capital and spaces for underscores; lists are joined. Later calls add to earlier ones.
    """
    shown = {name.replace("_", " ").capitalize(): _plain(value) for name, value in values.items()}
    folders = runs.READ if report_folder() else [folder.resolve() for folder in runs.READ]  # a site names no home folder
    shown |= {"Records": [str(folder) for folder in folders]} if folders else {}
    empty = [f"`{folder}`" for folder in folders if not (records.find(folder) or any(folder.glob("bench/*.json")))]
    note = f"**No run in {' and '.join(empty)}**: {EMPTY}" if empty else ""
    text = "; ".join(f"{name}: {show_value(value)}" for name, value in shown.items())
    markdown = "\n\n".join(filter(None, (note, " · ".join(f"**{name}** {show_value(value)}" for name, value in shown.items()))))
    return Output({"kind": "facts", "facts": list(shown.items()), "note": note}, "", text, {"text/markdown": markdown})


def headline(text: str, figure: str = "") -> Output:
    """The one sentence the index shows for this report; Markdown. figure: the name of the one that should lead the index."""
    return Output({"kind": "headline", "text": text, "figure": figure}, "", text, {"text/markdown": f"**In short.** {text}"})


def say(text: str) -> Output | None:
    """A paragraph of Markdown whose numbers were computed: prose is rendered from data. None, which shows nothing, for ""."""
    return Output({"kind": "prose", "text": text}, "", text, {"text/markdown": text}) if text else None


def _write_csv(frame: pd.DataFrame, name: str) -> list[str]:
    folder = report_folder()
    if not name or folder is None:
        return []
    flat = frame.copy()
    flat.columns = [" ".join(filter(None, column)) if isinstance(column, tuple) else column for column in frame.columns]
    write_csv(folder / f"{name}.csv", flat)
    return [f"{name}.csv"]


def write_csv(path: Path, frame: pd.DataFrame) -> None:
    """Write a frame without its index. Text that a spreadsheet would compute ("=1+1", "+ CDC") gets an apostrophe in front."""
    quoted = frame.rename(columns=_quoted).map(_quoted)
    write_text(path, quoted.to_csv(index=False, lineterminator="\n"))


def _quoted(value: object) -> object:
    if not isinstance(value, str) or not re.match(r"\s*[=+\-@]", value):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value


def _is_numeric(column: pd.Series) -> bool:
    values = [value for value in column if not _absent(value)]
    return bool(values) and all(isinstance(value, numbers.Real) and not isinstance(value, bool) for value in values)


def _absent(value: object) -> bool:
    return value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value))


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, numbers.Integral):
        return f"{value:,}".replace(",", "\u2009")  # thin space between thousands
    return signed("{:.4g}", float(value)) if isinstance(value, numbers.Real) else str(value)


def _plain(value: object) -> object:
    if isinstance(value, list | tuple | set):
        return [_plain(item) for item in value]
    return value.item() if hasattr(value, "item") else value
