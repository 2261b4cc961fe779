"""The tuned mode: the same networks, parameters and values, computed faster. The model files do not know of it."""

from torch import nn

from mdw.tuned.modules import REPLACED


def tune(model: nn.Module) -> nn.Module:
    """Switch the modules of `model` that have one to their fast forward passes, in place; returns `model`.

    Parameters, names and results stay (within float32's rounding; tests/test_tuned.py). Raises MdwError where the kernels
    cannot be compiled here.
    """
    from mdw.tuned.library import kernels

    kernels()
    for module in model.modules():
        if type(module) in REPLACED:
            module.__class__ = REPLACED[type(module)]
    return model


def plain(model: nn.Module) -> nn.Module:
    """Undo `tune`, in place; returns `model`."""
    back = {fast: slow for slow, fast in REPLACED.items()}
    for module in model.modules():
        module.__class__ = back.get(type(module), type(module))
    return model
