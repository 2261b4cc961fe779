"""The page of the study on real people: the networks of `mdw.experiments.studies`, trained on LSPET by one recipe."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import pandas as pd

from mdw.experiments import studies
from mdw.experiments.studies import OURS
from mdw.report import names, plots, runs, speed, stats, tables, words
from mdw.report.article import TEXT, published
from mdw.report.claims import judge
from mdw.report.claims import words as claims
from mdw.report.claims.outcome import VERDICTS
from mdw.report.names import METRICS
from mdw.report.outputs import ARTICLE, MEASURED, NOT_RUN, Output, headline, say, show
from mdw.report.pages import practitioner, study, table_page
from mdw.report.pages.accuracy import PUBLISHED
from mdw.report.stats import Noise
from mdw.training.runs import network_name

UNIT = METRICS["pck"]
NETWORKS = ("Q3", "Q4", "C2", "C1")  # the questions that compare MDW-HRNet-18 with another network
VARIANT_NAMES = {  # the other variants of `studies.VARIANTS` in words, and what each changes of the network as reconstructed
    studies.FROM_ONE.label: ("with gates that begin at one", "gates that begin at one half"),
    studies.GCM_C_FROM_ONE.label: ("with GCM_C's gates beginning at one and GCM_S's at one half", "both beginning at one half"),
    studies.PARALLEL.label: ("with GCM in parallel, PSA's own form", "one gate behind the other"),
}


class PeoplePage:
    """The study's page under a preset on LSPET; under any other it shows the committed records.

    seeds: those that count, where they are finished. folder: of the runs. Raises MdwError for an unknown preset.
    """

    def __init__(self, preset: str, seeds: Sequence[int], folder: str | Path) -> None:
        self.preset, self.seeds, self.folder = studies.preset_of("11_lspet", preset), seeds, folder
        self.study = study.rows("lspet", self.preset, seeds, folder)
        self.everything = study.everything(self.preset, seeds, folder)
        self.noise = stats.pooled(self.everything)

    @cached_property
    def tested(self) -> pd.DataFrame:
        """The answers to all questions of the study."""
        return study.questions(self.everything)

    @property
    def data(self) -> str:
        return names.data_of(self.everything["data"].iloc[0])

    def provenance(self) -> Output:
        """The facts of the page's provenance."""
        return tables.provenance(self.everything)

    def summary(self) -> Output | None:
        """The result in four lists, what is contradicted first."""
        return claims.summary(self.tested, UNIT)

    def recipe(self) -> Output | None:
        """What all rows share, and how their kernels started."""
        return say(f"{tables.shared_recipe(self.study)} {study.confound(self.preset)}")

    def missing(self) -> Output | None:
        """Which runs are not finished, and the command that makes them."""
        return study.missing(self.everything.drop_duplicates("path"), "lspet", self.preset)

    def noise_in_words(self) -> Output | None:
        """What the intervals hold and how the questions are judged; what bounds the figures."""
        parts = [study.noise_in_words(self.everything.drop_duplicates("path"), self.noise), study.how_judged(self.tested, UNIT)]
        return say("\n\n".join([*parts, f"{study.ceiling(self.everything)} {study.length(self.everything)}"]))

    def claims(self) -> Output:
        """The questions and their answers."""
        caption = f"The questions of the study: effects in {UNIT} on {self.data}."
        return show(claims.answers(self.tested), caption, name="answers", formats=claims.ANSWERS)

    differences = table_page.TablePage.differences
    unit = UNIT

    def starts(self) -> Output:
        """The simple network and the one with CDC, from mixed and from equal starts."""
        frame = study.rows("lspet_starts", self.preset, self.seeds, self.folder)
        return self._runs(frame, "Without and with CDC, from mixed and from equal starts.", "starts")

    def starts_found(self) -> Output | None:
        """What the question on starts came to."""
        return claims.found(claims.of(self.tested, "Q0"), UNIT)

    def _runs(self, frame: pd.DataFrame, caption: str, name: str) -> Output:
        measured, shared = tables.measured(frame, UNIT, self.noise, head="network")
        return show(measured, f"{caption}{shared}", name=name, formats=tables.FORMATS)

    def table(self) -> Output:
        """The networks by one recipe, with their cost and the AP that was published of them on COCO."""
        measured, shared = tables.measured(self.study, UNIT, self.noise)
        both = study.with_costs(beside_published(measured), study.costs("lspet"))
        caption = f"The networks on {self.data} by one recipe, *{self.preset}*.{shared}"
        return show(both, caption, name="lspet", note=study.note(UNIT), formats=tables.FORMATS)

    def networks(self) -> Output | None:
        """Every network with its interval, its seeds and what bounds the figure, as a figure."""
        return table_page.networks(self.study, self.noise, UNIT, self.data)

    def curves(self) -> Output | None:
        """The learning curves, as a figure."""
        return table_page.curves(self.study, UNIT, self.data)

    @cached_property
    def variant_runs(self) -> pd.DataFrame:
        """The runs of MDW-HRNet-18 as reconstructed, in other variants, and with CDC alone."""
        without = runs.study("table5", self.preset, self.seeds, self.folder)
        parts = [runs.study("lspet_variants", self.preset, self.seeds, self.folder), without[without["label"] == "+ CDC"]]
        frame = pd.concat(parts, ignore_index=True)
        return frame[frame["value"].notna() | frame["seed"].lt(2)].reset_index(drop=True)

    def variants(self) -> Output:
        """GCM as reconstructed, read otherwise, and left out: the networks."""
        caption = "The network as reconstructed, with GCM read otherwise, and without it."
        return self._runs(self.variant_runs, caption, "variants")

    def variants_claims(self) -> Output:
        """The questions on other variants, which are a family of their own."""
        asked = claims.answers(variants(self.variant_runs, self.noise))
        caption = f"The other variants of GCM, questions that are a family of their own: effects in {UNIT}."
        return show(asked, caption, name="gates", formats=claims.ANSWERS)

    def variants_in_words(self) -> Output | None:
        """What the other variants come to."""
        return say(variants_in_words(self.variant_runs, self.noise))

    def latency(self) -> Output:
        """Latency on a CPU beside accuracy."""
        caption = "Latency of one image, at the input it was measured at, beside accuracy."
        formats = dict.fromkeys(("reference", "tuned", "mean", "low", "high"), "{:.1f}")
        return show(latency(self.everything, self.folder), caption, name="latency", formats=formats)

    def latency_figure(self) -> Output | None:
        """Accuracy over latency, as a figure; nothing where fewer than two networks can be compared."""
        points = latency_points(self.study, self.folder, UNIT)
        if points.empty:
            return say("")
        fig, ax = plots.new(height=3.4)
        plots.complexity_accuracy(ax, points, points.columns[2], UNIT)
        caption = f"{UNIT} on {self.data} over the {points.columns[2]}; the range of the seeds as a line."
        return plots.save(
            fig, points, "latency_points", caption, f"{points['label'].nunique()} networks by latency and {UNIT}."
        )

    def practitioner(self) -> Output | None:
        """MoveNet and BlazePose beside the networks that come with mdw."""
        return practitioner.table(self.folder)

    @cached_property
    def tried(self) -> pd.DataFrame:
        """Every learning rate that was tried."""
        return search(self.folder)

    def search(self) -> Output:
        """Every learning rate that was tried, and what it reached on held-out training persons."""
        caption = f"Learning rates and the {UNIT} they reach on held-out training persons."
        formats = {"learning rate": "{:g}"} | dict.fromkeys(("value", "low", "high"), "{:.1f}")
        return show(self.tried, caption, name="search", formats=formats, missing={"best": "", "low": "–", "high": "–"})

    def rates(self) -> Output | None:
        """Which rates the study uses, and whose search has not come to its end."""
        return say(rates(self.tried))

    def not_reproduced(self) -> Output | None:
        """The questions that the runs contradict."""
        return claims.not_reproduced(self.tested, UNIT)

    def headline(self) -> Output:
        """The finding, for the head of the page and the index."""
        return headline(in_short(self.tested, self.study))


