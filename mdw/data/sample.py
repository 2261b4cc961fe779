"""Samples and data sets: one person in one image, and a named sequence of them. Also reads images."""

import logging
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from mdw.pose.joints import JointSet
from mdw.util.errors import MdwError
from mdw.util.files import check_regular

log = logging.getLogger("mdw")
# Image formats that are read, recognised by content. Pillow's others start programs (PostScript) or are rarely tested.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM", "JPEG2000")
warnings.filterwarnings(
    "ignore", category=Image.DecompressionBombWarning
)  # phones take 108 megapixels; twice as many are refused


@dataclass(frozen=True, eq=False)
class Sample:
    """One person in one image.

    `image` is a file or a function that draws the image (a module-level callable, so that it can be pickled).
    `center` (2,) is in image pixels; `scale` (2,) in units of 200 px: the crop is 200 * scale pixels wide and high.
    `joints` (J, 2) are 0-based image pixels, `visible` (J,) the 0/1 training weight. Arrays are stored as float32; a
    joint of weight 0 is stored as (0, 0), so that its meaningless coordinates cannot be used.
    `area` is the annotated area in square pixels (0 where the source has none), `box_score` the detector's. `box_wh`
    (2,) is the box's width and height in pixels before it was enlarged and padded, (0, 0) without a box.
    `image_size` (w, h) is the annotated size of the image, or None. `upright`: turn the image by its EXIF orientation,
    because it was labelled in that orientation.
    """

    image: Path | Callable[[], np.ndarray]
    image_id: int
    person_id: int
    center: np.ndarray
    scale: np.ndarray
    joints: np.ndarray
    visible: np.ndarray
    area: float = 0.0
    box_score: float = 1.0
    box_wh: np.ndarray = field(default_factory=partial(np.zeros, 2))
    image_size: tuple[float, float] | None = None
    upright: bool = False

    def __post_init__(self):
        visible = np.asarray(self.visible, np.float32)
        joints = np.where(visible[:, None] > 0, np.asarray(self.joints, np.float32), np.float32(0))
        center, scale = np.asarray(self.center, np.float32), np.asarray(self.scale, np.float32)
        box_wh = np.asarray(self.box_wh, np.float32)
        if joints.shape != (len(visible), 2) or not (center.shape == scale.shape == box_wh.shape == (2,)):
            raise ValueError(
                f"joints {joints.shape}, visible {visible.shape}, center {center.shape}, "
                f"scale {scale.shape}, box_wh {box_wh.shape} should be (J, 2), (J,), (2,), (2,), (2,)"
            )
        fields = {"joints": joints, "visible": visible, "center": center, "scale": scale, "box_wh": box_wh}
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    def pixels(self) -> np.ndarray:
        """Reads or draws the whole image, RGB uint8 (H, W, 3).

        Raises MdwError as `read_image` does, and where the image's size is not `image_size`: the labels would not fit.
        """
        if callable(self.image):
            return self.image()
        image = read_image(self.image, self.upright)
        if self.image_size is not None and image.shape[1::-1] != tuple(self.image_size):
            stated, actual = ("{:g}x{:g}".format(*size) for size in (self.image_size, image.shape[1::-1]))
            remedy = "fetch the original again"
            if self.upright and image_shape(self.image) == tuple(self.image_size)[::-1]:
                actual += " when turned upright as its EXIF entry says"
                remedy = "label it upright, or take the EXIF orientation away"
            raise MdwError(f"the image {self.image} is {actual}, not {stated} as its annotations say; {remedy}")
        return image


@dataclass(frozen=True, eq=False)
class Dataset:
    """A named sequence of samples with one joint set.

    `ground_truth`: the annotations for COCO's AP (a dict or a file in COCO's format), or None.
    """

    name: str
    joints: JointSet
    samples: Sequence[Sample] = field(repr=False)
    root: Path | None = None
    ground_truth: dict | Path | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        return self.samples[index]

    def select(self, indices: Iterable[int]) -> "Dataset":
        """Returns the data set of these samples only, in this order; joints, name and ground truth stay."""
        return replace(self, samples=tuple(self.samples[i] for i in indices))


