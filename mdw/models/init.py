"""Initialises kernels by one rule for all networks of a study, so that the comparison does not depend on initialisation.

Every network's own function draws its kernels as its released code does (docs/initialisation.md has the table); `start` keeps
them or draws them again. Norms start at 1 and 0, biases at 0, under every rule.
"""

from math import prod

from torch import Tensor, nn

from mdw.models.dynamic_conv import DynamicConv
from mdw.models.rules import RULES
from mdw.util.errors import MdwError

NORMAL_STD = 0.001  # of HRNet's, Lite-HRNet's and Dite-HRNet's released code
KERNELS = (nn.Conv1d, nn.Conv2d, nn.Linear)


def start(model: nn.Module, rule: str) -> nn.Module:
    """Draws the kernels of `model` by a rule of `RULES` from torch's global random state, in place; returns `model`.

    "mixed" keeps what `create_model` has drawn. "published" draws MDW-HRNet's banks like the static convolutions that they
    replace; Dite-HRNet's banks, which replace none, keep the initialisation of its released code. "scaled" draws every kernel
    so that its output has about the variance of its input (LeCun et al. 1998, section 4.6); the norm after it then divides by
    that variance and not mainly by its eps. Kernels of a bank are drawn separately, each like a static kernel of the same size.
    The heatmap layer is not changed: no norm follows it and its target is nearly 0 everywhere, so it starts at N(0, 0.001)
    under every rule. Raises MdwError for another rule.
    """
    if rule not in RULES:
        raise MdwError(f"init is {rule!r}; use one of {', '.join(map(repr, RULES))}")
    for module in model.modules() if rule != "mixed" else ():
        if module is model.final_layer:
            continue
        if isinstance(module, DynamicConv):
            for kernel in module.bank.detach():
                if rule == "scaled":
                    _scaled(kernel, kernel[0].numel())
                elif not module.released_start:
                    nn.init.normal_(kernel, std=NORMAL_STD)
        elif rule == "scaled" and isinstance(module, KERNELS):
            _scaled(module.weight, module.weight[0].numel(), module.bias)
        elif rule == "scaled" and isinstance(module, nn.ConvTranspose2d):
            # an output pixel is a sum over every stride-th kernel position in each direction and all inputs of its group
            inputs = module.in_channels // module.groups
            _scaled(module.weight, inputs * prod(module.kernel_size) / prod(module.stride), module.bias)
    return model


def _scaled(kernel: Tensor, fan_in: float, bias: Tensor | None = None) -> None:
    nn.init.normal_(kernel, std=fan_in**-0.5)
    if bias is not None:
        nn.init.zeros_(bias)
