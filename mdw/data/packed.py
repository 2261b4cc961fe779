"""Reads a pack of person crops: a data set for training with small memory-mapped images (see `mdw.data.pack`)."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from safetensors import SafetensorError, safe_open

from mdw.data.augment import Augmentation
from mdw.data.sample import Dataset, Sample
from mdw.pose.joints import JointSet
from mdw.util.errors import MdwError
from mdw.util.files import read_json

FORMAT = 1
FIELDS = ("image_id", "person_id", "center", "scale", "joints", "visible", "area", "box_wh")
MEND = "run the same `mdw data pack` command again, which makes what is damaged anew"


@dataclass(frozen=True)
class PackedImage:
    """A stored crop; calling it returns RGB uint8 (h, w, 3). `size` is (w, h) in pixels.

    `checksum` is its chunk's, so that an outdated memory map is never read."""

    chunk: Path
    checksum: str
    begin: int
    end: int
    size: tuple[int, int]

    def __call__(self) -> np.ndarray:
        # OpenCV is 1.5 times as fast as Pillow here, and the data were checked when they were written
        image = cv2.imdecode(_images(self.chunk, self.checksum)[self.begin : self.end], cv2.IMREAD_COLOR)
        if image is None or image.shape[1::-1] != self.size:
            raise MdwError(f"{self.chunk} is damaged at byte {self.begin} of its images; {MEND}")
        return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


@dataclass(frozen=True, eq=False)
class PackedSample(Sample):
    image: PackedImage


@dataclass(frozen=True, eq=False)
class Packed(Dataset):
    """A pack as a data set: coordinates are pixels of the stored crops. `settings`: the content of pack.json."""

    samples: Sequence[PackedSample] = field(repr=False)
    root: Path
    settings: dict = field(default_factory=dict, repr=False)

    def check(self, input_size: tuple[int, int], augmentation: Augmentation) -> None:
        """Raise MdwError where the crops are too narrow or too coarse for an input (w, h) and its augmentation."""
        size, made_for = self.settings["input_size"], Augmentation(**self.settings["augmentation"])
        wider = any(a > b for a, b in zip(reach(augmentation), reach(made_for), strict=True))
        if wider or input_size[0] * size[1] != input_size[1] * size[0] or input_size[0] > size[0]:
            raise MdwError(
                f"the pack {self.root} was made for an input of {size[0]}x{size[1]} and {made_for}, which does not cover "
                "what this recipe asks for; pack again with this recipe"
            )


def open_pack(path: str | Path, source: dict | None = None) -> Packed:
    """Opens the finished pack in the folder `path`, persons in the order of packing. No image is read.

    Raises MdwError where it is not finished, its files do not belong together, or it was not packed from `source`, if given.
    `verify` checks every byte.
    """
    path = Path(path)
    settings = read_settings(path)
    if settings["chunks"] is None:
        raise MdwError(f"the pack {path} is not finished; run the same `mdw data pack` command again")
    if source is not None and json.loads(json.dumps(source)) != settings.get("source"):
        raise MdwError(f"the pack {path} was made from {settings.get('source')}, not from {source}; pack that first")
    digest, samples = settings_digest(settings), []
    for k, checksum in enumerate(settings["chunks"]):
        chunk = chunk_path(path, k)
        arrays, about = read_chunk(chunk, (*FIELDS, "offsets", "sizes"))
        if about["settings"] != digest or about["checksum"] != checksum:
            raise MdwError(f"{chunk} and {path / 'pack.json'} do not belong together; pack again into another folder")
        offsets, sizes = arrays.pop("offsets").tolist(), arrays.pop("sizes").tolist()
        arrays |= {name: arrays[name].tolist() for name in ("image_id", "person_id", "area")}
        for i, (begin, end, size) in enumerate(zip(offsets[:-1], offsets[1:], sizes, strict=True)):
            image = PackedImage(chunk, checksum, begin, end, tuple(size))
            samples.append(PackedSample(image, **{name: values[i] for name, values in arrays.items()}))
    if len(samples) != settings.get("persons"):
        raise MdwError(f"{path / 'pack.json'} does not name all chunks of its pack; {MEND}")
    return Packed(settings["name"], JointSet.from_dict(settings["joints"]), tuple(samples), path, settings=settings)


def verify(path: str | Path) -> int:
    """Read every byte of a finished pack and return the number of persons. Raises MdwError, naming a damaged chunk."""
    packed = open_pack(path)
    for k, checksum in enumerate(packed.settings["chunks"]):
        chunk = chunk_path(Path(path), k)
        if checksum_of(read_chunk(chunk)[0]) != checksum:
            raise MdwError(f"{chunk} is damaged: its checksum is wrong; {MEND}")
    return len(packed)


def reach(augmentation: Augmentation) -> tuple[float, float, float, float, float]:
    """Returns the range of augmented crops: largest factor, largest angle, both jitters, half bodies (larger: more image)."""
    turned, uniform = augmentation.rotation_probability > 0, augmentation.rotation_law == "uniform"
    return (
        1 + augmentation.scale,
        augmentation.rotation * (1 if uniform else 2) * turned,
        0.16 * (augmentation.jitter == "per_sample16"),
        0.2 * (augmentation.jitter == "static20"),
        -augmentation.half_body_min_joints if augmentation.half_body_probability > 0 else -np.inf,
    )


def checksum_of(arrays: dict[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(f"{name} {arrays[name].dtype} {arrays[name].shape} ".encode())
        digest.update(np.ascontiguousarray(arrays[name]).data)
    return digest.hexdigest()


def settings_digest(settings: dict) -> str:
    """Returns the hash of all settings except the chunks; every chunk has it, so that a changed pack.json is noticed."""
    hashed = {name: value for name, value in settings.items() if name != "chunks"}
    return hashlib.sha256(json.dumps(hashed, sort_keys=True).encode()).hexdigest()


def chunk_path(out: Path, index: int) -> Path:
    return out / f"{index:05d}.safetensors"


def read_settings(path: Path) -> dict:
    settings = read_json(path / "pack.json")
    if (
        not isinstance(settings, dict)
        or settings.get("format") != FORMAT
        or not isinstance(settings.get("chunks", 0), list | None)
    ):
        raise MdwError(f"{path / 'pack.json'} is not of a pack of this version; pack again into another folder")
    return settings


def read_chunk(
    path: Path, names: tuple[str, ...] = (*FIELDS, "offsets", "sizes", "data")
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Reads these arrays of a chunk and its header, unchecked: hashes of "settings" and "persons", and the "checksum"."""
    try:
        with safe_open(path, "numpy") as chunk:
            about = json.loads(chunk.metadata()["about"])
            about = {key: about[key] for key in ("settings", "persons", "checksum")}
            return {name: chunk.get_tensor(name) for name in names}, about
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise MdwError(f"{path} cannot be read as a chunk of a pack ({error}); {MEND}") from None


@lru_cache(maxsize=1024)  # chunks stay mapped; a process opens each once
def _images(path: Path, checksum: str):
    try:
        return safe_open(path, "numpy").__enter__().get_slice("data")
    except (OSError, SafetensorError) as error:
        raise MdwError(f"cannot read {path} ({error}); {MEND}") from None
