"""MDW-HRNet: a high-resolution network whose units weight space, channels and kernels (reconstruction R1).

We do not have the article's tables and figures, and its text does not define a single network. This file builds the default of
each open choice; every alternative and every ablation is an option of `mdw_hrnet`. The numbers of the choices are those of
docs/reconstruction.md.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated, Literal

import torch
from annotated_types import Interval, Len, MultipleOf
from torch import Tensor, nn

from mdw.models.cond_conv import CondConv
from mdw.models.context import GCM_C, GCM_S, PSA, eca, gc, se
from mdw.models.dy_conv import DyConv
from mdw.models.dynamic_conv import (
    ChannelLineAttention,
    ConstantAttention,
    CrossChannelAttention,
    CrossChannelDynamicConv,
    DynamicConv,
    ScalarAttention,
)
from mdw.models.fusion import HighestBranch, HighResolutionModule, IterativeHead, PathUp, path_down
from mdw.models.layers import ShuffleStem, depthwise, init_normal, pointwise
from mdw.models.mdw_module import MDWModule
from mdw.models.od_conv import depthwise_odconv
from mdw.models.skeleton import HighResolutionNet, grow, separable_transition
from mdw.util.errors import MdwError
from mdw.util.typed import Odd, typed

KERNEL_SIZES = ((3,), (3,), (3, 5), (3, 5, 7))  # MDW modules A, A, B, C on branches 1-4; choice 6a
CHANNEL_RATIOS = (4, 4, 8, 8)  # GCM_C's squeeze per branch; choice 8a
Attention = Literal["channel", "scalar", "line", "constant"]
ATTENTIONS: dict[Attention, type[nn.Module]] = {  # choices 3a, b, d, and constant gates
    "channel": CrossChannelAttention,
    "scalar": ScalarAttention,
    "line": ChannelLineAttention,
    "constant": ConstantAttention,
}
DYNAMIC: dict[str, Callable[..., DynamicConv]] = {
    "condconv": CondConv,
    "dynamic": DyConv,
    "odconv": depthwise_odconv,
}  # Table 7, instead of CDC
CONTEXTS: dict[str, Callable[..., nn.Module]] = {"se": se, "eca": eca, "gc": gc, "psa": PSA}  # instead of GCM_C

FOUR = Len(4, 4)  # one for each branch
Width = Annotated[int, Interval(ge=4, le=2048), MultipleOf(2)]  # channels of a branch, of which a unit works on half
Ratio = Annotated[int, Interval(ge=1, le=1024)]
Few = Annotated[int, Interval(ge=1, le=32)]
Sizes = Annotated[tuple[Odd, ...], Len(1, 8)]


class GroupNorm1(nn.GroupNorm):
    """LayerNorm over channels and positions together (choice 9b): input (..., C)."""

    def __init__(self, channels: int):
        super().__init__(1, channels)

    def forward(self, x: Tensor) -> Tensor:
        # F.group_norm refuses a single image whose map is one value
        return torch.group_norm(x.movedim(-1, 1), 1, self.weight, self.bias, self.eps).movedim(1, -1)


def _single_step_down(in_channels: int, out_channels: int, steps: int) -> nn.Sequential:
    """Returns one depthwise convolution with kernel = stride = 2**steps, then 1x1 (choice 10c)."""
    size = 2**steps
    down = nn.Conv2d(in_channels, in_channels, size, size, groups=in_channels, bias=False)
    return nn.Sequential(down, nn.BatchNorm2d(in_channels), pointwise(in_channels, out_channels), nn.BatchNorm2d(out_channels))


@typed
def mdw_hrnet(
    modules: Sequence[int],
    num_joints: int = 17,
    *,
    widths: Annotated[tuple[Width, ...], FOUR] = (40, 80, 160, 320),
    units: Few = 2,
    cdc: bool = True,
    gcm_s: bool = True,
    gcm_c: bool = True,
    kernels: Few = 4,
    attention: Attention = "channel",
    attention_kernel: Odd = 3,
    kernel_sizes: Annotated[tuple[Sizes, ...], FOUR] = KERNEL_SIZES,
    order: Literal["spatial_first", "channel_first", "parallel"] = "spatial_first",
    spatial_ratio: Ratio = 16,
    dense_spatial: bool = True,
    spatial_relu: bool = False,
    channel_ratios: Annotated[tuple[Ratio, ...], FOUR] = CHANNEL_RATIOS,
    norm: Literal["layer", "group"] = "layer",
    down: Literal["2x2", "3x3", "single"] = "2x2",
    double_first: bool = False,
    head: Literal["iterative", "highest"] = "iterative",
    dynamic_stem: bool = False,
    stem_gcm: bool = False,
    gate: Literal["sigmoid", "double", "norm"] = "sigmoid",
    gate_start: Literal["half", "one"] = "half",
    conv_relu: bool = False,
    dynamic: Literal["cdc", "condconv", "dynamic", "odconv", "static"] = "cdc",
    context: Literal["gcm", "se", "eca", "gc", "psa", "none"] = "gcm",
) -> HighResolutionNet:
    """Builds an MDW-HRNet; the defaults are reconstruction R1.

    `modules`: numbers of modules in the stages with 2, 3 and 4 branches; `units`: per module (choice 1).
    `cdc`, `gcm_s`, `gcm_c`: the weightings of Table 5; without CDC the convolution is static with the same kernel sizes.
    `attention_kernel`: K of Table 6. `kernels`: n of Eq. 6 (choice 4). `attention`: "channel", "line" or "scalar" (choice 3),
    or "constant", CDC's bank with gates of 1/2 that do not depend on the input.
    `kernel_sizes` per branch (choice 6). `order` (choice 2): "spatial_first", "channel_first", "parallel".
    `spatial_ratio`, `dense_spatial`, `spatial_relu`: GCM_S (choice 7). `channel_ratios`: GCM_C per branch (choice 8).
    `norm`: "layer" over channels or "group" over channels and positions (choice 9).
    `down`: "2x2", "3x3" (Lite-HRNet's) or "single" step (choice 10). `double_first`: the sum of Lite-HRNet's code (choice 11).
    `head`: "iterative" or "highest" (a 1x1 on branch 1; all branches are still fused; choice 12b).
    `dynamic_stem`, `stem_gcm`: CDC and GCM_C in the stem (choices 5b, 13b).
    `gate_start`: initial value of the gates of GCM_C and GCM_S: "half" (sigmoid) or "one" (twice the sigmoid).
    `gate`, of GCM_C alone: "sigmoid", "double" (twice the sigmoid, while GCM_S starts at one half) or "norm" (choice 14).
    `conv_relu`: ReLU after the BatchNorm of the convolution (choice 15b).
    `dynamic`: the convolution instead of CDC (Table 7): "cdc", "condconv", "dynamic", "odconv", or "static" like cdc=False.
    `context`: the block instead of GCM_C: "gcm", "se", "eca", "gc", "psa", or "none" like gcm_c=False.

    Returns a HighResolutionNet, (N, 3, H, W) -> (N, num_joints, H/4, W/4). Raises MdwError for a value outside its annotation,
    and for an option of a part that this network does not have.
    """
    for is_off, name, choice, default_choice in ((not cdc, "dynamic", dynamic, "cdc"), (not gcm_c, "context", context, "gcm")):
        if is_off and choice != default_choice:
            raise MdwError(f"{name} is {choice!r} while {'cdc' if name == 'dynamic' else 'gcm_c'} is off; give one of the two")
    for width, sizes, ratio in zip(widths, kernel_sizes, channel_ratios, strict=True):
        if width // 2 < len(sizes):
            raise MdwError(f"kernel_sizes has {list(sizes)} for {width // 2} channels, half of widths' {width}; give fewer")
        if width // 2 < ratio and gcm_c and context == "gcm":
            raise MdwError(f"channel_ratios has {ratio} for {width // 2} channels, half of widths' {width}; give a smaller one")
        if width // 2 // ratio == 1 and gcm_c and context == "gcm" and norm == "group":
            raise MdwError(
                f"channel_ratios has {ratio} for {width // 2} channels, half of widths' {width}, which leaves norm 'group' one "
                f"value; give at most {width // 4}, or norm layer"
            )
    has_cdc = cdc and dynamic == "cdc" or dynamic_stem and dynamic not in DYNAMIC
    has_gcm_c = gcm_c and context == "gcm" or stem_gcm and context not in CONTEXTS
    for present, name, value, default, part in (
        (has_cdc, "attention", attention, "channel", "CDC"),
        (has_gcm_c, "gate", gate, "sigmoid", "GCM_C"),
        (has_gcm_c or gcm_s, "gate_start", gate_start, "half", "GCM"),
    ):
        if value != default and not present:
            raise MdwError(f"{name} is {value!r}, but no {part} is in this network; leave {name} out")
    if gate == "double" and gate_start == "one":
        raise MdwError(
            "gate is 'double', which starts GCM_C alone at one, and gate_start 'one' starts GCM_S too; give one of the two"
        )
    if attention == "constant" and attention_kernel != 3:
        raise MdwError(
            f"attention_kernel is {attention_kernel}, but attention 'constant' has no Conv1d; leave attention_kernel out"
        )

    norm_layer = GroupNorm1 if norm == "group" else nn.LayerNorm
    cross_channel: Callable[..., DynamicConv] = partial(
        CrossChannelDynamicConv, attention_kernel=attention_kernel, attention=ATTENTIONS[attention]
    )
    bank = partial(DYNAMIC.get(dynamic, cross_channel), kernels=kernels)
    conv = bank if cdc and dynamic != "static" else depthwise
    spatial = partial(
        GCM_S, ratio=spatial_ratio, dense=dense_spatial, norm=norm_layer, relu=spatial_relu, gate_start=gate_start
    )
    channel_start = "one" if gate == "double" else gate_start
    channel = CONTEXTS.get(context) or partial(GCM_C, norm=norm_layer, gate_start=channel_start, normed=gate == "norm")
    halving = 3 if down == "3x3" else 2
    path = _single_step_down if down == "single" else partial(path_down, kernel_size=halving)

    def module(channels: Sequence[int]) -> HighResolutionModule:
        unit = partial(
            MDWModule,
            channels,
            conv=conv,
            gcm_s=spatial if gcm_s else None,
            gcm_c=channel if gcm_c and context != "none" else None,
            kernel_sizes=kernel_sizes,
            ratios=channel_ratios,
            order=order,
            relu=conv_relu,
        )
        summed_first = "before_relu" if double_first else None
        return HighResolutionModule(channels, [unit() for _ in range(units)], PathUp, path, double_first=summed_first)

    transitions, stages = grow(modules, widths, [32], partial(separable_transition, kernel_size=halving), module)
    model = HighResolutionNet(
        stem=ShuffleStem(
            32,
            conv=bank if dynamic_stem else None,
            gate=partial(channel, ratio=4) if stem_gcm else nn.Identity,
        ),
        transitions=transitions,
        stages=stages,
        head=IterativeHead(widths[: len(modules) + 1]) if head == "iterative" else HighestBranch(),
        head_channels=widths[0],
        num_joints=num_joints,
    )
    init_normal(model)
    return model


def mdw_hrnet_18(num_joints: int = 17, **options) -> HighResolutionNet:
    """MDW-HRNet-18: 2, 4 and 2 modules; 1.16 M parameters. `options` as in `mdw_hrnet`."""
    return mdw_hrnet((2, 4, 2), num_joints, **options)


def mdw_hrnet_30(num_joints: int = 17, **options) -> HighResolutionNet:
    """MDW-HRNet-30: 3, 8 and 3 modules; 1.81 M parameters. `options` as in `mdw_hrnet`."""
    return mdw_hrnet((3, 8, 3), num_joints, **options)