def beside_published(result: pd.DataFrame) -> pd.DataFrame:
    """`tables.measured` of the networks beside the AP that was published of them on COCO: another metric, on other data.

    What the article states and what others published stand in column groups of their own, the latter with its source.
    """
    theirs = published("T2", list(result["label"]), primary=True)
    theirs = theirs[theirs["input_size"].eq("256x192") & theirs["AP"].notna()].drop_duplicates("model")
    theirs = theirs.rename(columns={"model": "label", "AP": "COCO AP"})[["label", "COCO AP", "source"]]
    stated = theirs["source"].eq(TEXT)
    both = tables.beside(theirs[~stated], result, group=PUBLISHED)
    article = theirs[stated].set_index("label")["COCO AP"].reindex(both["", "network"])
    both.insert(1, (ARTICLE, "COCO AP"), article.astype(object).tolist())
    return both


def variants(study: pd.DataFrame, noise: Noise) -> pd.DataFrame:
    """`judge.answer` to `studies.VARIANTS`, from `PeoplePage.variant_runs`."""
    return judge.answer(study, studies.VARIANTS, noise)


def variants_in_words(study: pd.DataFrame, noise: Noise) -> str:
    """What the other variants come to, and which were not run; empty without a run of one."""
    known = stats.intervals(study, noise).set_index("label")
    against: dict[str, list[str]] = {label: [] for label in VARIANT_NAMES}
    for question, row in zip(studies.VARIANTS, variants(study, noise).to_dict("records"), strict=True):
        higher, lower = question.contrast
        if pd.notna(row["difference"]):
            other = VARIANT_NAMES[higher][1] if lower == OURS else "no GCM at all"
            against[higher].append(f"{claims.in_numbers(row, UNIT)} against {other}: {row['outcome']}")
    done = [
        {
            "words": VARIANT_NAMES[label][0],
            "mean": known.loc[label, "mean"],
            "n": known.loc[label, "n"],
            "against": against[label],
        }
        for label in VARIANT_NAMES
        if known.loc[label, "n"]
    ]
    waiting = [told for label, (told, _) in VARIANT_NAMES.items() if not known.loc[label, "n"]]
    return words.text("study.variants", ours=OURS, done=done, waiting=waiting)


