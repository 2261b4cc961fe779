"""Bilinear enlargement in the form that suits whoever computes it. The value is `F.interpolate`'s; its gradient is the reason.

torch scatters the gradient value by value, which took an eighth of a training step on a CPU: there the adjoint of a separable
linear map is two products with small matrices. A compiler gets element-wise code, whose gradient is element-wise as well; a
scatter would be a kernel of its own with atomic sums.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@lru_cache(maxsize=64)
def _interpolation(small: int, large: int, align_corners: bool) -> Tensor:
    """(large, small): row y holds the weights with which the small line's values make the large line's value y."""
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


def _lengthen(x: Tensor, factor: int) -> Tensor:
    """Linear enlargement of the last dimension by a whole factor, corners not aligned, as element-wise code."""
    offset = (torch.arange(factor, device=x.device, dtype=x.dtype) + 0.5) / factor - 0.5  # from the small pixel's centre
    before = torch.cat([x[..., :1], x[..., :-1]], dim=-1).unsqueeze(-1)
    after = torch.cat([x[..., 1:], x[..., -1:]], dim=-1).unsqueeze(-1)
    y = before * (-offset).clamp(min=0) + x.unsqueeze(-1) * (1 - offset.abs()) + after * offset.clamp(min=0)
    return y.flatten(-2)


def bilinear(x: Tensor, size: Sequence[int], align_corners: bool = False) -> Tensor:
    """`F.interpolate(x, size, mode="bilinear")` of (N, C, h, w), with the faster gradient where one is wanted."""
    (h, w), (height, width) = x.shape[-2:], size
    if torch.compiler.is_dynamo_compiling():
        if not align_corners and height % h == 0 and width % w == 0:
            return _lengthen(_lengthen(x, width // w).mT, height // h).mT
    elif x.device.type == "cpu" and x.requires_grad and torch.is_grad_enabled():
        return _Bilinear.apply(x, height, width, align_corners)
    return F.interpolate(x, size=(height, width), mode="bilinear", align_corners=align_corners)


class Enlarge(nn.Upsample):
    """`nn.Upsample` by a whole factor; bilinear through `bilinear` above."""

    def forward(self, x: Tensor) -> Tensor:
        if self.mode != "bilinear":
            return super().forward(x)
        height, width = x.shape[-2:]
        factor = int(cast(float, self.scale_factor))
        return bilinear(x, (height * factor, width * factor))
