"""Lite-HRNet and Naive Lite-HRNet (Yu et al., CVPR 2021), with the released code's names and peculiarities.

Every network here has a `mode`. "as_released" is the code of the published figures and checkpoints, whose fusion adds branch 0
twice, and the other branches read that sum; "as_described" is the plain sum of the paper.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from mdw.models.fusion import HighResolutionModule, IterativeHead, PathUp, path_down, to_lowest, upsample
from mdw.models.layers import ConvBN, ShuffleStem, depthwise, init_normal, pointwise, shuffle
from mdw.models.skeleton import HalfUnit, HighResolutionNet, PerBranch, grow, separable_transition
from mdw.util.typed import typed

WIDTHS = (40, 80, 160, 320)
MODULES_18, MODULES_30 = (2, 4, 2), (3, 8, 3)  # in the stages with 2, 3 and 4 branches
Mode = Literal["as_released", "as_described"]  # the official code; the paper


class CrossResolutionWeighting(nn.Module):
    """Cross-resolution weights (section 3.2): one gate per channel and position, from all branches at the lowest resolution.

    list of (N, c_b, H/2^b, W/2^b) -> list of the same shapes. Both convolutions have a norm; the sigmoid follows the second.
    """

    def __init__(self, channels: Sequence[int], ratio: int = 8):
        super().__init__()
        self.channels = list(channels)
        total = sum(channels)
        self.conv1 = ConvBN(pointwise(total, total // ratio))
        self.conv2 = ConvBN(pointwise(total // ratio, total), relu=False)

    def weights_of_means(self, pooled: list[Tensor]) -> list[Tensor]:
        """Returns gates in (0, 1) from block means (N, c_b, h, w) at the lowest resolution, of the same shapes."""
        return list(torch.sigmoid(self.conv2(self.conv1(torch.cat(pooled, dim=1)))).split(self.channels, dim=1))

    def forward(self, xs: list[Tensor]) -> list[Tensor]:
        gates = self.weights_of_means(to_lowest(xs))
        return [x * upsample(gate, x.shape[-2:], mode="nearest") for x, gate in zip(xs, gates, strict=True)]


class SpatialWeighting(nn.Module):
    """Spatial weights (section 3.2): squeeze and excitation, (N, C, H, W) -> the same shape."""

    def __init__(self, channels: int, ratio: int = 4):
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.conv1 = nn.Sequential()
        self.conv1.conv = nn.Conv2d(channels, channels // ratio, 1)
        self.conv1.relu = nn.ReLU()
        self.conv2 = nn.Sequential()
        self.conv2.conv = nn.Conv2d(channels // ratio, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.conv2(self.conv1(self.pool(x))))


class ConditionalChannelWeighting(HalfUnit):
    """The unit of section 3.2: a shuffle unit with two gates instead of the 1x1 convolutions."""

    def __init__(self, channels: Sequence[int]):
        super().__init__()
        worked = [c // 2 for c in channels]
        self.cross_resolution_weighting = CrossResolutionWeighting(worked)
        self.depthwise_convs = nn.ModuleList(ConvBN(depthwise(c), relu=False) for c in worked)
        self.spatial_weighting = nn.ModuleList(SpatialWeighting(c) for c in worked)

    def work(self, xs: list[Tensor]) -> list[Tensor]:
        xs = self.cross_resolution_weighting(xs)
        return [gate(conv(x)) for gate, conv, x in zip(self.spatial_weighting, self.depthwise_convs, xs, strict=True)]


class ShuffleUnit(nn.Module):
    """The unit of section 3.1: ShuffleNetV2's unit with stride 1, (N, C, H, W) -> the same shape."""

    def __init__(self, channels: int):
        super().__init__()
        half = channels // 2
        self.branch2 = nn.Sequential(
            ConvBN(pointwise(half, half)), ConvBN(depthwise(half), relu=False), ConvBN(pointwise(half, half))
        )

    def forward(self, x: Tensor) -> Tensor:
        untouched, worked = x.chunk(2, dim=1)
        return shuffle([untouched, self.branch2(worked)])


def shuffle_units(channels: Sequence[int]) -> PerBranch:
    """Returns the naive network's unit, in which branches do not interact."""
    return PerBranch(ShuffleUnit(c) for c in channels)


def lite_frame(
    stem: nn.Module,
    unit: Callable[[Sequence[int]], nn.Module],
    modules: Sequence[int],
    num_joints: int,
    double_first: str | None,
    widths: Sequence[int] = WIDTHS,
) -> HighResolutionNet:
    """Builds the frame of Lite- and Dite-HRNet: two units per module, nearest upsampling, iterative head, aligned corners."""

    def module(channels: Sequence[int]) -> HighResolutionModule:
        units = [unit(channels) for _ in range(2)]
        up = partial(PathUp, mode="nearest")
        return HighResolutionModule(channels, units, up, path_down, double_first=double_first, relu=nn.ReLU())

    transitions, stages = grow(modules, widths, [32], separable_transition, module)
    head = IterativeHead(widths, align_corners=True)
    model = HighResolutionNet(stem, transitions, stages, head, widths[0], num_joints)
    init_normal(model)
    return model


@typed
def lite_hrnet(
    modules: Sequence[int],
    num_joints: int = 17,
    *,
    mode: Mode = "as_released",
    unit: Callable[[Sequence[int]], nn.Module] = ConditionalChannelWeighting,
    widths: Sequence[int] = WIDTHS,
) -> HighResolutionNet:
    """Builds a network of Lite-HRNet's family with `modules` in the stages with 2, 3 and 4 branches and units `unit(widths)`.

    Returns a module (N, 3, H, W) -> (N, num_joints, H/4, W/4). Raises MdwError for an unknown `mode`.
    """
    double_first = "before_relu" if mode == "as_released" else None
    return lite_frame(ShuffleStem(32), unit, modules, num_joints, double_first, widths)


def lite_hrnet_18(num_joints: int = 17, *, mode: Mode = "as_released") -> HighResolutionNet:
    """Lite-HRNet-18: 1,130,769 parameters; as `lite_hrnet`."""
    return lite_hrnet(MODULES_18, num_joints, mode=mode)


def lite_hrnet_30(num_joints: int = 17, *, mode: Mode = "as_released") -> HighResolutionNet:
    """Lite-HRNet-30: 1,763,717 parameters."""
    return lite_hrnet(MODULES_30, num_joints, mode=mode)


def naive_lite_hrnet_18(num_joints: int = 17, *, mode: Mode = "as_released") -> HighResolutionNet:
    """Naive Lite-HRNet-18: shuffle units on 30, 60, 120 and 240 channels; 760,365 parameters.

    Its published configuration has a head of 40 channels, which cannot run; 30 channels give the published figures.
    """
    return lite_hrnet(MODULES_18, num_joints, mode=mode, unit=shuffle_units, widths=(30, 60, 120, 240))


def wider_naive_lite_hrnet_18(num_joints: int = 17, *, mode: Mode = "as_released") -> HighResolutionNet:
    """Wider Naive Lite-HRNet-18: shuffle units on Lite-HRNet's widths; 1,318,625 parameters."""
    return lite_hrnet(MODULES_18, num_joints, mode=mode, unit=shuffle_units)