def search(folder: str | Path) -> pd.DataFrame:
    """Every learning rate that was tried -> network, learning rate, epochs, measured on, status, value, low, high, best,
    commit.

    Two epochs of 8,000 training persons, measured on the other 500; the validation split is not looked at. best: where all
    rates of the network have been tried. low, high: over persons, as in `stats.intervals`. Last, if it is there, the one
    training on LSPET that came before, which was measured on the validation split.
    """
    found = runs.study(studies.SEARCH, studies.SEARCHED, [0], folder)
    frame = found.assign(
        rate=[row.changes["lr"] for row in studies.STUDIES["lspet_search"]],
        network=[label.rpartition(", rate ")[0] for label in found["label"]],
        split="held-out",
    )
    over = ["persons low", "persons high"]
    frame[["low", "high"]] = stats.intervals(found)[over].to_numpy()  # a label is one run here
    groups = frame.astype({"value": float}).groupby("network")["value"]
    whole = groups.transform("count") == groups.transform("size")
    frame["chosen"] = [
        "yes" if all_tried and value == best else None
        for all_tried, value, best in zip(whole, frame["value"], groups.transform("max"), strict=True)
    ]
    before = runs.study("quickstart", "lspet_hour_mixed", [0], folder).dropna(subset=["value"])
    if len(before):
        before = before.assign(rate=before["lr"], network=OURS, chosen=None, split="val")
        before[["low", "high"]] = stats.intervals(before)[over].to_numpy()
        frame = pd.concat([frame, before], ignore_index=True)
    shown = ["network", "rate", "epochs", "split", "status", "value", "low", "high", "chosen", "commit"]
    return frame[shown].rename(columns={"rate": "learning rate", "chosen": "best", "split": "measured on"})


