"""The networks' modules with forward passes by the kernels. Parameters, names and values stay the same.

Each class here replaces one class of `mdw.models` (`REPLACED`) and has the same attributes, so a module is switched by changing
its class. Input that a kernel does not support (another device or precision, a traced network) takes the ordinary way.
"""

from collections.abc import Sequence
from typing import Any, TypeGuard, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mdw.backends.cpu.ops import (
    Attend,
    DepthwiseNorm,
    Fuse,
    Interleave,
    Norm,
    Part,
    Pointwise,
    Split,
    Spread,
    depthwise_fixed,
    fits,
    line_gates,
    pointwise,
)
from mdw.models.context import GCM_C, GCM_S
from mdw.models.dite_hrnet import DenseContext, DynamicMultiScaleContext, DynamicSplitConv, GlobalContext
from mdw.models.dynamic_conv import CrossChannelAttention, DynamicConv
from mdw.models.fold import Shift
from mdw.models.fusion import HighResolutionModule, IterativeHead, PathUp
from mdw.models.layers import ConvBN, Convolution, shuffle
from mdw.models.lite_hrnet import ConditionalChannelWeighting
from mdw.models.mdw_module import MDWModule, SplitConv


def update(norm: nn.BatchNorm2d, mean: Tensor, variance: Tensor, count: int) -> None:
    """Move the running statistics of `norm` by one batch of `count` values a channel, as nn.BatchNorm2d does."""
    assert norm.num_batches_tracked is not None and norm.running_mean is not None and norm.running_var is not None
    assert norm.momentum is not None, "see `is_plain`"
    with torch.no_grad():
        norm.num_batches_tracked.add_(1)
        norm.running_mean.lerp_(mean, norm.momentum)
        norm.running_var.mul_(1 - norm.momentum).add_(variance, alpha=norm.momentum * count / (count - 1))


def is_plain(norm: nn.Module) -> TypeGuard[nn.BatchNorm2d]:
    return type(norm) is nn.BatchNorm2d and norm.affine and norm.track_running_stats and norm.momentum is not None


