"""A table is a list of networks that are trained alike. Here it is said which, and what of it is already there."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mdw import recipes, runs
from mdw.errors import MdwError


@dataclass(frozen=True)
class Row:
    """One line of a table: a network and the keywords that make it this line's variant."""

    label: str
    model: str
    options: dict = field(default_factory=dict)


FULL = Row("CDC + GCM (full)", "mdw_hrnet_18")
STUDIES: dict[str, tuple[Row, ...]] = {
    "quickstart": (FULL,),
    "table5": (
        Row("Simple", "mdw_hrnet_18", {"cdc": False, "gcm_s": False, "gcm_c": False}),
        Row("+ CDC", "mdw_hrnet_18", {"gcm_s": False, "gcm_c": False}),
        Row("+ GCM", "mdw_hrnet_18", {"cdc": False}),
        FULL,
    ),
}

# How large everything is: a preset names the recipe that all rows of a table share.
PRESETS = {
    "smoke": "smoke",
    "demo": "demo",
    "lspet_hour": "lspet_hour",
    "lspet_small": "lspet_small",
    "lspet": "lspet",
    "coco": "paper",
    "mpii": "paper_mpii",
}

# Which trainings a report reads. Reports that are not listed need none.
NEEDS = {"00_quickstart": ("quickstart",), "06_table5_modules": ("table5",)}


@dataclass(frozen=True)
class Planned:
    """One run that a study asks for, and how far it is: "finished", "running", "interrupted" or "not run"."""

    row: Row
    seed: int
    spec: dict
    path: Path
    status: str


def plan(study: str, preset: str, seeds: Sequence[int] = (0,), root: str | Path = "runs") -> list[Planned]:
    """The runs of `study` under `preset`, row by row, seed by seed. Raises MdwError for an unknown study or preset."""
    if study not in STUDIES:
        raise MdwError(f"there is no study {study!r}; the studies are {', '.join(STUDIES)}")
    if preset not in PRESETS:
        raise MdwError(f"there is no preset {preset!r}; the presets are {', '.join(PRESETS)}")
    planned = []
    for row in STUDIES[study]:
        for seed in seeds:
            spec = runs.make_spec(row.model, recipes.get(PRESETS[preset]), seed, row.options)
            path = runs.folder(spec, root)
            status = runs.Run(path).status if (path / "recipe.json").exists() else "not run"
            planned.append(Planned(row, seed, spec, path, status))
    return planned


def plan_reports(names: Sequence[str], preset: str, seeds: Sequence[int], root: str | Path) -> list[Planned]:
    """The runs that the notebooks `names` need together, each once."""
    studies = dict.fromkeys(study for name in names for study in NEEDS.get(name, ()))
    together = {p.path: p for study in studies for p in plan(study, preset, seeds, root)}
    return list(together.values())
