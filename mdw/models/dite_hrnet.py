"""Dite-HRNet (Li et al., IJCAI 2022), with the released code's names and peculiarities, on Lite-HRNet's frame.

"as_released" is the code of the published figures and checkpoints: branch 0 is added twice and read after the ReLU, the dense
context pools by reinterpreting memory, and the lowest branch, which is never pooled, has a mask, too. "as_described" has the
plain sum, pools regions of the map, and has no unused parameter. Both have norms on 1x1 maps, so neither can be trained with
one sample in a batch.
"""

import math
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from mdw.models.dynamic_conv import DynamicConv
from mdw.models.fusion import upsample
from mdw.models.layers import ConvBN, depthwise, pointwise, shuffle, split_evenly
from mdw.models.lite_hrnet import MODULES_18, MODULES_30, Mode, lite_frame
from mdw.models.skeleton import HalfUnit, HighResolutionNet
from mdw.util.typed import typed

KERNEL_SIZES = ((3,), (3,), (3, 5), (3, 5, 7, 9))  # per branch; the channels are split among them
KERNELS = (4, 4, 2, 1)  # banks per branch
RATIOS = (4, 4, 8, 8)  # squeeze of the global context per branch


class KernelAttention(nn.Module):
    """Kernel attention: pool, C -> C/4 with norm and ReLU, -> K, sigmoid: (N, C, H, W) -> (N, K, 1), not normalised."""

    def __init__(self, channels: int, kernels: int):
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.conv1 = pointwise(channels, channels // 4)
        self.bn = nn.BatchNorm2d(channels // 4)
        self.relu = nn.ReLU()
        self.conv2 = nn.Conv2d(channels // 4, kernels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.conv2(self.relu(self.bn(self.conv1(self.pool(x)))))).flatten(2)


class DynamicKernels(DynamicConv):
    """DKA: K kernels, mixed by the attention; (N, in, H, W) -> (N, out, H/stride, W/stride)."""

    released_start = True

    def __init__(self, in_channels: int, out_channels: int, size: int, stride: int = 1, groups: int = 1, kernels: int = 4):
        super().__init__(out_channels, size, stride, groups, padding=(size - 1) // 2)
        self.attention = KernelAttention(in_channels, kernels)
        bank = torch.empty(kernels, out_channels, in_channels // groups, size, size)
        self.aggregation = nn.ParameterDict({"weight": nn.Parameter(bank)})
        for kernel in bank:
            nn.init.kaiming_uniform_(kernel)  # gain of a ReLU, fan in; init_normal does not change it, as in the released code

    @property
    def bank(self) -> Tensor:
        return self.aggregation["weight"]


def dynamic_depthwise(channels: int, size: int, stride: int = 1, kernels: int = 4, relu: bool = False) -> ConvBN:
    """Depthwise convolution with norm[, ReLU]; dynamic unless there is only one kernel."""
    if kernels == 1:
        return ConvBN(depthwise(channels, size, stride), relu)
    return ConvBN(DynamicKernels(channels, channels, size, stride, channels, kernels), relu)


class DynamicSplitConv(nn.Module):
    """DSC: the channels in groups of different kernel sizes, shuffled; (N, C, H, W) -> the same shape."""

    def __init__(self, channels: int, sizes: Sequence[int], kernels: int):
        super().__init__()
        self.widths = split_evenly(channels, len(sizes))
        self.conv = nn.ModuleList(dynamic_depthwise(c, size, 1, kernels) for c, size in zip(self.widths, sizes, strict=True))

    def forward(self, x: Tensor) -> Tensor:
        return shuffle([conv(part) for conv, part in zip(self.conv, x.split(self.widths, dim=1), strict=True)])


def channel_attention(channels: int, ratio: int) -> nn.Sequential:
    """The gate of both context modules: C -> C/ratio with norm and ReLU, -> C, sigmoid; (N, C, h, w) -> the same shape."""
    hidden = channels // ratio
    return nn.Sequential(
        pointwise(channels, hidden), nn.BatchNorm2d(hidden), nn.ReLU(), nn.Conv2d(hidden, channels, 1), nn.Sigmoid()
    )


class GlobalContext(nn.Module):
    """GCM: one softmax mask over all positions, a gate per channel from the masked sum, and a norm at the end.

    (N, C, H, W) -> the same shape. `mask_bias` is in the released code; a softmax does not depend on it.
    """

    def __init__(self, channels: int, ratio: int, mask_bias: bool):
        super().__init__()
        self.conv_mask = nn.Conv2d(channels, 1, 1, bias=mask_bias)
        self.channel_attention = channel_attention(channels, ratio)
        self.bn = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        mask = self.conv_mask(x).flatten(1).softmax(1).unsqueeze(-1)  # (N, H*W, 1)
        context = torch.bmm(x.flatten(2), mask).unsqueeze(-1)  # (N, C, 1, 1)
        return self.bn(x * self.channel_attention(context))


def pool_memory(x: Tensor, scores: Tensor, size: tuple[int, int]) -> Tensor:
    """Returns the released code's pooling of x (N, C, H, W) to (N, C, *size) with mask scores (N, 1, H, W).

    The softmax is over the whole map. Then the values of all channels, in memory order, are cut into as many pieces as the
    result has positions, and each piece is taken as a table of C rows, which mixes channels and positions.
    """
    batch, channels = x.shape[:2]
    positions = math.prod(size)
    mask = scores.flatten(1).softmax(1).reshape(batch * positions, -1, 1)
    pieces = x.reshape(batch * positions, channels, -1)  # (N*h*w, C, H*W/(h*w))
    return torch.bmm(pieces, mask).reshape(batch, positions, channels).transpose(1, 2).reshape(batch, channels, *size)


def pool_regions(x: Tensor, scores: Tensor, size: tuple[int, int]) -> Tensor:
    """Returns the paper's pooling: the map in regions, a softmax mask and a weighted mean in each; (N, C, *size)."""
    (batch, channels), (height, width) = x.shape[:2], size

    def regions(t: Tensor) -> Tensor:  # (N, c, H, W) -> (N*h*w, c, H/h * W/w)
        t = t.unflatten(3, (width, -1)).unflatten(2, (height, -1)).permute(0, 2, 4, 1, 3, 5)
        return t.reshape(batch * height * width, t.shape[3], -1)

    pooled = torch.bmm(regions(x), regions(scores).softmax(2).transpose(1, 2))  # (N*h*w, C, 1)
    return pooled.reshape(batch, height * width, channels).transpose(1, 2).reshape(batch, channels, height, width)


class DenseContext(nn.Module):
    """DCM: one gate per channel and position of the lowest resolution, from all branches pooled with learned masks.

    list of (N, c_b, H/2^b, W/2^b) -> list of the same shapes.
    """

    def __init__(self, channels: Sequence[int], released: bool, ratio: int = 8):
        super().__init__()
        self.channels = list(channels)
        self.pool = pool_memory if released else pool_regions
        masked = channels if released else channels[:-1]  # the lowest branch is not pooled
        self.conv_mask = nn.ModuleList(nn.Conv2d(c, 1, 1, bias=released) for c in masked)
        self.channel_attention = channel_attention(sum(channels), ratio)

    def gates(self, xs: list[Tensor]) -> tuple[Tensor, ...]:
        """Returns one gate per branch, channel and position of the lowest resolution: (N, c_b, h, w) each."""
        height, width = xs[-1].shape[-2:]
        pooled = [self.pool(x, mask(x), (height, width)) for x, mask in zip(xs[:-1], self.conv_mask, strict=False)]
        return self.channel_attention(torch.cat([*pooled, xs[-1]], dim=1)).split(self.channels, dim=1)

    def forward(self, xs: list[Tensor]) -> list[Tensor]:
        return [x * upsample(gate, x.shape[-2:], mode="nearest") for x, gate in zip(xs, self.gates(xs), strict=True)]


class DynamicMultiScaleContext(HalfUnit):
    """DMC block: dense context, dynamic split convolution and global context on half of the channels."""

    def __init__(self, channels: Sequence[int], released: bool):
        super().__init__()
        worked = [c // 2 for c in channels]
        self.dcm = DenseContext(worked, released)
        self.conv = nn.ModuleList(map(DynamicSplitConv, worked, KERNEL_SIZES, KERNELS))
        self.gcm = nn.ModuleList(GlobalContext(c, ratio, released) for c, ratio in zip(worked, RATIOS, strict=False))

    def work(self, xs: list[Tensor]) -> list[Tensor]:
        return [gcm(conv(x)) for gcm, conv, x in zip(self.gcm, self.conv, self.dcm(xs), strict=True)]


class DynamicStem(nn.Module):
    """DGC block after a 3x3 convolution: (N, 3, H, W) -> (N, 32, H/4, W/4)."""

    def __init__(self, released: bool, channels: int = 32):
        super().__init__()
        half = channels // 2
        self.conv1 = ConvBN(nn.Conv2d(3, channels, 3, 2, 1, bias=False))
        self.branch1 = nn.Sequential(
            dynamic_depthwise(half, 3, 2),
            GlobalContext(half, 4, released),
            ConvBN(DynamicKernels(half, half, 1)),
        )
        self.branch2 = nn.Sequential(
            dynamic_depthwise(half, 3),
            GlobalContext(half, 4, released),
            ConvBN(DynamicKernels(half, half // 4, 1)),
            ConvBN(DynamicKernels(half // 4, half, 1), relu=False),
            dynamic_depthwise(half, 3, 2, relu=True),
        )

    def forward(self, x: Tensor) -> Tensor:
        left, right = self.conv1(x).chunk(2, dim=1)
        return shuffle([self.branch1(left), self.branch2(right)])


@typed
def dite_hrnet(modules: Sequence[int], num_joints: int = 17, *, mode: Mode = "as_released") -> HighResolutionNet:
    """Builds a Dite-HRNet with `modules` in the stages with 2, 3 and 4 branches.

    Returns a module (N, 3, H, W) -> (N, num_joints, H/4, W/4); training needs batches of two or more. Raises MdwError for an
    unknown `mode`.
    """
    released = mode == "as_released"
    unit = partial(DynamicMultiScaleContext, released=released)
    return lite_frame(DynamicStem(released), unit, modules, num_joints, "after_relu" if released else None)


def dite_hrnet_18(num_joints: int = 17, *, mode: Mode = "as_released") -> HighResolutionNet:
    """Dite-HRNet-18: 1,186,933 parameters as released; as `dite_hrnet`."""
    return dite_hrnet(MODULES_18, num_joints, mode=mode)


def dite_hrnet_30(num_joints: int = 17, *, mode: Mode = "as_released") -> HighResolutionNet:
    """Dite-HRNet-30: 1,862,549 parameters as released; as `dite_hrnet`."""
    return dite_hrnet(MODULES_30, num_joints, mode=mode)
