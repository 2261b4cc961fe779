"""The frame that every high-resolution network of this project shares; a network file adds only what its paper adds.

    stem -> transition -> modules (2 branches) -> transition -> modules (3) -> transition -> modules (4) -> head -> heat maps

The seam is a list of tensors, one per branch, highest resolution first: a *unit* is a module that takes such a list and
gives one of the same shapes. Branch b runs at 1 / (4 * 2**b) of the input. Children carry the names of the official Lite-
and Dite-HRNet checkpoints (`stage0.1.fuse_layers.0.2.0`), so that those load without a table of names.
"""

from collections.abc import Callable, Iterator, Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from mdw.errors import MdwError
from mdw.models.layers import ConvBN, depthwise, pointwise, separable, shuffle
from mdw.models.resize import Enlarge, bilinear


def upsample(x: Tensor, size: tuple[int, int], mode: str = "bilinear", align_corners: bool = False) -> Tensor:
    """Resize (N, C, h, w) to (N, C, *size); nothing happens when it has that size already."""
    if tuple(x.shape[-2:]) == tuple(size):
        return x
    if mode == "bilinear":
        return bilinear(x, size, align_corners)
    return F.interpolate(x, size=size, mode=mode)


def to_lowest(xs: Sequence[Tensor]) -> list[Tensor]:
    """Average every branch down to the size of the last one; exact block means, since sizes are powers of two apart."""
    last = len(xs) - 1
    return [F.avg_pool2d(x, 2 ** (last - b)) if b < last else x for b, x in enumerate(xs)]


def check_input(x: Tensor, multiple: int) -> None:
    """Raise MdwError unless `x` is (N, 3, height, width) with both sides positive multiples of `multiple`."""
    height, width = x.shape[-2:] if x.ndim == 4 else (0, 0)
    if x.ndim != 4 or x.shape[1] != 3 or height % multiple or width % multiple or not height or not width:
        raise MdwError(
            f"the input has shape {tuple(x.shape)}; give (N, 3, height, width) with both sides multiples of {multiple}, "
            "for example 256x192, 384x288, 256x256 or 128x96"
        )


class PerBranch(nn.ModuleList):
    """A unit whose branches do not meet: module b works on branch b."""

    def forward(self, xs: list[Tensor]) -> list[Tensor]:
        return [module(x) for module, x in zip(self, xs, strict=True)]


class HalfUnit(nn.Module):
    """A unit in ShuffleNetV2's frame: half of each branch's channels pass, `work` (list to list) does the rest; shuffled."""

    def work(self, xs: list[Tensor]) -> list[Tensor]:
        raise NotImplementedError

    def forward(self, xs: list[Tensor]) -> list[Tensor]:
        kept, worked = zip(*(x.chunk(2, dim=1) for x in xs), strict=True)
        return [shuffle(pair) for pair in zip(kept, self.work(list(worked)), strict=True)]


class PathUp(nn.Sequential):
    """1x1 convolution and norm at the low resolution, then enlargement by `factor`: from branch j up to branch i < j."""

    def __init__(self, in_channels: int, out_channels: int, factor: int, mode: str = "bilinear"):
        super().__init__(
            pointwise(in_channels, out_channels),
            nn.BatchNorm2d(out_channels),
            Enlarge(scale_factor=factor, mode=mode),
        )


def path_down(in_channels: int, out_channels: int, steps: int, kernel_size: int = 3) -> nn.Sequential:
    """`steps` separable halvings; the width changes, and the ReLU is left out, in the last one."""
    inner = [separable(in_channels, in_channels, kernel_size, 2) for _ in range(steps - 1)]
    return nn.Sequential(*inner, separable(in_channels, out_channels, kernel_size, 2, relu=False))


class Transition(nn.ModuleList):
    """Branches of one stage -> branches of the next. `parts[b]` works on branch b, new branches on the last old one."""

    def forward(self, xs: list[Tensor]) -> list[Tensor]:
        return [part(xs[min(b, len(xs) - 1)]) for b, part in enumerate(self)]


def separable_transition(old: Sequence[int], new: Sequence[int], kernel_size: int = 3) -> Transition:
    """Lite-HRNet's transition: a branch whose width changes gets a 3x3 step, each new one a stride-2 step."""
    parts = [nn.Identity() if a == b else separable(a, b) for a, b in zip(old, new, strict=False)]
    parts += [nn.Sequential(separable(old[-1], width, kernel_size, 2)) for width in new[len(old) :]]
    return Transition(parts)


