"""A copy of a network for inference: every norm folded into the convolution before it, computed by the kernels."""

import copy

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from mdw.models.dynamic_conv import DynamicDepthwiseConv
from mdw.models.layers import ConvBN
from mdw.models.mdw_module import SplitConv


def for_inference(model: nn.Module) -> nn.Module:
    """A copy of `model` in evaluation mode with its norms folded, tuned where the kernels work; `model` stays as it is.

    It gives the same maps up to rounding, has other parameters, and cannot be trained. Raises MdwError as `tune` does.
    """
    from mdw.tuned import plain, tune

    model = plain(copy.deepcopy(model)).eval()
    for module in list(model.modules()):
        if isinstance(module, nn.Sequential):
            for i in range(len(module) - 1):
                module[i], module[i + 1] = fold(module[i], module[i + 1])
        elif isinstance(module, ConvBN):
            module.conv, module.bn = fold(module.conv, module.bn)
        elif isinstance(module, SplitConv):
            for i in range(len(module.convs)):
                module.convs[i], module.norms[i] = fold(module.convs[i], module.norms[i])
    return tune(model.requires_grad_(False))


def fold(conv: nn.Module, norm: nn.Module) -> tuple[nn.Module, nn.Module]:
    """(convolution with a bias, identity) equal to `conv` and then `norm`; both as they are where they are no such pair."""
    if type(norm) is not nn.BatchNorm2d:
        return conv, norm
    if type(conv) is nn.Conv2d:
        return fuse_conv_bn_eval(conv, norm), nn.Identity()
    if isinstance(conv, DynamicDepthwiseConv):
        scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
        conv.weight = nn.Parameter(conv.weight * scale[:, None, None])  # (n, C, k, k)
        conv.bias = nn.Parameter(norm.bias - norm.running_mean * scale)
        return conv, nn.Identity()
    return conv, norm