def normalise(x: Tensor, norm: nn.Module, relu: bool) -> Tensor:
    """Returns relu?(norm(x)), by the kernel in a training step."""
    if is_plain(norm) and norm.training and fits(x):
        y, mean, variance = Norm.apply(x, norm.weight, norm.bias, norm.eps, relu)
        update(norm, mean, variance, x.numel() // x.shape[1])
        return y
    y = norm(x)
    return F.relu(y, inplace=not y.requires_grad and y is not x) if relu else y


def is_depthwise(conv: nn.Module) -> TypeGuard[Convolution]:
    """Returns whether the depthwise kernel can compute `conv`: static or dynamic, square, equal padding."""
    if isinstance(conv, DynamicConv):
        if type(conv).forward is not DynamicConv.forward or conv.geometry["dilation"] != 1:
            return False
        _, out, fan_in, size, _ = conv.bank.shape
        return out == conv.geometry["groups"] > 1 == fan_in and size <= 9
    return (
        isinstance(conv, nn.Conv2d)
        and 1 < conv.groups == conv.in_channels == conv.out_channels
        and conv.kernel_size[0] == conv.kernel_size[1] <= 9
        and conv.stride[0] == conv.stride[1] <= 2
        and conv.padding == (conv.padding[0],) * 2
        and conv.dilation == (1, 1)
        and conv.padding_mode == "zeros"
    )


def is_pointwise(conv: nn.Module) -> TypeGuard[nn.Conv2d]:
    return (
        isinstance(conv, nn.Conv2d)
        and conv.kernel_size == conv.stride == (1, 1)
        and conv.groups == 1
        and conv.padding == (0, 0)
    )


def stride_and_padding(conv: Convolution) -> tuple[int, int]:
    if isinstance(conv, DynamicConv):
        return conv.geometry["stride"], conv.geometry["padding"]
    return conv.stride[0], int(conv.padding[0])


def part_of(x: Tensor, conv: Convolution, norm: nn.BatchNorm2d | None = None) -> Part:
    """Returns a depthwise `conv` on x (N, C, H, W), and the norm after it, as arguments of the kernel."""
    scale, shift = (norm.weight, norm.bias) if norm else (None, None)
    if not isinstance(conv, DynamicConv):
        return Part(conv.weight.transpose(0, 1), None, scale, shift)
    bank, attention = conv.bank[:, :, 0], conv.attention
    if type(attention) is CrossChannelAttention:
        along, to = attention.along_channels.weight.flatten(), attention.to_kernels.weight.flatten(1)
        return Part(bank, None, scale, shift, along, to)
    return Part(bank, attention(x).expand(-1, -1, x.shape[1]), scale, shift)


def convolve(x: Tensor, conv: nn.Module, norm: nn.Module, relu: bool) -> Tensor:
    """Returns relu?(norm(conv(x))); a depthwise convolution and its norm are one kernel."""
    if not fits(x):
        return normalise(conv(x), norm, relu)
    needs_gradient = torch.is_grad_enabled() and (x.requires_grad or any(p.requires_grad for p in conv.parameters()))
    bias, no_norm = getattr(conv, "bias", None), isinstance(norm, nn.Identity)
    if is_pointwise(conv) and not needs_gradient:
        y = pointwise(x, conv.weight, bias, relu and no_norm)
        return y if no_norm else normalise(y, norm, relu)
    if is_pointwise(conv):
        return normalise(Pointwise.apply(x, conv.weight, bias), norm, relu)
    if not is_depthwise(conv) or (bias is not None and not no_norm):
        return normalise(conv(x), norm, relu)
    shift = norm.bias if isinstance(norm, Shift) else bias  # where a norm was folded for inference
    if shift is not None and needs_gradient:
        return normalise(conv(x), norm, relu)
    stride, padding = stride_and_padding(conv)
    if shift is not None:
        part = part_of(x, conv)
        gates = part.gates if part.along is None or part.to is None else line_gates(x, part.along, part.to)
        return depthwise_fixed(x, part.bank, gates, shift, stride, padding, relu)
    if not is_plain(norm) or not norm.training:
        y = DepthwiseNorm.apply(x, stride, (padding,), 0.0, False, *part_of(x, conv))[0]
        return normalise(y, norm, relu)
    y, mean, variance = DepthwiseNorm.apply(x, stride, (padding,), norm.eps, relu, *part_of(x, conv, norm))
    update(norm, mean, variance, y.numel() // y.shape[1])
    return y


def split_convolve(x: Tensor, widths: list[int], convs: Sequence[nn.Module], norms: Sequence[nn.Module], relu: bool) -> Tensor:
    """Returns the shuffle of relu?(norm(conv(part))) over parts of x's channels; in a training step one kernel, no copy."""
    inputs, possible = x.split(widths, dim=1), len(widths) > 1 and fits(x)
    plain = [norm for norm in norms if possible and is_plain(norm) and norm.training]
    suitable = [
        conv for conv in convs if possible and is_depthwise(conv) and _keeps_size(conv) and getattr(conv, "bias", None) is None
    ]
    if not (len(inputs) == len(suitable) == len(plain) and len({norm.eps for norm in plain}) == 1):
        return shuffle([convolve(part, conv, norm, relu) for part, conv, norm in zip(inputs, convs, norms, strict=True)])
    paddings = tuple(side(conv) // 2 for conv in suitable)
    tensors = [t for part, conv, norm in zip(inputs, suitable, plain, strict=True) for t in part_of(part, conv, norm)]
    y, *statistics = DepthwiseNorm.apply(x, 1, paddings, plain[0].eps, relu, *tensors)
    for norm, mean, variance in zip(plain, statistics[::2], statistics[1::2], strict=True):
        update(norm, mean, variance, y.numel() // y.shape[1])
    return y


def side(conv: Convolution) -> int:
    """Returns the side of its square kernel."""
    return conv.bank.shape[-1] if isinstance(conv, DynamicConv) else conv.kernel_size[0]


def _keeps_size(conv: Convolution) -> bool:
    return stride_and_padding(conv) == (1, side(conv) // 2) and side(conv) % 2 == 1


class TunedSequential(nn.Sequential):
    """Computes children (convolution, norm[, ReLU]) as one step."""

    def forward(self, x):
        children = list(self)
        i = 0
        while i < len(children):
            child, norm = children[i], children[i + 1] if i + 1 < len(children) else None
            if isinstance(norm, (nn.BatchNorm2d, nn.Identity, Shift)) and isinstance(child, (nn.Conv2d, DynamicConv)):
                relu = i + 2 < len(children) and isinstance(children[i + 2], nn.ReLU)
                x = convolve(x, child, norm, relu)
                i += 3 if relu else 2
            else:
                x = child(x)
                i += 1
        return x


class TunedConvBN(ConvBN):
    def forward(self, x: Tensor) -> Tensor:
        return convolve(x, self.conv, self.bn, isinstance(self.relu, nn.ReLU))


class TunedConv2d(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        if not is_pointwise(self) or not fits(x):
            return super().forward(x)
        return convolve(x, self, nn.Identity(), False)


class TunedSplitConv(SplitConv):
    def forward(self, x: Tensor) -> Tensor:
        return split_convolve(x, self.widths, list(self.convs), list(self.norms), isinstance(self.relu, nn.ReLU))


class TunedDynamicSplitConv(DynamicSplitConv):
    def forward(self, x: Tensor) -> Tensor:
        layers = [layer for layer in self.conv if isinstance(layer, ConvBN)]
        relu = isinstance(layers[0].relu, nn.ReLU)
        return split_convolve(x, self.widths, [layer.conv for layer in layers], [layer.bn for layer in layers], relu)


class TunedMDWModule(MDWModule):
    def forward(self, xs: list[Tensor]) -> list[Tensor]:
        if not fits(xs[0]) or self.order != "spatial_first":
            return super().forward(xs)
        spatial = isinstance(self.gcm_s, GCM_S)
        untouched, worked = _halves(xs, self.gcm_s.weights_of_means if spatial else None, "bilinear")
        worked = self.convolve(worked)
        return [_join(k, x, gate) for k, x, gate in zip(untouched, worked, self.gcm_c, strict=True)]


class TunedConditionalChannelWeighting(ConditionalChannelWeighting):
    def forward(self, xs: list[Tensor]) -> list[Tensor]:
        if not fits(xs[0]):
            return super().forward(xs)
        untouched, worked = _halves(xs, self.cross_resolution_weighting.weights_of_means, "nearest")
        worked = [gate(conv(x)) for gate, conv, x in zip(self.spatial_weighting, self.depthwise_convs, worked, strict=True)]
        return [Interleave.apply(k, x, None) for k, x in zip(untouched, worked, strict=True)]


class TunedGlobalContext(GlobalContext):
    def forward(self, x: Tensor) -> Tensor:
        if not fits(x):
            return super().forward(x)
        x, context = Attend.apply(x, self.conv_mask.weight.flatten())
        if self.conv_mask.bias is not None:  # a softmax does not depend on it: its gradient is zero, not None
            context = context + 0 * self.conv_mask.bias
        return normalise(Spread.apply(x, self.channel_attention(context[:, :, None, None]), "nearest"), self.bn, False)


class TunedDenseContext(DenseContext):
    def forward(self, xs: list[Tensor]) -> list[Tensor]:
        if not fits(xs[0]):
            return super().forward(xs)
        return [Spread.apply(x, gates, "nearest") for x, gates in zip(xs, self.gates(xs), strict=True)]


class TunedDynamicMultiScaleContext(DynamicMultiScaleContext):
    def forward(self, xs: list[Tensor]) -> list[Tensor]:
        if not fits(xs[0]):
            return super().forward(xs)
        untouched, worked = _halves(xs, None, "nearest")
        return [Interleave.apply(k, x, None) for k, x in zip(untouched, self.work(worked), strict=True)]


def _halves(xs: list[Tensor], weights, mode: str) -> tuple[list[Tensor], list[Tensor]]:
    """Returns both halves of every branch; with `weights` the second is multiplied by its gate from all block means."""
    lowest = len(xs) - 1
    halves = [Split.apply(x, 2 ** (lowest - b) if weights else 0) for b, x in enumerate(xs)]
    untouched, worked = [s[0] for s in halves], [s[1] for s in halves]
    if weights:
        worked = [Spread.apply(x, g, mode) for x, g in zip(worked, weights([s[2] for s in halves]), strict=True)]
    return untouched, worked


def _join(untouched: Tensor, x: Tensor, gate: nn.Module) -> Tensor:
    """Returns shuffle([untouched, gate(x)]), with GCM_C's product and the shuffle in one."""
    if isinstance(gate, nn.Identity):
        return Interleave.apply(untouched, x, None)
    if type(gate) is not GCM_C or not isinstance(gate.bn, nn.Identity):
        return Interleave.apply(untouched, gate(x), None)
    x, context = Attend.apply(x, gate.position.weight[0])
    return Interleave.apply(untouched, x, gate.gate_of(context))


class TunedHighResolutionModule(HighResolutionModule):
    def fuse(self, xs: list[Tensor]) -> list[Tensor]:
        layers = cast(Sequence[nn.ModuleList], self.fuse_layers)
        if not fits(xs[0]) or not all(isinstance(path, PathUp) for path in layers[0][1:]):
            return super().fuse(xs)
        branch0, ys, times = xs[0], [], 2 if self.double_first else 1
        for i, paths in enumerate(layers):
            full = [path(x) for path, x in zip(paths[: i + 1], [branch0, *xs[1 : i + 1]], strict=True)]
            ups = [path for path in paths[i + 1 :] if isinstance(path, PathUp)]
            low = [convolve(x, up[0], up[1], False) for up, x in zip(ups, xs[i + 1 :], strict=True)]
            mode = ups[0].mode if ups else "bilinear"
            relu_later = i == 0 and self.double_first == "before_relu"
            y = Fuse.apply(float(times), not relu_later, mode, len(full), *full, *low)
            ys.append(torch.relu(y) if relu_later else y)
            if i == 0 and self.double_first:
                branch0 = y
        return ys


class TunedIterativeHead(IterativeHead):
    def forward(self, xs: list[Tensor]) -> Tensor:
        if not fits(xs[0]):
            return super().forward(xs)
        y: Tensor | None = None
        for x, step in zip(reversed(xs), cast(Sequence[Any], self.projects), strict=True):
            if y is not None:
                x = Fuse.apply(1.0, False, "corners" if self.align_corners else "bilinear", 1, x, y)
            y = step.pointwise_conv(step.depthwise_conv(x))
        assert y is not None, "there is at least one branch"
        return y


REPLACED = {
    nn.Sequential: TunedSequential,
    nn.Conv2d: TunedConv2d,
    ConvBN: TunedConvBN,
    SplitConv: TunedSplitConv,
    DynamicSplitConv: TunedDynamicSplitConv,
    GlobalContext: TunedGlobalContext,
    DenseContext: TunedDenseContext,
    DynamicMultiScaleContext: TunedDynamicMultiScaleContext,
    MDWModule: TunedMDWModule,
    ConditionalChannelWeighting: TunedConditionalChannelWeighting,
    HighResolutionModule: TunedHighResolutionModule,
    IterativeHead: TunedIterativeHead,
}
