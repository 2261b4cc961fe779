"""The multi-dimensional weighted unit: weights space, kernels and channels one after the other (article, MDW module)."""

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from mdw.models.layers import Convolution, shuffle, split_evenly
from mdw.models.skeleton import HalfUnit


class SplitConv(nn.Module):
    """Depthwise convolutions of several sizes, each with its BatchNorm, on equal parts of the channels (MixNet), shuffled.

    (N, C, H, W) -> the same shape. `conv(channels, kernel_size)` is CDC or a static depthwise convolution.
    """

    def __init__(self, channels: int, kernel_sizes: Sequence[int], conv: Callable[[int, int], Convolution], relu: bool):
        super().__init__()
        self.widths = split_evenly(channels, len(kernel_sizes))
        self.convs = nn.ModuleList(conv(width, size) for width, size in zip(self.widths, kernel_sizes, strict=True))
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for width in self.widths)
        self.relu = nn.ReLU() if relu else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        groups = zip(x.split(self.widths, dim=1), self.convs, self.norms, strict=True)
        return shuffle([self.relu(norm(conv(group))) for group, conv, norm in groups])


class MDWModule(HalfUnit):
    """The multi-dimensional weighted unit (article, "MDW module" A, B, C; Table 1's MDW_CM) on all branches of a stage.

    list of (N, C_b, H/2^b, W/2^b) -> list of the same shapes. Half of each branch's channels pass unchanged; the other half
    goes through GCM_S (with all branches), CDC and GCM_C; then both are joined and shuffled. The half-split is not in the
    text, but units on all channels have 1.72 M parameters instead of 1.1 (docs/reconstruction.md, B2).
    """

    def __init__(
        self,
        channels: Sequence[int],
        conv: Callable[[int, int], Convolution],
        gcm_s: Callable[[Sequence[int]], nn.Module] | None,
        gcm_c: Callable[[int, int], nn.Module] | None,
        kernel_sizes: Sequence[Sequence[int]],
        ratios: Sequence[int],
        order: str,
        relu: bool,
    ):
        super().__init__()
        worked = [c // 2 for c in channels]
        self.order = order
        self.gcm_s = gcm_s(worked) if gcm_s else nn.Identity()
        self.convs = nn.ModuleList(SplitConv(c, sizes, conv, relu) for c, sizes in zip(worked, kernel_sizes, strict=False))
        self.gcm_c = nn.ModuleList(
            gcm_c(c, ratio) if gcm_c else nn.Identity() for c, ratio in zip(worked, ratios, strict=False)
        )

    def channel_gates(self, xs: list[Tensor]) -> list[Tensor]:
        return [gcm_c(x) for gcm_c, x in zip(self.gcm_c, xs, strict=True)]

    def convolve(self, xs: list[Tensor]) -> list[Tensor]:
        return [conv(x) for conv, x in zip(self.convs, xs, strict=True)]

    def work(self, xs: list[Tensor]) -> list[Tensor]:
        if (
            self.order == "spatial_first"
        ):  # GCM_S -> CDC -> GCM_C, like Lite- and Dite-HRNet; choice 2a of docs/reconstruction.md
            return self.channel_gates(self.convolve(self.gcm_s(xs)))
        if self.order == "channel_first":  # 2b
            return self.gcm_s(self.convolve(self.channel_gates(xs)))
        # "parallel": both on the same input, summed (PSA_p), then CDC; 2c
        return self.convolve([s + c for s, c in zip(self.gcm_s(xs), self.channel_gates(xs), strict=True)])
