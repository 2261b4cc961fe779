"""Units of MDW- and Lite-HRNet in evaluation mode, each as one call (`units.c`), which saves the time between kernels."""

import ctypes
from collections.abc import Sequence
from contextlib import suppress
from ctypes import Structure, c_double, c_int, c_void_p
from functools import cached_property

import torch
from torch import Tensor, nn

from mdw.backends.cpu.modules import is_depthwise, stride_and_padding
from mdw.backends.cpu.ops import MODES, fits, kernels_for
from mdw.models.context import GCM_C, GCM_S, STARTS, SpatialGate
from mdw.models.dynamic_conv import CrossChannelAttention, DynamicConv
from mdw.models.layers import ConvBN
from mdw.models.lite_hrnet import ConditionalChannelWeighting, CrossResolutionWeighting, SpatialWeighting
from mdw.models.mdw_module import MDWModule, SplitConv

PARTS, BRANCHES, KERNELS = 4, 4, 8  # the most of each


class Gate(Structure):
    _fields_ = [
        *((name, c_int) for name in ("inputs", "hidden", "relu")),
        *((name, c_void_p) for name in ("squeeze", "squeeze_bias", "norm", "norm_bias", "excite", "excite_bias")),
        ("eps", c_double),
        ("times", c_double),
    ]


class Branch(Structure):
    _fields_ = [
        *((name, c_int) for name in ("channels", "parts", "relu", "attended")),
        *((name, c_int * PARTS) for name in ("width", "size", "kernels", "reach")),
        *((name, c_void_p * PARTS) for name in ("bank", "shift", "along", "to")),
        ("position", c_void_p),
        ("gate", Gate),
    ]


class Unit(Structure):
    _fields_ = [
        *((name, c_int) for name in ("branches", "mode", "gated", "total")),
        ("gate", Gate),
        ("branch", Branch * BRANCHES),
    ]


class Unfit(Exception):
    """This unit has a part that `units.c` cannot compute."""


class FusedUnit(nn.Module):
    """Computes `unit`, with folded norms, in one call: list of (N, C_b, H/2^b, W/2^b) -> list of the same shapes, no gradient.

    Where gradients are recorded, in other precisions and on other devices `unit` itself computes. Its weights must not change.
    Raises Unfit for a unit that `units.c` cannot compute.
    """

    def __init__(self, unit: nn.Module):
        super().__init__()
        self.unit = unit
        self.packed  # noqa: B018, cached from now on

    @cached_property
    def packed(self) -> tuple[Unit, list[Tensor]]:
        """The structure that the C function reads, and the tensors it points to."""
        return pack(self.unit)

    def _apply(self, *args, **kwargs):  # the weights move
        self.__dict__.pop("packed", None)
        return super()._apply(*args, **kwargs)

    def __getstate__(self):  # a copy has its own weights
        return {key: value for key, value in self.__dict__.items() if key != "packed"}

    def forward(self, xs: list[Tensor]) -> list[Tensor]:
        x = xs[0]
        if not fits(x) or torch.is_grad_enabled() and any(x.requires_grad for x in xs) or not _halve(xs):
            return self.unit(xs)
        unit, _ = self.packed
        xs = [x.contiguous() for x in xs]
        ys = [torch.empty_like(x) for x in xs]
        pointers, sides = c_void_p * len(xs), c_int * len(xs)
        kernels_for(x).unit(
            ctypes.byref(unit), pointers(*(x.data_ptr() for x in xs)), pointers(*(y.data_ptr() for y in ys)),
            sides(*(x.shape[2] for x in xs)), sides(*(x.shape[3] for x in xs)), len(x),
        )  # fmt: skip
        return ys


def _halve(xs: list[Tensor]) -> bool:
    """Returns whether each branch is half as high and wide as the one before it."""
    return all(a.shape[2] == 2 * b.shape[2] and a.shape[3] == 2 * b.shape[3] for a, b in zip(xs, xs[1:], strict=False))


def fuse_units(model: nn.Module) -> nn.Module:
    """Replace every unit of `model` by a `FusedUnit` where possible, in place; returns `model`."""
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, MDWModule | ConditionalChannelWeighting):
                with suppress(Unfit):
                    setattr(module, name, FusedUnit(child))
    return model


