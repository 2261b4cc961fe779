"""The kernels as differentiable functions of CPU tensors, float32 or float64. Docstrings give the equal torch expression."""

import ctypes
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from mdw.backends.cpu.library import kernels

MODES = {"nearest": 0, "bilinear": 1, "corners": 2}


def fits(x: Tensor) -> bool:
    """Returns whether the kernels can compute `x`: float32 or float64 on the CPU, without autocast and tracing."""
    if x.dtype not in (torch.float32, torch.float64) or not x.is_cpu or torch.is_autocast_enabled("cpu"):
        return False
    return not torch.compiler.is_compiling() and not torch.jit.is_tracing()


def kernels_for(x: Tensor):
    """Returns the kernels for the precision of `x`."""
    return kernels("double" if x.dtype is torch.float64 else "float")


def planes(x: Tensor) -> Tensor:
    """Returns x (N, C, H, W) itself where the planes of an image are contiguous (as in half of the channels), else a copy."""
    _, c, h, w = x.shape
    return x if x.stride()[1:] == (h * w, w, 1) else x.contiguous()


def _p(x: Tensor | None) -> int | None:
    return None if x is None else x.data_ptr()


def _step(x: Tensor) -> int:
    return x.stride(0)


class Part(NamedTuple):
    """One depthwise convolution of a `DepthwiseNorm`, and the BatchNorm after it in a training step.

    bank (n, C, k, k); gates (N, n, C) or None where n is 1; gamma, beta (C,) or None for no norm. With along (K,) and to (n, 3)
    the gates are Eq. 5's of the input itself.
    """

    bank: Tensor
    gates: Tensor | None = None
    gamma: Tensor | None = None
    beta: Tensor | None = None
    along: Tensor | None = None
    to: Tensor | None = None


