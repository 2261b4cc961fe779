"""The report: notebooks that call this room, and the site that is made of them. What a notebook may import stands in `DOOR`."""

from importlib import import_module
from typing import Any

from mdw.util.extras import need

need("report", "papermill", "ipykernel", "nbformat", "jinja2", "mistune", "latex2mathml", "pandas", "matplotlib", "seaborn")

DOOR = {  # a name -> where it is; loaded when it is asked for, so that a page which needs no torch loads none
    "tables": "tables",
    "article": "article",
    "speed": "speed",
    "verdicts": "claims.words",
    "evidence": "claims.evidence",
    "judge": "claims.judge",
    "explore": "explorers.explore",
    "TablePage": "pages.table_page",
    "PeoplePage": "pages.people",
    "Fig5Page": "pages.fig5",
    **{
        name: f"pages.{name}"
        for name in (
            *("architecture", "budgets", "drawing", "gate_statistics", "gates", "on_photos", "parts", "poses"),
            *("qualitative", "starts", "study", "zoo"),
        )
    },
    "plots": "plots",
    "publish": "site.publish",
    "runs": "runs",
}


def __getattr__(name: str) -> Any:
    if name not in DOOR:
        raise AttributeError(f"mdw.report has no {name!r}; a notebook may import {', '.join(DOOR)}")
    module = import_module(f"mdw.report.{DOOR[name]}")
    return getattr(module, name, module) if name[0].isupper() else module
