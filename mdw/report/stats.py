"""How sure a measured difference is: over trainings that differ in their seed, and over the persons it was measured on.

*Seeds* are the unit of every verdict, since another training gives another network. The cells of a study (a network under
one recipe) share one variance over seeds, pooled over all cells with two seeds or more: s^2 = sum (x - mean of its cell)^2 /
f, with f = sum (n - 1) degrees of freedom. A cell with one seed borrows it. A contrast is a weighted sum of cell means, such
as a difference, a main effect or an interaction; its interval is effect +- t(f) sqrt(s^2 sum w^2 / n), that of an analysis of
variance with one factor (Montgomery 2017, ch. 3). Several questions at once are adjusted by Holm (1979).

*Persons.* persons.csv says what a network got right of each person. Whole images are drawn with replacement, since persons
of one image are not independent, and PCK is computed anew of each draw: the percentile bootstrap (Efron & Tibshirani 1993,
ch. 13) by `scipy.stats.bootstrap`, two networks on the same draws. It says what other persons would have shown of these very
trainings, and is never added to the seeds' variance: nearly all of it is persons times seed, which the seeds show already.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import pandas as pd
import scipy  # its parts are loaded where they are used

from mdw.report.claims.outcome import UNDECIDED
from mdw.report.runs import read_persons
from mdw.util.errors import MdwError

RESAMPLES = 4999
ALPHA, POWER = 0.05, 0.8  # how often a verdict may be wrong, and how often a difference called detectable is found
NO_RECORD = "no per-person record"


@dataclass(frozen=True)
class Noise:
    """The variance of a training's figure over seeds, and its degrees of freedom; NaN and 0 where no cell has two seeds."""

    variance: float
    freedom: int


@dataclass(frozen=True)
class Effect:
    """What a contrast came to, in the metric's points: its size, its standard error over seeds, their degrees of freedom.

    error is NaN and freedom 0 where the noise over seeds is unknown; then so is everything below.
    """

    size: float
    error: float
    freedom: int

    def interval(self, alpha: float = ALPHA) -> tuple[float, float]:
        """The interval that misses the true effect with the probability `alpha` -> low, high."""
        half = scipy.stats.t.ppf(1 - alpha / 2, self.freedom) * self.error if self.freedom else np.nan
        return float(self.size - half), float(self.size + half)

    def p(self, bound: float = 0.0) -> float:
        """The two-sided p value of "the effect is `bound`"."""
        if not self.freedom:
            return np.nan
        if self.error == 0:  # seeds that do not differ at all
            return float(self.size == bound)
        return float(2 * scipy.stats.t.sf(abs(self.size - bound) / self.error, self.freedom))

    def detectable(self) -> float:
        """The true difference that these runs would have found: at 5 % two-sided, unadjusted, with a power of 80 %.

        By the noncentral t distribution, so exact where the pooled variance is the true one.
        """
        return _reach(self.freedom) * self.error if self.freedom else np.nan


@cache
def _reach(freedom: int) -> float:
    """`Effect.detectable` in standard errors."""
    critical = scipy.stats.t.ppf(1 - ALPHA / 2, freedom)
    most = 2 * (critical + scipy.stats.t.ppf(POWER, freedom))
    return float(scipy.optimize.brentq(lambda shift: scipy.stats.nct.sf(critical, freedom, shift) - POWER, 0, most))


def cells(frame: pd.DataFrame) -> dict[str, np.ndarray]:
    """The finished figures of each label, one per run; a label without any is left out."""
    values = frame["value"].astype(float).to_numpy()
    done = ~np.isnan(values)
    codes, labels = pd.factorize(frame["label"].to_numpy()[done])
    return {label: values[done][codes == code] for code, label in enumerate(labels)}


def pooled(frame: pd.DataFrame) -> Noise:
    """The seeds' noise of a study. frame: columns label and value, one row per run; a run with a second label counts once."""
    found = cells(frame[~frame["path"].duplicated()] if "path" in frame else frame).values()
    freedom = sum(len(cell) - 1 for cell in found)
    squares = sum(float(((cell - cell.mean()) ** 2).sum()) for cell in found)
    return Noise(squares / freedom if freedom else np.nan, freedom)


def contrast(cells: Mapping[str, np.ndarray], weights: Mapping[str, float], noise: Noise) -> Effect | None:
    """The weighted sum of the means of `cells`; None where one of them has no finished run."""
    if not cells.keys() >= weights.keys():
        return None
    size = sum(weight * cells[label].mean() for label, weight in weights.items())
    spread = sum(weight**2 / len(cells[label]) for label, weight in weights.items())
    return Effect(float(size), float(np.sqrt(noise.variance * spread)), noise.freedom)


def holm(p: Sequence[float], alpha: float = ALPHA) -> tuple[np.ndarray, np.ndarray]:
    """Holm's step-down adjustment of a family of p values -> adjusted p values, and the level of each one's interval.

    A p value that is not known (NaN) counts as 1, so a question without runs still takes its part. The k-th smallest of m is
    tested at alpha / (m - k + 1); from the first that fails on, all are left at the level of that one. The interval at that
    level therefore leaves the bound out exactly where the adjusted p is below alpha. It is the interval of its own question;
    that all of them hold the truth at once is not promised.
    """
    known = np.nan_to_num(np.asarray(p, dtype=float), nan=1.0)
    order, steps = np.argsort(known, kind="stable"), np.arange(len(known), 0, -1)
    stepped = np.minimum(np.maximum.accumulate(steps * known[order]), 1.0)
    levels = alpha / steps
    if (failed := stepped >= alpha).any():
        levels[failed] = levels[failed.argmax()]
    adjusted, level = np.empty_like(known), np.empty_like(known)
    adjusted[order], level[order] = stepped, levels
    return adjusted, level


