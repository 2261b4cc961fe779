"""Do the intervals hold what they promise, is the pairing used, and is noise called noise?"""

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from report_helpers import write_run
from scipy import stats

from mdw import persons
from mdw.errors import MdwError
from mdw.files import write_json
from mdw.report import statistics, tables
from mdw.report.statistics import NO_RECORD, UNKNOWN, WITHIN, over_persons, with_seeds
from mdw.runs import Run
from mdw.studies import Row

A, B = Row("A", "mdw_hrnet_18"), Row("B", "lite_hrnet_18")


def people(rng, count=120, joints=14):
    """How hard each person is, and how many joints count."""
    return rng.beta(2, 2, count), rng.integers(6, joints + 1, count)


def test_of_other_persons_95_percent_are_inside():
    rng, inside = np.random.default_rng(1), 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(100):
            easy, joints = people(rng)
            _, low, high, _ = over_persons(rng.binomial(joints, easy), joints, np.arange(120))
            inside += low <= 50 <= high  # beta(2, 2) has the mean one half
    assert 0.89 <= inside / 100 <= 0.99


def test_persons_of_one_image_are_drawn_together():
    rng = np.random.default_rng(0)
    easy, joints = people(rng, 60)
    right = rng.binomial(joints, easy)
    alone = over_persons(right, joints, np.arange(60))
    twice = over_persons(np.tile(right, 2), np.tile(joints, 2), np.arange(120))
    together = over_persons(np.tile(right, 2), np.tile(joints, 2), np.tile(np.arange(60), 2))
    assert together == pytest.approx(alone)  # the same persons again tell nothing new
    assert twice[3] < 0.8 * alone[3]
    assert np.isnan(over_persons(right, joints, np.zeros(60))[1:]).all() and alone[0] == 100 * right.sum() / joints.sum()


def test_with_few_seeds_the_interval_holds_and_a_bootstrap_of_them_does_not():
    """Two networks of the same worth, three seeds each, whose noise is that of the seeds."""
    rng, ours, drawn = np.random.default_rng(2), 0, 0
    for _ in range(400):
        a, b = rng.normal(50, 1, 3), rng.normal(50, 1, 3)
        low, high = with_seeds(a.mean() - b.mean(), 0.1, 500, [a, b])
        ours += low <= 0 <= high
        low, high = np.percentile(rng.choice(a, (500, 3)).mean(axis=1) - rng.choice(b, (500, 3)).mean(axis=1), [2.5, 97.5])
        drawn += low <= 0 <= high
    assert ours / 400 >= 0.93 and drawn / 400 < 0.88


def test_without_persons_it_is_welchs_interval_and_without_seeds_noise_the_persons():
    a, b = np.array([1.0, 2.0, 3.0]), np.array([0.0, 10.0, 20.0, 30.0])
    expected = stats.ttest_ind(b, a, equal_var=False).confidence_interval()
    assert with_seeds(13.0, np.nan, 0, [a, b]) == pytest.approx((expected.low, expected.high))
    same = [np.array([5.0, 5.0])] * 2
    assert with_seeds(0.0, 2.0, 10_000, same) == pytest.approx((-1.96 * 2, 1.96 * 2), rel=1e-3)
    assert with_seeds(3.0, np.nan, 0, same) == (3.0, 3.0)
    assert np.isnan(with_seeds(3.0, 2.0, 100, [a, b[:1]])).all()


def record(folder: Path, row: Row, seed: int, right: np.ndarray, joints: np.ndarray, written: bool = True) -> None:
    """A finished run that got so many joints of each person right."""
    path = write_run(folder, row, seed, float(100.0 * right.sum() / joints.sum()), "demo")
    ids = np.arange(len(right))
    if written:
        persons.write(path, {"image": ids, "person": ids, "joints": joints, "right": right})


def frame_of(folder: Path) -> pd.DataFrame:
    found = [Run(path.parent) for path in sorted(folder.glob("*/recipe.json"))]
    labels = ["A" if run.spec["model"] == A.model else "B" for run in found]
    return tables.runs_frame(found, labels).sort_values(["label", "seed"])


