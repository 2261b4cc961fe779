"""Cuts out person crops once, wide enough for every augmentation of a recipe, so that training need not decode whole images.

A pack is a folder of chunks, `00000.safetensors` and so on, with `pack.json`. A chunk holds the persons' arrays (`FIELDS`, in
pixels of the stored crops, and the crops' `sizes`) and one array `data` of bytes, the encoded crops one after the other.
Reasons:

- JPEG and not raw pixels, which take 3 bytes each: over 50 GB for COCO's 150,000 persons. A crop that is cut from a JPEG image
  at its 16 x 16 pixel blocks and written with the image's own quantisation tables is equal up to rounding (0.2 of 255 on
  average), at the image's own bytes per pixel; JPEG 95 loses ten times as much. The compact form is WebP 60: six tenths of
  the bytes on LSPET, an error of 3 of 255 on average, and two to three times the time to decode.
- safetensors: a library that is needed anyway maps it into memory, and other programs can read it.
- Chunks and not one file: each is complete or absent, has its own checksum and does not depend on others. So they are made in
  parallel, and an interrupted packing continues where it was, without a second copy.
- Large images are reduced by an integer m (the mean of m x m pixels) as long as no augmented crop has to be enlarged again. The
  direct path samples single points where the reduced image has a mean, so the two differ there by the aliasing of the former.

A pack is for training only: an evaluation needs the original images. The format and its limits are our choice.
"""

import io
import json
import multiprocessing
import os
import signal
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile, get_sampling
from safetensors.numpy import save

from mdw.data.augment import Augmentation, half_body
from mdw.data.packed import FIELDS, FORMAT, checksum_of, chunk_path, reach, read_chunk, read_settings, settings_digest
from mdw.data.sample import Dataset, Sample
from mdw.pose.boxes import PIXEL_STD
from mdw.pose.joints import JointSet
from mdw.util.errors import MdwError
from mdw.util.files import write_bytes, write_json
from mdw.util.signals import when_parent_ends

CHUNK = 256  # persons
BLOCK = {False: 16, True: 2}  # pixels, by `compact`: a JPEG's blocks with colour at half resolution; colour alone
MARGIN = 2  # stored pixels around the area of a crop, for the interpolation
WEBP = {"format": "WEBP", "quality": 60, "method": 6}
JPEG = {"format": "JPEG", "quality": 95, "subsampling": 0}  # for crops that do not come from a JPEG image


