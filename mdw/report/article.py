"""What was published: figures (published.csv) and the percentages of the article's text (ratios.csv), each entered once.

What follows from both, and the article does not state, is in `derived`.
"""

import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pandas as pd

from mdw.util.errors import MdwError

PUBLISHED = Path(__file__).with_name("published.csv")
RATIOS = Path(__file__).with_name("ratios.csv")
ROWS = {  # the article's tables of variants: our row -> the model's name in published.csv
    "T5": {
        "Simple": "Simple MDW-HRNet-18 (no CDC, no GCM)",
        "+ CDC": "Simple MDW-HRNet-18 + CDC",
        "+ GCM": "Simple MDW-HRNet-18 + GCM",
        "CDC + GCM (full)": "MDW-HRNet-18 (CDC+GCM)",
    },
    "T6": {"K = 3": "MDW-HRNet-18, K=3"},
    "T7": {
        "without CDC": "MDW-HRNet-18 (without CDC)",
        "CondConv": "MDW-HRNet-18 (with CondConv)",
        "Dynamic convolution": "MDW-HRNet-18 (with Dynamic_conv)",
        "ODConv": "MDW-HRNet-18 (with ODConv)",
        "CDC": "MDW-HRNet-18 (with CDC)",
    },
}
TEXT = "the article, text"  # the source of what the article itself says


def published(table: str | None = None, models: Sequence[str] | None = None, primary: bool = False) -> pd.DataFrame:
    """Published figures, optionally of one table ("T2" ... "T7") and some models, these in the order given.

    Columns: table, model, backbone, input_size (height x width), pretrain, params_M, gflops, AP ... AR, PCKh50, PCKh10 (in
    percent), boxes, primary, kind ("stated" or "derived" where the article's own text is the source), source, note.
    primary: only the rows that stand for their table.
    """
    frame = _read(PUBLISHED).copy()
    frame["primary"] = frame["primary"].eq("yes")
    if table is not None:
        frame = frame[frame["table"] == table]
    if models is not None:
        order = {name: place for place, name in enumerate(models)}
        frame = frame[frame["model"].isin(order)].sort_values("model", key=lambda names: names.map(order), kind="stable")
    if primary:
        frame = frame[frame["primary"]]
    return frame.reset_index(drop=True)


@cache
def _read(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, dtype={"pretrain": "string"}, keep_default_na=True)


def article_rows(table: str, column: str = "AP", name: str = "COCO AP") -> pd.DataFrame:
    """The article's figures for the rows of one of its tables in `ROWS` -> label, `name`; empty where the text has none.

    Raises MdwError for a table without rows here.
    """
    if table not in ROWS:
        raise MdwError(f"the rows of {table} are not named; those of {', '.join(ROWS)} are")
    frame = published(table).dropna(subset=[column]).drop_duplicates("model").set_index("model")[column]
    return pd.DataFrame({"label": list(ROWS[table]), name: [frame.get(model) for model in ROWS[table].values()]})


def figures(table: str, name: str | None, size: str, columns: Sequence[str], article: bool = False) -> dict:
    """What was published of a model in a table at an input size: its `columns` that are given, and "source".

    article: what the article's own text states, else what others published of it; what is derived is in neither. A row without
    an input size counts for every size. Empty for None and for what nobody published.
    """
    frame = published(table, [name] if name else None)
    frame = frame[frame["source"].eq(TEXT) == article] if name else frame[:0]
    frame = frame[frame["kind"].ne("derived")]
    if frame["primary"].any():
        frame = frame[frame["primary"]]
    frame = frame[frame["input_size"].isna() | frame["input_size"].eq(size)].dropna(subset=list(columns), how="all")
    if frame.empty:
        return {}
    row = frame.iloc[0]
    return {column: float(row[column]) for column in columns if pd.notna(row[column])} | {"source": short(row["source"])}


def short(source: str) -> str:
    """A source as a table's cell: the repository, the publication or the page, without the file and the commit in it."""
    return re.split(r" README| configs| as bundled| \(", source.replace("github.com/", ""))[0]


def published_cost(sizes: Sequence[str]) -> pd.DataFrame:
    """The published cost of Lite- and Dite-HRNet -> network, input, params M, GFLOPs (by their counter, 2^20 / 1000), boxes."""
    frame = pd.concat([published("T2", primary=True), published("T4", primary=True)])
    frame = frame[frame["input_size"].isin(list(sizes)) & frame["model"].str.contains("Lite-HRNet|Dite-HRNet")]
    frame = frame.dropna(subset=["gflops"]).drop_duplicates(["model", "input_size"])
    frame = frame.assign(source=frame["source"].str.replace(r" README.*", "", regex=True).str.replace("github.com/", ""))
    names = {"model": "network", "input_size": "input", "params_M": "params M", "gflops": "GFLOPs", "source": "source"}
    return frame[list(names)].rename(columns=names).reset_index(drop=True)


def window(model: str, size: str, quantity: str) -> str | None:
    """The range that the article's percentages give for a network: "1.09-1.16" M parameters, "207" M multiply-adds, or None.

    quantity: "params" (M) or "cost" (M).
    """
    values = [
        row.percent / 100 * row.reference_value
        for row in ratios().itertuples()
        if row.model == model and row.quantity == quantity and (quantity == "params" or row.input_size == size)
    ]
    if not values:
        return None
    pattern = "{:.2f}" if quantity == "params" else "{:.0f}"
    low, high = pattern.format(min(values)), pattern.format(max(values))
    return low if low == high else f"{low}–{high}"


def percentage(claim: str) -> float:
    """The percentage that a claim of cost states, by the claim's id."""
    return float(pd.read_csv(RATIOS).set_index("claim")["percent"][claim])


def ratios() -> pd.DataFrame:
    """The article's percentages, by the id of their claim, with the published figure they refer to.

    reference_value: M parameters or M multiply-adds.
    """
    frame = pd.read_csv(RATIOS)
    return frame.assign(reference_value=[_reference(row) for row in frame.itertuples()])


def _reference(row) -> float:
    column = {"params": "params_M", "cost": "gflops"}[row.quantity]
    return figure(row.reference_table, row.reference, row.reference_input, column) * (1000 if row.quantity == "cost" else 1)


def figure(table: str, model: str, size: str, column: str) -> float:
    """One published figure of a model at an input ("256x192"; "" where its source names none), the primary one first.

    Raises MdwError where nothing was published of it.
    """
    frame = published(table, [model])
    frame = frame[frame["input_size"].fillna("") == size].sort_values("primary", ascending=False, kind="stable")
    found = frame[column].dropna()
    if found.empty:
        raise MdwError(
            f"published.csv has no {column} of {model} at {size or 'an unnamed input'} under {table}; correct the name"
        )
    return float(found.iloc[0])
