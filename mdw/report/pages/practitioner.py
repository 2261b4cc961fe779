"""Networks that can be had ready beside those that come with mdw, by what `benchmarks/practitioner.py` has recorded."""

import hashlib
from pathlib import Path

import pandas as pd

from mdw.models.weights import list_shipped
from mdw.report import runs, words
from mdw.report.names import METRICS
from mdw.report.outputs import MEASURED, Output, say, show

COMMAND = "python benchmarks/practitioner.py LSPET"
UNIT = METRICS["pck"]


def records(folder: str | Path) -> pd.DataFrame:
    """One row per network and way to find the person, of the record of runs/practitioner/ that was begun last.

    Columns: `runs.FROM_ELSEWHERE`, hardware and shared, which are those of the latency, and ours: it comes with mdw. Empty
    without a record; a damaged one is left out.
    """
    found = runs.practitioner(folder)
    if not found:
        return pd.DataFrame(columns=[*runs.FROM_ELSEWHERE, "hardware", "shared", "ours"])
    last = found[-1]
    latency = last["latency"]
    frame = pd.DataFrame(last["networks"]).assign(hardware=latency["environment"].get("hardware"), shared=latency["shared"])
    return frame.assign(ours=frame["source"].str.contains(".safetensors", regex=False))


def shipped() -> set[str]:
    """SHA-256 of the weights that come with mdw."""
    return {hashlib.sha256(path.read_bytes()).hexdigest() for path in list_shipped().values()}


def best(frame: pd.DataFrame) -> pd.DataFrame:
    """The way of each network by which it finds most; the best network first."""
    return frame.sort_values("pck", ascending=False, kind="stable").drop_duplicates("network").reset_index(drop=True)


def in_words(frame: pd.DataFrame) -> str:
    """What `records` come to, and whether mdw ships other weights by now; a sentence on what to do without records."""
    ranked = best(frame).to_dict("records")
    alone = frame[frame["given"].eq("nothing")].sort_values("pck").to_dict("records")[-1:]
    measured = {source.rpartition(" ")[2] for source in frame.loc[frame["ours"].eq(True), "source"]}
    return words.text(
        "study.practitioner",
        metric=UNIT,
        theirs=[row for row in ranked if not row["ours"]],
        ours=[row for row in ranked if row["ours"]],
        missed=[row["network"] for row in ranked if row["missed"]],
        alone=alone,
        stale=measured != shipped(),
        command=COMMAND,
    )


def table(folder: str | Path) -> Output | None:
    """Each network at its best, with latency beside it; all that was tried is in the table's file."""
    frame = records(folder)
    if frame.empty:
        return say(in_words(frame))
    ranked = best(frame)
    columns = {"network": ("", "network"), "trained_on": ("", "trained on"), "boxes": ("", "looks at")}
    columns |= {
        "weights_mb": ("", "weights, MB"),
        "pck": (MEASURED, UNIT),
        "low": (MEASURED, "low"),
        "high": (MEASURED, "high"),
    }
    columns |= {"persons": (MEASURED, "persons"), "missed": (MEASURED, "not detected"), "latency_ms": (MEASURED, "latency, ms")}
    shown = ranked[list(columns)].set_axis(pd.MultiIndex.from_tuples(columns.values()), axis=1)
    formats = dict.fromkeys((UNIT, "low", "high", "latency, ms", "weights, MB"), "{:.1f}")
    caption = words.text("study.practitioner_caption", **ranked.iloc[0][["hardware", "shared"]])
    return show(shown, caption, name="practitioner", note=in_words(frame), formats=formats, data=frame)
