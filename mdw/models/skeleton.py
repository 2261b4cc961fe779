"""The common frame of all high-resolution networks of this project; a network's file adds only what its paper adds.

    stem -> transition -> modules (2 branches) -> transition -> modules (3) -> transition -> modules (4) -> head -> heatmaps

Between them is a list of tensors, one per branch, highest resolution first: a *unit* is a module that maps such a list to one
of the same shapes. Branch b has 1 / (4 * 2**b) of the input's resolution. Children have the names of the official Lite- and
Dite-HRNet checkpoints (`stage0.1.fuse_layers.0.2.0`), so that those load without a table of names.
"""

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from mdw.models.layers import separable, shuffle
from mdw.util.errors import MdwError


def check_input(x: Tensor, multiple: int) -> None:
    """Raise MdwError unless `x` is (N, 3, height, width) with both sides positive multiples of `multiple`."""
    height, width = x.shape[-2:] if x.ndim == 4 else (0, 0)
    if x.ndim != 4 or x.shape[1] != 3 or height % multiple or width % multiple or not height or not width:
        raise MdwError(
            f"the input has shape {tuple(x.shape)}; give (N, 3, height, width) with both sides multiples of {multiple}, "
            "for example 256x192, 384x288, 256x256 or 128x96"
        )


class PerBranch(nn.ModuleList):
    """A unit whose branches do not interact: module b works on branch b."""

    def forward(self, xs: list[Tensor]) -> list[Tensor]:
        return [module(x) for module, x in zip(self, xs, strict=True)]


class HalfUnit(nn.Module):
    """A unit like ShuffleNetV2's: half of each branch's channels pass unchanged, `work` (list to list) computes the others."""

    def work(self, xs: list[Tensor]) -> list[Tensor]:
        raise NotImplementedError

    def forward(self, xs: list[Tensor]) -> list[Tensor]:
        untouched, worked = zip(*(x.split(x.shape[1] // 2, dim=1) for x in xs), strict=True)
        return [shuffle(pair) for pair in zip(untouched, self.work(list(worked)), strict=True)]


class Transition(nn.ModuleList):
    """Branches of one stage -> branches of the next. Module b works on branch b, or on the last old one for a new branch."""

    def forward(self, xs: list[Tensor]) -> list[Tensor]:
        return [part(xs[min(b, len(xs) - 1)]) for b, part in enumerate(self)]


def separable_transition(old: Sequence[int], new: Sequence[int], kernel_size: int = 3) -> Transition:
    """Returns Lite-HRNet's transition: a 3x3 step where a branch's width changes, a stride-2 step for each new branch."""
    layers = [nn.Identity() if a == b else separable(a, b) for a, b in zip(old, new, strict=False)]
    layers += [nn.Sequential(separable(old[-1], width, kernel_size, 2)) for width in new[len(old) :]]
    return Transition(layers)


def grow(
    modules: Sequence[int],
    widths: Sequence[int],
    old: Sequence[int],
    transition: Callable[[Sequence[int], Sequence[int]], Transition],
    module: Callable[[Sequence[int]], nn.Module],
) -> tuple[list[Transition], list[list[nn.Module]]]:
    """Returns transitions and stages for HighResolutionNet: stage s has `modules[s]` modules on the first s + 2 of `widths`.

    `old`: the widths after the stem; `transition(old, new)` and `module(widths)` build transitions and modules.
    """
    transitions, stages = [], []
    for s, count in enumerate(modules):
        new = list(widths[: s + 2])
        transitions.append(transition(old, new))
        stages.append([module(new) for _ in range(count)])
        old = new
    return transitions, stages


class HighResolutionNet(nn.Module):
    """(N, 3, H, W) normalised RGB -> (N, num_joints, H/4, W/4) heatmaps.

    `stem`: (N, 3, H, W) -> (N, stem_channels, H/4, W/4). `transitions[s]` and `stages[s]` (a sequence of modules) map lists
    to lists; `head` maps the last list to one map of `head_channels`. Raises MdwError for sides that do not halve evenly.
    """

    def __init__(
        self,
        stem: nn.Module,
        transitions: Sequence[Transition],
        stages: Sequence[Sequence[nn.Module]],
        head: nn.Module,
        head_channels: int,
        num_joints: int,
    ):
        super().__init__()
        self.stem = stem
        for s, (transition, modules) in enumerate(zip(transitions, stages, strict=True)):
            self.add_module(f"transition{s}", transition)
            self.add_module(f"stage{s}", nn.Sequential(*modules))
        self.num_stages = len(stages)
        self.head_layer = head
        self.final_layer = nn.Conv2d(head_channels, num_joints, 1)

    @property
    def size_multiple(self) -> int:
        """Both input sides must be multiples of this: the stem divides by 4, each further branch by 2."""
        return 4 * 2**self.num_stages

    def branches(self, x: Tensor) -> list[Tensor]:
        """Returns the last stage's branches, highest resolution first: the input of the head."""
        check_input(x, self.size_multiple)
        xs = [self.stem(x)]
        for s in range(self.num_stages):
            xs = self.get_submodule(f"transition{s}")(xs)
            xs = self.get_submodule(f"stage{s}")(xs)
        return xs

    def forward(self, x: Tensor) -> Tensor:
        return self.final_layer(self.head_layer(self.branches(x)))