def pack(unit: nn.Module) -> tuple[Unit, list[Tensor]]:
    """Returns the structure for `unit`, and the tensors that must stay alive with it. Raises Unfit."""
    alive: list[Tensor] = []

    def pointer(tensor: Tensor | None) -> int | None:
        if tensor is None:
            return None
        alive.append(tensor.detach().contiguous())
        return alive[-1].data_ptr()

    spatial: nn.Module
    if isinstance(unit, ConditionalChannelWeighting):
        spatial, convs, gates = unit.cross_resolution_weighting, unit.depthwise_convs, unit.spatial_weighting
    elif isinstance(unit, MDWModule) and unit.order == "spatial_first":
        spatial, convs, gates = unit.gcm_s, unit.convs, unit.gcm_c
    else:
        raise Unfit
    if len(convs) > BRANCHES:
        raise Unfit
    packed = Unit(branches=len(convs), mode=MODES["bilinear" if isinstance(unit, MDWModule) else "nearest"])
    if not isinstance(spatial, nn.Identity):
        packed.gated, packed.gate = 1, _spatial_gate(spatial, pointer)
        packed.total = packed.gate.inputs
    for branch, conv, gate in zip(packed.branch, convs, gates, strict=False):
        _convolutions(branch, conv, pointer)
        if not isinstance(gate, nn.Identity):
            _channel_gate(branch, gate, pointer)
    return packed, alive


def _gate(squeeze: object, excite: object, norm: nn.Module | None, relu: bool, start: str, pointer) -> Gate:
    """Returns two linear maps, or 1x1 convolutions, with an optional LayerNorm between, and a sigmoid scaled by `start`."""
    if not isinstance(squeeze, nn.Linear | nn.Conv2d) or not isinstance(excite, nn.Linear | nn.Conv2d):
        raise Unfit
    if not isinstance(norm, nn.LayerNorm | None) or norm and norm.weight is None:
        raise Unfit
    fields = (squeeze.weight.shape[1], squeeze.weight.shape[0], relu, pointer(squeeze.weight), pointer(squeeze.bias))
    scale, shift, eps = (pointer(norm.weight), pointer(norm.bias), norm.eps) if norm else (None, None, 0.0)
    return Gate(*fields, scale, shift, pointer(excite.weight), pointer(excite.bias), eps, STARTS[start])


def _spatial_gate(module: nn.Module, pointer) -> Gate:
    if type(module) is GCM_S and len(module.gates) == 1 and isinstance(gate := module.gates[0], SpatialGate):
        return _gate(gate.squeeze, gate.excite, gate.norm, isinstance(gate.relu, nn.ReLU), gate.gate_start, pointer)
    if type(module) is CrossResolutionWeighting and isinstance(module.conv1.bn, nn.Identity):
        return _gate(module.conv1.conv, module.conv2.conv, None, True, "half", pointer)
    raise Unfit


def _channel_gate(branch: Branch, module: nn.Module, pointer) -> None:
    branch.attended = 1
    if type(module) is GCM_C and isinstance(module.bn, nn.Identity):
        branch.position = pointer(module.position.weight)
        branch.gate = _gate(module.squeeze, module.excite, module.norm, True, module.gate_start, pointer)
    elif type(module) is SpatialWeighting:
        branch.gate = _gate(module.conv1.conv, module.conv2.conv, None, True, "half", pointer)
    else:
        raise Unfit


def _convolutions(branch: Branch, module: nn.Module, pointer) -> None:
    convs: Sequence[nn.Module]
    norms: Sequence[nn.Module]
    if isinstance(module, ConvBN):
        convs, norms = [module.conv], [module.bn]
    elif isinstance(module, SplitConv):
        convs, norms = list(module.convs), list(module.norms)
    else:
        raise Unfit
    if len(convs) > PARTS:
        raise Unfit
    branch.parts, branch.relu = len(convs), isinstance(module.relu, nn.ReLU)
    for i, (conv, norm) in enumerate(zip(convs, norms, strict=True)):
        attention = conv.attention if isinstance(conv, DynamicConv) else None
        if (
            not is_depthwise(conv)
            or isinstance(norm, nn.BatchNorm2d)
            or not isinstance(attention, CrossChannelAttention | None)
        ):
            raise Unfit  # another kind, or a norm that was not folded
        bank = conv.bank[:, :, 0] if isinstance(conv, DynamicConv) else conv.weight.transpose(0, 1)  # (n, C, k, k)
        kernels, width, size, _ = bank.shape
        if stride_and_padding(conv) != (1, (size - 1) // 2) or size % 2 == 0 or kernels > KERNELS:
            raise Unfit
        branch.width[i], branch.size[i], branch.kernels[i] = width, size, kernels
        branch.bank[i], branch.shift[i] = pointer(bank), pointer(getattr(norm if attention else conv, "bias", None))
        if attention is not None:
            along, to = attention.along_channels.weight, attention.to_kernels.weight
            branch.reach[i], branch.along[i], branch.to[i] = along.numel(), pointer(along), pointer(to)
    widths = branch.width[: len(convs)]
    branch.channels = sum(widths)
    if widths[1:] != [min(widths)] * (len(widths) - 1):
        raise Unfit
