"""`python benchmarks/practitioner.py LSPET`: what a practitioner would take from a shelf, beside the networks mdw comes with.

All find the persons of LSPET's validation split, and PCK@0.2 counts the 12 joints that all have: ankles, knees, hips, wrists,
elbows and shoulders. It is `mdw.pose.metrics.pck` as this project's studies use it: an error may be a fifth of the torso, left
shoulder to right hip, else right shoulder to left hip; a person without either pair is left out.

MoveNet Lightning (Google, Apache-2.0) is a TensorFlow.js graph in npm's @vladmandic/human, which `tfjs.py` makes an ONNX model
of; ONNX Runtime computes it. BlazePose (Google, Apache-2.0) is in npm's @mediapipe/pose and runs by PyPI's ai-edge-litert; the
steps around it are those of MediaPipe's graph for single images. A network that has several rows was tried in several ways:
`boxes` says what it looks at, `given` what of the ground truth that takes: nothing or the person's box. Where BlazePose's
detector finds nobody, which `missed` counts, it has no joint right in the whole image; in a box, landmarks are sought in that.

npm and pip fetch the packages into mdw's cache, and a package whose checksum is not the published one is refused. `--latency`
measures latency alone, into a record that is there already.
"""

import argparse
import base64
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from itertools import cycle, islice
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import torch
from tqdm import tqdm

from mdw.data.lsp import lspet
from mdw.data.sample import Sample, read_image
from mdw.models.weights import list_shipped, read_about
from mdw.pose.boxes import joints_box
from mdw.pose.joints import COCO17, LSP14
from mdw.pose.metrics import pck_hits
from mdw.report.stats import over_persons
from mdw.training.runs import environment
from mdw.util.errors import MdwError
from mdw.util.files import cache_folder, check_writable, read_json, write_json

PACKAGES = {  # of npm's registry: version and the integrity that it publishes
    "@vladmandic/human": (
        "3.3.6",
        "sha512-Nr5mPfq1gQ+uKeXY5uM3Fj8UxvF5CEh2s6txM5wRThqaW0mF9huooOuZSrT8hhGho0hGaXLFdAwfD/2+teCv6A==",
    ),
    "@mediapipe/pose": (
        "0.5.1675469404",
        "sha512-DFZsNWTsSphRIZppnUCuunzBiHP2FdJXR9ehc7mMi4KG+oPaOH0Em3d6kr7Py+TSyTXC1doH88KcF28k2sBxsQ==",
    ),
}
REQUIREMENTS = Path(__file__).with_suffix(".txt")  # of PyPI, with checksums
COMMON = [name for name in LSP14.names if name in COCO17.names]  # 12
PLACES = [LSP14.index(name) for name in COMMON]
BLAZEPOSE = {"shoulder": 11, "elbow": 13, "wrist": 15, "hip": 23, "knee": 25, "ankle": 27}  # of the left side; right: one more
PADDING = 1.25
NOWHERE = -1e4  # pixels: where the joints of a person are who was not found
ELSEWHERE = "other, much larger data"
WARM = 3


@dataclass(frozen=True)
class Candidate:
    """A network and where it looks. find: image, RGB uint8, and its person -> the joints `COMMON`, (12, 2) pixels.

    trained_on: the recipe of a network that comes with mdw, else `ELSEWHERE`.
    """

    network: str
    boxes: str
    given: Literal["nothing", "box"]
    trained_on: str
    source: str
    licence: str
    weights_mb: float
    find: Callable[[np.ndarray, Sample], np.ndarray]
    missed: set[int] = field(default_factory=set)  # persons whom its own detector did not find


