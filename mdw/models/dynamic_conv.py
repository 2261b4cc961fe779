"""Convolutions whose kernel depends on the picture: one bank of kernels, an attention that weights them.

    Y = [sum_i A_i(X) W_i] * X        article, Eq. 6; i = 1..n, one gate per output channel or one for all

Every dynamic convolution of the article's Table 7, and Dite-HRNet's, is this bank with another attention, so an attention
is a module (N, C, H, W) -> (N, n, out) or (N, n, 1). ODConv adds factors on channels and kernel positions.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mdw.errors import MdwError


def mix(bank: Tensor, gates: Tensor) -> Tensor:
    """One kernel per sample: bank (n, out, in, k, k), gates (N, n, out) or (N, n, 1) -> (N, out, in, k, k)."""
    if gates.shape[-1] == 1:
        return (gates.squeeze(-1) @ bank.flatten(1)).reshape(-1, *bank.shape[1:])
    # one small matrix product per channel, (N, n) x (n, in*k*k); contiguous operands, or torch multiplies them one by one
    kernels = torch.bmm(gates.permute(2, 0, 1).contiguous(), bank.flatten(2).transpose(0, 1).contiguous())
    return kernels.transpose(0, 1).reshape(-1, *bank.shape[1:])


def convolve_each(x: Tensor, kernels: Tensor, groups: int, **geometry) -> Tensor:
    """Convolve each sample with its own kernel: one convolution with the batch folded into the channels.

    x (N, C, H, W), kernels (N, out, C/groups, k, k) -> (N, out, H', W'); `geometry`: stride, padding, dilation.
    """
    folded = x.reshape(1, -1, *x.shape[-2:])
    y = F.conv2d(folded, kernels.flatten(0, 1), groups=len(x) * groups, **geometry)
    return y.reshape(len(x), -1, *y.shape[-2:])


def mix_kernels(x: Tensor, bank: Tensor, gates: Tensor, **geometry) -> Tensor:
    """Mix one kernel per sample, then convolve once; the multiply-adds are those of one convolution plus the mixing.

    x (N, C, H, W), bank (n, out, C/groups, k, k), gates (N, n, out) or (N, n, 1) -> (N, out, H', W'). `geometry`: groups,
    stride, padding, dilation.
    """
    return convolve_each(x, mix(bank, gates), **geometry)


def sum_of_convolutions(x: Tensor, bank: Tensor, gates: Tensor, **geometry) -> Tensor:
    """The same value from n ordinary convolutions, weighted afterwards: no weights depend on the sample.

    Equal to `mix_kernels` because a convolution is linear in its kernel, output channel by output channel. This is the form
    to export; it costs n times the multiply-adds.
    """
    y = None
    for i, kernel in enumerate(bank):
        term = F.conv2d(x, kernel, **geometry) * gates[:, i].unsqueeze(-1).unsqueeze(-1)
        y = term if y is None else y + term
    return y


class DynamicConv(nn.Module):
    """What dynamic convolutions share: (N, C, H, W) -> (N, out, H', W'), no bias.

    A subclass has `attention`, a module that gives the gates, and `bank`, a tensor (n, out, C/groups, k, k). `static_form`
    chooses the way it is computed, never the value: False mixes kernels first (faster in training
    where we measured it, docs/architecture.md), True sums static convolutions (exports cleanly).
    """

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


class DyConv(DynamicDepthwiseConv):
    """Dynamic convolution (Chen et al. 2020) as a depthwise one: squeeze and excitation, softmax over the kernels."""

    def __init__(self, channels: int, kernel_size: int = 3, stride: int = 1, kernels: int = 4, ratio: int = 4):
        super().__init__(channels, kernel_size, SoftmaxAttention(channels, kernels, ratio), kernels, stride)


class SoftmaxAttention(nn.Module):
    """pool, C -> C/ratio, ReLU, C/ratio -> n, softmax(logits / temperature): (N, C, H, W) -> (N, n, 1), summing to 1."""

    def __init__(self, channels: int, kernels: int, ratio: int = 4):
        super().__init__()
        self.temperature = 1.0
        self.squeeze = nn.Linear(channels, max(channels // ratio, 1))
        self.to_kernels = nn.Linear(max(channels // ratio, 1), kernels)

    def forward(self, x: Tensor) -> Tensor:
        logits = self.to_kernels(F.relu(self.squeeze(x.mean((2, 3)))))
        return (logits / self.temperature).softmax(1).unsqueeze(-1)


class ODAttention(nn.Module):
    """ODConv's four attentions from one trunk: (N, C, H, W) -> factors on channels, filters, kernel positions, kernels.

    Shapes (N, in, 1, 1), (N, out, 1, 1), (N, 1, 1, k, k) and (N, n, 1). None stands for a factor that is 1 by design: the
    filters of a depthwise convolution, the positions of a 1x1 kernel; a bank of one kernel has the gate 1.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, groups: int, reduction: float, kernels: int):
        super().__init__()
        hidden = max(int(in_channels * reduction), 16)
        self.temperature = 1.0
        self.kernel_size = kernel_size
        self.fc = nn.Conv2d(in_channels, hidden, 1, bias=False)
        self.bn = nn.BatchNorm2d(hidden)
        self.channel_fc = nn.Conv2d(hidden, in_channels, 1)
        depthwise = in_channels == out_channels == groups
        self.filter_fc = None if depthwise else nn.Conv2d(hidden, out_channels, 1)
        self.spatial_fc = None if kernel_size == 1 else nn.Conv2d(hidden, kernel_size**2, 1)
        self.kernel_fc = None if kernels == 1 else nn.Conv2d(hidden, kernels, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor]:
        z = F.relu(self.bn(self.fc(x.mean((2, 3), keepdim=True))))  # (N, hidden, 1, 1)
        channel = torch.sigmoid(self.channel_fc(z) / self.temperature)
        filters = None if self.filter_fc is None else torch.sigmoid(self.filter_fc(z) / self.temperature)
        spatial, kernel = None, x.new_ones(len(x), 1, 1)
        if self.spatial_fc is not None:
            spatial = torch.sigmoid(self.spatial_fc(z) / self.temperature)
            spatial = spatial.reshape(-1, 1, 1, self.kernel_size, self.kernel_size)
        if self.kernel_fc is not None:
            kernel = (self.kernel_fc(z) / self.temperature).softmax(1).flatten(2)
        return channel, filters, spatial, kernel


