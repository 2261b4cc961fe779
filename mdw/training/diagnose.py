"""After a loss that is not finite: where in the network it began."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from mdw.backends.cpu import plain
from mdw.models.loss import heatmap_loss
from mdw.training.step import Batch


def where_it_began(model: nn.Module, batch: Batch) -> str:
    """`first_not_finite` of the loss of `batch`; a tuned network is computed by its plain modules, which are all called."""
    crops, targets, weights = batch
    return first_not_finite(plain(model), crops, lambda output: heatmap_loss(output, targets, weights))


def first_not_finite(model: nn.Module, crops: Tensor, loss_of: Callable[[Tensor], Tensor]) -> str:
    """One phrase: the first weight, module output or gradient that is not finite when `crops` go through the model again.

    `loss_of` makes the scalar loss of the model's output. Gradients and running statistics are left changed.
    """
    for name, value in model.state_dict().items():
        if not _finite(value):
            return f"the weights were no longer finite, first {name}"
    found: list[str] = []
    hooks = []

    def look(name: str):
        def forward(module, inputs, output) -> None:
            parts = [part for part in (output if isinstance(output, list | tuple) else [output]) if isinstance(part, Tensor)]
            if not all(map(_finite, parts)):
                found.append(f"the output of {name} ({type(module).__name__})")
            for part in parts:
                if part.requires_grad:
                    part.register_hook(lambda g: None if _finite(g) else found.append(f"the gradient at the output of {name}"))

        return forward

    for name, module in model.named_modules():
        hooks.append(module.register_forward_hook(look(name or "the network")))
    try:
        loss = loss_of(model(crops))
        if not found and _finite(loss):
            loss.backward()
    finally:
        for hook in hooks:
            hook.remove()
    if found:
        return f"first in {found[0]}"
    return "the network's output was finite, the loss was not" if not _finite(loss) else "it did not happen again"


def _finite(value: Tensor) -> bool:
    return not value.is_floating_point() or bool(torch.isfinite(value).all())
