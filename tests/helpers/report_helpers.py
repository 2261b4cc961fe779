"""What the tests of the reports share: purpose-made notebooks, and training runs written by hand."""

import re
from pathlib import Path

import numpy as np
from places import TESTS

from mdw.experiments import studies
from mdw.experiments.studies import STUDIES
from mdw.report.site import publish
from mdw.training import persons, runs
from mdw.util.files import write_json, write_text

NOTEBOOKS = TESTS / "notebooks"
EVERYTHING, FAILS, SLEEPS, DIES, KERNEL = (
    NOTEBOOKS / f"{name}.ipynb" for name in ("80_everything", "81_fails", "82_sleeps", "83_dies", "84_kernel")
)


def write_run(root: Path, row, seed: int, value: float, recipe: str = "smoke", **env) -> Path:
    """A finished run of two epochs whose metric is `value` (as stored: AP from 0 to 1). recipe: its name, or a preset's."""
    preset = recipe if recipe in studies.PRESETS else next(key for key, name in studies.PRESETS.items() if name == recipe)
    made = studies.recipe(row, preset)
    spec = runs.make_spec(row.model, made, seed, row.options)
    path = runs.folder(spec, root)
    write_json(path / "recipe.json", spec)
    write_json(path / "env.json", {"hardware": "one core", "commit": "0123456789"} | env)
    lines = [f'{{"epoch": {epoch}, "loss": {0.1 / epoch}, "{made.metric}": {value * epoch / 2}}}\n' for epoch in (1, 2)]
    write_text(path / "metrics.jsonl", "".join(lines))
    write_json(
        path / "result.json",
        {made.metric: value, "epochs": 2, "samples": 16, "train_seconds": 30.0, "flip_test": True, "boxes": "ground truth"},
    )
    return path


def write_study(root: Path, study: str, recipe: str, values: dict[str, tuple[float, ...]], people: int = 80) -> None:
    """Finished runs of a PCK recipe with persons.csv, whose value is about that given: label -> one for each seed, in percent.

    The same persons are hard for all networks.
    """
    rng = np.random.default_rng(0)
    ids, joints, easy = np.arange(people), rng.integers(8, 15, people), rng.normal(0, 1, people)
    for row in STUDIES[study]:
        for seed, value in enumerate(values.get(row.label, ())):
            place = np.log(value / (100 - value)) + easy + np.random.default_rng(seed).normal(0, 0.2, people)
            right = np.round(joints / (1 + np.exp(-place))).astype(int)
            path = write_run(root, row, seed, float(100.0 * right.sum() / joints.sum()), recipe)
            persons.write(path, {"image": ids, "person": ids, "joints": joints, "right": right})


def table5_runs(root: Path) -> None:
    """Two seeds of three rows of Table 5 in the study on real people; the full network is far ahead."""
    values = {"Simple": (10.0, 10.2), "+ CDC": (10.1, 10.3), "CDC + GCM (full)": (30.0, 30.2)}
    for row in STUDIES["table5"]:
        for seed, value in enumerate(values.get(row.label, ())):
            write_run(root, row, seed, value, studies.ON_PEOPLE)


def write_practitioner(runs: Path, shared: bool = True, **ours: float) -> Path:
    """A record as of `benchmarks/practitioner.py`: two networks from elsewhere, one shown two ways, and `ours` by PCK."""
    rows = [("BlazePose full", "whole image", "nothing", 50.2), ("BlazePose full", "box", "box", 61.7)]
    rows += [("MoveNet Lightning", "box", "box", 57.3), *((name, "box", "box", pck) for name, pck in ours.items())]
    networks = [
        {"network": network, "boxes": boxes, "given": given, "trained_on": "lspet_small" if network in ours else "other data"}
        | {"source": f"{network}.safetensors, SHA-256 0123456789" if network in ours else "package", "weights_mb": 3.7}
        | {
            "pck": pck,
            "low": pck - 1.3,
            "high": pck + 1.4,
            "persons": 80,
            "missed": 7 * (boxes != "box" or network == "BlazePose full"),
            "latency_ms": 11.3 + place,
        }
        for place, (network, boxes, given, pck) in enumerate(rows)
    ]
    place = {"started": "2026-01-01T00:00:00+00:00", "commit": "0123456789", "hardware": "one core"}
    latency = {"environment": place, "shared": shared}
    return write_json(runs / "practitioner" / "cpu.json", {"environment": place, "latency": latency, "networks": networks})


def published(name: str, root: Path, **parameters) -> str:
    """The text of a page that `publish` made of the runs in `root`, after what every page must hold."""
    records = publish.publish([name], "smoke", parameters, root / "runs", root / "reports")
    assert records[0]["status"] == "finished", records[0]["error"]
    page = root / "reports" / records[0]["notebook"] / "index.html"
    text = page.read_text()
    assert records[0]["headline"] and records[0]["summary"]
    assert len(re.sub(r'src="data:image/[^"]*"', "", text)) < 500_000
    assert "Messages while this ran" not in text  # no warning goes unread
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", re.sub(r"<(svg|style|script)\b.*?</\1>", "", text, flags=re.S)))
