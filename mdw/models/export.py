"""Exports a network as an ONNX file and checks that onnxruntime computes torch's heatmaps with it."""

import copy
import hashlib
import io
import json
import logging
import tempfile
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from mdw.models.dynamic_conv import use_static_form
from mdw.models.fold import fold_norms
from mdw.util.errors import MdwError
from mdw.util.extras import need
from mdw.util.files import write_bytes
from mdw.util.words import unknown

OPSET = 17  # the first with LayerNormalization, which GCM needs; runtimes since 2022 read it
TRACED = 11  # batch size while tracing; a prime, so that it can be recognised in a dimension and made variable
TOLERANCES = {  # relative to the largest heatmap value, by precision
    "fp32": 1e-4,  # float32 sums in another order over some hundred layers stay below 1e-5
    "fp16": 0.05,  # 11 bits, rounded again in each of those layers
    "int8": float("inf"),  # the largest difference does not show the loss of accuracy; use `mdw evaluate --onnx`
}
TOLERANCE = TOLERANCES["fp32"]


@dataclass(frozen=True)
class Parity:
    """The largest absolute difference between onnxruntime's and torch's heatmaps, and the largest value of torch's.

    `nodes`: the number of operators in the file.
    """

    difference: float
    largest: float
    nodes: int = 0

    @property
    def relative(self) -> float:
        """`difference` divided by `largest`."""
        return self.difference / self.largest if self.largest else float(self.difference > 0)


def export(
    model: nn.Module,
    path: str | Path,
    size: tuple[int, int],
    batch: int | None = None,
    precision: str = "fp32",
    crops: np.ndarray | None = None,
) -> Parity:
    """Write `model` to `path` as ONNX (opset 17) and return the result of the check; the model is not changed.

    `size`: (height, width) of the input, fixed in the file; `batch`: fixed, too, if given; None leaves it variable. The file
    maps "image" (N, 3, H, W), float32 normalised RGB, to "heatmaps" (N, J, H/4, W/4), float32 in every precision. Norms are
    folded; dynamic convolutions are sums of static ones, or, for a batch of 1, one convolution whose kernel is mixed first.
    precision: "fp32", "fp16" (weights and maps between layers), or "int8" (convolutions and matrix products, with ranges from
    `crops` (n, 3, H, W), which it needs). The check runs batches of 1 and 3 random images, or the fixed batch.
    Raises MdwError, and writes nothing, where a needed package is missing, the network has no ONNX form, or the heatmaps differ
    by more than `TOLERANCES` allow.
    """
    check(precision, batch)
    data = to_onnx(model, size, batch)
    if precision != "fp32":
        from mdw.models.quantise import to_fp16, to_int8

        data = to_fp16(data) if precision == "fp16" else to_int8(data, crops)
    data = _described(data, {"weights": digest(model), "precision": precision})
    parity = compare(model, data, size, (batch,) if batch else (1, 3))
    if not parity.relative <= TOLERANCES[precision]:  # also for NaN
        raise MdwError(
            f"the exported network differs from torch by {parity.difference:.2g} at a largest value of {parity.largest:.2g}, "
            f"more than the tolerance {TOLERANCES[precision]:g}; {path} is not written, check the weights for values that are "
            "not finite"
        )
    write_bytes(path, data)
    return parity


def check(precision: str, batch: int | None) -> None:
    """Raise MdwError for an unknown precision, for int8 with a fixed batch, and where a package is missing."""
    if precision not in TOLERANCES:
        raise unknown("there is no precision", precision, TOLERANCES, "the precisions are")
    if precision == "int8" and batch:
        raise MdwError("int8 needs kernels that do not depend on the image, which a fixed batch has not; leave --batch out")
    need("export", "onnx", "onnxruntime")


def digest(model: nn.Module) -> str:
    """Returns 16 digits of the SHA-256 of the weights' names and values."""
    state = hashlib.sha256()
    for name, value in model.state_dict().items():
        state.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
    return state.hexdigest()[:16]


def to_onnx(model: nn.Module, size: tuple[int, int], batch: int | None = None) -> bytes:
    """Returns the ONNX file's bytes in float32, unchecked; otherwise as `export`.

    It uses the tracing exporter: with torch 2.14 on one core the exporter of torch.export took 119 s for mdw_hrnet_18, this one
    11 s, for the same values. Every trace stays in memory until the process ends, 300 MB of it. The batch is fixed during
    tracing, so that the file computes no shapes; onnxruntime then folds constants.
    """
    onnx = _module("onnx")
    network = use_static_form(fold_norms(copy.deepcopy(model).eval()))
    network.requires_grad_(False)  # torch's converter fails on parameters with gradients
    buffer, images = io.BytesIO(), torch.zeros(batch or TRACED, 3, *size, device=next(model.parameters()).device)
    names: dict[str, Any] = {"input_names": ["image"], "output_names": ["heatmaps"]}
    with torch.no_grad(), _quiet():
        try:
            torch.onnx.export(network, (images,), cast(Any, buffer), **names, opset_version=OPSET, dynamo=False)
        except (RuntimeError, torch.onnx.OnnxExporterError) as error:
            reason = str(error).strip().splitlines()[0]
            raise MdwError(f"this network has no ONNX form at opset {OPSET} ({reason}); deploy it with torch instead") from None
    folded = onnx.load_from_string(_constants_folded(buffer.getvalue()))
    if batch is None:
        _free_batch(folded)
    return folded.SerializeToString()


