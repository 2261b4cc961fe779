"""ONNX files give torch's heatmaps, for every network, with weights and statistics that let a mistake show."""

import copy
import json
import sys

import pytest
import torch
from small_networks import FAMILIES, small
from torch import nn
from typer.testing import CliRunner

from mdw.backends.onnx import OnnxNetwork
from mdw.cli import app
from mdw.models import create_model, list_models
from mdw.models.dynamic_conv import DynamicConv
from mdw.models.export import TOLERANCE, compare, export, to_onnx
from mdw.models.weights import load_network, save_weights, shipped
from mdw.util.errors import MdwError

SIZE = (64, 64)
SLOW = {"mdw_hrnet_30", "lite_hrnet_30", "dite_hrnet_30", "hrnet_w48", "simple_baseline_101", "simple_baseline_152"}
NODES = {"mobilenetv2": 110, "small_hrnet": 300}  # at most
ZOO = [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in list_models()]


def lively(name, make=create_model, **options):
    """Weights of the size of the layer's fan-in and norms with statistics of their own: maps of the order of 1, not 1e-20."""
    torch.manual_seed(0)
    model = make(name, 5, **options)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, (nn.Conv2d, nn.Conv1d, nn.Linear, nn.ConvTranspose2d)):
                nn.init.kaiming_normal_(module.weight)
            if isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(0, 0.2)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 1.0
        model.train()(torch.randn(8, 3, *SIZE))  # statistics of real activations, so that nothing explodes or dies out
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.add_(0.1 * torch.randn_like(module.running_mean))
                # a channel that never moves would have its rounding blown up a thousandfold
                module.running_var.mul_(torch.empty_like(module.running_var).uniform_(0.8, 1.25)).clamp_(min=0.5)
    return model


def rounding(model):
    """How far torch's own float32 maps lie from float64's: deep networks with random weights magnify rounding."""
    model = model.eval()
    images = torch.randn(3, 3, *SIZE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return float((model(images) - copy.deepcopy(model).double()(images.double())).abs().max())


def check(model, record_property):
    found = compare(model, to_onnx(model, SIZE), SIZE)
    record_property("largest absolute difference", found.difference)
    print(f"largest absolute difference {found.difference:.2e}, largest value {found.largest:.2e}, {found.nodes} nodes")
    assert found.largest > 1e-3
    assert found.relative < TOLERANCE or found.difference < 4 * rounding(model)
    return found


@pytest.mark.parametrize("name", ZOO)
def test_every_network_gives_the_same_maps(name, record_property):
    """The families of this field less deep: their other units are the same ones again."""
    model = lively(name, small) if name in FAMILIES else lively(name)
    nodes = check(model, record_property).nodes
    assert nodes <= NODES.get(name, nodes)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "most"), [("mdw_hrnet_18", 3000), ("lite_hrnet_18", 1100), ("dite_hrnet_18", 2800)])
def test_a_whole_network_has_few_operators(name, most, record_property):
    assert check(lively(name), record_property).nodes <= most


def test_for_one_image_each_dynamic_kernel_is_mixed_before_its_one_convolution(tmp_path):
    import onnx
    import onnxruntime

    model = lively("mdw_hrnet_18", small, units=1)
    parity = export(model, tmp_path / "one.onnx", SIZE, batch=1)
    assert parity.relative < TOLERANCE and parity.nodes < compare(model, to_onnx(model, SIZE), SIZE).nodes
    convolutions = sum(node.op_type == "Conv" for node in onnx.load(tmp_path / "one.onnx").graph.node)
    inside = [module for module in model.modules() if isinstance(module, (nn.Conv1d, nn.Conv2d, DynamicConv))]
    assert convolutions == len(inside)
    session = onnxruntime.InferenceSession(tmp_path / "one.onnx", providers=["CPUExecutionProvider"])
    with pytest.raises(Exception, match="invalid dimensions"):
        session.run(None, {"image": torch.zeros(2, 3, *SIZE).numpy()})


@pytest.mark.parametrize(
    "options",
    [*({"dynamic": d} for d in ("condconv", "dynamic", "odconv", "static")), {"attention": "constant", "gate_start": "one"}],
    ids=str,
)
def test_every_dynamic_convolution_exports(options, record_property):
    check(lively("mdw_hrnet_18", small, units=1, **options), record_property)


