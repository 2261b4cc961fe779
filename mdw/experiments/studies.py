"""Studies: a table is a list of networks that are trained in the same way. Lists their runs and how far each run is."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from mdw.pose.heatmap import BLUR_KERNEL
from mdw.training import recipes, runs
from mdw.util.errors import MdwError
from mdw.util.typed import Seeds, fit
from mdw.util.words import unknown


@dataclass(frozen=True)
class Row:
    """One row of a table: a network, the options of its variant, and the fields of the recipe that differ.

    only: the presets that have this row; empty: all.
    """

    label: str
    model: str
    options: dict = field(default_factory=dict)
    changes: dict = field(default_factory=dict)
    only: tuple[str, ...] = ()


FULL = Row("CDC + GCM (full)", "mdw_hrnet_18")
SIMPLE = Row("Simple", "mdw_hrnet_18", {"cdc": False, "gcm_s": False, "gcm_c": False})
WITHOUT_CDC = {"cdc": False}  # defined once, because Tables 5 and 7 use the same runs
WITHOUT_GCM = {"gcm_s": False, "gcm_c": False}
# A static network of the same or a slightly larger size: the effect of parameters alone
CONTROL = Row("Wider Naive Lite-HRNet-18", "wider_naive_lite_hrnet_18")
SMALL = (
    Row("MDW-HRNet-18", "mdw_hrnet_18"),
    Row("Lite-HRNet-18", "lite_hrnet_18"),
    Row("Dite-HRNet-18", "dite_hrnet_18"),
    CONTROL,
    Row("MobileNetV2", "mobilenetv2"),
)
LARGER = (
    Row("MDW-HRNet-30", "mdw_hrnet_30"),
    Row("Lite-HRNet-30", "lite_hrnet_30"),
    Row("Dite-HRNet-30", "dite_hrnet_30"),
)
COMPARED = (Row("Small HRNet", "small_hrnet"), Row("ShuffleNetV2", "shufflenetv2"))
MOBILENETV3, HRNET = Row("MobileNetV3", "mobilenetv3"), Row("HRNet-W32", "hrnet_w32")
OTHERS = (
    Row("Naive Lite-HRNet-18", "naive_lite_hrnet_18"),
    *COMPARED,
    MOBILENETV3,
    Row("SimpleBaseline-50", "simple_baseline_50"),
    HRNET,
)
# Statements of the article that no row of its tables tests: pooling loses accuracy, and attention brings the gain
POOLING = tuple(Row(f"{name} in GCM_C's place", "mdw_hrnet_18", {"context": name.lower()}) for name in ("SE", "ECA"))
CONSTANT = Row("constant gates", "mdw_hrnet_18", {"attention": "constant"})
HIGH = {"input_size": (288, 384), "sigma": 3.0, "blur": BLUR_KERNEL[3]}  # 384x288 with HRNet's sigma
# The article says "after 270 epochs" for this network at this input only; everywhere else, and in its recipe, 240.
LONGER = {"mdw_hrnet_30": {"epochs": 270}}


def _high(*rows: Row) -> tuple[Row, ...]:
    return tuple(
        replace(row, label=f"{row.label}, 384x288", changes=HIGH | LONGER.get(row.model, {}), only=("coco",)) for row in rows
    )


# Variants of GCM: initial value of its gates (both, or GCM_C's alone while GCM_S's begin at one half), and PSA's own form
FROM_ONE = Row("MDW-HRNet-18, gates from one", "mdw_hrnet_18", {"gate_start": "one"})
GCM_C_FROM_ONE = Row("MDW-HRNet-18, GCM_C alone from one", "mdw_hrnet_18", {"gate": "double"})
PARALLEL = Row("MDW-HRNet-18, GCM in parallel", "mdw_hrnet_18", {"order": "parallel"})
# Learning rates tried for four networks: three, and a higher one because the highest of them was the best for most networks.
RATES = (1e-3, 2e-3, 4e-3, 8e-3)
# The best rates for LSPET's recipes; MDW-HRNet's ablations and its static control use MDW-HRNet's.
BEST = {"mdw_hrnet_18": 8e-3, CONTROL.model: 8e-3, "lite_hrnet_18": 2e-3, "dite_hrnet_18": 8e-3, "mobilenetv2": 4e-3}
AT_BEST = ("lspet_small", "lspet_small_mixed", "lspet")  # the presets that use it

STUDIES: dict[str, tuple[Row, ...]] = {
    "quickstart": (SMALL[0],),
    "table2": (*SMALL, *LARGER, *OTHERS, *_high(*SMALL[:3], *LARGER)),
    "table3": _high(*SMALL[:3], *LARGER, *COMPARED, SMALL[4], HRNET),
    "table4": (*SMALL, *LARGER, OTHERS[0], *COMPARED, MOBILENETV3),
    "table5": (
        SIMPLE,
        Row("+ CDC", "mdw_hrnet_18", WITHOUT_GCM),
        Row("+ GCM", "mdw_hrnet_18", WITHOUT_CDC),
        FULL,
        CONTROL,
        *POOLING,
    ),
    "table6": tuple(Row(f"K = {k}", "mdw_hrnet_18", {} if k == 3 else {"attention_kernel": k}) for k in (1, 3, 5, 7, 9)),
    "table7": (
        Row("without CDC", "mdw_hrnet_18", WITHOUT_CDC),
        Row("CondConv", "mdw_hrnet_18", {"dynamic": "condconv"}),
        Row("Dynamic convolution", "mdw_hrnet_18", {"dynamic": "dynamic"}),
        Row("ODConv", "mdw_hrnet_18", {"dynamic": "odconv"}),
        Row("CDC", "mdw_hrnet_18"),
        CONSTANT,
    ),
    "lspet": SMALL,
    # How much of CDC's gain comes from the initialisation (see `mdw.models.init`): both networks with mixed and equal starts
    "lspet_starts": (
        Row("Simple, mixed start", SIMPLE.model, SIMPLE.options, {"init": "mixed"}),
        Row("+ CDC, mixed start", "mdw_hrnet_18", WITHOUT_GCM, {"init": "mixed"}),
        Row("Simple, scaled start", SIMPLE.model, SIMPLE.options, {"init": "scaled"}),
        Row("+ CDC, scaled start", "mdw_hrnet_18", WITHOUT_GCM, {"init": "scaled"}),
    ),
    # Variants where the article leaves its network open and the study disagrees with it: does the result depend on our choice?
    "lspet_variants": (SMALL[0], FROM_ONE, GCM_C_FROM_ONE, PARALLEL),
    "lspet_search": tuple(
        Row(f"{row.label}, rate {rate:g}", row.model, changes={"lr": rate}) for row in (*SMALL[:3], SMALL[4]) for rate in RATES
    ),
    # The search again with equal starts, one higher rate and the simple network; `SEARCHED` will name it when it is done
    "lspet_rates": tuple(
        replace(row, label=f"{row.label}, rate {rate:g}", changes={"lr": rate})
        for row in (SMALL[0], SIMPLE, *SMALL[1:3], SMALL[4])
        for rate in (*RATES, 1.6e-2)
    ),
}

# The studies whose rows answer `QUESTIONS`, all trained in the same way.
ASKED = ("lspet", "table5", "table6", "table7", "lspet_starts")
SEEDS = tuple(range(8))  # of a row that answers questions; every finished run with one of them counts


@dataclass(frozen=True)
class Question:
    """One question about the rows of `ASKED`, fixed before the runs.

    contrast: weights of the rows' mean results, by label; the answer is the weighted sum, in points of the metric.
    relation: ">", the text claims that the sum is above zero, or ">=", at least zero, up to the margin of
    `mdw.report.claims.outcome`. seeds: the number planned for each of its rows. Holm's adjustment covers all questions of a
    `family`, also those without runs.
    """

    id: str
    text: str
    contrast: dict[str, float]
    relation: str = ">"
    seeds: int = 5
    family: str = "study"


def ahead(higher: str, lower: str) -> dict[str, float]:
    """Returns the contrast of two rows: the first one's mean minus the second one's."""
    return {higher: 1.0, lower: -1.0}


def _four(simple: float, cdc: float, gcm: float, both: float) -> dict[str, float]:
    """Returns a contrast of the 2x2 design of CDC and GCM."""
    return {SIMPLE.label: simple, "+ CDC": cdc, "+ GCM": gcm, FULL.label: both}


OURS, LITE, DITE, WIDER, MOBILE = (row.label for row in SMALL)
STARTS = {"Simple, mixed start": -1.0, "+ CDC, mixed start": 1.0, "Simple, scaled start": 1.0, "+ CDC, scaled start": -1.0}
QUESTIONS: tuple[Question, ...] = (
    Question(
        "Q0",
        "CDC gains more over the simple network with mixed starts than with equal ones",
        STARTS,
    ),
    Question("Q1", "CDC gains, with and without GCM on average (main effect)", _four(-0.5, 0.5, -0.5, 0.5)),
    Question("Q2", "GCM gains, with and without CDC on average (main effect)", _four(-0.5, -0.5, 0.5, 0.5)),
    Question("Q1x2", "CDC gains at least as much with GCM as without it (interaction)", _four(1.0, -1.0, -1.0, 1.0), ">="),
    Question("Q3", f"{OURS} is ahead of {LITE}", ahead(OURS, LITE)),
    Question("Q4", f"{OURS} is ahead of {DITE}", ahead(OURS, DITE)),
    *(
        Question(f"Q5{letter}", f"CDC is ahead of {words}", ahead("CDC", label), seeds=3)
        for letter, label, words in (
            ("a", "CondConv", "CondConv"),
            ("b", "Dynamic convolution", "dynamic convolution"),
            ("c", "ODConv", "ODConv"),
            ("d", CONSTANT.label, "constant gates (no attention)"),
        )
    ),
    *(
        Question(f"Q6{letter}", f"K = 3 is ahead of K = {k}", ahead("K = 3", f"K = {k}"), seeds=3)
        for letter, k in zip("abcd", (1, 5, 7, 9), strict=True)
    ),
    Question("C1", f"{OURS} is ahead of a wider static network", ahead(OURS, WIDER), seeds=2),
    Question("C2", f"{OURS} is ahead of {MOBILE}", ahead(OURS, MOBILE), seeds=2),
    Question("C3", "GCM_C, which does not pool, is ahead of SE in its place", ahead(FULL.label, POOLING[0].label), seeds=2),
    Question("C4", "GCM_C, which does not pool, is ahead of ECA in its place", ahead(FULL.label, POOLING[1].label), seeds=2),
)
# Questions about our own variants, added after the first study: a separate family
VARIANTS: tuple[Question, ...] = tuple(
    Question(f"V{place}", text, ahead(row.label, lower), seeds=2, family="variants")
    for place, (text, row, lower) in enumerate(
        (
            ("gates that begin at one gain over gates that begin at one half", FROM_ONE, OURS),
            ("gates that begin at one gain over none", FROM_ONE, "+ CDC"),
            ("GCM_C's gates alone beginning at one gain over both beginning at one half", GCM_C_FROM_ONE, OURS),
            ("GCM_C's gates alone beginning at one gain over none", GCM_C_FROM_ONE, "+ CDC"),
            ("GCM in parallel gains over one gate behind the other", PARALLEL, OURS),
            ("GCM in parallel gains over none", PARALLEL, "+ CDC"),
        ),
        start=1,
    )
)


def planned_seeds(label: str) -> int:
    """Returns the number of seeds that the questions need of a row; 0 where none uses it."""
    return max((question.seeds for question in (*QUESTIONS, *VARIANTS) if label in question.contrast), default=0)


# The scale of a study: a preset names the recipe of all rows of a table.
# "records" trains one small network, for page 00, and shows existing records for everything else.
RECORDS = "records"
PRESETS = {
    RECORDS: "demo",
    "smoke": "smoke",
    "demo": "demo",
    "lspet_hour": "lspet_hour",
    "lspet_small": "lspet_small",
    "lspet_search": "lspet_search",
    "lspet": "lspet",
    "coco": "paper",
    "mpii": "paper_mpii",
}
# Presets of the first study on real people, where static and dynamic kernels started with different scales.
MIXED = {f"{recipe}_mixed": recipe for recipe in ("lspet_hour", "lspet_small", "lspet_search")}
PRESETS |= MIXED

# Presets of a few minutes leave out the slowest rows, unless `--all-rows` is given.
QUICK = (RECORDS, "smoke", "demo")
LEFT_OUT = (*LARGER, *OTHERS, *POOLING, CONSTANT, *(row for row in STUDIES["table6"] if row.label in ("K = 5", "K = 7")))

# Pages that show the records of one preset under every preset with other data: a fresh clone has the records and not their
# data, so nothing is trained for them then. SEARCH is the study with its own preset and a single seed.
ON_PEOPLE = "lspet_small_mixed"
RECORDED = {"11_lspet": ON_PEOPLE}
SEARCH, SEARCHED = "lspet_search", "lspet_search_mixed"

# The studies that a report reads. Reports that are not listed need none.
TABLES = tuple(f"table{number}" for number in range(2, 8))
NEEDS = {
    "00_quickstart": ("quickstart",),
    "03_table2_coco_val": ("table2",),
    "04_table3_coco_test_dev": ("table3",),
    "05_table4_mpii_val": ("table4",),
    "06_table5_modules": ("table5",),
    "07_table6_kernel_size": ("table6",),
    "08_table7_dynamic_convs": ("table7",),
    "09_fig5_complexity_accuracy": ("table2",),
    "11_lspet": (*ASKED, "lspet_variants", SEARCH),
    "13_claims": TABLES,
}


@dataclass(frozen=True)
class Planned:
    """One run of a study, and how far it is.

    status: "finished", "running", "interrupted", "not run", "left out" (see `QUICK` and `RECORDED`) or "damaged" (its
    folder cannot be read). trained_by: the flag that trains it although it is left out.
    """

    row: Row
    seed: int
    spec: dict
    path: Path
    status: str
    trained_by: str = ""


def plan(
    study: str, preset: str, seeds: Sequence[int] = (0,), root: str | Path = "runs", all_rows: bool = False
) -> list[Planned]:
    """Returns the runs of `study` under `preset`, row by row, seed by seed; with `all_rows` a quick preset leaves none out.

    Raises MdwError for an unknown study or preset, and for seeds that are not different integers from 0 on.
    """
    if study not in STUDIES:
        raise unknown("there is no study", study, STUDIES, "the studies are")
    _check(preset)
    seeds = fit("seeds", seeds, Seeds, (0, 1, 2))
    planned = []
    for row in STUDIES[study]:
        for seed in seeds if not row.only or preset in row.only else ():
            spec = runs.make_spec(row.model, recipe(row, preset), seed, row.options, known=True)
            path = runs.folder(spec, root)
            run = Planned(row, seed, spec, path, _status(path))
            if preset in QUICK and row in LEFT_OUT and not all_rows:
                run = _leave_out(run, "--all-rows")
            planned.append(run)
    return planned


def _leave_out(run: Planned, flag: str) -> Planned:
    return run if run.status == "finished" else replace(run, status="left out", trained_by=flag)


def recipe(row: Row, preset: str) -> recipes.Recipe:
    """Returns the recipe of a row under a preset. Raises MdwError for an unknown preset or field of a recipe."""
    _check(preset)
    rate = {"lr": BEST[row.model]} if preset in AT_BEST and row.model in BEST else {}
    return recipes.get(PRESETS[preset], **rate | ({"init": "mixed"} if preset in MIXED else {}) | row.changes)


def _status(path: Path) -> str:
    if not (path / "recipe.json").exists():
        return "not run"
    try:
        return runs.Run(path).status
    except MdwError:  # reported when the run is trained or read; other runs do not depend on it
        return "damaged"


def plan_reports(
    names: Sequence[str], preset: str, seeds: Sequence[int], root: str | Path, all_rows: bool = False
) -> dict[str, list[Planned]]:
    """Returns for each of the notebooks `names` the runs it needs, as from `plan`; a run may be in several lists."""
    return {
        name: [run for study in NEEDS.get(name, ()) for run in _plan_of(name, study, preset, seeds, root, all_rows)]
        for name in names
    }


def preset_of(report: str, preset: str) -> str:
    """Returns the preset whose runs a report shows under `preset`: this one, or that of `RECORDED` if its data differ.

    Under `RECORDS` every report shows the study on real people, except those of the one small network. Raises MdwError for an
    unknown preset.
    """
    _check(preset)
    recorded = RECORDED.get(report, preset)
    if preset == RECORDS and NEEDS.get(report) != ("quickstart",):
        return ON_PEOPLE
    return preset if recipes.get(PRESETS[preset]).data == recipes.get(PRESETS[recorded]).data else recorded


def answered_by(preset: str) -> str:
    """Returns the preset whose runs answer `QUESTIONS` on a page: LSPET's for the quick presets, which use synthetic people.

    Raises MdwError for an unknown preset.
    """
    _check(preset)
    return ON_PEOPLE if preset in QUICK else preset


def _plan_of(report: str, study: str, preset: str, seeds: Sequence[int], root: str | Path, all_rows: bool) -> list[Planned]:
    shown = preset_of(report, preset)
    planned = plan(study, SEARCHED, (0,), root) if study == SEARCH else plan(study, shown, seeds, root, all_rows)
    return planned if shown == preset else [_leave_out(run, f"--preset {shown}") for run in planned]


def _check(preset: str) -> None:
    if preset not in PRESETS:
        raise unknown("there is no preset", preset, PRESETS, "the presets are")


def each_once(planned: dict[str, list[Planned]]) -> list[Planned]:
    """Returns the runs of `plan_reports`, each once: two rows may need the same run."""
    return list({run.path: run for of_report in planned.values() for run in of_report}.values())
