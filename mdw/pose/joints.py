"""Joint sets: the order of the joints, left-right pairs and limbs to draw.

The orders are those of the annotation files: COCO keypoints, MPII Human Pose and Leeds Sports Pose (LSP and LSPET). "Left" is
the person's left.
"""

from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np


@dataclass(frozen=True)
class JointSet:
    """An annotation scheme. Indices count from 0 in the order of `names`.

    pairs: (left, right) or (right, left) indices that a mirrored image exchanges.
    limbs: index pairs to connect by a line when drawing.
    sigmas: COCO's per-joint constants for OKS, or None where the scheme has none.
    upper, lower: the halves that half-body augmentation chooses from.
    """

    name: str
    names: tuple[str, ...]
    pairs: tuple[tuple[int, int], ...]
    limbs: tuple[tuple[int, int], ...]
    sigmas: tuple[float, ...] | None
    upper: tuple[int, ...]
    lower: tuple[int, ...]

    @property
    def num_joints(self) -> int:
        return len(self.names)

    @cached_property
    def swap(self) -> np.ndarray:
        """The permutation (J,) that exchanges left and right: `mirrored = joints[swap]`. Read-only; its own inverse."""
        order = np.arange(len(self.names))
        for a, b in self.pairs:
            order[a], order[b] = b, a
        order.setflags(write=False)
        return order

    def index(self, name: str) -> int:
        """Returns the index of the joint `name`. Raises ValueError where there is none."""
        return self.names.index(name)

    def to_dict(self) -> dict:
        """Returns the set as plain JSON values; inverse: `from_dict`."""
        return {name: _lists(value) for name, value in asdict(self).items()}

    @staticmethod
    def from_dict(values: dict) -> "JointSet":
        return JointSet(**{name: _tuples(value) for name, value in values.items()})

    @property
    def key(self) -> str | dict:
        """The value to write into a file for `joint_set`: the name of a known set, else `to_dict`."""
        return self.name if JOINT_SETS.get(self.name) == self else self.to_dict()

    @cached_property
    def importance(self) -> np.ndarray:
        """HRNet's optional target weights (J,) float32, read-only: elbow, knee 1.2; wrist, ankle 1.5. No recipe uses them."""
        weights = {"elbow": 1.2, "knee": 1.2, "wrist": 1.5, "ankle": 1.5}
        values = np.array([weights.get(name.rpartition("_")[2], 1.0) for name in self.names], np.float32)
        values.setflags(write=False)
        return values


COCO17 = JointSet(
    name="coco17",
    names=(
        "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow",
        "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle",
        "right_ankle",
    ),
    pairs=((1, 2), (3, 4), (5, 6), (7, 8), (9, 10), (11, 12), (13, 14), (15, 16)),
    limbs=(
        (15, 13), (13, 11), (16, 14), (14, 12), (11, 12), (5, 11), (6, 12), (5, 6), (5, 7), (6, 8), (7, 9), (8, 10),
        (1, 2), (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 6),
    ),
    sigmas=(
        0.026, 0.025, 0.025, 0.035, 0.035, 0.079, 0.079, 0.072, 0.072, 0.062, 0.062, 0.107,
        0.107, 0.087, 0.087, 0.089, 0.089,
    ),
    upper=(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10),
    lower=(11, 12, 13, 14, 15, 16),
)  # fmt: skip

MPII16 = JointSet(
    name="mpii16",
    names=(
        "right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle", "pelvis", "thorax",
        "upper_neck", "head_top", "right_wrist", "right_elbow", "right_shoulder", "left_shoulder", "left_elbow",
        "left_wrist",
    ),
    pairs=((0, 5), (1, 4), (2, 3), (10, 15), (11, 14), (12, 13)),
    limbs=(
        (0, 1), (1, 2), (2, 6), (6, 3), (3, 4), (4, 5), (6, 7), (7, 8), (8, 9), (7, 12), (12, 11), (11, 10), (7, 13),
        (13, 14), (14, 15),
    ),
    sigmas=None,
    upper=(7, 8, 9, 10, 11, 12, 13, 14, 15),
    lower=(0, 1, 2, 3, 4, 5, 6),
)  # fmt: skip

LSP14 = JointSet(
    name="lsp14",
    names=(
        "right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle", "right_wrist", "right_elbow",
        "right_shoulder", "left_shoulder", "left_elbow", "left_wrist", "neck", "head_top",
    ),
    pairs=((0, 5), (1, 4), (2, 3), (6, 11), (7, 10), (8, 9)),
    limbs=(
        (0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (2, 8), (3, 9), (8, 12), (12, 9), (8, 7), (7, 6), (9, 10), (10, 11),
        (12, 13),
    ),
    sigmas=None,
    upper=(6, 7, 8, 9, 10, 11, 12, 13),
    lower=(0, 1, 2, 3, 4, 5),
)  # fmt: skip

JOINT_SETS = {joints.name: joints for joints in (COCO17, MPII16, LSP14)}


def joint_set(key: str | dict) -> JointSet:
    """Returns the joint set with this `JointSet.key`. Raises KeyError or TypeError where there is none."""
    return JOINT_SETS[key] if isinstance(key, str) else JointSet.from_dict(key)


def _lists(value: object) -> object:
    return list(map(_lists, value)) if isinstance(value, tuple) else value


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
