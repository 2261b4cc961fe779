"""The study on real people: every comparison of the article that LSPET allows, on records made by one recipe."""

from pathlib import Path

import pandas as pd

from mdw import recipes, studies
from mdw.data import coco
from mdw.report import claims, speed, statistics, tables
from mdw.report.accuracy import PUBLISHED
from mdw.report.article import NAMES, published
from mdw.report.fig5 import ARTICLES
from mdw.report.fig5 import published as fig5_published
from mdw.report.outputs import MEASURED, NOT_RUN, Output, say, signed
from mdw.runs import Run, network_name

TABLES = ("lspet", "table5", "table6", "table7")
OURS = "MDW-HRNet-18"
# PCK@0.2 between two labellers of the same photo: the README of the data on 31 photos that occur twice in LSPET
LABELLERS = 76.0
FROM_ONE = studies.STUDIES["lspet_readings"][1].label
READINGS = (  # as in `CLAIMS`, but of our reading
    ("gates that begin at one gain over gates that begin at one half", FROM_ONE, OURS),
    ("gates that begin at one gain over none", FROM_ONE, "+ CDC"),
)
CLAIMS = (  # in words, what should be higher, what lower: the article's orderings that these runs can test
    (f"{OURS} is ahead of Lite-HRNet-18", OURS, "Lite-HRNet-18"),
    (f"{OURS} is ahead of Dite-HRNet-18", OURS, "Dite-HRNet-18"),
    (f"{OURS} is ahead of MobileNetV2", OURS, "MobileNetV2"),
    (f"{OURS} is ahead of a wider static network (our control)", OURS, studies.CONTROL.label),
    ("CDC by itself gains over the simple network", "+ CDC", "Simple"),
    ("GCM by itself gains over the simple network", "+ GCM", "Simple"),
    ("both together gain over CDC alone", studies.FULL.label, "+ CDC"),
    ("both together gain over GCM alone", studies.FULL.label, "+ GCM"),
    *((f"K = 3 is ahead of K = {k}", "K = 3", f"K = {k}") for k in (1, 5, 7, 9)),
    *((f"CDC is ahead of {other}", "CDC", other) for other in ("CondConv", "Dynamic convolution", "ODConv")),
    ("CDC is ahead of a static convolution", "CDC", "without CDC"),
)


def recipe(preset: str) -> str:
    """The preset on LSPET whose records the page shows. Raises MdwError for an unknown preset."""
    return studies.preset_of("11_lspet", preset)


def study(recipe: str, seeds: list[int], runs: str | Path) -> pd.DataFrame:
    """The networks of the study, one row per network and seed, as `tables.study`. recipe: a preset on LSPET."""
    return tables.study("lspet", recipe, seeds, runs)


def with_ablations(recipe: str, seeds: list[int], runs: str | Path) -> pd.DataFrame:
    """The networks and the rows of Tables 5 to 7 under one recipe; a run that tables share is there under each name."""
    parts = [tables.study(name, recipe, seeds, runs) for name in TABLES]
    return pd.concat(parts, ignore_index=True).drop_duplicates(["label", "seed"], ignore_index=True)


def readings(recipe: str, seeds: list[int], runs: str | Path) -> pd.DataFrame:
    """MDW-HRNet-18 as reconstructed, in another reading, and with CDC alone, as `tables.study`."""
    without = tables.study("table5", recipe, seeds, runs)
    parts = [tables.study("lspet_readings", recipe, seeds, runs), without[without["label"] == "+ CDC"]]
    return pd.concat(parts, ignore_index=True)


def readings_in_words(readings: pd.DataFrame) -> str:
    """A sentence on what the other reading comes to, from `readings`; empty without a run of it."""
    known = statistics.intervals(readings).set_index("label").loc[FROM_ONE]
    if not known["n"]:
        return ""
    apart = claims.judge(readings, READINGS).to_dict("records")
    against = [
        f"{signed('{:+.1f}', row['difference'])} against {other} ({row['outcome']})"
        for row, other in zip(apart, ("gates that begin at one half", "no GCM at all"), strict=True)
        if pd.notna(row["difference"])
    ]
    seeds = f"{known['n']} seed{'s' if known['n'] > 1 else ''}"
    return (
        f"The article does not say at what GCM's gates begin: here at one half; {OURS} with gates that begin at one reaches "
        f"{known['mean']:.1f} ({seeds}){', ' if against else ''}{tables.and_list(against) if against else ''}."
    )


def judge(everything: pd.DataFrame) -> pd.DataFrame:
    """`claims.judge` of `CLAIMS`."""
    return claims.judge(everything, CLAIMS)


