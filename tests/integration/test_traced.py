"""Every number on the site comes from somewhere: exchange one source, and exactly the numbers that rest on it must change.

The pages are made from records, published figures and counts; then again with one of the three exchanged, and without any run.
A number that no exchange moves was typed, unless `DEFINITIONS` says what it is.
"""

import re
from functools import cache
from pathlib import Path

import pandas as pd
import pytest
from in_process import leaves, numbers, shown
from report_helpers import write_practitioner, write_run

import mdw
from mdw.experiments import studies
from mdw.experiments.studies import ASKED, STUDIES, Row
from mdw.models import complexity
from mdw.models import counts as kept
from mdw.report import article
from mdw.report.claims import evidence, judge, table
from mdw.report.outputs import ARTICLE, MEASURED
from mdw.report.pages import parts, qualitative, zoo
from mdw.report.site import parameters as params
from mdw.report.site import publish
from mdw.training.recipes import RECIPES
from mdw.util.files import read_json, write_json

NOTEBOOKS = publish.find()
NOT_RUN_HERE = {
    "01_architecture": "how the networks are built, by formula and by count, which test_architecture_page.py holds together",
    "10_fig6_qualitative": "what the weights find on bundled photos, found while the page is made",
}
PAGES = [path for path in NOTEBOOKS if path.stem not in NOT_RUN_HERE]
VALUES = {  # what keeps a page quick or, with "demo", makes the claims count the networks, which is exchanged here
    "preset": "smoke",
    "seeds": [0, 1],
    "count": 1,
}
DEFINITIONS = {  # what is no result and therefore may stand in a text
    r"95\s?%": "the level of an interval",
    r"\b(?:K =|sizes) \d(?:[\d, ]|and )*": "the rows of Table 6",
    r"\b1[47] joints": "the joint sets of LSPET and COCO",
    r"N\(0, 0\.001\)": "what `mdw.models.rules` draws from",
    r"about 76 \(31 photos": "how well two people agree, from the README of LSPET's labels",
    r"(?:Tables?|Fig\.|Figure|Eq\.|[Ss]tage|Section|seeds?|choice) \d(?:[\d, ]|and )*": "what is numbered",
    r"at 5 % two-sided|at 5\u2009% two-sided": "the level of what is detectable",
    r"\b\d+ degrees? of freedom": "a count of runs",
    r"\b\d+ effects|Of \d+,": "how many questions there are",
    r"margin 1 |up to 1 ": "`outcome.MARGINS`, fixed before the runs",
    r"mdw (?:reproduce|report|bench|train) [^`]*`": "a command",
    r"\b\d+ (?:of|to) \d+\b|finished \(\d+\)|^\d+ networks (?:by|with)": "counts of what a page was asked to read",
    r"\]\(\w+\.ipynb[^)]*\)": "the target of a link",
    r"0\.002 × 32 / 512 = 0\.000125": "three fields of recipes and their quotient",
}
TYPED = {  # by notebook: what else its narrative may say
    "05_table4_mpii_val": {
        r"\b0\.(?:5|6|1|11)\b": "the thresholds of PCKh, and the part of a head box's diagonal that is its size"
    },
    "10_fig6_qualitative": {r"the 23 of COCO|between 0 and 1": "how many photos come with the package, the range of OKS"},
    "11_lspet": {r"8,500 persons|1,000 to validate|8,000 of|other 500|500 training": "the splits of the data"},
    "12_speed": {
        r"128 MiB": "how much the bench copies",
        r"of \d+ networks for one image|\d+ threads": "how many networks the records have, and their setting",
    },
}
# Columns that say what a row is about: a run, a network, a report. Their numbers are names and settings, not results.
ABOUT = {
    "where, report",
    "what it is",
    "its 0.1 is",
    "learning rate",
    "network",
    "input",
    "seed",
    "seeds",
    "persons",
    "not detected",
    "trained on",
    "looks at",
    "n",
    "freedom",
    "epochs",
    "options",
    "record",
    "commit",
    "batch",
    "calls",
}


def scaled(value: object, factor: float, key: str = "") -> object:
    """Every float in a JSON value times a factor, the entries of a list by different ones; of whole numbers only launches.

    Another commit made it, too.
    """
    if isinstance(value, dict):
        return {name: scaled(inner, factor, name) for name, inner in value.items()}
    if isinstance(value, list):
        return [scaled(inner, factor * (1 + 0.17 * place), key) for place, inner in enumerate(value)]
    if isinstance(value, str):
        return value.replace("0123456789", "9876543210")
    if key == "launches":
        return int(value * factor)
    return value * factor if isinstance(value, float) else value


