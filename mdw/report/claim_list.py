"""`verdicts.judge` for the reader: tables, lists and the sentence of the index."""

from pathlib import Path

import pandas as pd

from mdw.report.outcome import CONTRADICTED, HOLDS, NOT_RUN, UNDECIDED, VERDICTS
from mdw.report.outputs import Output, facts, say
from mdw.report.tables import and_list
from mdw.report.verdicts import RECONSTRUCTION

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"
STATED, ELSEWHERE = "as stated", "under other conditions"
PLURAL = {HOLDS: "hold", CONTRADICTED: "are contradicted", UNDECIDED: "are undecided", NOT_RUN: "have not been run"}
SINGULAR = {CONTRADICTED: "is contradicted", UNDECIDED: "is undecided", NOT_RUN: "has not been run"}


def provenance(runs: pd.DataFrame) -> Output:
    """The facts of the page. runs: `evidence.runs_of`, the frame of all runs that were looked at."""
    columns = ("data", "recipe", "seed", "boxes", "input", "hardware", "commit")
    found = {column: list(dict.fromkeys(runs[column].dropna())) or NOT_RUN for column in columns}
    names = {"seed": "seeds", "recipe": "recipes", "commit": "commits_of_the_runs"}
    return facts(finished_runs=len(runs), **{names.get(column, column): values for column, values in found.items()})


def counts(judged: pd.DataFrame) -> pd.DataFrame:
    """How often each verdict was given -> verdict, and a column of numbers for each kind of entry."""
    claims, consistency = (judged[judged["part"] == part] for part in ("claim", "consistency"))
    columns = {
        f"claims {STATED}": claims["verdict"],
        f"claims {ELSEWHERE}": claims["elsewhere"],
        "the article with itself": consistency["verdict"],
    }
    frame = pd.DataFrame({name: [int((said == verdict).sum()) for verdict in VERDICTS] for name, said in columns.items()})
    frame.insert(0, "verdict", VERDICTS)
    return frame[frame[list(columns)].any(axis=1)].reset_index(drop=True)


def claims(judged: pd.DataFrame) -> pd.DataFrame:
    """The claims in the article's order, for `outputs.show`."""
    chosen = judged[judged["part"] == "claim"]
    return pd.DataFrame(
        {
            ("", "claim"): [_sentence(text) for text in chosen["claim"]],
            ("verdict", STATED): [_strong(verdict) for verdict in chosen["verdict"]],
            ("verdict", ELSEWHERE): [_strong(verdict) or None for verdict in chosen["elsewhere"]],
            ("", "what tells it"): [_told(row) for row in chosen.itertuples()],
            ("", "where, report"): [_where(row) for row in chosen.itertuples()],
        }
    )


def sums(judged: pd.DataFrame, part: str) -> pd.DataFrame:
    """The entries of a part, "consistency", "observation" or "hypothesis", for `outputs.show`.

    An observation is ours and no statement of the article, so it has no verdict.
    """
    chosen = judged[judged["part"] == part]
    columns = {
        "statement": [_sentence(text) for text in chosen["claim"]],
        "verdict": [_strong(verdict) for verdict in chosen["verdict"]],
        "what tells it": [_told(row) for row in chosen.itertuples()],
        "where": chosen["where"],
    }
    return pd.DataFrame({name: values for name, values in columns.items() if part != "observation" or name != "verdict"})


