"""The article's claims as they stand in claims.csv: what is said, what tests it, which figure it states."""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pandas as pd

from mdw.report.article import percentage
from mdw.report.claims import arithmetic
from mdw.util.errors import MdwError

CLAIMS = Path(__file__).with_name("claims.csv")


@dataclass(frozen=True)
class Claim:
    """One row of claims.csv.

    part: "claim"; "consistency", two statements of the article, or one and a figure it compares itself with, that should
    agree; "observation", what we noticed and the article does not say; "hypothesis"; "goal", what this project wants of its own
    speed. test: "figure" (a network reaches a figure), "gain" (exceeds another by a figure), "order", "ratio" (a percentage of
    `article.ratios`), "cost" (of counted networks), "speed" (of benched ones), "speedup" (so many times another's), "sum" (of
    published figures), "none". subject, relation, against: what is held
    against what: networks as `evidence.network` reads them, or sums as `arithmetic.evaluate` does. value: a figure, a margin
    in percent or a tolerance. setting: a `Setting`, quantities of `evidence.counted`, or what
    `evidence.speedup` takes. page: the report that tests it.
    note: how we read it, or why there is no test. `{value}` in claim and note stands for the value.
    """

    id: str
    part: str
    where: str
    claim: str
    test: str
    subject: str
    relation: str
    against: str
    value: str
    setting: str
    page: str
    note: str


def claims() -> dict[str, Claim]:
    """All rows by id, with `{value}` filled in. Raises MdwError for an id that is given twice."""
    rows = [Claim(**row) for row in pd.read_csv(CLAIMS, dtype=str, keep_default_na=False).to_dict("records")]
    found = {row.id: row for row in rows}
    if len(found) < len(rows):
        raise MdwError(f"{CLAIMS.name} gives an id twice; make the {len(rows)} ids different")
    texts = {row.id: f"{value_of(row, found):.10g}" if row.value or row.test == "ratio" else "" for row in rows}
    return {
        row.id: replace(row, **{name: getattr(row, name).replace("{value}", texts[row.id]) for name in ("claim", "note")})
        for row in rows
    }


def value_of(claim: Claim, known: dict[str, Claim]) -> float:
    """The figure that a claim states; of a ratio the percentage. Raises MdwError where it states none."""
    if claim.test == "ratio":
        return percentage(claim.id)
    return arithmetic.evaluate(claim.value, partial(stated, known))


def stated(known: dict[str, Claim], name: str) -> float:
    """What `{id}` means in a sum: the figure of another claim, a percentage as a share. Raises MdwError for an unknown id."""
    if name not in known:
        raise MdwError(f"no claim has the id {name!r}; correct it in {CLAIMS.name}")
    value = value_of(known[name], known)
    return value / 100 if known[name].test == "ratio" else value
