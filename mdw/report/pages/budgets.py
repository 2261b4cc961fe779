"""The cost of our networks beside what the article's percentages lead to. Frames in, frames and sentences out."""

import pandas as pd

from mdw.report import words
from mdw.report.article import ratios, window
from mdw.report.names import and_list, name_of
from mdw.report.outputs import ARTICLE, MEASURED


def statements() -> str:
    """The percentages of the article's text, as a sentence and a list."""
    return words.text("cost.statements", rows=ratios().to_dict("records"))


def beside_article(budget: pd.DataFrame) -> pd.DataFrame:
    """`architecture.budget` with the article's windows in columns of their own, for `outputs.show`."""
    frame = {("", "network"): budget["model"], ("", "input"): budget["input"]}
    names = [name_of(model) for model in budget["model"]]
    frame[ARTICLE, "params M"] = [window(name, size, "params") for name, size in zip(names, budget["input"], strict=True)]
    frame[ARTICLE, "MACs M"] = [window(name, size, "cost") for name, size in zip(names, budget["input"], strict=True)]
    frame[MEASURED, "params M"] = budget["params M"]
    frame[MEASURED, "executed M"] = budget["MACs M"]
    frame[MEASURED, "Lite-HRNet's count, M"] = budget["Lite-HRNet's count, M"]
    return pd.DataFrame(frame)


def misses(budget: pd.DataFrame) -> pd.DataFrame:
    """Every percentage of the article that the networks in `budget` can be held against -> statement, network, input, ours.

    Columns under ARTICLE: percent; under MEASURED: value (percent of the same published figure), off by. The cost is the
    Lite-HRNet's counter, the convention of most published figures.
    """
    counted = {(name_of(row["model"]), row["input"]): row for row in budget.to_dict("records")}
    rows = []
    for row in ratios().itertuples():
        ours = counted.get((row.model, row.input_size))
        if ours is not None:
            value = 100 * ours["params M" if row.quantity == "params" else "Lite-HRNet's count, M"] / row.reference_value
            rows.append(
                {
                    ("", "statement"): row.statement,
                    ("", "network"): row.model,
                    ("", "input"): row.input_size,
                    (ARTICLE, "percent"): row.percent,
                    (MEASURED, "value"): value,
                    (MEASURED, "off by"): value - row.percent,
                }
            )
    return pd.DataFrame(rows)


def points(budget: pd.DataFrame, others: pd.DataFrame, size: str) -> pd.DataFrame:
    """Published and counted networks at one input size, for `plots.complexity_accuracy`."""
    ours = budget[budget["input"] == size].assign(label=lambda f: f["model"].map(name_of), origin="measured")
    theirs = (
        others[others["input"] == size]
        .rename(columns={"network": "label"})
        .assign(origin="published", **{"Lite-HRNet's count, M": lambda f: 1000 * f["GFLOPs"]})
    )
    columns = ["label", "origin", "params M", "Lite-HRNet's count, M"]
    return pd.concat([ours[columns], theirs[columns]], ignore_index=True)


def in_words(budget: pd.DataFrame) -> str:
    """What the counting found, network by network."""
    return words.text("cost.counted", rows=budget.to_dict("records"))


def misses_in_words(missed: pd.DataFrame) -> str:
    """How near the article's percentages ours come."""
    if missed.empty:
        return words.text("cost.misses", near=0, all=0, statement="", value=0, percent=0)
    relative = (missed[MEASURED, "off by"] / missed[ARTICLE, "percent"]).abs()
    worst = missed.loc[relative.idxmax()]
    told = {"statement": worst["", "statement"], "value": worst[MEASURED, "value"], "percent": worst[ARTICLE, "percent"]}
    return words.text("cost.misses", near=int((relative <= 0.02).sum()), all=len(missed), **told)


def headline(budget: pd.DataFrame) -> str:
    """One sentence for the index."""
    first = budget.drop_duplicates("model")
    parts = [
        f"{name_of(row[0])}: {row[2]:.3f} M parameters, {row[3]:.0f} M multiply-adds executed at {row[1]}"
        for row in first.itertuples(index=False)
    ]
    return and_list(parts) + "."