class Archive:
    """A package of npm's registry, fetched once and checked each time. Raises MdwError where it cannot be had or is another."""

    def __init__(self, name: str, folder: Path) -> None:
        release, integrity = PACKAGES[name]
        self.name = f"{name}@{release}"
        path = folder / f"{name.strip('@').replace('/', '-')}-{release}.tgz"  # as npm calls it
        if not path.exists():
            npm = shutil.which("npm")
            if npm is None:
                raise MdwError(f"npm, which fetches {self.name}, is not installed; install Node.js, which brings it")
            fetch([npm, "pack", self.name, "--silent", "--pack-destination", str(folder)], self.name)
        found = "sha512-" + base64.b64encode(hashlib.sha512(path.read_bytes()).digest()).decode()
        if found != integrity:
            raise MdwError(f"{path} has not the checksum that npm's registry publishes of {self.name}; delete it and try again")
        with tarfile.open(path) as archive:
            self.files = {file.name.partition("/")[2]: archive.extractfile(file).read() for file in archive if file.isfile()}
        self.licence = json.loads(self.files["package.json"])["license"]


def fetch(command: list[str], what: str) -> None:
    """Run a registry's client. Raises MdwError with its last line where it fails."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["no reason given"]
        raise MdwError(f"{what} could not be fetched ({last[0]}); check the network and try again")


def litert(folder: Path) -> type:
    """ai-edge-litert's Interpreter, installed beside mdw's packages and not among them."""
    place = folder / f"{REQUIREMENTS.stem}-{hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()[:12]}-{sys.version_info[1]}"
    if not place.exists():
        making = place.with_name(f".{place.name}.{os.getpid()}")
        options = "--quiet --disable-pip-version-check --no-deps --require-hashes --only-binary :all:".split()
        pip = [sys.executable, "-m", "pip", "install", *options, "--target", str(making)]
        fetch([*pip, "--requirement", str(REQUIREMENTS)], "ai-edge-litert")
        making.replace(place)
    sys.path.append(str(place))
    from ai_edge_litert.interpreter import Interpreter

    return Interpreter


@dataclass(frozen=True)
class Square:
    """A square of an image: its centre, its side in pixels, and the angle by which it is turned clockwise, in radians."""

    x: float
    y: float
    side: float
    angle: float = 0.0

    def matrix(self) -> np.ndarray:
        """From places in the square, (0, 0) top left and (1, 1) bottom right, to the image's pixels: 2 x 3.

        A pixel's centre is a whole number, as in LSPET; the square's edges are those of pixels.
        """
        turn = self.side * np.array([[np.cos(self.angle), -np.sin(self.angle)], [np.sin(self.angle), np.cos(self.angle)]])
        return np.column_stack([turn, np.array([self.x, self.y]) - turn @ [0.5, 0.5] - 0.5])

    def cut(self, image: np.ndarray, side: int) -> np.ndarray:
        """The square as (side, side, 3), bilinear, black outside the image."""
        matrix = self.matrix() @ np.array([[1 / side, 0, 0.5 / side], [0, 1 / side, 0.5 / side], [0, 0, 1]])
        return cv2.warpAffine(image, matrix, (side, side), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)

    def out(self, places: np.ndarray) -> np.ndarray:
        """Places in the square (n, 2) as pixels of the image."""
        return places @ self.matrix()[:, :2].T + self.matrix()[:, 2]


def true_box(person: Sample) -> Square:
    """The square around the person's labelled joints, padded."""
    x, y, width, height = joints_box(person.joints, person.visible)
    return Square(x + width / 2 + 0.5, y + height / 2 + 0.5, PADDING * max(width, height))


def whole(image: np.ndarray) -> Square:
    height, width = image.shape[:2]
    return Square(width / 2, height / 2, max(width, height))


def unit(vector: np.ndarray) -> np.ndarray:
    return vector / max(float(np.linalg.norm(vector)), 1e-6)


def body(hips: np.ndarray, rim: np.ndarray) -> Square:
    """The turned square around the circle through `rim`, which lies above the `hips`, both (2,) pixels, padded."""
    right, down = rim - hips
    return Square(*(hips + 0.5), 2 * PADDING * float(np.hypot(right, down)), float(np.pi / 2 - np.arctan2(-down, right)))


