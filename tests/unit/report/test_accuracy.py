"""Tables 2 to 4: figures of different boxes, metrics, data and sources never meet in a column, and what is missing says so."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest
from report_helpers import write_run

from mdw.experiments.studies import ON_PEOPLE, STUDIES
from mdw.pose.submission import read_scores
from mdw.report import article, derived
from mdw.report import runs as frames
from mdw.report.outputs import ARTICLE, MEASURED
from mdw.report.pages import accuracy
from mdw.report.site import publish
from mdw.training.runs import Run
from mdw.util.errors import MdwError
from mdw.util.files import write_json, write_text

TABLES = (accuracy.TABLE2, accuracy.TABLE3, accuracy.TABLE4)
ROWS = {name: {row.label: row for row in STUDIES[name]} for name in ("table2", "table3", "table4")}


def high(label):
    return ROWS["table3"][f"{label}, 384x288"]


def evaluation(path, name, started, **measured):
    told = {"environment": {"started": started}, "measured": measured}
    write_json(Run(path).evaluation_file(name), {"data": "coco", "split": "val"} | told)


def ap(value, persons=6352, public=6352):
    return {"AP": value, "persons": persons, "public_persons": public}


def coco_runs(root: Path) -> None:
    """Of COCO: one run evaluated with both boxes, twice; one with its own validation only; one with the server's scores."""
    best = write_run(root, ROWS["table2"]["MDW-HRNet-18"], 0, 0.601, "paper")
    evaluation(best, "a", "2026-02-01T00:00:00+00:00", detector_boxes=ap(0.55), ground_truth_boxes=ap(0.602))
    evaluation(best, "b", "2026-01-01T00:00:00+00:00", detector_boxes=ap(0.12), ground_truth_boxes=ap(0.13))
    write_run(root, ROWS["table2"]["Lite-HRNet-18"], 0, 0.5, "paper")
    made = write_run(root, high("MDW-HRNet-30"), 0, 0.65, "paper")
    write_text(made / "evaluations/test-dev-scores.json", json.dumps({"AP": 0.611, "AP50": 0.9, "AR": 0.7}))


@pytest.fixture
def coco(tmp_path):
    coco_runs(tmp_path / "runs")
    return tmp_path / "runs"


def line(frame, label):
    return frame[frame["", "network"] == label].iloc[0]


def test_each_kind_of_boxes_has_its_column_and_the_newest_evaluation_counts(coco):
    study = frames.study("table2", "coco", [0], coco)
    frame = accuracy.beside(accuracy.TABLE2, study)
    assert list(frame["", "network"]) == list(ROWS["table2"])
    ours, other = line(frame, "MDW-HRNet-18"), line(frame, "Lite-HRNet-18")
    detector, annotated = accuracy.TABLE2.measured
    assert ours[MEASURED, detector] == pytest.approx(55.0) and ours[MEASURED, annotated] == pytest.approx(60.2)
    assert pd.isna(other[MEASURED, detector]) and other[MEASURED, annotated] == pytest.approx(50.0)
    assert ours[ARTICLE, "AP, COCO val"] == 67.8 and pd.isna(other[ARTICLE, "AP, COCO val"])
    published = article.published("T2", ["Lite-HRNet-18"], primary=True).set_index("input_size")["AP"]
    assert other[accuracy.PUBLISHED, "AP, detector"] == published["256x192"]
    assert line(frame, "Lite-HRNet-18, 384x288")[accuracy.PUBLISHED, "AP, detector"] == published["384x288"]
    assert "Lite-HRNet" in other[accuracy.PUBLISHED, "source"] and "Paddle" in other[accuracy.PUBLISHED, "source"]
    assert "MDW-HRNet-18: +5.2" in accuracy.boxes(study) and "compare" not in accuracy.boxes(study)
    told = accuracy.gaps(accuracy.TABLE2, study).text
    assert "AP, detector boxes 55.0; the article states 67.8: −12.8" in told and "nan" not in told


