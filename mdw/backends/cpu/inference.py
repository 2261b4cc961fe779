"""A copy of a network for inference: every norm folded into the convolution before it, computed by the kernels."""

import copy

from torch import nn

from mdw.models.fold import fold_norms


def for_inference(model: nn.Module) -> nn.Module:
    """A copy of `model` in evaluation mode with its norms folded, tuned where the kernels work; `model` stays as it is.

    It gives the same maps up to rounding, has other parameters, and cannot be trained. Raises MdwError as `tune` does.
    """
    from mdw.backends.cpu import plain, tune
    from mdw.backends.cpu.units import fuse_units

    folded = fold_norms(plain(copy.deepcopy(model)).eval())
    return fuse_units(tune(folded.requires_grad_(False)))