def movenet(archive: Archive) -> list[Candidate]:
    import onnxruntime
    from tfjs import to_onnx

    weights = archive.files["models/movenet-lightning.bin"]
    model = to_onnx(json.loads(archive.files["models/movenet-lightning.json"]), weights)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    places = [COCO17.index(name) for name in COMMON]

    def find(image: np.ndarray, person: Sample) -> np.ndarray:
        square = true_box(person)
        (found,) = session.run(None, {"input": square.cut(image, 192)[None].astype(np.int32)})
        return square.out(found[0, 0, places, 1::-1].astype(float))  # y, x, score of each joint

    about = f"Apache-2.0, in a package under {archive.licence}"
    boxes = f"ground-truth box x {PADDING}, square"
    return [Candidate("MoveNet Lightning", boxes, "box", ELSEWHERE, archive.name, about, len(weights) / 1e6, find)]


class Detector:
    """BlazePose's own detector of people: an image's square -> hips and rim of the surest person, pixels; None without one."""

    def __init__(self, network: Callable[[np.ndarray], list[np.ndarray]]) -> None:
        self.network = network
        rows = [
            (side, 2 * layers) for side, layers in ((28, 1), (14, 1), (7, 3))
        ]  # strides 8, 16, 32, 32, 32; two anchors each
        steps = [np.repeat((np.stack(np.mgrid[:n, :n][::-1], -1).reshape(-1, 2) + 0.5) / n, count, axis=0) for n, count in rows]
        self.anchors = np.concatenate(steps)

    def __call__(self, image: np.ndarray, square: Square) -> tuple[np.ndarray, np.ndarray] | None:
        found, scores = self.network(square.cut(image, 224)[None].astype(np.float32) / 127.5 - 1)
        scores = 1 / (1 + np.exp(-np.clip(scores[0, :, 0], -100, 100)))
        sure = scores >= 0.5
        if not sure.any():
            return None
        values, scores = found[0][sure].reshape(-1, 6, 2) / 224, scores[sure]
        size, anchors = values[:, 1], self.anchors[sure]
        low, high = anchors + values[:, 0] - size / 2, anchors + values[:, 0] + size / 2
        best = scores.argmax()
        inner = np.clip(np.minimum(high, high[best]) - np.maximum(low, low[best]), 0, None).prod(axis=1)
        together = inner / (size.prod(axis=1) + size[best].prod() - inner) > 0.3  # MediaPipe's mean over what overlaps
        together[best] = True
        points = np.average(values[together, 2:4] + anchors[together, None], axis=0, weights=scores[together])
        return tuple(square.out(points))


@dataclass(frozen=True)
class BlazePose:
    """A person's joints, pixels, by the detector in the square `look`, then the landmarks in the turned square that it finds.

    Where it finds nobody, the landmarks are sought in the square `instead`; without one no joint is anywhere. missed: the ids
    of whom it did not find. places: of the landmarks, those of `COMMON`.
    """

    detector: Callable[[np.ndarray, Square], tuple[np.ndarray, np.ndarray] | None]
    landmarks: Callable[[np.ndarray], list[np.ndarray]]
    look: Callable[[np.ndarray, Sample], Square]
    instead: Callable[[Sample], Square | None]
    places: list[int]
    missed: set[int] = field(default_factory=set)

    def __call__(self, image: np.ndarray, person: Sample) -> np.ndarray:
        found = self.detector(image, self.look(image, person))
        if found is None:
            self.missed.add(person.person_id)
        square = body(*found) if found else self.instead(person)
        if square is None:
            return np.full((len(self.places), 2), NOWHERE)
        points, _, _, maps, _ = self.landmarks(square.cut(image, 256)[None].astype(np.float32) / 255)
        return square.out(refined(points.reshape(39, 5)[:, :2] / 256, maps[0])[self.places])


