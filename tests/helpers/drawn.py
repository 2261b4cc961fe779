"""Weights and inputs drawn from names: the same numbers on every machine, so that fixtures need to keep outputs only."""

import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
import torch
from small_networks import small
from torch import Tensor, nn

from mdw.models import context, create_model, dite_hrnet, dynamic_conv, hrnet, layers, lite_hrnet, mdw_hrnet
from mdw.models.cond_conv import CondConv
from mdw.models.dy_conv import DyConv
from mdw.models.fusion import HighResolutionModule, IterativeHead, PathUp, path_down
from mdw.models.mdw_module import MDWModule, SplitConv
from mdw.models.od_conv import depthwise_odconv
from mdw.models.simple_baseline import SimpleBaseline
from mdw.models.skeleton import separable_transition

WIDTHS = (8, 12, 16, 24)  # channels of the branches that the blocks get
MDW_UNIT = {"kernel_sizes": ((3,), (3,), (3, 5), (3, 5, 7)), "ratios": (4, 4, 8, 8), "relu": False}


def draw(name: str, shape: Sequence[int]) -> np.ndarray:
    """Standard normal numbers (float64) that depend on `name` alone. NumPy keeps `RandomState`'s stream frozen."""
    return np.random.RandomState(zlib.crc32(name.encode())).standard_normal(tuple(shape))


def fill(module: nn.Module) -> nn.Module:
    """`module` in double precision with weights drawn from their names in its state dict; every part matters to the output.

    Kernels N(0, 2 / fan in), so that signals keep their size; norms' factors and variances around 1, everything else around 0.
    """
    module = module.double()
    norms = {id(t) for m in module.modules() if hasattr(m, "eps") for t in (m.weight, getattr(m, "running_var", None))}
    with torch.no_grad():
        for name, value in module.state_dict(keep_vars=True).items():
            if value.is_floating_point():
                numbers = torch.from_numpy(draw(name, value.shape))
                if id(value) in norms:
                    value.copy_(1 + 0.5 * numbers.tanh())
                elif value.ndim > 1:
                    value.copy_(numbers * (2 / value[0].numel()) ** 0.5)
                else:
                    value.copy_(0.3 * numbers)
    return module


def branches(widths: Sequence[int], size: int = 8) -> list[Tensor]:
    """A list of maps (2, C_b, size/2^b, size/2^b) in double precision, as units get it."""
    return [torch.from_numpy(draw(f"branch {b}", (2, c, size >> b, size >> b))) for b, c in enumerate(widths)]


def one(channels: int, height: int = 8, width: int = 4) -> list[Tensor]:
    """The input of a part that works on one map."""
    return [torch.from_numpy(draw("map", (2, channels, height, width)))]


def image(batch: int = 1, size: int = 64) -> list[Tensor]:
    """What a whole network gets."""
    return [torch.from_numpy(draw("image", (batch, 3, size, size)))]


def _unit(order: str) -> MDWModule:
    conv = partial(dynamic_conv.CrossChannelDynamicConv, kernels=4)
    return MDWModule((16, 24, 48, 48), conv, partial(context.GCM_S, ratio=4), context.GCM_C, order=order, **MDW_UNIT)


def _fusion(double_first: str | None, kernel_size: int, mode: str) -> HighResolutionModule:
    up, down = partial(PathUp, mode=mode), partial(path_down, kernel_size=kernel_size)
    return HighResolutionModule(WIDTHS[:3], [], up, down, double_first=double_first)


def _bank(attention: type[nn.Module], size: int = 3) -> nn.Module:
    return dynamic_conv.CrossChannelDynamicConv(8, size, attention=attention)


