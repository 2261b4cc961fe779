"""The pages that compare rows of a study, on a handful of runs written by hand: what they say, and that nothing is made up."""

import re

import numpy as np
import pandas as pd
import pytest
from report_helpers import published, write_run, write_study

from mdw.experiments.studies import FROM_ONE, ON_PEOPLE, STUDIES
from mdw.report import outputs, plots, speed, stats
from mdw.report import runs as frames
from mdw.report.claims import words as claims
from mdw.report.pages import fig5, people
from mdw.report.pages.people import PeoplePage
from mdw.util.files import write_json

NETWORKS = {"MDW-HRNet-18": (48.0, 49.0), "Lite-HRNet-18": (38.0, 38.5), "MobileNetV2": (30.0,)}


def test_lspet_page_says_first_what_is_contradicted(tmp_path):
    runs = tmp_path / "runs"
    write_study(runs, "lspet", "lspet_small_mixed", NETWORKS | {"Dite-HRNet-18": (48.5, 48.6)})
    write_study(runs, "lspet_variants", "lspet_small_mixed", {FROM_ONE.label: (38.0, 38.5)})
    for row, value in zip(STUDIES["lspet_search"], (10.0, 12.5, 11.0, 9.5, 9.0), strict=False):
        write_run(runs, row, 0, value, "lspet_search_mixed")
    bench = {"mode": "reference", "size": "256x192", "batch": 32, "device": "cpu", "bounds": {}}
    place = {"hardware": "one core", "commit": "0123456789", "started": "2026-01-01T00:00:00+00:00", "torch_threads": 2}
    times = {"mdw_hrnet_18": 120.0, "mobilenetv2": 30.0}
    ablation = {"model": "mdw_hrnet_18", "options": STUDIES["table5"][1].options, "latency_ms": 77.0}
    told = [{"model": m, "latency_ms": t, "environment": place} for m, t in times.items()]
    told += [ablation | {"environment": place | {"started": "2026-01-02T00:00:00+00:00"}}]
    told += [{"model": "mdw_hrnet_18", "device": "cuda", "latency_ms": 3.0, "environment": place}]
    write_json(runs / "bench" / "a.json", [bench | row for row in told])
    text = published("11", tmp_path)
    assert text.index("Contradicted (0 of 18): nothing") < text.index("Holds (2 of 18): Q3 MDW-HRNet-18 is ahead of Lite-HRNet")
    assert text.index("Undecided (1 of 18): Q4 MDW-HRNet-18 is ahead of Dite-HRNet-18, −") < text.index("On COCO and MPII,")
    assert re.search(r"C2 MDW-HRNet-18 is ahead of MobileNetV2, \+\d+\.\d PCK@0.2 \(adjusted interval \+[\d.]+ to", text), text
    assert "Not run (15 of 18): Q0, Q1, Q2, Q1x2, Q5a" in text and "agree at PCK@0.2 of about 76" in text
    assert "3 degrees of freedom. MobileNetV2 has one seed and borrow" in text, "one variance, of three networks with two seeds"
    missed = text.split("stands here.")[1].split("Provenance")[0]
    assert "Dite" not in missed and "1 undecided and 15 not run: these neither failed nor held" in missed
    article = text.split("The networks on LSPET by one recipe")[1].split("Published:")[0]
    assert "MDW-HRNet-18 1.155 192.9 67.8 – – 2" in article and "Lite-HRNet-18 1.131 198.6 not stated 64.8 github" in article
    assert "counted article published by others measured" in article
    assert "MDW-HRNet-18 0.002 2 held-out finished 12.5 – – yes" in text, text
    assert "Lite-HRNet-18 0.001 2 held-out finished 9.0 – – 0123456789" in text
    assert "MDW-HRNet-18 128x96 256x192 120.0" in text and "+ CDC 128x96 256x192 77.0" in text
    assert len(speed.records(runs)) == 3 and "(full) 128x96 256x192" not in text, "a network once, under its own name"
    assert "with gates that begin at one reaches 43.2 (2 seeds), −8.1 PCK@0.2 (adjusted interval −" in text
    assert "against gates that begin at one half: contradicted." in text
    assert "gates that begin at one gain over gates that begin at one half contradicted −8.1" in text
    assert f"{FROM_ONE.label} 2 43.2" in text and "gates that begin at one gain over none not run – – –" in text
    assert "sees 16 samples; the article's, 240 epochs of COCO's 149,813 persons, sees 2,247,195 times as many" in text
    accuracy = {row["", "network"]: row for row in speed.beside_accuracy(speed.records(runs), runs).to_dict("records")}
    known = stats.intervals(frames.study("lspet", "lspet_small_mixed", [0, 1], runs)).set_index("label")["mean"]
    for name, label, seeds in (("mdw_hrnet_18", "MDW-HRNet-18", 2), ("mobilenetv2", "MobileNetV2", 1)):
        assert accuracy[name][outputs.MEASURED, "accuracy"] == pytest.approx(known[label])
        assert accuracy[name][outputs.MEASURED, "seeds"] == seeds
    for name in ("networks", "effects", "curves", "latency_points"):
        assert (tmp_path / "reports" / "11_lspet" / f"{name}.svg").exists()


