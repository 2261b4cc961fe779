"""Augments a person before the crop: half-body, scale, rotation, flip, in HRNet's order.

Drawing and applying are separate. `draw` takes a fixed number of random numbers from a generator, whatever the options and the
person; `augment` applies them. So a sample's augmentation depends on its own numbers only, and the same numbers can be applied
again.
"""

from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple

import numpy as np
from annotated_types import Ge, Interval, Lt
from numpy.typing import ArrayLike

from mdw.pose.boxes import PIXEL_STD, extent_to_scale
from mdw.pose.joints import JointSet
from mdw.util.errors import MdwError
from mdw.util.typed import Fraction, Whole, settle

JITTER_PROBABILITY = 0.3  # both centre jitters of mmpose


@dataclass(frozen=True)
class Augmentation:
    """The options. Defaults: MDW-HRNet's on COCO (factors from the article, distributions from HRNet's code).

    rotation: degrees; standard deviation of a normal distribution clipped at twice that, or half-width of the "uniform" one.
    scale: standard deviation, and limit, of the factor 1 + scale * normal. half_body_min_joints: half-body applies only to
    persons with more joints. jitter: "static20" moves the centres of a data set once for all epochs (training calls
    `static_jitter`; `augment` then does nothing for it); "per_sample16" moves the centre by up to 16 % of the crop at every
    draw, with probability 0.3 (mmpose 0.29).
    """

    rotation: Annotated[float, Interval(ge=0, le=180)] = 30.0
    scale: Annotated[float, Ge(0), Lt(1)] = 0.25
    rotation_probability: Fraction = 0.6
    rotation_law: Literal["normal", "uniform"] = "normal"
    flip_probability: Fraction = 0.5
    half_body_probability: Fraction = 0.3
    half_body_min_joints: Whole = 8
    jitter: Literal["none", "static20", "per_sample16"] = "none"

    def __post_init__(self) -> None:
        settle(self)


MDW_COCO = Augmentation()
MDW_MPII = Augmentation(half_body_probability=0.0)
HRNET_COCO = Augmentation(rotation=45.0, scale=0.35)
HRNET_MPII = Augmentation(half_body_probability=0.0)
LITE_COCO = Augmentation(jitter="static20")  # also Dite-HRNet's; the jitter is in the mmpose version that both use
LITE_MPII = Augmentation(half_body_probability=0.0)
NONE = Augmentation(rotation=0.0, scale=0.0, rotation_probability=0.0, flip_probability=0.0, half_body_probability=0.0)


class Draws(NamedTuple):
    """The random numbers of one sample (or arrays, of many): u are uniform in [0, 1), z standard normal."""

    half_body_u: float = 1.0
    half_body_z: float = 0.0
    scale_z: float = 0.0
    rotation_u: float = 1.0
    rotation_z: float = 0.0
    flip_u: float = 1.0
    rotation_angle_u: float = 0.5  # for the uniform distribution
    jitter_u: float = 1.0
    jitter_x_u: float = 0.5
    jitter_y_u: float = 0.5


def draw(rng: np.random.Generator, size: int | None = None) -> Draws:
    """Draw the random numbers of one sample, or arrays (size,) for many."""
    shape = () if size is None else (size,)
    u, z = rng.random((7, *shape)), rng.standard_normal((3, *shape))
    return Draws(u[0], z[0], z[1], u[1], z[2], u[2], u[3], u[4], u[5], u[6])


class Augmented(NamedTuple):
    """A person after augmentation; center (2,), joints (J, 2), visible (J,) belong to the image mirrored where `flip`.

    For many persons every field has a first axis for them."""

    center: np.ndarray
    scale: np.ndarray
    rotation: np.ndarray  # degrees, float64
    flip: np.ndarray  # bool
    joints: np.ndarray
    visible: np.ndarray


def augment(
    center: ArrayLike,
    scale: ArrayLike,
    joints: ArrayLike,
    visible: ArrayLike,
    image_width: ArrayLike,
    joint_set: JointSet,
    size: tuple[float, float],
    augmentation: Augmentation,
    source: np.random.Generator | Draws,
) -> Augmented:
    """Returns the augmented crop of one person, or of N at once: then all arrays, also in `source`, have a first axis of N.

    center (2,) px, scale (2,) in units of 200 px; joints (J, 2) image pixels; visible (J,), > 0 = labelled; image_width () in
    pixels; size: the network's input (w, h), of which the ratio counts; source: drawn numbers or, for one person, a generator.
    The returned joints are float64 image pixels (mirrored if `flip`), to be transformed by `affine_matrix(center, scale,
    rotation, size)` with the other results. No argument is changed. Raises MdwError where a labelled joint is not finite.
    """
    draws = source if isinstance(source, Draws) else draw(source)
    center, scale = np.array(center, np.float32), np.array(scale, np.float32)
    joints, visible = np.array(joints, np.float64), np.array(visible, np.float32)
    if joints.shape[-2:] != (joint_set.num_joints, 2) or visible.shape != joints.shape[:-1]:
        raise MdwError(
            f"{joint_set.name} needs joints ({joint_set.num_joints}, 2) and visible to match, "
            f"not {joints.shape}, {visible.shape}"
        )
    labelled = visible > 0
    if not np.isfinite(joints[labelled]).all():
        raise MdwError("a labelled joint has a position that is not finite; set its visibility to 0")

    if augmentation.jitter == "per_sample16":
        offset = 2 * np.stack([draws.jitter_x_u, draws.jitter_y_u], axis=-1) - 1
        jittered = (center + 0.16 * offset * scale * PIXEL_STD).astype(np.float32)
        center = np.where((np.asarray(draws.jitter_u) < JITTER_PROBABILITY)[..., None], jittered, center)
    halved = np.asarray(draws.half_body_u) < augmentation.half_body_probability
    halved = halved & (labelled.sum(axis=-1) > augmentation.half_body_min_joints)
    if halved.any():
        half_center, half_scale, enough = half_body(joints, visible, joint_set, size, draws.half_body_z)
        halved = (halved & enough)[..., None]
        center, scale = np.where(halved, half_center, center), np.where(halved, half_scale, scale)
    scaled = (scale * scale_factor(augmentation, draws)[..., None]).astype(np.float32)
    rotation = rotation_degrees(augmentation, draws)
    flip = flips(augmentation, draws)
    if flip.any():
        width = np.asarray(image_width)
        mirrored = flip_joints(joints, visible, width, joint_set)
        joints, visible = np.where(flip[..., None, None], mirrored[0], joints), np.where(flip[..., None], mirrored[1], visible)
        center[..., 0] = np.where(flip, width - 1 - center[..., 0], center[..., 0])
    return Augmented(center, scaled, rotation, flip, joints, visible)


