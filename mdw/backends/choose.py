"""How a network is computed: `reference`, its modules as torch runs them, or `tuned`, the same values faster.

A network that is only asked can also be computed by ONNX Runtime, `onnx`.

The choice is no part of a run's identity: results agree within rounding. A precision is (`Recipe.precision`). A run keeps the
one it began with, to the bit.
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

if TYPE_CHECKING:  # torch takes seconds, and who only plans needs none
    from torch import Tensor, nn

BACKENDS = ("auto", "reference", "tuned")
FOR_USE = (*BACKENDS, "onnx")
# What "auto" is for a network in use on a CPU, where it is not tuned: the backend that is ahead with one image and with a
# batch in every record of runs/bench. `mdw.report.speed.fastest` reads them, and tests/unit/bench/test_bench.py compares.
FASTEST: dict[str, str] = {"mobilenetv2": "onnx", "hrnet_w32": "onnx"}
NODES = ("nvidiactl", "nvmap", "dxg", "kfd")  # one is in /dev where torch can find a GPU: CUDA, its Jetsons, in WSL, ROCm


def pick_device(asked: str | None = None) -> str:
    """`asked`, else a GPU where there is one. Raises MdwError for one that torch does not have here, or only in name."""
    if asked == "cpu" or (asked is None and sys.platform == "linux" and not any(Path("/dev", node).exists() for node in NODES)):
        return "cpu"
    import torch

    try:
        if asked is not None and (kind := torch.device(asked)).type == "cuda":  # without touching one: others may own it
            count = torch.cuda.device_count()
            if (kind.index or 0) >= count:
                raise RuntimeError(f"torch finds {count} CUDA devices")
        elif asked is not None:
            torch.zeros(1, device=asked).tolist()  # "meta" has no values to give back
    except (RuntimeError, AssertionError, TypeError) as error:
        said = str(error).partition("\n")[0].rstrip(".")
        raise MdwError(f"there is no device {asked!r} here ({said}); give --device cpu or leave it out") from None
    return asked or ("cuda" if torch.cuda.is_available() else "cpu")


def check(asked: str, training: bool = True) -> None:
    """Raise MdwError for a word that `choose` does not take."""
    if asked == "onnx" and training:
        raise MdwError("onnx computes no gradients, so it cannot train; give --backend auto, reference or tuned")
    if asked not in FOR_USE:
        raise unknown("there is no backend", asked, BACKENDS if training else FOR_USE, "the backends are")


def choose(asked: str, device: str, training: bool = True, network: str | None = None) -> str:
    """What `asked` means on `device`: "reference", "tuned" or "onnx"; "auto" takes the second on CPUs where it works.

    `asked` is one of `BACKENDS`, without `training` one of `FOR_USE`. `network`: the name of the one that is used as
    released, for which "auto" takes what is `FASTEST` if it works here. Raises MdwError for another word, and where what is
    asked for by name does not work here.
    """
    check(asked, training)
    kind = device.partition(":")[0]
    if asked == "auto" and not training and kind == "cpu" and network in FASTEST and works(FASTEST[network]):
        asked = FASTEST[network]
    if asked == "onnx":
        from mdw.backends.onnx import check_installed

        check_installed()
        if kind != "cpu":
            raise MdwError(f"the onnx backend is for CPUs, not for {device}; give --device cpu or --backend auto")
        return "onnx"
    on_cpu = kind == "cpu"
    if asked == "tuned" and kind not in ("cpu", "cuda"):
        raise MdwError(f"the tuned backend is for CPUs and CUDA, not for {device}; give --backend auto or reference")
    if asked == "tuned" and not on_cpu:
        return "tuned"  # not by itself: it compiles for a minute or more, and has not been measured yet
    if asked == "tuned":
        compiled()
    return "tuned" if asked != "reference" and on_cpu and available() else "reference"


def released(about: dict) -> str | None:
    """The name of the network that weights are of, by `mdw.models.weights.read_about`; None for a variant of it."""
    return None if about.get("options") else about.get("model")


def works(backend: str) -> bool:
    """Whether `backend` can be used on this machine's CPU."""
    if backend == "onnx":
        from mdw.backends.onnx import NEEDED

        return not missing(*NEEDED)
    return available() if backend == "tuned" else backend == "reference"


def switch(model: "nn.Module", backend: str) -> "nn.Module":
    """`model` itself, from now on computed as `choose` has said."""
    return tune(model) if backend == "tuned" and not _on_gpu(model) else model


def gradients(
    model: "nn.Module", backend: str, precision: Literal["bfloat16", "float32"], processes: int
) -> "Callable[..., Tensor] | None":
    """What stands in for `backward` of the training loop: the recorded step of a GPU, or autocast for bfloat16; or None.

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
    """A network that gives the maps of `model` in evaluation mode.

    It is `model` itself, or a copy with its norms folded, or one that ONNX Runtime computes for images of `size` (width,
    height), which no other needs, from `file` if given. Raises MdwError for a tuned one on a GPU, and as `OnnxNetwork` does.
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
