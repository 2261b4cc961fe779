"""How sure a measured difference is: over the persons it was measured on, and over the seeds of the trainings.

*Persons.* Another validation set would give other figures. persons.csv says what a network got right of each person; whole
images are drawn with replacement, since persons of one image are not independent, and PCK is computed anew of each draw:
the percentile bootstrap (Efron & Tibshirani 1993, ch. 13) by `scipy.stats.bootstrap`. Two networks are compared on the same
draws: the paired bootstrap (Koehn 2004; Berg-Kirkpatrick et al. 2012), which leaves out how hard the persons are for both.
Several seeds of a network are averaged person by person first.

*Seeds.* Another training would give another network. Two or three seeds are too few to be drawn from: the bootstrap of two
covers the truth half the time. Their variance is taken instead, with Student's t for how little is known of it. Both kinds of
noise are added, as the two factors of a crossed design, persons and seeds, ask for (Sellam et al. 2022, "The MultiBERTs",
who draw both): variance = bootstrap's over persons + s_a^2 / n_a + s_b^2 / n_b, degrees of freedom by Satterthwaite. Without a
per-person record that is Welch's interval. What persons and seeds do together is counted twice, which errs on the wide side.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from mdw import persons
from mdw.errors import MdwError
from mdw.report.outputs import NOT_RUN
from mdw.runs import Run

RESAMPLES = 4999
WITHIN, UNKNOWN, NO_RECORD = "within noise", "noise unknown", "no per-person record"
COLUMNS = ["label", "difference", "low", "high", "verdict", "persons low", "persons high", "over persons"]


def over_persons(
    value: np.ndarray, weight: np.ndarray, images: np.ndarray, confidence: float = 0.95
) -> tuple[float, float, float, float]:
    """100 * sum(value) / sum(weight) -> figure, low, high, standard error, by resampling images.

    value, weight, images: (n,), one entry a person: what it gains (right joints, or a difference of two networks'), how many
    joints count, and its image's id. NaN in place of low, high and error below two images. The same data give the same answer.
    """
    _, image = np.unique(images, return_inverse=True)
    gained, counted = np.bincount(image, value), np.bincount(image, weight)
    figure = float(100 * gained.sum() / counted.sum())
    if len(counted) < 2:
        return figure, np.nan, np.nan, np.nan

    def statistic(gained: np.ndarray, counted: np.ndarray, axis: int) -> np.ndarray:
        return 100 * gained.sum(axis=axis) / counted.sum(axis=axis)

    drawn = stats.bootstrap(
        (gained, counted),
        statistic,
        paired=True,
        vectorized=True,
        method="percentile",
        n_resamples=RESAMPLES,
        batch=500,
        confidence_level=confidence,
        rng=np.random.default_rng(0),
    )
    low, high = drawn.confidence_interval
    return figure, float(low), float(high), float(drawn.standard_error)


def with_seeds(
    centre: float, error: float, images: int, seeds: Sequence[np.ndarray], confidence: float = 0.95
) -> tuple[float, float]:
    """An interval for `centre` that holds the noise of persons and of seeds -> low, high; NaN below two seeds anywhere.

    error: the standard error over persons, NaN where there is no record, of so many `images`. seeds: the values of each
    network's seeds.
    """
    if min(map(len, seeds)) < 2:
        return np.nan, np.nan
    parts = [(error**2, images - 1)] if np.isfinite(error) else []
    parts += [(values.var(ddof=1) / len(values), len(values) - 1) for values in seeds]
    variance = sum(part for part, _ in parts)
    if variance == 0:  # identical seeds, nobody to differ: no noise to compare with
        return centre, centre
    freedom = variance**2 / sum(part**2 / free for part, free in parts)
    half = float(stats.t.ppf((1 + confidence) / 2, freedom) * np.sqrt(variance))
    return centre - half, centre + half


def intervals(frame: pd.DataFrame, confidence: float = 0.95) -> pd.DataFrame:
    """A frame of runs -> label, n (finished runs), mean, std (n - 1), low, high, noise; in percent, a row per label.

    low, high hold the noise that is known, and noise says which: "persons and seeds", "persons", "seeds" or `UNKNOWN`.
    """
    rows = []
    for label, runs in frame.groupby("label", sort=False):
        values, found = _values(runs), _mean(runs, "right")
        row = {"label": label, "n": len(values), "noise": NOT_RUN}
        if len(values):
            _, low, high, error, images = _over(found, confidence)
            row |= {"mean": values.mean(), "noise": "persons" if np.isfinite(error) else UNKNOWN, "low": low, "high": high}
        if len(values) > 1:
            row["std"] = values.std(ddof=1)
            row["low"], row["high"] = with_seeds(row["mean"], error, images, [values], confidence)
            row["noise"] = "persons and seeds" if np.isfinite(error) else "seeds"
        rows.append(row)
    return pd.DataFrame(rows, columns=["label", "n", "mean", "std", "low", "high", "noise"])


def differences(frame: pd.DataFrame, baseline: str, confidence: float = 0.95) -> pd.DataFrame:
    """Each label's mean minus the baseline's, in percent -> `COLUMNS`.

    low, high: over persons, where there is a record, and seeds; absent with fewer than two seeds on either side. persons low,
    persons high: over persons alone, for these very trainings; absent without a record and for AP, which is no mean over
    persons (see `similarity`). over persons: "higher", "lower", `WITHIN` or `NO_RECORD`. verdict: by low and high; with one
    seed `WITHIN` where the persons' noise alone is enough for that, else `UNKNOWN`; `NOT_RUN` where one has no run.
    Raises MdwError for an unknown baseline and for records of different persons.
    """
    groups = dict(iter(frame.groupby("label", sort=False)))
    if baseline not in groups:
        raise MdwError(f"there is no row {baseline!r} to compare with; the rows are {', '.join(groups)}")
    others = {label: runs for label, runs in groups.items() if label != baseline}
    rows = [{"label": label} | _difference(runs, groups[baseline], confidence) for label, runs in others.items()]
    return pd.DataFrame(rows, columns=COLUMNS)


def _difference(ours: pd.DataFrame, theirs: pd.DataFrame, confidence: float) -> dict:
    a, b = _values(ours), _values(theirs)
    if not len(a) or not len(b):
        return {"verdict": NOT_RUN, "over persons": NOT_RUN}
    gap = float(a.mean() - b.mean())
    _, persons_low, persons_high, error, images = _over(_minus(_mean(ours, "right"), _mean(theirs, "right")), confidence)
    low, high = with_seeds(gap, error, images, [a, b], confidence)
    over = _side(persons_low, persons_high) or NO_RECORD
    return {
        "difference": gap,
        "low": low,
        "high": high,
        "verdict": _side(low, high) or (WITHIN if over == WITHIN else UNKNOWN),
        "persons low": persons_low,
        "persons high": persons_high,
        "over persons": over,
    }


def similarity(frame: pd.DataFrame, baseline: str, confidence: float = 0.95) -> pd.DataFrame:
    """For runs measured by AP: each label's mean OKS with the persons' annotations minus the baseline's, in percent, paired.

    -> label, difference, persons low, persons high, over persons; no row for other metrics and without records. Persons weigh
    alike, confidence and missed persons play no part: it says who draws the better poses, not who has the higher AP.
    """
    groups = dict(iter(frame.groupby("label", sort=False)))
    rows = []
    for label, runs in groups.items():
        found = _minus(_mean(runs, "oks"), _mean(groups[baseline], "oks"))
        if label != baseline and found is not None:
            gap, low, high, *_ = _over(found, confidence)
            told = {"persons low": low, "persons high": high, "over persons": _side(low, high) or UNKNOWN}
            rows.append({"label": label, "difference": gap} | told)
    return pd.DataFrame(rows, columns=["label", "difference", "persons low", "persons high", "over persons"])


def _values(runs: pd.DataFrame) -> np.ndarray:
    return runs["value"].dropna().astype(float).to_numpy()


def _mean(runs: pd.DataFrame, column: str) -> dict[str, np.ndarray] | None:
    """The finished runs' records, averaged person by person -> image, person, value and its weight; None unless all have
    `column`, "right" or "oks"."""
    paths = runs.dropna(subset=["value"])["path"] if "path" in runs else []
    found = [persons.read(Run(Path(path))) for path in paths]
    if not found or not all(one is not None and column in one for one in found):
        return None
    for one in found[1:]:
        _same_persons(found[0], one)
    weight = found[0]["joints"] if column == "right" else np.ones(len(found[0]["joints"]))  # persons weigh alike in OKS
    return found[0] | {"value": np.mean([one[column] for one in found], axis=0), "weight": weight}


def _minus(ours: dict | None, theirs: dict | None) -> dict | None:
    if ours is None or theirs is None:
        return None
    _same_persons(ours, theirs)
    return ours | {"value": ours["value"] - theirs["value"]}


def _same_persons(one: dict, other: dict) -> None:
    if not all(np.array_equal(one[name], other[name]) for name in ("person", "joints")):
        raise MdwError("two runs of one study were measured on different persons; train them on the same data")


def _over(found: dict | None, confidence: float) -> tuple[float, float, float, float, int]:
    """`over_persons` of a record, and how many images it has; NaN without one."""
    if found is None:
        return np.nan, np.nan, np.nan, np.nan, 0
    return *over_persons(found["value"], found["weight"], found["image"], confidence), len(np.unique(found["image"]))


def _side(low: float, high: float) -> str | None:
    """The verdict of a difference's interval; None where there is none."""
    if np.isnan(low) or np.isnan(high):
        return None
    return WITHIN if low <= 0 <= high else "higher" if low > 0 else "lower"
