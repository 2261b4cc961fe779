"""Do the verdicts follow from what they rest on, and does a run under other conditions never confirm a figure?"""

import pandas as pd
import pytest
from report_helpers import write_run

from mdw.errors import MdwError
from mdw.files import read_json, write_json
from mdw.report import arithmetic, article, claim_list, evidence, publish, verdicts
from mdw.report.verdicts import FAILS, HOLDS, NOISE, PARTLY, UNKNOWN, UNTESTABLE
from mdw.studies import NEEDS, STUDIES, Row

MDW, LITE, DITE = (Row("", f"{family}_hrnet_18") for family in ("mdw", "lite", "dite"))


def judged(runs) -> pd.DataFrame:
    return verdicts.judge(runs, counted=False).set_index("id")


def write(root, row, values, recipe, boxes="ground truth"):
    for seed, value in enumerate(values):
        path = write_run(root, row, seed, value, recipe)
        write_json(path / "result.json", read_json(path / "result.json") | {"boxes": boxes})


def test_what_a_claim_names_is_there():
    trained = {
        evidence.label(row.model, row.options) for name, rows in STUDIES.items() if name.startswith("table") for row in rows
    }
    known = verdicts.claims()
    for claim in known.values():
        if claim.test in ("figure", "gain", "order"):
            assert {*evidence.networks(claim.subject), *evidence.networks(claim.against)} <= trained, claim.id
        assert "{value}" not in claim.claim + claim.note and (claim.note or claim.test != "none"), claim.id
    pages = {path.stem for path in publish.find()} | set(NEEDS)
    assert {claim.page for claim in known.values() if claim.page} <= pages
    assert set(article.ratios()["claim"]) == {claim.id for claim in known.values() if claim.test == "ratio"}


def test_without_runs_nothing_is_judged_that_needs_one(tmp_path):
    found = judged(tmp_path)
    accuracy = found[found["test"].isin(["figure", "gain", "order", "speed"])]
    assert set(accuracy["verdict"]) == {"not run"} and not accuracy["elsewhere"].any() and not accuracy["evidence"].any()
    assert set(found.loc[found["test"] == "none", "verdict"]) == {UNTESTABLE}
    assert set(found.loc[found["test"] == "sum", "verdict"]) == {HOLDS, FAILS}


def test_other_data_test_an_ordering_and_confirm_no_figure(tmp_path):
    write(tmp_path, MDW, (70.0, 71.0), "lspet_hour")
    write(tmp_path, LITE, (60.0, 61.0), "lspet_hour")
    write(tmp_path, DITE, (70.4, 70.5), "lspet_hour")
    found = judged(tmp_path)
    claim = found.loc["val-18-lite"]
    assert (claim["verdict"], claim["elsewhere"]) == ("not run", HOLDS)
    assert "+10.0 PCK@0.2" in claim["evidence"] and claim["conditions"].startswith(
        "LSPET at 128x96, recipe lspet_hour, ground-tr"
    )
    assert found.loc["val-18", "verdict"] == "not run" and not found.loc["val-18", "elsewhere"]
    assert found.loc["val-18-dite", "elsewhere"] == NOISE and found.loc["both-18", "elsewhere"] == NOISE
    assert found.loc["val-18-best", "elsewhere"] == NOISE and "not run: " in found.loc["val-18-best", "evidence"]
    said = claim_list.in_words(found.reset_index())
    assert "have not been run" in said and "Under other conditions" in said
    assert "about cost" not in said  # nothing was counted
    counted = found.assign(verdict=found["verdict"].mask(found["test"] == "cost", HOLDS)).reset_index()
    assert "are about cost, which the reconstruction was chosen to meet, and 0 about accuracy" in claim_list.in_words(counted)
    assert "MDW-HRNet-18 gains 1.9 AP over Dite-HRNet-18" in claim_list.not_reproduced(found.reset_index()).text


