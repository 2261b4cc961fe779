"""CondConv (Yang et al., NeurIPS 2019): every kernel of the bank has one sigmoid gate for all channels."""

import torch
from torch import Tensor, nn

from mdw.models.dynamic_conv import DynamicDepthwiseConv


class CondConv(DynamicDepthwiseConv):
    """CondConv (Yang et al. 2019, Eq. 3) as a depthwise convolution: pool, linear, sigmoid; one gate per kernel."""

    def __init__(self, channels: int, kernel_size: int = 3, stride: int = 1, kernels: int = 4):
        super().__init__(channels, kernel_size, RoutingAttention(channels, kernels), kernels, stride)


class RoutingAttention(nn.Module):
    """CondConv's routing function: (N, C, H, W) -> (N, n, 1) in (0, 1)."""

    def __init__(self, channels: int, kernels: int):
        super().__init__()
        self.to_kernels = nn.Linear(channels, kernels)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.to_kernels(x.mean((2, 3)))).unsqueeze(-1)
