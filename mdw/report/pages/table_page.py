"""The page of one of the article's Tables 2 to 7: what it shows of the best runs there are, a call for each cell."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from mdw.experiments import studies
from mdw.report import derived, names, plots, runs, stats, tables, words
from mdw.report.article import article_rows
from mdw.report.claims import judge
from mdw.report.claims import words as claims
from mdw.report.outputs import Output, headline, say, show
from mdw.report.pages import accuracy, study
from mdw.util.errors import MdwError


@dataclass(frozen=True)
class Contents:
    """What a table's page holds: its report, the ids of the study's questions it answers, and what its table is about.

    figures: of Tables 2 to 4, which compare published figures. baseline: the row that persons are compared with. costs:
    whether parameters and multiply-adds are counted.
    """

    report: str
    questions: tuple[str, ...] = ()
    about: str = ""
    figures: accuracy.Table | None = None
    baseline: str = ""
    costs: bool = False


NETWORKS = ("Q3", "Q4", "C1", "C2")
CONTENTS = {
    2: Contents("03_table2_coco_val", NETWORKS, "the small networks", accuracy.TABLE2, "MDW-HRNet-18"),
    3: Contents("04_table3_coco_test_dev", (), "", accuracy.TABLE3),
    4: Contents("05_table4_mpii_val", NETWORKS, "the small networks", accuracy.TABLE4, "MDW-HRNet-18"),
    5: Contents("06_table5_modules", ("Q0", "Q1", "Q2", "C1", "C3", "C4"), "the two modules", baseline="Simple"),
    6: Contents("07_table6_kernel_size", ("Q6",), "the kernel size", baseline="K = 3", costs=True),
    7: Contents("08_table7_dynamic_convs", ("Q5",), "what stands in CDC's place", baseline="CDC", costs=True),
}


class TablePage:
    """The page of Table `number` under a preset: of the quick presets, whose people are synthetic, it shows the study on LSPET.

    seeds: those that count, where they are finished. folder: of the runs.
    """

    def __init__(self, number: int, preset: str, seeds: Sequence[int], folder: str | Path) -> None:
        self.number, self.contents, self.asked, self.folder = number, CONTENTS[number], preset, folder
        self.preset = studies.answered_by(preset)
        self.study = study.rows(f"table{number}", self.preset, seeds, folder)
        self.everything = study.everything(self.preset, seeds, folder)
        self.noise = stats.pooled(self.everything)

    @cached_property
    def tested(self) -> pd.DataFrame:
        """The answers to the questions of this page."""
        found = study.questions(self.everything, *self.contents.questions)
        return found if self.contents.questions else found[:0]

    @property
    def metric(self) -> str:
        """What the runs of the study measure: "PCK@0.2"."""
        return runs.metric_of(self.everything)

    @property
    def unit(self) -> str:
        """The metric by which questions are answered; AP depends on the boxes and says whose they are."""
        boxes = names.BOXES[self.everything["boxes"].iloc[0]]
        return f"{self.metric} with {boxes}" if self.metric == "AP" else self.metric

    @property
    def data(self) -> str:
        """The data that the runs are measured on, for a reader."""
        return names.data_of(self.everything["data"].iloc[0])

    def provenance(self) -> Output:
        """The facts of the page's provenance."""
        return tables.provenance(self.study)

    @property
    def figures(self) -> accuracy.Table:
        """The published figures of Tables 2 to 4. Raises MdwError on another page."""
        if self.contents.figures is None:
            raise MdwError(f"Table {self.number} compares no published figures; leave this cell out")
        return self.contents.figures

    def article(self) -> Output | None:
        """What the article's text states of the table's figures, and what is derived from it."""
        table = self.figures
        column, unit = {2: ("AP", "AP"), 3: ("AP", "AP"), 4: ("PCKh50", "PCKh@0.5")}[self.number]
        return say(derived.listed(table.key, column, unit))

    def recipe(self) -> Output | None:
        """Whose runs are shown, what they share, and how the questions are judged."""
        told = {"preset": self.preset, "asked": self.asked, "data": self.data, "metric": self.unit}
        parts = [words.text("study.conditions", **told)]
        parts += [accuracy.own_figures(self.contents.figures, self.study)] if self.contents.figures else []
        parts += [tables.shared_recipe(self.study)]
        if self.contents.questions:
            parts += [study.confound(self.preset)] if self.number == 5 else []
            parts += [study.how_judged(self.tested, self.unit)]
        return say("\n\n".join(filter(None, parts)))

    def missing(self) -> Output | None:
        """Which runs of the table are not finished, and the command that makes them."""
        return study.missing(self.study, self.contents.report[:2], self.preset if len(self.study) else self.asked)

    def claims(self) -> Output:
        """What was asked and what came out: of Tables 2 to 4 the article's claims, of the others the study's questions."""
        if self.contents.figures is None:
            caption = f"The questions on {self.contents.about}: effects in {self.unit} on {self.data}."
            return show(claims.answers(self.tested), caption, name="answers", formats=claims.ANSWERS)
        judged = judge.judge(self.folder, counted=False, page=self.contents.report)
        caption = "The article's claims of this table, as stated and on the runs there are."
        shown, note = claims.claims(judged, page=False), claims.usual(judged).strip()
        return show(shown, caption, name="claims", note=note, data=claims.download(judged))

    def differences(self) -> Output | None:
        """The effects with their intervals, as a figure; nothing where nothing was run."""
        if not self.tested["difference"].notna().any():
            return say("")
        fig, ax = plots.new(height=plots.height(self.tested, 0.5))
        plots.answers(ax, self.tested, f"effect on {self.data}, {self.unit}")
        caption = f"Each effect on {self.data} with its adjusted interval over seeds (line) and 95 % over persons (band)."
        alt = f"{len(self.tested)} effects in {self.unit} with their intervals and verdicts."
        return plots.save(fig, self.tested, "effects", caption, alt)

    def found(self) -> Output | None:
        """What holds, what is undecided and what was not run, with the figures."""
        return claims.found(self.tested, self.unit)

    def table(self) -> Output:
        """The article's figures, others' and ours, each in columns of its own."""
        if self.contents.figures:
            return accuracy.shown(self.contents.figures, self.study, self.preset)
        measured, shared = tables.measured(self.study, self.metric, self.noise)
        both = tables.beside(article_rows(f"T{self.number}"), measured)
        if self.contents.costs:
            both = study.with_costs(both, study.costs(f"table{self.number}"))
        caption = f"The article's Table {self.number} and our runs on {self.data} (*{self.preset}*).{shared}"
        note = study.note(self.metric, self.contents.costs)
        return show(both, caption, name=f"table{self.number}", formats=tables.FORMATS, note=note)

    def noise_in_words(self) -> Output | None:
        """What the intervals hold, and what bounds the figures from below."""
        return say(f"{study.noise_in_words(self.study, self.noise)} {tables.floor(self.study)}".strip())

    def networks(self) -> Output | None:
        """Every network with its interval and its seeds, as a figure; nothing where nothing was run."""
        return networks(self.study, self.noise, self.metric, self.data)

    def curves(self) -> Output | None:
        """The learning curves, as a figure; nothing where nothing was run."""
        return curves(self.study, self.metric, self.data)

    def similar(self) -> Output | None:
        """For runs measured by AP, whose poses are better person by person."""
        return study.similar(self.study, self.contents.baseline)

    def notes(self) -> Output | None:
        """Of Tables 2 to 4: which figures nobody published, what boxes are worth, which submissions there are."""
        return accuracy.notes(self.figures, self.study)

    def gaps(self) -> Output | None:
        """Of Tables 2 to 4: each figure of the article beside ours, or that it has not been measured."""
        return accuracy.gaps(self.figures, self.study)

    def not_reproduced(self) -> Output | None:
        """The questions that the runs contradict."""
        return claims.not_reproduced(self.tested, self.unit)

    def headline(self) -> Output:
        """The finding, for the head of the page and the index."""
        own = accuracy.in_words(self.contents.figures, self.study) if self.contents.figures else ""
        finding = claims.finding(self.tested, self.unit, self.data) if len(self.tested) else ""
        return headline(f"{finding} {own}".strip())


