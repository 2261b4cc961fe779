"""The study on real people: the questions of `mdw.experiments.studies`, answered by records that one recipe made."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from mdw.data import coco
from mdw.experiments import studies
from mdw.experiments.studies import OURS
from mdw.models.rules import RULES
from mdw.report import claims, comparison, fig5, speed, statistics, tables
from mdw.report.accuracy import PUBLISHED
from mdw.report.article import TEXT, published
from mdw.report.outcome import CONTRADICTED, HOLDS, NOT_RUN, UNDECIDED
from mdw.report.outputs import ARTICLE, MEASURED, Output, say
from mdw.report.statistics import Noise
from mdw.training import recipes
from mdw.training.runs import Run, network_name

# PCK@0.2 between two labellers of the same photo: the README of the data on 31 photos that occur twice in LSPET
LABELLERS = 76.0
READINGS = {  # the other readings of `studies.VARIANTS` in words, and what of the network as reconstructed each one changes
    studies.FROM_ONE.label: ("with gates that begin at one", "gates that begin at one half"),
    studies.GCM_C_FROM_ONE.label: ("with GCM_C's gates beginning at one and GCM_S's at one half", "both beginning at one half"),
    studies.PARALLEL.label: ("with GCM in parallel, PSA's own form", "one gate behind the other"),
}


def recipe(preset: str) -> str:
    """The preset on LSPET whose records the page shows. Raises MdwError for an unknown preset."""
    return studies.preset_of("11_lspet", preset)


def study(recipe: str, seeds: Sequence[int], runs: str | Path) -> pd.DataFrame:
    """The networks of the study, one row per network and seed, as `with_ablations`. recipe: a preset on LSPET."""
    return _planned(tables.study("lspet", recipe, seeds, runs))


def with_ablations(recipe: str, seeds: Sequence[int], runs: str | Path) -> pd.DataFrame:
    """Every row that answers a question, under one preset, as `tables.study`; a run that tables share is there by each name.

    Of a row's `seeds` those that are finished and those that its questions plan.
    """
    parts = [tables.study(name, recipe, seeds, runs) for name in studies.ASKED]
    return _planned(pd.concat(parts, ignore_index=True).drop_duplicates(["label", "seed"]))


def _planned(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[frame["value"].notna() | frame["seed"].lt(frame["label"].map(studies.planned_seeds))].reset_index(drop=True)


def noise(preset: str, seeds: Sequence[int], runs: str | Path) -> Noise:
    """The seeds' noise of all rows that are trained alike under a preset, whichever of the tables shows them."""
    return statistics.pooled(with_ablations(preset, seeds, runs))


def starts(recipe: str, seeds: Sequence[int], runs: str | Path) -> pd.DataFrame:
    """The simple network and the one with CDC, from mixed and from equal starts, as `tables.study`."""
    return _planned(tables.study("lspet_starts", recipe, seeds, runs))


def confound(preset: str) -> str:
    """How the kernels of the runs that answer under `preset` started, and what that does to the answers: sentences."""
    preset = studies.answered_by(preset)
    rule = studies.recipe(studies.FULL, preset).init
    if rule != "mixed":
        return f"All kernels started by one rule, *{rule}*: {RULES[rule]}."
    return (
        f"The runs of *{preset}* started *mixed*: {RULES[rule]}. CDC's kernels so began eighty to two hundred times as "
        "wide as the static ones in their place, and every question on a module "
        "also asks about its start; only Q0 takes the two apart."
    )


def readings(recipe: str, seeds: Sequence[int], runs: str | Path) -> pd.DataFrame:
    """MDW-HRNet-18 as reconstructed, in other readings, and with CDC alone, as `tables.study`."""
    without = tables.study("table5", recipe, seeds, runs)
    parts = [tables.study("lspet_readings", recipe, seeds, runs), without[without["label"] == "+ CDC"]]
    return pd.concat(parts, ignore_index=True)


def readings_in_words(readings: pd.DataFrame, noise: Noise) -> str:
    """Sentences on what the other readings of `readings` come to, and which were not run; empty without a run of one."""
    known = statistics.intervals(readings, noise).set_index("label")
    against: dict[str, list[str]] = {label: [] for label in READINGS}
    for question, row in zip(studies.VARIANTS, variants(readings, noise).to_dict("records"), strict=True):
        higher, lower = question.contrast
        if pd.notna(row["difference"]):
            other = READINGS[higher][1] if lower == OURS else "no GCM at all"
            told = f"{claims.in_numbers(row, tables.METRICS['pck'])} against {other}: {row['outcome']}"
            against[higher].append(told)
    done = [label for label in READINGS if known.loc[label, "n"]]
    if not done:
        return ""
    said = ["The article does not say at what GCM's gates begin; as reconstructed GCM_C's and GCM_S's begin at one half."]
    for label in done:
        seeds = f"{known.loc[label, 'n']:.0f} seed{'s' if known.loc[label, 'n'] > 1 else ''}"
        reached = f"{OURS} {READINGS[label][0]} reaches {known.loc[label, 'mean']:.1f} ({seeds})"
        said.append(f"{reached}{', ' if against[label] else ''}{tables.and_list(against[label], '')}.")
    waiting = [READINGS[label][0] for label in READINGS if label not in done]
    return " ".join([*said, *([f"{NOT_RUN.capitalize()}: {tables.and_list(waiting)}."] if waiting else [])])


