"""What the article says, put to the test: a claim is an ordering of two rows of a study, and it can fail to hold."""

from collections.abc import Sequence

import pandas as pd

from mdw.report.outputs import NOT_RUN, Output, say, signed
from mdw.report.tables import and_list, differences

OUTCOMES = {
    "higher": "holds",
    "lower": "contradicted",
    "within noise": "within noise",
    "noise unknown": "noise unknown",
    NOT_RUN: NOT_RUN,
}
SHOWN, PERSONS = ["difference", "low", "high"], ["persons low", "persons high", "over persons"]


def judge(frame: pd.DataFrame, claims: Sequence[tuple[str, str, str]]) -> pd.DataFrame:
    """Each (claim, label that should be higher, label that should be lower) -> claim, difference, low, high, outcome.

    frame: as `tables.study` gives it. `statistics.differences` decides: "holds", "contradicted", "within noise", "noise
    unknown" (a single seed) or "not run". Its persons low, persons high and over persons follow.
    """
    rows = []
    for claim, higher, lower in claims:
        found = differences(frame[frame["label"].isin([higher, lower])], lower).iloc[0]
        outcome = {"outcome": OUTCOMES[found["verdict"]]}
        rows.append({"claim": claim} | found[SHOWN].to_dict() | outcome | found[PERSONS].to_dict())
    return pd.DataFrame(rows)


def found(tested: pd.DataFrame, unit: str) -> Output:
    """A paragraph that says which claims hold, with their differences."""
    holding = tested[tested["outcome"] == "holds"]
    if holding.empty:
        return say(f"None of the {len(tested)} claims is borne out by these runs.")
    lines = [
        f"- {row.claim}: {_plus(row.difference)} {unit} (95 % interval {_plus(row.low)} to {_plus(row.high)})."
        for row in holding.itertuples()
    ]
    return say(f"{len(holding)} of {len(tested)} claims hold beyond the noise:\n\n" + "\n".join(lines))


def not_reproduced(tested: pd.DataFrame, unit: str) -> Output:
    """A paragraph for every claim that does not hold, saying why it is not called reproduced."""
    lines = []
    for row in tested[tested["outcome"] != "holds"].rename(columns=lambda name: name.replace(" ", "_")).itertuples():
        numbers = "" if pd.isna(row.difference) else f" The difference is {_plus(row.difference)} {unit}"
        interval = "" if pd.isna(row.low) else f", 95 % interval {_plus(row.low)} to {_plus(row.high)}"
        why = {
            "contradicted": "the opposite was measured.",
            "within noise": "the difference is within the noise.",
            "noise unknown": f"noise unknown over seeds.{_over_persons(row)}",
            NOT_RUN: "its runs have not been made.",
        }[row.outcome]
        lines.append(f"- {row.claim}: {why}{numbers}{interval}{'.' if numbers else ''}")
    return say("\n".join(lines) if lines else "Every claim that these runs can test came out as the article says.")


def _over_persons(row) -> str:
    """What the persons say where the seeds do not."""
    if pd.isna(row.persons_low):
        return ""
    low, high = _plus(row.persons_low), _plus(row.persons_high)
    return f" For these trainings it is {row.over_persons} over persons ({low} to {high})."


def in_words(tested: pd.DataFrame, preset: str) -> str:
    """One sentence for the index: how many claims came out how."""
    counts = tested["outcome"].value_counts()
    outcomes = [f"{counts[outcome]} {outcome}" for outcome in dict.fromkeys(OUTCOMES.values()) if outcome in counts]
    outcomes = [text.replace("holds", "hold") if not text.startswith("1 ") else text for text in outcomes]
    return f"Of {len(tested)} claims tested on the preset *{preset}*: {and_list(outcomes)}."


def missing(frame: pd.DataFrame, report: str, preset: str) -> Output:
    """A sentence on the runs of a study that are not finished, with the command that makes them and the report again."""
    if frame.empty:
        return say(f"The preset *{preset}* has no run for this.")
    unfinished = frame["value"].isna()
    left_out, left = frame[unfinished & frame["status"].eq("left out")], frame[unfinished & frame["status"].ne("left out")]
    seeds = ",".join(str(seed) for seed in dict.fromkeys(frame["seed"]))
    command = f"mdw reproduce {report} --preset {preset} --seeds {seeds}"
    lines = []
    if len(left):
        lines.append(f"{len(left)} of {len(frame)} runs are not finished, of {_labels(left)}; `{command}` makes them.")
    if len(left_out):
        lines.append(f"The preset *{preset}* leaves {_labels(left_out)} out; `{command} --all-rows` makes them.")
    return say(" ".join(lines) or f"All the runs asked for are finished ({len(frame)}).")


def _labels(frame: pd.DataFrame) -> str:
    return and_list(list(dict.fromkeys(frame["label"])))


def _plus(value: float) -> str:
    return signed("{:+.1f}", value)
