"""Bilinear upsampling with the values of `F.interpolate` and a faster gradient.

torch scatters the gradient value by value, which took an eighth of a training step on a CPU. Here the gradient on a CPU is two
products with small matrices, because the map is linear and separable. A compiler gets element-wise code, whose gradient is also
element-wise; a scatter would be a separate kernel with atomic sums.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@lru_cache(maxsize=64)
def _interpolation(small: int, large: int, align_corners: bool) -> Tensor:
    """Returns a matrix (large, small): row y has the weights of the small line's values in the large line's value y."""
    unit = torch.eye(small, dtype=torch.float64).unsqueeze(0)  # (1, small channels, small): one impulse per channel
    return F.interpolate(unit, size=large, mode="linear", align_corners=align_corners)[0].T.contiguous()


class _Bilinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, height: int, width: int, align_corners: bool) -> Tensor:
        ctx.sizes = (*x.shape[-2:], height, width, align_corners)
        return F.interpolate(x, size=(height, width), mode="bilinear", align_corners=align_corners)

    @staticmethod
    def backward(ctx, grad: Tensor):
        h, w, height, width, align_corners = ctx.sizes
        across = _interpolation(w, width, align_corners).to(grad)  # (W, w)
        down = _interpolation(h, height, align_corners).to(grad)  # (H, h)
        lines = torch.matmul(grad, across)  # (N, C, H, w)
        return torch.matmul(down.T, lines), None, None, None


def _upsample_last(x: Tensor, factor: int) -> Tensor:
    """Upsamples the last dimension linearly by an integer factor, corners not aligned, as element-wise code."""
    offset = (torch.arange(factor, device=x.device, dtype=x.dtype) + 0.5) / factor - 0.5  # from the small pixel's centre
    previous = torch.cat([x[..., :1], x[..., :-1]], dim=-1).unsqueeze(-1)
    following = torch.cat([x[..., 1:], x[..., -1:]], dim=-1).unsqueeze(-1)
    y = previous * (-offset).clamp(min=0) + x.unsqueeze(-1) * (1 - offset.abs()) + following * offset.clamp(min=0)
    return y.flatten(-2)


def bilinear(x: Tensor, size: Sequence[int], align_corners: bool = False) -> Tensor:
    """Returns `F.interpolate(x, size, mode="bilinear")` of (N, C, h, w), with the faster gradient."""
    (h, w), (height, width) = x.shape[-2:], size
    if torch.compiler.is_dynamo_compiling():
        if not align_corners and height % h == 0 and width % w == 0:
            return _upsample_last(_upsample_last(x, width // w).mT, height // h).mT
    elif x.device.type == "cpu" and x.requires_grad and torch.is_grad_enabled():
        return _Bilinear.apply(x, height, width, align_corners)
    return F.interpolate(x, size=(height, width), mode="bilinear", align_corners=align_corners)


class Upsample(nn.Upsample):
    """`nn.Upsample` by an integer factor; bilinear through `bilinear` above."""

    def forward(self, x: Tensor) -> Tensor:
        if self.mode != "bilinear":
            return super().forward(x)
        height, width = x.shape[-2:]
        factor = int(cast(float, self.scale_factor))
        return bilinear(x, (height * factor, width * factor))
