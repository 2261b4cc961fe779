"""Folds a network's norms into the convolutions before them, for inference and export."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from mdw.models.dynamic_conv import ConstantAttention, DynamicDepthwiseConv, mix
from mdw.models.layers import ConvBN
from mdw.models.mdw_module import SplitConv


def fold_norms(model: nn.Module) -> nn.Module:
    """Fold every norm of `model` that follows a convolution, in place; returns `model`.

    In evaluation mode the heatmaps are the same up to rounding; the parameters differ and cannot be trained further.
    """
    for module in list(model.modules()):
        if isinstance(module, nn.Sequential):
            for i in range(len(module) - 1):
                module[i], module[i + 1] = fold(module[i], module[i + 1])
        elif isinstance(module, ConvBN):
            layer: Any = module
            layer.conv, layer.bn = fold(layer.conv, layer.bn)
        elif isinstance(module, SplitConv):
            for i in range(len(module.convs)):
                module.convs[i], module.norms[i] = fold(module.convs[i], module.norms[i])
    return model


class Shift(nn.Module):
    """The remainder of a norm whose scale was folded into the kernels before it: x + bias, channel by channel."""

    def __init__(self, bias: Tensor):
        super().__init__()
        self.bias = nn.Parameter(bias)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.bias[:, None, None]


def static(conv: DynamicDepthwiseConv) -> nn.Conv2d:
    """Returns the depthwise convolution that equals a bank with constant gates."""
    weight = mix(conv.bank, conv.attention(conv.weight[:1]))[0]  # the gates do not depend on the input
    options: dict[str, Any] = {"device": weight.device, "dtype": weight.dtype, **conv.geometry}
    plain_conv = nn.Conv2d(conv.out_channels, conv.out_channels, conv.kernel_size, bias=False, **options)
    plain_conv.weight = nn.Parameter(weight)
    return plain_conv.train(conv.training)


def fold(conv: nn.Module, norm: nn.Module) -> tuple[nn.Module, nn.Module]:
    """Returns a pair of modules equal to `conv` followed by `norm`, with the norm folded; unchanged where it cannot be.

    A static convolution takes the whole norm, and so does a bank with constant gates, which becomes one. A dynamic convolution
    takes its scale and leaves a `Shift`, which is right in both forms of the convolution.
    """
    if type(norm) is not nn.BatchNorm2d:
        return conv, norm
    if isinstance(conv, DynamicDepthwiseConv) and type(conv.attention) is ConstantAttention:
        conv = static(conv)
    if type(conv) is nn.Conv2d:
        return fuse_conv_bn_eval(conv, norm), nn.Identity()
    if isinstance(conv, DynamicDepthwiseConv):
        assert norm.running_var is not None and norm.running_mean is not None, "a norm without statistics cannot be folded"
        scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
        conv.weight = nn.Parameter(conv.weight * scale[:, None, None])  # (n, C, k, k)
        return conv, Shift(norm.bias - norm.running_mean * scale)
    return conv, norm
