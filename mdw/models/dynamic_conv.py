"""Convolutions whose kernel depends on the image: one bank of kernels, an attention that weights them.

    Y = [sum_i A_i(X) W_i] * X        article, Eq. 6; i = 1..n, one gate per output channel or one for all

Every dynamic convolution of the article's Table 7, and Dite-HRNet's, is this bank with another attention, so an attention
is a module (N, C, H, W) -> (N, n, out) or (N, n, 1). The article's own, CDC, is here; the others have a file each.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mdw.util.errors import MdwError


def mix(bank: Tensor, gates: Tensor) -> Tensor:
    """One kernel per sample: bank (n, out, in, k, k), gates (N, n, out) or (N, n, 1) -> (N, out, in, k, k)."""
    if gates.shape[-1] == 1:
        return (gates[..., 0] @ bank.flatten(1)).reshape(-1, *bank.shape[1:])
    # one small matrix product per channel, (N, n) x (n, in*k*k); contiguous operands, or torch multiplies them one by one
    kernels = torch.bmm(gates.permute(2, 0, 1).contiguous(), bank.flatten(2).transpose(0, 1).contiguous())
    return kernels.transpose(0, 1).reshape(-1, *bank.shape[1:])


def convolve_each(x: Tensor, kernels: Tensor, groups: int, **geometry) -> Tensor:
    """Convolve each sample with its own kernel: one convolution with the batch folded into the channels.

    x (N, C, H, W), kernels (N, out, C/groups, k, k) -> (N, out, H', W'); `geometry`: stride, padding, dilation. A compiler
    gets a depthwise one as `sum_of_shifts` instead.
    """
    if torch.compiler.is_dynamo_compiling() and groups == x.shape[1] == kernels.shape[1]:
        return sum_of_shifts(x, kernels, **geometry)
    folded = x.reshape(1, -1, *x.shape[-2:])
    y = F.conv2d(folded, kernels.flatten(0, 1), groups=len(x) * groups, **geometry)
    return y.reshape(len(x), -1, *y.shape[-2:])


def sum_of_shifts(x: Tensor, kernels: Tensor, stride: int = 1, padding: int = 0, dilation: int = 1) -> Tensor:
    """A depthwise convolution as element-wise code: the padded map, shifted by every position of the kernel, times its value.

    x (N, C, H, W), kernels (N, C, 1, k, k), or (C, 1, k, k) for all samples -> (N, C, H', W') of x's type. Compiled it is
    one pass over the map, fused with its neighbours, forward and backward; eager torch would write every product out.
    """
    size = kernels.shape[-1]
    height, width = ((n + 2 * padding - dilation * (size - 1) - 1) // stride + 1 for n in x.shape[-2:])
    padded = F.pad(x, [padding] * 4)
    y: Tensor | None = None
    for i in range(size):
        for j in range(size):
            top, left = i * dilation, j * dilation
            part = padded[..., top : top + stride * (height - 1) + 1 : stride, left : left + stride * (width - 1) + 1 : stride]
            term = part * kernels[..., 0, i, j, None, None]
            y = term if y is None else y + term
    assert y is not None, "a kernel has at least one position"
    return y.to(x.dtype)


def mix_kernels(x: Tensor, bank: Tensor, gates: Tensor, **geometry) -> Tensor:
    """Mix one kernel per sample, then convolve once; the multiply-adds are those of one convolution plus the mixing.

    x (N, C, H, W), bank (n, out, C/groups, k, k), gates (N, n, out) or (N, n, 1) -> (N, out, H', W'). `geometry`: groups,
    stride, padding, dilation.
    """
    return convolve_each(x, mix(bank, gates), **geometry)


def sum_of_convolutions(x: Tensor, bank: Tensor, gates: Tensor, **geometry) -> Tensor:
    """The same value from n ordinary convolutions, weighted afterwards: no weights depend on the sample.

    Equal to `mix_kernels` because a convolution is linear in its kernel, output channel by output channel. This is the form
    to export; it costs n times the multiply-adds. For a single sample it sums the kernels and convolves once.
    """
    if len(x) == 1:
        gates = gates.reshape(len(bank), int(gates.shape[-1]), 1, 1, 1)  # plain numbers: converters want known shapes
        return F.conv2d(x, (bank * gates).sum(0), **geometry)
    y: Tensor | None = None
    for kernel, gate in zip(bank, gates.reshape(len(x), -1, 1, 1).split(int(gates.shape[-1]), 1), strict=True):
        term = F.conv2d(x, kernel, **geometry) * gate
        y = term if y is None else y + term
    assert y is not None, "a bank has at least one kernel"
    return y


class DynamicConv(nn.Module):
    """What dynamic convolutions share: (N, C, H, W) -> (N, out, H', W'), no bias.

    A subclass has `attention`, a module that gives the gates, and `bank`, a tensor (n, out, C/groups, k, k). `static_form`
    chooses the way it is computed, never the value: False mixes kernels first (faster in training
    where we measured it, docs/measurements.md), True sums static convolutions (exports cleanly).
    """

    attention: nn.Module
    released_start = False  # whether `mdw.models.init` finds the bank as released code of its network draws it

    def __init__(self, out_channels: int, kernel_size: int, stride: int, groups: int, padding: int, dilation: int = 1):
        super().__init__()
        self.out_channels = out_channels
        self.kernel_size = kernel_size
        self.geometry = {"groups": groups, "stride": stride, "padding": padding, "dilation": dilation}
        self.static_form = False

    @property
    def bank(self) -> Tensor:
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        compute = sum_of_convolutions if self.static_form else mix_kernels
        return compute(x, self.bank, self.attention(x), **self.geometry)

    def extra_repr(self) -> str:
        kernels, out, fan, size, _ = self.bank.shape
        rest = ", ".join(f"{key}={value}" for key, value in self.geometry.items())
        return f"{fan * self.geometry['groups']}, {out}, kernel_size={size}, kernels={kernels}, {rest}"


def use_static_form(model: nn.Module, static: bool = True) -> nn.Module:
    """Switch every dynamic convolution of `model` between its two equal forms, in place; returns `model`."""
    for module in model.modules():
        if isinstance(module, DynamicConv):
            module.static_form = static
    return model


def set_temperature(model: nn.Module, epoch: float, epochs: float = 10, start: float = 30.0) -> float:
    """Temperature of every softmax attention in `model` for a moment `epoch` (fractions count) of training; returns it.

    Falls linearly from `start` at 0 to 1 at `epochs` and stays there (Chen et al. 2020, section 3.3; ODConv's released
    training). A new model has 1, the value it is evaluated with, so a training that anneals must reach the end.
    """
    temperature = start + (1 - start) * min(max(epoch / epochs, 0.0), 1.0) if epochs > 0 else 1.0
    for module in model.modules():
        held = getattr(module, "temperature", None)
        if isinstance(held, Tensor):
            held.fill_(temperature)  # a tensor, so that a recorded training step reads it anew
    return temperature


class CrossChannelAttention(nn.Module):
    """Eq. 5: sigmoid(Conv2d(Conv1d_K(GAP(X)))), one gate per kernel and channel: (N, C, H, W) -> (N, n, C).

    The pooled vector is a line of C numbers. Conv1d of size K runs along it (ECANet; K is Table 6's hyperparameter), then
    the line is read as a C x 1 image by a 3x3 convolution to n maps (docs/reconstruction.md, 3a). Only the middle column of
    that 3x3 kernel ever meets a number, so it is kept as 3x1: the same function with a third of the weights.
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
    """Eq. 5 without its Conv2d (docs/reconstruction.md, 3d): one Conv1d of size K, n gates per channel."""

    def __init__(self, channels: int, kernels: int = 4, attention_kernel: int = 3):
        super().__init__()
        self.along_channels = nn.Conv1d(1, kernels, attention_kernel, padding=attention_kernel // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.along_channels(x.mean((2, 3)).unsqueeze(1)))  # (N, n, C)


class ScalarAttention(nn.Module):
    """Eq. 5 with one gate per kernel (docs/reconstruction.md, 3b): Conv1d of size K along channels, then C -> n; (N, n, 1)."""

    def __init__(self, channels: int, kernels: int = 4, attention_kernel: int = 3):
        super().__init__()
        self.along_channels = nn.Conv1d(1, 1, attention_kernel, padding=attention_kernel // 2, bias=False)
        self.to_kernels = nn.Linear(channels, kernels)

    def forward(self, x: Tensor) -> Tensor:
        pooled = self.along_channels(x.mean((2, 3)).unsqueeze(1)).squeeze(1)  # (N, C)
        return torch.sigmoid(self.to_kernels(pooled)).unsqueeze(-1)


class ConstantAttention(nn.Module):
    """No attention: every gate is 1/2, where a sigmoid begins, whatever the input: (N, C, H, W) -> (N, n, 1); no parameters.

    What is left of CDC without Eq. 5 is its bank: n kernels drawn and trained apart, used as half of their sum. The gates are
    not learnable: a learned constant times a kernel is another kernel, so the network could compute nothing more with them.
    They would only train its kernels at another pace, and be parameters of the attention that this is meant to be without.
    """

    def __init__(self, channels: int, kernels: int = 4, attention_kernel: int = 3):
        super().__init__()
        self.kernels = kernels

    def forward(self, x: Tensor) -> Tensor:
        return x.new_full((x.shape[0], self.kernels, 1), 0.5)


class DynamicDepthwiseConv(DynamicConv):
    """A bank of n depthwise kernels weighted by `attention`: (N, C, H, W) -> (N, C, H/stride, W/stride), no bias."""

    def __init__(self, channels: int, kernel_size: int, attention: nn.Module, kernels: int = 4, stride: int = 1):
        super().__init__(channels, kernel_size, stride, groups=channels, padding=(kernel_size - 1) // 2)
        self.attention = attention
        self.weight = nn.Parameter(torch.empty(kernels, channels, kernel_size, kernel_size))
        bound = 1 / kernel_size  # torch's own start of a depthwise convolution (fan in k*k), drawn for each kernel separately:
        nn.init.uniform_(self.weight, -bound, bound)  # kernels that start equal would never separate

    @property
    def bank(self) -> Tensor:
        return self.weight.unsqueeze(2)


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
