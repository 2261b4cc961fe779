"""Fuses branches of different resolution: resizing, the sums between modules, and the heads before the heatmaps."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import torch.nn.functional as F
from torch import Tensor, nn

from mdw.models.layers import ConvBN, depthwise, pointwise, separable
from mdw.models.resize import Upsample, bilinear
from mdw.util.errors import MdwError


def upsample(x: Tensor, size: Sequence[int], mode: str = "bilinear", align_corners: bool = False) -> Tensor:
    """Returns (N, C, h, w) resized to (N, C, *size), or itself where it has that size already."""
    if tuple(x.shape[-2:]) == tuple(size):
        return x
    if mode == "bilinear":
        return bilinear(x, size, align_corners)
    return F.interpolate(x, size=size, mode=mode)


def to_lowest(xs: Sequence[Tensor]) -> list[Tensor]:
    """Returns every branch averaged to the last one's size, by exact block means: sizes differ by powers of two."""
    lowest = len(xs) - 1
    return [F.avg_pool2d(x, 2 ** (lowest - b)) if b < lowest else x for b, x in enumerate(xs)]


class PathUp(nn.Sequential):
    """1x1 convolution and norm at the low resolution, then upsampling by `factor`: from branch j up to branch i < j."""

    def __init__(self, in_channels: int, out_channels: int, factor: int, mode: str = "bilinear"):
        super().__init__(
            pointwise(in_channels, out_channels),
            nn.BatchNorm2d(out_channels),
            Upsample(scale_factor=factor, mode=mode),
        )
        self.mode = mode


def path_down(in_channels: int, out_channels: int, steps: int, kernel_size: int = 3) -> nn.Sequential:
    """Returns `steps` separable convolutions of stride 2; the last one changes the width and has no ReLU."""
    inner = [separable(in_channels, in_channels, kernel_size, 2) for _ in range(steps - 1)]
    return nn.Sequential(*inner, separable(in_channels, out_channels, kernel_size, 2, relu=False))


class HighResolutionModule(nn.Module):
    """Units one after the other, then fusion: every branch becomes the sum of all branches resized to it, and a ReLU.

    `outputs` limits the number of fused branches (HRNet's last module: 1). `double_first` is the in-place sum of the released
    Lite- and Dite-HRNet code: branch 0 counts twice, and the other branches read it after that sum, "before_relu" (Lite) or
    "after_relu" (Dite). None, the default, is the sum that the papers describe. The released code runs the paths from branch 0
    twice on the same input; here they run once, the value is doubled, and the running statistics change as by two updates.
    `relu` is a module where Lite-HRNet's counter should see it (`complexity.peer_count`).
    """

    def __init__(
        self,
        channels: Sequence[int],
        units: Sequence[nn.Module],
        up: Callable[[int, int, int], nn.Module],
        down: Callable[[int, int, int], nn.Module],
        outputs: int | None = None,
        double_first: str | None = None,
        relu: Callable[[Tensor], Tensor] = F.relu,
    ):
        super().__init__()
        if double_first not in (None, "before_relu", "after_relu"):
            raise MdwError(f"double_first is {double_first!r}; use None, 'before_relu' or 'after_relu'")
        self.layers = nn.Sequential(*units)
        self.double_first = double_first
        self.relu = relu
        self.fuse_layers = nn.ModuleList()
        for i in range(outputs or len(channels)):
            paths = [
                nn.Identity() if i == j else up(c, channels[i], 2 ** (j - i)) if j > i else down(c, channels[i], i - j)
                for j, c in enumerate(channels)
            ]
            self.fuse_layers.append(nn.ModuleList(paths))
        if double_first:
            for norm in self.doubled_norms():
                norm.momentum = 1 - (1 - cast(float, norm.momentum)) ** 2

    def doubled_norms(self) -> Iterator[nn.BatchNorm2d]:
        """Yields the norms on the paths from branch 0 to the others."""
        for paths in cast(Sequence[nn.ModuleList], self.fuse_layers)[1:]:
            yield from (module for module in paths[0].modules() if isinstance(module, nn.BatchNorm2d))

    def forward(self, xs: list[Tensor]) -> list[Tensor]:
        if self.double_first:
            for norm in self.doubled_norms():
                if norm.training and norm.num_batches_tracked is not None:
                    norm.num_batches_tracked.add_(1)  # the second update; the norm counts the first itself
        return self.fuse(self.layers(xs))

    def fuse(self, xs: list[Tensor]) -> list[Tensor]:
        """Returns for each branch the sum of all branches resized to it, after the ReLU."""
        times = 2 if self.double_first else 1
        branch0, ys = xs[0], []
        for i, paths in enumerate(cast(Sequence[nn.ModuleList], self.fuse_layers)):
            y = times * paths[0](branch0) if times > 1 else paths[0](branch0)
            for path, x in zip(paths[1:], xs[1:], strict=True):
                y = y + path(x)
            ys.append(self.relu(y))
            if i == 0 and self.double_first:
                branch0 = y if self.double_first == "before_relu" else ys[0]
        return ys


class IterativeHead(nn.Module):
    """From the lowest branch upwards: separable convolution, upsample, add to the next branch; returns (N, C0, H/4, W/4).

    It is Lite-HRNet's and, in our reconstruction (docs/reconstruction.md, 12a), MDW-HRNet's. Lite- and Dite-HRNet align
    corners, MDW-HRNet does not.
    """

    def __init__(self, channels: Sequence[int], align_corners: bool = False):
        super().__init__()
        self.align_corners = align_corners
        self.projects = nn.ModuleList()
        for b in reversed(range(len(channels))):
            step = nn.Module()
            step.depthwise_conv = ConvBN(depthwise(channels[b]), relu=False)
            step.pointwise_conv = ConvBN(pointwise(channels[b], channels[max(b - 1, 0)]))
            self.projects.append(step)

    def forward(self, xs: list[Tensor]) -> Tensor:
        y: Tensor | None = None
        for x, step in zip(reversed(xs), cast(Sequence[Any], self.projects), strict=True):
            if y is not None:
                x = x + upsample(y, x.shape[-2:], align_corners=self.align_corners)
            y = step.pointwise_conv(step.depthwise_conv(x))
        assert y is not None, "there is at least one branch"
        return y


class HighestBranch(nn.Module):
    """HRNet's head: branch 0 unchanged."""

    def forward(self, xs: list[Tensor]) -> Tensor:
        return xs[0]