def pack(
    dataset: Dataset,
    out: str | Path,
    input_size: tuple[int, int],
    augmentation: Augmentation,
    source: dict,
    compact: bool = False,
    workers: int = 1,
    progress: Callable[[int], None] = lambda persons: None,
) -> dict:
    """Pack `dataset` into the folder `out` and return {"persons", "bytes", "chunks", "kept"}; an unfinished one goes on.

    input_size (w, h) px and `augmentation` determine how wide and how fine the crops must be. `source` (plain JSON values) is
    recorded, and `open_pack` compares it. compact: the smaller form. `progress` gets the number of persons just done. "kept" is
    the number of chunks that existed already: a chunk is kept if its checksum is right and neither the settings nor its persons
    have changed (new images under old names are not noticed). Raises MdwError where `out` holds something else and where an
    image cannot be read; finished chunks stay.
    """
    out = Path(out)
    if workers < 1 or not len(dataset):
        raise MdwError(f"{workers} workers cannot pack {len(dataset)} persons of {dataset.name}; give at least one of each")
    settings = {
        "format": FORMAT,
        "source": source,
        "name": dataset.name,
        "joints": asdict(dataset.joints),
        "persons": len(dataset),
        "input_size": [int(side) for side in input_size],
        "augmentation": asdict(augmentation),
        "compact": compact,
    }
    settings = json.loads(json.dumps(settings))  # as it will be read again
    if (out / "pack.json").exists():
        if settings_digest(read_settings(out)) != settings_digest(settings):
            raise MdwError(f"{out} holds a pack of other data or settings; choose another --out or delete that folder")
    elif out.is_file() or (out.is_dir() and any(out.iterdir())):
        raise MdwError(f"{out} is there already and is no pack; choose another --out")
    else:
        write_json(out / "pack.json", settings | {"chunks": None})

    spans = [range(begin, min(begin + CHUNK, len(dataset))) for begin in range(0, len(dataset), CHUNK)]
    work = partial(_make_chunk, settings=settings, augmentation=augmentation)
    results: dict[int, tuple[str, bool]] = {}
    if workers == 1:
        for k, span in enumerate(spans):
            results[k] = work(dataset.select(span), chunk_path(out, k))
            progress(len(span))
    else:
        context = multiprocessing.get_context("spawn")  # OpenCV's and a caller's threads do not survive a fork
        with ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker) as pool:
            futures = {pool.submit(work, dataset.select(span), chunk_path(out, k)): k for k, span in enumerate(spans)}
            try:
                for future in as_completed(futures):
                    results[futures[future]] = future.result()
                    progress(len(spans[futures[future]]))
            except BrokenProcessPool:
                raise MdwError(f"a process that packed into {out} was killed; go on with fewer --workers") from None
            finally:
                pool.shutdown(cancel_futures=True)  # one bad image must not wait for all the others
    checksums = [results[k][0] for k in range(len(spans))]
    write_json(out / "pack.json", settings | {"chunks": checksums})
    for leftover in out.glob(".*.????????"):  # by a killed packing, see mdw.util.files
        leftover.unlink(missing_ok=True)
    size = sum(chunk_path(out, k).stat().st_size for k in range(len(spans)))
    return {
        "persons": len(dataset),
        "bytes": size,
        "chunks": len(spans),
        "kept": sum(was_there for _, was_there in results.values()),
    }


def region(
    sample: Sample, image_size: tuple[int, int], joints: JointSet, size: tuple[int, int], augmentation: Augmentation
) -> tuple[int, int, int, int, int]:
    """Returns the part of the image that augmented crops can show, x0, y0, x1, y1 (exclusive) px, and its reduction m.

    image_size, size: (w, h) of the image and of the network's input. The crops are rotated and jittered boxes around the
    person's centre and around each half of the body; m x m pixels may become one. The part has at least one pixel.
    """
    grow, degrees, per_sample, static, _ = reach(augmentation)
    crop = sample.scale.astype(np.float64) * PIXEL_STD
    boxes = [(sample.center.astype(np.float64), crop[0], per_sample * crop + static * sample.box_wh.astype(np.float64))]
    if (sample.visible > 0).sum() > augmentation.half_body_min_joints and augmentation.half_body_probability > 0:
        halves = [half_body(sample.joints, sample.visible, joints, size, z) for z in (0.0, 1.0)]
        boxes += [(c.astype(np.float64), np.float64(s[0]) * PIXEL_STD, np.zeros(2)) for c, s, enough in halves if enough]
    finest = (1 - augmentation.scale) * min(width for _, width, _ in boxes)
    m = max(1, int(finest / size[0]))
    extents = np.array([_half_extent(grow * w, grow * w * size[1] / size[0], degrees) + slack for _, w, slack in boxes])
    middles = np.array([center for center, _, _ in boxes])
    low, high = (middles - extents).min(axis=0) - MARGIN * m, (middles + extents).max(axis=0) + MARGIN * m
    x0, y0 = np.clip(low, 0, np.array(image_size) - 1).astype(int).tolist()
    x1, y1 = np.clip(np.ceil(high) + 1, (x0 + 1, y0 + 1), image_size).astype(int).tolist()
    return x0, y0, x1, y1, m


def _half_extent(width: float, height: float, degrees: float) -> np.ndarray:
    """Returns half of the largest width and height of a box (w, h) that is rotated by up to `degrees` either way."""
    extents = []
    for along, across in ((width, height), (height, width)):
        widest = min(np.arctan2(across, along), np.radians(degrees))  # where along cos + across sin is largest
        extents.append(along * np.cos(widest) + across * np.sin(widest))
    return np.array(extents) / 2


