"""The training loss."""

import torch
from torch import Tensor


def heatmap_loss(output: Tensor, target: Tensor, weight: Tensor, factor: float = 0.5) -> Tensor:
    """Returns factor * mean over batch, joints and pixels of (w (P - T))^2 (HRNet's JointsMSELoss; mmpose has factor 1).

    output, target (N, J, h, w); weight (N, J), 0 where a joint is not labelled. The mean is over all joints, also unlabelled
    ones. The result is a scalar in the precision of `output`, at least float32.
    """
    output = output.to(torch.promote_types(output.dtype, torch.float32))
    return factor * (weight[:, :, None, None] * (output - target)).square().mean()
