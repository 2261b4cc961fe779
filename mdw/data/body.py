"""The skeleton of a drawn person: proportions, anatomical limits, forward kinematics. No pixels here.

Frame of a body at rest: x to the person's left, y up, z forward (right-handed), standing, arms hanging; the unit is the
person's stature. Segment lengths are close to the usual fractions of stature (Drillis and Contini 1966, in Winter's
Biomechanics, fig. 4.1), joint limits to clinical ranges of motion, rounded to 5 degrees.
"""

from dataclasses import dataclass
from math import cos, radians, sin

import numpy as np

NODES = (
    "pelvis",
    "waist",
    "chest",
    "neck",
    "head",
    "left_clavicle",
    "left_shoulder",
    "left_elbow",
    "left_wrist",
    "right_clavicle",
    "right_shoulder",
    "right_elbow",
    "right_wrist",
    "left_hip",
    "left_knee",
    "left_ankle",
    "right_hip",
    "right_knee",
    "right_ankle",
)
NODE = {name: i for i, name in enumerate(NODES)}
PARENTS = (-1, 0, 1, 2, 3, 2, 5, 6, 7, 2, 9, 10, 11, 0, 13, 14, 0, 16, 17)
_LEVELS = tuple(
    (np.array(nodes), np.array([PARENTS[i] for i in nodes]))  # (nodes, parents), parents first
    for nodes in ((1, 13, 16), (2, 14, 17), (3, 5, 9, 15, 18), (4, 6, 10), (7, 11), (8, 12))
)

_TRUNK = {
    "spine_flex": (-30, 80),
    "spine_side": (-30, 30),
    "spine_twist": (-40, 40),
    "head_flex": (-50, 45),
    "head_side": (-35, 35),
    "head_twist": (-70, 70),
}
# shoulder: raised by `elevation` in the vertical plane `plane` (0 sideways, 90 forward, below 0 backward), then turned
# about the arm (`turn`, outward positive). hip: flexion, then abduction, then turn.
_ARM = {"elevation": (0, 175), "plane": (-60, 130), "turn": (-90, 80), "elbow": (0, 145), "wrist": (-60, 60)}
_LEG = {"flex": (-25, 125), "abduct": (-20, 55), "hip_turn": (-40, 45), "knee": (0, 145), "ankle": (-45, 25)}
LIMITS = _TRUNK | {f"{side}_{name}": limit for side in ("left", "right") for name, limit in (_ARM | _LEG).items()}

_MIRROR = np.array([[1, -1, -1], [-1, 1, 1], [-1, 1, 1]], float)  # M R M for M = diag(-1, 1, 1), element by element


@dataclass(frozen=True)
class Shape:
    """Proportions of one body. `stature` in metres, `girth` 1 = average; the other numbers are fractions of stature."""

    stature: float
    girth: float
    female: bool
    head: float  # height of the head, chin to crown
    shoulder: float  # half the distance of the shoulder joints
    hip: float  # half the distance of the hip joints
    leg: float  # 1 = average length of the legs
    arm: float

    def offsets(self) -> np.ndarray:
        """(19, 3) position of every node in the frame of its parent, in statures."""
        out = np.zeros((len(NODES), 3))
        trunk = 1 - 1.2 * (self.head - 0.13)
        out[1:5] = (0, 0.06 * trunk, 0), (0, 0.10 * trunk, 0), (0, 0.145 * trunk, -0.008), (0, 0.05, 0.012)
        for k, side in ((5, 1), (9, -1)):
            out[k : k + 4] = (
                (0.014 * side, 0.122 * trunk, 0),
                ((self.shoulder - 0.014) * side, 0.006, -0.002),
                (0, -0.180 * self.arm, 0),
                (0, -0.146 * self.arm, 0),
            )
        for k, side in ((13, 1), (16, -1)):
            out[k : k + 3] = (self.hip * side, -0.005, 0), (0, -0.245 * self.leg, 0), (0, -0.235 * self.leg, 0)
        return out


def sample_shape(rng: np.random.Generator) -> Shape:
    """A body: one in eight is a child (shorter, larger head)."""
    female, child = rng.random() < 0.5, rng.random() < 0.125
    z = np.clip(rng.standard_normal(6), -2, 2)
    stature = 1.25 + 0.12 * z[0] if child else (1.64 if female else 1.77) + 0.06 * z[0]
    return Shape(
        stature=stature,
        girth=float(np.exp(0.13 * z[1])) * (0.95 if female else 1.0),
        female=bool(female),
        head=(0.165 if child else 0.133) + 0.004 * z[2],
        shoulder=(0.100 if female else 0.110) + 0.004 * z[3] - (0.006 if child else 0),
        hip=(0.058 if female else 0.054) + 0.002 * z[3],
        leg=(0.93 if child else 1.0) + 0.025 * z[4],
        arm=(0.93 if child else 1.0) + 0.025 * z[5],
    )