def over_persons(
    value: np.ndarray, weight: np.ndarray, images: np.ndarray, confidence: float = 0.95
) -> tuple[float, float, float]:
    """100 * sum(value) / sum(weight) -> figure, low, high, by resampling images.

    value, weight, images: (n,), one entry a person: what it gains (right joints, or a difference of two networks'), how many
    joints count, and its image's id. NaN in place of low and high below two images. The same data give the same answer.
    """
    _, image = np.unique(images, return_inverse=True)
    gained, counted = np.bincount(image, value), np.bincount(image, weight)
    figure = float(100 * gained.sum() / counted.sum())
    if len(counted) < 2:
        return figure, np.nan, np.nan

    def statistic(gained: np.ndarray, counted: np.ndarray, axis: int) -> np.ndarray:
        return 100 * gained.sum(axis=axis) / counted.sum(axis=axis)

    drawn = scipy.stats.bootstrap(
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
    return figure, float(low), float(high)


def intervals(frame: pd.DataFrame, noise: Noise | None = None) -> pd.DataFrame:
    """A frame of runs -> label, n (finished runs), mean, std (n - 1, of its own), low, high, persons low, persons high.

    In percent, a row per label. low, high: 95 % over seeds, by `noise`, that of the study (of `frame` itself if left out);
    absent where it is unknown. persons low, persons high: 95 % over persons, for these very trainings; absent without records.
    """
    noise, found = noise or pooled(frame), cells(frame)
    rows = []
    for label, runs in frame.groupby("label", sort=False):
        row = {"label": label, "n": len(found.get(label, ()))}
        if effect := contrast(found, {label: 1.0}, noise):
            low, high = effect.interval()
            row |= {"mean": effect.size, "low": low, "high": high} | _over(_mean(runs, "right"))
        if row["n"] > 1:
            row["std"] = found[label].std(ddof=1)
        rows.append(row)
    return pd.DataFrame(rows, columns=["label", "n", "mean", "std", "low", "high", "persons low", "persons high"])


def persons_of(frame: pd.DataFrame, weights: Mapping[str, float]) -> dict:
    """A contrast over persons alone -> persons low, persons high (95 %) and over persons: "higher", "lower", "undecided" or
    `NO_RECORD`. Raises MdwError for records of different persons."""
    found = _sum({label: _mean(frame[frame["label"] == label], "right") for label in weights}, weights)
    if found is None:
        return {"persons low": np.nan, "persons high": np.nan, "over persons": NO_RECORD}
    told = _over(found)
    return told | {"over persons": side(*told.values())}


def similarity(frame: pd.DataFrame, baseline: str) -> pd.DataFrame:
    """For runs measured by AP: each label's mean OKS with the persons' annotations minus the baseline's, in percent, paired.

    -> label, difference, persons low, persons high, over persons; no row for other metrics and without records. Persons weigh
    alike, confidence and missed persons play no part: it says who draws the better poses, not who has the higher AP.
    """
    means = {label: _mean(runs, "oks") for label, runs in frame.groupby("label", sort=False)}
    rows = []
    for label in means:
        weights = {label: 1.0, baseline: -1.0}
        if label != baseline and (found := _sum(means, weights)) is not None:
            told = _over(found)
            gap = 100 * found["value"].sum() / found["weight"].sum()
            rows.append({"label": label, "difference": gap} | told | {"over persons": side(*told.values())})
    return pd.DataFrame(rows, columns=["label", "difference", "persons low", "persons high", "over persons"])


def _mean(runs: pd.DataFrame, column: str) -> dict[str, np.ndarray] | None:
    """The finished runs' records, averaged person by person -> image, person, value and its weight; None unless all have
    `column`, "right" or "oks"."""
    paths = runs.dropna(subset=["value"])["path"] if "path" in runs else []
    found = [one for path in paths if (one := read_persons(path)) is not None and column in one]
    if not found or len(found) < len(paths):
        return None
    for one in found[1:]:
        _same_persons(found[0], one)
    weight = found[0]["joints"] if column == "right" else np.ones(len(found[0]["joints"]))  # persons weigh alike in OKS
    return found[0] | {"value": np.mean([one[column] for one in found], axis=0), "weight": weight}


def _sum(means: Mapping[str, dict | None], weights: Mapping[str, float]) -> dict | None:
    """The weighted sum of records, person by person; None where one is missing."""
    records = {label: record for label in weights if (record := means[label]) is not None}
    if len(records) < len(weights):
        return None
    first, *others = records.values()
    for other in others:
        _same_persons(first, other)
    return first | {"value": sum(weight * records[label]["value"] for label, weight in weights.items())}


def _same_persons(one: dict, other: dict) -> None:
    if not all(np.array_equal(one[name], other[name]) for name in ("person", "joints")):
        raise MdwError("two runs of one study were measured on different persons; train them on the same data")


def _over(found: dict | None) -> dict:
    """The interval of a record by `over_persons` -> persons low, persons high; NaN without one."""
    _, low, high = (np.nan,) * 3 if found is None else over_persons(found["value"], found["weight"], found["image"])
    return {"persons low": low, "persons high": high}


def side(low: float, high: float) -> str:
    """On which side of nothing an interval lies: "higher", "lower" or, also where it is not known, "undecided"."""
    return "higher" if low > 0 else "lower" if high < 0 else UNDECIDED
