"""Small layers of more than one network. Sizes in comments are (N, C, H, W)."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from mdw.models.dynamic_conv import DynamicConv


def depthwise(channels: int, kernel_size: int = 3, stride: int = 1) -> nn.Conv2d:
    """Returns a depthwise convolution without bias. Odd kernels keep the size at stride 1; the 2x2 kernel is for stride 2."""
    padding = (kernel_size - 1) // 2
    return nn.Conv2d(channels, channels, kernel_size, stride, padding, groups=channels, bias=False)


def pointwise(in_channels: int, out_channels: int) -> nn.Conv2d:
    """Returns a 1x1 convolution without bias, because a BatchNorm always follows."""
    return nn.Conv2d(in_channels, out_channels, 1, bias=False)


def separable(in_channels: int, out_channels: int, kernel_size: int = 3, stride: int = 1, relu: bool = True) -> nn.Sequential:
    """Returns depthwise, norm, pointwise, norm[, ReLU]: a step of transitions and paths down in Lite-, Dite- and MDW-HRNet."""
    layers = [
        depthwise(in_channels, kernel_size, stride),
        nn.BatchNorm2d(in_channels),
        pointwise(in_channels, out_channels),
        nn.BatchNorm2d(out_channels),
    ]
    return nn.Sequential(*layers, nn.ReLU()) if relu else nn.Sequential(*layers)


Convolution = nn.Conv2d | DynamicConv  # static or dynamic


class ConvBN(nn.Module):
    """Convolution, BatchNorm[, ReLU]; the children's names `conv` and `bn` are those of the official checkpoints."""

    def __init__(self, conv: Convolution, relu: bool = True):
        super().__init__()
        self.conv = conv
        self.bn = nn.BatchNorm2d(conv.out_channels)
        self.relu = nn.ReLU() if relu else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.bn(self.conv(x)))


def shuffle(groups: Sequence[Tensor]) -> Tensor:
    """Concatenates groups along channels and shuffles them (ShuffleNet), in one copy.

    Channel c of group g becomes channel c * len(groups) + g. Where widths differ, the additional channels of the wider groups
    come last (our choice for 160 channels in three kernel groups, where the papers say nothing).
    """
    if len(groups) == 1:
        return groups[0]
    shortest = min(group.shape[1] for group in groups)
    shuffled = torch.stack([group if group.shape[1] == shortest else group[:, :shortest] for group in groups], dim=2).flatten(
        1, 2
    )
    remainders = [group[:, shortest:] for group in groups if group.shape[1] > shortest]
    return torch.cat([shuffled, *remainders], dim=1) if remainders else shuffled


def split_evenly(channels: int, groups: int) -> list[int]:
    """Returns the widths of `groups` parts of `channels`; the first has the remainder: 160 in 3 gives 54, 53, 53."""
    width = channels // groups
    return [channels - width * (groups - 1)] + [width] * (groups - 1)


class ShuffleStem(nn.Module):
    """(N, 3, H, W) -> (N, 32, H/4, W/4): one 3x3 convolution and one stride-2 shuffle block.

    It is Lite-HRNet's (section 3.1) and MDW-HRNet's (article, "stage 1"; docs/reconstruction.md, 13a), with the official names.
    `gate` is applied to both halves before they are joined (choice 13b), identity by default.
    """

    def __init__(self, channels: int = 32, conv: Callable[..., Convolution] | None = None, gate=nn.Identity):
        super().__init__()
        half = channels // 2
        make = conv or depthwise
        self.conv1 = ConvBN(nn.Conv2d(3, channels, 3, 2, 1, bias=False))
        self.branch1 = nn.Sequential(ConvBN(make(half, 3, 2), relu=False), ConvBN(pointwise(half, half)))
        self.expand_conv = ConvBN(pointwise(half, channels))
        self.depthwise_conv = ConvBN(make(channels, 3, 2), relu=False)
        self.linear_conv = ConvBN(pointwise(channels, half))
        self.gate1, self.gate2 = gate(half), gate(half)

    def forward(self, x: Tensor) -> Tensor:
        left, right = self.conv1(x).chunk(2, dim=1)  # each (N, 16, H/2, W/2)
        left = self.gate1(self.branch1(left))
        right = self.gate2(self.linear_conv(self.depthwise_conv(self.expand_conv(right))))
        return shuffle([left, right])


def init_normal(model: nn.Module, std: float = 0.001) -> None:
    """Initialises as the HRNet family does: convolutions and linear maps N(0, std), biases 0, norms 1 and 0.

    Plain parameters (the kernel banks of dynamic convolutions) keep the initialisation of their own class.
    """
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Conv1d, nn.Linear, nn.ConvTranspose2d)):
            nn.init.normal_(module.weight, std=std)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, (nn.BatchNorm2d, nn.LayerNorm, nn.GroupNorm)) and module.weight is not None:
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