def rates(search: pd.DataFrame) -> str:
    """Which rates the study uses, and whose `search` has not come to its end."""
    used = [f"{row.label} {studies.BEST[row.model]:g}" for row in studies.STUDIES["lspet"]]
    known = {name: rows["best"].notna().any() for name, rows in search.groupby("network", sort=False)}
    edge = search[search["best"].notna() & search["learning rate"].eq(max(studies.RATES))]["network"]
    unfinished = [name for name, best in known.items() if not best]
    return words.text("study.rates", used=used, ours=OURS, edge=list(edge), unfinished=unfinished)


def latency(everything: pd.DataFrame, folder: str | Path) -> pd.DataFrame:
    """Latency on CPUs by the records of runs/bench beside accuracy, for `outputs.show`; empty without such records.

    A row for each input that a network was measured at, whatever it was trained at; ablations after the others.
    """
    records, known = _on_cpu(speed.records(folder, ablations=True)), stats.intervals(everything).set_index("label")
    labels = {row.label: network_name(row.model, row.options) for table in studies.ASKED for row in studies.STUDIES[table]}
    rows, once = [], everything.drop_duplicates("path").drop_duplicates("label")
    for label, size in once[["label", "input"]].itertuples(index=False):
        found = records[records["model"] == labels[label]] if len(records) else records
        for measured_at, cell in found.groupby("size", sort=False) if len(found) else ():
            modes = cell[cell["batch"] == cell["batch"].max()].set_index("mode")["latency_ms"]
            row = {("", "network"): label, ("", "trained at"): size, ("latency, ms", "at"): measured_at}
            row |= {("latency, ms", mode): modes.get(mode) for mode in ("reference", "tuned")}
            row |= {(MEASURED, name): known.loc[label, name] for name in ("mean", "low", "high")}
            rows.append(row | {(MEASURED, "hardware of the latency"): cell["hardware"].iloc[0]})
    return pd.DataFrame(rows)


def _on_cpu(records: pd.DataFrame) -> pd.DataFrame:
    return records[records["device"].eq("cpu")] if len(records) else records


def latency_points(study: pd.DataFrame, folder: str | Path, metric: str) -> pd.DataFrame:
    """For `plots.complexity_accuracy`: plain PyTorch's latency at the input at which most networks were measured.

    -> label, origin, the latency, `metric`; a row per finished run, none where fewer than two networks can be compared.
    """
    records, done = _on_cpu(speed.records(folder)), study.dropna(subset=["value"])
    found = records[(records["mode"] == "reference") & records["model"].isin(done["model"])] if len(records) else records
    if found.empty or found.groupby("size")["model"].nunique().max() < 2:
        return pd.DataFrame()
    size = found.groupby("size")["model"].nunique().idxmax()
    name = f"latency of one image at {size}, reference, ms"
    known = found[found["size"] == size].drop_duplicates("model").set_index("model")["latency_ms"]
    rows = done[done["model"].isin(known.index)]
    values = {name: rows["model"].map(known).tolist(), metric: rows["value"].astype(float).tolist()}
    return pd.DataFrame({"label": rows["label"].tolist(), "origin": "measured"} | values)


def lead(tested: pd.DataFrame) -> str:
    """The answer in a plain sentence: which networks MDW-HRNet-18 is ahead of, and what its modules do."""
    verdicts = tested.set_index("id")["outcome"]
    against = {one.id: min(one.contrast, key=lambda label: one.contrast[label]) for one in studies.QUESTIONS}
    others = {verdict: [against[id_] for id_ in NETWORKS if verdicts[id_] == verdict] for verdict in VERDICTS}
    return words.text("index.lead", others=others, parts={"CDC": verdicts["Q1"], "GCM": verdicts["Q2"]})


def in_short(tested: pd.DataFrame, study: pd.DataFrame) -> str:
    """The finding: the best network of the study, ablations aside, and what became of the questions that were run."""
    known = stats.intervals(study).dropna(subset=["mean"]).astype({"mean": float})
    if known.empty:
        return f"The study on real people: {NOT_RUN}."
    best = known.loc[known["mean"].idxmax()]
    first = f"Of {len(known)} networks on LSPET, ablations aside, {best['label']} reaches most, {UNIT} {best['mean']:.1f}."
    return f"{first} {claims.finding(tested, UNIT, 'LSPET')}"
