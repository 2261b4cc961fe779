"""Chooses the backend, by which a network is computed: `reference`, its modules in torch, or `tuned`, the same values faster.

For inference there is also ONNX Runtime, `onnx`. The backend is no part of a run's identity, because results agree within
rounding (a precision, `Recipe.precision`, is). A run keeps the backend it began with, so that it resumes exactly.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mdw.backends.cpu import tune
from mdw.backends.cpu.library import available, compiled
from mdw.util.errors import MdwError
from mdw.util.extras import missing
from mdw.util.words import unknown

if TYPE_CHECKING:  # importing torch takes seconds, and planning does not need it
    from torch import Tensor, nn

BACKENDS = ("auto", "reference", "tuned")
FOR_USE = (*BACKENDS, "onnx")
# The "auto" backend of networks for inference on a CPU, where it is not "tuned": the one that is faster with one image and with
# a batch in every record of runs/bench. `mdw.report.speed.fastest` reads them, and tests/unit/bench/test_bench.py compares.
FASTEST: dict[str, str] = {"mobilenetv2": "onnx", "hrnet_w32": "onnx"}
NODES = ("nvidiactl", "nvmap", "dxg", "kfd")  # one is in /dev where torch can find a GPU: CUDA, its Jetsons, in WSL, ROCm


def pick_device(requested: str | None = None) -> str:
    """Returns `requested`, or by default a GPU where there is one. Raises MdwError for a device that torch cannot use here."""
    if requested == "cpu" or (
        requested is None and sys.platform == "linux" and not any(Path("/dev", node).exists() for node in NODES)
    ):
        return "cpu"
    import torch

    try:
        if (
            requested is not None and (kind := torch.device(requested)).type == "cuda"
        ):  # without using it: it may be reserved for others
            count = torch.cuda.device_count()
            if (kind.index or 0) >= count:
                raise RuntimeError(f"torch finds {count} CUDA devices")
        elif requested is not None:
            torch.zeros(1, device=requested).tolist()  # fails for "meta", which has no values
    except (RuntimeError, AssertionError, TypeError) as error:
        reason = str(error).partition("\n")[0].rstrip(".")
        raise MdwError(f"there is no device {requested!r} here ({reason}); give --device cpu or leave it out") from None
    return requested or ("cuda" if torch.cuda.is_available() else "cpu")


def check(requested: str, training: bool = True) -> None:
    """Raise MdwError for a name that `choose` does not take."""
    if requested == "onnx" and training:
        raise MdwError("onnx computes no gradients, so it cannot train; give --backend auto, reference or tuned")
    if requested not in FOR_USE:
        raise unknown("there is no backend", requested, BACKENDS if training else FOR_USE, "the backends are")


def choose(requested: str, device: str, training: bool = True, network: str | None = None) -> str:
    """Returns the backend for `device`: "reference", "tuned" or "onnx"; "auto" is "tuned" on CPUs where it works.

    `requested`: one of `BACKENDS`, without `training` one of `FOR_USE`. `network`: the name of a network used as released, for
    which "auto" is the one in `FASTEST` if it works here. Raises MdwError for another name, and for a backend that was
    requested by name and does not work here.
    """
    check(requested, training)
    kind = device.partition(":")[0]
    if requested == "auto" and not training and kind == "cpu" and network in FASTEST and works(FASTEST[network]):
        requested = FASTEST[network]
    if requested == "onnx":
        from mdw.backends.onnx import check_installed

        check_installed()
        if kind != "cpu":
            raise MdwError(f"the onnx backend is for CPUs, not for {device}; give --device cpu or --backend auto")
        return "onnx"
    on_cpu = kind == "cpu"
    if requested == "tuned" and kind not in ("cpu", "cuda"):
        raise MdwError(f"the tuned backend is for CPUs and CUDA, not for {device}; give --backend auto or reference")
    if requested == "tuned" and not on_cpu:
        return "tuned"  # not by "auto": it compiles for a minute or more, and has not been measured yet
    if requested == "tuned":
        compiled()
    return "tuned" if requested != "reference" and on_cpu and available() else "reference"


def released(about: dict) -> str | None:
    """Returns the network's name from `mdw.models.weights.read_about`; None for a variant."""
    return None if about.get("options") else about.get("model")


def works(backend: str) -> bool:
    """Returns whether `backend` can be used on this machine's CPU."""
    if backend == "onnx":
        from mdw.backends.onnx import NEEDED

        return not missing(*NEEDED)
    return available() if backend == "tuned" else backend == "reference"


def switch(model: "nn.Module", backend: str) -> "nn.Module":
    """Switches `model` to `backend`, in place, and returns it."""
    return tune(model) if backend == "tuned" and not _on_gpu(model) else model


def gradients(
    model: "nn.Module", backend: str, precision: Literal["bfloat16", "float32"], processes: int
) -> "Callable[..., Tensor] | None":
    """Returns the replacement of the loop's `backward`: the recorded step of a GPU, autocast for bfloat16, or None.

    Raises MdwError for several tuned processes on GPUs.
    """
    from mdw.backends import cuda

    if backend == "tuned" and _on_gpu(model):
        if processes > 1:
            raise MdwError("on GPUs the tuned backend is for one process; start one, or give --backend reference")
        return cuda.Backward(model, cuda.Settings(precision=precision))
    if precision == "float32":
        return None
    return cuda.Backward(model, cuda.Settings(precision, regions="none", graph=False, channels_last=False))


def _on_gpu(model: "nn.Module") -> bool:
    return next(model.parameters()).is_cuda


def for_use(model: "nn.Module", backend: str, size: tuple[int, int] | None = None, file: Path | None = None) -> "nn.Module":
    """Returns a network that computes the heatmaps of `model` in evaluation mode.

    It is `model` itself ("reference"), a copy with folded norms ("tuned"), or ONNX Runtime's for images of `size` (width,
    height), which only "onnx" needs, from `file` if given. Raises MdwError for "tuned" on a GPU, and as `OnnxNetwork` does.
    """
    if backend == "onnx":
        from mdw.backends.onnx import OnnxNetwork

        assert size is not None, "ONNX Runtime computes images of one size"
        return OnnxNetwork(model, (size[1], size[0]), file)
    if backend != "tuned":
        return model.eval()
    if _on_gpu(model):
        raise MdwError("on GPUs the tuned backend is for training alone; give --backend auto or reference")
    from mdw.backends.cpu.inference import for_inference

    return for_inference(model)