def scale_factor(augmentation: Augmentation, draws: Draws) -> np.ndarray:
    """Returns the factor on the crop's size, in the shape of the draws: 1 + s z, clipped to 1 - s .. 1 + s."""
    return np.clip(1 + augmentation.scale * draws.scale_z, 1 - augmentation.scale, 1 + augmentation.scale)


def rotation_degrees(augmentation: Augmentation, draws: Draws) -> np.ndarray:
    """Returns the angle in degrees, in the shape of the draws; 0 where no rotation is drawn."""
    width = augmentation.rotation
    if augmentation.rotation_law == "normal":
        angle = np.clip(width * draws.rotation_z, -2 * width, 2 * width)
    else:
        angle = width * (2 * draws.rotation_angle_u - 1)
    return np.where(_passes(draws.rotation_u, augmentation.rotation_probability), angle, 0.0)


def flips(augmentation: Augmentation, draws: Draws) -> np.ndarray:
    """Returns whether the image is mirrored, bool, in the shape of the draws."""
    return _passes(draws.flip_u, augmentation.flip_probability)


def _passes(u: ArrayLike, probability: float) -> np.ndarray:
    return (np.asarray(u) <= probability) & (probability > 0)  # "<=" as in the official code, but probability 0 means never


def flip_joints(
    joints: ArrayLike, visible: ArrayLike, image_width: ArrayLike, joint_set: JointSet
) -> tuple[np.ndarray, np.ndarray]:
    """Returns joints (..., J, 2) and visible (..., J) of mirrored images: x -> width - 1 - x, left and right exchanged.

    image_width (...) in pixels. Unlabelled joints move to (0, 0)."""
    joints, visible = np.array(joints, np.float64)[..., joint_set.swap, :], np.asarray(visible)[..., joint_set.swap]
    joints[..., 0] = np.asarray(image_width)[..., None] - 1 - joints[..., 0]
    return np.where((visible > 0)[..., None], joints * visible[..., None], 0.0), visible


def half_body(
    joints: ArrayLike, visible: ArrayLike, joint_set: JointSet, size: tuple[float, float], z: ArrayLike
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns centre and scale, float32 (..., 2), of a crop around one half's labelled joints, and bool (...): enough joints.

    joints (..., J, 2), visible (..., J), size (w, h) of the input, z (...) the standard normal number that chooses: below
    0.5 (69 %, not half; as in both official code bases) the upper half if it has 3 labelled joints, otherwise the lower
    if it has 3, otherwise the upper. The centre is the joints' mean, the box their extent, padded by 1.5. Both are 0 where
    the half has fewer than 2.
    """
    labelled = np.asarray(visible) > 0
    joints = np.where(labelled[..., None], np.asarray(joints, np.float32), np.float32(0))  # float32: the official rounding
    halves = np.zeros((2, joint_set.num_joints), bool)
    halves[0, list(joint_set.upper)], halves[1, list(joint_set.lower)] = True, True
    upper, lower = labelled & halves[0], labelled & halves[1]
    use_upper = ((np.asarray(z) < 0.5) & (upper.sum(axis=-1) > 2)) | (lower.sum(axis=-1) <= 2)
    chosen = np.where(use_upper[..., None], upper, lower)
    count = chosen.sum(axis=-1)
    enough = count >= 2
    mask = chosen[..., None]
    center = np.where(mask, joints, np.float32(0)).sum(axis=-2) / np.maximum(count, 1).astype(np.float32)[..., None]
    low, high = joints.min(axis=-2, where=mask, initial=np.inf), joints.max(axis=-2, where=mask, initial=-np.inf)
    extent = np.where(enough[..., None], high - low, np.float32(0))
    return np.where(enough[..., None], center, np.float32(0)), extent_to_scale(extent, size) * np.float32(1.5), enough


def static_jitter(box_wh: ArrayLike, rng: np.random.Generator) -> np.ndarray:
    """Returns the offsets (N, 2) px, float64, that "static20" adds to the centres of a data set once, for all epochs.

    They are uniform within 20 % of the box for 3 boxes in 10, otherwise 0. box_wh: (N, 2) width and height of the boxes before
    they are enlarged and padded (mmpose up to 0.28).
    """
    box_wh = np.asarray(box_wh, np.float64).reshape(-1, 2)
    jittered = rng.random(len(box_wh)) < JITTER_PROBABILITY
    return np.where(jittered[:, None], 0.4 * (rng.random(box_wh.shape) - 0.5) * box_wh, 0.0)
