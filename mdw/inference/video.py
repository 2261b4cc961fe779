"""Predicts videos and cameras: writes the video with poses drawn over it, without sound, and the poses frame by frame."""

import json
import logging
import math
import os
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mdw.inference.boxes import check_boxes
from mdw.inference.draw import SURE
from mdw.inference.predict import Predictor, to_result
from mdw.util.errors import MdwError, Nobody, Stopped
from mdw.util.files import cannot_write, whole
from mdw.util.signals import listen

logger = logging.getLogger(__name__)
TRIES = 1000  # after so many consecutive frames that cannot be decoded a file counts as read to its end
CHUNK = 8  # frames of a file that are predicted together while as many are read and drawn; a camera's are predicted singly


@dataclass(frozen=True)
class Source:
    """An open video or camera. `fps`: frames a second; `count`: number of frames by the file, None if unknown."""

    name: str
    capture: cv2.VideoCapture
    fps: float
    count: int | None
    live: bool = False

    def frames(self) -> Generator[tuple[int, float, np.ndarray], None, None]:
        """Yields (number from 0, seconds from the first frame, RGB uint8 (H, W, 3), upright) of every frame, then closes.

        A file gives the seconds of its frames; a camera's are the times of arrival. Frames that cannot be decoded are left out
        and not numbered, with a warning that gives both counts.
        """
        first_time, start = 0.0, time.monotonic()
        try:
            number = failed = 0
            while number != self.count:
                read = self.capture.read()
                if not read[0]:  # the end, or a damaged frame before others
                    failed += 1
                    if self.live or failed > min((self.count or TRIES) - number, TRIES):
                        break
                    continue
                failed = 0
                time_now = time.monotonic() - start if self.live else self.capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
                first_time = time_now if number == 0 else first_time
                elapsed = time_now - first_time
                if not self.live and number and not 0 < elapsed < math.inf:  # some formats have no times
                    elapsed = number / self.fps
                yield number, elapsed, cv2.cvtColor(read[1], cv2.COLOR_BGR2RGB)
                number += 1
            if self.count and 0 < number < self.count:
                logger.warning(
                    f"only {number} of the {self.count} frames of {self.name} can be read; it is damaged or cut short, and the "
                    "others are left out"
                )
        finally:
            self.capture.release()


def open_video(path: Path) -> Source:
    """Opens a video. Raises MdwError where OpenCV cannot decode it or it has no frame rate."""
    capture = cv2.VideoCapture(_name_for_opencv(path))
    if not capture.isOpened():
        raise MdwError(f"{path} cannot be read as a video; it is damaged, cut short or of an unknown kind: convert it to .mp4")
    fps, count = capture.get(cv2.CAP_PROP_FPS), capture.get(cv2.CAP_PROP_FRAME_COUNT)
    if not 0 < fps <= 1000:
        raise MdwError(f"{path} does not say how many frames it shows a second; convert it to .mp4")
    return Source(path.stem, capture, fps, int(count) if 0 < count < math.inf else None)


def _name_for_opencv(path: Path) -> str:
    """Returns the path for OpenCV, which takes text before a colon for a protocol unless the path begins with a slash."""
    return os.path.abspath(path)


def open_camera(number: int) -> Source:
    """Opens a camera; without a frame rate of its own it has 25 a second. Raises MdwError where there is no such camera."""
    capture = cv2.VideoCapture(number)
    if not capture.isOpened():
        raise MdwError(f"there is no camera {number}, or another program has it; give --camera another number")
    fps = capture.get(cv2.CAP_PROP_FPS)
    return Source(f"camera{number}", capture, fps if 0 < fps <= 1000 else 25.0, None, live=True)


