"""A network as an ONNX file, believed only after onnxruntime has given torch's heat maps with it."""

import io
import logging
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from mdw.models.dynamic_conv import DynamicConv, use_static_form
from mdw.util.errors import MdwError
from mdw.util.files import write_bytes

OPSET = 17  # the first with LayerNormalization, which GCM needs; runtimes since 2022 read it
TOLERANCE = 1e-4  # of the largest heat-map value: float32 sums in another order over some hundred layers stay below 1e-5


@dataclass(frozen=True)
class Parity:
    """How far onnxruntime's heat maps lie from torch's: largest absolute difference, and largest value of torch's maps."""

    difference: float
    largest: float

    @property
    def relative(self) -> float:
        """`difference` as a share of `largest`."""
        return self.difference / self.largest if self.largest else float(self.difference > 0)


def export(model: nn.Module, path: str | Path, size: tuple[int, int]) -> Parity:
    """Write `model` to `path` as ONNX (opset 17) and return what the check found.

    `size` is (height, width) of the input, fixed in the file; the batch is free. The file maps "image" (N, 3, H, W), float32
    normalised RGB, to "heatmaps" (N, J, H/4, W/4). Dynamic convolutions are exported in their static form; the model is left
    as it was. The check runs batches of 1 and 3 random pictures, neither being the batch that was traced.
    Raises MdwError where a needed package is missing, the network has no ONNX form, or the heat maps differ by more than
    `TOLERANCE` of their largest value; nothing is written then.
    """
    data = to_onnx(model, size)
    found = compare(model, data, size)
    if not found.relative <= TOLERANCE:  # NaN is not within it either
        raise MdwError(
            f"the exported network differs from torch by {found.difference:.2g} at a largest value of {found.largest:.2g}, "
            f"more than the tolerance {TOLERANCE:g}; {path} is not written, check the weights for values that are not finite"
        )
    write_bytes(path, data)
    return found


def to_onnx(model: nn.Module, size: tuple[int, int]) -> bytes:
    """The ONNX file's bytes, unchecked; otherwise as `export`.

    By the tracing exporter: with torch 2.14 on one core the one built on torch.export took 119 s for mdw_hrnet_18, this one 11,
    for the same values. A network that `torch.jit.trace` has traced before exports in half as much time again, and every trace
    stays in memory until the process ends, 300 MB of it.
    """
    _need("onnx")
    buffer, batch = io.BytesIO(), {0: "batch"}
    with _ready(model) as ready, _quiet():
        picture = torch.zeros(2, 3, *size, device=next(model.parameters()).device)
        try:
            torch.onnx.export(
                ready,
                (picture,),
                buffer,
                input_names=["image"],
                output_names=["heatmaps"],
                dynamic_axes={"image": batch, "heatmaps": batch},
                opset_version=OPSET,
                dynamo=False,
            )
        except MdwError:
            raise
        except (RuntimeError, torch.onnx.OnnxExporterError) as error:
            reason = str(error).strip().splitlines()[0]
            raise MdwError(f"this network has no ONNX form at opset {OPSET} ({reason}); deploy it with torch instead") from None
    return buffer.getvalue()


def compare(model: nn.Module, data: bytes, size: tuple[int, int], batches: tuple[int, ...] = (1, 3)) -> Parity:
    """onnxruntime with the file `data` against torch with `model` in evaluation mode, on random pictures of `size`."""
    runtime = _need("onnxruntime")
    session = runtime.InferenceSession(data, providers=["CPUExecutionProvider"])
    device = next(model.parameters()).device
    generator = torch.Generator().manual_seed(0)
    difference = largest = 0.0
    with _ready(model, static=False) as ready:
        for count in batches:
            pictures = torch.randn(count, 3, *size, generator=generator)
            expected = ready(pictures.to(device)).cpu().numpy()
            found = session.run(None, {"image": pictures.numpy()})[0]
            if found.shape != expected.shape:
                raise MdwError(f"the exported network gives maps {found.shape} where torch gives {expected.shape}; report this")
            if not (np.isfinite(found).all() and np.isfinite(expected).all()):
                return Parity(float("nan"), float("nan"))
            difference = max(difference, float(np.abs(found - expected).max()))
            largest = max(largest, float(np.abs(expected).max()))
    return Parity(difference, largest)


@contextmanager
def _ready(model: nn.Module, static: bool = True):
    """The model in evaluation mode, static form, without gradients; afterwards everything is as before."""
    modes = {module: module.training for module in model.modules()}
    forms = {module: module.static_form for module in model.modules() if isinstance(module, DynamicConv)}
    wanted = [parameter for parameter in model.parameters() if parameter.requires_grad]
    try:
        model.eval().requires_grad_(False)  # torch's converter fails on parameters that want gradients
        with torch.no_grad():
            yield use_static_form(model) if static else model
    finally:
        for module, training in modes.items():
            module.training = training
        for module, form in forms.items():
            module.static_form = form
        for parameter in wanted:
            parameter.requires_grad_(True)


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


def _need(package: str):
    from importlib import import_module

    try:
        return import_module(package)
    except ImportError:
        raise MdwError(f"export needs the package {package}; install it with pip install 'mdw[export]'") from None
