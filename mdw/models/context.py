"""Global context modelling (GCM): a gate per channel from the whole map, and one per channel and position from all branches.

`se`, `eca` and `gc` (timm's) and `PSA` stand in GCM_C's place: the same (channels, ratio), (N, C, H, W) -> the same shape.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mdw.models.fusion import to_lowest, upsample


def softmax(scores: Tensor, dim: int) -> Tensor:
    """In float32 at least: half precision cannot hold a softmax over 3,072 positions."""
    return scores.to(torch.promote_types(scores.dtype, torch.float32)).softmax(dim)


STARTS = {"half": 1, "one": 2}  # where a gate begins: what its sigmoid, one half at 0, is multiplied by


def gate_from(start: str, scores: Tensor) -> Tensor:
    """sigmoid(scores), which is 1/2 where they are 0, for `start` "half"; for "one" twice that, which is 1 there."""
    gate = torch.sigmoid(scores)
    return gate if start == "half" else STARTS[start] * gate


class GCM_C(nn.Module):  # noqa: N801, the article's name
    """Channel part (article, Eq. 1 and 2): (N, C, H, W) -> the same shape, X' = X * W_c.

    A one-channel map, softmax over positions, is the weight with which every channel is summed: no average pooling, no
    squeeze of channels before that product. Then C -> C/ratio -> C with norm and ReLU between, sigmoid. The value path is
    the identity: any 1x1 convolution there breaks the parameter budget (docs/reconstruction.md, B3). The map has no bias,
    to which a softmax is blind.

    `gate_start` is what the gate is while its scores are 0, as at the start: "half", the sigmoid as written, or "one", twice
    the sigmoid. `normed` adds a BatchNorm behind the product, as Dite-HRNet does (docs/reconstruction.md, 14b).
    """

    def __init__(
        self,
        channels: int,
        ratio: int = 4,
        norm: type[nn.Module] = nn.LayerNorm,
        gate_start: str = "half",
        normed: bool = False,
    ):
        super().__init__()
        hidden = channels // ratio
        self.gate_start = gate_start
        self.position = nn.Linear(channels, 1, bias=False)
        self.squeeze = nn.Linear(channels, hidden)
        self.norm = norm(hidden)
        self.excite = nn.Linear(hidden, channels)
        self.bn = nn.BatchNorm2d(channels) if normed else nn.Identity()

    def weights(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The position map (N, H*W), which sums to 1, and the gate (N, C): in (0, 1), or in (0, 2) if it starts at one."""
        x = x.flatten(2).transpose(1, 2)  # (N, HW, C), a view where memory is channels-last
        scores = self.position(x).squeeze(-1)  # (N, HW)
        where = softmax(scores, -1).to(x.dtype)
        context = torch.bmm(where.unsqueeze(1), x).squeeze(1)  # (N, C)
        return where, self.gate_of(context)

    def gate_of(self, context: Tensor) -> Tensor:
        """(N, C) sums over positions -> the gate (N, C)."""
        return gate_from(self.gate_start, self.excite(F.relu(self.norm(self.squeeze(context)))))

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(x * self.weights(x)[1].unsqueeze(-1).unsqueeze(-1))