class HighResolutionModule(nn.Module):
    """Units one after the other, then fusion: every branch becomes the sum of all branches brought to its size, ReLU.

    `outputs` limits how many branches the fusion produces (HRNet's last module: 1). `double_first` is the released Lite-
    and Dite-HRNet code's in-place sum instead of HRNet's: branch 0 counts twice, and the other branches read it after that
    sum, "before_relu" (Lite) or "after_relu" (Dite). None, the default, is the sum the papers describe. That code runs the
    paths from branch 0 twice on one input; once and doubled is the same value, and the running statistics are made to move
    as if by two updates. `relu` is given as a module where the peers' counter should see it (`complexity.peer_count`).
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
                norm.momentum = 1 - (1 - norm.momentum) ** 2

    def doubled_norms(self) -> Iterator[nn.BatchNorm2d]:
        """The norms on the paths from branch 0 to the others."""
        for paths in self.fuse_layers[1:]:
            yield from (module for module in paths[0].modules() if isinstance(module, nn.BatchNorm2d))

    def forward(self, xs: list[Tensor]) -> list[Tensor]:
        if self.double_first:
            for norm in self.doubled_norms():
                if norm.training:
                    norm.num_batches_tracked.add_(1)  # the second update; the norm counts the first itself
        xs = self.layers(xs)
        times = 2 if self.double_first else 1
        first, ys = xs[0], []
        for i, paths in enumerate(self.fuse_layers):
            y = times * paths[0](first) if times > 1 else paths[0](first)
            for path, x in zip(paths[1:], xs[1:], strict=True):
                y = y + path(x)
            ys.append(self.relu(y))
            if i == 0 and self.double_first:
                first = y if self.double_first == "before_relu" else ys[0]
        return ys


class IterativeHead(nn.Module):
    """From the lowest branch upwards: separable step, enlarge, add to the next branch; gives the highest one (N, C0, H/4, W/4).

    Lite-HRNet, kept by MDW-HRNet as reconstructed (dossier choice 12a). Lite and Dite align corners, MDW does not.
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
        y = None
        for x, step in zip(reversed(xs), self.projects, strict=True):
            if y is not None:
                x = x + upsample(y, x.shape[-2:], align_corners=self.align_corners)
            y = step.pointwise_conv(step.depthwise_conv(x))
        return y


class HighestBranch(nn.Module):
    """HRNet's head: branch 0 as it is."""

    def forward(self, xs: list[Tensor]) -> Tensor:
        return xs[0]


def grow(
    modules: Sequence[int],
    widths: Sequence[int],
    old: Sequence[int],
    transition: Callable[[Sequence[int], Sequence[int]], Transition],
    module: Callable[[Sequence[int]], nn.Module],
) -> tuple[list[Transition], list[list[nn.Module]]]:
    """Transitions and stages for HighResolutionNet: stage s has `modules[s]` modules on the first s + 2 of `widths`.

    `old` are the widths the stem gives; `transition(old, new)` and `module(widths)` build the parts.
    """
    transitions, stages = [], []
    for s, count in enumerate(modules):
        new = list(widths[: s + 2])
        transitions.append(transition(old, new))
        stages.append([module(new) for _ in range(count)])
        old = new
    return transitions, stages


class HighResolutionNet(nn.Module):
    """(N, 3, H, W) normalised RGB -> (N, num_joints, H/4, W/4) heat maps.

    `stem`: (N, 3, H, W) -> (N, stem_channels, H/4, W/4). `transitions[s]` and `stages[s]` (a sequence of modules) map lists
    to lists; `head` maps the last list to one map of `head_channels`. Raises MdwError for sides that do not halve evenly.
    """

    def __init__(
        self,
        stem: nn.Module,
        transitions: Sequence[Transition],
        stages: Sequence[Sequence[nn.Module]],
        head: nn.Module,
        head_channels: int,
        num_joints: int,
    ):
        super().__init__()
        self.stem = stem
        for s, (transition, modules) in enumerate(zip(transitions, stages, strict=True)):
            self.add_module(f"transition{s}", transition)
            self.add_module(f"stage{s}", nn.Sequential(*modules))
        self.num_stages = len(stages)
        self.head_layer = head
        self.final_layer = nn.Conv2d(head_channels, num_joints, 1)

    @property
    def size_multiple(self) -> int:
        """Both input sides must be multiples of this: the stem quarters, each further branch halves."""
        return 4 * 2**self.num_stages

    def branches(self, x: Tensor) -> list[Tensor]:
        """The last stage's branches, highest resolution first; what the head reads."""
        check_input(x, self.size_multiple)
        xs = [self.stem(x)]
        for s in range(self.num_stages):
            xs = self.get_submodule(f"transition{s}")(xs)
            xs = self.get_submodule(f"stage{s}")(xs)
        return xs

    def forward(self, x: Tensor) -> Tensor:
        return self.final_layer(self.head_layer(self.branches(x)))