def _make_chunk(persons: Dataset, path: Path, settings: dict, augmentation: Augmentation) -> tuple[str, bool]:
    """Write the chunk of these persons; returns its checksum, and whether it existed already."""
    samples = [persons[i] for i in range(len(persons))]
    about = {"settings": settings_digest(settings), "persons": checksum_of(_arrays(samples))}
    if path.exists():
        try:
            arrays, stored_about = read_chunk(path)
            if stored_about == about | {"checksum": checksum_of(arrays)}:
                return stored_about["checksum"], True
        except MdwError:
            pass  # damaged: it is made again
    pieces, sizes, packed, image_source, block = [], [], [], None, BLOCK[settings["compact"]]
    for sample in samples:
        if image_source != sample.image:  # persons of one photo follow each other
            image_source, image = sample.image, sample.pixels()
        x0, y0, x1, y1, m = region(sample, image.shape[1::-1], persons.joints, settings["input_size"], augmentation)
        x0, y0, x1, y1 = x0 // block * block, y0 // block * block, -(-x1 // block) * block, -(-y1 // block) * block
        piece = image[y0:y1, x0:x1]
        if m > 1:  # complete m x m blocks; outside the image they are black, as in a crop
            piece = cv2.copyMakeBorder(piece, 0, -len(piece) % m, 0, -piece.shape[1] % m, cv2.BORDER_CONSTANT)
            piece = cv2.resize(piece, (piece.shape[1] // m, piece.shape[0] // m), interpolation=cv2.INTER_AREA)
        pieces.append(_encode(piece, sample.image if m == 1 else None, settings["compact"]))
        sizes.append(piece.shape[1::-1])
        packed.append(_in_crop(sample, x0, y0, m))
    offsets = np.concatenate([[0], np.cumsum([len(piece) for piece in pieces])]).astype(np.int64)
    arrays = _arrays(packed) | {"offsets": offsets, "sizes": np.array(sizes, np.int32)}
    arrays["data"] = np.frombuffer(b"".join(pieces), np.uint8)
    about["checksum"] = checksum_of(arrays)
    write_bytes(path, save(arrays, {"about": json.dumps(about)}))  # one entry: safetensors writes several in any order
    return about["checksum"], False


def _encode(piece: np.ndarray, photo: object, compact: bool) -> bytes:
    """Returns RGB uint8 (h, w, 3) encoded. `photo`: the file it was cut from at block borders, or anything else."""
    options: dict[str, Any] = WEBP if compact else JPEG
    if not compact and isinstance(photo, Path):
        with Image.open(photo) as original:  # reads the header
            if isinstance(original, JpegImageFile) and original.mode == "RGB" and get_sampling(original) >= 0:
                # no quality, which would replace the tables
                options = {"format": "JPEG", "qtables": original.quantization, "subsampling": get_sampling(original)}
    encoded = io.BytesIO()
    Image.fromarray(piece).save(encoded, optimize=True, **options)
    return encoded.getvalue()


def _in_crop(sample: Sample, x0: int, y0: int, m: int) -> Sample:
    """Returns the person in pixels of the stored crop; the middle of m pixels is (m - 1) / 2 from the first one's."""

    def move(points: np.ndarray) -> np.ndarray:
        return (points.astype(np.float64) - (x0, y0) - (m - 1) / 2) / m

    return replace(
        sample,
        center=move(sample.center),
        scale=sample.scale / m,
        joints=move(sample.joints),
        area=sample.area / m**2,
        box_wh=sample.box_wh / m,
    )


def _arrays(samples: list[Sample]) -> dict[str, np.ndarray]:
    kinds = {"image_id": np.int64, "person_id": np.int64, "area": np.float64}
    return {name: np.array([getattr(s, name) for s in samples], kinds.get(name, np.float32)) for name in FIELDS}


def _start_worker() -> None:
    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the packing process ends its workers
    when_parent_ends(partial(os._exit, 1))  # workers of a killed process would wait for ever
