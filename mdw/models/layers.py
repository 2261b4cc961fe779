"""The small parts that more than one network uses. Sizes in comments are (N, C, H, W)."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from mdw.models.dynamic_conv import DynamicConv


def depthwise(channels: int, kernel_size: int = 3, stride: int = 1) -> nn.Conv2d:
    """Depthwise convolution without bias. Odd kernels keep the size at stride 1; the 2x2 kernel is meant for stride 2."""
    padding = (kernel_size - 1) // 2
    return nn.Conv2d(channels, channels, kernel_size, stride, padding, groups=channels, bias=False)


def pointwise(in_channels: int, out_channels: int) -> nn.Conv2d:
    """1x1 convolution without bias: a BatchNorm follows everywhere it is used."""
    return nn.Conv2d(in_channels, out_channels, 1, bias=False)


def separable(in_channels: int, out_channels: int, kernel_size: int = 3, stride: int = 1, relu: bool = True) -> nn.Sequential:
    """Depthwise, norm, pointwise, norm[, ReLU]: one step of a transition or of a path down in Lite-, Dite- and MDW-HRNet."""
    parts = [
        depthwise(in_channels, kernel_size, stride),
        nn.BatchNorm2d(in_channels),
        pointwise(in_channels, out_channels),
        nn.BatchNorm2d(out_channels),
    ]
    return nn.Sequential(*parts, nn.ReLU()) if relu else nn.Sequential(*parts)


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


def shuffle(parts: Sequence[Tensor]) -> Tensor:
    """Concatenate along channels and shuffle with as many groups as there are parts (ShuffleNet), in one copy.

    Channel c of part g lands at c * len(parts) + g. Parts of unequal width are dealt out in the same order, the longer
    ones last alone (our choice for 160 channels in three kernel groups, where the papers say nothing).
    """
    if len(parts) == 1:
        return parts[0]
    shortest = min(part.shape[1] for part in parts)
    dealt = torch.stack([part if part.shape[1] == shortest else part[:, :shortest] for part in parts], dim=2).flatten(1, 2)
    rest = [part[:, shortest:] for part in parts if part.shape[1] > shortest]
    return torch.cat([dealt, *rest], dim=1) if rest else dealt


def split_evenly(channels: int, groups: int) -> list[int]:
    """Widths of `groups` parts of `channels`; the first part takes the remainder: 160 in 3 gives 54, 53, 53."""
    width = channels // groups
    return [channels - width * (groups - 1)] + [width] * (groups - 1)


class ShuffleStem(nn.Module):
    """(N, 3, H, W) -> (N, 32, H/4, W/4): one 3x3 convolution and one stride-2 shuffle block.

    Lite-HRNet section 3.1, kept by MDW-HRNet (article, "stage 1"; docs/reconstruction.md, 13a). The names are the official
    ones. `gate` is put on the two halves before they are joined (choice 13b), identity by default.
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
        kept, worked = self.conv1(x).chunk(2, dim=1)  # each (N, 16, H/2, W/2)
        kept = self.gate1(self.branch1(kept))
        worked = self.gate2(self.linear_conv(self.depthwise_conv(self.expand_conv(worked))))
        return shuffle([kept, worked])


def init_normal(model: nn.Module, std: float = 0.001) -> None:
    """The HRNet family's start: convolutions and linear maps N(0, std), biases 0, norms 1 and 0.

    Plain parameters (the kernel banks of dynamic convolutions) keep the start their own class gave them.
    """
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Conv1d, nn.Linear, nn.ConvTranspose2d)):
            nn.init.normal_(module.weight, std=std)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, (nn.BatchNorm2d, nn.LayerNorm, nn.GroupNorm)) and module.weight is not None:
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
