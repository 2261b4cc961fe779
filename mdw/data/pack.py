"""Person crops cut out once, wide enough for every augmentation of a recipe, so that training need not decode whole photos.

A pack is a folder of chunks, `00000.safetensors` and so on, with `pack.json` beside them. A chunk holds the persons' arrays
(`FIELDS`, in pixels of the stored crops, whose `sizes` are beside them) and one array `data` of bytes, their images one after
the other. Reasons:

- JPEG, not pixels, which take 3 bytes each: over 50 GB for COCO's 150,000 persons. What is cut from a JPEG photo at its 16 x 16
  pixel blocks and written with the photo's own quantisation tables comes out as it was but for rounding (0.2 of 255 on
  average), at the photo's own bytes per pixel; JPEG 95 loses ten times as much. The compact form is WebP 60: six tenths of
  the bytes on LSPET, an error of 3 of 255 on average, and two to three times the time to decode.
- safetensors: memory-mapped by a library that is there anyway, readable elsewhere, no format of our own.
- Chunks, not one file: each is written whole or not at all, carries its own checksum and needs nothing of its neighbours. So
  they are made in parallel, and an interrupted packing goes on where it was; no second copy is needed to finish.
- Large photos are reduced by a whole m, m x m pixels to their mean, as far as no augmented crop is enlarged by it. The direct
  path reads one point where the reduced image has a mean, so there the two differ by what the direct path aliases.

Training only: an evaluation has to see the original images. The format and its limits are our choice.
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
MARGIN = 2  # stored pixels around what a crop covers, for the interpolation's neighbours
WEBP = {"format": "WEBP", "quality": 60, "method": 6}
JPEG = {"format": "JPEG", "quality": 95, "subsampling": 0}  # for what does not come from a JPEG's pixels


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

    input_size (w, h) px and `augmentation` say how wide and how fine the crops must be. `source` is recorded and asked for by
    `open_pack` (plain JSON values). compact: the smaller form. `progress` is told how many more persons are done. "kept" counts
    the chunks that were there already: one is kept if it is whole, its checksum is right and neither the settings nor its
    persons have changed (new images under old names are not noticed). Raises MdwError for an `out` that holds something else,
    and as reading images does; what was packed until then stays.
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
    made: dict[int, tuple[str, bool]] = {}
    if workers == 1:
        for k, span in enumerate(spans):
            made[k] = work(dataset.select(span), chunk_path(out, k))
            progress(len(span))
    else:
        context = multiprocessing.get_context("spawn")  # OpenCV's and a caller's threads do not survive a fork
        with ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker) as pool:
            futures = {pool.submit(work, dataset.select(span), chunk_path(out, k)): k for k, span in enumerate(spans)}
            try:
                for future in as_completed(futures):
                    made[futures[future]] = future.result()
                    progress(len(spans[futures[future]]))
            except BrokenProcessPool:
                raise MdwError(f"a process that packed into {out} was killed; go on with fewer --workers") from None
            finally:
                pool.shutdown(cancel_futures=True)  # one bad image must not wait for all the others
    checksums = [made[k][0] for k in range(len(spans))]
    write_json(out / "pack.json", settings | {"chunks": checksums})
    for left in out.glob(".*.????????"):  # by a killed packing, see mdw.util.files
        left.unlink(missing_ok=True)
    size = sum(chunk_path(out, k).stat().st_size for k in range(len(spans)))
    return {"persons": len(dataset), "bytes": size, "chunks": len(spans), "kept": sum(kept for _, kept in made.values())}


def region(
    sample: Sample, image_size: tuple[int, int], joints: JointSet, size: tuple[int, int], augmentation: Augmentation
) -> tuple[int, int, int, int, int]:
    """What of the image any augmented crop can show, and how coarse it may be: x0, y0, x1, y1 (exclusive) px, and m.

    image_size, size: (w, h) of the image and of the network's input. The crops are turned boxes around the person's centre,
    jittered, and around either half of the body; m x m pixels may become one. At least one pixel, wherever the person is.
    """
    grow, degrees, per_sample, static, _ = reach(augmentation)
    crop = sample.scale.astype(np.float64) * PIXEL_STD
    boxes = [(sample.center.astype(np.float64), crop[0], per_sample * crop + static * sample.box_wh.astype(np.float64))]
    if (sample.visible > 0).sum() > augmentation.half_body_min_joints and augmentation.half_body_probability > 0:
        halves = [half_body(sample.joints, sample.visible, joints, size, z) for z in (0.0, 1.0)]
        boxes += [(c.astype(np.float64), np.float64(s[0]) * PIXEL_STD, np.zeros(2)) for c, s, found in halves if found]
    finest = (1 - augmentation.scale) * min(width for _, width, _ in boxes)
    m = max(1, int(finest / size[0]))
    extents = np.array([_half_extent(grow * w, grow * w * size[1] / size[0], degrees) + slack for _, w, slack in boxes])
    middles = np.array([center for center, _, _ in boxes])
    low, high = (middles - extents).min(axis=0) - MARGIN * m, (middles + extents).max(axis=0) + MARGIN * m
    x0, y0 = np.clip(low, 0, np.array(image_size) - 1).astype(int).tolist()
    x1, y1 = np.clip(np.ceil(high) + 1, (x0 + 1, y0 + 1), image_size).astype(int).tolist()
    return x0, y0, x1, y1, m


def _half_extent(width: float, height: float, degrees: float) -> np.ndarray:
    """Half of the widest and of the highest that a box (w, h) gets when it is turned by up to `degrees` either way."""
    extents = []
    for along, across in ((width, height), (height, width)):
        widest = min(np.arctan2(across, along), np.radians(degrees))  # where along cos + across sin is largest
        extents.append(along * np.cos(widest) + across * np.sin(widest))
    return np.array(extents) / 2


def _make_chunk(persons: Dataset, path: Path, settings: dict, augmentation: Augmentation) -> tuple[str, bool]:
    """Write the chunk of these persons; its checksum, and whether it was there already."""
    samples = [persons[i] for i in range(len(persons))]
    about = {"settings": settings_digest(settings), "persons": checksum_of(_arrays(samples))}
    if path.exists():
        try:
            arrays, found = read_chunk(path)
            if found == about | {"checksum": checksum_of(arrays)}:
                return found["checksum"], True
        except MdwError:
            pass  # not whole: it is made again
    pieces, sizes, packed, shown, block = [], [], [], None, BLOCK[settings["compact"]]
    for sample in samples:
        if shown != sample.image:  # persons of one photo follow each other
            shown, image = sample.image, sample.pixels()
        x0, y0, x1, y1, m = region(sample, image.shape[1::-1], persons.joints, settings["input_size"], augmentation)
        x0, y0, x1, y1 = x0 // block * block, y0 // block * block, -(-x1 // block) * block, -(-y1 // block) * block
        piece = image[y0:y1, x0:x1]
        if m > 1:  # whole m x m; what is missing at the photo's edge is black, as it is to a crop
            piece = cv2.copyMakeBorder(piece, 0, -len(piece) % m, 0, -piece.shape[1] % m, cv2.BORDER_CONSTANT)
            piece = cv2.resize(piece, (piece.shape[1] // m, piece.shape[0] // m), interpolation=cv2.INTER_AREA)
        pieces.append(_encode(piece, sample.image if m == 1 else None, settings["compact"]))
        sizes.append(piece.shape[1::-1])
        packed.append(_moved(sample, x0, y0, m))
    offsets = np.concatenate([[0], np.cumsum([len(piece) for piece in pieces])]).astype(np.int64)
    arrays = _arrays(packed) | {"offsets": offsets, "sizes": np.array(sizes, np.int32)}
    arrays["data"] = np.frombuffer(b"".join(pieces), np.uint8)
    about["checksum"] = checksum_of(arrays)
    write_bytes(path, save(arrays, {"about": json.dumps(about)}))  # one entry: safetensors writes several in any order
    return about["checksum"], False


def _encode(piece: np.ndarray, photo: object, compact: bool) -> bytes:
    """The bytes of RGB uint8 (h, w, 3). `photo` is the file it was cut from at whole blocks, or anything else."""
    options: dict[str, Any] = WEBP if compact else JPEG
    if not compact and isinstance(photo, Path):
        with Image.open(photo) as original:  # reads the header
            if isinstance(original, JpegImageFile) and original.mode == "RGB" and get_sampling(original) >= 0:
                # without a quality, which would overrule the tables
                options = {"format": "JPEG", "qtables": original.quantization, "subsampling": get_sampling(original)}
    encoded = io.BytesIO()
    Image.fromarray(piece).save(encoded, optimize=True, **options)
    return encoded.getvalue()


def _moved(sample: Sample, x0: int, y0: int, m: int) -> Sample:
    """The person in pixels of the stored crop; the middle of m pixels is (m - 1) / 2 from the first one's."""

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
    when_parent_ends(partial(os._exit, 1))  # a worker of a process that was killed would otherwise wait for ever