def not_reproduced(judged: pd.DataFrame) -> Output:
    """The claims that are contradicted, as stated and then under other conditions; what is undecided is only counted."""
    claims = judged[judged["part"] == "claim"]
    failed, elsewhere = claims[claims["verdict"] == CONTRADICTED], claims[claims["elsewhere"] == CONTRADICTED]
    undecided = int((claims["verdict"] == UNDECIDED).sum()), int((claims["elsewhere"] == UNDECIDED).sum())
    paragraphs = [f"Of {len(claims)} claims, {_many(len(failed), CONTRADICTED)} as stated{':' if len(failed) else '.'}"]
    paragraphs += ["\n".join(f"- {_sentence(row.claim)} ({row.where}): {row.evidence}." for row in failed.itertuples())]
    if len(elsewhere):
        paragraphs += [
            f"Under other conditions {_many(len(elsewhere), CONTRADICTED)}. That contradicts no figure of the article: the "
            "ordering may depend on the conditions.",
            "\n".join(f"- {_sentence(r.claim)} ({r.where}): {r.evidence}; {r.conditions}." for r in elsewhere.itertuples()),
        ]
    if any(undecided):
        paragraphs += [
            f"Undecided are {undecided[0]} as stated and {undecided[1]} under other conditions: an interval spans what is "
            "claimed, or a comparison has not been run. That speaks neither against a claim nor for it; the table says what "
            "difference the runs could have detected."
        ]
    return say("\n\n".join(filter(None, paragraphs)))


def inconsistent(judged: pd.DataFrame) -> Output:
    """How many of the article's statements agree with each other and with the figures it compares itself with."""
    chosen = judged[judged["part"] == "consistency"]
    failed = int((chosen["verdict"] == CONTRADICTED).sum())
    return say(f"{len(chosen) - failed} of {len(chosen)} such pairs of statements agree, {failed} do not.")


def hypothesis(judged: pd.DataFrame) -> Output:
    """What the published figures say of the source of the boxes, and what only a run can."""
    chosen = judged[judged["part"] == "hypothesis"]
    told, run = chosen[chosen["test"] == "sum"], chosen[chosen["test"] == "figure"].iloc[0]
    held = int((told["verdict"] == HOLDS).sum())
    return say(
        f"{held} of {len(told)} comparisons of published figures are as ground-truth boxes would make them. That is no proof; "
        f"our own run with either kind of boxes: {run['verdict']}."
    )


def in_words(judged: pd.DataFrame) -> str:
    """One sentence for the index."""
    claims = judged[judged["part"] == "claim"]
    parts = [_many(int((claims["verdict"] == verdict).sum()), verdict) for verdict in VERDICTS]
    holding = claims[claims["verdict"] == HOLDS]
    on_cost = int(holding["test"].isin(["ratio", "cost"]).sum())
    others = len(holding) - on_cost
    chosen = (
        f" Of those that hold {on_cost} are about cost, which the reconstruction was chosen to meet, and {others} "
        "about accuracy or speed."
        if on_cost
        else ""
    )
    tested = claims[claims["elsewhere"] != ""]["elsewhere"]
    found = [_many(int((tested == verdict).sum()), verdict) for verdict in VERDICTS]
    other = f" Under other conditions, of {len(tested)} orderings {and_list([part for part in found if part])}."
    said = f"Of {len(claims)} claims, as stated, {and_list([part for part in parts if part])}.{chosen}"
    return said + (other if len(tested) else "")


def download(judged: pd.DataFrame) -> pd.DataFrame:
    """Every entry with what was found, for the file beside the table."""
    return judged[["id", "part", "where", "claim", "verdict", "elsewhere", "evidence", "conditions", "test", "page", "note"]]


def _many(count: int, verdict: str) -> str:
    """ "3 are undecided"; empty for none, but that none is contradicted is said."""
    if not count:
        return f"none {SINGULAR[verdict]}" if verdict == CONTRADICTED else ""
    return f"{count} {(SINGULAR if count == 1 else PLURAL).get(verdict, verdict)}"


def _strong(verdict: str) -> str:
    return f"**{verdict}**" if verdict == CONTRADICTED else verdict


def _told(row) -> str | None:
    """Evidence, the conditions of runs and the note, in that order."""
    conditions = "" if row.conditions == RECONSTRUCTION else row.conditions  # the page says once what was counted
    return ". ".join(_sentence(part) for part in (row.evidence, conditions, row.note) if part) or None


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _where(row) -> str:
    """Where in the article, and the number of the report that tests it, a link where there is such a notebook."""
    number = row.page.partition("_")[0]
    return f"{row.where}, [{number}]({row.page}.ipynb)" if (NOTEBOOKS / f"{row.page}.ipynb").exists() else row.where
