"""What drawn people do: families of poses, each angle random about a mean and kept inside the anatomical limits.

The families, their angles and their shares are our choice, made to cover what sports and everyday photographs show.
"""

from math import cos, pi, sin

import numpy as np

from mdw.data.body import LIMITS, Pose, turn

# arms: (mean, spread) in degrees of elevation, plane, turn and elbow; the share of the gesture
_GESTURES = {
    "hang": ((9, 5), (25, 40), (-10, 20), (16, 12), 0.30),
    "hip": ((42, 7), (-8, 10), (-75, 8), (88, 12), 0.10),
    "pocket": ((18, 5), (-25, 12), (-20, 12), (42, 12), 0.08),
    "folded": ((38, 7), (70, 8), (-60, 10), (105, 10), 0.06),
    "phone": ((50, 15), (65, 15), (-5, 12), (138, 6), 0.06),
    "wave": ((100, 22), (8, 20), (68, 12), (70, 35), 0.08),
    "raised": ((158, 14), (45, 35), (10, 30), (22, 22), 0.10),
    "aside": ((82, 20), (5, 20), (15, 40), (25, 28), 0.09),
    "forward": ((72, 22), (88, 14), (-15, 30), (38, 35), 0.10),
    "behind": ((28, 8), (-45, 10), (-70, 10), (70, 15), 0.03),
}
_GESTURE_NAMES = tuple(_GESTURES)
_GESTURE_SHARES = np.cumsum([row[4] for row in _GESTURES.values()])


class _Sketch:
    """A pose in the making: a relaxed stance that a family changes. `z` normal and `u` uniform numbers to draw on."""

    def __init__(self, rng: np.random.Generator):
        self.rng = rng
        self.z, self.u = z, u = rng.standard_normal(20).tolist(), rng.random(8).tolist()
        self.root, self.lift = np.eye(3), 0.0
        self.angles = {
            "spine_flex": 4 + 6 * z[0],
            "spine_side": 4 * z[1],
            "spine_twist": 7 * z[2],
            "head_flex": 4 + 10 * z[3],
            "head_side": 6 * z[4],
            "head_twist": 22 * z[5],
        }
        first, second = (_GESTURE_NAMES[_pick(rng, _GESTURE_SHARES)] for _ in range(2))
        self.arm("left", first)
        self.arm("right", first if u[0] < 0.35 else second)
        self.sides = ("left", "right") if u[1] < 0.5 else ("right", "left")
        for i, side in enumerate(self.sides):
            self.leg(side, 2 + 4 * z[6 + i], 4 + abs(4 * z[8 + i]), 3 + abs(4 * z[10 + i]), 6 + 8 * z[12 + i])

    def arm(self, side: str, gesture: str) -> None:
        names = ("elevation", "plane", "turn", "elbow")
        noise = self.rng.standard_normal(5).tolist()
        for name, (mean, spread), n in zip(names, _GESTURES[gesture][:4], noise, strict=False):
            self.angles[f"{side}_{name}"] = mean + spread * n
        self.angles[f"{side}_wrist"] = 15 * noise[4]

    def leg(self, side: str, flex: float, knee: float, abduct: float = 4, hip_turn: float = 5, ankle: float = 0) -> None:
        values = {"flex": flex, "knee": knee, "abduct": abduct, "hip_turn": hip_turn, "ankle": ankle}
        self.angles |= {f"{side}_{name}": value for name, value in values.items()}


def _stand(s: _Sketch) -> None:
    if s.u[2] < 0.5:  # the weight on one leg
        s.leg(s.sides[0], 12 + 8 * s.z[14], 22 + 10 * s.z[15], 6, 12)


def _walk(s: _Sketch) -> None:
    phase = 2 * pi * s.u[2]
    for side, p in zip(s.sides, (phase, phase + pi), strict=True):
        s.leg(side, 4 + 26 * sin(p), 8 + 42 * max(0.0, cos(p + 0.4)), 2, 3, -12 * sin(p))
        if s.u[3] < 0.6:
            _swing(s, side, 28 * abs(sin(p)) + 6, sin(p) < 0, 22)
    s.angles["spine_twist"] = 12 * sin(phase) * (1 if s.sides[0] == "left" else -1)


def _run(s: _Sketch) -> None:
    phase = 2 * pi * s.u[2]
    for side, p in zip(s.sides, (phase, phase + pi), strict=True):
        knee = 28 + 62 * max(0.0, sin(p + 1.9)) + 25 * max(0.0, sin(p))
        s.leg(side, 12 + 48 * sin(p), knee, 2, 3, -12 * sin(p))
        _swing(s, side, 50 * abs(sin(p)) + 6, sin(p) < 0, 92)
    s.angles["spine_flex"] = 14 + 5 * s.z[0]
    s.angles["spine_twist"] = 12 * sin(phase) * (1 if s.sides[0] == "left" else -1)
    s.lift = 0.1 * s.u[4]


def _swing(s: _Sketch, side: str, elevation: float, forward: bool, elbow: float) -> None:
    plane = 85 if forward else -60
    values = {"elevation": elevation, "plane": plane, "turn": -15, "elbow": elbow + 12 * s.z[14], "wrist": 0}
    s.angles |= {f"{side}_{name}": value for name, value in values.items()}


def _sit(s: _Sketch) -> None:
    z = s.z
    for i, side in enumerate(s.sides):
        s.leg(side, 84 + 8 * z[6 + i], 78 + 22 * z[8 + i], 6 + abs(9 * z[10 + i]), 4 * z[12 + i])
    if s.u[2] < 0.25:  # legs crossed
        s.leg(s.sides[0], 98, 70, -14, 10)
    s.angles["spine_flex"] = 4 + 16 * z[0]