def records(root: Path) -> None:
    """Two seeds of every row of every study, no two values alike, and the bench's record of three networks."""
    rows = {
        (row.model, str(row.options), str(row.changes)): row
        for name, rows in STUDIES.items()
        if name != "lspet_search"
        for row in rows
    }
    for place, row in enumerate(row for row in rows.values() if not row.only):
        for seed in (0, 1):
            write_run(root, row, seed, 0.2003 + 0.0217 * place + 0.0051 * seed * (1 + place % 3))
    asked = {row.label: row for name in (*ASKED, "lspet_variants") for row in STUDIES[name]}
    for place, row in enumerate(asked.values()):  # and what answers the questions
        for seed in (0, 1):
            write_run(root, row, seed, 21.87 + 1.37 * place + 0.51 * seed * (1 + place % 3), studies.ON_PEOPLE)
    for place, model in enumerate(("mdw_hrnet_18", "lite_hrnet_18", "dite_hrnet_18")):  # and what is as the article states it
        path = write_run(root, Row("", model), 0, 0.6107 - 0.0339 * place, "paper")
        measured = {"detector_boxes": {"AP": 0.5907 - 0.0339 * place, "flip_test": True}}
        told = {"data": "coco", "split": "val", "environment": {"started": "2026-01-01T00:00:00+00:00"}, "measured": measured}
        write_json(path / "evaluations" / "coco-val.json", told)
    bench(root / "bench" / "cpu.json")
    write_practitioner(root, mdw_hrnet_18=47.9)


def bench(path: Path) -> None:
    rows = []
    for place, (model, mode) in enumerate((m, k) for m in ("mdw_hrnet_18", "shufflenetv2") for k in ("reference", "tuned")):
        told = {
            "train_images_per_s": 8.31 + 7.7 * place,
            "step_images_per_s": 9.13 + 7.1 * place,
            "latency_ms": 151.7 - 31.3 * place,
        }
        told |= {
            "infer_images_per_s": 24.7 + 9.9 * place,
            "loader_share": 0.043 + 0.013 * place,
            "peak_memory_mib": 567.3 + 21.9 * place,
            "first_calls_s": 3.71 + 1.9 * place,
        }
        told |= {f"{name}_calls": 5 for name in ("train_images_per_s", "step_images_per_s", "latency_ms", "infer_images_per_s")}
        told |= {"launches": 1234, "operators": [{"name": f"aten::of_{mode}", "calls": 7, "ms": 8.57, "share": 0.253}]}
        bounds = {"copy_gb_per_s": 9.37, "memory_train_images_per_s": 101.9, "memory_share_train": 0.237 + 0.031 * place}
        told |= {"bounds": bounds | {"arithmetic_train_images_per_s": 83.7}}
        where = {"hardware": "one core", "commit": "0123456789", "started": "2026-01-01T00:00:00+00:00", "torch_threads": 2}
        for size in ("256x192", "256x256"):
            rows.append({"model": model, "mode": mode, "size": size, "batch": 32, "device": "cpu", "environment": where} | told)
    write_json(path, rows)


class Named:
    """In a network's place: its name and options, from which `counts` makes a figure; nothing is built."""

    def __init__(self, name: str, joints: int = 17, **options) -> None:
        self.letters = sum(map(ord, name + str(sorted(options.items()))))

    def parameters(self) -> list:
        return [self]

    def numel(self) -> int:
        return int(1e6 + 97 * self.letters)

    def named_modules(self) -> list:
        return []


