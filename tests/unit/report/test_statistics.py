"""Do the intervals and verdicts hold what they promise, is the pairing used, and are persons kept apart from seeds?"""

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from report_helpers import write_run
from scipy import stats

from mdw.experiments import studies
from mdw.experiments.studies import Question, Row, ahead
from mdw.report import runs as frames
from mdw.report import stats as statistics
from mdw.report.claims import judge
from mdw.report.claims.outcome import CONTRADICTED, HOLDS, NOT_RUN, UNDECIDED
from mdw.report.pages import study as studied
from mdw.report.stats import NO_RECORD, Noise, cells, contrast, holm, over_persons, pooled
from mdw.training import persons
from mdw.training.runs import Run
from mdw.util.errors import MdwError
from mdw.util.files import write_json

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
            _, low, high = over_persons(rng.binomial(joints, easy), joints, np.arange(120))
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
    assert twice[2] - twice[1] < 0.8 * (alone[2] - alone[1])
    assert np.isnan(over_persons(right, joints, np.zeros(60))[1:]).all() and alone[0] == 100 * right.sum() / joints.sum()


def frame_of_values(**values) -> pd.DataFrame:
    rows = [{"label": name, "seed": i, "value": v, "metric": "pck"} for name, vs in values.items() for i, v in enumerate(vs)]
    return pd.DataFrame(rows)


def differences(frame: pd.DataFrame, baseline: str) -> pd.DataFrame:
    """Each label's mean minus the baseline's, each for itself, with its interval over seeds and what persons say."""
    noise, found, rows = pooled(frame), cells(frame), []
    for label in [label for label in dict.fromkeys(frame["label"]) if label != baseline]:
        row = {"label": label, "verdict": NOT_RUN}
        if effect := contrast(found, ahead(label, baseline), noise):
            low, high = effect.interval()
            row |= {"difference": effect.size, "low": low, "high": high, "detectable": effect.detectable()}
            row |= {"verdict": statistics.side(low, high)} | statistics.persons_of(frame, ahead(label, baseline))
        rows.append(row)
    return pd.DataFrame(rows)


def test_the_variance_is_pooled_over_the_cells_and_one_seed_borrows_it():
    frame = frame_of_values(a=[1, 2, 3], b=[11, 15], c=[4], d=[None])
    assert pooled(frame) == Noise((2 + 8) / 3, 3)  # squares about each cell's mean over 2 + 1 degrees of freedom
    found = differences(frame, "a").set_index("label")
    half = stats.t.ppf(0.975, 3) * np.sqrt(10 / 3 * (1 / 3 + 1))
    assert found.loc["c", ["difference", "low", "high"]].tolist() == pytest.approx([2, 2 - half, 2 + half])
    assert found["verdict"].to_dict() == {"b": "higher", "c": UNDECIDED, "d": NOT_RUN}
    known = statistics.intervals(frame).set_index("label")
    half = stats.t.ppf(0.975, 3) * np.sqrt(10 / 3)
    assert known.loc["c", ["low", "high"]].tolist() == pytest.approx([4 - half, 4 + half]) and known["n"].tolist() == [
        3,
        2,
        1,
        0,
    ]


def test_two_cells_alone_give_students_interval_and_one_seed_each_none():
    a, b = [1.0, 2.0, 3.0], [0.0, 10.0, 20.0, 30.0]
    frame = frame_of_values(a=a, b=b)
    expected = stats.ttest_ind(b, a).confidence_interval()
    effect = contrast(cells(frame), ahead("b", "a"), pooled(frame))
    assert effect.interval() == pytest.approx((expected.low, expected.high))
    assert effect.p() == pytest.approx(stats.ttest_ind(b, a).pvalue)
    alone = frame_of_values(a=[1.0], b=[30.0])
    (found,) = differences(alone, "a").to_dict("records")
    assert found["difference"] == 29 and np.isnan([found["low"], found["high"], found["detectable"]]).all()
    assert found["verdict"] == UNDECIDED
    same = frame_of_values(a=[1.0, 1.0], b=[2.0, 2.0])
    assert contrast(cells(same), ahead("b", "a"), pooled(same)).interval() == (1.0, 1.0)


def test_a_run_with_two_labels_counts_once():
    frame = frame_of_values(a=[1, 3], b=[5, 6], again=[1, 3]).assign(path=["a0", "a1", "b0", "b1", "a0", "a1"])
    assert pooled(frame) == Noise((2 + 0.5) / 2, 2)