def read_image(path: str | Path, upright: bool = False) -> np.ndarray:
    """Read an image as RGB uint8 (H, W, 3), as stored: the EXIF orientation is ignored, as HRNet's code does.

    `upright=True` turns it as viewers do, for users' own photos. Grey, palette and CMYK images are converted, 16-bit grey
    keeps its high byte, and transparent pixels get a white background. Raises MdwError, naming the file, where it is missing,
    cut short, no image, or its pixels are not colours. Changed bytes inside a JPEG that libjpeg can decode are not noticed.
    """
    # Pillow, because OpenCV decodes a truncated JPEG to a half-grey image and warns only on stderr.
    path = Path(path)
    with _opened(path) as image:
        if image.format in ("GIF", "WEBP", "PNG", "TIFF") and (frames := getattr(image, "n_frames", 1)) > 1:
            log.warning("mdw: only the first of the %d images in %s is looked at", frames, path)
        image.load()
        pixels = _to_rgb(image, path)
        turn = _TURNS.get(_orientation(image)) if upright else None
    return np.array(Image.fromarray(pixels).transpose(turn)) if turn is not None else pixels


def image_shape(path: str | Path, upright: bool = False) -> tuple[int, int]:
    """Reads (height, width) of an image from its header, without decoding it; `upright` and errors as `read_image`."""
    with _opened(Path(path)) as image:
        width, height = image.size
        return (width, height) if upright and _orientation(image) >= 5 else (height, width)


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """Yields the image, not decoded yet; errors with it inside the block become MdwErrors that name it."""
    try:
        check_regular(path)
        file = open(path, "rb")
    except MdwError:
        raise
    except FileNotFoundError:
        raise MdwError(f"the image {path} does not exist; check the data folder") from None
    except (OSError, ValueError) as error:  # ValueError: a name with a zero byte, or that the disk cannot write
        problem = getattr(error, "strerror", None) or error
        raise MdwError(f"cannot read the image {path}: {problem}; check the path and its permissions") from None
    try:
        with file, Image.open(file, formats=FORMATS) as image:
            yield image
    except MdwError:
        raise
    except UnidentifiedImageError:
        raise MdwError(f"{path} is not an image in {', '.join(FORMATS)}; fetch it again or convert it to JPEG") from None
    except Image.DecompressionBombError:
        raise MdwError(f"the image {path} has too many pixels to be decoded safely; make it smaller first") from None
    except (OSError, SyntaxError, ValueError, EOFError) as error:  # Pillow's decoders raise all of these
        raise MdwError(f"the image {path} is damaged or cut short ({error}); fetch it again") from None


_TURNS = {  # EXIF orientation -> how to turn the image upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def _orientation(image: Image.Image) -> int:
    try:
        return image.getexif().get(ExifTags.Base.Orientation) or 1
    except Exception:  # Pillow raises many kinds for a broken entry; viewers then show the image as stored
        return 1


def _to_rgb(image: Image.Image, path: Path) -> np.ndarray:
    if image.mode == "RGB" and "transparency" not in image.info:
        return np.array(image)
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):  # older Pillow says I for 16 bits
        # Pillow's own conversion would clip at 255
        grey = (np.array(image).astype(np.uint16) >> 8).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.mode in ("I", "F", "LAB"):  # 32 bits of unknown range; a space that Pillow does not convert
        raise MdwError(f"the image {path} has pixels of the kind {image.mode}; convert it to 8-bit RGB first")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return np.array(Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB"))
    return np.array(image.convert("RGB"))


def check_images(images: Iterable[Path | Callable[[], np.ndarray]], source: Path) -> None:
    """Raise MdwError where an image of `source` (the annotation file) is missing, naming the first.

    Each folder is listed once: for COCO's 118,000 files this takes a fraction of a second, where a look at every file would
    take minutes on a network disk. A missing image is noticed before training starts and not hours later.
    """
    listed: dict[Path, set[str]] = {}
    missing = []
    for path in dict.fromkeys(image for image in images if isinstance(image, Path)):
        if path.parent not in listed:
            try:
                listed[path.parent] = set(os.listdir(path.parent))
            except OSError as error:
                raise MdwError(
                    f"cannot list the image folder {path.parent} ({error.strerror}) that {source} needs; "
                    "check the path of the data set"
                ) from None
        if path.name not in listed[path.parent]:
            missing.append(path)
    if missing:
        raise MdwError(
            f"{len(missing)} of the images that {source} speaks of are missing, the first is {missing[0]}; "
            "complete the image folder"
        )
