"""Are the notebooks narrative plus calls, and does each end well on a handful of runs, with and without results?"""

import ast
import re
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from report_helpers import published, table5_runs, write_run, write_study

from mdw.experiments.studies import FULL, ON_PEOPLE
from mdw.report import DOOR
from mdw.report.site import parameters as params
from mdw.report.site import publish
from mdw.report.site.notebook import run_notebook
from mdw.util.files import read_json, write_json

NOTEBOOKS = publish.find()
NAMES = [path.stem for path in NOTEBOOKS]
SECTIONS = ["What the article claims", "How we test it", "What we found", "What did not reproduce"]


def code_cells(path: Path) -> list:
    return [cell for cell in params.load(path).cells if cell.cell_type == "code"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=NAMES)
def test_a_notebook_is_narrative_plus_calls(path):
    document = params.load(path)
    nbformat.validate(document)
    for cell in code_cells(path):
        assert not cell.outputs and cell.execution_count is None, "commit notebooks without outputs"
        lines = [line for line in cell.source.splitlines() if line.strip()]
        assert len(lines) <= 11 and max(map(len, lines)) <= 128, f"too much code in one cell:\n{cell.source}"
        for node in ast.walk(ast.parse(cell.source)):
            assert not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda), "logic is in mdw/"
            if isinstance(node, ast.Import | ast.ImportFrom):
                assert getattr(node, "module", None) == "mdw.report", "a report calls mdw.report and nothing below it"
                assert {alias.name for alias in node.names} <= DOOR.keys()
    assert not document.metadata.get("widgets") and document.metadata.kernelspec.name == "python3"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=NAMES)
def test_parameters_are_commented_literals_and_nothing_is_derived_beside_them(path):
    tagged = [cell for cell in params.load(path).cells if "parameters" in cell.metadata.get("tags", [])]
    assert len(tagged) == 1
    declared = params.declared(params.load(path))
    assert "preset" in declared and isinstance(declared["preset"].default, str)
    assert all(parameter.help for parameter in declared.values())
    assert len(declared) == len(tagged[0].source.splitlines())


@pytest.mark.parametrize("path", NOTEBOOKS, ids=NAMES)
def test_the_narrative_has_its_four_parts(path):
    text = "\n\n".join(cell.source for cell in params.load(path).cells if cell.cell_type == "markdown")
    assert re.findall(r"^# .+$", text, re.M).__len__() == 1 and text.startswith("# ")
    found = re.findall(r"^## (.+)$", text, re.M)
    assert found == SECTIONS or (path.stem == "13_claims" and found == [*SECTIONS[:2], *SECTIONS[:1:-1]])  # its failures first
    for target in re.findall(r"\(([\w-]+)\.ipynb\)", text):
        assert target in NAMES, f"a link to {target}, which is no notebook"


def test_table5_from_runs(tmp_path):
    table5_runs(tmp_path / "runs")
    text = published("06", tmp_path, seeds=[0, 1])
    # the article's AP, then n, mean, std, interval by the noise of three networks, and seeds of ours
    assert "CDC + GCM (full) 67.8 2 30.1 0.1 29.8 30.4 0, 1" in text
    assert "+ GCM not stated 0 not run" in text and "The same for all: epochs" in text
    values = {"Simple": (40.0, 41.0), "+ CDC": (50.0, 51.0), "+ GCM": (39.0, 40.0), "CDC + GCM (full)": (51.0, 52.0)}
    write_study(tmp_path / "runs", "table5", ON_PEOPLE, values)
    text = published("06", tmp_path, seeds=[0, 1])
    assert re.search(r"Q1 CDC gains, .{31} \(main effect\) holds \+\d+\.\d \+[\d.]+ \+[\d.]+ \S+ \d\.\d", text)
    assert re.search(r"Q2 GCM gains, .{31} \(main effect\) undecided", text) and "(interaction) undecided +" in text
    assert "CDC gains more over the simple network with mixed starts than with equal ones not run" in text
    assert "4 degrees of freedom" in text and "margin 1 PCK@0.2; detectable" in text
    missing = "6 of 14 runs are not finished, of Wider Naive Lite-HRNet-18, SE in GCM_C's place and ECA in GCM_C's place"
    assert f"{missing}; mdw reproduce 06 --preset {ON_PEOPLE} --seeds 0,1" in text
    assert "Finished runs 8 of 14" in text and "one core" in text
    finding = "On LSPET, by PCK@0.2, CDC gains, with and without GCM on average (main effect) (+"
    assert finding in text.partition("Preset")[2][:300]
    assert (tmp_path / "reports" / "06_table5_modules" / "curves.svg").exists()