def test_main_effects_and_interaction_of_the_four_cells():
    """Balanced, they are the two-way analysis of variance: F of each effect is the square of its t."""
    rng = np.random.default_rng(0)
    values = {"Simple": 50 + rng.normal(size=5), "+ CDC": 53 + rng.normal(size=5), "+ GCM": 49 + rng.normal(size=5)}
    values |= {"CDC + GCM (full)": 54 + rng.normal(size=5)}
    frame = frame_of_values(**values)
    tested = judge.answer(frame, studies.QUESTIONS).set_index("id")
    means = {label: cell.mean() for label, cell in values.items()}
    simple, cdc, gcm, both = means.values()
    assert tested.loc["Q1", "difference"] == pytest.approx((cdc - simple + both - gcm) / 2)
    assert tested.loc["Q2", "difference"] == pytest.approx((gcm - simple + both - cdc) / 2)
    assert tested.loc["Q1x2", "difference"] == pytest.approx((both - gcm) - (cdc - simple))
    within = sum(((cell - cell.mean()) ** 2).sum() for cell in values.values()) / 16
    effect = contrast(cells(frame), studies.QUESTIONS[1].contrast, pooled(frame))
    squares = 5 * ((cdc + both) / 2 - (simple + gcm) / 2) ** 2  # of the factor, 20 runs in two halves
    assert (effect.size / effect.error) ** 2 == pytest.approx(squares / within) and effect.freedom == 16
    assert tested.loc["Q1", "outcome"] == HOLDS and tested.loc["Q3", "outcome"] == NOT_RUN


def test_holm_by_hand():
    adjusted, levels = holm([0.04, 0.001, np.nan, 0.013])
    assert adjusted == pytest.approx([0.08, 0.004, 1.0, 0.039])
    assert levels == pytest.approx([0.025, 0.0125, 0.025, 0.05 / 3])  # the first that fails stops the rest at its level
    adjusted, levels = holm([0.02, 0.03])
    assert adjusted == pytest.approx([0.04, 0.04]) and levels == pytest.approx([0.025, 0.05])
    assert holm([0.03, 0.03])[0] == pytest.approx([0.06, 0.06])


def test_at_least_means_within_the_margin_and_both_directions_are_told():
    frame = frame_of_values(a=[50.0, 50.1, 50.2], b=[50.5, 50.6, 50.7], c=[50.0, 60.0, 70.0])
    same = [Question("1", "a is at least b", ahead("a", "b"), ">="), Question("2", "a is more than b", ahead("a", "b"))]
    few = judge.answer(frame[frame["label"] != "c"], same)
    assert few["outcome"].tolist() == [HOLDS, CONTRADICTED] and few["bound"].tolist() == [-1.0, 0.0]
    many = judge.answer(frame, same)  # c's noise is theirs too
    assert many["outcome"].tolist() == [UNDECIDED, UNDECIDED] and (many["p"] == 1).all()
    other = judge.answer(frame[frame["label"] != "c"], [same[1], Question("3", "b is more than a", ahead("b", "a"))])
    assert other["outcome"].tolist() == [CONTRADICTED, HOLDS]


def test_questions_that_were_not_run_take_their_part_of_the_adjustment():
    frame = frame_of_values(a=[50.0, 51.0, 52.0], b=[53.0, 54.0, 55.0])
    asked = [Question("1", "b is more than a", ahead("b", "a"))]
    absent = [Question(f"absent {k}", "another", ahead("a", f"absent {k}")) for k in range(9)]
    alone, among = judge.answer(frame, asked), judge.answer(frame, asked + absent)
    assert alone["outcome"].iloc[0] == HOLDS and among["outcome"].tolist() == [UNDECIDED] + [NOT_RUN] * 9
    assert among["p"].iloc[0] == pytest.approx(10 * alone["p"].iloc[0]) and among["p"].iloc[1:].isna().all()
    apart = [Question(one.id, one.text, one.contrast, family="another") for one in absent]
    assert judge.answer(frame, asked + apart)["outcome"].iloc[0] == HOLDS


def test_the_questions_speak_of_rows_that_exist():
    labels = {row.label for name in studies.ASKED for row in studies.STUDIES[name]}
    questions = [*studies.QUESTIONS, *studies.VARIANTS]
    labels |= {row.label for row in studies.STUDIES["lspet_variants"]}
    assert {label for one in questions for label in one.contrast} <= labels
    assert len({one.id for one in questions}) == len(questions)
    pairs = [frozenset(one.contrast.items()) for one in questions]
    assert len(set(pairs)) == len(pairs), "each pair once"
    assert all(sum(one.contrast.values()) == 0 for one in questions)