def summary(tested: pd.DataFrame, metric: str) -> Output:
    """The result in three lists: what did not reproduce first, then what did, then what cannot be said.

    Of the last, what was not run is only counted.
    """
    groups = {
        "Did not reproduce": tested["outcome"].isin(["contradicted", "within noise"]),
        "Holds": tested["outcome"].eq("holds"),
        "Cannot be said": tested["outcome"].isin(["noise unknown", NOT_RUN]),
    }
    lines = []
    for title, chosen in groups.items():
        said, waiting = tested[chosen & tested["outcome"].ne(NOT_RUN)], int((chosen & tested["outcome"].eq(NOT_RUN)).sum())
        told = [_claim(row, metric) for row in said.to_dict("records")]
        told += [f"{waiting} whose runs have not been made, in the table of orderings below"] if waiting else []
        lines.append(f"**{title}** ({int(chosen.sum())} of {len(tested)}): {'; '.join(told) or 'nothing'}.")
    return say("\n\n".join(lines))


def _claim(row: dict, metric: str) -> str:
    why = {"contradicted": "the opposite", "noise unknown": "one seed"}.get(row["outcome"], row["outcome"])
    number = "" if pd.isna(row["difference"]) else f", {signed('{:+.1f}', row['difference'])} {metric}"
    return f"{row['claim']}{number}" + ("" if row["outcome"] == "holds" else f" ({why})")


def beside_article(result: pd.DataFrame) -> pd.DataFrame:
    """`comparison.measured` of the networks beside AP on COCO, another metric on other data: the article's, then others'."""
    theirs = fig5_published().set_index("label")[ARTICLES]
    static = published("T2", [studies.CONTROL.label], primary=True).dropna(subset=["AP"]).set_index("model")["AP"]
    known = theirs.to_dict() | static.to_dict()
    article = {label: ap for label, ap in known.items() if label in NAMES.values()}
    labels = list(result["label"])
    both = tables.beside(pd.DataFrame({"label": labels, "COCO AP": [article.get(label) for label in labels]}), result)
    both.insert(2, (PUBLISHED, "COCO AP"), [None if label in article else known.get(label) for label in labels])
    return both


def ceiling(frame: pd.DataFrame) -> str:
    """A sentence on what bounds the figures from above, and `tables.floor`'s on what does from below."""
    best = frame["value"].dropna().astype(float).max()
    share = "" if pd.isna(best) else f" The best run here reaches {best:.1f}, {100 * best / LABELLERS:.0f} % of that."
    return (
        f"Two people who label the same photo agree at PCK@0.2 of about {LABELLERS:.0f} (31 photos that LSPET holds twice): "
        f"no network can be told from a better one far beyond that.{share} {tables.floor(frame)}"
    )


def length(frame: pd.DataFrame) -> str:
    """A sentence on how short these trainings are beside the article's; empty without a finished run."""
    seen = {Run(Path(path)).result["samples"] for path in frame.dropna(subset=["value"])["path"]}
    if not seen:
        return ""
    theirs, persons = recipes.paper().epochs, coco.PUBLIC_COUNTS["train"]["persons"]
    said = " to ".join(f"{value:,}" for value in sorted({min(seen), max(seen)}))
    return (
        f"Each training here sees {said} samples; the article's, {theirs} epochs of COCO's {persons:,} persons, sees "
        f"{theirs * persons / max(seen):,.0f} times as many. What a module gains only late, these runs cannot show."
    )


def marks(frame: pd.DataFrame) -> list[tuple[float, str]]:
    """The floor, where the runs measured it, and the ceiling, for `charts.networks`."""
    found = {Run(Path(path)).result.get("mean_pose_pck") for path in frame.dropna(subset=["value"])["path"]} - {None}
    return [*((value, "mean pose") for value in sorted(found)[:1]), (LABELLERS, "two labellers")]


def search(runs: str | Path) -> pd.DataFrame:
    """Every learning rate that was tried -> network, learning rate, epochs, measured on, status, value, low, high, best,
    commit.

    Two epochs of 8,000 training persons, measured on the other 500; the validation split is not looked at. best: where all
    rates of the network have been tried. low, high: as in `statistics.intervals`, over persons. Last, if it is there, the one
    training on LSPET that came before, which was measured on the validation split.
    """
    found = tables.study("lspet_search", "lspet_search", [0], runs)
    rows = [row.changes["lr"] for row in studies.STUDIES["lspet_search"]]
    frame = found.assign(rate=rows, network=[label.rpartition(", rate ")[0] for label in found["label"]])
    frame[["low", "high"]] = statistics.intervals(found)[["low", "high"]].to_numpy()  # a label is one run here
    best = frame.dropna(subset=["value"]).astype({"value": float}).groupby("network")["value"].transform("max")
    whole = frame.groupby("network")["value"].transform("count") == frame.groupby("network")["value"].transform("size")
    frame["split"] = "held-out"
    frame["chosen"] = ["yes" if whole[i] and best.get(i) == v else None for i, v in frame["value"].items()]
    before = tables.study("quickstart", "lspet_hour", [0], runs).dropna(subset=["value"])
    if len(before):
        before = before.assign(rate=before["lr"], network=OURS, chosen=None, split="val")
        before[["low", "high"]] = statistics.intervals(before)[["low", "high"]].to_numpy()
        frame = pd.concat([frame, before], ignore_index=True)
    shown = ["network", "rate", "epochs", "split", "status", "value", "low", "high", "chosen", "commit"]
    return frame[shown].rename(columns={"rate": "learning rate", "chosen": "best", "split": "measured on"})


