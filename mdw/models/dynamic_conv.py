"""Dynamic convolutions: the kernel depends on the image; an attention weights the kernels of a bank.

    Y = [sum_i A_i(X) W_i] * X        article, Eq. 6; i = 1..n, one gate per output channel or one for all

Every dynamic convolution of the article's Table 7, and Dite-HRNet's, is this bank with a different attention, a module
(N, C, H, W) -> (N, n, out) or (N, n, 1). The article's own, CDC, is in this file; the others have a file each.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mdw.util.errors import MdwError


def mix(bank: Tensor, gates: Tensor) -> Tensor:
    """Mixes one kernel per sample: bank (n, out, in, k, k), gates (N, n, out) or (N, n, 1) -> (N, out, in, k, k)."""
    if gates.shape[-1] == 1:
        return (gates[..., 0] @ bank.flatten(1)).reshape(-1, *bank.shape[1:])
    # one small matrix product per channel, (N, n) x (n, in*k*k); contiguous operands, or torch multiplies them one by one
    kernels = torch.bmm(gates.permute(2, 0, 1).contiguous(), bank.flatten(2).transpose(0, 1).contiguous())
    return kernels.transpose(0, 1).reshape(-1, *bank.shape[1:])


def convolve_each(x: Tensor, kernels: Tensor, groups: int, **geometry) -> Tensor:
    """Convolves each sample with its own kernel, as one convolution with the batch folded into the channels.

    x (N, C, H, W), kernels (N, out, C/groups, k, k) -> (N, out, H', W'); `geometry`: stride, padding, dilation. A compiler
    gets a depthwise convolution as `sum_of_shifts` instead.
    """
    if torch.compiler.is_dynamo_compiling() and groups == x.shape[1] == kernels.shape[1]:
        return sum_of_shifts(x, kernels, **geometry)
    folded = x.reshape(1, -1, *x.shape[-2:])
    y = F.conv2d(folded, kernels.flatten(0, 1), groups=len(x) * groups, **geometry)
    return y.reshape(len(x), -1, *y.shape[-2:])


def sum_of_shifts(x: Tensor, kernels: Tensor, stride: int = 1, padding: int = 0, dilation: int = 1) -> Tensor:
    """Computes a depthwise convolution element-wise: the padded map, shifted to each kernel position, times its weight.

    x (N, C, H, W), kernels (N, C, 1, k, k), or (C, 1, k, k) for all samples -> (N, C, H', W') of x's type. Compiled, it is one
    pass over the map, fused with its neighbours, forward and backward; eager torch would write every product to memory.
    """
    size = kernels.shape[-1]
    height, width = ((n + 2 * padding - dilation * (size - 1) - 1) // stride + 1 for n in x.shape[-2:])
    padded = F.pad(x, [padding] * 4)
    y: Tensor | None = None
    for i in range(size):
        for j in range(size):
            top, left = i * dilation, j * dilation
            shifted = padded[
                ..., top : top + stride * (height - 1) + 1 : stride, left : left + stride * (width - 1) + 1 : stride
            ]
            term = shifted * kernels[..., 0, i, j, None, None]
            y = term if y is None else y + term
    assert y is not None, "a kernel has at least one position"
    return y.to(x.dtype)


def mix_kernels(x: Tensor, bank: Tensor, gates: Tensor, **geometry) -> Tensor:
    """Mixes one kernel per sample, then convolves once; its multiply-adds are those of one convolution and the mixing.

    x (N, C, H, W), bank (n, out, C/groups, k, k), gates (N, n, out) or (N, n, 1) -> (N, out, H', W'). `geometry`: groups,
    stride, padding, dilation.
    """
    return convolve_each(x, mix(bank, gates), **geometry)


def sum_of_convolutions(x: Tensor, bank: Tensor, gates: Tensor, **geometry) -> Tensor:
    """Computes the value of `mix_kernels` as a weighted sum of n static convolutions; no kernel depends on the sample.

    Both are equal because a convolution is linear in its kernel, for each output channel. This form is for export; it has n
    times the multiply-adds. For a single sample it sums the kernels and convolves once.
    """
    if len(x) == 1:
        gates = gates.reshape(len(bank), int(gates.shape[-1]), 1, 1, 1)  # plain numbers: converters need known shapes
        return F.conv2d(x, (bank * gates).sum(0), **geometry)
    y: Tensor | None = None
    for kernel, gate in zip(bank, gates.reshape(len(x), -1, 1, 1).split(int(gates.shape[-1]), 1), strict=True):
        term = F.conv2d(x, kernel, **geometry) * gate
        y = term if y is None else y + term
    assert y is not None, "a bank has at least one kernel"
    return y


class DynamicConv(nn.Module):
    """Base class of dynamic convolutions: (N, C, H, W) -> (N, out, H', W'), no bias.

    A subclass has `attention`, a module that computes the gates, and `bank`, a tensor (n, out, C/groups, k, k). `static_form`
    chooses how the same value is computed: False mixes kernels first (faster in training, docs/measurements.md), True sums
    static convolutions (for export).
    """

    attention: nn.Module
    released_start = False  # whether the bank is initialised as in its network's released code; see `mdw.models.init`

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
        geometry = ", ".join(f"{key}={value}" for key, value in self.geometry.items())
        return f"{fan * self.geometry['groups']}, {out}, kernel_size={size}, kernels={kernels}, {geometry}"


def use_static_form(model: nn.Module, static: bool = True) -> nn.Module:
    """Switch every dynamic convolution of `model` between its two equal forms, in place; returns `model`."""
    for module in model.modules():
        if isinstance(module, DynamicConv):
            module.static_form = static
    return model


def set_temperature(model: nn.Module, epoch: float, epochs: float = 10, start: float = 30.0) -> float:
    """Sets the temperature of every softmax attention in `model` for the time `epoch` (with fraction) of training; returns it.

    It falls linearly from `start` at 0 to 1 at `epochs` and stays there (Chen et al. 2020, section 3.3; ODConv's released
    training). A new model has 1, the value for evaluation, so an annealed training must reach the end of annealing.
    """
    temperature = start + (1 - start) * min(max(epoch / epochs, 0.0), 1.0) if epochs > 0 else 1.0
    for module in model.modules():
        buffer = getattr(module, "temperature", None)
        if isinstance(buffer, Tensor):
            buffer.fill_(temperature)  # a tensor, so that a recorded training step reads the new value
    return temperature


class CrossChannelAttention(nn.Module):
    """Eq. 5: sigmoid(Conv2d(Conv1d_K(GAP(X)))), one gate per kernel and channel: (N, C, H, W) -> (N, n, C).

    The pooled vector is a line of C numbers. Conv1d of size K runs along it (ECANet; K is Table 6's hyperparameter), then a 3x3
    convolution to n maps takes the line as a C x 1 image (docs/reconstruction.md, 3a). Only the middle column of the 3x3 kernel
    is ever multiplied by a value, so it is stored as 3x1: the same function with a third of the weights.
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
    """No attention: every gate is 1/2, a sigmoid's initial value, for any input: (N, C, H, W) -> (N, n, 1); no parameters.

    CDC without Eq. 5 is its bank alone: n kernels drawn and trained separately, used as half of their sum. The gates are not
    learnable: a constant times a kernel is another kernel, so learnable gates would not make the network more expressive. They
    would only change the effective learning rate of the kernels and add parameters of the attention that is removed here.
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
        bound = 1 / kernel_size  # torch's initialisation of a depthwise convolution (fan in k*k), separate for each kernel:
        nn.init.uniform_(self.weight, -bound, bound)  # equal kernels would stay equal

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