class DepthwiseNorm(Function):
    """relu?(norm?(conv(x))) of depthwise convolutions on the parts of x's channels, shuffled (`mdw.models.layers.shuffle`).

    `DepthwiseNorm.apply(x, stride, paddings, eps, relu, *part, *part, ...)`: x (N, C, H, W), a padding and the fields of a
    `Part` for each part. Several parts have stride 1 and keep the size. Returns y (N, C, H', W'), then mean (C,) and biased
    variance (C,) of each part, None without a norm.
    """

    @staticmethod
    def forward(ctx, x, stride, paddings, eps, relu, *tensors):
        k, x = kernels_for(x), planes(x)
        N, _, H, W = x.shape
        parts = [Part(*tensors[i : i + len(Part._fields)]) for i in range(0, len(tensors), len(Part._fields))]
        size, padding = parts[0].bank.shape[-1], paddings[0]
        y = x.new_empty(N, x.shape[1], (H + 2 * padding - size) // stride + 1, (W + 2 * padding - size) // stride + 1)
        channel, statistics, saved, shortest = 0, [], [], min(part.bank.shape[1] for part in parts)
        for i, (part, padding) in enumerate(zip(parts, paddings, strict=True)):
            bank = part.bank.contiguous()
            gates, gamma, beta, along, to = (t if t is None else t.contiguous() for t in part[1:])
            n, C, size, _ = bank.shape
            worked, pooled, middle, conv, mean, scale, variance = x[:, channel : channel + C], *[None] * 6
            if along is not None:
                pooled, middle, gates = x.new_empty(N, C), x.new_empty(N, C), x.new_empty(N, n, C)
                k.means(_p(worked), _step(x), N, C, H * W, _p(pooled))
                k.line_gates_forward(_p(pooled), N, C, _p(along), along.numel(), _p(to), n, _p(middle), _p(gates))
            if gamma is not None:
                conv, (mean, scale, variance) = x.new_empty(N, C, *y.shape[2:]), x.new_empty(3, C)
            k.depthwise_forward(
                _p(worked), _step(x), N, C, H, W, size, stride, padding, _p(bank), _p(gates), n, _p(gamma), _p(beta), eps,
                _p(conv), _p(y), _step(y), _p(mean), _p(scale), _p(variance), relu, 0, len(parts), i, shortest,
            )  # fmt: skip
            channel += C
            statistics += [mean, variance]
            saved += [bank, gates, gamma, along, to, pooled, middle, conv, mean, scale]
        ctx.save_for_backward(x, y if relu else None, *saved)
        ctx.geometry = stride, paddings, relu, shortest
        ctx.mark_non_differentiable(*(t for t in statistics if t is not None))
        return y, *statistics

    @staticmethod
    @once_differentiable
    def backward(ctx, dy, *_statistics):
        k, (x, y, *saved) = kernels_for(dy), ctx.saved_tensors
        stride, paddings, relu, shortest = ctx.geometry
        dy, dx, channel, gradients = dy.contiguous(), x.new_empty(x.shape), 0, []
        N, _, H, W = x.shape
        for i, padding in enumerate(paddings):
            bank, gates, gamma, along, to, pooled, middle, conv, mean, scale = saved[10 * i : 10 * i + 10]
            n, C, size, _ = bank.shape
            worked, dworked = x[:, channel : channel + C], dx[:, channel : channel + C]
            dbank, dgates, dgamma, dbeta = (t if t is None else torch.empty_like(t) for t in (bank, gates, gamma, gamma))
            k.depthwise_backward(
                _p(dy), _p(dy if y is None else y), _step(dy), _p(conv), _p(worked), _step(x), N, C, H, W, size, stride,
                padding, _p(bank), _p(gates), n, _p(gamma), _p(mean), _p(scale), _p(dworked), _step(dx), _p(dbank), _p(dgates),
                _p(dgamma), _p(dbeta), relu, len(paddings), i, shortest,
            )  # fmt: skip
            dalong = dto = None
            if along is not None:
                dpooled, dalong, dto = torch.empty_like(pooled), torch.empty_like(along), torch.empty_like(to)
                k.line_gates_backward(
                    _p(dgates), _p(gates), _p(pooled), _p(middle), N, C, _p(along), along.numel(), _p(to), n, _p(dpooled),
                    _p(dalong), _p(dto),
                )  # fmt: skip
                k.add_means(_p(dworked), _step(dx), N, C, H * W, _p(dpooled))
                dgates = None
            channel += C
            gradients += [dbank, dgates, dgamma, dbeta, dalong, dto]
        return dx, None, None, None, None, *gradients


def depthwise_fixed(
    x: Tensor, bank: Tensor, gates: Tensor | None, bias: Tensor, stride: int, padding: int, relu: bool
) -> Tensor:
    """Returns relu?(conv(x) + bias) for inference, bank (n, C, k, k) and gates (N, n, C) or None; no gradient."""
    x, bank, gates = planes(x), bank.contiguous(), None if gates is None else gates.contiguous()
    N, C, H, W = x.shape
    size = bank.shape[-1]
    y = x.new_empty(N, C, (H + 2 * padding - size) // stride + 1, (W + 2 * padding - size) // stride + 1)
    kernels_for(x).depthwise_forward(
        _p(x), _step(x), N, C, H, W, size, stride, padding, _p(bank), _p(gates), len(bank), None, _p(bias), 0.0, None,
        _p(y), _step(y), None, None, None, relu, 1, 1, 0, C,
    )  # fmt: skip
    return y


def line_gates(x: Tensor, along: Tensor, to: Tensor) -> Tensor:
    """Returns Eq. 5's gates (N, n, C) of x (N, C, H, W) for inference; along (K,), to (n, 3); no gradient."""
    x = planes(x)
    N, C, H, W = x.shape
    pooled, middle, gates = x.new_empty(N, C), x.new_empty(N, C), x.new_empty(N, len(to), C)
    kernels_for(x).means(_p(x), _step(x), N, C, H * W, _p(pooled))
    kernels_for(x).line_gates_forward(_p(pooled), N, C, _p(along), along.numel(), _p(to), len(to), _p(middle), _p(gates))
    return gates


def pointwise(x: Tensor, weight: Tensor, bias: Tensor | None, relu: bool = False) -> Tensor:
    """Returns relu?(conv2d(x, weight, bias)) of a 1x1 convolution; weight (out, in, 1, 1); no gradient."""
    x = planes(x)
    (N, C, H, W), out = x.shape, len(weight)
    y = x.new_empty(N, out, H, W)
    kernels_for(x).pointwise(_p(weight.contiguous()), C, 1, _p(x), _step(x), N, C, out, H * W, _p(bias), _p(y), relu)
    return y


class Pointwise(Function):
    """conv2d(x, weight, bias) of a 1x1 convolution; weight (out, in, 1, 1), bias (out,) or None."""

    @staticmethod
    def forward(ctx, x, weight, bias):
        x, weight = planes(x), weight.contiguous()
        ctx.save_for_backward(x, weight)
        ctx.biased = bias is not None
        return pointwise(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx, dy):
        x, weight = ctx.saved_tensors
        dy = dy.contiguous()
        (N, C, H, W), out = x.shape, len(weight)
        dx = x.new_empty(x.shape)
        kernels_for(x).pointwise(_p(weight), 1, C, _p(dy), _step(dy), N, out, C, H * W, None, _p(dx), 0)
        if H * W >= 128:
            dweight = torch.bmm(dy.flatten(2), x.flatten(2).transpose(1, 2)).sum(0)
        else:  # all images in one product instead of a sum over small ones
            dweight = dy.transpose(0, 1).reshape(out, -1) @ x.transpose(0, 1).reshape(C, -1).T
        return dx, dweight.reshape(weight.shape), dy.sum((0, 2, 3)) if ctx.biased else None


class Norm(Function):
    """relu?(batch_norm(x)) of a training step: y, mean (C,), biased variance (C,)."""

    @staticmethod
    def forward(ctx, x, gamma, beta, eps, relu):
        x = x.contiguous()
        N, C, H, W = x.shape
        y, (mean, scale, variance) = torch.empty_like(x), x.new_empty(3, C)
        kernels_for(x).bn_forward(_p(x), N, C, H * W, _p(gamma), _p(beta), eps, _p(y), _p(mean), _p(scale), _p(variance), relu)
        ctx.save_for_backward(x, gamma, mean, scale, y if relu else None)
        ctx.mark_non_differentiable(mean, variance)
        return y, mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx, dy, _mean, _variance):
        x, gamma, mean, scale, y = ctx.saved_tensors
        dy = dy.contiguous()
        N, C, H, W = x.shape
        dx, dgamma, dbeta = torch.empty_like(x), torch.empty_like(gamma), torch.empty_like(gamma)
        kernels_for(x).bn_backward(
            _p(dy), _p(dy if y is None else y), _p(x), N, C, H * W, _p(gamma), _p(mean), _p(scale), _p(dx), _p(dgamma),
            _p(dbeta), y is not None,
        )  # fmt: skip
        return dx, dgamma, dbeta, None, None


class Attend(Function):
    """x (N, C, H, W), weight (C,) -> x itself and its sum over positions (N, C), weighted by softmax(weight . x)."""

    @staticmethod
    def forward(ctx, x, weight):
        x, weight = planes(x), weight.contiguous()
        N, C, H, W = x.shape
        where, context = x.new_empty(N, H * W), x.new_empty(N, C)
        kernels_for(x).attend_forward(_p(x), _step(x), N, C, H * W, _p(weight), _p(where), _p(context))
        ctx.save_for_backward(x, weight, where)
        return x.view_as(x), context

    @staticmethod
    @once_differentiable
    def backward(ctx, dy, dcontext):
        x, weight, where = ctx.saved_tensors
        N, C, H, W = x.shape
        dx, dweight = x.new_empty(x.shape), x.new_empty(N, C)  # dy may be used elsewhere, so it is only read
        dy, dcontext = dy.contiguous(), dcontext.contiguous()
        kernels_for(x).attend_backward(
            _p(dy), _p(dcontext), _p(where), _p(x), _step(x), N, C, H * W, _p(weight), _p(dx), _p(dweight)
        )
        return dx, dweight.sum(0)


class Split(Function):
    """x (N, 2C, H, W) -> its halves (views) and, with a factor, the second half's means over blocks of factor x factor."""

    @staticmethod
    def forward(ctx, x, factor):
        x = planes(x)
        untouched, worked = x.chunk(2, dim=1)
        ctx.shape, ctx.factor = x.shape, factor
        if not factor:
            return untouched, worked, None
        N, C, H, W = worked.shape
        pooled = x.new_empty(N, C, H // factor, W // factor)
        kernels_for(x).block_means(_p(worked), _step(worked), N, C, H, W, factor, _p(pooled))
        return untouched, worked, pooled

    @staticmethod
    @once_differentiable
    def backward(ctx, dkept, dworked, dpooled):
        N, C, H, W = ctx.shape
        dx = dkept.new_empty(ctx.shape)
        pooled = dpooled.contiguous() if ctx.factor else None
        kernels_for(dx).join_gradient(
            _p(dkept.contiguous()), _p(dworked.contiguous()), _p(pooled), N, C // 2, H, W, ctx.factor, _p(dx)
        )
        return dx, None


class Interleave(Function):
    """untouched, x (N, C, H, W), gates (N, C) or None -> (N, 2C, H, W): channels 2c of `untouched`, 2c + 1 of x * gate."""

    @staticmethod
    def forward(ctx, untouched, x, gates):
        untouched, x = planes(untouched), x.contiguous()
        gates = None if gates is None else gates.contiguous()
        N, C, H, W = x.shape
        y = x.new_empty(N, 2 * C, H, W)
        kernels_for(x).interleave_forward(_p(untouched), _step(untouched), _p(x), _p(gates), N, C, H * W, _p(y))
        ctx.save_for_backward(x if gates is not None else None, gates)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, dy):
        x, gates = ctx.saved_tensors
        dy = dy.contiguous()
        N, C, H, W = dy.shape
        dkept, dx = dy.new_empty(N, C // 2, H, W), dy.new_empty(N, C // 2, H, W)
        dgates = None if gates is None else torch.empty_like(gates)
        kernels_for(dy).interleave_backward(_p(dy), _p(x), _p(gates), N, C // 2, H * W, _p(dkept), _p(dx), _p(dgates))
        return dkept, dx, dgates


class Spread(Function):
    """x (N, C, H, W) times gates (N, C, h, w) upsampled to its size."""

    @staticmethod
    def forward(ctx, x, gates, mode):
        x, gates = planes(x), planes(gates)
        N, C, H, W = x.shape
        h, w = gates.shape[-2:]
        y = x.new_empty(x.shape)
        kernels_for(x).spread_forward(_p(x), _step(x), _p(gates), _step(gates), N, C, H, W, h, w, MODES[mode], _p(y))
        ctx.save_for_backward(x, gates)
        ctx.mode = mode
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, dy):
        x, gates = ctx.saved_tensors
        N, C, H, W = x.shape
        h, w = gates.shape[-2:]
        dx, dgates = x.new_empty(x.shape), gates.new_empty(gates.shape)
        kernels_for(x).spread_backward(
            _p(dy.contiguous()), _p(x), _step(x), _p(gates), _step(gates), N, C, H, W, h, w, MODES[ctx.mode], _p(dx), _p(dgates)
        )
        return dx, dgates, None


class Fuse(Function):
    """relu?(times * full[0] + full[1] + ... + upsampled low[0] + ...), the sum that fuses branches."""

    @staticmethod
    def forward(ctx, times, relu, mode, count, *inputs):
        tensors = [x.contiguous() for x in inputs]
        full, low = tensors[:count], tensors[count:]
        N, C, H, W = full[0].shape
        y = torch.empty_like(full[0])
        ctx.sizes, ctx.setting = [x.shape for x in low], (times, relu, mode, count)
        kernels_for(y).fuse_forward(
            _list(full), count, times, _list(low), *_sides(ctx.sizes), len(low), N, C, H, W, MODES[mode], relu, _p(y)
        )
        ctx.save_for_backward(y if relu else None)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, dy):
        (y,) = ctx.saved_tensors
        times, relu, mode, count = ctx.setting
        dy = dy.contiguous()
        N, C, H, W = dy.shape
        d = torch.empty_like(dy) if relu else dy
        lows = [dy.new_empty(shape) for shape in ctx.sizes]
        kernels_for(dy).fuse_backward(
            _p(dy), _p(y), _list(lows), *_sides(ctx.sizes), len(lows), N, C, H, W, MODES[mode], relu, _p(d)
        )
        return None, None, None, None, d * times if times != 1 else d, *([d] * (count - 1)), *lows


def _list(tensors: Sequence[Tensor]):
    return (ctypes.c_void_p * max(len(tensors), 1))(*(t.data_ptr() for t in tensors))


def _sides(shapes):
    count = max(len(shapes), 1)
    return (ctypes.c_int * count)(*(s[-2] for s in shapes)), (ctypes.c_int * count)(*(s[-1] for s in shapes))