def counts(monkeypatch, factor: float) -> None:
    """Counting is exchanged for a figure made of the network's name: what it really counts has tests of its own."""
    names = ("params", "macs", "peer_macs", "hrnet_macs", "launches", "activation_bytes")
    units = dict(zip(names, (1, 167, 177, 167, 0.0011, 113), strict=True))

    def measure(network: Named, size: tuple[int, int]) -> dict:
        made = network.numel()
        return {key: int(made * unit * (1 if key == "params" else size[0] * size[1] / 49152)) for key, unit in units.items()}

    def by_part(network: Named, size: tuple[int, int], part) -> dict:
        told = measure(network, size)
        return {name: {key: told[key] // (9 + i) for key in ("params", "macs")} for i, name in enumerate(parts.PARTS)}

    def numel(self) -> int:  # no two networks by the same share
        return int((1e6 + 97 * self.letters) * factor ** (37 * self.letters % 101 / 10))

    monkeypatch.setattr(Named, "numel", numel)
    monkeypatch.setattr(mdw, "create_model", Named, raising=False)
    monkeypatch.setattr(kept, "counted", lambda name, size, *joints, **options: measure(Named(name, *joints, **options), size))
    monkeypatch.setattr(complexity, "cost_by_part", by_part)


def published_by(monkeypatch, folder: Path, factor: float) -> None:
    """Every published figure times a factor, the percentages too."""
    for name, path in (("PUBLISHED", article.PUBLISHED), ("RATIOS", article.RATIOS)):
        frame = pd.read_csv(path)
        for column in frame.select_dtypes("float"):
            frame[column] = frame[column] * (factor + 0.0004 * frame.index)
        frame.to_csv(folder / path.name, index=False)
        monkeypatch.setattr(article, name, folder / path.name)
    zoo._published.cache_clear()
    claims = pd.read_csv(table.CLAIMS, dtype=str, keep_default_na=False)
    for column in ("value", "against"):
        claims[column] = [f"{float(text) * factor:.6g}" if re.fullmatch(r"[\d.]+", text) else text for text in claims[column]]
    claims = claims[claims["id"] != "data-mpii"]  # so that their number moves
    claims.to_csv(folder / "claims.csv", index=False)
    monkeypatch.setattr(table, "CLAIMS", folder / "claims.csv")


def page(path: Path, runs: Path, monkeypatch) -> dict[tuple, str]:
    declared = params.declared(params.load(path))
    preset = "demo" if path.stem == "13_claims" else "smoke"
    values = {name: value for name, value in (VALUES | {"preset": preset, "runs": str(runs)}).items() if name in declared}
    return leaves(shown(path, values, monkeypatch))


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> dict[str, dict[str, dict[tuple, str]]]:
    """What the pages show: "as it is", and with "records", "published" or "counts" exchanged, and with "no runs"."""
    root = tmp_path_factory.mktemp("traced")
    records(root / "runs")
    for place, path in enumerate(sorted((root / "runs").rglob("*.json"))):
        told = read_json(path)
        other = root / "others" / path.relative_to(root / "runs")
        write_json(other, told if path.name == "recipe.json" else scaled(told, 1.11 + 0.0013 * place))
    for path in (root / "runs").rglob("metrics.jsonl"):
        other = root / "others" / path.relative_to(root / "runs")
        other.write_text(re.sub(r"\d+\.\d+", lambda found: str(float(found[0]) * 1.17), path.read_text()))
    found = {}
    for variant in ("as it is", "records", "published", "counts", "no runs"):
        with pytest.MonkeyPatch.context() as monkeypatch:
            monkeypatch.setenv("MDW_REPORT", str(root / "reports"))
            counts(monkeypatch, 1.09 if variant == "counts" else 1.0)
            monkeypatch.setattr(qualitative, "find", lambda *_: [])  # what is found on a photo has no source that is exchanged
            monkeypatch.setattr(evidence, "trained", cache(evidence.trained))  # several pages ask for it
            if variant == "published":
                published_by(monkeypatch, root, 0.81)  # below one, or what is small today is left out of Fig. 5
            runs = {"records": root / "others", "no runs": root / "none"}.get(variant, root / "runs")
            found[variant] = {path.stem: page(path, runs, monkeypatch) for path in PAGES}
        zoo._published.cache_clear()
    return found


def moved(site: dict, variant: str, name: str, place: tuple) -> list[bool]:
    """For each number at a place whether the exchange moved it; what is not shown any more has not been seen to move."""
    before, text = numbers(site["as it is"][name][place]), site[variant][name].get(place)
    if text is None:
        return [False] * len(before)
    after = numbers(text)
    return (
        [a != b for a, b in zip(before, after, strict=True)] if len(before) == len(after) else [a not in after for a in before]
    )


@pytest.mark.parametrize("name", [path.stem for path in PAGES])
def test_a_number_moves_with_its_source(site, name):
    typed = []
    known = {number for recipe in RECIPES.values() for text in leaves(recipe().to_dict()).values() for number in numbers(text)}
    known |= {number for rate in studies.BEST.values() for number in numbers(f"{rate}")}
    known |= {number for claim in judge.claims().values() for number in numbers(f"{claim.claim} {claim.note}")}
    for place, text in site["as it is"][name].items():
        if place[-1] in ABOUT or (len(place) > 1 and place[-2] in ABOUT):
            continue
        left = set(numbers(re.sub("|".join(DEFINITIONS), "", text))) - known
        exchanged = [moved(site, variant, name, place) for variant in ("records", "published", "counts", "no runs")]
        for number, *by in zip(numbers(text), *exchanged, strict=True):
            if number in left and not any(by):
                typed.append(f"{number} in {text!r} at {place}")
    assert not typed, "no source moves these:\n" + "\n".join(typed)


def test_without_runs_no_measured_column_holds_a_number(site):
    for name, found in site["no runs"].items():
        for place, text in found.items():
            counted = place in site["as it is"][name] and any(moved(site, "counts", name, place))
            if MEASURED in place and place[-1] not in ABOUT and not counted:
                assert not numbers(text), (name, place, text)


@pytest.mark.parametrize("group, source", [(MEASURED, "records"), (ARTICLE, "published")])
def test_a_column_rests_on_its_own_source(site, group, source):
    """Every number of the article's columns moves with what was published and none with a record; and the other way round."""
    (other,) = {"records", "published"} - {source}
    seen = 0
    for name, found in site["as it is"].items():
        for place in found:
            counted = any(moved(site, "counts", name, place))
            if group in place and place[-1] not in ABOUT and numbers(found[place]) and not counted:
                assert all(moved(site, source, name, place)), (name, place, found[place])
                assert not any(moved(site, other, name, place)), (name, place, found[place])
                seen += 1
    assert seen


def test_one_record_moves_its_own_row(site, tmp_path, monkeypatch):
    records(tmp_path / "runs")
    (changed,) = [path for path in (tmp_path / "runs").rglob("recipe.json") if _is_cdc(read_json(path))]
    for path in (changed, changed_answer(tmp_path / "runs")):
        result = path.with_name("result.json")
        write_json(result, read_json(result) | {"AP": 0.4444, "pck": 44.44})
    (table5,) = publish.find(["06"])
    before, after = site["as it is"][table5.stem], page(table5, tmp_path / "runs", monkeypatch)
    moved_places = [place for place, text in before.items() if MEASURED in place and after[place] != text]
    assert {place[-4] for place in moved_places if place[-1] not in ("low", "high")} == {"+ CDC"}
    shared = {place[-4] for place in moved_places if place[-1] in ("low", "high")}
    assert shared == {row.label for row in STUDIES["table5"]}, "all intervals rest on one noise"
    told = [text for place, text in before.items() if place[-1] == "text" and after[place] != text]
    assert any("CDC gains, with and without GCM" in text for text in told)


def changed_answer(root: Path) -> Path:
    """The same row's record among those that answer the questions."""
    (found,) = [path for path in root.rglob("recipe.json") if _is_cdc(read_json(path), "lspet_small", "mixed")]
    return found


def _is_cdc(spec: dict, recipe: str = "smoke", init: str = "scaled") -> bool:
    options = {"gcm_s": False, "gcm_c": False}
    asked = spec["recipe"]["name"], spec["recipe"].get("init", "mixed")
    return spec["options"] == options and spec["seed"] == 0 and asked == (recipe, init)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=[path.stem for path in NOTEBOOKS])
def test_the_narrative_holds_no_result(path):
    """Prose with results is rendered from data; what is typed in a notebook is a definition."""
    text = "\n".join(cell.source for cell in params.load(path).cells if cell.cell_type == "markdown")
    text = re.sub(r"\$\$.*?\$\$|\$[^$]*\$|`[^`]*`|\]\([^)]*\)", "", text, flags=re.S)  # maths, code and the targets of links
    quoted = {f"{float(claim.value):g}" for claim in judge.claims().values() if claim.test == "gain"}  # of the article
    left = [n for n in numbers(re.sub("|".join(DEFINITIONS | TYPED.get(path.stem, {})), "", text)) if n not in quoted]
    assert not left, f"typed in the narrative: {left}; compute them, or say in this test what they define"