def _crouch(s: _Sketch) -> None:
    z = s.z
    for i, side in enumerate(s.sides):
        s.leg(side, 108 + 12 * z[6 + i], 132 + 8 * z[8 + i], 10 + abs(10 * z[10 + i]), 8, 15)
    s.angles["spine_flex"] = 28 + 14 * z[0]


def _kneel(s: _Sketch) -> None:
    near, far = s.sides
    flex, knee = 2 + 8 * s.z[8], 98 + 10 * s.z[9]
    s.leg(far, flex, knee, ankle=-35)
    if s.u[2] < 0.4:  # on both knees
        s.leg(near, flex + 10, knee + 5, ankle=-35)
    else:
        s.leg(near, 86 + 8 * s.z[6], 92 + 8 * s.z[7])


def _bend(s: _Sketch) -> None:
    flex = 45 + 18 * s.z[14]
    for i, side in enumerate(s.sides):
        s.leg(side, flex + 4 * s.z[6 + i], 12 + abs(14 * s.z[15]), 6)
    s.root, s.angles["spine_flex"] = turn(("x", flex)), 38 + 18 * s.z[0]


def _lunge(s: _Sketch) -> None:
    s.leg(s.sides[0], 72 + 12 * s.z[6], 78 + 14 * s.z[7], 4 + 4 * s.z[8])
    s.leg(s.sides[1], -18 + 5 * s.z[9], 16 + 10 * abs(s.z[10]), 4)


def _kick(s: _Sketch) -> None:
    s.leg(s.sides[0], 75 + 28 * s.z[6], 12 + abs(22 * s.z[7]), 8 + 14 * s.z[8], 0, -20)
    s.root = turn(("x", -12 + 6 * s.z[9]))


def _jump(s: _Sketch) -> None:
    z, u = s.z, s.u
    tuck = 90 * u[2]
    for i, side in enumerate(s.sides):
        knee = 1.3 * tuck * u[3] + 8 + 14 * abs(z[8 + i])
        s.leg(side, tuck + 20 * z[6 + i], knee, 8 + abs(18 * z[10 + i]), 5, -25)
    s.root, s.lift = turn(("z", 12 * z[14]), ("x", 12 * z[15])), 0.2 + 0.5 * u[4]
    if u[5] < 0.15:  # somersault
        s.root = turn(("z", 360 * u[6]), ("x", 360 * u[7]))


def _lie(s: _Sketch) -> None:
    z, u = s.z, s.u
    for i, side in enumerate(s.sides):
        flex = 45 * abs(z[6 + i]) if u[2] < 0.5 else 5 * z[6 + i]
        s.leg(side, flex, 1.5 * max(flex, 3), 5 + abs(6 * z[10 + i]), 8, -25)
    on_back = -1 if u[3] < 0.6 else 1
    rolled = 30 * z[15] if u[4] < 0.6 else 90 * np.sign(z[15])
    s.root = turn(("x", 90 * on_back + 8 * z[14]), ("y", rolled))


def _handstand(s: _Sketch) -> None:
    z = s.z
    for side in ("left", "right"):
        s.arm(side, "raised")
        values = {"elevation": 168 + 4 * z[14], "elbow": 6 + abs(6 * z[15]), "turn": 0}
        s.angles |= {f"{side}_{name}": value for name, value in values.items()}
    for i, side in enumerate(s.sides):
        s.leg(side, 22 * z[6 + i], abs(25 * z[8 + i]), 6 + abs(16 * z[10 + i]), 0, -30)
    s.angles |= {"spine_flex": -6 + 6 * z[0], "head_flex": -25 + 8 * z[3]}
    spread = 12 if s.u[2] < 0.75 else 75  # or a cartwheel
    s.root = turn(("z", 180 + spread * z[16]), ("x", 10 * z[17]))


def _free(s: _Sketch) -> None:
    names = list(LIMITS)
    low, high = np.array([LIMITS[name] for name in names], float).T
    mode = np.clip([s.angles[name] for name in names], low, high)
    s.angles = dict(zip(names, s.rng.triangular(low, mode, high).tolist(), strict=True))
    s.root = turn(("z", 25 * s.z[14]), ("x", 25 * s.z[15]))


FAMILIES = {  # how, and the share
    "stand": (_stand, 0.22),
    "walk": (_walk, 0.14),
    "run": (_run, 0.11),
    "sit": (_sit, 0.12),
    "crouch": (_crouch, 0.05),
    "kneel": (_kneel, 0.04),
    "bend": (_bend, 0.04),
    "lunge": (_lunge, 0.05),
    "kick": (_kick, 0.05),
    "jump": (_jump, 0.06),
    "lie": (_lie, 0.05),
    "handstand": (_handstand, 0.03),
    "free": (_free, 0.04),
}
_FAMILY_NAMES = tuple(FAMILIES)
_FAMILY_SHARES = np.cumsum([share for _, share in FAMILIES.values()])


def sample_pose(rng: np.random.Generator, family: str | None = None) -> Pose:
    """A pose of a random (or the named) family, every angle inside LIMITS, turned about the vertical at random."""
    if family is None:
        family = _FAMILY_NAMES[_pick(rng, _FAMILY_SHARES)]
    sketch = _Sketch(rng)
    FAMILIES[family][0](sketch)
    angles = {name: float(min(max(sketch.angles[name], low), high)) for name, (low, high) in LIMITS.items()}
    return Pose(angles, turn(("y", 360 * rng.random())) @ sketch.root, float(sketch.lift), family)


def _pick(rng: np.random.Generator, cumulative: np.ndarray) -> int:
    return int(np.searchsorted(cumulative, rng.random() * cumulative[-1], side="right"))
