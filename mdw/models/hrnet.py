"""HRNet (Sun et al., CVPR 2019) and Small HRNet; residual blocks are torchvision's."""

from collections.abc import Sequence
from functools import partial

from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck

from mdw.models.fusion import HighestBranch, HighResolutionModule, PathUp
from mdw.models.layers import init_normal
from mdw.models.skeleton import HighResolutionNet, PerBranch, Transition, grow


def conv3x3(in_channels: int, out_channels: int, stride: int = 1, relu: bool = True) -> nn.Sequential:
    """Returns 3x3 convolution without bias, BatchNorm[, ReLU]."""
    layers = [nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False), nn.BatchNorm2d(out_channels)]
    return nn.Sequential(*layers, nn.ReLU()) if relu else nn.Sequential(*layers)


def dense_down(in_channels: int, out_channels: int, steps: int) -> nn.Sequential:
    """Returns `steps` 3x3 convolutions of stride 2; the last one changes the width and has no ReLU."""
    inner = [conv3x3(in_channels, in_channels, 2) for _ in range(steps - 1)]
    return nn.Sequential(*inner, conv3x3(in_channels, out_channels, 2, relu=False))


def dense_transition(old: Sequence[int], new: Sequence[int]) -> Transition:
    """Returns HRNet's transition: 3x3 where a branch's width changes, and stride 2 from the last old branch to new ones."""
    layers = [nn.Identity() if a == b else conv3x3(a, b) for a, b in zip(old, new, strict=False)]
    return Transition(layers + [nn.Sequential(conv3x3(old[-1], width, 2)) for width in new[len(old) :]])


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
        bottlenecks = [Bottleneck(4 * planes, planes) for _ in range(blocks - 1)]
        self.layer1 = nn.Sequential(Bottleneck(64, planes, downsample=project), *bottlenecks)

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
    """Builds HRNet-W`width`: branches of 1, 2, 4 and 8 times `width`, `blocks` basic blocks per branch and module.

    Plain fusion, each branch once; the last module outputs branch 0 alone, and a 1x1 convolution computes the heatmaps.
    Returns a module (N, 3, H, W) -> (N, num_joints, H/4, W/4).
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

    Lite-HRNet refers to the small networks of HRNet's segmentation code without details; we take the first of them: one
    bottleneck of 32, one module per stage, two blocks per branch, 16 channels in the first branch.
    """
    return hrnet(16, num_joints, modules=(1, 1, 1), blocks=2, stem_planes=32, stem_blocks=1)
