"""Finds where in the network a loss that is not finite began."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from mdw.backends.cpu import plain
from mdw.models.loss import heatmap_loss
from mdw.training.step import Batch


def where_it_began(model: nn.Module, batch: Batch) -> str:
    """Returns `first_not_finite` for the loss of `batch`. A tuned network runs its plain modules here, which call hooks."""
    crops, targets, weights = batch
    return first_not_finite(plain(model), crops, lambda output: heatmap_loss(output, targets, weights))


def first_not_finite(model: nn.Module, crops: Tensor, loss_of: Callable[[Tensor], Tensor]) -> str:
    """Returns a phrase that names the first weight, module output or gradient that is not finite for these `crops`.

    `loss_of` computes the scalar loss of the model's output. Gradients and running statistics change.
    """
    for name, value in model.state_dict().items():
        if not _finite(value):
            return f"the weights were no longer finite, first {name}"
    places: list[str] = []
    hooks = []

    def watch(name: str):
        def forward(module, inputs, output) -> None:
            outputs = [x for x in (output if isinstance(output, list | tuple) else [output]) if isinstance(x, Tensor)]
            if not all(map(_finite, outputs)):
                places.append(f"the output of {name} ({type(module).__name__})")
            for x in outputs:
                if x.requires_grad:
                    x.register_hook(lambda g: None if _finite(g) else places.append(f"the gradient at the output of {name}"))

        return forward

    for name, module in model.named_modules():
        hooks.append(module.register_forward_hook(watch(name or "the network")))
    try:
        loss = loss_of(model(crops))
        if not places and _finite(loss):
            loss.backward()
    finally:
        for hook in hooks:
            hook.remove()
    if places:
        return f"first in {places[0]}"
    return "the network's output was finite, the loss was not" if not _finite(loss) else "it did not happen again"


def _finite(value: Tensor) -> bool:
    return not value.is_floating_point() or bool(torch.isfinite(value).all())