class SpatialGate(nn.Module):
    """The map in the middle of Eq. 4: 1x1, LayerNorm over channels, 1x1, sigmoid, position by position; no ReLU.

    (N, C, h, w) -> (N, C, h, w) in (0, 1), or in (0, 2) for `gate_start` "one" (`GCM_C`). Linear maps on (N, h, w, C) are
    the same 1x1 convolutions, and much faster on maps this small.
    """

    def __init__(
        self,
        channels: int,
        hidden: int,
        norm: type[nn.Module] = nn.LayerNorm,
        relu: bool = False,
        gate_start: str = "half",
    ):
        super().__init__()
        self.gate_start = gate_start
        self.squeeze = nn.Linear(channels, hidden)
        self.norm = norm(hidden)
        self.relu = nn.ReLU() if relu else nn.Identity()
        self.excite = nn.Linear(hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(0, 2, 3, 1)
        x = gate_from(self.gate_start, self.excite(self.relu(self.norm(self.squeeze(x)))))
        return x.permute(0, 3, 1, 2)


class GCM_S(nn.Module):  # noqa: N801, the article's name
    """Spatial part (article, Eq. 3 and 4): list of (N, C_b, H/2^b, W/2^b) -> list of the same shapes.

    All branches are average-pooled to the lowest resolution (windows of 2^k, exact because sizes are powers of two apart),
    a gate per channel and position is computed there, enlarged bilinearly after the sigmoid, and multiplied.
    `dense` (docs/reconstruction.md, 7a, "dense modelling") concatenates the branches before the gate, so that each sees all;
    otherwise every branch has a gate of its own (7b, Eq. 4 to the letter). `gate_start`: as in `GCM_C`, "half" or "one".
    """

    def __init__(
        self,
        channels: Sequence[int],
        ratio: int = 16,
        dense: bool = True,
        norm: type[nn.Module] = nn.LayerNorm,
        relu: bool = False,
        gate_start: str = "half",
    ):
        super().__init__()
        self.channels = list(channels)
        groups = [sum(channels)] if dense else self.channels
        self.gates = nn.ModuleList(SpatialGate(c, max(c // ratio, 1), norm, relu, gate_start) for c in groups)

    def weights(self, xs: list[Tensor]) -> list[Tensor]:
        """One gate map per branch, (N, C_b, h_m, w_m), at the lowest resolution."""
        return self.weights_of_means(to_lowest(xs))

    def weights_of_means(self, pooled: list[Tensor]) -> list[Tensor]:
        """The same from the branches' block means, (N, C_b, h_m, w_m) each."""
        if len(self.gates) == 1:
            return list(self.gates[0](torch.cat(pooled, dim=1)).split(self.channels, dim=1))
        return [gate(x) for gate, x in zip(self.gates, pooled, strict=True)]

    def forward(self, xs: list[Tensor]) -> list[Tensor]:
        return [x * upsample(w, x.shape[-2:]) for x, w in zip(xs, self.weights(xs), strict=True)]


def se(channels: int, ratio: int = 4) -> nn.Module:
    """Squeeze and excitation (Hu et al. 2018), timm's: pool, C -> C/ratio, ReLU, C/ratio -> C, sigmoid, multiply."""
    from timm.layers import SEModule  # here and below: timm takes seconds to load, and the other networks need none of it

    return SEModule(channels, rd_channels=max(channels // ratio, 1))


def eca(channels: int, ratio: int | None = None) -> nn.Module:
    """Efficient channel attention (Wang et al. 2020), timm's: pool, Conv1d over the channels, sigmoid, multiply; no squeeze.

    The size of the Conv1d follows from the width (its Eq. 9 with gamma 2, b 1).
    """
    from timm.layers import EcaModule

    return EcaModule(channels)


def gc(channels: int, ratio: int = 4) -> nn.Module:
    """Global context block (Cao et al. 2019), timm's: GCM_C's weighted sum, C -> C/ratio, LayerNorm, ReLU, -> C, added.

    Its position map has no bias here, to which a softmax is blind.
    """
    from timm.layers import GlobalContext

    block = GlobalContext(channels, fuse_add=True, fuse_scale=False, rd_channels=max(channels // ratio, 1))
    block.conv_attn = nn.Conv2d(channels, 1, 1, bias=False)
    return block


class PSA(nn.Module):
    """Polarized self-attention in its parallel form (Liu et al. 2021, Eq. 1 to 3): a channel and a spatial gate, summed.

    Both branches keep C/2 channels, so there is no ratio; this is what the article shortens to GCM.
    """

    def __init__(self, channels: int, ratio: int | None = None):
        super().__init__()
        half = channels // 2
        self.position = nn.Linear(channels, 1, bias=False)
        self.channel_value = nn.Linear(channels, half)
        self.expand = nn.Linear(half, channels)
        self.norm = nn.LayerNorm(channels)
        self.channel_query = nn.Linear(channels, half)
        self.spatial_value = nn.Linear(channels, half)

    def forward(self, x: Tensor) -> Tensor:
        flat = x.flatten(2).transpose(1, 2)  # (N, HW, C)
        where = softmax(self.position(flat), 1).to(x.dtype)  # (N, HW, 1)
        context = torch.bmm(where.transpose(1, 2), self.channel_value(flat)).squeeze(1)  # (N, C/2)
        channel = torch.sigmoid(self.norm(self.expand(context)))  # (N, C)
        which = softmax(self.channel_query(flat.mean(1)), 1).to(x.dtype)  # (N, C/2); mean and linear map commute
        spatial = torch.sigmoid(torch.bmm(self.spatial_value(flat), which.unsqueeze(-1))).squeeze(-1)  # (N, HW)
        return x * (channel.unsqueeze(-1).unsqueeze(-1) + spatial.reshape(-1, 1, *x.shape[-2:]))