# name -> a function that builds the part, its input; one block of each kind that a network of the zoo is made of
BLOCKS: dict[str, tuple[Callable[[], nn.Module], list[Tensor]]] = {
    "gcm_c": (lambda: context.GCM_C(8), one(8)),
    "gcm_c, start at one, normed": (lambda: context.GCM_C(8, gate_start="one", normed=True), one(8)),
    "gcm_s": (lambda: context.GCM_S(WIDTHS), branches(WIDTHS)),
    "gcm_s, a gate per branch": (lambda: context.GCM_S(WIDTHS, 4, dense=False, relu=True), branches(WIDTHS)),
    "gcm_s, group norm": (lambda: context.GCM_S(WIDTHS, 4, norm=mdw_hrnet.GroupNorm1), branches(WIDTHS)),
    "psa": (lambda: context.PSA(8), one(8)),
    "cdc": (lambda: _bank(dynamic_conv.CrossChannelAttention), one(8)),
    "cdc, line": (lambda: _bank(dynamic_conv.ChannelLineAttention, 5), one(8)),
    "cdc, scalar": (lambda: _bank(dynamic_conv.ScalarAttention), one(8)),
    "cdc, constant": (lambda: _bank(dynamic_conv.ConstantAttention), one(8)),
    "condconv": (lambda: CondConv(8), one(8)),
    "dynamic convolution": (lambda: DyConv(8), one(8)),
    "odconv": (lambda: depthwise_odconv(8), one(8)),
    "split convolution": (lambda: SplitConv(10, (3, 5, 7), layers.depthwise, True), one(10)),
    "mdw unit": (lambda: _unit("spatial_first"), branches((16, 24, 48, 48))),
    "mdw unit, channel first": (lambda: _unit("channel_first"), branches((16, 24, 48, 48))),
    "mdw unit, parallel": (lambda: _unit("parallel"), branches((16, 24, 48, 48))),
    "fusion, mdw": (lambda: _fusion(None, 2, "bilinear"), branches(WIDTHS[:3])),
    "fusion, lite as released": (lambda: _fusion("before_relu", 3, "nearest"), branches(WIDTHS[:3])),
    "fusion, dite as released": (lambda: _fusion("after_relu", 3, "nearest"), branches(WIDTHS[:3])),
    "transition": (lambda: separable_transition((8, 12), WIDTHS[:3], 2), branches(WIDTHS[:2])),
    "dense transition": (lambda: hrnet.dense_transition((8, 12), WIDTHS[:3]), branches(WIDTHS[:2])),
    "dense halvings": (lambda: hrnet.dense_down(8, 12, 2), one(8)),
    "head": (lambda: IterativeHead(WIDTHS), branches(WIDTHS)),
    "head, corners aligned": (lambda: IterativeHead(WIDTHS, align_corners=True), branches(WIDTHS)),
    "shuffle stem": (lambda: layers.ShuffleStem(16), image(2, 16)),
    "shuffle unit": (lambda: lite_hrnet.ShuffleUnit(8), one(8)),
    "cross-resolution weighting": (lambda: lite_hrnet.CrossResolutionWeighting(WIDTHS), branches(WIDTHS)),
    "lite unit": (lambda: lite_hrnet.ConditionalChannelWeighting((16, 24, 32)), branches((16, 24, 32))),
    "dynamic kernels": (lambda: dite_hrnet.DynamicKernels(8, 12, 1), one(8)),
    "dynamic split convolution": (lambda: dite_hrnet.DynamicSplitConv(16, (3, 5), 2), one(16)),
    "global context": (lambda: dite_hrnet.GlobalContext(8, 4, True), one(8)),
    "dense context, as released": (lambda: dite_hrnet.DenseContext(WIDTHS[:3], True), branches(WIDTHS[:3])),
    "dense context, as described": (lambda: dite_hrnet.DenseContext(WIDTHS[:3], False), branches(WIDTHS[:3])),
    "dite unit": (lambda: dite_hrnet.DynamicMultiScaleContext((16, 24, 32), True), branches((16, 24, 32))),
    "dite stem": (lambda: dite_hrnet.DynamicStem(True, 32), image(2, 16)),
    "residual stem": (lambda: hrnet.ResidualStem(4, 1), image(2, 16)),
    "simple baseline": (lambda: SimpleBaseline(torch.nn.Conv2d(3, 8, 32, 32), 8, 2), image(1, 64)),
}
VARIANTS = (  # options of an MDW-HRNet with one module in each stage: every part that an ablation or an open choice exchanges
    {"cdc": False, "gcm_s": False, "gcm_c": False},
    {"dynamic": "condconv"},
    {"dynamic": "dynamic"},
    {"dynamic": "odconv"},
    {"attention": "line", "attention_kernel": 5},
    {"context": "se"},
    {"context": "eca"},
    {"context": "gc"},
    {"context": "psa"},
    {"order": "parallel", "norm": "group"},
    {"dense_spatial": False, "spatial_relu": True},
    {"down": "3x3", "double_first": True},
    {"down": "single", "head": "highest"},
    {"dynamic_stem": True, "stem_gcm": True},
    {"gate": "norm", "conv_relu": True},
    {"gate_start": "one"},
)
WHOLE = (  # every paper's network as released; deeper and wider ones repeat the same parts
    "mdw_hrnet_18",
    "lite_hrnet_18",
    "naive_lite_hrnet_18",
    "dite_hrnet_18",
    "small_hrnet",
)


def networks() -> Iterator[tuple[str, Callable[[], nn.Module]]]:
    """Names and builders of the whole networks with two joints, and of the variants."""
    for name in WHOLE:
        yield name, partial(create_model, name, 2)
    for name in ("lite_hrnet_18", "dite_hrnet_18"):
        yield f"{name}, as described", partial(small, name, 2, mode="as_described")
    for options in VARIANTS:
        name = "mdw_hrnet " + " ".join(f"{key}={value}" for key, value in options.items())
        yield name, partial(small, "mdw_hrnet_18", 2, widths=(16, 24, 32, 48), units=1, **options)


def thin(values: Tensor | Sequence[Tensor]) -> np.ndarray:
    """At most 256 numbers, evenly spaced, of all those of a tensor or of a list of tensors."""
    numbers = torch.cat([v.detach().flatten() for v in ([values] if isinstance(values, Tensor) else values)]).numpy()
    return numbers[:: -(-len(numbers) // 256)]


def block_numbers(build: Callable[[], nn.Module], inputs: list[Tensor]) -> dict[str, np.ndarray]:
    """What a block gives: its output in evaluation; in training, the gradient at its input and the norms' moved statistics."""
    module = fill(build())
    takes_list = len(inputs) > 1
    given = [x.clone().requires_grad_() for x in inputs]
    with torch.no_grad():
        evaluated = thin(module.eval()(list(inputs) if takes_list else inputs[0]))
    output = module.train()(list(given) if takes_list else given[0])
    outputs = [output] if isinstance(output, Tensor) else output
    weights = [torch.from_numpy(draw(f"weight {k}", y.shape)) for k, y in enumerate(outputs)]
    gradients = torch.autograd.grad(sum((y * w).sum() for y, w in zip(outputs, weights, strict=True)), given)
    moved = [v for name, v in module.state_dict().items() if "running" in name]
    return {"output": evaluated, "gradient": thin(gradients), "statistics": thin(moved) if moved else np.zeros(0)}


def network_numbers(build: Callable[[], nn.Module]) -> np.ndarray:
    """The heatmaps of a whole network in evaluation; its input is 64x64, its joints are two."""
    with torch.no_grad():
        return thin(fill(build()).eval()(image()[0]))
