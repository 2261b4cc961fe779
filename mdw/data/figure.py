"""What a drawn person looks like: a body of tapered capsules and ellipsoids, clothes, skin, hair, a face. Geometry and colours, no pixels.

Lengths are in statures, positions in the frames of `body.NODES`; `Figure.place` carries them into the world in metres.
The face is geometry too (eyes, brows, nose, lips, ears on the skull), so a profile shows one eye, a back shows hair, and
left and right can be told only by telling front from back, as in photographs.
"""

import colorsys
from dataclasses import dataclass

import numpy as np

from mdw.data.body import NODE, NODES, Shape

MATERIALS = ("skin", "hair", "top", "top2", "bottom", "bottom2", "shoe", "sole", "white", "iris", "brow", "lip", "extra", "belt", "beard", "sock")
MATERIAL = {name: i for i, name in enumerate(MATERIALS)}
_SKIN = ((255, 224, 196), (244, 205, 172), (233, 188, 150), (214, 164, 124), (190, 138, 98), (156, 106, 72), (120, 80, 54), (86, 56, 40))
_HAIR = ((22, 18, 18), (44, 30, 24), (74, 48, 32), (112, 74, 44), (168, 124, 72), (214, 180, 116), (140, 60, 32), (150, 148, 146),
         (224, 222, 218))


@dataclass(frozen=True)
class Figure:
    """Pieces of one person, pose-free. Capsule: two ends with radii; ellipsoid: a centre with half-axes along the node's frame.

    `*_paint` rows are (material, material beyond the cut or between stripes); a capsule's `cut` is the share of its length that
    wears the first material (1 = all of it); `stripe` is the period of a pattern along the piece in statures, 0 = plain.
    """

    colours: np.ndarray          # (16, 3) RGB 0..255 by material
    ends: np.ndarray             # (C, 2) node of either end
    end_offsets: np.ndarray      # (C, 2, 3)
    end_radii: np.ndarray        # (C, 2)
    capsule_paint: np.ndarray    # (C, 2)
    cut: np.ndarray              # (C,)
    capsule_stripe: np.ndarray   # (C,)
    nodes: np.ndarray            # (E,) node of an ellipsoid
    centres: np.ndarray          # (E, 3)
    half_axes: np.ndarray        # (E, 3)
    ellipsoid_paint: np.ndarray  # (E, 2)
    ellipsoid_stripe: np.ndarray # (E,)
    face: np.ndarray             # (5, 3) nose, eyes, ears (COCO order) in the head's frame

    def place(self, position: np.ndarray, frame: np.ndarray, stature: float) -> tuple[np.ndarray, np.ndarray]:
        """World coordinates in metres of the capsules' ends (C, 2, 3) and of the ellipsoids' centres (E, 3)."""
        ends = position[self.ends] + np.matmul(frame[self.ends], self.end_offsets[..., None])[..., 0] * stature
        centres = position[self.nodes] + np.matmul(frame[self.nodes], self.centres[..., None])[..., 0] * stature
        return ends, centres


def _cloth(rng: np.random.Generator) -> tuple[float, float, float]:
    """A cloth colour: mostly muted, sometimes black, white, denim or loud."""
    kind, u = rng.random(), rng.random(3)
    if kind < 0.3:
        grey = (20 + 225 * u[0] ** 0.8)
        return grey, grey * (0.97 + 0.05 * u[1]), grey * (0.95 + 0.1 * u[2])
    hue, saturation = (0.6 + 0.05 * u[0], 0.35 + 0.35 * u[1]) if kind < 0.45 else (u[0], 0.25 + 0.7 * u[1])
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, 0.22 + 0.75 * u[2])
    return 255 * red, 255 * green, 255 * blue


def _colours(rng: np.random.Generator) -> np.ndarray:
    tone = rng.random() * (len(_SKIN) - 1)
    skin = np.array(_SKIN[int(tone)]) * (1 - tone % 1) + np.array(_SKIN[int(tone) + 1]) * (tone % 1)
    dark = tone > 3.5
    hair = np.array(_HAIR[int(rng.integers(3 if dark and rng.random() < 0.85 else len(_HAIR)))]) * rng.uniform(0.8, 1.15)
    if rng.random() < 0.03:
        hair = np.array(_cloth(rng))                                               # dyed
    out = np.zeros((len(MATERIALS), 3), np.float32)
    top, bottom, shoe = _cloth(rng), _cloth(rng), _cloth(rng)
    iris = ((40, 26, 18), (70, 46, 26), (60, 84, 110), (70, 90, 60))[0 if dark else int(rng.integers(4))]
    for name, value in (("skin", skin), ("hair", hair), ("top", top), ("top2", _cloth(rng)), ("bottom", bottom),
                        ("bottom2", np.array(bottom) * rng.uniform(0.6, 1.3)), ("shoe", shoe),
                        ("sole", (225, 222, 215) if rng.random() < 0.5 else (40, 36, 34)), ("white", (240, 238, 235)), ("iris", iris),
                        ("brow", hair * 0.7), ("lip", skin * (0.82, 0.55, 0.55)), ("extra", _cloth(rng)),
                        ("belt", _cloth(rng)), ("beard", hair * 0.9), ("sock", (235, 235, 235) if rng.random() < 0.6 else _cloth(rng))):
        out[MATERIAL[name]] = value
    return out.clip(8, 250)