def test_a_part_of_coco_is_said_to_be_one(coco):
    path = write_run(coco, ROWS["table2"]["Dite-HRNet-18"], 0, 0.5, "paper")
    write_json(path / "result.json", json.loads((path / "result.json").read_text()) | {"val_persons": 68})
    evaluation(path, "part", "2026-01-01T00:00:00+00:00", ground_truth_boxes=ap(0.4, persons=68))
    said = accuracy.boxes(frames.study("table2", "coco", [0], coco))
    assert "With ground-truth boxes only 68 of 6,352 boxes were measured: this does not compare" in said
    evaluation(path, "whole", "2025-01-01T00:00:00+00:00", ground_truth_boxes=ap(0.45))
    study = frames.study("table2", "coco", [0], coco)
    ours = line(accuracy.beside(accuracy.TABLE2, study), "Dite-HRNet-18")
    assert ours[MEASURED, accuracy.TABLE2.measured[1]] == 45, "the whole split counts before a part, whichever came later"
    assert "of 6,352" not in accuracy.boxes(study)


def test_other_data_never_fill_the_tables_columns(tmp_path):
    write_run(tmp_path, ROWS["table2"]["MDW-HRNet-18"], 0, 17.5, "demo")
    for table in (accuracy.TABLE2, accuracy.TABLE4):
        study = frames.study(table.study, "demo", [0], tmp_path)
        ours = line(accuracy.beside(table, study), "MDW-HRNet-18")
        assert all(pd.isna(ours[MEASURED, column]) for column in table.measured)
        assert ours[MEASURED, "PCK@0.2, synthetic people"] == 17.5 and ours[MEASURED, "n"] == 1
        assert "not the table's" in accuracy.own_figures(table, study)
        said = accuracy.in_words(table, study)
        assert said == f"The table's own {table.measured[0]}: not run."
        assert "17.5" not in accuracy.gaps(table, study).text


def test_smoke_measures_an_ap_that_is_not_cocos(tmp_path):
    write_run(tmp_path, ROWS["table2"]["MDW-HRNet-18"], 0, 0.25)
    ours = line(accuracy.beside(accuracy.TABLE2, frames.study("table2", "smoke", [0], tmp_path)), "MDW-HRNet-18")
    assert pd.isna(ours[MEASURED, accuracy.TABLE2.measured[1]]) and ours[MEASURED, "AP, synthetic people"] == 25


def test_mpii_has_three_thresholds_and_says_what_a_published_one_is(tmp_path):
    path = write_run(tmp_path, ROWS["table4"]["MDW-HRNet-18"], 0, 80.0, "paper_mpii")
    write_json(path / "result.json", json.loads((path / "result.json").read_text()) | {"pckh@0.1": 20.0, "pckh@0.11": 25.0})
    frame = accuracy.beside(accuracy.TABLE4, frames.study("table4", "mpii", [0], tmp_path))
    assert [line(frame, "MDW-HRNet-18")[MEASURED, column] for column in accuracy.TABLE4.measured] == [80, 20, 25]
    lite, mobile = line(frame, "Lite-HRNet-18"), line(frame, "MobileNetV2")
    assert (lite[accuracy.PUBLISHED, "PCKh@0.1 as printed"], lite[accuracy.PUBLISHED, "its 0.1 is"]) == (29.5, "0.11")
    assert mobile[accuracy.PUBLISHED, "its 0.1 is"] == "not stated here"


def test_what_is_derived_is_computed_and_no_figure_of_the_article(tmp_path, monkeypatch):
    shown = {table.key: accuracy.beside(table, frames.study(table.study, "coco", [0], tmp_path)) for table in TABLES}
    stated = {table.key: set(shown[table.key][ARTICLE, accuracy.title(table)].dropna()) for table in TABLES}
    assert stated == {"T2": {67.8, 72.9}, "T3": {70.9}, "T4": set()}
    assert line(shown["T2"], "MDW-HRNet-30")[derived.DERIVED, "AP, COCO val"] == "69.4"
    assert line(shown["T3"], "MDW-HRNet-18, 384x288")[derived.DERIVED, "AP, COCO test-dev"] == "69.0"
    assert line(shown["T4"], "MDW-HRNet-18")[derived.DERIVED, "PCKh, MPII val"] == "86.3 or 87.2"
    assert line(shown["T4"], "MDW-HRNet-30")[derived.DERIVED, "PCKh, MPII val"] == "87.4"
    said = derived.listed("T4", "PCKh50", "PCKh@0.5")
    assert "85.4 + 0.9 = 86.3" in said and "87 + 0.2 = 87.2" in said and "These disagree" in said and ", stated" not in said
    frame = pd.read_csv(article.PUBLISHED)
    assert not frame.loc[frame["source"] == article.TEXT, "PCKh50"].notna().any(), "nothing that is derived is typed"
    frame.loc[(frame["model"] == "Lite-HRNet-18") & frame["PCKh50"].eq(85.4), "PCKh50"] = 86.3
    frame.to_csv(tmp_path / "published.csv", index=False)
    monkeypatch.setattr(article, "PUBLISHED", tmp_path / "published.csv")
    assert derived.in_words(derived.figures("T4", "MDW-HRNet-18")) == "87.2" and "disagree" not in derived.listed(
        "T4", "PCKh50", "PCKh@0.5"
    )


