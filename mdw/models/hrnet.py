"""HRNet (Sun et al., CVPR 2019) and the small one it is cut down to; residual blocks are torchvision's."""

from collections.abc import Sequence
from functools import partial

from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck

from mdw.models.fusion import HighestBranch, HighResolutionModule, PathUp
from mdw.models.layers import init_normal
from mdw.models.skeleton import HighResolutionNet, PerBranch, Transition, grow


def conv3x3(in_channels: int, out_channels: int, stride: int = 1, relu: bool = True) -> nn.Sequential:
    """3x3 convolution without bias, BatchNorm[, ReLU]."""
    parts = [nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False), nn.BatchNorm2d(out_channels)]
    return nn.Sequential(*parts, nn.ReLU()) if relu else nn.Sequential(*parts)


def dense_down(in_channels: int, out_channels: int, steps: int) -> nn.Sequential:
    """`steps` 3x3 halvings; the width changes, and the ReLU is left out, in the last one."""
    inner = [conv3x3(in_channels, in_channels, 2) for _ in range(steps - 1)]
    return nn.Sequential(*inner, conv3x3(in_channels, out_channels, 2, relu=False))


def dense_transition(old: Sequence[int], new: Sequence[int]) -> Transition:
    """A branch whose width changes gets a 3x3 convolution, a new one a stride-2 convolution from the last old one."""
    parts = [nn.Identity() if a == b else conv3x3(a, b) for a, b in zip(old, new, strict=False)]
    return Transition(parts + [nn.Sequential(conv3x3(old[-1], width, 2)) for width in new[len(old) :]])


class ResidualStem(nn.Module):
    """(N, 3, H, W) -> (N, 4 * planes, H/4, W/4): two stride-2 convolutions, then `blocks` bottlenecks."""

    def __init__(self, planes: int = 64, blocks: int = 4):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 3, 2, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.conv2 = nn.Conv2d(64, 64, 3, 2, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU()
        self.out_channels = 4 * planes
        project = nn.Sequential(nn.Conv2d(64, 4 * planes, 1, bias=False), nn.BatchNorm2d(4 * planes))
        rest = [Bottleneck(4 * planes, planes) for _ in range(blocks - 1)]
        self.layer1 = nn.Sequential(Bottleneck(64, planes, downsample=project), *rest)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        return self.layer1(self.relu(self.bn2(self.conv2(x))))


def hrnet(
    width: int,
    num_joints: int = 17,
    *,
    modules: Sequence[int] = (1, 4, 3),
    blocks: int = 4,
    stem_planes: int = 64,
    stem_blocks: int = 4,
) -> HighResolutionNet:
    """HRNet-W`width`: branches of 1, 2, 4 and 8 times `width`, `blocks` basic blocks per branch and module.

    Plain fusion, each branch once; the last module gives branch 0 alone, from which a 1x1 convolution makes the maps.
    Returns (N, 3, H, W) -> (N, num_joints, H/4, W/4).
    """

    def module(channels: Sequence[int], outputs: int | None = None) -> HighResolutionModule:
        units = [PerBranch(BasicBlock(c, c) for c in channels) for _ in range(blocks)]
        up = partial(PathUp, mode="nearest")
        return HighResolutionModule(channels, units, up, dense_down, outputs, relu=nn.ReLU())

    stem = ResidualStem(stem_planes, stem_blocks)
    widths = [width * 2**b for b in range(len(modules) + 1)]
    transitions, stages = grow(modules, widths, [stem.out_channels], dense_transition, module)
    stages[-1][-1] = module(widths, outputs=1)
    model = HighResolutionNet(stem, transitions, stages, HighestBranch(), width, num_joints)
    init_normal(model)
    return model


def hrnet_w32(num_joints: int = 17) -> HighResolutionNet:
    """HRNet-W32: 28,536,113 parameters."""
    return hrnet(32, num_joints)


def hrnet_w48(num_joints: int = 17) -> HighResolutionNet:
    """HRNet-W48: 63,595,745 parameters."""
    return hrnet(48, num_joints)


def small_hrnet(num_joints: int = 17) -> HighResolutionNet:
    """Small HRNet, the HRNet-W16 row of Lite-HRNet's tables.

    Lite-HRNet points to the small networks of HRNet's segmentation code and gives no table; we take their first one: one
    bottleneck of 32, one module per stage, two blocks per branch, 16 channels and up.
    """
    return hrnet(16, num_joints, modules=(1, 1, 1), blocks=2, stem_planes=32, stem_blocks=1)
