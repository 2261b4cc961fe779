"""Fig. 5: accuracy over cost, of what was published and of what was measured. A column is one quantity, measured in one way."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from mdw.experiments import studies
from mdw.report import article, derived, names, plots, tables
from mdw.report.claims import judge
from mdw.report.claims import words as claims
from mdw.report.names import METRICS
from mdw.report.outputs import NOT_RUN, Output, headline, say, show
from mdw.report.pages import study as studied

SIZE = "256x192"  # of the published figures, by the figure's caption
PARAMETERS, PRINTED, EXECUTED = "parameters, M", "multiply-adds as published, G", "multiply-adds executed, M"
ARTICLES = "AP, COCO val, detector boxes"
SMALL = 10.0  # M parameters; the figure is about small networks
REPORT, QUESTIONS = "09_fig5_complexity_accuracy", ("Q3", "Q4", "C2")


class Fig5Page:
    """The page of Fig. 5 under a preset: of the quick presets, whose people are synthetic, it shows the study on LSPET.

    seeds: those that count, where they are finished. folder: of the runs. models: these networks only, all if empty.
    """

    def __init__(self, preset: str, seeds: Sequence[int], folder: str | Path, models: Sequence[str] = ()) -> None:
        self.preset, self.folder = studies.answered_by(preset), folder
        self.study = study(self.preset, seeds, folder)
        self.everything = studied.everything(self.preset, seeds, folder)
        self.points = points(self.study, models)
        self.name = accuracy(self.study)

    def provenance(self) -> Output:
        """The facts of the page's provenance."""
        return tables.provenance(self.study)

    def recipe(self) -> Output | None:
        """What the runs share."""
        return say(f"Our own points are the runs of *{self.preset}*. {tables.shared_recipe(self.study)}")

    def missing(self) -> Output | None:
        """Which runs are not finished, and the command that makes them."""
        return studied.missing(self.study, REPORT[:2], self.preset)

    def published(self) -> Output | None:
        """The article's figure: published accuracy over published cost."""
        caption = "Published: AP on COCO val with a detector's boxes over parameters, and over multiply-adds as printed."
        return self._figure(((PARAMETERS, ARTICLES), (PRINTED, ARTICLES)), "fig5_published", caption)

    def measured(self) -> Output | None:
        """The same networks as measured here, over their counted cost."""
        caption = f"Measured here: {self.name} over parameters and multiply-adds; a line is the range of the seeds."
        return self._figure(((PARAMETERS, self.name), (EXECUTED, self.name)), "fig5_measured", caption)

    def _figure(self, axes: Sequence[tuple[str, str]], name: str, caption: str) -> Output | None:
        panels = [pair for pair in axes if len(self.points.dropna(subset=list(pair)))]
        if not panels:
            return say(f"Nothing can be drawn here: {NOT_RUN}.")
        fig, drawn = plots.columns(len(panels), 7.6, 3.9, sharey=True)
        for ax, (x, y) in zip(drawn, panels, strict=True):
            plots.complexity_accuracy(ax, self.points.dropna(subset=[x, y]), x, y, log=True)
        shown = self.points.dropna(subset=[panels[0][1]])
        alt = f"{shown['label'].nunique()} networks by {panels[0][1]} and {names.and_list([x for x, _ in panels])}."
        return plots.save(fig, shown.dropna(axis="columns", how="all"), name, caption, alt)

    def explorer(self) -> Output:
        """All points on axes of the reader's choice."""
        from mdw.report.explorers import explore

        return explore.fig5(explore.with_latency(self.points, self.folder), y=ARTICLES)

    def table(self) -> Output:
        """Every point."""
        formats = {PARAMETERS: "{:.2f}", PRINTED: "{:.3f}", EXECUTED: "{:.1f}", ARTICLES: "{:.1f}", self.name: "{:.1f}"}
        caption = "The points; a column is one quantity, measured in one way."
        return show(self.points.drop(columns="about"), caption, name="points", formats=formats)

    def edges(self) -> Output | None:
        """The networks that none beats in both, for each pair of axes."""
        return say(in_words(self.points))

    def claims(self) -> Output:
        """The article's claims that rest on this figure."""
        judged = judge.judge(self.folder, counted=False, page=REPORT)
        caption = "The article's claims on this figure, as stated and on the runs there are."
        shown, note = claims.claims(judged, page=False), claims.usual(judged).strip()
        return show(shown, caption, name="claims", note=note, data=claims.download(judged))

    def not_reproduced(self) -> Output | None:
        """Of the orderings of our own points, those that the runs contradict."""
        return claims.not_reproduced(studied.questions(self.everything, *QUESTIONS), METRICS[self.study["metric"].iloc[0]])

    def headline(self) -> Output:
        """The finding, for the head of the page; the figure that leads the index."""
        return headline(in_short(self.points, self.study), figure="fig5_measured")