def sample_figure(rng: np.random.Generator, shape: Shape) -> Figure:
    """Dress a body: the pieces of a person with random clothes, hair and face."""
    capsules, ellipsoids = [], []
    g, head = shape.girth, shape.head / 0.133
    u = rng.random(24)

    def capsule(a, pa, ra, b, pb, rb, paint, beyond=None, cut=1.0, stripe=0.0):
        capsules.append((NODE[a], NODE[b], pa, pb, ra, rb, MATERIAL[paint], MATERIAL[beyond or paint], cut, stripe))

    def ellipsoid(node, centre, half_axes, paint, between=None, stripe=0.0):
        ellipsoids.append((NODE[node], centre, half_axes, MATERIAL[paint], MATERIAL[between or paint], stripe))

    # ---- what is worn
    sleeve = ("none", "short", "long")[int(np.searchsorted((0.15, 0.6), u[0]))]
    legwear = "skirt" if shape.female and u[1] < 0.22 else ("shorts" if u[1] > 0.72 else "trousers")
    dress = legwear == "skirt" and u[2] < 0.6
    stripe = 0.02 + 0.05 * u[3] if u[4] < 0.3 else 0.0
    loose = 1.0 + 0.12 * u[5] * (sleeve == "long")
    bottom, bottom2, bottom_stripe = ("top", "top2", stripe) if dress else ("bottom", "bottom2", 0.03 if u[6] < 0.08 else 0.0)

    # ---- trunk: pelvis, belly, chest, shoulder line, neck
    wide, deep = (shape.shoulder / 0.11), g * loose
    belly = 0.062 * g ** 1.6
    ellipsoid("pelvis", (0, 0.012, -0.002), (shape.hip + 0.040 * g, 0.072, 0.062 * g), bottom, bottom2, bottom_stripe)
    ellipsoid("waist", (0, 0.02, 0.002), (0.080 * deep * (0.93 if shape.female else 1), 0.105, belly * loose), "top", "top2", stripe)
    ellipsoid("chest", (0, 0.055, 0.0), (0.098 * wide * loose * g ** 0.5, 0.108, 0.070 * deep), "top", "top2", stripe)
    for side in (-1, 1):
        if shape.female:
            ellipsoid("chest", (0.040 * side, 0.040, 0.050 * g), (0.037 * g, 0.036, 0.032 * g), "top", "top2", stripe)
        name = "left" if side > 0 else "right"
        capsule("neck", (0.012 * side, -0.004, 0), 0.034 * g, f"{name}_shoulder", (-0.012 * side, 0.0, 0), 0.036 * g ** 0.7, "top")
        ellipsoid("pelvis", (0.034 * side, -0.022, -0.028 * g), (0.045 * g, 0.050, 0.042 * g), bottom, bottom2, bottom_stripe)
    capsule("neck", (0, -0.012, 0.004), 0.036 * g ** 0.7, "head", (0, 0.03, 0.0), 0.031 * g ** 0.5, "skin")
    if u[7] < 0.45:                                                                # open jacket, zip, tie or print: marks the front
        width = 0.012 + 0.028 * u[8] ** 2
        capsule("chest", (0, 0.120, 0.030 * g), width * 0.9, "waist", (0, -0.01, belly * loose - width * 0.45), width, "extra")
    elif u[7] < 0.65:
        ellipsoid("chest", (0, 0.045, 0.055 * deep), (0.045, 0.035, 0.020), "extra", "top2", 0.03 * (u[8] < 0.5))
    if u[9] < 0.10:                                                                # backpack: marks the back
        ellipsoid("chest", (0, 0.02, -0.085 * deep), (0.085, 0.13, 0.06), "extra")
        for side in (-1, 1):
            capsule("chest", (0.062 * side, 0.125, 0.02), 0.016, "chest", (0.066 * side, 0.0, 0.066 * deep), 0.014, "extra")
    if not dress and u[10] < 0.35:
        capsule("pelvis", (-shape.hip * 0.7, 0.060, 0.0), 0.055 * g, "pelvis", (shape.hip * 0.7, 0.060, 0.0), 0.055 * g, "belt")

    # ---- limbs
    thick = 1.0 if shape.female else 1.08
    sleeve_radius = 1.14 + 0.16 * u[11] if sleeve != "none" else 1.0
    leg_radius = 1.10 + 0.15 * u[12]
    sock = 0.10 + 0.35 * u[13] if u[13] < 0.5 else 0.06
    for side, name in ((1, "left"), (-1, "right")):
        shoulder, elbow, wrist = f"{name}_shoulder", f"{name}_elbow", f"{name}_wrist"
        upper, fore = 0.030 * g * thick, 0.024 * g * thick
        worn = sleeve_radius if sleeve == "long" else 1.0
        capsule(shoulder, (0, 0, 0), upper * 1.22, elbow, (0, 0, 0), fore * worn * 1.02, "skin" if sleeve == "none" else "top", "skin",
                1.0 if sleeve != "short" else 0.5 + 0.4 * u[14], stripe if sleeve != "none" else 0.0)
        if sleeve == "short":                                                      # the loose end of the sleeve
            capsule(shoulder, (0, -0.01, 0), upper * 1.25, shoulder, (0, -0.18 * (0.30 + 0.4 * u[14]), 0), upper * sleeve_radius, "top", stripe=stripe)
        capsule(elbow, (0, 0, 0), fore * worn * 1.02, wrist, (0, 0, 0), 0.0165 * g ** 0.5 * worn, "top" if sleeve == "long" else "skin",
                "skin", 0.94 if sleeve == "long" else 1.0, stripe if sleeve == "long" else 0.0)
        ellipsoid(wrist, (0, -0.043, 0.002), (0.0125, 0.052, 0.023), "skin")
        capsule(wrist, (0, -0.022, 0.014), 0.0085, wrist, (-0.004 * side, -0.058, 0.032), 0.0065, "skin")     # thumb
        hip, knee, ankle = f"{name}_hip", f"{name}_knee", f"{name}_ankle"
        bare = legwear == "skirt"
        thigh, shin = 0.052 * g, 0.034 * g ** 0.8
        fit = leg_radius if legwear != "skirt" else 1.0
        capsule(hip, (0, 0, 0), thigh * (fit ** 0.5), knee, (0, 0, 0), shin * (leg_radius if legwear == "trousers" else 1.03),
                "skin" if bare else bottom, "skin", 1.0 if legwear != "shorts" else 0.55 + 0.4 * u[15], bottom_stripe)
        if legwear == "shorts":
            capsule(hip, (0, -0.01, 0), thigh * fit ** 0.5, hip, (0, -0.24 * (0.40 + 0.4 * u[15]), 0), 0.047 * g * leg_radius, bottom)
        if legwear == "trousers":
            capsule(knee, (0, 0, 0), shin * leg_radius, ankle, (0, 0.005, 0), 0.026 * (leg_radius + 0.25 * (u[16] - 0.3)), bottom,
                    stripe=bottom_stripe)
        else:
            capsule(knee, (0, 0, 0), shin, ankle, (0, 0, 0), 0.0195, "skin", "sock", 1 - sock)
            ellipsoid(knee, (0, -0.075, -0.014), (0.030 * g, 0.065, 0.028 * g), "skin")                        # calf
        if legwear == "skirt":
            flare, length = 0.055 + 0.02 * u[17], 0.12 + 0.11 * u[18]
            capsule(hip, (0, 0.02, 0), 0.058 * g, hip, (-0.01 * side, -length, 0), flare * g, bottom, bottom2, 1.0, bottom_stripe)
            capsule("pelvis", (0, 0.0, 0), 0.058 * g, hip, (-0.045 * side, -length * 0.95, 0), flare * g, bottom, bottom2, 1.0, bottom_stripe)
        capsule(ankle, (0, -0.004, -0.010), 0.022, ankle, (0.004 * side, -0.020, 0.082), 0.0165, "shoe")
        capsule(ankle, (0, -0.025, -0.018), 0.014, ankle, (0.004 * side, -0.028, 0.090), 0.012, "sole")

    # ---- head: skull, jaw, face, ears
    def h(x, y, z):
        return x * head, 0.055 * head + y * head, 0.010 + z * head

    narrow = 0.95 if shape.female else 1.0
    ellipsoid("head", h(0, 0.012, -0.004), (0.0425 * head, 0.0535 * head, 0.0520 * head), "skin")
    ellipsoid("head", h(0, -0.026, 0.012), (0.0345 * head * narrow, 0.0400 * head, 0.0375 * head), "skin")
    face = np.array([h(0, -0.013, 0.060), h(0.0175, 0.004, 0.046), h(-0.0175, 0.004, 0.046), h(0.044, -0.004, -0.006), h(-0.044, -0.004, -0.006)])
    capsule("head", h(0, 0.002, 0.047), 0.0055 * head, "head", h(0, -0.014, 0.055), 0.0085 * head, "skin")        # nose
    capsule("head", h(-0.011, -0.034, 0.043), 0.0048 * head, "head", h(0.011, -0.034, 0.043), 0.0048 * head, "lip")
    for side in (-1, 1):
        ellipsoid("head", h(0.0175 * side, 0.004, 0.0435), (0.0095 * head, 0.0062 * head, 0.006 * head), "white")
        ellipsoid("head", h(0.0172 * side, 0.004, 0.0462), (0.0052 * head, 0.0060 * head, 0.006 * head), "iris")
        capsule("head", h(0.009 * side, 0.0165, 0.0475), 0.0036 * head, "head", h(0.026 * side, 0.0165, 0.041), 0.003 * head, "brow")
        ellipsoid("head", h(0.0435 * side, -0.004, -0.006), (0.0065 * head, 0.0170 * head, 0.0105 * head), "skin")

    # ---- hair, beard, glasses, hat
    style = u[19]
    bald = style < 0.06 and not shape.female
    if not bald:
        ellipsoid("head", h(0, 0.024, -0.013), (0.0475 * head, 0.0520 * head, 0.0510 * head), "hair")
        ellipsoid("head", h(0, -0.002, -0.024), (0.0430 * head, 0.0420 * head, 0.0380 * head), "hair")
    if shape.female and style < 0.75 or style > 0.93:
        length = 0.03 + 0.10 * u[20]
        if style < 0.45 or style > 0.93:                                            # long, down to the shoulders or the back
            for side in (-1, 1):
                capsule("head", h(0.030 * side, 0.015, -0.022), 0.026 * head, "head", h(0.030 * side, -0.03 - length, -0.030), 0.022 * head, "hair")
        elif style < 0.62:                                                          # pony tail
            capsule("head", h(0, 0.025, -0.062), 0.016 * head, "head", h(0, -0.02 - length, -0.078), 0.011 * head, "hair")
        else:                                                                       # bun
            ellipsoid("head", h(0, 0.050, -0.052), (0.024 * head,) * 3, "hair")
    if not shape.female and u[21] < 0.3:
        ellipsoid("head", h(0, -0.043, 0.018), (0.0335 * head, 0.0270 * head, 0.0345 * head), "beard")
        capsule("head", h(-0.012, -0.0265, 0.046), 0.0045 * head, "head", h(0.012, -0.0265, 0.046), 0.0045 * head, "beard")
    if u[22] < 0.12:
        for side in (-1, 1):
            ellipsoid("head", h(0.0185 * side, 0.003, 0.050), (0.0135 * head, 0.0105 * head, 0.004 * head), "iris")   # dark glasses
            capsule("head", h(0.032 * side, 0.006, 0.045), 0.0028 * head, "head", h(0.044 * side, 0.004, -0.004), 0.0028 * head, "iris")
    if u[23] < 0.14:
        ellipsoid("head", h(0, 0.034, -0.006), (0.0500 * head, 0.0440 * head, 0.0570 * head), "extra")
        if u[23] < 0.09:                                                            # the peak of a cap
            ellipsoid("head", h(0, 0.031, 0.058), (0.036 * head, 0.0055 * head, 0.034 * head), "extra")

    c, e = list(zip(*capsules, strict=True)), list(zip(*ellipsoids, strict=True))
    return Figure(colours=_colours(rng), ends=np.array([c[0], c[1]]).T, end_offsets=np.array([c[2], c[3]]).transpose(1, 0, 2),
                  end_radii=np.array([c[4], c[5]]).T, capsule_paint=np.array([c[6], c[7]]).T, cut=np.array(c[8]), capsule_stripe=np.array(c[9]),
                  nodes=np.array(e[0]), centres=np.array(e[1]), half_axes=np.array(e[2]), ellipsoid_paint=np.array([e[3], e[4]]).T,
                  ellipsoid_stripe=np.array(e[5]), face=face)


assert len(NODES) == 19
