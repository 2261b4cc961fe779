"""The tuned backend: computes the same networks, parameters and values faster. The model files do not depend on it."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # a plan checks for the kernels' library without torch
    from torch import nn


def tune(model: "nn.Module") -> "nn.Module":
    """Switch `model` to its fast form for the device it is on, in place; returns `model`.

    On a CPU modules get fast forward passes where there are any, and the process keeps the memory it has used. On a GPU the
    repeated parts are compiled at their first call; the caller chooses precision, layout and recorded steps
    (`mdw.backends.cuda`). Parameters and names stay; results agree within float32's rounding (tests/unit/backends/test_cpu.py).
    Raises MdwError where the kernels cannot be compiled here.
    """
    from mdw.backends import cuda
    from mdw.backends.cpu.library import keep_memory, kernels
    from mdw.backends.cpu.modules import REPLACED

    if any(parameter.is_cuda for parameter in model.parameters()):
        return cuda.tune(model, cuda.Settings())

    kernels()
    keep_memory()
    for module in model.modules():
        if type(module) in REPLACED:
            module.__class__ = REPLACED[type(module)]
    return model


def plain(model: "nn.Module") -> "nn.Module":
    """Undo `tune`, in place; returns `model`."""
    from mdw.backends import cuda
    from mdw.backends.cpu.modules import REPLACED

    back = {fast: slow for slow, fast in REPLACED.items()}
    for module in cuda.plain(model).modules():
        module.__class__ = back.get(type(module), type(module))
    return model
