"""Computes one step: forward, loss, backward. A faster backend replaces `backward` (`mdw.backends.choose.gradients`)."""

from typing import Protocol

from torch import Tensor, nn

from mdw.models.loss import heatmap_loss

Batch = tuple[Tensor, Tensor, Tensor]  # crops (B, 3, H, W), targets (B, J, h, w), weights (B, J), all float32


class Backward(Protocol):
    """Adds `portion` of the loss of `batch` to the gradients of `model` and returns it, a detached scalar."""

    def __call__(self, model: nn.Module, batch: Batch, factor: float, portion: float) -> Tensor: ...


def backward(model: nn.Module, batch: Batch, factor: float, portion: float) -> Tensor:
    """Add `portion` of the loss of `batch` to the gradients and return it. `factor`: as in `heatmap_loss`."""
    crops, targets, weights = batch
    loss = heatmap_loss(model(crops), targets, weights, factor) * portion
    loss.backward()
    return loss.detach()