def published() -> pd.DataFrame:
    """The small networks of Table 2 at `SIZE` -> label, origin, about, `PARAMETERS`, `PRINTED` and `ARTICLES`.

    An AP that is derived from the article (`derived`) is there under the network's name and "(derived)".
    """
    frame = article.published("T2", primary=True)
    frame = frame[(frame["input_size"] == SIZE) & frame["boxes"].fillna("detector").eq("detector")]
    frame = frame.groupby("model", sort=False)[["params_M", "gflops", "AP"]].first().reset_index()
    sums = {one.model: one for one in derived.figures("T2", size=SIZE)}
    frame["about"] = [f"derived: {sums[model].sum}" if model in sums else "published" for model in frame["model"]]
    frame["AP"] = [sums[model].value if model in sums else ap for model, ap in zip(frame["model"], frame["AP"], strict=True)]
    frame["model"] = [f"{model} (derived)" if model in sums else model for model in frame["model"]]
    frame = frame[frame["params_M"].lt(SMALL) & frame["AP"].notna()]
    names = {"model": "label", "params_M": PARAMETERS, "gflops": PRINTED, "AP": ARTICLES}
    return frame.rename(columns=names).assign(origin="published")


def accuracy(study: pd.DataFrame) -> str:
    """What the runs of a study measure, in full: the metric, the data and, for AP, whose boxes. One name, one quantity."""
    first = study.iloc[0]
    name = f"{METRICS[first['metric']]}, {names.data_of(first['data'])}"
    if first["metric"] != "AP":
        return name
    return f"{name}, {'detector' if first['boxes'] == 'detector' else 'ground-truth'} boxes"


def measured(study: pd.DataFrame, models: Sequence[str] = ()) -> pd.DataFrame:
    """The finished runs of a study -> label, seed, origin, about, `PARAMETERS`, `EXECUTED` and its `accuracy`.

    Cost is counted at `SIZE` with 17 joints, whatever the runs were trained on. models: these networks only.
    """
    done, name = study.dropna(subset=["value"]), accuracy(study)
    done = done[done["model"].isin(models)] if len(models) else done
    if done.empty:
        return pd.DataFrame(columns=["label", "seed", "origin", "about", PARAMETERS, EXECUTED, name])
    from mdw.report.pages.zoo import costs

    counted = costs(list(dict.fromkeys(done["model"])), [SIZE]).set_index("network")
    told = {
        "origin": "measured",
        "about": [f"seed {seed}, {row}" for seed, row in zip(done["seed"], done["recipe"], strict=True)],
        PARAMETERS: counted.loc[done["model"], "params M"].tolist(),
        EXECUTED: counted.loc[done["model"], "executed M"].tolist(),
        name: done["value"].astype(float),
    }
    return done.assign(**told)[["label", "seed", *told]]


def points(study: pd.DataFrame, models: Sequence[str] = ()) -> pd.DataFrame:
    """`published` and `measured` in one frame, for `plots.complexity_accuracy` and the explorer."""
    both = pd.concat([published(), measured(study, models)], ignore_index=True)
    first = ["label", "origin", "about", PARAMETERS, PRINTED, EXECUTED, ARTICLES]
    return both.reindex(columns=[*first, *(name for name in both.columns if name not in (*first, "seed"))])


def panels(points: pd.DataFrame) -> list[tuple[str, str]]:
    """The pairs of axes (cost, accuracy) that have points."""
    accuracies = [ARTICLES, *points.columns[7:]]
    return [(x, y) for y in accuracies for x in (PARAMETERS, PRINTED, EXECUTED) if len(points.dropna(subset=[x, y]))]


def not_beaten(points: pd.DataFrame, x: str, y: str) -> list[str]:
    """The labels of the networks that none reaches at less or equal cost: the upper left edge; means over seeds."""
    means = points.dropna(subset=[x, y]).groupby("label", sort=False)[[x, y]].mean()
    edge = [
        label
        for label, row in means.iterrows()
        if not ((means[x] <= row[x]) & (means[y] >= row[y]) & ((means[x] < row[x]) | (means[y] > row[y]))).any()
    ]
    return sorted(edge, key=lambda label: means.loc[label, x])


def in_words(points: pd.DataFrame) -> str:
    """A list: for each pair of axes the networks that none beats in both, by their means; noise is not considered."""
    lines = [f"- {y} over {x}: {names.and_list(not_beaten(points, x, y))}." for x, y in panels(points)]
    return "No other is as cheap and as accurate as these, by the means alone:\n\n" + "\n".join(lines)


def in_short(points: pd.DataFrame, study: pd.DataFrame) -> str:
    """The finding in a sentence: which of the networks measured alike no smaller one beats, by the means alone."""
    name, ours = accuracy(study), points[points["origin"] == "measured"]
    if ours.empty:
        return f"No network has been measured for this figure yet ({name}: {NOT_RUN}); its {len(points)} points are published."
    edge = names.and_list(not_beaten(ours, PARAMETERS, name))
    return f"{name}: of {ours['label'].nunique()} networks measured alike, no smaller one is as accurate as {edge}."


def study(preset: str, seeds: Sequence[int], runs: str | Path) -> pd.DataFrame:
    """The runs of Table 2 at its first input, under a preset. Raises MdwError for an unknown preset."""
    found = studied.rows("table2", preset, seeds, runs)
    plain = {row.label for row in studies.STUDIES["table2"] if not row.changes}
    return found[found["label"].isin(plain)].reset_index(drop=True)
