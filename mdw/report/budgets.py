"""The cost of our networks beside what the article's percentages lead to. Frames in, frames and sentences out."""

import pandas as pd

from mdw.report.article import NAMES, ratios, window
from mdw.report.outputs import ARTICLE, MEASURED
from mdw.report.tables import and_list


def statements() -> str:
    """The percentages of the article's text, as a sentence and a list."""
    lines = [f"- {row.model} at {row.input_size}: {row.statement}." for row in ratios().itertuples()]
    return (
        "The text states percentages and no absolute figure. They do not all fit one network; each leads to a window.\n\n"
        + "\n".join(lines)
    )


def beside_article(budget: pd.DataFrame) -> pd.DataFrame:
    """`architecture.budget` with the article's windows in columns of their own, for `outputs.show`."""
    frame = {("", "network"): budget["model"], ("", "input"): budget["input"]}
    names = [NAMES.get(model, model) for model in budget["model"]]
    frame[ARTICLE, "params M"] = [window(name, size, "params") for name, size in zip(names, budget["input"], strict=True)]
    frame[ARTICLE, "MACs M"] = [window(name, size, "cost") for name, size in zip(names, budget["input"], strict=True)]
    frame[MEASURED, "params M"] = budget["params M"]
    frame[MEASURED, "executed M"] = budget["MACs M"]
    frame[MEASURED, "peers' counter M"] = budget["peers M"]
    return pd.DataFrame(frame)


def misses(budget: pd.DataFrame) -> pd.DataFrame:
    """Every percentage of the article that the networks in `budget` can be held against -> statement, network, input, ours.

    Columns under ARTICLE: percent; under MEASURED: value (percent of the same published figure), off by. The cost is the
    peers' counter, the convention of most published figures.
    """
    counted = {(NAMES.get(row["model"], row["model"]), row["input"]): row for row in budget.to_dict("records")}
    rows = []
    for row in ratios().itertuples():
        ours = counted.get((row.model, row.input_size))
        if ours is not None:
            value = 100 * ours["params M" if row.quantity == "params" else "peers M"] / row.reference_value
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


def points(budget: pd.DataFrame, siblings: pd.DataFrame, size: str) -> pd.DataFrame:
    """Published and counted networks at one input size, for `figures.complexity_accuracy`."""
    ours = budget[budget["input"] == size].assign(label=lambda f: f["model"].map(lambda n: NAMES.get(n, n)), origin="measured")
    theirs = (
        siblings[siblings["input"] == size]
        .rename(columns={"network": "label"})
        .assign(origin="published", **{"peers M": lambda f: 1000 * f["GFLOPs"]})
    )
    columns = ["label", "origin", "params M", "peers M"]
    return pd.concat([ours[columns], theirs[columns]], ignore_index=True)


def in_words(budget: pd.DataFrame) -> str:
    """What the counting found, network by network."""
    lines = []
    for row in budget.itertuples(index=False):
        model, size, params, executed, peers, inside = row
        verdict = "inside the window of the article's percentages" if inside == "yes" else f"outside it ({inside[4:]})"
        lines.append(
            f"- `{model}` at {size}: {params:.3f} M parameters, {executed:.1f} M multiply-adds executed, {peers:.1f} "
            f"by the peers' counter; {verdict}."
        )
    return "\n".join(lines)


def misses_in_words(missed: pd.DataFrame) -> str:
    """How near the article's percentages ours come."""
    if missed.empty:
        return "None of the article's percentages refers to a network and input counted here."
    off = missed[MEASURED, "off by"]
    relative = (off / missed[ARTICLE, "percent"]).abs()
    worst = missed.loc[relative.idxmax()]
    near = int((relative <= 0.02).sum())
    return (
        f"{near} of {len(missed)} percentages are met within a fiftieth. The farthest is "
        f"“{worst['', 'statement']}”: {worst[MEASURED, 'value']:.1f} % here, {worst[ARTICLE, 'percent']:g} % there. "
        "No single network can meet them all."
    )


def headline(budget: pd.DataFrame) -> str:
    """One sentence for the index."""
    first = budget.drop_duplicates("model")
    parts = [
        f"{NAMES.get(row[0], row[0])}: {row[2]:.3f} M parameters, {row[3]:.0f} M multiply-adds executed at {row[1]}"
        for row in first.itertuples(index=False)
    ]
    return and_list(parts) + "."