def design(folder: Path, seeds: dict[str, int] | None = None) -> pd.DataFrame:
    """The study without results, as the pages read it: planned seeds, or so many of these rows and none of the others."""
    planned = set(studied.everything(studies.ON_PEOPLE, studies.SEEDS, folder)["path"])
    every = [frames.study(name, studies.ON_PEOPLE, studies.SEEDS, folder) for name in studies.ASKED]
    frame = pd.concat(every, ignore_index=True).drop_duplicates(["label", "seed"])
    if seeds is not None:
        first = frame.drop_duplicates("path")
        planned = set(first.loc[first["seed"] < first["label"].map(seeds).fillna(0), "path"])
    frame = frame[frame["path"].isin(planned)]
    return frame[["label", "seed", "metric", "path"]].reset_index(drop=True)


TODAY = dict.fromkeys(("MDW-HRNet-18", "Lite-HRNet-18", "Dite-HRNet-18", "Simple", "+ CDC", "+ GCM"), 2)
TODAY |= {"Wider Naive Lite-HRNet-18": 1, "MobileNetV2": 1}
# Every question lies at its bound: no main effect and no difference, and an interaction that is the margin below nothing
AT_BOUNDS = {"Simple": 50.0, "+ CDC": 50.5, "+ GCM": 50.5, "CDC + GCM (full)": 50.0}
AT_BOUNDS |= {"+ CDC, mixed start": 50.5, "+ CDC, scaled start": 50.5}


def drawn(frame: pd.DataFrame, truth: dict[str, float], studies_: int, deviation: float = 1.4):
    """Studies of this design with normal noise over seeds; a run has one figure under all of its labels."""
    rng = np.random.default_rng(0)
    run, first = pd.factorize(frame["path"])[0], ~frame["path"].duplicated()
    centre = frame.loc[first, "label"].map(truth).fillna(50.0).to_numpy()
    for _ in range(studies_):
        yield frame.assign(value=(centre + rng.normal(0, deviation, len(centre)))[run])


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [None, TODAY], ids=["as planned", "two seeds"])
def test_of_2000_studies_with_nothing_to_find_at_most_5_percent_raise_an_alarm(seeds, tmp_path, monkeypatch):
    monkeypatch.setattr(statistics, "persons_of", lambda *_: {})  # no run has a record
    frame, alarms, count = design(tmp_path, seeds), 0, 2000
    for study in drawn(frame, AT_BOUNDS, count):
        tested = judge.answer(study, studies.QUESTIONS)
        decided = tested["outcome"].isin([HOLDS, CONTRADICTED])
        alarms += decided.any()
        assert decided.equals(tested["p"] < 0.05), "the adjusted interval and the adjusted p value say the same"
    run = tested["p"].notna().mean()  # questions without runs raise none and take their part of the 5 % along
    assert 0.5 * 0.05 * run < alarms / count < 0.05 * run + 3 * np.sqrt(0.05 * 0.95 / count), alarms / count


@pytest.mark.slow
@pytest.mark.parametrize(("question", "seeds"), [("Q1", None), ("Q1x2", None), ("Q3", TODAY), ("C2", TODAY)])
def test_what_is_called_detectable_is_found_in_four_of_five_studies(question, seeds, tmp_path):
    """With the 95 % interval of one question that nothing adjusts; 2,000 studies, a true effect as large as is printed."""
    (asked,) = [one for one in studies.QUESTIONS if one.id == question]
    frame, deviation, count = design(tmp_path, seeds), 1.4, 2000
    some = next(drawn(frame, {}, 1))
    noise = Noise(deviation**2, pooled(some).freedom)
    effect = contrast(cells(some), asked.contrast, noise).detectable()
    norm = sum(weight**2 for weight in asked.contrast.values())
    truth = {label: 50 + effect * weight / norm for label, weight in asked.contrast.items()}
    truth |= {"MDW-HRNet-18": truth["CDC + GCM (full)"]} if "CDC + GCM (full)" in truth else {}  # one run, two labels
    found = covered = 0
    for study in drawn(frame, truth, count, deviation):
        low, high = contrast(cells(study), asked.contrast, pooled(study)).interval()
        found += low > 0
        covered += low <= effect <= high
    error = np.sqrt(0.8 * 0.2 / count)
    assert abs(found / count - 0.8) < 3 * error, found / count
    assert abs(covered / count - 0.95) < 3 * np.sqrt(0.05 * 0.95 / count), covered / count