def test_table5_without_any_run_and_without_torch(tmp_path):
    """A report that only reads runs must not wait for torch; asked of a copy, not of the notebook itself."""
    document = params.load(publish.find(["06"])[0])
    document.cells.append(nbformat.v4.new_code_cell("import sys; print('torch' in sys.modules)"))
    copy = tmp_path / "copy.ipynb"
    nbformat.write(document, copy)
    record = run_notebook(copy, {"preset": "smoke", "runs": str(tmp_path / "runs")}, tmp_path / "out")
    assert record["status"] == "finished", record["error"]
    executed = nbformat.read(tmp_path / "out" / "copy.ipynb", as_version=4)
    assert executed.cells[-1].outputs[0].text == "False\n"
    assert not (tmp_path / "runs").exists()  # it reads, it never trains
    assert not list((tmp_path / "out").glob("curves.*"))


def test_quickstart(tmp_path):
    text = published("00", tmp_path, count=1)
    assert "MDW-HRNet-18 256x192 67.8" in text and "not run" in text
    assert "mdw reproduce 00 --preset smoke --seeds 0 makes them" in text


def test_quickstart_shows_what_a_network_finds(tmp_path):
    """Weights without training are enough to see that images, boxes, joints and skeletons find together."""
    import mdw
    from mdw.models.weights import about, save_weights

    path = write_run(tmp_path / "runs", FULL, 0, 0.25)
    spec = read_json(path / "recipe.json")
    save_weights(path / "weights.safetensors", mdw.create_model(FULL.model), about(spec, "coco17"))
    text = published("00", tmp_path, count=2)
    assert "The network is mdw_hrnet_18 with the joints of coco17" in text and "25.0" in text
    assert "2 synthetic people" in text and "in 2 bundled photos" in text
    page = (tmp_path / "reports" / "00_quickstart" / "index.html").read_text()
    explored = 1 + 3  # the still image, and one person each of the best, the middle and the worst
    assert page.count('src="data:image/webp;base64,') == 3 + explored  # training samples, photos, synthetic people
    assert "2 persons as training sees them" in text


def test_poses_from_the_best_to_the_worst(tmp_path):
    text = published("10", tmp_path, each=1)
    assert (
        "on average over 23 people" in text
        and "Of 23 people, by OKS, a row each of the best, the middle and the worst." in text
    )
    assert re.search(r"1 0*\d+\.jpg \d+ \d+ 0\.\d\d", text) and "annotated" in text
    assert re.search(r"Of \d+ joints that are wrong, \d+ lie where the joint of the other side is", text)
    rows = pd.read_csv(tmp_path / "reports" / "10_fig6_qualitative" / "people.csv")
    assert len(rows) == 23 and rows["OKS"].is_monotonic_decreasing


def bench_record(path: Path, **figures: dict) -> None:
    """A record of `mdw bench`; figures: network__mode -> training images/s and latency in ms."""
    rows = []
    for key, (train, latency) in figures.items():
        model, _, mode = key.partition("__")
        told = {"train_images_per_s": train, "step_images_per_s": train, "infer_images_per_s": 3 * train, "latency_ms": latency}
        told |= {f"{name}_calls": 5 for name in list(told)} | {"loader_share": 0.04, "launches": 1234, "peak_memory_mib": 567.0}
        told["first_calls_s"] = 7.25
        if mode == "onnx":
            told = {name: told[name] for name in ("infer_images_per_s", "latency_ms")}
        else:
            told |= {"operators": [{"name": f"aten::of_{mode}", "calls": 7, "ms": 8.5, "share": 0.25}]}
        if mode == "tuned":
            told["processes"] = {"threads": 2, "apart_images_per_s": 1.25 * train, "together_images_per_s": train}
        bounds = {"copy_gb_per_s": 9.0, "memory_train_images_per_s": 100.0, "memory_share_train": train / 100}
        told |= {"bounds": bounds | {"arithmetic_train_images_per_s": 80.0}}
        place = {"hardware": "one core", "commit": "0123456789", "started": "2026-01-01T00:00:00+00:00", "torch_threads": 2}
        about = {"model": model, "mode": mode, "size": "256x192", "batch": 32, "device": "cpu", "environment": place}
        rows.append(about | told)
    write_json(path, rows)


