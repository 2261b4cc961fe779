"""What a practitioner would pick beside the shipped networks: the page's part, and the parts of the benchmark that compute."""

from pathlib import Path

import numpy as np
import pytest
import torch
from places import ROOT
from report_helpers import write_practitioner
from torch import nn

from mdw.data.sample import Sample
from mdw.models.weights import list_shipped
from mdw.report import outputs
from mdw.report import runs as frames
from mdw.report.pages import practitioner as page
from mdw.report.pages.people import PeoplePage
from mdw.report.site.provenance import runs_read
from mdw.util.errors import MdwError
from mdw.util.files import read_json, write_json

SCRIPT = ROOT / "benchmarks" / "practitioner.py"


@pytest.fixture
def benchmark(monkeypatch):
    """benchmarks/practitioner.py as a module."""
    monkeypatch.syspath_prepend(SCRIPT.parent)
    import practitioner

    return practitioner


def shown(runs: Path) -> outputs.Output:
    return PeoplePage("lspet_small", [0], runs).practitioner()


def test_each_network_stands_once_at_its_best_and_the_sentence_says_what_it_is_worth(tmp_path, monkeypatch):
    monkeypatch.setenv("MDW_REPORT", str(tmp_path))
    write_practitioner(tmp_path, mdw_hrnet_18=47.9, mdw_hrnet_18_cdc=62.8)
    table = shown(tmp_path).spec
    rows = [[cell["text"] for cell in row] for row in table["rows"]]
    assert [row[0] for row in rows] == ["mdw_hrnet_18_cdc", "BlazePose full", "MoveNet Lightning", "mdw_hrnet_18"]
    assert rows[1] == ["BlazePose full", "other data", "box", "3.7", "61.7", "60.4", "63.1", "80", "7", "12.3"]
    assert "one core, a machine that other work shared." in table["caption"]
    note = table["note"]
    assert (
        "ready, BlazePose full finds most" in note
        and "PCK@0.2 61.7 (60.4 to 63.1); of those that come with mdw, mdw_hrnet" in note
    )
    assert "BlazePose full and MoveNet Lightning were trained on other, much larger data" in note
    assert "Where the detector of BlazePose full finds nobody in the ground-truth box, the landmarks are looked for in" in note
    assert "Without any box BlazePose full reaches 50.2: whom its detector does not find has no joint right." in note
    assert f"mdw ships other weights by now; `{page.COMMAND}` measures them." in note
    assert len((tmp_path / "practitioner.csv").read_text().splitlines()) == 6, "all that was tried"


def test_a_quiet_machine_and_the_shipped_weights_need_no_word(tmp_path):
    path = write_practitioner(tmp_path, shared=False, **dict.fromkeys(list_shipped(), 50.0))
    record, digests = read_json(path), iter(sorted(page.shipped()))
    for row in record["networks"]:
        if "safetensors" in row["source"]:
            row["source"] = f"file.safetensors, SHA-256 {next(digests)}"
    write_json(path, record)
    table = shown(tmp_path).spec
    assert "shared" not in table["caption"] and "by now" not in table["note"]


def test_without_a_record_the_page_says_how_to_make_one(tmp_path):
    said = shown(tmp_path).spec["text"]
    assert said == f"MoveNet and BlazePose on the same persons: not run. `{page.COMMAND}` measures them."
    assert page.COMMAND.split()[1] == SCRIPT.relative_to(ROOT).as_posix() and SCRIPT.exists()


@pytest.mark.parametrize("field", ["pck", "network", "latency_ms", "given"])
def test_a_damaged_record_is_named_and_left_out(tmp_path, field):
    path = write_practitioner(tmp_path)
    record = read_json(path)
    record["networks"][1][field] = None
    write_json(path, record)
    assert f"cpu.json: networks: {field}" in frames.damaged(tmp_path)["practitioner/cpu.json"]
    assert "not run" in shown(tmp_path).spec["text"]


def test_the_committed_record_is_of_all_persons_and_of_the_networks_asked_for():
    found = page.records(ROOT / "runs")
    theirs = {"MoveNet Lightning", "BlazePose lite", "BlazePose full", "BlazePose heavy"}
    assert theirs <= set(found["network"]) and found["ours"].any() and found["persons"].nunique() == 1
    assert found["persons"].iloc[0] > 800 and (found["low"] < found["pck"]).all() and (found["pck"] < found["high"]).all()
    record = {"sources": {"runs": {"practitioner/cpu.json": "0", "run/result.json": "1", "run/env.json": "2"}}}
    assert runs_read(record) == ["run", "practitioner/cpu.json"], "the page's provenance names it"