def blazepose(archive: Archive, interpreter: type) -> list[Candidate]:
    def network(file: str) -> Callable[[np.ndarray], list[np.ndarray]]:
        made = interpreter(model_content=archive.files[file], num_threads=1)
        made.allocate_tensors()
        (source,), outputs = made.get_input_details(), made.get_output_details()

        def run(tensor: np.ndarray) -> list[np.ndarray]:
            made.set_tensor(source["index"], tensor)
            made.invoke()
            return [made.get_tensor(output["index"]) for output in outputs]

        return run

    detector = Detector(network("pose_solution_packed_assets.data"))
    places = [BLAZEPOSE[part] + (side == "right") for side, part in (name.split("_") for name in COMMON)]
    ways = (  # boxes, given, in which square its detector looks, and what is taken where it finds nobody
        ("own detector in the whole image", "nothing", lambda image, person: whole(image), lambda person: None),
        (f"own detector in the ground-truth box x {PADDING}", "box", lambda image, person: true_box(person), true_box),
    )
    candidates = []
    for size in ("lite", "full", "heavy"):
        file = f"pose_landmark_{size}.tflite"
        landmarks = network(file)
        for boxes, given, look, instead in ways:
            find = BlazePose(detector, landmarks, look, instead, places)
            mb = len(archive.files[file]) / 1e6
            candidates.append(
                Candidate(f"BlazePose {size}", boxes, given, ELSEWHERE, archive.name, archive.licence, mb, find, find.missed)
            )
    return candidates


def refined(points: np.ndarray, maps: np.ndarray) -> np.ndarray:
    """Landmarks (39, 2), 0..1, each moved to the mean of its heatmap around it where that is sure, as MediaPipe does.

    maps: (64, 64, 39), before the sigmoid.
    """
    side, reach = len(maps), 3
    moved = points.copy()
    for k, (column, row) in enumerate((points * side).astype(int)):
        if not (0 <= column < side and 0 <= row < side):
            continue
        top, left = max(0, row - reach), max(0, column - reach)
        window = 1 / (1 + np.exp(-maps[top : row + reach + 1, left : column + reach + 1, k]))
        if window.max() >= 0.5:
            rows, columns = np.mgrid[top : top + window.shape[0], left : left + window.shape[1]]
            moved[k] = np.array([(columns * window).sum(), (rows * window).sum()]) / window.sum() / side
    return moved


def ours() -> list[Candidate]:
    """The networks that come with mdw, with and without the mirrored image."""
    from mdw.inference.predict import load_predictor

    candidates = []
    for name, path in list_shipped().items():
        recipe = read_about(path)["recipe"]
        source = f"{path.name}, SHA-256 {hashlib.sha256(path.read_bytes()).hexdigest()}"
        for flip in (True, False):
            predictor = load_predictor(name, flip_test=flip)

            def find(image: np.ndarray, person: Sample, predictor=predictor) -> np.ndarray:
                ((found,),) = predictor([image], [[joints_box(person.joints, person.visible)]])
                return found["keypoints"][PLACES, :2]

            boxes = f"ground-truth box x {PADDING}" + (", image and mirrored image" if flip else "")
            candidates.append(Candidate(name, boxes, "box", recipe, source, "MIT", path.stat().st_size / 1e6, find))
    return candidates


def accuracy(candidates: list[Candidate], people: list[Sample]) -> list[dict]:
    """pck, low, high (95 %, images drawn again) of every candidate on the same persons."""
    found = np.full((len(candidates), len(people), LSP14.num_joints, 2), np.nan)
    for n, person in enumerate(tqdm(people, unit="person")):
        image = read_image(person.image)
        for c, candidate in enumerate(candidates):
            found[c, n, PLACES] = candidate.find(image, person)
    truth, flags = np.stack([p.joints for p in people]), np.stack([p.visible for p in people])
    flags[:, [i for i in range(LSP14.num_joints) if i not in PLACES]] = 0
    images, rows = np.array([p.image_id for p in people]), []
    for one, candidate in zip(found, candidates, strict=True):
        right, counted, used = pck_hits(one, truth, flags)
        figure, low, high = over_persons(right.sum(1)[used], counted.sum(1)[used], images[used])
        rows.append({"pck": figure, "low": low, "high": high, "persons": int(used.sum()), "joints": int(counted.sum())})
        rows[-1]["missed"] = len(candidate.missed)
    return rows


