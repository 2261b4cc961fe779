"""Copies a network for inference: norms are folded into the convolutions before them, and the kernels compute it."""

import copy

from torch import nn

from mdw.models.fold import fold_norms


def for_inference(model: nn.Module) -> nn.Module:
    """Returns a tuned copy of `model` in evaluation mode with folded norms; `model` is not changed.

    The heatmaps are the same up to rounding; the parameters differ and cannot be trained. Raises MdwError as `tune` does.
    """
    from mdw.backends.cpu import plain, tune
    from mdw.backends.cpu.units import fuse_units

    folded = fold_norms(plain(copy.deepcopy(model)).eval())
    return fuse_units(tune(folded.requires_grad_(False)))
