"""What was judged, for the reader: tables, lists and the sentences at the head of a page."""

import pandas as pd

from mdw.report import words
from mdw.report.claims.judge import RECONSTRUCTION
from mdw.report.claims.outcome import CONTRADICTED, HOLDS, NOT_RUN, UNDECIDED, VERDICTS
from mdw.report.names import and_list, signed
from mdw.report.outputs import Output, facts, say
from mdw.report.site.notebooks import NOTEBOOKS

STATED, ELSEWHERE = "as stated", "under other conditions"
SIGNED = dict.fromkeys(("difference", "effect", "low", "high"), "{:+.1f}")
ANSWERS = SIGNED | {"p": "{:.2g}", "detectable": "{:.1f}"}


# The questions of a study, as `judge.answer` gives them.


def of(tested: pd.DataFrame, *ids: str) -> pd.DataFrame:
    """The answers whose ids begin with one of `ids` (all without), in order. What they were adjusted for stays."""
    return tested[tested["id"].str.startswith(ids or "")].reset_index(drop=True)


def answers(tested: pd.DataFrame) -> pd.DataFrame:
    """The answers for `outputs.show`: what the seeds say, then what persons say of these very trainings."""
    seeds, alone = "over seeds, adjusted", "these trainings over persons"
    groups = {"id": ("", "id"), "claim": ("", "question"), "outcome": ("", "verdict"), "difference": ("", "effect")}
    groups |= {"low": (seeds, "low"), "high": (seeds, "high"), "p": (seeds, "p"), "detectable": ("", "detectable")}
    groups |= {"persons low": (alone, "low"), "persons high": (alone, "high")}
    return tested[list(groups)].set_axis(list(groups.values()), axis="columns")


def in_numbers(row: dict, unit: str) -> str:
    """The figures of an answer: effect, adjusted interval, margin, and what the runs could have detected; "" if not run."""
    if pd.isna(row["difference"]):
        return ""
    effect = f"{_plus(row['difference'])} {unit}"
    if pd.isna(row["low"]):
        return f"{effect}, noise over seeds unknown"
    margin = f", margin {-row['bound']:g} {unit}" if row["relation"] == ">=" else ""
    interval = f"adjusted interval {_plus(row['low'])} to {_plus(row['high'])}"
    return f"{effect} ({interval}{margin}; detectable {signed('{:.1f}', row['detectable'])})"


def _plus(value: float) -> str:
    return signed("{:+.1f}", value)


def by_outcome(tested: pd.DataFrame, unit: str) -> dict[str, list[dict]]:
    """The answers by verdict, each row with its figures in words ("effect") and the plain ones ("short")."""
    found: dict[str, list[dict]] = {verdict: [] for verdict in VERDICTS}
    for row in tested.to_dict("records"):
        short = "" if pd.isna(row["difference"]) else _plus(row["difference"])
        if pd.notna(row["low"]):
            short += f", {_plus(row['low'])} to {_plus(row['high'])}"
        found[row["outcome"]].append(row | {"effect": in_numbers(row, unit), "short": short})
    return found


def found(tested: pd.DataFrame, unit: str) -> Output | None:
    """Paragraphs on what holds, what is undecided and what has not been run; what is contradicted, `not_reproduced` says."""
    rows = by_outcome(tested, unit)
    told = {"holds": rows[HOLDS], "undecided": rows[UNDECIDED], "waiting": rows[NOT_RUN]}
    return say(words.text("claims.found", **told, all=len(tested)))


def not_reproduced(tested: pd.DataFrame, unit: str) -> Output | None:
    """A paragraph on every claim that is contradicted; what is undecided or not run did not fail and is only counted."""
    rows = by_outcome(tested, unit)
    told = {"failed": rows[CONTRADICTED], "undecided": rows[UNDECIDED], "waiting": rows[NOT_RUN]}
    return say(words.text("claims.not_reproduced", **told, all=len(tested)))


def finding(tested: pd.DataFrame, unit: str, data: str) -> str:
    """A sentence about the networks for the head of a page: what was found on `data`, what failed first."""
    rows = {
        verdict: [f"{row['claim']} ({row['short']})" for row in found] for verdict, found in by_outcome(tested, unit).items()
    }
    told = [*(f"it is contradicted that {one}" for one in rows[CONTRADICTED]), *rows[HOLDS]]
    counts = {"waiting": len(rows[NOT_RUN]), "all": len(tested)}
    return words.text("claims.finding", data=data, unit=unit, told=told, undecided=rows[UNDECIDED], **counts)


def summary(tested: pd.DataFrame, unit: str) -> Output | None:
    """The result in four lists: what is contradicted first, then what holds, what is undecided, and what was not run."""
    rows = by_outcome(tested, unit)
    lists = [(verdict, rows[verdict], verdict == NOT_RUN) for verdict in (CONTRADICTED, HOLDS, UNDECIDED, NOT_RUN)]
    return say(words.text("claims.summary", lists=lists, all=len(tested)))


# The claims of the article, as `judge.judge` gives them.


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
    frame.insert(0, "verdict", list(VERDICTS))
    return frame[frame[list(columns)].any(axis=1)].reset_index(drop=True)


