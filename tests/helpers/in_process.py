"""Run a report's cells in this process, where sources can be exchanged and torch is loaded once; what they show, as numbers."""

import ast
import math
import re
from pathlib import Path

import numpy as np
import pandas as pd

from mdw.report import plots
from mdw.report.outputs import Output
from mdw.report.site import markup
from mdw.report.site import parameters as params

# Not a figure: part of a name (MDW-HRNet-18, AP50, PCK@0.2, 2^20, 256x192), which the sign or letter before it tells.
NUMBER = re.compile(r"(?<![\w.^@/-])[+\u2212]?\d[\d\u2009]*(?:\.\d+)?(?:e[-+]\d+)?(?![\dx]*x\d)")
SILENT = ("files", "kind", "numeric", "sort", "missing", "group")  # of a spec: layout, and what stands there a second time


def shown(notebook: Path, values: dict, monkeypatch) -> dict[int, list[dict]]:
    """The specs of what each cell of `notebook` displays; a figure's holds its data, and nothing is drawn."""
    displayed: list = []
    space: dict = {"display": displayed.append, "__name__": "__main__"}
    monkeypatch.setattr(plots, "save", _figure)
    monkeypatch.setattr(plots, "new", lambda width=0, height=0, columns=1, **_: (None, np.full((1, columns), None)))
    for name in ("answers", "complexity_accuracy", "curves", "networks", "windowed"):
        monkeypatch.setattr(plots, name, lambda ax, *_, **__: ax)
    specs = {}
    for number, cell in enumerate(params.load(notebook).cells):
        if cell.cell_type != "code":
            continue
        displayed.clear()
        tree = ast.parse(cell.source)
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, notebook.name, "exec"), space)
        if "parameters" in cell.metadata.get("tags", []):
            declared = {name: parameter.default for name, parameter in params.declared(params.load(notebook)).items()}
            space |= declared | {name: value for name, value in values.items() if name in declared}
        if last is not None and (value := eval(compile(ast.Expression(last.value), notebook.name, "eval"), space)) is not None:
            displayed.append(value)
        found = [output._repr_mimebundle_().get(markup.MIME, {}) for output in displayed]
        specs[number] = [spec for spec in found if not spec.get("photos")]  # what is found on a photo is found there and then
    return specs


def leaves(spec: object, path: tuple = ()) -> dict[tuple, str]:
    """Every text and number in a spec by its place; a table's cell by the texts at the head of its row and column."""
    if isinstance(spec, dict) and spec.get("kind") == "table":
        found = {(*path, "caption"): spec["caption"], (*path, "note"): spec["note"]}
        heads = [row[0]["text"] for row in spec["rows"]]
        for place, row in enumerate(spec["rows"]):
            head = (heads[place], heads[:place].count(heads[place]))  # a row that others have left or joined is the same row
            for column, cell in zip(spec["columns"], row, strict=True):
                found[(*path, *head, column["group"], column["name"])] = cell["text"]
        return found
    if isinstance(spec, dict):
        spec = {key: value for key, value in spec.items() if key not in SILENT}
    if isinstance(spec, dict | list | tuple):
        items = spec.items() if isinstance(spec, dict) else enumerate(spec)
        return {place: text for key, value in items for place, text in leaves(value, (*path, key)).items()}
    if isinstance(spec, bool) or spec is None or (isinstance(spec, float) and math.isnan(spec)):
        return {}
    return {path: spec if isinstance(spec, str) else f"{spec:.10g}" if isinstance(spec, float) else str(spec)}


def numbers(text: str) -> list[str]:
    """The figures in a text, names left out."""
    return NUMBER.findall(text)


def _figure(fig, data: pd.DataFrame, name: str, caption: str, alt: str, **more) -> Output:
    spec = {"kind": "figure", "name": name, "caption": caption, "alt": alt, "data": data.to_dict("records")}
    return Output(spec, "", caption)
