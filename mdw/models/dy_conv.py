"""Dynamic convolution (Chen et al., CVPR 2020): the bank's gates are a softmax, with a high temperature early in training."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mdw.models.dynamic_conv import DynamicDepthwiseConv


class DyConv(DynamicDepthwiseConv):
    """Dynamic convolution (Chen et al. 2020) as a depthwise one: squeeze and excitation, softmax over the kernels."""

    def __init__(self, channels: int, kernel_size: int = 3, stride: int = 1, kernels: int = 4, ratio: int = 4):
        super().__init__(channels, kernel_size, SoftmaxAttention(channels, kernels, ratio), kernels, stride)


class SoftmaxAttention(nn.Module):
    """pool, C -> C/ratio, ReLU, C/ratio -> n, softmax(logits / temperature): (N, C, H, W) -> (N, n, 1), summing to 1."""

    def __init__(self, channels: int, kernels: int, ratio: int = 4):
        super().__init__()
        self.register_buffer("temperature", torch.ones(()), persistent=False)
        self.squeeze = nn.Linear(channels, max(channels // ratio, 1))
        self.to_kernels = nn.Linear(max(channels // ratio, 1), kernels)

    def forward(self, x: Tensor) -> Tensor:
        logits = self.to_kernels(F.relu(self.squeeze(x.mean((2, 3)))))
        return (logits / self.temperature).softmax(1).unsqueeze(-1)