@pytest.mark.parametrize("context", ["se", "eca", "gc", "psa", "none"])
def test_every_context_module_exports(context, record_property):
    check(lively("mdw_hrnet_18", small, units=1, context=context), record_property)


def test_the_model_is_left_as_it_was_and_another_network_is_noticed():
    model = lively("naive_lite_hrnet_18", small).train()
    data = to_onnx(model, SIZE)
    assert all(module.training for module in model.modules())
    assert all(parameter.requires_grad for parameter in model.parameters())
    with torch.no_grad():
        model.final_layer.weight.mul_(1.001)
    assert compare(model, data, SIZE).relative > TOLERANCE


def test_weights_that_are_not_numbers_leave_no_file(tmp_path):
    model = lively("naive_lite_hrnet_18", small)
    with torch.no_grad():
        model.final_layer.weight.fill_(float("nan"))
    with pytest.raises(MdwError, match="not written"):
        export(model, tmp_path / "a.onnx", SIZE)
    assert not list(tmp_path.iterdir())


def test_the_command_exports_trained_weights_at_their_size(tmp_path):
    torch.manual_seed(0)
    model = create_model("naive_lite_hrnet_18", 14)
    about = {"model": "naive_lite_hrnet_18", "options": {}, "joints": "lsp14", "input_size": [64, 96]}
    save_weights(tmp_path / "weights.safetensors", model, about)
    out = tmp_path / "a.onnx"
    run = CliRunner().invoke(app, ["export", "naive_lite_hrnet_18", str(tmp_path), "-o", str(out), "--json"])
    record = json.loads(run.stdout)
    assert (record["height"], record["width"], record["opset"]) == (96, 64, 17)
    assert compare(model, out.read_bytes(), (96, 64)).relative < TOLERANCE


def test_weights_of_another_network_and_a_wrong_size_are_refused_in_a_sentence(tmp_path):
    assert load_network(shipped())
    for arguments, words in (
        (["lite_hrnet_18", str(shipped())], "not lite_hrnet_18"),
        (["naive_lite_hrnet_18", "--size", "50x50"], "multiple of 32"),
        (["no_such_network"], "there is no model"),
    ):
        run = CliRunner().invoke(app, ["export", *arguments, "-o", str(tmp_path / "a.onnx")])
        assert isinstance(run.exception, MdwError) and words in str(run.exception)
        assert not list(tmp_path.iterdir())


def test_a_network_by_onnx_runtime_is_exported_once(tmp_path, monkeypatch):
    from mdw.backends import choose as backend
    from mdw.models import export

    monkeypatch.setenv("MDW_CACHE", str(tmp_path))
    torch.manual_seed(0)
    model, crops = lively("mobilenetv2").eval(), torch.randn(3, 3, 64, 96)
    with torch.no_grad():
        expected = model(crops)
    fast = backend.for_use(model, backend.choose("onnx", "cpu", training=False), (96, 64))
    assert (fast(crops) - expected).abs().max() < 1e-4 * expected.abs().max()
    monkeypatch.setattr(export, "export", lambda *_: pytest.fail("exported twice"))
    backend.for_use(model, "onnx", (96, 64))(crops[:1])
    with pytest.raises(pytest.fail.Exception):  # other weights are another file
        backend.for_use(create_model("mobilenetv2", 5), "onnx", (96, 64))(crops)


def test_single_images_of_a_dynamic_network_have_a_file_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setenv("MDW_CACHE", str(tmp_path))
    model, crops = lively("mdw_hrnet_18", small, units=1).eval(), torch.randn(3, 3, *SIZE)
    fast = OnnxNetwork(model, SIZE)
    with torch.no_grad():
        expected = model(crops)
    for count in (3, 1):
        assert (fast(crops[:count]) - expected[:count]).abs().max() < 1e-4 * expected.abs().max()
    assert set(fast.sessions) == {None, 1} and len(list(tmp_path.glob("network-*.onnx"))) == 2
    fast.close()
    assert not fast.sessions and (fast(crops) - expected).abs().max() < 1e-4 * expected.abs().max()


def test_what_onnx_runtime_is_not_for(monkeypatch):
    from mdw.backends import choose as backend

    with pytest.raises(MdwError, match="onnx computes no gradients.*auto, reference or tuned"):
        backend.choose("onnx", "cpu")
    with pytest.raises(MdwError, match="onnx backend is for CPUs, not for cuda:0"):
        backend.choose("onnx", "cuda:0", training=False)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MdwError, match="onnxruntime is not installed; install the extra export"):
        backend.choose("onnx", "cpu", training=False)


