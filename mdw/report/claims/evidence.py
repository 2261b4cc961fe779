"""What there is to test a claim with: finished runs that were trained alike, counted networks, records of the bench."""

import functools
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from mdw.experiments import studies
from mdw.models import counts
from mdw.report import names, speed
from mdw.report.claims.measurements import measurements
from mdw.report.names import signed, size_of
from mdw.report.runs import find, question, runs_frame
from mdw.training.runs import Run, make_spec
from mdw.util.errors import MdwError

SIZE = "256x192"  # at which a network is counted whose parameters alone are asked for
FULL_LENGTH = 210  # epochs; the shortest recipe behind a published figure of COCO or MPII is Lite-HRNet's


@dataclass(frozen=True)
class Setting:
    """Under what an accuracy was stated: "coco val 256x192 detector"."""

    data: str
    split: str
    size: str
    boxes: str

    @staticmethod
    def read(text: str) -> "Setting":
        data, split, size, boxes = text.split(maxsplit=3)
        return Setting(data, split, size, boxes)


@dataclass(frozen=True)
class Alike:
    """Finished runs that were trained alike and measured on one split with one kind of boxes.

    frame: as `runs.runs_frame`, labelled by network and options, with these boxes and their metric. part: as
    `Measurement.part`.
    """

    split: str
    part: str
    frame: pd.DataFrame
    samples: int  # of the longest run

    def as_stated(self, setting: Setting, epochs: int = FULL_LENGTH) -> bool:
        """Whether data, split, input and boxes are those of a published figure, and the length is at least `epochs`."""
        return not self.part and self.fits(setting, epochs)

    def fits(self, setting: Setting, epochs: int = FULL_LENGTH) -> bool:
        """As `as_stated`, but of the split a part may have been measured."""
        first = self.frame.iloc[0]
        found = (first["data"], self.split, first["input"], first["boxes"])
        asked = (setting.data, setting.split, setting.size, setting.boxes)
        return found == asked and bool(first["flip_test"]) and first["epochs"] >= epochs

    def in_words(self, labels: Iterable[str]) -> str:
        """The conditions of some of the runs: "LSPET at 128x96, recipe lspet_hour, ground-truth boxes, 3 seeds"."""
        first, frame = self.frame.iloc[0], self.frame[self.frame["label"].isin(list(labels))]
        fewest = int(frame.groupby("label").size().min())
        seeds = "one seed" if fewest == 1 else f"{fewest} seeds"
        part = f", only {self.part}, which do not compare with published figures" if self.part else ""
        data, boxes = names.data_of(first["data"], self.split), names.BOXES[first["boxes"]]
        return f"{data} at {first['input']}, recipe {first['recipe']}, {boxes}{part}, {seeds}"


def trained(runs: str | Path) -> list[Alike]:
    """The finished runs of a folder, by what makes them alike and by what was measured: real people first, then by samples.

    The tables' rows under one preset stand together, so that rows of two tables can be compared; LSPET's study stands by
    itself. A run outside the studies stands with those of the very same recipe. What was trained to choose a rate or to read
    the article otherwise is left out.
    """
    groups: dict[tuple, list[dict]] = {}
    for run, places in _finished(runs):
        row = runs_frame([run], [label(run.spec["model"], run.spec["options"])]).iloc[0].to_dict()
        for found in measurements(run):
            value = found.metrics.get(row["metric"])
            if value is None:  # test-dev without the server, which `mdw evaluate` says with no figure
                continue
            told = {"value": names.percent(row["metric"], value), "boxes": found.boxes}
            told |= {"samples": run.outcome.get("samples", 0)}
            for place in places:
                groups.setdefault((place, found.split, found.boxes, found.part), []).append(row | told)
    alike = []
    for (_, split, _, part), rows in groups.items():
        frame = pd.DataFrame(rows)
        samples = int(frame.pop("samples").max())
        alike.append(Alike(split, part, frame, samples))
    return sorted(alike, key=lambda group: (group.frame["data"].iloc[0] == "people", -group.samples))


def runs_of(runs: str | Path) -> pd.DataFrame:
    """All runs that `trained` finds, in one frame, each once."""
    return runs_frame([run for run, _ in _finished(runs)])


def _finished(runs: str | Path) -> list[tuple[Run, list[tuple]]]:
    """The finished runs that count, each with its places: groups of runs that were trained alike."""
    found = []
    for run in find(runs):
        if run.result is not None:
            alone = [("recipe", json.dumps(run.spec["recipe"], sort_keys=True))]
            places = _places().get(question(run.spec), alone)
            found += [(run, places)] if places else []
    return found