def test_places_in_a_square_are_where_it_was_cut(benchmark):
    """Also in a turned one: a bright pixel of the image is bright in the crop, and its place there leads back to it."""
    image = np.zeros((80, 100, 3), np.uint8)
    image[29:32, 59:62] = 255  # around x = 60, y = 30
    for angle in (0.0, 0.6, -2.0):
        square = benchmark.Square(55, 35, 40, angle)
        rows, columns = np.nonzero(square.cut(image, 160)[..., 0] > 127)
        middle = np.array([[columns.mean() + 0.5, rows.mean() + 0.5]]) / 160
        assert np.abs(square.out(middle) - [60, 30]).max() < 0.1


def test_a_body_stands_upright_in_its_square(benchmark):
    """The hips are the square's middle, and the rim lies straight above them, within the padding."""
    for rim in ([50, 20], [90, 60], [10, 75]):
        hips = np.array([50.0, 60.0])
        square = benchmark.body(hips, np.array(rim, float))
        assert np.allclose(square.out(np.array([[0.5, 0.5], [0.5, 0.5 - 0.5 / benchmark.PADDING]])), [hips, rim])


def test_whom_the_detector_does_not_find(benchmark):
    """In the whole image nowhere; in a box the landmarks are sought in the box, upright, by no other label."""
    joints = np.zeros((14, 2))
    joints[[2, 3, 8, 9, 13]] = [[48, 60], [52, 60], [44, 40], [56, 40], [50, 30]]
    person = Sample(Path("x"), 1, 7, np.zeros(2), np.ones(2), joints, joints.any(axis=1))
    image, points = np.zeros((100, 100, 3), np.uint8), np.full((39, 5), 128.0)

    def landmarks(crop):
        return [points, None, None, np.full((1, 64, 64, 39), -9.0), None]

    def found(instead):
        way = benchmark.BlazePose(lambda *_: None, landmarks, lambda *_: benchmark.whole(image), instead, [0, 1])
        return way(image, person), way.missed

    assert found(lambda person: None)[0].max() < -1000 and found(lambda person: None)[1] == {7}
    square = benchmark.true_box(person)
    assert np.allclose(found(benchmark.true_box)[0] + 0.5, [square.x, square.y]) and square.angle == 0


def test_a_detection_is_decoded_from_its_anchor(benchmark):
    """The surest box at the anchor of row 3, column 5 of the finest map; another far from it plays no part."""
    found, scores = np.zeros((1, 2254, 12), np.float32), np.full((1, 2254, 1), -9.0, np.float32)
    place = 2 * (3 * 28 + 5)
    found[0, place] = [0, 0, 56, 56, 11.2, 22.4, 11.2, -22.4, 0, 0, 0, 0]
    found[0, 1000] = [0, 0, 20, 20, 0, 0, 0, 0, 0, 0, 0, 0]
    scores[0, place], scores[0, 1000] = 4.0, 1.0
    detector = benchmark.Detector(lambda tensor: [found, scores])
    hips, rim = detector(np.zeros((224, 224, 3), np.uint8), benchmark.Square(112, 112, 224))
    assert np.allclose(hips, [44 + 11.2 - 0.5, 28 + 22.4 - 0.5]) and np.allclose(rim, [44 + 11.2 - 0.5, 28 - 22.4 - 0.5])
    scores[:] = -9
    assert detector(np.zeros((224, 224, 3), np.uint8), benchmark.Square(112, 112, 224)) is None


def test_a_landmark_moves_only_where_its_map_is_sure(benchmark):
    maps = np.full((64, 64, 39), -20.0)
    maps[21, 32, 0], maps[21, 32, 1] = 20.0, -1.0
    moved = benchmark.refined(np.tile([[30.5 / 64, 20.5 / 64]], (39, 1)), maps)
    assert np.allclose(moved[0], [32 / 64, 21 / 64], atol=1e-3) and np.allclose(moved[1], [30.5 / 64, 20.5 / 64])


