"""Fig. 5: accuracy over cost, of what was published and of what was measured. A column is one quantity, measured in one way."""

from collections.abc import Sequence

import pandas as pd

from mdw.experiments import studies
from mdw.report import article, derived, tables
from mdw.report.outputs import NOT_RUN, Output, facts

SIZE = "256x192"  # of the published figures, by the figure's caption
PARAMETERS, PRINTED, EXECUTED = "parameters, M", "multiply-adds as published, G", "multiply-adds executed, M"
ARTICLES = "AP, COCO val, detector boxes"
DATA = {"coco": "COCO val", "mpii": "MPII val", "lspet": "LSPET", "people": "drawn people", "custom": "own data"}
SMALL = 10.0  # M parameters; the figure is about small networks


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
    name = f"{tables.METRICS[first['metric']]}, {DATA.get(first['data'], first['data'])}"
    if first["metric"] != "AP":
        return name
    return f"{name}, {'detector' if first['boxes'] == 'detector' else 'ground-truth'} boxes"


def measured(parts: Sequence[pd.DataFrame], models: Sequence[str] = ()) -> pd.DataFrame:
    """The finished runs of studies -> label, seed, origin, about, `PARAMETERS`, `EXECUTED` and each one's `accuracy`.

    A study that measures what an earlier one does is left out. Cost is counted at `SIZE` with 17 joints, whatever the runs were
    trained on; imports torch if there is a run. models: these networks only.
    """
    apart = {accuracy(study): study for study in reversed(parts) if len(study)}
    frames = [study.assign(**{name: study["value"].astype(float)}) for name, study in reversed(apart.items())]
    done = pd.concat(frames).dropna(subset=["value"]) if frames else pd.DataFrame(columns=["model"])
    if len(models):
        done = done[done["model"].isin(models)]
    if done.empty:
        return pd.DataFrame(columns=["label", "seed", "origin", "about", PARAMETERS, EXECUTED, *apart])
    from mdw.report.zoo import costs

    counted = costs(list(dict.fromkeys(done["model"])), [SIZE]).set_index("network")
    told = {
        "origin": "measured",
        "about": [f"seed {seed}, {row}" for seed, row in zip(done["seed"], done["recipe"], strict=True)],
        PARAMETERS: counted.loc[done["model"], "params M"].tolist(),
        EXECUTED: counted.loc[done["model"], "executed M"].tolist(),
    }
    return done.assign(**told)[["label", "seed", *told, *reversed(apart)]]


def points(study: pd.DataFrame, models: Sequence[str] = (), also: Sequence[pd.DataFrame] = ()) -> pd.DataFrame:
    """`published` and `measured` in one frame, for `figures.complexity_accuracy` and the explorer.

    also: further studies, whose accuracy is a column of its own.
    """
    both = pd.concat([published(), measured([study, *also], models)], ignore_index=True)
    first = ["label", "origin", "about", PARAMETERS, PRINTED, EXECUTED, ARTICLES]
    return both.reindex(columns=[*first, *(name for name in both.columns if name not in (*first, "seed"))])


def panels(points: pd.DataFrame) -> list[tuple[str, str]]:
    """The pairs of axes (cost, accuracy) that have points."""
    costs = (PARAMETERS, PRINTED, EXECUTED)
    accuracies = [ARTICLES, *(name for name in points.columns[7:])]
    return [(x, y) for y in accuracies for x in costs if len(points.dropna(subset=[x, y]))]


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
    lines = [f"- {y} over {x}: {tables.and_list(not_beaten(points, x, y))}." for x, y in panels(points)]
    return "No other is as cheap and as accurate as these, by the means alone:\n\n" + "\n".join(lines)


def headline(points: pd.DataFrame, study: pd.DataFrame) -> str:
    """One sentence for the index."""
    name = accuracy(study)
    ours = points[points["origin"] == "measured"]
    if ours.empty:
        return f"Cost against accuracy: {len(points)} published points; {name}: {NOT_RUN}."
    edge = not_beaten(ours, PARAMETERS, name)
    return (
        f"{name} of {ours['label'].nunique()} networks measured alike: for its parameters none beats {tables.and_list(edge)}."
    )


def provenance(study: pd.DataFrame) -> Output:
    """The facts of the page's provenance: of the runs, or that there are none."""
    return tables.provenance(study) if len(study) else facts(finished_runs=NOT_RUN, data=NOT_RUN, seeds=NOT_RUN)


def study(preset: str, seeds: list[int], runs: str) -> pd.DataFrame:
    """The runs of Table 2 at its first input, under a preset. Raises MdwError for an unknown preset."""
    found = tables.study("table2", preset, seeds, runs)
    plain = {row.label for row in studies.STUDIES["table2"] if not row.changes}
    return found[found["label"].isin(plain)]
