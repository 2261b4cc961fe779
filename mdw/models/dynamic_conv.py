"""Depthwise convolutions whose kernel depends on the picture: one bank of kernels, an attention that weights them.

    Y = [sum_i A_i(X) W_i] * X        article, Eq. 6; i = 1..n, W_i a depthwise kernel, A_i one gate per channel or one for all

Every dynamic convolution of the article's Table 7 is this bank with another attention, so an attention is a module
(N, C, H, W) -> (N, n, C) or (N, n, 1).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mdw.errors import MdwError


def mix_kernels(x: Tensor, bank: Tensor, gates: Tensor, stride: int = 1) -> Tensor:
    """Mix one kernel per sample and channel, then convolve once with the batch folded into the channels.

    x (N, C, H, W), bank (n, C, k, k), gates (N, n, C) or (N, n, 1) -> (N, C, H', W'). The multiply-adds are those of one
    convolution plus the mixing.
    """
    batch, channels, height, width = x.shape
    size = bank.shape[-1]
    # one small matrix product per channel, (N, n) x (n, k*k); contiguous operands, or torch multiplies them one by one
    gates = gates.expand(-1, -1, channels).permute(2, 0, 1).contiguous()
    kernels = torch.bmm(gates, bank.flatten(2).transpose(0, 1).contiguous()).transpose(0, 1)  # (N, C, k*k)
    y = F.conv2d(
        x.reshape(1, batch * channels, height, width),
        kernels.reshape(batch * channels, 1, size, size),
        stride=stride,
        padding=(size - 1) // 2,
        groups=batch * channels,
    )
    return y.reshape(batch, channels, *y.shape[-2:])


def sum_of_convolutions(x: Tensor, bank: Tensor, gates: Tensor, stride: int = 1) -> Tensor:
    """The same value from n ordinary depthwise convolutions, weighted afterwards: no weights depend on the sample.

    Equal to `mix_kernels` because a depthwise convolution is linear in its kernel, channel by channel. This is the form to
    export; it costs n times the (small) depthwise multiply-adds.
    """
    n, channels, size, _ = bank.shape
    y = None
    for i in range(n):
        term = F.conv2d(x, bank[i].unsqueeze(1), stride=stride, padding=(size - 1) // 2, groups=channels)
        term = term * gates[:, i].unsqueeze(-1).unsqueeze(-1)
        y = term if y is None else y + term
    return y


class CrossChannelAttention(nn.Module):
    """Eq. 5: sigmoid(Conv2d(Conv1d_K(GAP(X)))), one gate per kernel and channel: (N, C, H, W) -> (N, n, C).

    The pooled vector is a line of C numbers. Conv1d of size K runs along it (ECANet; K is Table 6's hyperparameter), then
    the line is read as a C x 1 image by a 3x3 convolution to n maps (dossier choice 3a). Only the middle column of that 3x3
    kernel ever meets a number, so it is kept as 3x1: the same function with a third of the weights.
    """

    def __init__(self, channels: int, kernels: int = 4, attention_kernel: int = 3):
        super().__init__()
        if attention_kernel % 2 == 0 or attention_kernel < 1:
            raise MdwError(f"attention_kernel is {attention_kernel}; the Conv1d of Eq. 5 needs an odd size: 1, 3, 5, ...")
        self.along_channels = nn.Conv1d(1, 1, attention_kernel, padding=attention_kernel // 2, bias=False)
        self.to_kernels = nn.Conv1d(1, kernels, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        pooled = x.mean((2, 3)).unsqueeze(1)  # (N, 1, C)
        return torch.sigmoid(self.to_kernels(self.along_channels(pooled)))  # (N, n, C)


class ChannelLineAttention(nn.Module):
    """Eq. 5 without its Conv2d (dossier choice 3d): one Conv1d of size K from the pooled line to n gates per channel."""

    def __init__(self, channels: int, kernels: int = 4, attention_kernel: int = 3):
        super().__init__()
        self.along_channels = nn.Conv1d(1, kernels, attention_kernel, padding=attention_kernel // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.along_channels(x.mean((2, 3)).unsqueeze(1)))  # (N, n, C)


class ScalarAttention(nn.Module):
    """Eq. 5 with one gate per kernel (dossier choice 3b): Conv1d of size K along channels, then C -> n; (N, n, 1)."""

    def __init__(self, channels: int, kernels: int = 4, attention_kernel: int = 3):
        super().__init__()
        self.along_channels = nn.Conv1d(1, 1, attention_kernel, padding=attention_kernel // 2, bias=False)
        self.to_kernels = nn.Linear(channels, kernels)

    def forward(self, x: Tensor) -> Tensor:
        pooled = self.along_channels(x.mean((2, 3)).unsqueeze(1)).squeeze(1)  # (N, C)
        return torch.sigmoid(self.to_kernels(pooled)).unsqueeze(-1)


class DynamicDepthwiseConv(nn.Module):
    """A bank of n depthwise kernels weighted by `attention`: (N, C, H, W) -> (N, C, H/stride, W/stride), no bias.

    `static_form` chooses the way it is computed, never the value: False mixes kernels first (faster in training on every
    machine we measured), True sums static convolutions (exports cleanly).
    """

    def __init__(self, channels: int, kernel_size: int, attention: nn.Module, kernels: int = 4, stride: int = 1):
        super().__init__()
        self.out_channels = channels
        self.kernel_size = kernel_size
        self.stride = stride
        self.static_form = False
        self.attention = attention
        self.weight = nn.Parameter(torch.empty(kernels, channels, kernel_size, kernel_size))
        bound = 1 / kernel_size  # torch's own start of a depthwise convolution (fan in k*k), drawn for each kernel separately:
        nn.init.uniform_(self.weight, -bound, bound)  # kernels that start equal would never separate

    def forward(self, x: Tensor) -> Tensor:
        compute = sum_of_convolutions if self.static_form else mix_kernels
        return compute(x, self.weight, self.attention(x), self.stride)

    def extra_repr(self) -> str:
        n, channels, size, _ = self.weight.shape
        return f"{channels}, kernel_size={size}, kernels={n}, stride={self.stride}"


class CrossChannelDynamicConv(DynamicDepthwiseConv):
    """CDC (article, Eq. 5 and 6): depthwise, n kernels, each weighted channel by channel."""

    def __init__(
        self,
        channels: int,
        kernel_size: int = 3,
        stride: int = 1,
        kernels: int = 4,
        attention_kernel: int = 3,
        attention: type[nn.Module] = CrossChannelAttention,
    ):
        super().__init__(channels, kernel_size, attention(channels, kernels, attention_kernel), kernels, stride)


def use_static_form(model: nn.Module, static: bool = True) -> nn.Module:
    """Switch every dynamic convolution of `model` between its two equal forms, in place; returns `model`."""
    for module in model.modules():
        if isinstance(module, DynamicDepthwiseConv):
            module.static_form = static
    return model