def judge(everything: pd.DataFrame) -> pd.DataFrame:
    """`claims.answer` to all `studies.QUESTIONS`."""
    return claims.answer(everything, studies.QUESTIONS)


def answers(preset: str, runs: str | Path, *ids: str) -> pd.DataFrame:
    """The study's answers to the questions whose ids begin with one of `ids`, for a page under `preset`: see `judge`.

    They come from the preset that `studies.answered_by` names, by every seed that is finished.
    """
    return claims.of(judge(with_ablations(studies.answered_by(preset), studies.SEEDS, runs)), *ids)


def in_words(tested: pd.DataFrame, preset: str) -> str:
    """`claims.in_words` for a page under `preset`."""
    return claims.in_words(tested, studies.answered_by(preset))


def unit(preset: str) -> str:
    """In what `answers` are given: the metric of the preset that answers."""
    return tables.METRICS[recipes.get(studies.PRESETS[studies.answered_by(preset)]).metric]


def variants(readings: pd.DataFrame, noise: Noise) -> pd.DataFrame:
    """`claims.answer` to `studies.VARIANTS`, from `readings`."""
    return claims.answer(readings, studies.VARIANTS, noise)


def answered_by(preset: str, tested: pd.DataFrame) -> str:
    """A sentence on whose runs gave the answers `tested` on a page under `preset`, and one on how noisy these runs are."""
    found = studies.answered_by(preset)
    drawn = f", on real people: the drawn ones of *{preset}* say nothing of networks" if found != preset else ""
    noise = Noise(*tested[["variance", "freedom"]].iloc[0])
    return f"The questions are answered by the runs of *{found}*{drawn}. {comparison.spread(noise)}"


def summary(tested: pd.DataFrame, metric: str) -> Output:
    """The result in four lists: what is contradicted first, then what holds, what is undecided, and what was not run."""
    lines = []
    for outcome in (CONTRADICTED, HOLDS, UNDECIDED, NOT_RUN):
        chosen = tested[tested["outcome"] == outcome].to_dict("records")
        told = [", ".join(filter(None, (f"{row['id']} {row['claim']}", claims.in_numbers(row, metric)))) for row in chosen]
        said = "; ".join(told) or "nothing"
        if outcome == NOT_RUN:
            said = tables.and_list([row["id"] for row in chosen], "nothing")
        lines.append(f"**{outcome.capitalize()}** ({len(chosen)} of {len(tested)}): {said}.")
    return say("\n\n".join(lines))


def beside_published(result: pd.DataFrame) -> pd.DataFrame:
    """`comparison.measured` of the networks beside the AP that was published of them on COCO: another metric, on other data.

    What the article states and what others published stand in column groups of their own, the latter with its source.
    """
    theirs = published("T2", list(result["label"]), primary=True)
    theirs = theirs[theirs["input_size"].eq(fig5.SIZE) & theirs["AP"].notna()].drop_duplicates("model")
    theirs = theirs.rename(columns={"model": "label", "AP": "COCO AP"})[["label", "COCO AP", "source"]]
    stated = theirs["source"].eq(TEXT)
    both = tables.beside(theirs[~stated], result, group=PUBLISHED)
    article = theirs[stated].set_index("label")["COCO AP"].reindex(both["", "network"])
    both.insert(1, (ARTICLE, "COCO AP"), article.astype(object).tolist())
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
    rates of the network have been tried. low, high: over persons, as in `statistics.intervals`. Last, if it is there, the one
    training on LSPET that came before, which was measured on the validation split.
    """
    found = tables.study(studies.SEARCH, studies.SEARCHED, [0], runs)
    rows = [row.changes["lr"] for row in studies.STUDIES["lspet_search"]]
    frame = found.assign(rate=rows, network=[label.rpartition(", rate ")[0] for label in found["label"]])
    over = ["persons low", "persons high"]
    frame[["low", "high"]] = statistics.intervals(found)[over].to_numpy()  # a label is one run here
    best = frame.dropna(subset=["value"]).astype({"value": float}).groupby("network")["value"].transform("max")
    whole = frame.groupby("network")["value"].transform("count") == frame.groupby("network")["value"].transform("size")
    frame["split"] = "held-out"
    frame["chosen"] = ["yes" if whole[i] and best.get(i) == v else None for i, v in frame["value"].items()]
    before = tables.study("quickstart", "lspet_hour_mixed", [0], runs).dropna(subset=["value"])
    if len(before):
        before = before.assign(rate=before["lr"], network=OURS, chosen=None, split="val")
        before[["low", "high"]] = statistics.intervals(before)[over].to_numpy()
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
    names = {row.label: network_name(row.model, row.options) for table in studies.ASKED for row in studies.STUDIES[table]}
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
    """One sentence for the index: the best network of the study, ablations aside, and how the questions were answered."""
    known = statistics.intervals(study).dropna(subset=["mean"]).astype({"mean": float})
    if known.empty:
        return f"The study on real people: {NOT_RUN}."
    best = known.loc[known["mean"].idxmax()]
    first = f"Of {len(known)} networks on LSPET, ablations aside, {best['label']} reaches most, {metric} {best['mean']:.1f}"
    return f"{first}; of {len(tested)} questions: {claims.counts(tested)}."


def unfinished(everything: pd.DataFrame, recipe: str) -> Output:
    """`claims.missing` for this study, whose page needs all of its tables."""
    return claims.missing(everything.drop_duplicates("path"), "lspet", recipe)
