"""What a drawn person looks like: a body of tapered capsules and ellipsoids, clothes, skin, hair, a face. No pixels.

Lengths are in statures, positions in the frames of `body.NODES`; `Placed` carries them into the world in metres. The
face is geometry too (eyes, brows, nose, lips, ears on the skull), so a profile shows one eye, a back shows hair, and
left and right can be told only by telling front from back, as in photographs.
"""

import colorsys
from dataclasses import dataclass, replace

import numpy as np

from mdw.data.body import NODE, Shape

MATERIALS = (
    "skin",
    "hair",
    "top",
    "top2",
    "bottom",
    "bottom2",
    "shoe",
    "white",
    "iris",
    "brow",
    "lip",
    "extra",
    "belt",
    "beard",
    "sock",
)  # 16 at most
MATERIAL = {name: i for i, name in enumerate(MATERIALS)}
_HEAD = NODE["head"]
_JOINTS = np.array(
    [NODE[f"{side}_{joint}"] for joint in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle") for side in ("left", "right")]
)
_SKIN = (
    (255, 224, 196),
    (244, 205, 172),
    (233, 188, 150),
    (214, 164, 124),
    (190, 138, 98),
    (156, 106, 72),
    (120, 80, 54),
    (86, 56, 40),
)
_HAIR = (
    (22, 18, 18),
    (44, 30, 24),
    (74, 48, 32),
    (112, 74, 44),
    (168, 124, 72),
    (214, 180, 116),
    (140, 60, 32),
    (150, 148, 146),
    (224, 222, 218),
)
_IRIS = ((40, 26, 18), (70, 46, 26), (60, 84, 110), (70, 90, 60))


@dataclass(frozen=True, eq=False)
class Figure:
    """Pieces of one person, pose-free: capsules between two ends, ellipsoids with half-axes along their node's frame.

    `*_paint` rows are (material, material beyond the cut or between stripes); a capsule's `cut` is the share of its
    length that wears the first material; `*_stripe` is the period of a pattern along the piece in statures, 0 = plain.
    """

    colours: np.ndarray  # (15, 3) RGB 0..255 by material
    ends: np.ndarray  # (C, 2) node of either end
    end_offsets: np.ndarray  # (C, 2, 3)
    end_radii: np.ndarray  # (C, 2)
    capsule_paint: np.ndarray  # (C, 2)
    cut: np.ndarray  # (C,)
    capsule_stripe: np.ndarray  # (C,)
    nodes: np.ndarray  # (E,) node of an ellipsoid
    centres: np.ndarray  # (E, 3)
    half_axes: np.ndarray  # (E, 3)
    ellipsoid_paint: np.ndarray  # (E, 2)
    ellipsoid_stripe: np.ndarray  # (E,)
    face: np.ndarray  # (5, 3) nose, eyes, ears (COCO's order) in the head's frame


@dataclass(frozen=True, eq=False)
class Placed:
    """A figure in a pose, in the world (metres): nodes (19, 3) and (19, 3, 3), ends (C, 2, 3) and centres (E, 3)."""

    figure: Figure
    stature: float
    position: np.ndarray
    frame: np.ndarray
    ends: np.ndarray
    centres: np.ndarray

    @staticmethod
    def of(figure: Figure, stature: float, position: np.ndarray, frame: np.ndarray) -> "Placed":
        """The figure on a skeleton from `body.forward_kinematics`."""
        turned = np.matmul(frame[figure.ends], figure.end_offsets[..., None])[..., 0]
        centres = np.matmul(frame[figure.nodes], figure.centres[..., None])[..., 0]
        return Placed(
            figure,
            stature,
            position,
            frame,
            position[figure.ends] + turned * stature,
            position[figure.nodes] + centres * stature,
        )

    def moved(self, by: np.ndarray) -> "Placed":
        """The same person `by` (3,) metres away."""
        return replace(self, position=self.position + by, ends=self.ends + by, centres=self.centres + by)

    def lowest(self) -> float:
        """Height of the lowest point, metres."""
        return float((self.ends[..., 1] - self.figure.end_radii * self.stature).min())

    def joints(self) -> np.ndarray:
        """(17, 3) world positions of the joints in COCO's order."""
        face = self.position[_HEAD] + self.figure.face @ self.frame[_HEAD].T * self.stature
        return np.concatenate([face, self.position[_JOINTS]])


def sample_figure(rng: np.random.Generator, shape: Shape) -> Figure:
    """Dress a body: the pieces of a person with random clothes, hair and face."""
    pieces = _Pieces(rng, shape)
    _trunk(pieces)
    for side, name in ((1, "left"), (-1, "right")):
        _arm(pieces, side, name)
        _leg(pieces, side, name)
    face = _face(pieces)
    _hair(pieces)
    c, e = list(zip(*pieces.capsules, strict=True)), list(zip(*pieces.ellipsoids, strict=True))
    return Figure(
        colours=_colours(rng),
        face=face,
        ends=np.array(c[0:2]).T,
        end_offsets=np.array(c[2:4]).swapaxes(0, 1),
        end_radii=np.array(c[4:6]).T,
        capsule_paint=np.array(c[6:8]).T,
        cut=np.array(c[8]),
        capsule_stripe=np.array(c[9]),
        nodes=np.array(e[0]),
        centres=np.array(e[1]),
        half_axes=np.array(e[2]),
        ellipsoid_paint=np.array(e[3:5]).T,
        ellipsoid_stripe=np.array(e[5]),
    )


class _Pieces:
    """A person in the making: what is worn, and the pieces so far."""

    def __init__(self, rng: np.random.Generator, shape: Shape):
        self.capsules, self.ellipsoids = [], []
        self.shape, self.u = shape, rng.random(24).tolist()
        u = self.u
        self.sleeve = "none" if u[0] < 0.15 else "short" if u[0] < 0.6 else "long"
        self.legwear = "skirt" if shape.female and u[1] < 0.22 else "shorts" if u[1] > 0.72 else "trousers"
        self.dress = self.legwear == "skirt" and u[2] < 0.6
        self.stripe = 0.02 + 0.05 * u[3] if u[4] < 0.3 else 0.0
        self.loose = 1.0 + 0.12 * u[5] * (self.sleeve == "long")
        # (material, second material, stripe) of top and bottom
        self.top = ("top", "top2", self.stripe)
        self.bottom = self.top if self.dress else ("bottom", "bottom2", 0.03 if u[6] < 0.08 else 0.0)

    def capsule(self, a, at_a, radius_a, b, at_b, radius_b, paint, beyond=None, stripe=0.0, cut=1.0) -> None:
        self.capsules.append(
            (NODE[a], NODE[b], at_a, at_b, radius_a, radius_b, MATERIAL[paint], MATERIAL[beyond or paint], cut, stripe)
        )

    def ellipsoid(self, node, centre, half_axes, paint, between=None, stripe=0.0) -> None:
        self.ellipsoids.append((NODE[node], centre, half_axes, MATERIAL[paint], MATERIAL[between or paint], stripe))

    # on the head, lengths in heads of average size
    def head_capsule(self, at_a, radius_a, at_b, radius_b, paint) -> None:
        k = self.shape.head / 0.133
        self.capsule("head", _on_head(k, at_a), radius_a * k, "head", _on_head(k, at_b), radius_b * k, paint)

    def head_ellipsoid(self, centre, half_axes, paint) -> None:
        k = self.shape.head / 0.133
        self.ellipsoid("head", _on_head(k, centre), tuple(k * axis for axis in half_axes), paint)


def _on_head(k: float, point: tuple[float, float, float]) -> tuple[float, float, float]:
    return point[0] * k, (0.055 + point[1]) * k, 0.010 + point[2] * k


def _trunk(p: _Pieces) -> None:
    g, u, female = p.shape.girth, p.u, p.shape.female
    hip, wide, deep, belly = p.shape.hip, p.shape.shoulder / 0.11, g * p.loose, 0.062 * g**1.6 * p.loose
    p.ellipsoid("pelvis", (0, 0.012, -0.002), (hip + 0.040 * g, 0.072, 0.062 * g), *p.bottom)
    p.ellipsoid("waist", (0, 0.025, 0.002), (0.084 * deep * (0.92 if female else 1), 0.130, belly), *p.top)
    p.ellipsoid("chest", (0, 0.055, 0.0), (0.098 * wide * p.loose * g**0.5, 0.108, 0.070 * deep), *p.top)
    for side, name in ((1, "left"), (-1, "right")):
        if female:
            p.ellipsoid("chest", (0.036 * side, 0.044, 0.042 * g), (0.040 * g, 0.044, 0.034 * g), *p.top)
        p.capsule(
            "neck", (0.012 * side, -0.004, 0), 0.034 * g, f"{name}_shoulder", (-0.012 * side, 0, 0), 0.036 * g**0.7, "top"
        )
        p.ellipsoid("pelvis", (0.032 * side, -0.020, -0.018 * g), (0.046 * g, 0.054, 0.046 * g), *p.bottom)
    p.capsule("neck", (0, -0.012, 0.004), 0.036 * g**0.7, "head", (0, 0.03, 0), 0.031 * g**0.5, "skin")
    if u[7] < 0.45:  # an open jacket, a zip, a tie marks the front
        width = 0.012 + 0.028 * u[8] ** 2
        low = (0, -0.01, belly - 0.45 * width)
        p.capsule("chest", (0, 0.120, 0.030 * g), 0.9 * width, "waist", low, width, "extra")
    elif u[7] < 0.65:  # so does a print
        p.ellipsoid("chest", (0, 0.045, 0.055 * deep), (0.045, 0.035, 0.020), "extra", "top2", 0.03 * (u[8] < 0.5))
    if u[9] < 0.10:  # a backpack marks the back
        p.ellipsoid("chest", (0, 0.02, -0.085 * deep), (0.085, 0.13, 0.06), "extra")
        for side in (-1, 1):
            strap = (0.066 * side, 0.0, 0.066 * deep)
            p.capsule("chest", (0.062 * side, 0.125, 0.02), 0.016, "chest", strap, 0.014, "extra")
    if not p.dress and u[10] < 0.35:
        p.capsule("pelvis", (-0.7 * hip, 0.060, 0), 0.055 * g, "pelvis", (0.7 * hip, 0.060, 0), 0.055 * g, "belt")


def _arm(p: _Pieces, side: int, name: str) -> None:
    g, u = p.shape.girth, p.u
    shoulder, elbow, wrist = f"{name}_shoulder", f"{name}_elbow", f"{name}_wrist"
    thick = 1.0 if p.shape.female else 1.08
    upper, fore, hand = 0.030 * g * thick, 0.0245 * g * thick, 0.0165 * g**0.5
    cloth, length, zero = 1.14 + 0.16 * u[11], 0.3 + 0.4 * u[14], (0, 0, 0)
    if p.sleeve == "long":
        p.capsule(shoulder, zero, upper * 1.22, elbow, zero, fore * cloth, *p.top)
        p.capsule(elbow, zero, fore * cloth, wrist, zero, hand * cloth, "top", "skin", cut=0.94)
    else:
        p.capsule(shoulder, zero, upper * 1.22, elbow, zero, fore, "skin")
        p.capsule(elbow, zero, fore, wrist, zero, hand, "skin")
    if p.sleeve == "short":
        p.capsule(shoulder, (0, 0.002, 0), upper * 1.26, shoulder, (0, -0.18 * length, 0), upper * cloth, *p.top)
    p.ellipsoid(wrist, (0, -0.043, 0.002), (0.0125, 0.052, 0.023), "skin")
    p.capsule(wrist, (0, -0.022, 0.014), 0.0085, wrist, (-0.004 * side, -0.058, 0.032), 0.0065, "skin")  # thumb


def _leg(p: _Pieces, side: int, name: str) -> None:
    g, u = p.shape.girth, p.u
    hip, knee, ankle, zero = f"{name}_hip", f"{name}_knee", f"{name}_ankle", (0, 0, 0)
    cloth, length = 1.10 + 0.15 * u[12], 0.4 + 0.4 * u[15]
    thigh, shin = 0.052 * g, 0.034 * g**0.8
    if p.legwear == "trousers":
        p.capsule(hip, zero, thigh * cloth**0.5, knee, zero, shin * cloth, *p.bottom)
        p.capsule(knee, zero, shin * cloth, ankle, (0, 0.005, 0), 0.026 * (cloth + 0.25 * (u[16] - 0.3)), *p.bottom)
    else:
        sock = 0.10 + 0.35 * u[13] if u[13] < 0.5 else 0.06
        p.capsule(hip, zero, thigh, knee, zero, shin * 1.03, "skin")
        p.capsule(knee, zero, shin, ankle, zero, 0.0195, "skin", "sock", cut=1 - sock)
        p.ellipsoid(knee, (0, -0.075, -0.014), (0.030 * g, 0.065, 0.028 * g), "skin")  # calf
    if p.legwear == "shorts":
        p.capsule(hip, zero, thigh * cloth**0.5, hip, (0, -0.24 * length, 0), 0.047 * g * cloth, *p.bottom)
    elif p.legwear == "skirt":
        flare, length = (0.055 + 0.02 * u[17]) * g, 0.12 + 0.11 * u[18]
        p.capsule(hip, (0, 0.02, 0), 0.058 * g, hip, (-0.01 * side, -length, 0), flare, *p.bottom)
        p.capsule("pelvis", zero, 0.058 * g, hip, (-0.045 * side, -0.95 * length, 0), flare, *p.bottom)
    p.capsule(ankle, (0, -0.008, -0.012), 0.023, ankle, (0.004 * side, -0.024, 0.085), 0.0160, "shoe")


def _face(p: _Pieces) -> np.ndarray:
    """Skull, jaw, nose, lips, eyes, brows, ears; returns where nose, eyes and ears are, (5, 3) in the head's frame."""
    jaw = 0.0345 * (0.95 if p.shape.female else 1.0)
    p.head_ellipsoid((0, 0.012, -0.004), (0.0425, 0.0535, 0.0520), "skin")
    p.head_ellipsoid((0, -0.026, 0.012), (jaw, 0.0400, 0.0375), "skin")
    p.head_capsule((0, 0.002, 0.047), 0.0055, (0, -0.014, 0.055), 0.0085, "skin")
    p.head_capsule((-0.011, -0.034, 0.043), 0.0048, (0.011, -0.034, 0.043), 0.0048, "lip")
    for side in (-1, 1):
        p.head_ellipsoid((0.0175 * side, 0.004, 0.0435), (0.0095, 0.0062, 0.006), "white")
        p.head_ellipsoid((0.0172 * side, 0.004, 0.0462), (0.0052, 0.0060, 0.006), "iris")
        p.head_capsule((0.009 * side, 0.0165, 0.0475), 0.0036, (0.026 * side, 0.0165, 0.041), 0.003, "brow")
        p.head_ellipsoid((0.0435 * side, -0.004, -0.006), (0.0065, 0.0170, 0.0105), "skin")
    points = (
        (0, -0.013, 0.060),
        (0.0175, 0.004, 0.046),
        (-0.0175, 0.004, 0.046),
        (0.044, -0.004, -0.006),
        (-0.044, -0.004, -0.006),
    )
    return np.array([_on_head(p.shape.head / 0.133, point) for point in points])


def _hair(p: _Pieces) -> None:
    """Hair, beard, dark glasses, hat."""
    u, female, style = p.u, p.shape.female, p.u[19]
    if female or style > 0.06:  # the others are bald
        p.head_ellipsoid((0, 0.024, -0.013), (0.0475, 0.0520, 0.0510), "hair")
        p.head_ellipsoid((0, -0.002, -0.024), (0.0430, 0.0420, 0.0380), "hair")
    tip = -0.05 - 0.10 * u[20]
    if style > 0.93 or female and style < 0.45:  # long
        for side in (-1, 1):
            p.head_capsule((0.030 * side, 0.015, -0.022), 0.026, (0.030 * side, tip, -0.030), 0.022, "hair")
    elif female and style < 0.62:  # a pony tail
        p.head_capsule((0, 0.025, -0.062), 0.016, (0, tip, -0.078), 0.011, "hair")
    elif female and style < 0.75:  # a bun
        p.head_ellipsoid((0, 0.050, -0.052), (0.024, 0.024, 0.024), "hair")
    if not female and u[21] < 0.3:
        p.head_ellipsoid((0, -0.043, 0.018), (0.0335, 0.0270, 0.0345), "beard")
        p.head_capsule((-0.012, -0.0265, 0.046), 0.0045, (0.012, -0.0265, 0.046), 0.0045, "beard")
    if u[22] < 0.12:
        for side in (-1, 1):
            p.head_ellipsoid((0.0185 * side, 0.003, 0.050), (0.0135, 0.0105, 0.004), "iris")
            p.head_capsule((0.032 * side, 0.006, 0.045), 0.0028, (0.044 * side, 0.004, -0.004), 0.0028, "iris")
    if u[23] < 0.14:
        p.head_ellipsoid((0, 0.034, -0.006), (0.0500, 0.0440, 0.0570), "extra")
        if u[23] < 0.09:  # the peak of a cap
            p.head_ellipsoid((0, 0.031, 0.058), (0.036, 0.0055, 0.034), "extra")


def _cloth(rng: np.random.Generator) -> tuple[float, float, float]:
    """A cloth colour: mostly muted, sometimes black, white, denim or loud."""
    kind, *u = rng.random(4).tolist()
    if kind < 0.3:
        grey = 20 + 225 * u[0] ** 0.8
        return grey, grey * (0.97 + 0.05 * u[1]), grey * (0.95 + 0.1 * u[2])
    hue, saturation = (0.6 + 0.05 * u[0], 0.35 + 0.35 * u[1]) if kind < 0.45 else (u[0], 0.25 + 0.7 * u[1])
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, 0.22 + 0.75 * u[2])
    return 255 * red, 255 * green, 255 * blue