def latency(candidates: list[Candidate], people: list[Sample]) -> list[dict]:
    """Milliseconds from an image in memory to its person's joints, crop and detector included: median and quartiles.

    All take turns, person by person, in this process, by one thread; the first `WARM` persons are not counted.
    """
    taken: list[list[float]] = [[] for _ in candidates]
    for n, person in enumerate(tqdm(people, unit="person")):
        image = read_image(person.image)
        for candidate, times in list(zip(candidates, taken, strict=True))[:: 1 if n % 2 else -1]:
            begun = time.perf_counter()
            candidate.find(image, person)
            times.append(1e3 * (time.perf_counter() - begun))
    return [
        {
            "latency_ms": statistics.median(times[WARM:]),
            "latency_ms_spread": [float(q) for q in np.quantile(times[WARM:], (0.25, 0.75))],
            "latency_ms_calls": len(times[WARM:]),
        }
        for times in taken
    ]


def positive(text: str) -> int:
    if not (text.isdecimal() and int(text)):
        raise argparse.ArgumentTypeError(f"{text} is not a number of persons; give a whole one above 0")
    return int(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("root", type=Path, help="LSPET's folder: images/, joints.mat and split.csv.")
    parser.add_argument("--record", type=Path, default=Path("runs/practitioner/cpu.json"))
    parser.add_argument("--persons", type=positive, help="Only the first of the split, for a trial; the record says how many.")
    parser.add_argument("--latency", action="store_true", help="Measure latency alone and keep the record's accuracy.")
    parser.add_argument("--calls", type=positive, default=100, help="Persons by whom latency is measured.")
    asked = parser.parse_args()
    try:
        record = measure(asked.root, asked.record, asked.persons, asked.latency, asked.calls)
    except MdwError as error:
        sys.exit(f"practitioner.py: {error}")
    for row in sorted(record["networks"], key=lambda row: -row["pck"]):
        interval = f"{row['pck']:5.1f} ({row['low']:.1f} to {row['high']:.1f})"
        print(f"{row['network']:22} {interval} {row['latency_ms']:7.1f} ms  {row['boxes']}")


def measure(root: Path, file: Path, persons: int | None, only_latency: bool, calls: int) -> dict:
    """The record, which is also written to `file`; arguments as on the command line."""
    load = os.getloadavg()[0]
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    check_writable(file)
    before = read_json(file) if only_latency else None
    folder = cache_folder() / "practitioner"
    folder.mkdir(exist_ok=True)
    archives = {name: Archive(name, folder) for name in PACKAGES}
    people = list(lspet(root, "val").samples)[:persons]
    shelf = [*movenet(archives["@vladmandic/human"]), *blazepose(archives["@mediapipe/pose"], litert(folder))]
    candidates = [*shelf, *ours()]
    place = environment("cpu")
    place["packages"] |= {name: version(name) for name in ("onnxruntime", "ai-edge-litert")}
    if before is None:
        shown = ("network", "boxes", "given", "trained_on", "source", "licence", "weights_mb")
        found = accuracy(candidates, people)
        rows = [{name: getattr(c, name) for name in shown} | one for c, one in zip(candidates, found, strict=True)]
        record = {"data": "lspet", "split": "val", "metric": "PCK@0.2", "joints": COMMON, "environment": place}
    else:
        record, rows = before, before["networks"]
        if [(row["network"], row["boxes"]) for row in rows] != [(c.network, c.boxes) for c in candidates]:
            raise MdwError(f"{file} is about other networks than these; measure them all, without --latency")
    measured = latency(candidates, list(islice(cycle(people), calls + WARM)))
    shared = load > 0.3 * (os.cpu_count() or 1)  # as `mdw.bench` judges
    record |= {"latency": {"environment": place, "threads": 1, "load": load, "shared": shared}}
    record |= {"networks": [row | one for row, one in zip(rows, measured, strict=True)]}
    write_json(file, record)
    return record


if __name__ == "__main__":
    main()