def test_pairing_finds_what_two_separate_intervals_hide(tmp_path):
    rng = np.random.default_rng(0)
    easy, joints = people(rng, 200)
    b = rng.binomial(joints, easy)
    a = np.minimum(b + (rng.random(200) < 0.35), joints)  # one joint more for every third person
    record(tmp_path, A, 0, a, joints)
    record(tmp_path, B, 0, b, joints)
    frame = frame_of(tmp_path)
    (found,) = statistics.differences(frame, "B").to_dict("records")
    apart = statistics.intervals(frame).set_index("label")
    assert apart.loc["A", "low"] < apart.loc["B", "high"], "each alone leaves it open"
    assert found["over persons"] == "higher" and found["persons low"] > 0
    assert found["difference"] == pytest.approx(100 * (a - b).sum() / joints.sum())
    assert found["verdict"] == UNKNOWN and np.isnan(found["low"])  # one seed each
    assert apart["noise"].tolist() == ["persons", "persons"] and apart["std"].isna().all()
    (back,) = statistics.differences(frame, "A").to_dict("records")
    assert back["persons low"] == pytest.approx(-found["persons high"]) and back["over persons"] == "lower"


def test_two_seeds_bring_their_own_noise(tmp_path):
    rng = np.random.default_rng(0)
    easy, joints = people(rng, 200)
    gains = [(A, 0, 0.5), (A, 1, 0.55), (B, 0, 0.1), (B, 1, 0.05)]
    common = rng.binomial(joints, easy)
    for row, seed, gain in gains:
        record(tmp_path, row, seed, np.minimum(common + (rng.random(200) < gain), joints), joints)
    frame = frame_of(tmp_path)
    (found,) = statistics.differences(frame, "B").to_dict("records")
    values = frame.astype({"value": float}).groupby("label")["value"].mean()
    assert found["difference"] == pytest.approx(values["A"] - values["B"])
    assert found["low"] < found["persons low"] < found["persons high"] < found["high"]
    assert found["verdict"] == found["over persons"] == "higher"
    assert statistics.intervals(frame)["noise"].tolist() == ["persons and seeds"] * 2


def test_noise_is_called_noise_and_the_unknown_unknown(tmp_path):
    rng = np.random.default_rng(0)
    easy, joints = people(rng)
    record(tmp_path / "1", A, 0, rng.binomial(joints, easy), joints)
    record(tmp_path / "1", B, 0, rng.binomial(joints, easy), joints)
    (found,) = statistics.differences(frame_of(tmp_path / "1"), "B").to_dict("records")
    assert found["verdict"] == found["over persons"] == WITHIN  # more noise cannot undo it
    record(tmp_path / "2", A, 0, joints, joints)
    record(tmp_path / "2", B, 0, joints // 2, joints, written=False)
    frame = frame_of(tmp_path / "2")
    (found,) = statistics.differences(frame, "B").to_dict("records")
    assert found["over persons"] == NO_RECORD and found["verdict"] == UNKNOWN
    assert statistics.intervals(frame)["noise"].tolist() == ["persons", UNKNOWN]
    record(tmp_path / "3", A, 0, joints, joints)
    record(tmp_path / "3", B, 0, joints[:-1], joints[:-1])
    with pytest.raises(MdwError, match="different persons"):
        statistics.differences(frame_of(tmp_path / "3"), "B")


def test_of_ap_only_similarity_is_paired(tmp_path):
    rng, ids = np.random.default_rng(0), np.arange(40)
    for row, gain in ((A, 0.1), (B, 0.0)):
        path = write_run(tmp_path, row, 0, 0.5 + gain)
        write_json(path / "result.json", {"AP": 0.5 + gain})
        oks = np.clip(rng.normal(0.5, 0.02, 40) + gain, 0, 1)
        persons.write(path, {"image": ids, "person": ids, "joints": ids * 0 + 17, "oks": oks})
    frame = frame_of(tmp_path)
    (found,) = statistics.differences(frame, "B").to_dict("records")
    assert found["difference"] == pytest.approx(10) and found["over persons"] == NO_RECORD
    (found,) = statistics.similarity(frame, "B").to_dict("records")
    assert found["over persons"] == "higher" and found["persons low"] < 10 < found["persons high"]