def _colours(rng: np.random.Generator) -> np.ndarray:
    u = rng.random(8).tolist()
    tone = u[0] * (len(_SKIN) - 1)
    lighter, darker = np.array(_SKIN[int(tone) : int(tone) + 2])
    skin, dark = lighter * (1 - tone % 1) + darker * (tone % 1), tone > 3.5
    shades = 3 if dark and u[1] < 0.85 else len(_HAIR)
    hair = np.array(_HAIR[int(u[2] * shades)]) * (0.8 + 0.35 * u[3])
    if u[4] < 0.03:
        hair = np.array(_cloth(rng))  # dyed
    bottom = np.array(_cloth(rng))
    colours = {
        "skin": skin,
        "hair": hair,
        "top": _cloth(rng),
        "top2": _cloth(rng),
        "bottom": bottom,
        "bottom2": bottom * (0.6 + 0.7 * u[5]),
        "shoe": _cloth(rng),
        "white": (240, 238, 235),
        "iris": _IRIS[0 if dark else int(4 * u[6])],
        "brow": hair * 0.7,
        "lip": skin * (0.82, 0.55, 0.55),
        "extra": _cloth(rng),
        "belt": _cloth(rng),
        "beard": hair * 0.9,
        "sock": (235, 235, 235) if u[7] < 0.6 else _cloth(rng),
    }
    return np.array([colours[name] for name in MATERIALS]).clip(8, 250)