def _constants_folded(data: bytes) -> bytes:
    """Returns the file after onnxruntime's basic optimisations, which keep to standard operators."""
    runtime = _module("onnxruntime")
    options = runtime.SessionOptions()
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    with tempfile.TemporaryDirectory() as folder:
        options.optimized_model_filepath = str(Path(folder, "folded.onnx"))
        runtime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        return Path(folder, "folded.onnx").read_bytes()


def _free_batch(file) -> None:
    """Make the batch of `TRACED` images of an onnx.ModelProto variable; in its graph only Reshape and Resize contain it."""
    import onnx

    inferred = onnx.shape_inference.infer_shapes(file).graph
    shapes = {
        value.name: [dimension.dim_value for dimension in value.type.tensor_type.shape.dim]
        for value in (*inferred.value_info, *inferred.input, *inferred.output)
    }
    graph = file.graph
    for node in graph.node:
        output_shape = shapes.get(node.output[0])
        if not output_shape:
            continue
        if node.op_type == "Reshape" and output_shape[0] % TRACED == 0:
            node.input[1] = _constant(graph, np.array([-1, *output_shape[1:]], np.int64))
        elif node.op_type == "Expand" and output_shape[0] % TRACED == 0:  # a 1 there takes any batch
            node.input[1] = _constant(graph, np.array([1, *output_shape[1:]], np.int64))
        elif node.op_type == "Resize" and len(node.input) == 4:  # its output size becomes a factor
            factors = np.array([1, 1, *np.divide(output_shape, shapes[node.input[0]])[2:]], np.float32)
            node.input[:] = [node.input[0], "", _constant(graph, factors)]
    for value in (*graph.input, *graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    del graph.value_info[:]
    input_names = {name for node in graph.node for name in node.input}
    used_constants = [constant for constant in graph.initializer if constant.name in input_names]
    del graph.initializer[:]
    graph.initializer.extend(used_constants)


def _constant(graph, value: np.ndarray) -> str:
    """Returns the name of a constant of this value in the graph, adding it if needed."""
    import onnx

    name = f"{value.dtype}_{'_'.join(map(str, value))}"
    if all(constant.name != name for constant in graph.initializer):
        graph.initializer.append(onnx.numpy_helper.from_array(value, name))
    return name


def _described(data: bytes, about: dict) -> bytes:
    """Returns the file with `about` in its metadata, which `OnnxNetwork.about` reads."""
    import onnx

    file = onnx.load_from_string(data)
    onnx.helper.set_model_props(file, {"mdw": json.dumps(about)})
    return file.SerializeToString()


def compare(model: nn.Module, data: bytes, size: tuple[int, int], batches: tuple[int, ...] = (1, 3)) -> Parity:
    """Compares onnxruntime on the file `data` with torch on `model` in evaluation mode, for random images of `size`."""
    onnx, runtime = _module("onnx"), _module("onnxruntime")
    session = runtime.InferenceSession(data, providers=["CPUExecutionProvider"])
    nodes = len(onnx.load_from_string(data).graph.node)
    network, device = copy.deepcopy(model).eval(), next(model.parameters()).device
    generator = torch.Generator().manual_seed(0)
    difference = largest = 0.0
    for count in batches:
        images = torch.randn(count, 3, *size, generator=generator)
        with torch.no_grad():
            expected = network(images.to(device)).cpu().numpy()
        result = session.run(None, {"image": images.numpy()})[0]
        if result.shape != expected.shape:
            raise MdwError(f"the exported network gives maps {result.shape} where torch gives {expected.shape}; report this")
        if not (np.isfinite(result).all() and np.isfinite(expected).all()):
            return Parity(float("nan"), float("nan"), nodes)
        difference = max(difference, float(np.abs(result - expected).max()))
        largest = max(largest, float(np.abs(expected).max()))
    return Parity(difference, largest, nodes)


@contextmanager
def _quiet():
    """Hides the tracer's warnings about every shape that becomes a constant; `compare` finds wrong ones."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _module(name: str):
    need("export", name)
    return import_module(name)
