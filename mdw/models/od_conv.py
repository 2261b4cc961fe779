"""ODConv (Li et al., ICLR 2022): gates on kernels, and factors on input channels, filters and kernel positions."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mdw.models.dynamic_conv import DynamicConv, convolve_each, mix


class ODAttention(nn.Module):
    """ODConv's four attentions with common first layers: (N, C, H, W) -> factors on channels, filters, positions, kernels.

    Shapes (N, in, 1, 1), (N, out, 1, 1), (N, 1, 1, k, k) and (N, n, 1). None: the factor is 1 by design, for the filters of a
    depthwise convolution and the positions of a 1x1 kernel; a bank of one kernel has the gate 1.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, groups: int, reduction: float, kernels: int):
        super().__init__()
        hidden = max(int(in_channels * reduction), 16)
        self.register_buffer("temperature", torch.ones(()), persistent=False)
        self.kernel_size = kernel_size
        self.fc = nn.Conv2d(in_channels, hidden, 1, bias=False)
        self.bn = nn.BatchNorm2d(hidden)
        self.channel_fc = nn.Conv2d(hidden, in_channels, 1)
        depthwise = in_channels == out_channels == groups
        self.filter_fc = None if depthwise else nn.Conv2d(hidden, out_channels, 1)
        self.spatial_fc = None if kernel_size == 1 else nn.Conv2d(hidden, kernel_size**2, 1)
        self.kernel_fc = None if kernels == 1 else nn.Conv2d(hidden, kernels, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor]:
        z = F.relu(self.bn(self.fc(x.mean((2, 3), keepdim=True))))  # (N, hidden, 1, 1)
        channel = torch.sigmoid(self.channel_fc(z) / self.temperature)
        filters = None if self.filter_fc is None else torch.sigmoid(self.filter_fc(z) / self.temperature)
        spatial, kernel = None, x.new_ones(len(x), 1, 1)
        if self.spatial_fc is not None:
            spatial = torch.sigmoid(self.spatial_fc(z) / self.temperature)
            spatial = spatial.reshape(-1, 1, 1, self.kernel_size, self.kernel_size)
        if self.kernel_fc is not None:
            kernel = (self.kernel_fc(z) / self.temperature).softmax(1).flatten(2)
        return channel, filters, spatial, kernel


class ODConv2d(DynamicConv):
    """Omni-dimensional dynamic convolution (Li et al. 2022): (N, in, H, W) -> (N, out, H', W'), no bias.

    Arguments and names of children are the official ones, so official weights load. The attention has a BatchNorm on 1x1 maps,
    so it cannot be trained with one sample in a batch. The static form multiplies unfolded patches, because factors on kernel
    positions cannot be applied after a static convolution.
    """

    def __init__(
        self,
        in_planes: int,
        out_planes: int,
        kernel_size: int,
        stride: int = 1,
        padding: int = 0,
        dilation: int = 1,
        groups: int = 1,
        reduction: float = 0.0625,
        kernel_num: int = 4,
    ):
        super().__init__(out_planes, kernel_size, stride, groups, padding, dilation)
        self.attention = ODAttention(in_planes, out_planes, kernel_size, groups, reduction, kernel_num)
        self.weight = nn.Parameter(torch.empty(kernel_num, out_planes, in_planes // groups, kernel_size, kernel_size))
        for part in [m for m in self.modules() if isinstance(m, nn.Conv2d)]:
            nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")
            if part.bias is not None:
                nn.init.zeros_(part.bias)
        for kernel in self.weight.detach():
            nn.init.kaiming_normal_(kernel, mode="fan_out", nonlinearity="relu")

    @property
    def bank(self) -> Tensor:
        return self.weight

    def forward(self, x: Tensor) -> Tensor:
        channel, filters, spatial, gates = self.attention(x)
        kernels = mix(self.weight, gates)
        if spatial is not None:
            kernels = kernels * spatial
        compute = multiply_patches if self.static_form else convolve_each
        y = compute(x * channel, kernels, **self.geometry)
        return y if filters is None else y * filters


def multiply_patches(x: Tensor, kernels: Tensor, groups: int, stride: int, padding: int, dilation: int) -> Tensor:
    """Computes `convolve_each` as a matrix product of kernels and patches; no convolution's weights depend on the sample.

    The patches come from a convolution with one-hot kernels, equal to `F.unfold`, which ONNX converters support less well.
    """
    out, fan, size = map(int, kernels.shape[1:4])  # plain numbers also while it is traced
    one_hot = np.tile(np.eye(size * size).reshape(-1, 1, size, size), (fan * groups, 1, 1, 1))  # NumPy: a constant when traced
    patches = F.conv2d(x, torch.from_numpy(one_hot).to(x), None, stride, padding, dilation, groups=fan * groups)
    grouped = patches.reshape(-1, groups, fan * size * size, patches.shape[-2] * patches.shape[-1])
    y = kernels.reshape(-1, groups, out // groups, fan * size * size) @ grouped  # (N, groups, out/groups, H'*W')
    return y.reshape(-1, out, *patches.shape[-2:])


def depthwise_odconv(channels: int, kernel_size: int = 3, stride: int = 1, kernels: int = 4) -> ODConv2d:
    """Returns ODConv as a depthwise convolution: reduction 1/16 with at least 16 hidden units."""
    padding = (kernel_size - 1) // 2
    return ODConv2d(channels, channels, kernel_size, stride, padding, groups=channels, kernel_num=kernels)