def test_the_tables_have_the_networks_that_the_text_names():
    assert {"hrnet_w32", "mobilenetv2", "shufflenetv2", "small_hrnet"} <= {row.model for row in STUDIES["table3"]}
    assert {"mobilenetv2", "mobilenetv3", "shufflenetv2", "small_hrnet"} <= {row.model for row in STUDIES["table4"]}
    assert {str(row.options) for row in STUDIES["table5"]} >= {"{'context': 'se'}", "{'context': 'eca'}"}
    assert {"attention": "constant"} in [row.options for row in STUDIES["table7"]]


PRINTED = """ Average Precision  (AP) @[ IoU=0.50:0.95 | area=   all | maxDets= 20 ] = 0.709
 Average Precision  (AP) @[ IoU=0.50      | area=   all | maxDets= 20 ] = 0.900
 Average Precision  (AP) @[ IoU=0.50:0.95 | area= large | maxDets= 20 ] = 0.800
 Average Recall     (AR) @[ IoU=0.75      | area=   all | maxDets= 20 ] = 0.750
"""


def test_the_servers_scores_are_read_in_two_forms_and_nothing_else(tmp_path):
    file = tmp_path / "scores.txt"
    file.write_text(f"done\n{PRINTED}")
    assert read_scores(file) == {"AP": 0.709, "AP50": 0.9, "APL": 0.8, "AR75": 0.75}
    file.write_text('{"AP": 0.709, "AP50": 0.9, "title": "x"}')
    assert read_scores(file) == {"AP": 0.709, "AP50": 0.9}
    for bad in ("", "AP 70.9", '{"AP": 70.9}', '{"AP": "0.7"}', '{"AP": true}', PRINTED + PRINTED.replace("0.709", "0.710")):
        file.write_text(bad)
        with pytest.raises(MdwError, match="scores.txt"):
            read_scores(file)


def page(name: str, preset: str, root: Path) -> str:
    records = publish.publish([name], preset, {}, root / "runs", root / "reports")
    assert records[0]["status"] == "finished", records[0]["error"]
    text = (root / "reports" / records[0]["notebook"] / "index.html").read_text()
    assert records[0]["headline"] and records[0]["summary"] and "Messages while this ran" not in text
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", re.sub(r"<(svg|style|script)\b.*?</\1>", "", text, flags=re.S)))


def test_page_of_table_2(coco):
    text = page("table2", "coco", coco.parent)
    assert re.search(r"MDW-HRNet-18 256x192 67\.8 – – – – 55\.0 60\.2 1 –", text), text
    assert "not stated, derived: 64.6 + 4.8 = 69.4" in text and "AP, detector of Small HRNet and MobileNetV3" in text
    assert "ahead of Lite-HRNet-18: +10.1 AP with ground-truth boxes, noise over seeds unknown" in text


def test_page_of_table_3(coco):
    text = page("04", "coco", coco.parent)
    assert "MDW-HRNet-30, 384x288 70.9" in text and "61.1 90.0 not run" in text
    assert "the server's scores are in test-dev-scores.json" in text
    assert "The preset demo has no run for this" in page("04", "demo", coco.parent)


def test_page_of_table_4_without_runs(tmp_path):
    text = page("table4", "demo", tmp_path)
    assert "of MDW-HRNet-18, Lite-HRNet-18, Dite-HRNet-18, Wider Naive Lite-HRNet-18, MobileNetV2, MDW-HRNet-30" in text
    assert f"mdw reproduce 05 --preset {ON_PEOPLE} --seeds 0,1,2,3,4" in text and "These are not the table's figures" in text
    assert "No run answers this yet: not run. The table's own PCKh@0.5: not run." in text