class ODConv2d(DynamicConv):
    """Omni-dimensional dynamic convolution (Li et al. 2022): (N, in, H, W) -> (N, out, H', W'), no bias.

    Arguments and names of children are the official ones, so official weights load. The trunk has a BatchNorm on 1x1 maps:
    it cannot be trained with one sample in a batch. Its static form multiplies unfolded patches: factors on the positions
    inside a kernel cannot be applied after a static convolution.
    """

    def __init__(
        self,
        in_planes: int,
        out_planes: int,
        kernel_size: int,
        stride: int = 1,
        padding: int = 0,
        dilation: int = 1,
        groups: int = 1,
        reduction: float = 0.0625,
        kernel_num: int = 4,
    ):
        super().__init__(out_planes, kernel_size, stride, groups, padding, dilation)
        self.attention = ODAttention(in_planes, out_planes, kernel_size, groups, reduction, kernel_num)
        self.weight = nn.Parameter(torch.empty(kernel_num, out_planes, in_planes // groups, kernel_size, kernel_size))
        for part in [m for m in self.modules() if isinstance(m, nn.Conv2d)]:
            nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")
            if part.bias is not None:
                nn.init.zeros_(part.bias)
        for kernel in self.weight.detach():
            nn.init.kaiming_normal_(kernel, mode="fan_out", nonlinearity="relu")

    @property
    def bank(self) -> Tensor:
        return self.weight

    def forward(self, x: Tensor) -> Tensor:
        channel, filters, spatial, gates = self.attention(x)
        kernels = mix(self.weight, gates)
        if spatial is not None:
            kernels = kernels * spatial
        compute = multiply_patches if self.static_form else convolve_each
        y = compute(x * channel, kernels, **self.geometry)
        return y if filters is None else y * filters


def multiply_patches(x: Tensor, kernels: Tensor, groups: int, stride: int, padding: int, dilation: int) -> Tensor:
    """`convolve_each` as a matrix product of kernels and patches; no convolution has weights that depend on the sample."""
    batch, out, fan, size, _ = kernels.shape
    patches = F.unfold(x, size, dilation, padding, stride).reshape(batch, groups, fan * size * size, -1)
    y = kernels.reshape(batch, groups, out // groups, -1) @ patches  # (N, groups, out/groups, H'*W')
    height, width = ((side + 2 * padding - dilation * (size - 1) - 1) // stride + 1 for side in x.shape[-2:])
    return y.reshape(batch, out, height, width)


def depthwise_odconv(channels: int, kernel_size: int = 3, stride: int = 1, kernels: int = 4) -> ODConv2d:
    """ODConv in the place of a depthwise convolution: reduction 1/16 with at least 16 hidden units."""
    padding = (kernel_size - 1) // 2
    return ODConv2d(channels, channels, kernel_size, stride, padding, groups=channels, kernel_num=kernels)


def set_temperature(model: nn.Module, epoch: float, epochs: float = 10, start: float = 30.0) -> float:
    """Temperature of every softmax attention in `model` for a moment `epoch` (fractions count) of training; returns it.

    Falls linearly from `start` at 0 to 1 at `epochs` and stays there (Chen et al. 2020, section 3.3; ODConv's released
    training). A new model has 1, the value it is evaluated with, so a training that anneals must reach the end.
    """
    temperature = start + (1 - start) * min(max(epoch / epochs, 0.0), 1.0) if epochs > 0 else 1.0
    for module in model.modules():
        if hasattr(module, "temperature"):
            module.temperature = temperature
    return temperature