def test_auto_takes_the_fastest_that_is_known_and_works(monkeypatch):
    from mdw.backends import choose as backend
    from mdw.backends import onnx as onnx_network

    monkeypatch.setattr(backend, "FASTEST", {"mobilenetv2": "onnx"})
    assert backend.choose("auto", "cpu", training=False, network="mobilenetv2") == "onnx"
    assert backend.choose("auto", "cpu", network="mobilenetv2") == backend.choose("auto", "cpu")
    assert backend.choose("auto", "cpu", training=False, network="small_hrnet") == backend.choose("auto", "cpu")
    assert backend.released({"model": "mobilenetv2", "options": {}}) == "mobilenetv2"
    assert backend.released({"model": "mdw_hrnet_18", "options": {"cdc": False}}) is None
    monkeypatch.setattr(onnx_network, "NEEDED", ("onnx", "no_such_package"))
    assert backend.choose("auto", "cpu", training=False, network="mobilenetv2") == backend.choose("auto", "cpu")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A folder like a run's: untrained weights of a small network that knows the synthetic people's joints."""
    folder = tmp_path_factory.mktemp("run")
    about = {"model": "small_hrnet", "options": {}, "joints": "coco17", "input_size": [64, 96]}
    torch.manual_seed(0)
    save_weights(folder / "weights.safetensors", create_model("small_hrnet"), about)
    (folder / "recipe.json").write_text("{}")
    return folder


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_what_a_precision_costs_is_measured_and_recorded(run, tmp_path, precision):
    file = tmp_path / "a.onnx"
    asked = ["export", "small_hrnet", str(run), "-o", str(file), "--precision", precision]
    asked += ["--data", "people", "--persons", "4"] if precision == "int8" else []
    done = CliRunner().invoke(app, [*asked, "--json"])
    assert done.exit_code == 0, done.exception
    record = json.loads(done.stdout)
    assert record["precision"] == precision and record["batch"] == "free" and record["nodes"] > 100
    assert 0 < record["largest_difference"] < 0.2 * record["largest_value"]
    measure = ["evaluate", "--data", "photos", "--split", "all", "--weights", str(run), "--onnx", str(file)]
    done = CliRunner().invoke(app, [*measure, "--record", precision])
    assert done.exit_code == 0, done.exception
    found = json.loads((run / "evaluations" / f"{precision}.json").read_text())["measured"]["ground_truth_boxes"]
    assert {"backend": "onnx", "onnx": "a.onnx", "precision": precision}.items() <= found.items() and found["AP"] >= 0
    other = create_model("small_hrnet")
    with pytest.raises(MdwError, match="not an export of these weights"):
        OnnxNetwork(other, (96, 64), file)


def test_an_export_that_does_not_fit_is_refused(run, tmp_path):
    model, file = load_network(run)[0], tmp_path / "one.onnx"
    export(model, file, (96, 64), batch=1)
    with pytest.raises(MdwError, match="takes batches of 1 alone; export without --batch"):
        OnnxNetwork(model, (96, 64), file)
    with pytest.raises(MdwError, match="takes 96x64, the weights 64x64"):
        OnnxNetwork(model, (64, 64), file)
    file.write_bytes(b"no file of ONNX")
    with pytest.raises(MdwError, match="onnxruntime cannot open .*one.onnx"):
        OnnxNetwork(model, (96, 64), file)
    for arguments, words in (
        (["export", "small_hrnet", "--precision", "int4"], "there is no precision 'int4' (did you mean int8?)"),
        (["export", "small_hrnet", "--precision", "int8"], "--data goes with --precision int8"),
        (["export", "small_hrnet", "--precision", "int8", "--data", "people", "--batch", "1"], "leave --batch out"),
        (["export", "small_hrnet", "--data", "people"], "--data goes with --precision int8"),
        (["evaluate", "--data", "people", "--onnx", str(tmp_path / "none.onnx")], "none.onnx does not exist"),
        (
            ["evaluate", "--data", "people", "--onnx", str(file), "--computation", "tuned"],
            "leave it or --backend tuned out",
        ),
    ):
        done = CliRunner().invoke(app, arguments)
        assert isinstance(done.exception, MdwError) and words in str(done.exception)
