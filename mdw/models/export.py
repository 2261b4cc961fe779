"""A network as an ONNX file, believed only after onnxruntime has given torch's heatmaps with it."""

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
TRACED = 11  # images of the batch that becomes a free one: a prime, so that a dimension shows whether the batch is in it
TOLERANCES = {  # of the largest heat-map value, by precision
    "fp32": 1e-4,  # float32 sums in another order over some hundred layers stay below 1e-5
    "fp16": 0.05,  # 11 bits, rounded anew in each of those layers
    "int8": float("inf"),  # what 8 bits cost is not to be seen in one map's largest difference: `mdw evaluate --onnx`
}
TOLERANCE = TOLERANCES["fp32"]


@dataclass(frozen=True)
class Parity:
    """How far onnxruntime's heatmaps lie from torch's: largest absolute difference, and largest value of torch's maps.

    `nodes`: how many operators the file has.
    """

    difference: float
    largest: float
    nodes: int = 0

    @property
    def relative(self) -> float:
        """`difference` as a share of `largest`."""
        return self.difference / self.largest if self.largest else float(self.difference > 0)


def export(
    model: nn.Module,
    path: str | Path,
    size: tuple[int, int],
    batch: int | None = None,
    precision: str = "fp32",
    crops: np.ndarray | None = None,
) -> Parity:
    """Write `model` to `path` as ONNX (opset 17) and return what the check found; the model is left as it was.

    `size` is (height, width) of the input, fixed in the file, and so is `batch` if it is given; None leaves it free. The file
    maps "image" (N, 3, H, W), float32 normalised RGB, to "heatmaps" (N, J, H/4, W/4), float32, whatever its precision. Norms
    are folded; dynamic convolutions are sums of static ones, or for a batch of 1 one convolution whose kernel is mixed first.
    precision: "fp32", "fp16" (weights and maps between layers), or "int8" (convolutions and matrix products, their ranges
    found on the `crops` (n, 3, H, W), which it needs). The check runs batches of 1 and 3 random images, or the fixed batch.
    Raises MdwError where a needed package is missing, the network has no ONNX form, or the heatmaps differ by more than
    `TOLERANCES` allow; nothing is written then.
    """
    check(precision, batch)
    data = to_onnx(model, size, batch)
    if precision != "fp32":
        from mdw.models.quantise import to_fp16, to_int8

        data = to_fp16(data) if precision == "fp16" else to_int8(data, crops)
    data = _described(data, {"weights": digest(model), "precision": precision})
    parity = compare(model, data, size, (batch,) if batch else (1, 3))
    if not parity.relative <= TOLERANCES[precision]:  # NaN is not within it either
        raise MdwError(
            f"the exported network differs from torch by {parity.difference:.2g} at a largest value of {parity.largest:.2g}, "
            f"more than the tolerance {TOLERANCES[precision]:g}; {path} is not written, check the weights for values that are "
            "not finite"
        )
    write_bytes(path, data)
    return parity


def check(precision: str, batch: int | None) -> None:
    """Raise MdwError for an unknown precision, for one that a fixed batch does not go with, and where a package is missing."""
    if precision not in TOLERANCES:
        raise unknown("there is no precision", precision, TOLERANCES, "the precisions are")
    if precision == "int8" and batch:
        raise MdwError("int8 needs kernels that do not depend on the image, which a fixed batch has not; leave --batch out")
    need("export", "onnx", "onnxruntime")


def digest(model: nn.Module) -> str:
    """What tells weights from other weights: 16 digits of the SHA-256 of their names and values."""
    state = hashlib.sha256()
    for name, value in model.state_dict().items():
        state.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
    return state.hexdigest()[:16]


def to_onnx(model: nn.Module, size: tuple[int, int], batch: int | None = None) -> bytes:
    """The ONNX file's bytes in float32, unchecked; otherwise as `export`.

    By the tracing exporter: with torch 2.14 on one core the one built on torch.export took 119 s for mdw_hrnet_18, this one 11,
    for the same values. A network that `torch.jit.trace` has traced before exports in half as much time again, and every trace
    stays in memory until the process ends, 300 MB of it. The batch is fixed while it is traced, so that no shape is computed
    in the file; onnxruntime then folds what is constant.
    """
    onnx = _module("onnx")
    network = use_static_form(fold_norms(copy.deepcopy(model).eval()))
    network.requires_grad_(False)  # torch's converter fails on parameters that want gradients
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
    """The file after onnxruntime's basic optimisations, which leave nothing but standard operators."""
    runtime = _module("onnxruntime")
    options = runtime.SessionOptions()
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    with tempfile.TemporaryDirectory() as folder:
        options.optimized_model_filepath = str(Path(folder, "folded.onnx"))
        runtime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        return Path(folder, "folded.onnx").read_bytes()


def _free_batch(file) -> None:
    """Let the batch of `TRACED` images of an onnx.ModelProto, in whose graph only Reshape and Resize name it, be any number."""
    import onnx

    inferred = onnx.shape_inference.infer_shapes(file).graph
    shapes = {
        value.name: [dimension.dim_value for dimension in value.type.tensor_type.shape.dim]
        for value in (*inferred.value_info, *inferred.input, *inferred.output)
    }
    graph = file.graph
    for node in graph.node:
        after = shapes.get(node.output[0])
        if not after:
            continue
        if node.op_type == "Reshape" and after[0] % TRACED == 0:
            node.input[1] = _constant(graph, np.array([-1, *after[1:]], np.int64))
        elif node.op_type == "Resize" and len(node.input) == 4:  # the size it gives becomes a factor
            factors = np.array([1, 1, *np.divide(after, shapes[node.input[0]])[2:]], np.float32)
            node.input[:] = [node.input[0], "", _constant(graph, factors)]
    for value in (*graph.input, *graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    del graph.value_info[:]
    used = {name for node in graph.node for name in node.input}
    kept = [constant for constant in graph.initializer if constant.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def _constant(graph, value: np.ndarray) -> str:
    """The name of a constant of this value in the graph, put there unless it is there."""
    import onnx

    name = f"{value.dtype}_{'_'.join(map(str, value))}"
    if all(constant.name != name for constant in graph.initializer):
        graph.initializer.append(onnx.numpy_helper.from_array(value, name))
    return name


def _described(data: bytes, about: dict) -> bytes:
    """The file with `about` in its metadata, which `OnnxNetwork.about` gives back."""
    import onnx

    file = onnx.load_from_string(data)
    onnx.helper.set_model_props(file, {"mdw": json.dumps(about)})
    return file.SerializeToString()


def compare(model: nn.Module, data: bytes, size: tuple[int, int], batches: tuple[int, ...] = (1, 3)) -> Parity:
    """onnxruntime with the file `data` against torch with `model` in evaluation mode, on random images of `size`."""
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
        found = session.run(None, {"image": images.numpy()})[0]
        if found.shape != expected.shape:
            raise MdwError(f"the exported network gives maps {found.shape} where torch gives {expected.shape}; report this")
        if not (np.isfinite(found).all() and np.isfinite(expected).all()):
            return Parity(float("nan"), float("nan"), nodes)
        difference = max(difference, float(np.abs(found - expected).max()))
        largest = max(largest, float(np.abs(expected).max()))
    return Parity(difference, largest, nodes)


@contextmanager
def _quiet():
    """The tracer warns of every shape that becomes a constant; `compare` finds the ones that matter."""
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