def test_lspet_without_a_run(tmp_path):
    text = published("11", tmp_path)
    assert "Undecided (0 of 18): nothing" in text and "Not run (18 of 18): Q0," in text
    assert "MobileNetV2 9.570 1565.0 not stated 64.6" in text and "0 not run" in text
    assert "times as many" not in text
    assert "The study on real people: not run." in (tmp_path / "reports" / "index.html").read_text()


@pytest.mark.parametrize(("name", "study", "row"), [("07", "table6", "K = 5"), ("08", "table7", "ODConv")])
def test_tables_6_and_7(tmp_path, name, study, row):
    first = {"table6": "K = 3", "table7": "CDC"}[study]
    write_study(tmp_path / "runs", study, "demo", {first: (10.0, 11.0), row: (20.0, 21.0)})
    write_study(tmp_path / "runs", study, ON_PEOPLE, {first: (40.0, 41.0), row: (30.0, 31.0)})
    synthetic = frames.study(study, "demo", [0, 1], tmp_path / "runs")["value"].dropna()
    text = published(name, tmp_path, preset="demo", seeds=[0, 1])
    assert re.search(
        rf"{first} is ahead of {row}: \+\d+\.\d PCK@0.2 \(adjusted interval [+−][\d.]+ to \+[\d.]+; detectable", text
    )
    assert "These have not been run (3 of 4)" in text and f"are of the runs of {ON_PEOPLE} : PCK@0.2 on LSPET." in text
    assert "2 degrees of freedom" in text and f"{first} 1.155 192.9" in text  # counted
    own = stats.intervals(frames.study(study, ON_PEOPLE, [0, 1], tmp_path / "runs")).dropna(subset=["mean"])
    assert len(own) == 2 and all(f" 2 {mean:.1f} " in text for mean in own["mean"]), "the table shows the study's runs"
    assert not any(f" {value:.1f} " in text for value in synthetic), "and no figure of synthetic people"


def test_fig5_keeps_metrics_apart(tmp_path):
    write_study(tmp_path / "runs", "table2", "demo", {"MobileNetV2": (30.0, 31.0)}, people=20)
    study = fig5.study("demo", [0, 1], tmp_path / "runs")
    points = fig5.points(study)
    ours, theirs = points[points["origin"] == "measured"], points[points["origin"] == "published"]
    assert len(ours) == 2 and ours[fig5.ARTICLES].isna().all() and theirs["PCK@0.2, synthetic people"].isna().all()
    assert theirs.set_index("label")[fig5.ARTICLES]["MDW-HRNet-18"] == 67.8
    for x, y in fig5.panels(points):
        assert points.dropna(subset=[x, y])["origin"].nunique() == 1, "only the same metric on the same data shares an axis"
    on_coco = pd.DataFrame([{"metric": "AP", "data": "coco", "boxes": "detector"}])
    assert fig5.accuracy(on_coco) == fig5.ARTICLES != fig5.accuracy(on_coco.assign(boxes="ground truth"))
    write_study(tmp_path / "runs", "table2", "lspet_small", {"MobileNetV2": (50.0, 51.0)})
    people = fig5.study("lspet_small", [0], tmp_path / "runs")
    both = fig5.points(people)
    assert both["PCK@0.2, LSPET"].dropna().tolist() == people["value"].dropna().tolist() and len(both) == len(theirs) + 1
    edge = pd.DataFrame({"label": list("abc"), "x": [1, 2, 3], "y": [5, 4, 6]})
    assert fig5.not_beaten(edge, "x", "y") == ["a", "c"]


