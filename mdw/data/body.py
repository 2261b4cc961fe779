"""The skeleton of a drawn person: proportions, anatomical limits, poses, forward kinematics. No pixels here.

Frame of a body at rest: x to the person's left, y up, z forward (right-handed), standing, arms hanging, unit = the person's stature.
Segment lengths are the usual fractions of stature (Drillis and Contini 1966, as tabulated by Winter, Biomechanics, fig. 4.1),
joint limits the usual clinical ranges of motion rounded to 5 degrees; families of poses and their mix are our choice.
"""

from dataclasses import dataclass
from math import cos, pi, sin

import numpy as np

NODES = ("pelvis", "waist", "chest", "neck", "head",
         "left_clavicle", "left_shoulder", "left_elbow", "left_wrist",
         "right_clavicle", "right_shoulder", "right_elbow", "right_wrist",
         "left_hip", "left_knee", "left_ankle", "right_hip", "right_knee", "right_ankle")
NODE = {name: i for i, name in enumerate(NODES)}
PARENTS = (-1, 0, 1, 2, 3, 2, 5, 6, 7, 2, 9, 10, 11, 0, 13, 14, 0, 16, 17)

_TRUNK = {"spine_flex": (-30, 80), "spine_side": (-30, 30), "spine_twist": (-40, 40),
          "head_flex": (-50, 45), "head_side": (-35, 35), "head_twist": (-70, 70)}
# shoulder: raised by `elevation` in the vertical plane `plane` (0 sideways, 90 forward, below 0 backward), then turned about the arm
# (`turn`, outward positive). hip: flexion, then abduction, then turn.
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
    head: float         # height of the head, chin to crown
    shoulder: float     # half the distance of the shoulder joints
    hip: float          # half the distance of the hip joints
    leg: float          # 1 = average length of the legs
    arm: float

    def offsets(self) -> np.ndarray:
        """(19, 3) position of every node in the frame of its parent, in statures."""
        out = np.zeros((len(NODES), 3))
        trunk = 1 - 1.2 * (self.head - 0.13)
        out[1:5] = (0, 0.06 * trunk, 0), (0, 0.10 * trunk, 0), (0, 0.145 * trunk, -0.008), (0, 0.05, 0.012)
        for k, side in ((5, 1), (9, -1)):
            out[k:k + 4] = ((0.014 * side, 0.122 * trunk, 0), ((self.shoulder - 0.014) * side, 0.006, -0.002),
                            (0, -0.180 * self.arm, 0), (0, -0.146 * self.arm, 0))
        for k, side in ((13, 1), (16, -1)):
            out[k:k + 3] = (self.hip * side, -0.005, 0), (0, -0.245 * self.leg, 0), (0, -0.235 * self.leg, 0)
        return out


def sample_shape(rng: np.random.Generator) -> Shape:
    """A body: one in eight is a child (shorter, larger head)."""
    female, child = rng.random() < 0.5, rng.random() < 0.125
    z = np.clip(rng.standard_normal(6), -2, 2)
    stature = 1.25 + 0.12 * z[0] if child else (1.64 if female else 1.77) + 0.06 * z[0]
    return Shape(stature=stature, girth=float(np.exp(0.13 * z[1])) * (0.95 if female else 1.0), female=bool(female),
                 head=(0.165 if child else 0.133) + 0.004 * z[2],
                 shoulder=(0.100 if female else 0.110) + 0.004 * z[3] - (0.006 if child else 0),
                 hip=(0.058 if female else 0.054) + 0.002 * z[3],
                 leg=(0.93 if child else 1.0) + 0.025 * z[4], arm=(0.93 if child else 1.0) + 0.025 * z[5])


@dataclass(frozen=True)
class Pose:
    """`angles`: degrees by name, inside LIMITS. `root`: (3, 3) orientation of the pelvis in the world (y up). `lift`: metres off the floor."""

    angles: dict[str, float]
    root: np.ndarray
    lift: float = 0.0
    family: str = ""


_AXES = {axis: k for k, axis in enumerate("xyz")}
_BASIS = np.zeros((3, 3, 3, 3))                  # a turn about axis k is constant[k] + cos * [k] + sin * [k]
for _k in range(3):
    _i, _j = (_k + 1) % 3, (_k + 2) % 3
    _BASIS[0, _k, _k, _k] = _BASIS[1, _k, _i, _i] = _BASIS[1, _k, _j, _j] = _BASIS[2, _k, _j, _i] = 1
    _BASIS[2, _k, _i, _j] = -1