@functools.cache
def _places() -> dict[str, list[tuple]]:
    """What the studies ask -> where it belongs: (LSPET's study or the tables, preset, input); nowhere for the other studies."""
    kinds = {name: "tables" for name in studies.STUDIES if name.startswith("table")} | {"lspet": "lspet"}
    found: dict[str, list[tuple]] = {}
    for name, preset in ((name, preset) for name in studies.STUDIES for preset in studies.PRESETS):
        for row in studies.STUDIES[name]:
            recipe = studies.recipe(row, preset)
            places = found.setdefault(question(make_spec(row.model, recipe, 0, row.options, known=True)), [])
            place = (kinds.get(name), preset, recipe.input_size)
            if name in kinds and preset not in (studies.SEARCH, studies.SEARCHED, studies.RECORDS) and place not in places:
                places.append(place)
    return found


def network(text: str) -> tuple[str, dict]:
    """ "mdw_hrnet_18 cdc=false" -> ("mdw_hrnet_18", {"cdc": False}); a value is JSON without spaces. Raises MdwError."""
    name, *options = text.split()
    try:
        return name, {key: json.loads(value) for key, _, value in (option.partition("=") for option in options)}
    except ValueError:
        raise MdwError(f"the options of {text!r} are not NAME=JSON; correct them in claims.csv") from None


def label(model: str, options: dict) -> str:
    """A network as the claims write it, options in the order of their names; `name_of` is its way to the reader."""
    return " ".join([model, *(f"{key}={json.dumps(options[key], separators=(',', ':'))}" for key in sorted(options))])


def networks(text: str) -> list[str]:
    """The labels in a list such as "lite_hrnet_18; mdw_hrnet_18 cdc=false"."""
    return [label(*network(one)) for one in text.split(";") if one.strip()]


def name_of(text: str) -> str:
    """A network as a reader knows it: "MDW-HRNet-18"; a variant by its row in a table, "K = 5", or by its options."""
    name, _, options = text.partition(" ")
    known = names.name_of(name)
    return VARIANTS.get(text, f"{known} (`{options}`)") if options else known


VARIANTS = {  # the rows of the ablations by their names there, but the full network, which has many
    label(row.model, row.options): row.label
    for study in ("table7", "table6", "table5")  # one network is "without CDC" and "+ GCM"; the name in Table 5 counts
    for row in studies.STUDIES[study]
    if row.options
}


def counted(text: str, quantity: str) -> float:
    """What a network costs. quantity: "params", or "executed", "peers", "activations" "fusion" and an input: "peers 256x192"

    In M, by Lite-HRNet's counter in units of 2^20, activations in MiB. Raises MdwError for another quantity.
    """
    name, options = network(text)
    kind, _, size = quantity.partition(" ")
    if kind == "fusion":
        from mdw.report.pages import parts

        found = parts.costs([name], size)
        return float(found.loc[found["part"] == "fusion", "macs"].sum()) / 1e6
    columns = {"params": ("params", 1e6), "executed": ("macs", 1e6), "peers": ("peer_macs", counts.PEER_UNIT)}
    columns |= {"activations": ("activation_bytes", 2**20)}
    if kind not in columns:
        raise MdwError(f"there is no quantity {quantity!r}; give fusion, {', '.join(columns)}")
    column, unit = columns[kind]
    return counts.counted(name, size_of(size or SIZE), **options)[column] / unit


QUANTITIES = {
    "params": "M parameters",
    "executed": "M multiply-adds executed",
    "peers": "M multiply-adds by the counter of Lite- and Dite-HRNet",
    "activations": "MiB of activations",
    "fusion": "M multiply-adds executed in fusion",
}


def cost_in_words(value: float, quantity: str) -> str:
    """ "1.155 M parameters"; the input stands with it where the figure depends on it."""
    kind, _, size = quantity.partition(" ")
    text = f"{number(value, quantity)} {QUANTITIES[kind]}"
    return f"{text} at {size}" if size else text


def number(value: float, quantity: str) -> str:
    """The figure of `counted` as a reader sees it."""
    return signed("{:.3f}" if quantity == "params" else "{:.1f}", value)


def speedup(runs: str | Path, subject: str, against: str, setting: str) -> float | None:
    """How many times as fast one network is as another on a CPU, in batches of 32 where it is not one image; None if not run.

    setting: a figure of the bench, an input, and the backend of either: "train_images_per_s 256x192 tuned reference".
    """
    figure, size, ours, theirs = setting.split()
    values = [speed.value(speed.records(runs), *pair, figure, size) for pair in ((subject, ours), (against, theirs))]
    return speed.ratio(figure, *values)


def latencies(runs: str | Path, size: str) -> pd.DataFrame:
    """The bench's latency of one image in plain torch, by network -> model, latency_ms, device, hardware; maybe empty."""
    found = speed.records(runs)
    columns = ["model", "latency_ms", "device", "hardware"]
    if found.empty:
        return pd.DataFrame(columns=columns)
    return found[(found["mode"] == "reference") & (found["size"] == size)].dropna(subset=["latency_ms"])[columns]