def networks(frame: pd.DataFrame, noise: stats.Noise, unit: str, data: str) -> Output | None:
    """The networks of a frame with their intervals, as a figure; nothing without a finished run."""
    known = stats.intervals(frame, noise)
    if not known["n"].any():
        return say("")
    fig, ax = plots.new(height=plots.height(known))
    plots.networks(ax, known, frame, f"{unit}, {data}", marks=study.marks(frame))
    caption = f"{unit} on {data}: seeds (dots), mean (bar), 95 % over seeds (line) and over persons (band)."
    return plots.save(fig, known, "networks", caption, f"{len(known)} networks with their mean {unit} and an interval.")


def curves(frame: pd.DataFrame, unit: str, data: str) -> Output | None:
    """The learning curves of a frame of runs, as a figure; nothing without an epoch."""
    epochs = runs.curves(frame).dropna(subset=["value"]).rename(columns={"value": unit})
    if epochs.empty:
        return say("")
    fig, ax = plots.new()
    plots.curves(ax, epochs, unit)
    caption = f"{unit} on {data} by epoch: mean and range of the seeds."
    alt = f"Learning curves of {epochs['label'].nunique()} networks, {unit} over epochs."
    return plots.save(fig, epochs, "curves", caption, alt)


def table(number: int, preset: str, seeds: Sequence[int], runs: str | Path) -> TablePage:
    """The page of Table `number`, 2 to 7. Raises MdwError for an unknown preset or seeds that are no whole numbers."""
    return TablePage(number, preset, seeds, runs)
