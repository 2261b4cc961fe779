"""A network's norms folded into the convolutions before them: for inference and export, never for training."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from mdw.models.dynamic_conv import ConstantAttention, DynamicDepthwiseConv, mix
from mdw.models.layers import ConvBN
from mdw.models.mdw_module import SplitConv


def fold_norms(model: nn.Module) -> nn.Module:
    """Fold every norm of `model` that follows a convolution, in place; returns `model`.

    It gives the same maps up to rounding in evaluation mode, has other parameters, and cannot be trained.
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
    """What is left of a norm whose scale went into the kernels before it: x + bias, channel by channel."""

    def __init__(self, bias: Tensor):
        super().__init__()
        self.bias = nn.Parameter(bias)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.bias[:, None, None]


def static(conv: DynamicDepthwiseConv) -> nn.Conv2d:
    """The depthwise convolution that a bank with constant gates comes to."""
    weight = mix(conv.bank, conv.attention(conv.weight[:1]))[0]  # the gates of any input are those of all
    options: dict[str, Any] = {"device": weight.device, "dtype": weight.dtype, **conv.geometry}
    one = nn.Conv2d(conv.out_channels, conv.out_channels, conv.kernel_size, bias=False, **options)
    one.weight = nn.Parameter(weight)
    return one.train(conv.training)


def fold(conv: nn.Module, norm: nn.Module) -> tuple[nn.Module, nn.Module]:
    """A pair that is equal to `conv` and then `norm`, with less behind the convolution; both as they are where they do not fit.

    A static convolution takes all of the norm, and so does a bank with constant gates, which is one. A dynamic convolution
    takes its scale and leaves a `Shift`, so that the pair is right however it is computed.
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