def test_a_rate_is_best_only_where_all_were_tried(tmp_path):
    for row, value in zip(STUDIES["lspet_search"], (10.0, 12.5, 11.0, 9.0), strict=False):
        write_run(tmp_path, row, 0, value, "lspet_search_mixed")
    found = people.search(tmp_path)
    assert len(found) == len(STUDIES["lspet_search"]) and found["best"].eq("yes").tolist().index(True) == 1
    assert found["best"].eq("yes").sum() == 1 and found["value"].notna().sum() == 4
    assert "largest that was tried" not in people.rates(found)
    write_run(tmp_path, STUDIES["lspet_search"][3], 0, 20.0, "lspet_search_mixed")
    assert "The best of MDW-HRNet-18 is the largest that was tried" in people.rates(people.search(tmp_path))
    write_run(tmp_path, STUDIES["quickstart"][0], 0, 60.0, "lspet_hour_mixed")  # is shown, and chooses nothing
    found = people.search(tmp_path)
    assert found["measured on"].tolist()[-2:] == ["held-out", "val"] and found["best"].eq("yes").tolist().index(True) == 3


def test_names_cover_neither_names_nor_points():
    fig, ax = plots.new()
    spots = [(1.0, 1.0), (1.02, 1.01), (1.01, 1.05), (1.3, 1.0), (1.05, 1.2)]
    for x, y in spots:
        ax.plot(x, y, "o")
    names = [ax.annotate("Some-HRNet-18", spot, xytext=(7, 3), textcoords="offset points") for spot in spots]
    plots.around(ax, names, spots)
    boxes = [name.get_window_extent() for name in names]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    assert not any(box.contains(*place) for box in boxes for place in ax.transData.transform(np.array(spots)))


def test_charts_say_what_is_not_known(tmp_path):
    write_study(tmp_path, "lspet", "lspet_small_mixed", NETWORKS, people=30)
    study = frames.study("lspet", "lspet_small_mixed", [0, 1], tmp_path)
    fig, (left, right) = plots.columns(2, 6.4, 3.6)
    plots.networks(left, stats.intervals(study), study, "PCK", marks=[(76.0, "two labellers")])
    plots.answers(right, claims.of(PeoplePage("lspet_small_mixed", [0, 1], tmp_path).tested, "Q3", "Q4", "C2"), "PCK")
    said = [text.get_text() for text in left.texts]
    assert said.count("not run") == 2 and "two labellers" in said
    said = [text.get_text() for text in right.texts]
    assert [text.split()[-1] for text in said] == ["undecided", "run", "undecided"] and said[0].startswith("+")


def test_no_two_networks_look_alike_on_the_site():
    names = {row.label: (row.model, str(row.options)) for rows in STUDIES.values() for row in rows if not row.changes}
    looks: dict[tuple, set] = {}
    for label, network in names.items():
        looks.setdefault(plots.look(label), set()).add(network)
    assert all(len(networks) == 1 for networks in looks.values()), looks
    assert plots.look("CDC + GCM (full)") == plots.look("K = 3") == plots.look("CDC") == plots.look("MDW-HRNet-18")
    for study in ("lspet", "table5", "table6", "table7"):
        colours = [plots.look(row.label)[0] for row in STUDIES[study]]
        assert len(set(colours)) == len(colours), f"two rows of {study} share a colour"
    assert plots.look("MDW-HRNet-30, 384x288") == plots.look("MDW-HRNet-30") == plots.look("MDW-HRNet-30 (derived)")