def test_speed_from_records(tmp_path):
    path = write_run(tmp_path / "runs", FULL, 0, 0.25)
    bench_record(
        tmp_path / "runs" / "bench" / "cpu.json",
        mdw_hrnet_18__reference=(8.0, 150.0),
        mdw_hrnet_18__tuned=(40.0, 30.0),
        dite_hrnet_18__reference=(10.0, 110.0),
        lite_hrnet_18__reference=(10.0, 45.0),
        lite_hrnet_18__onnx=(37.0, 20.0),
    )
    text = published("12", tmp_path)
    assert text.index("lite_hrnet_18 by onnx is the fastest of 3 networks for one image") < text.index("Few multiply-adds")
    assert "20.0 ms at 256x192 on one core, 2 threads. In batches mdw_hrnet_18 by tuned is the fastest, 120 images/s." in text
    assert "mdw_hrnet_18 256x192 32 cpu 8.0 24.0 150.0 40.0 120.0 30.0 not measured not measured 5.0 5.0 5.0" in text
    assert "lite_hrnet_18 256x192 20.0 onnx 111.0 onnx onnx mdw_hrnet_18 256x192 30.0 tuned 120.0 tuned tuned" in text
    assert "mdw_hrnet_18 at 256x192 trains 50.0 images/s in 2 processes of one thread, 40.0 in one of 2 threads." in text
    assert "2 times as many images a second as Dite-HRNet-18 by reference holds 4.00 times" in text
    assert "answers one image at 256x192 2 times as fast as Lite-HRNet-18 by reference contradicted 1.50 times" in text
    assert "trains at 128x96 5 times as many images a second as by reference not run" in text
    assert "mdw_hrnet_18 256x192 30.0 tuned 25.0 1 AP" in text and "4.0% 7.2 100" in text, path
    assert "dite_hrnet_18 256x192 110.0 reference not run" in text
    assert "aten::of_tuned 7 8 25.0%" in text and "40%" in text
    assert "Not run: 1 of 4" in text
    index = (tmp_path / "reports" / "index.html").read_text()
    assert "2 of 3 measured goals of speed are reached" in index and "lite_hrnet_18 by onnx is the fastest" in index


def test_speed_without_a_record(tmp_path):
    text = published("12", tmp_path)
    assert "Nothing has been measured" in text and "Not run: 4 of 4" in text
    assert "Which network is fastest, and by which backend: not run." in text
    assert "Training and inference speed: not run." in (tmp_path / "reports" / "index.html").read_text()


@pytest.mark.slow
def test_claims(tmp_path):
    table5_runs(tmp_path / "runs")
    text = published("13", tmp_path)
    assert "MDW-HRNet-18 gains 3.2 AP over MobileNetV2 not run –" in text
    assert "Under other conditions, of" in (tmp_path / "reports" / "index.html").read_text()
    assert "t5-both" in (tmp_path / "reports" / "13_claims" / "claims.csv").read_text()


@pytest.mark.slow
def test_architecture(tmp_path):
    text = published("01", tmp_path)
    assert "Formula and count agree to the last unit for all 3 weightings" in text
    assert "4 4 8x6 320 MDW module C 3, 5, 7 2 2" in text
    assert "None of the 1 variants measured here leaves the window." in text


@pytest.mark.slow
def test_complexity(tmp_path):
    text = published("02", tmp_path)
    assert re.search(r"mdw_hrnet_18 256x192 1\.09–1\.13 \d+ 1\.1\d\d 19\d\.\d 19\d\.\d", text), text
    assert "inside the window of the article's percentages" in text
    assert "Lite-HRNet-18 256x192 1.1 0.2052" in text