@dataclass(frozen=True)
class Pose:
    """`angles`: degrees by name, inside LIMITS. `root`: (3, 3) orientation of the pelvis in the world (y up).

    `lift`: metres between the floor and the lowest point.
    """

    angles: dict[str, float]
    root: np.ndarray
    lift: float = 0.0
    family: str = ""


_BASIS = np.zeros((3, 3, 3, 3))  # a turn about axis k is constant[k] + cos * [k] + sin * [k]
for _k in range(3):
    _i, _j = (_k + 1) % 3, (_k + 2) % 3
    _BASIS[0, _k, _k, _k] = _BASIS[1, _k, _i, _i] = _BASIS[1, _k, _j, _j] = _BASIS[2, _k, _j, _i] = 1
    _BASIS[2, _k, _i, _j] = -1


def turn(*steps: tuple[str, float]) -> np.ndarray:
    """Product (3, 3) of right-handed turns in degrees: turn(("x", 30), ("z", 5)) is Rx(30) Rz(5)."""
    out = np.eye(3)
    for axis, degrees in steps:
        basis = _BASIS[:, "xyz".index(axis)]
        out = out @ (basis[0] + cos(radians(degrees)) * basis[1] + sin(radians(degrees)) * basis[2])
    return out


# three turns for every node but the pelvis; a limb's are those of the left side
_SPINE, _HEAD, _LIMB = [(1, 0, 2)] * 2, [(1, 0, 2)] * 2, [(2, 2, 2), (1, 2, 1), (0, 0, 0), (2, 2, 2)]
_NODE_AXES = np.array(_SPINE + _HEAD + _LIMB * 2 + [(0, 2, 1), (0, 0, 0), (0, 0, 0)] * 2)
_NODE_BASIS = _BASIS[:, _NODE_AXES]  # (3, 18, 3, 3, 3)
_RIGHT = [i for i, name in enumerate(NODES) if name.startswith("right")]


def _node_angles(a: dict[str, float]) -> np.ndarray:
    spine = (a["spine_twist"] / 2, a["spine_flex"] / 2, a["spine_side"] / 2)
    twist, flex = a["head_twist"] / 3, a["head_flex"] / 3  # a third in the neck, the rest in the head
    rows = [spine, spine, (twist, flex, 0), (2 * twist, 2 * flex, a["head_side"])]
    for side in ("left", "right"):
        up, plane = a[f"{side}_elevation"], a[f"{side}_plane"]
        girdle = 0.22 * max(0.0, up - 30)  # the shoulder girdle follows a raised arm
        rows += [
            (girdle, 0, 0),
            (-plane, up - girdle, plane + a[f"{side}_turn"]),
            (-a[f"{side}_elbow"], 0, 0),
            (-a[f"{side}_wrist"], 0, 0),
        ]
    for side in ("left", "right"):
        rows += [
            (-a[f"{side}_flex"], a[f"{side}_abduct"], a[f"{side}_hip_turn"]),
            (a[f"{side}_knee"], 0, 0),
            (-a[f"{side}_ankle"], 0, 0),
        ]
    return np.array(rows)


def forward_kinematics(shape: Shape, pose: Pose) -> tuple[np.ndarray, np.ndarray]:
    """Positions (19, 3) in metres, pelvis at the origin, y up, and orientations (19, 3, 3) of NODES."""
    offsets = shape.offsets() * shape.stature
    angle = np.radians(_node_angles(pose.angles))[..., None, None]
    steps = _NODE_BASIS[0] + np.cos(angle) * _NODE_BASIS[1] + np.sin(angle) * _NODE_BASIS[2]  # (18, 3, 3, 3)
    local = np.concatenate([pose.root[None], steps[:, 0] @ steps[:, 1] @ steps[:, 2]])
    local[_RIGHT] *= _MIRROR
    position, frame = np.zeros((len(NODES), 3)), np.empty((len(NODES), 3, 3))
    frame[0] = pose.root
    for nodes, parents in _LEVELS:
        position[nodes] = position[parents] + np.matmul(frame[parents], offsets[nodes, :, None])[..., 0]
        frame[nodes] = frame[parents] @ local[nodes]
    return position, frame


def mirrored(pose: Pose) -> Pose:
    """The same pose seen in a mirror: sides swapped, sideways bends and twists reversed."""
    swap = {"left": "right", "right": "left"}
    angles = {}
    for name, value in pose.angles.items():
        side, _, rest = name.partition("_")
        angles[f"{swap[side]}_{rest}" if side in swap else name] = -value if rest in ("side", "twist") else value
    return Pose(angles, _MIRROR * pose.root, pose.lift, pose.family)