def turns(axes: np.ndarray, degrees: np.ndarray) -> np.ndarray:
    """Rotation matrices (..., 3, 3) by `degrees` (...) about the axes (...) 0, 1, 2 = x, y, z; right-handed."""
    angle = np.radians(degrees)[..., None, None]
    return _BASIS[0][axes] + np.cos(angle) * _BASIS[1][axes] + np.sin(angle) * _BASIS[2][axes]


def turn(*steps: tuple[str, float]) -> np.ndarray:
    """Product (3, 3) of turns, the last one applied first: turn(("x", 30), ("z", 5)) is Rx(30) Rz(5)."""
    out = np.eye(3)
    for matrix in turns(np.array([_AXES[axis] for axis, _ in steps]), np.array([degrees for _, degrees in steps])):
        out = out @ matrix
    return out


# three turns for every node but the pelvis; a limb's are those of the left side
_SPINE, _HEAD, _LIMB = [(1, 0, 2)] * 2, [(1, 0, 2)] * 2, [(2, 2, 2), (1, 2, 1), (0, 0, 0), (2, 2, 2)]
_NODE_AXES = np.array(_SPINE + _HEAD + _LIMB * 2 + [(0, 2, 1), (0, 0, 0), (0, 0, 0)] * 2)
_RIGHT = [i for i, name in enumerate(NODES) if name.startswith("right")]


def _node_angles(a: dict[str, float]) -> np.ndarray:
    spine = (a["spine_twist"] / 2, a["spine_flex"] / 2, a["spine_side"] / 2)
    rows = [spine, spine, (a["head_twist"] / 3, a["head_flex"] / 3, 0), (a["head_twist"] * 2 / 3, a["head_flex"] * 2 / 3, a["head_side"])]
    for side in ("left", "right"):
        up, plane = a[f"{side}_elevation"], a[f"{side}_plane"]
        girdle = 0.22 * max(0.0, up - 30)        # the shoulder girdle follows a raised arm
        rows += [(girdle, 0, 0), (-plane, up - girdle, plane + a[f"{side}_turn"]), (-a[f"{side}_elbow"], 0, 0), (-a[f"{side}_wrist"], 0, 0)]
    for side in ("left", "right"):
        rows += [(-a[f"{side}_flex"], a[f"{side}_abduct"], a[f"{side}_hip_turn"]), (a[f"{side}_knee"], 0, 0), (-a[f"{side}_ankle"], 0, 0)]
    return np.array(rows)


def forward_kinematics(shape: Shape, pose: Pose) -> tuple[np.ndarray, np.ndarray]:
    """Positions (19, 3) in metres, pelvis at the origin, y up, and orientations (19, 3, 3) of NODES."""
    offsets = shape.offsets() * shape.stature
    steps = turns(_NODE_AXES, _node_angles(pose.angles))                        # (18, 3, 3, 3)
    local = np.concatenate([pose.root[None], steps[:, 0] @ steps[:, 1] @ steps[:, 2]])
    local[_RIGHT] *= _MIRROR
    position, frame = np.zeros((len(NODES), 3)), np.empty((len(NODES), 3, 3))
    frame[0] = pose.root
    for i, parent in enumerate(PARENTS[1:], 1):
        position[i] = position[parent] + frame[parent] @ offsets[i]
        frame[i] = frame[parent] @ local[i]
    return position, frame


def mirrored(pose: Pose) -> Pose:
    """The same pose seen in a mirror: sides swapped, sideways bends and twists reversed."""
    swap = {"left": "right", "right": "left"}
    angles = {}
    for name, value in pose.angles.items():
        side, _, rest = name.partition("_")
        angles[f"{swap[side]}_{rest}" if side in swap else name] = -value if rest in ("side", "twist") else value
    return Pose(angles, _MIRROR * pose.root, pose.lift, pose.family)