def test_a_graph_of_tensorflow_js_computes_the_same_as_onnx(benchmark):
    """A strided convolution with bias and ReLU6, a depthwise one, and a resize, by torch with TensorFlow's padding."""
    import base64

    import onnxruntime
    from tfjs import to_onnx

    rng = np.random.default_rng(0)
    kernel, bias, deep = (rng.normal(size=size).astype(np.float16) for size in ((3, 3, 3, 4), (4,), (3, 3, 4, 1)))
    size = np.array([8, 8], np.int32)
    code = lambda text: base64.b64encode(text.encode()).decode()  # noqa: E731
    numbers = lambda *values: {"list": {"i": [str(value) for value in values]}}  # noqa: E731
    same = {"padding": {"s": code("SAME")}}
    nodes = [
        {"name": "x", "op": "Placeholder"},
        {"name": "a", "op": "_FusedConv2D", "input": ["x", "kernel", "bias"],
         "attr": same | {"strides": numbers(1, 2, 2, 1), "fused_ops": {"list": {"s": [code("BiasAdd"), code("Relu6")]}}}},
        {"name": "b", "op": "DepthwiseConv2dNative", "input": ["a", "deep"], "attr": same | {"strides": numbers(1, 1, 1, 1)}},
        {"name": "y", "op": "ResizeBilinear", "input": ["b", "size"], "attr": {"half_pixel_centers": {"b": True}}},
    ]  # fmt: skip
    half = {"quantization": {"dtype": "float16"}, "dtype": "float32"}
    told = {"kernel": kernel, "bias": bias, "deep": deep}
    weights = [{"name": name, "shape": list(value.shape)} | half for name, value in told.items()]
    weights += [{"name": "size", "shape": [2], "dtype": "int32"}]
    side = lambda *sizes: {"dtype": "DT_FLOAT", "tensorShape": {"dim": [{"size": str(size)} for size in sizes]}}  # noqa: E731
    model = {
        "modelTopology": {"node": nodes},
        "weightsManifest": [{"weights": weights}],
        "signature": {"inputs": {"x:0": side(1, 8, 8, 3)}, "outputs": {"y:0": side(1, 8, 8, 4)}},
    }
    content = b"".join(value.tobytes() for value in (*told.values(), size))
    made = onnxruntime.InferenceSession(to_onnx(model, content).SerializeToString(), providers=["CPUExecutionProvider"])
    x = rng.normal(size=(1, 8, 8, 3)).astype(np.float32)
    (found,) = made.run(None, {"x": x})
    kernel, bias, deep = (torch.from_numpy(value.astype(np.float32)) for value in (kernel, bias, deep))
    first = nn.functional.pad(torch.from_numpy(x).permute(0, 3, 1, 2), (0, 1, 0, 1))  # TensorFlow pads at the end first
    first = nn.functional.conv2d(first, kernel.permute(3, 2, 0, 1), bias, stride=2).clamp(0, 6)
    second = nn.functional.conv2d(first, deep.permute(2, 3, 0, 1), padding=1, groups=4)
    wanted = nn.functional.interpolate(second, size=(8, 8), mode="bilinear").permute(0, 2, 3, 1).numpy()
    assert np.abs(found - wanted).max() < 1e-5
    with pytest.raises(MdwError, match="weights take"):
        to_onnx(model, content + b"0")
    nodes[3]["op"] = "Softmax"
    with pytest.raises(MdwError, match="y is the operator Softmax"):
        to_onnx(model, content)


def test_the_benchmark_refuses_without_npm_and_with_another_package(tmp_path, monkeypatch, benchmark):
    """In one sentence, and before anything is measured or written."""
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    monkeypatch.setenv("MDW_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("torch.set_num_threads", lambda threads: None)

    def refused(*options: str) -> str:
        monkeypatch.setattr("sys.argv", ["practitioner.py", "LSPET", "--record", str(tmp_path / "record.json"), *options])
        with pytest.raises(SystemExit) as stopped:
            benchmark.main()
        assert not (tmp_path / "record.json").exists()
        return str(stopped.value)

    sentence = refused()
    assert sentence.startswith("practitioner.py: npm, which fetches @vladmandic/human@") and "install Node.js" in sentence
    (release, integrity) = benchmark.PACKAGES["@vladmandic/human"]
    (tmp_path / "cache" / "practitioner" / f"vladmandic-human-{release}.tgz").write_bytes(b"another")
    assert "has not the checksum that npm's registry publishes of @vladmandic/human" in refused()
    assert "record.json does not exist" in refused("--latency") and integrity.startswith("sha512-")