def test_as_stated_takes_the_data_the_boxes_and_the_length(tmp_path):
    write(tmp_path, MDW, (0.680, 0.684), "paper")
    write(tmp_path, LITE, (0.640, 0.644), "paper")
    assert judged(tmp_path).loc["val-18-lite", "verdict"] == "not run"  # ground-truth boxes
    assert judged(tmp_path).loc["h-run", "verdict"] == HOLDS  # they are what this one asks for
    write(tmp_path, MDW, (0.680, 0.684), "paper", "detector")
    write(tmp_path, LITE, (0.640, 0.644), "paper", "detector")
    found = judged(tmp_path)
    assert found.loc["val-18-lite", "verdict"] == HOLDS and found.loc["val-18", "verdict"] == HOLDS
    assert found.loc["dev-18-lite", "verdict"] == "not run" and found.loc["dev-18-lite", "elsewhere"] == HOLDS
    write(tmp_path, LITE, (0.672, 0.676), "paper", "detector")  # a gain, but a smaller one than claimed
    assert judged(tmp_path).loc["val-18-lite", "verdict"] == FAILS
    assert found.loc["both-18", "verdict"] == PARTLY and "not run: Dite-HRNet-18" in found.loc["both-18", "evidence"]
    write(tmp_path, DITE, (0.740, 0.741), "paper", "detector")
    assert judged(tmp_path).loc["both-18", "verdict"] == FAILS


def test_one_seed_leaves_the_noise_unknown(tmp_path):
    write(tmp_path, MDW, (50.0,), "lspet_small")
    write(tmp_path, LITE, (40.0,), "lspet_small")
    assert judged(tmp_path).loc["val-18-lite", "elsewhere"] == UNKNOWN


def test_real_people_come_before_drawn_ones(tmp_path):
    for row, drawn, real in ((MDW, 0.9, 40.0), (LITE, 0.1, 50.0)):
        write(tmp_path, row, (drawn, drawn + 0.01), "demo")
        write(tmp_path, row, (real, real + 0.1), "lspet_hour")
    assert judged(tmp_path).loc["val-18-lite", "elsewhere"] == FAILS


def test_sums_are_made_of_figures_that_were_entered_once(monkeypatch, tmp_path):
    stated = {"gain": 3.2}.__getitem__
    text = "[T2|MobileNetV2|256x192|AP] + {gain} * 2 - 1"
    assert arithmetic.evaluate(text, stated) == pytest.approx(64.6 + 6.4 - 1)
    assert arithmetic.in_words(text, stated) == "64.6 + 3.2 × 2 − 1 = 70"
    assert verdicts.claims()["val-18-mobile"].claim == "MDW-HRNet-18 gains 3.2 AP over MobileNetV2"
    frame = pd.read_csv(article.PUBLISHED)
    frame.loc[(frame["model"] == "MobileNetV2") & (frame["AP"] == 64.6), "AP"] = 64.7
    frame.to_csv(tmp_path / "published.csv", index=False)
    assert judged(tmp_path).loc["c-val-mobile", "verdict"] == HOLDS
    monkeypatch.setattr(article, "PUBLISHED", tmp_path / "published.csv")
    assert judged(tmp_path).loc["c-val-mobile", "verdict"] == FAILS
    with pytest.raises(MdwError, match="published.csv has no AP of Nobody at 256x192"):
        arithmetic.evaluate("[T2|Nobody|256x192|AP]", stated)
    with pytest.raises(MdwError, match="is no number"):
        arithmetic.evaluate("{gain}+1", stated)


def test_costs_are_compared_as_they_are_counted(monkeypatch):
    counted = {"mdw_hrnet_18": 1.0, "lite_hrnet_18": 0.995, "dite_hrnet_18": 0.9}
    monkeypatch.setattr(evidence, "counted", lambda name, quantity: counted.get(name, 1.0))
    found = verdicts.judge("nowhere").set_index("id")["verdict"]
    assert found["val-18-lite-params"] == HOLDS and found["val-18-mobile-params"] == FAILS  # 100.5 % of 103, 100 % of 11.4
    assert found["val-18-dite-params"] == FAILS and found["dev-18-lite-cost"] == HOLDS  # 11 % more, 0.5 % more
    assert found["design-fusion"] == FAILS and found["design-down"] == FAILS and found["t6-cost"] == HOLDS