# ---- arms: elevation, plane, turn, elbow as (mean, spread)
_GESTURES = {
    "hang": ((9, 5), (25, 40), (-10, 20), (16, 12)),
    "hip": ((42, 7), (-8, 10), (-75, 8), (88, 12)),
    "pocket": ((18, 5), (-25, 12), (-20, 12), (42, 12)),
    "folded": ((38, 7), (70, 8), (-60, 10), (105, 10)),
    "phone": ((50, 15), (65, 15), (-5, 12), (138, 6)),
    "wave": ((100, 22), (8, 20), (68, 12), (70, 35)),
    "raised": ((158, 14), (45, 35), (10, 30), (22, 22)),
    "aside": ((82, 20), (5, 20), (15, 40), (25, 28)),
    "forward": ((72, 22), (88, 14), (-15, 30), (38, 35)),
    "behind": ((28, 8), (-45, 10), (-70, 10), (70, 15)),
}
_GESTURE_NAMES = tuple(_GESTURES)
_GESTURE_ODDS = np.cumsum([0.30, 0.10, 0.08, 0.06, 0.06, 0.08, 0.10, 0.09, 0.10, 0.03])


def _pick(rng: np.random.Generator, cumulative: np.ndarray) -> int:
    return int(np.searchsorted(cumulative, rng.random() * cumulative[-1], side="right"))


def _arm(rng: np.random.Generator, angles: dict[str, float], side: str, gesture: str) -> None:
    z = rng.standard_normal(5)
    for name, (mean, spread), noise in zip(("elevation", "plane", "turn", "elbow"), _GESTURES[gesture], z, strict=False):
        angles[f"{side}_{name}"] = mean + spread * noise
    angles[f"{side}_wrist"] = 15 * z[4]


def _leg(angles: dict[str, float], side: str, flex: float, knee: float, abduct: float = 4, turn: float = 5, ankle: float = 0) -> None:
    angles |= {f"{side}_flex": flex, f"{side}_knee": knee, f"{side}_abduct": abduct, f"{side}_hip_turn": turn, f"{side}_ankle": ankle}


FAMILIES = ("stand", "walk", "run", "sit", "crouch", "kneel", "bend", "lunge", "kick", "jump", "lie", "handstand", "free")
_FAMILY_ODDS = np.cumsum([0.22, 0.14, 0.11, 0.12, 0.05, 0.04, 0.04, 0.05, 0.05, 0.06, 0.05, 0.03, 0.04])