def record(folder: Path, row: Row, seed: int, right: np.ndarray, joints: np.ndarray, written: bool = True) -> None:
    """A finished run that got so many joints of each person right."""
    path = write_run(folder, row, seed, float(100.0 * right.sum() / joints.sum()), "demo")
    ids = np.arange(len(right))
    if written:
        persons.write(path, {"image": ids, "person": ids, "joints": joints, "right": right})


def frame_of(folder: Path) -> pd.DataFrame:
    found = [Run(path.parent) for path in sorted(folder.rglob("recipe.json"))]
    labels = ["A" if run.spec["model"] == A.model else "B" for run in found]
    return frames.runs_frame(found, labels).sort_values(["label", "seed"])


def test_pairing_finds_what_two_separate_intervals_hide(tmp_path):
    rng = np.random.default_rng(0)
    easy, joints = people(rng, 200)
    b = rng.binomial(joints, easy)
    a = np.minimum(b + (rng.random(200) < 0.35), joints)  # one joint more for every third person
    record(tmp_path, A, 0, a, joints)
    record(tmp_path, B, 0, b, joints)
    frame = frame_of(tmp_path)
    (found,) = differences(frame, "B").to_dict("records")
    apart = statistics.intervals(frame).set_index("label")
    assert apart.loc["A", "persons low"] < apart.loc["B", "persons high"], "each alone leaves it open"
    assert found["over persons"] == "higher" and found["persons low"] > 0
    assert found["difference"] == pytest.approx(100 * (a - b).sum() / joints.sum())
    assert found["verdict"] == UNDECIDED and np.isnan(found["low"])  # one seed each
    assert apart["std"].isna().all() and apart[["low", "high"]].isna().all(axis=None)
    (back,) = differences(frame, "A").to_dict("records")
    assert back["persons low"] == pytest.approx(-found["persons high"]) and back["over persons"] == "lower"


def test_persons_say_nothing_of_another_training(tmp_path):
    """The interval over seeds is the same with and without a record of persons, who are told apart from it."""
    rng = np.random.default_rng(0)
    easy, joints = people(rng, 200)
    gains = [(A, 0, 0.5), (A, 1, 0.55), (B, 0, 0.1), (B, 1, 0.05)]
    common = rng.binomial(joints, easy)
    for row, seed, gain in gains:
        right = np.minimum(common + (rng.random(200) < gain), joints)
        record(tmp_path / "with", row, seed, right, joints)
        record(tmp_path / "without", row, seed, right, joints, written=False)
    (found,) = differences(frame_of(tmp_path / "with"), "B").to_dict("records")
    (bare,) = differences(frame_of(tmp_path / "without"), "B").to_dict("records")
    frame = frame_of(tmp_path / "with").astype({"value": float})
    a, b = (values for _, values in frame.groupby("label")["value"])
    expected = stats.ttest_ind(a, b).confidence_interval()
    for one in (found, bare):
        assert (one["low"], one["high"]) == pytest.approx((expected.low, expected.high))
        assert one["verdict"] == "higher"
    assert found["over persons"] == "higher" and bare["over persons"] == NO_RECORD
    assert found["low"] < found["persons low"] < found["persons high"] < found["high"]


def test_records_of_different_persons_are_refused(tmp_path):
    rng = np.random.default_rng(0)
    _, joints = people(rng)
    record(tmp_path / "2", A, 0, joints, joints)
    record(tmp_path / "2", B, 0, joints // 2, joints, written=False)
    (found,) = differences(frame_of(tmp_path / "2"), "B").to_dict("records")
    assert found["over persons"] == NO_RECORD and found["verdict"] == UNDECIDED
    record(tmp_path / "3", A, 0, joints, joints)
    record(tmp_path / "3", B, 0, joints[:-1], joints[:-1])
    with pytest.raises(MdwError, match="different persons"):
        differences(frame_of(tmp_path / "3"), "B")


def test_of_ap_only_similarity_is_paired(tmp_path):
    rng, ids = np.random.default_rng(0), np.arange(40)
    for row, gain in ((A, 0.1), (B, 0.0)):
        path = write_run(tmp_path, row, 0, 0.5 + gain)
        write_json(path / "result.json", {"AP": 0.5 + gain})
        oks = np.clip(rng.normal(0.5, 0.02, 40) + gain, 0, 1)
        persons.write(path, {"image": ids, "person": ids, "joints": ids * 0 + 17, "oks": oks})
    frame = frame_of(tmp_path)
    (found,) = differences(frame, "B").to_dict("records")
    assert found["difference"] == pytest.approx(10) and found["over persons"] == NO_RECORD
    (found,) = statistics.similarity(frame, "B").to_dict("records")
    assert found["over persons"] == "higher" and found["persons low"] < 10 < found["persons high"]