def rates(search: pd.DataFrame) -> str:
    """A sentence on the rates that the study uses and on whose `search` has not come to its end."""
    names = {row.model: row.label for row in studies.STUDIES["lspet"]}
    used = "; ".join(f"{label} {studies.BEST[model]:g}" for model, label in names.items())
    open_ = [name for name in dict.fromkeys(search["network"]) if not search.loc[search["network"] == name, "best"].any()]
    last = search[search["best"].notna() & search["learning rate"].eq(max(studies.RATES))]["network"]
    beyond = f" The best of {tables.and_list(list(last))} is the largest that was tried; a larger one may be better."
    edge = beyond if len(last) else ""
    left = f" Not every rate of {tables.and_list(open_)} has been tried, so theirs may change." if open_ else ""
    return f"Rates of the study: {used}; the rows of Tables 5 to 7 take {OURS}'s.{edge}{left}"


def latency(everything: pd.DataFrame, runs: str | Path) -> pd.DataFrame:
    """Latency on CPUs by the records of runs/bench beside accuracy, for `outputs.show`; empty without such records.

    A row for each input that a network was measured at, whatever it was trained at; ablations after the others.
    """
    records, known = _on_cpu(speed.records(runs, ablations=True)), statistics.intervals(everything).set_index("label")
    names = {row.label: network_name(row.model, row.options) for table in TABLES for row in studies.STUDIES[table]}
    rows, once = [], everything.drop_duplicates("path").drop_duplicates("label")
    for label, size in once[["label", "input"]].itertuples(index=False):
        found = records[records["model"] == names[label]] if len(records) else records
        for measured_at, cell in found.groupby("size", sort=False) if len(found) else ():
            modes = cell[cell["batch"] == cell["batch"].max()].set_index("mode")["latency_ms"]
            row = {("", "network"): label, ("", "trained at"): size, ("latency, ms", "at"): measured_at}
            row |= {("latency, ms", mode): modes.get(mode) for mode in ("reference", "tuned")}
            row |= {(MEASURED, name): known.loc[label, name] for name in ("mean", "low", "high")}
            rows.append(row | {(MEASURED, "hardware of the latency"): cell["hardware"].iloc[0]})
    return pd.DataFrame(rows)


def _on_cpu(records: pd.DataFrame) -> pd.DataFrame:
    return records[records["device"].eq("cpu")] if len(records) else records


def latency_points(study: pd.DataFrame, runs: str | Path, metric: str) -> pd.DataFrame:
    """For `figures.complexity_accuracy`: plain PyTorch's latency at the input at which most networks were measured.

    -> label, origin, the latency, `metric`; a row per finished run, none where fewer than two networks can be compared.
    """
    records, done = _on_cpu(speed.records(runs)), study.dropna(subset=["value"])
    found = records[(records["mode"] == "reference") & records["model"].isin(done["model"])] if len(records) else records
    if found.empty or found.groupby("size")["model"].nunique().max() < 2:
        return pd.DataFrame()
    size = found.groupby("size")["model"].nunique().idxmax()
    name = f"latency of one picture at {size}, reference, ms"
    known = found[found["size"] == size].drop_duplicates("model").set_index("model")["latency_ms"]
    rows = done[done["model"].isin(known.index)]
    values = {name: rows["model"].map(known).tolist(), metric: rows["value"].astype(float).tolist()}
    return pd.DataFrame({"label": rows["label"].tolist(), "origin": "measured"} | values)


def headline(tested: pd.DataFrame, study: pd.DataFrame, metric: str) -> str:
    """One sentence for the index: the best network of the study, ablations aside, and how the claims came out."""
    known = statistics.intervals(study).dropna(subset=["mean"]).astype({"mean": float})
    if known.empty:
        return f"The study on real people: {NOT_RUN}."
    best = known.loc[known["mean"].idxmax()]
    counts = tested["outcome"].value_counts()
    outcomes = [
        f"{counts[name]} {name}"
        for name in ("contradicted", "within noise", "holds", "noise unknown", NOT_RUN)
        if name in counts
    ]
    said = tables.and_list(outcomes)
    first = f"Of {len(known)} networks on LSPET, ablations aside, {best['label']} reaches most, {metric} {best['mean']:.1f}"
    return f"{first}; of {len(tested)} orderings of the article: {said}."


def unfinished(everything: pd.DataFrame, recipe: str) -> Output:
    """`claims.missing` for this study, whose command names all of its tables."""
    return claims.missing(everything, "lspet table5 table6 table7", recipe)