def sample_pose(rng: np.random.Generator, family: str | None = None) -> Pose:
    """A pose of a random (or the named) family, every angle inside LIMITS, turned about the vertical at random."""
    family = FAMILIES[_pick(rng, _FAMILY_ODDS)] if family is None else family
    z, u = rng.standard_normal(20), rng.random(8)
    a: dict[str, float] = {"spine_flex": 4 + 6 * z[0], "spine_side": 4 * z[1], "spine_twist": 7 * z[2],
                           "head_flex": 4 + 10 * z[3], "head_side": 6 * z[4], "head_twist": 22 * z[5]}
    same = u[0] < 0.35                                      # both arms do the same
    first = _GESTURE_NAMES[_pick(rng, _GESTURE_ODDS)]
    for side in ("left", "right"):
        gesture = first if same or side == "left" else _GESTURE_NAMES[_pick(rng, _GESTURE_ODDS)]
        _arm(rng, a, side, gesture)
    near, far = ("left", "right") if u[1] < 0.5 else ("right", "left")
    for i, side in enumerate((near, far)):
        _leg(a, side, 2 + 4 * z[6 + i], 4 + abs(4 * z[8 + i]), 3 + abs(4 * z[10 + i]), 6 + 8 * z[12 + i])
    root, lift = np.eye(3), 0.0

    if family == "stand" and u[2] < 0.5:                    # the weight on one leg
        _leg(a, near, 12 + 8 * z[14], 22 + 10 * z[15], 6, 12)
    elif family in ("walk", "run"):
        fast, phase = family == "run", 2 * pi * u[2]
        for side, p in ((near, phase), (far, phase + pi)):
            swing = sin(p)
            _leg(a, side, (12 + 48 * swing if fast else 4 + 26 * swing),
                 (28 + 62 * max(0.0, sin(p + 1.9)) + 25 * max(0.0, swing) if fast else 8 + 42 * max(0.0, cos(p + 0.4))), 2, 3, -12 * swing)
            if fast or u[3] < 0.6:
                a |= {f"{side}_elevation": abs(swing) * (50 if fast else 28) + 6, f"{side}_plane": -60 if swing > 0 else 85,
                      f"{side}_turn": -15, f"{side}_elbow": (92 if fast else 22) + 12 * z[14], f"{side}_wrist": 0}
        a["spine_flex"], a["spine_twist"] = (14 if fast else 3) + 5 * z[0], 12 * sin(phase) * (1 if near == "left" else -1)
        lift = 0.1 * u[4] if fast else 0.0
    elif family == "sit":
        for i, side in enumerate((near, far)):
            _leg(a, side, 84 + 8 * z[6 + i], 78 + 22 * z[8 + i], 6 + abs(9 * z[10 + i]), 4 * z[12 + i])
        if u[2] < 0.25:                                     # legs crossed
            _leg(a, near, 98, 70, -14, 10)
        a["spine_flex"] = 4 + 16 * z[0]
    elif family == "crouch":
        for i, side in enumerate((near, far)):
            _leg(a, side, 108 + 12 * z[6 + i], 132 + 8 * z[8 + i], 10 + abs(10 * z[10 + i]), 8, 15)
        a["spine_flex"] = 28 + 14 * z[0]
    elif family == "kneel":
        _leg(a, near, 86 + 8 * z[6], 92 + 8 * z[7])
        _leg(a, far, 2 + 8 * z[8], 98 + 10 * z[9], ankle=-35)
        if u[2] < 0.4:
            _leg(a, near, a[f"{far}_flex"] + 10, a[f"{far}_knee"] + 5, ankle=-35)
    elif family == "bend":
        for i, side in enumerate((near, far)):
            _leg(a, side, 45 + 18 * z[14] + 4 * z[6 + i], 12 + abs(14 * z[15]), 6)
        root, a["spine_flex"] = turn(("x", a[f"{near}_flex"])), 38 + 18 * z[0]
    elif family == "lunge":
        _leg(a, near, 72 + 12 * z[6], 78 + 14 * z[7], 4 + 4 * z[8])
        _leg(a, far, -18 + 5 * z[9], 16 + 10 * abs(z[10]), 4)
    elif family == "kick":
        _leg(a, near, 75 + 28 * z[6], 12 + abs(22 * z[7]), 8 + 14 * z[8], 0, -20)
        root = turn(("x", -12 + 6 * z[9]))
    elif family == "jump":
        tuck = u[2] * 90
        for i, side in enumerate((near, far)):
            _leg(a, side, tuck + 20 * z[6 + i], 1.3 * tuck * u[3] + 8 + 14 * abs(z[8 + i]), 8 + abs(18 * z[10 + i]), 5, -25)
        root, lift = turn(("z", 12 * z[14]), ("x", 12 * z[15])), 0.2 + 0.5 * u[4]
        if u[5] < 0.15:
            root = turn(("z", 360 * u[6]), ("x", 360 * u[7]))                # somersault
    elif family == "lie":
        bent = u[2] < 0.5
        for i, side in enumerate((near, far)):
            flex = 45 * abs(z[6 + i]) if bent else 5 * z[6 + i]
            _leg(a, side, flex, 1.5 * max(flex, 3), 5 + abs(6 * z[10 + i]), 8, -25)
        face_up = -1 if u[3] < 0.6 else 1
        root = turn(("x", 90 * face_up + 8 * z[14]), ("y", 30 * z[15] if u[4] < 0.6 else 90 * np.sign(z[15])))
    elif family == "handstand":
        for side in ("left", "right"):
            _arm(rng, a, side, "raised")
            a[f"{side}_elevation"], a[f"{side}_elbow"], a[f"{side}_turn"] = 168 + 4 * z[14], 6 + abs(6 * z[15]), 0
        for i, side in enumerate((near, far)):
            _leg(a, side, 22 * z[6 + i], abs(25 * z[8 + i]), 6 + abs(16 * z[10 + i]), 0, -30)
        a["spine_flex"], a["head_flex"] = -6 + 6 * z[0], -25 + 8 * z[3]
        root = turn(("z", 180 + (12 * z[16] if u[2] < 0.75 else 75 * z[16])), ("x", 10 * z[17]))   # or a cartwheel
    elif family == "free":
        for name, (low, high) in LIMITS.items():
            a[name] = rng.triangular(low, np.clip(a.get(name, 0.0), low, high), high)
        root = turn(("z", 25 * z[14]), ("x", 25 * z[15]))
    angles = {name: float(min(max(a[name], low), high)) for name, (low, high) in LIMITS.items()}
    yaw = turn(("y", 360 * rng.random()))
    return Pose(angles, yaw @ root, float(lift), family)