def predict_video(
    source: Source,
    out: Path,
    predictor: Predictor,
    boxes: list | None = None,
    threshold: float = SURE,
    seconds: float | None = None,
    progress: Callable = iter,
) -> dict:
    """Write `out/<name>.overlay.mp4` and `out/<name>.poses.jsonl`, both atomically.

    `boxes`: those of the people, the same in every frame; None as in `predict`. The overlay has the source's frames, each with
    a legend below (see `Predictor.draw`), and its frame rate, to a thousandth; a camera's frames are repeated or left out, so
    that the video plays in real time. It is MPEG-4 in .mp4, for players and not for browsers, and loses a row or column where
    the size is odd. The other file has a line for each frame: frame, from 0; time, in seconds from the first; joints, the joint
    set; people, a list of entries as in `predict_files` with the frame as image_id. Ctrl-C, SIGTERM or `seconds` end a camera's
    recording; a file's prediction is stopped and nothing written. Returns file_name, frames, people (of all frames),
    frames_with_people, seconds, fps. Raises MdwError where no frame can be read or the output cannot be written, and its
    subclass `Nobody` where a file shows no person.
    """
    video, poses = (out / f"{source.name}.overlay.mp4", out / f"{source.name}.poses.jsonl")
    result: dict[str, Any] = {"file_name": source.name, "frames": 0, "people": 0, "frames_with_people": 0}
    result |= {"seconds": 0.0, "fps": source.fps}
    with listen(seconds) as stop_reasons, whole(video) as video_path, whole(poses) as poses_path:
        writer, writing = _Writer(video_path, source), None
        try:
            with closing(writer), open(poses_path, "x", encoding="utf-8") as lines, ThreadPoolExecutor(1) as pool:

                def write(chunk: list[tuple[int, float, np.ndarray]], people_of_chunk: list[list[dict]]) -> None:
                    for (number, elapsed, image), people in zip(chunk, people_of_chunk, strict=True):
                        writer.write(predictor.draw(image, people, threshold), elapsed)
                        entries = [to_result(person, number, predictor.joints) for person in people]
                        line = {"frame": number, "time": round(elapsed, 4), "joints": predictor.joints.name, "people": entries}
                        lines.write(json.dumps(line) + "\n")

                for chunk in _chunks(source, progress):
                    images = [image for _, _, image in chunk]
                    if boxes is not None and not result["frames"]:
                        check_boxes(boxes, images[0].shape, source.name)
                    people_of_chunk = predictor(images, [boxes] * len(chunk))
                    if writing:
                        writing.result()  # at most two chunks wait, and errors are raised
                    writing = pool.submit(write, chunk, people_of_chunk)
                    result["frames"], result["seconds"] = chunk[-1][0] + 1, round(chunk[-1][1], 4)
                    result["people"] += sum(map(len, people_of_chunk))
                    result["frames_with_people"] += sum(map(bool, people_of_chunk))
                    if stop_reasons:
                        break
                if writing:
                    writing.result()
        except OSError as error:
            raise cannot_write(poses, error) from None
        if stop_reasons and not source.live:
            of = f" of {source.count}" if source.count else ""
            raise Stopped(f"stopped at frame {result['frames']}{of} of {source.name}; nothing of it was written")
        if not result["frames"]:
            raise MdwError(f"no frame of {source.name} can be read; it is damaged or empty: convert it to .mp4")
        if not result["people"] and not source.live:
            raise Nobody(f"there is no person in {source.name}; lower --detector-threshold, or give a box with --box")
        if _frames_in(video_path) != writer.written:  # OpenCV does not say that a disk is full
            raise MdwError(f"{video} could not be written whole; make room there and give the same command again")
    return result


class _Writer:
    """Writes frames into an .mp4, which the first frame opens; a live source's frame is repeated until its time is reached."""

    def __init__(self, path: Path, source: Source):
        self.path, self.source, self.written = path, source, 0
        self.file: cv2.VideoWriter | None = None
        self.size: tuple[int, ...] = ()

    def write(self, image: np.ndarray, elapsed: float) -> None:
        size = image.shape[1::-1]
        if self.file is None:
            self.file = cv2.VideoWriter(_name_for_opencv(self.path), cv2.VideoWriter.fourcc(*"mp4v"), self.source.fps, size)
            self.size = size
            if not self.file.isOpened():
                raise MdwError(
                    f"OpenCV cannot write a video of {size[0]} x {size[1]} pixels to {self.path.parent}; choose another --out"
                )
        if size != self.size:  # OpenCV would silently leave the frame out
            raise MdwError(f"the frames of {self.source.name} change their size; convert it to .mp4 with one size")
        due = round(elapsed * self.source.fps) + 1 - self.written if self.source.live else 1
        bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
        for _ in range(due):
            self.file.write(bgr)
        self.written += max(due, 0)

    def close(self) -> None:
        if self.file is not None:
            self.file.release()


def _chunks(source: Source, progress: Callable) -> Iterator[list[tuple[int, float, np.ndarray]]]:
    with closing(source.frames()) as frames, ThreadPoolExecutor(1) as pool:
        stream = iter(progress(frames if source.live else _ahead(pool, frames)))
        while chunk := list(islice(stream, 1 if source.live else CHUNK)):
            yield chunk


def _ahead(pool: ThreadPoolExecutor, frames: Iterator) -> Iterator:
    """Yields the frames of a file, decoded in the one thread of `pool` up to `CHUNK` ahead."""
    waiting = deque(pool.submit(next, frames, None) for _ in range(CHUNK))
    while (frame := waiting.popleft().result()) is not None:
        waiting.append(pool.submit(next, frames, None))
        yield frame


def _frames_in(path: Path) -> int:
    """Returns the number of frames by the written video's header; 0 where it cannot be opened."""
    capture = cv2.VideoCapture(_name_for_opencv(path))
    try:
        return int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) if capture.isOpened() else 0
    finally:
        capture.release()