def usual(judged: pd.DataFrame) -> str:
    """A sentence on the conditions of most claims that were tested under others, which `claims` leaves out; may be empty."""
    found = judged.loc[judged["conditions"].ne("") & judged["conditions"].ne(RECONSTRUCTION), "conditions"].value_counts()
    return f" Where no other conditions are named they are: {found.index[0]}." if len(found) else ""


def claims(judged: pd.DataFrame, page: bool = True) -> pd.DataFrame:
    """The claims in the article's order, for `outputs.show`. page: say which page tests each."""
    common = usual(judged)
    chosen = judged[judged["part"] == "claim"]
    chosen = chosen.assign(conditions=["" if text and f": {text}." in common else text for text in chosen["conditions"]])
    frame = {
        ("", "claim"): [_sentence(text) for text in chosen["claim"]],
        ("verdict", STATED): [_strong(verdict) for verdict in chosen["verdict"]],
        ("verdict", ELSEWHERE): [_strong(verdict) or None for verdict in chosen["elsewhere"]],
        ("", "what tells it"): [_told(row) for row in chosen.itertuples()],
    }
    return pd.DataFrame(frame | ({("", "where, report"): [_where(row) for row in chosen.itertuples()]} if page else {}))


def sums(judged: pd.DataFrame, part: str) -> pd.DataFrame:
    """The entries of a part, "consistency", "observation", "hypothesis" or "goal", for `outputs.show`.

    An observation is ours and no statement of the article, so it has no verdict; goals stand on the page that says where.
    """
    left_out = {"observation": "verdict", "goal": "where"}.get(part)
    chosen = judged[judged["part"] == part]
    columns = {
        "statement": [_sentence(text) for text in chosen["claim"]],
        "verdict": [_strong(verdict) for verdict in chosen["verdict"]],
        "what tells it": [_told(row) for row in chosen.itertuples()],
        "where": chosen["where"],
    }
    return pd.DataFrame({name: values for name, values in columns.items() if name != left_out})


def failures(judged: pd.DataFrame) -> Output | None:
    """The claims that are contradicted, as stated and then under other conditions; what is undecided is only counted."""
    claims = judged[judged["part"] == "claim"].assign(claim=lambda frame: frame["claim"].map(_sentence))
    failed, elsewhere = (claims[claims[column] == CONTRADICTED].to_dict("records") for column in ("verdict", "elsewhere"))
    undecided = [int((claims[column] == UNDECIDED).sum()) for column in ("verdict", "elsewhere")]
    return say(words.text("claims.failed", claims=len(claims), failed=failed, elsewhere=elsewhere, undecided=undecided))


def inconsistent(judged: pd.DataFrame) -> Output | None:
    """How many of the article's statements agree with each other and with the figures it compares itself with."""
    chosen = judged[judged["part"] == "consistency"]
    failed = int((chosen["verdict"] == CONTRADICTED).sum())
    return say(f"{len(chosen) - failed} of {len(chosen)} such pairs of statements agree, {failed} do not.")


def missed(judged: pd.DataFrame) -> Output | None:
    """The goals of speed that were missed, each with its figure, and how many were not measured."""
    goals = judged[judged["part"] == "goal"]
    rows = goals[goals["verdict"] == CONTRADICTED]
    failed = [f"{row.claim} ({row.evidence})" for row in rows.itertuples()]
    return say(f"Missed: {and_list(failed)}. {NOT_RUN.capitalize()}: {(goals['verdict'] == NOT_RUN).sum()} of {len(goals)}.")


def goals_in_short(judged: pd.DataFrame) -> str:
    """The sentence on the goals of speed at the head of their page."""
    goals = judged[judged["part"] == "goal"]
    done = goals[goals["verdict"] != NOT_RUN]
    if done.empty:
        return f"Training and inference speed: {NOT_RUN}."
    first = done.iloc[0]
    reached = (done["verdict"] == HOLDS).sum()
    return f"{reached} of {len(done)} measured goals of speed are reached. {first['claim']}: {first['evidence']}."


def hypothesis(judged: pd.DataFrame) -> Output | None:
    """What the published figures say of the source of the boxes, and what only a run can."""
    chosen = judged[judged["part"] == "hypothesis"]
    told, run = chosen[chosen["test"] == "sum"], chosen[chosen["test"] == "figure"].iloc[0]
    held = int((told["verdict"] == HOLDS).sum())
    return say(words.text("claims.hypothesis", held=held, all=len(told), run=run["verdict"]))


def headline(judged: pd.DataFrame) -> str:
    """The sentences at the head of the page on all claims."""
    claims = judged[judged["part"] == "claim"]
    holding = claims[claims["verdict"] == HOLDS]
    on_cost = int(holding["test"].isin(["ratio", "cost"]).sum())
    told = {"verdicts": list(claims["verdict"]), "elsewhere": [one for one in claims["elsewhere"] if one]}
    return words.text("claims.headline", **told, on_cost=on_cost, others=len(holding) - on_cost)


def download(judged: pd.DataFrame) -> pd.DataFrame:
    """Every entry with what was found, for the file beside the table."""
    return judged[["id", "part", "where", "claim", "verdict", "elsewhere", "evidence", "conditions", "test", "page", "note"]]


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
