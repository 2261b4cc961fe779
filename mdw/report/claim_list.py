"""`verdicts.judge` for the reader: tables, lists and the sentence of the index."""

from pathlib import Path

import pandas as pd

from mdw.report.evidence import DATA, Setting
from mdw.report.outputs import NOT_RUN, Output, facts, say
from mdw.report.tables import and_list
from mdw.report.verdicts import FAILS, HOLDS, NOISE, PARTLY, VERDICTS

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"
STATED, ELSEWHERE = "as stated", "under other conditions"
PLURAL = {HOLDS: "hold", FAILS: "do not hold", PARTLY: "hold so far", NOT_RUN: "have not been run"}


def provenance(judged: pd.DataFrame, runs: pd.DataFrame) -> Output:
    """The facts of the page. runs: `evidence.runs_of`, the frame of all runs that were looked at."""
    names = {
        "finished_runs": "path",
        "data": "data",
        "seeds": "seed",
        "boxes": "boxes",
        "input": "input",
        "hardware": "hardware",
    }
    found = {name: list(dict.fromkeys(runs[column].dropna())) or NOT_RUN for name, column in names.items()}
    return facts(
        claims=len(judged),
        **found | {"finished_runs": len(runs)},
        commits_of_the_runs=list(dict.fromkeys(runs["commit"].dropna())) or NOT_RUN,
    )


def counts(judged: pd.DataFrame) -> pd.DataFrame:
    """How often each verdict was given -> verdict, and a column of numbers for each kind of entry."""
    claims, consistency = (judged[judged["part"] == part] for part in ("claim", "consistency"))
    columns = {
        f"claims {STATED}": claims["verdict"],
        f"claims {ELSEWHERE}": claims["elsewhere"],
        "the article with itself": consistency["verdict"],
    }
    rows = [
        {"verdict": verdict} | {name: int((said == verdict).sum()) for name, said in columns.items()} for verdict in VERDICTS
    ]
    return pd.DataFrame([row for row in rows if any(row[name] for name in columns)])


def claims(judged: pd.DataFrame) -> pd.DataFrame:
    """The claims in the article's order, for `outputs.show`."""
    chosen = judged[judged["part"] == "claim"]
    return pd.DataFrame(
        {
            ("", "claim"): chosen["claim"],
            ("", "where"): chosen["where"],
            ("verdict", STATED): [_strong(verdict) for verdict in chosen["verdict"]],
            ("verdict", ELSEWHERE): [_strong(verdict) or None for verdict in chosen["elsewhere"]],
            ("", "what tells it"): [_told(row) for row in chosen.itertuples()],
            ("", "report"): [_link(page) for page in chosen["page"]],
        }
    )


def sums(judged: pd.DataFrame, part: str) -> pd.DataFrame:
    """The entries of a part, "consistency" or "hypothesis", for `outputs.show`."""
    chosen = judged[judged["part"] == part]
    return pd.DataFrame(
        {
            "statement": chosen["claim"],
            "where": chosen["where"],
            "verdict": [_strong(verdict) for verdict in chosen["verdict"]],
            "what tells it": [_told(row) for row in chosen.itertuples()],
        }
    )


def not_reproduced(judged: pd.DataFrame) -> Output:
    """What does not hold: claims as stated, then under other conditions what does not hold and what the noise hides."""
    claims = judged[judged["part"] == "claim"]
    failed, elsewhere = claims[claims["verdict"] == FAILS], claims[claims["elsewhere"].isin([FAILS, NOISE])]
    paragraphs = [
        f"Of {len(claims)} claims, {len(failed)} {_does(len(failed))} not hold as stated{':' if len(failed) else '.'}"
    ]
    paragraphs += ["\n".join(f"- {row.claim} ({row.where}): {row.evidence}." for row in failed.itertuples())]
    if len(elsewhere):
        paragraphs += [
            f"Under other conditions {len(elsewhere)} more did not come out, which says nothing of the article's figures but that "
            "the ordering depends on the conditions, or that these runs are too few to show it:",
            "\n".join(
                f"- {row.claim} ({row.where}): {row.elsewhere} on {row.conditions}: {row.evidence}."
                for row in elsewhere.itertuples()
            ),
        ]
    return say("\n\n".join(filter(None, paragraphs)))


def inconsistent(judged: pd.DataFrame) -> Output:
    """How many of the article's statements agree with each other and with the figures it compares itself with."""
    chosen = judged[(judged["part"] == "consistency") & (judged["test"] == "sum")]
    held = int((chosen["verdict"] == HOLDS).sum())
    return say(f"{held} of {len(chosen)} statements that can be computed agree; {len(chosen) - held} do not.")


def hypothesis(judged: pd.DataFrame) -> Output:
    """What the published figures say of the source of the boxes, and what only a run can."""
    chosen = judged[judged["part"] == "hypothesis"]
    told, run = chosen[chosen["test"] == "sum"], chosen[chosen["test"] == "figure"].iloc[0]
    held = int((told["verdict"] == HOLDS).sum())
    return say(
        f"{held} of {len(told)} comparisons of published figures are as they would be with ground-truth boxes. That is no proof; "
        f"our own run with either kind of boxes: {run['verdict']}."
    )


def in_words(judged: pd.DataFrame) -> str:
    """One sentence for the index."""
    claims = judged[judged["part"] == "claim"]
    parts = [_many(int((claims["verdict"] == verdict).sum()), verdict) for verdict in VERDICTS]
    told = [int((claims["elsewhere"] == verdict).sum()) for verdict in (HOLDS, PARTLY, FAILS)]
    tested = int((claims["elsewhere"] != "").sum())
    other = (
        f" Under other conditions {told[0] + told[1]} of {tested} orderings hold, {told[2]} {_does(told[2])} not."
        if tested
        else ""
    )
    return f"Of {len(claims)} claims, as stated, {and_list([part for part in parts if part])}.{other}"


def download(judged: pd.DataFrame) -> pd.DataFrame:
    """Every entry with what was found, for the file beside the table."""
    return judged[["id", "part", "where", "claim", "verdict", "elsewhere", "evidence", "conditions", "test", "page", "note"]]


def _many(count: int, verdict: str) -> str:
    return f"{count} {verdict if count == 1 else PLURAL.get(verdict, verdict)}" if count else ""


def _does(count: int) -> str:
    return "does" if count == 1 else "do"


def _strong(verdict: str) -> str:
    return f"**{verdict}**" if verdict == FAILS else verdict


def _told(row) -> str:
    """Evidence, its conditions and the note, in that order; without evidence what a run would have to be."""
    asked = ""
    if not row.evidence and row.setting and row.test in ("figure", "gain", "order"):
        setting = Setting.read(row.setting)
        asked = f"stated for {DATA[setting.data]} {setting.split} at {setting.size}, boxes: {setting.boxes}"
    parts = [row.evidence or asked, f"*{row.conditions}*" if row.conditions else "", row.note]
    return ". ".join(part[0].upper() + part[1:] for part in parts if part) or "–"


def _link(page: str) -> str:
    """A link to the report, by its number and subject; without a link where there is no such notebook."""
    number, _, subject = page.partition("_")
    text = f"{number} {subject.replace('_', ' ')}".strip()
    return f"[{text}]({page}.ipynb)" if (NOTEBOOKS / f"{page}.ipynb").exists() else text or None
