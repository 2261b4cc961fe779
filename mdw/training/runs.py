"""A training run is a self-contained folder: specification, environment, course and results.

recipe.json    the spec: network, options, recipe, seed; its hash names the folder
env.json       commit, versions, hardware, when and where it began
metrics.jsonl  one line per epoch
persons.csv    results of the last validation person by person; see `mdw.training.persons`
result.json    the final metrics; it exists only when the run is finished
evaluations/   later measurements by `mdw evaluate --record` and COCO's server: see `Run.evaluations`
weights.safetensors, predictions.json, checkpoint*.safetensors (only while the run is not finished), tensorboard/ (on request)
"""

import hashlib
import json
import os
import platform
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Interval
from filelock import FileLock, Timeout

from mdw.data import settled
from mdw.models import fit_options
from mdw.models import network_name as network_name  # callers also import it from here
from mdw.training.recipes import Recipe
from mdw.util.errors import MdwError
from mdw.util.files import parse_json, read_json, read_text
from mdw.util.typed import Count, NotNegative, Positive, Seed, check_fields, fit

# The fields of a run's files and their types; fields that a later version wrote are not checked.
Number = Annotated[int, Interval(ge=0, le=10**15)]
Seconds = Annotated[float, Interval(ge=0, le=1e10)]
Fields = dict[str, object]  # name -> annotation
SPEC: Fields = {"model": str, "options": dict[str, Any], "recipe": dict[str, Any], "seed": Seed}
RECIPE: Fields = {"name": str, "data": str, "metric": str, "epochs": Count, "input_size": tuple[Count, Count], "lr": Positive}
RECIPE |= {"train_split": str, "val_split": str, "train_options": dict[str, Any], "val_options": dict[str, Any]}
RECIPE |= {"flip_test": bool, "blur": int | None}
Value = Annotated[float, Interval(ge=-1, le=100)]
VALUES: Fields = {"pck": Value, "pckh": Value, "AP": Value}
LINE: Fields = {"epoch": Count, "loss": float, "lr": NotNegative, "samples": Number, "seconds": Seconds} | VALUES
LINE |= {"images_per_s": NotNegative}
RESULT: Fields = {"metric": str, "epochs": Count, "samples": Number, "train_seconds": Seconds, "params": Number} | VALUES
RESULT |= {"flip_test": bool, "blur": int | None, "boxes": str, "val_persons": Number, "finished": str, "mean_pose_pck": float}
ENV: Fields = {"started": str, "commit": str | None, "device": str, "hardware": str, "threads": Number, "computation": str}
# "computation" is the backend; records have called it so from the first
ENV |= {"processes": Count, "packages": dict[str, str | None], "data": dict[str, dict[str, int | str | None]]}

TREE = Path(__file__).resolve().parents[2]  # the checkout, or what this package is installed in
SYNTHETIC = "synthetic"  # the folder below `runs` for runs on synthetic people, which are easy to repeat and not committed
EVALUATION: Fields = {"data": str, "split": str, "environment": dict[str, Any], "measured": dict[str, dict[str, Any]]}
MEASURED: Fields = VALUES | {"flip_test": bool, "blur": int | None, "boxes": str, "persons": Number}
MEASURED |= {"public_persons": Number | None, "submission": str | None}

PACKAGES = ("torch", "torchvision", "timm", "numpy", "opencv-python-headless", "pycocotools", "pandas")


def make_spec(model: str, recipe: Recipe, seed: int = 0, options: dict | None = None, known: bool = False) -> dict:
    """Returns everything that determines a run's result, as plain JSON values: the data set's name, but not its folder.

    A file of joints is replaced by its content, so that its path does not matter; values are converted to their annotated
    types, so that their spelling does not matter. `known`: network and options come from a study and are not checked, which
    would import torch. Raises MdwError for an unknown network or option and for a bad value.
    """
    seed, options = fit("seed", seed, Seed, 0), fit("options", options or {}, dict[str, Any])
    options = options if known else fit_options(model, options)
    data_options = {name: settled(recipe.data, getattr(recipe, name)) for name in ("train_options", "val_options")}
    spec = {"model": model, "options": options, "recipe": recipe.to_dict() | data_options, "seed": seed}
    return json.loads(json.dumps(spec, default=str))  # the names of files


def identity(spec: dict) -> str:
    """Returns eight hexadecimal digits of the hash of `spec`."""
    return hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()[:8]


def folder(spec: dict, root: str | Path = "runs") -> Path:
    """Returns the folder of the run of `spec`: root/<model>-<data>-<recipe>-s<seed>-<identity>, or root/synthetic/... ."""
    recipe = spec["recipe"]
    parent = Path(root) / SYNTHETIC if recipe["data"] == "people" else Path(root)
    return parent / f"{spec['model']}-{recipe['data']}-{recipe['name']}-s{spec['seed']}-{identity(spec)}"


@dataclass(frozen=True)
class Run:
    """Reads a run's folder. Its properties raise MdwError, naming file and field, where a file is damaged."""

    path: Path

    @cached_property
    def spec(self) -> dict:
        spec = self._read("recipe.json", SPEC, tuple(SPEC))
        check_fields(f"{self.path / 'recipe.json'}: recipe", spec["recipe"], RECIPE, ("name", "data", "metric", "epochs"))
        return spec

    @cached_property
    def env(self) -> dict:
        return self._read("env.json", ENV) if self._has("env.json") else {}

    @cached_property
    def result(self) -> dict | None:
        if not self._has("result.json"):
            return None
        return self._read("result.json", RESULT, (self.spec["recipe"]["metric"],))

    @property
    def outcome(self) -> dict:
        """The run's `result`. Raises MdwError for a run that is not finished."""
        if self.result is None:
            raise MdwError(f"{self.path} is not a finished run, so it has no result; train it to its end first")
        return self.result

    def _has(self, name: str) -> bool:
        return os.path.lexists(self.path / name)  # a link to nothing is a file that was not fetched

    def _read(self, name: str, annotations: Fields, needed: tuple[str, ...] = ()) -> dict:
        return check_fields(str(self.path / name), read_json(self.path / name), annotations, needed)

    @property
    def problem(self) -> str | None:
        """The error message about a damaged file of this folder; None where all are readable."""
        try:
            self.check()
        except MdwError as error:
            return str(error)
        return None

    def check(self) -> None:
        """Raise MdwError where recipe.json, env.json, result.json or metrics.jsonl is damaged."""
        self.spec, self.env, self.result, self.metrics()  # noqa: B018

    @property
    def status(self) -> str:
        """ "finished" (it has a result), "running" (a process holds its lock) or "interrupted"."""
        if self.result is not None:
            return "finished"
        return "running" if _is_locked(self.path) else "interrupted"

    @property
    def weights(self) -> Path | None:
        """The file of the final weights, or None: of published runs only small text files are stored."""
        path = self.path / "weights.safetensors"
        return path if path.exists() else None

    def evaluation_file(self, name: str) -> Path:
        """Returns the path of the results of `mdw evaluate --record name`."""
        return self._evaluations / f"{name}.json"

    @property
    def _evaluations(self) -> Path:
        return self.path / "evaluations"

    def evaluations(self, data: str, split: str) -> list[dict]:
        """Returns the evaluations on a split of a data set, the newest last.

        Each has data, split, environment (time, hardware, commit) and measured: under "detector_boxes", "ground_truth_boxes" or
        both a dict of metrics, boxes, persons, flip_test and blur.
        """
        records = [self.evaluation(path) for path in self.evaluation_files()]
        records = [record for record in records if (record.get("data"), record.get("split")) == (data, split)]
        return sorted(records, key=lambda record: record["environment"]["started"])

    def evaluation_files(self) -> list[Path]:
        """Returns the files of evaluations/ without the scores of COCO's server."""
        return [path for path in sorted(self._evaluations.glob("*.json")) if path.stem != "test-dev-scores"]

    def evaluation(self, path: Path) -> dict:
        """Reads one of `evaluation_files`. Raises MdwError where it is damaged."""
        record = check_fields(str(path), read_json(path), EVALUATION, tuple(EVALUATION))
        check_fields(f"{path}: environment", record["environment"], ENV, ("started",))
        for name, measured in record["measured"].items():
            check_fields(f"{path}: {name}", measured, MEASURED)
        return record

    @property
    def server_scores(self) -> Path | None:
        """The file evaluations/test-dev-scores.txt or .json, where a user has put the answer of COCO's server; or None."""
        return next(iter(sorted(self._evaluations.glob("test-dev-scores.*"))), None)

    def metrics(self) -> list[dict]:
        """Returns one dict an epoch, in order: epoch, loss, lr, seconds, images_per_s and, where validated, the metric."""
        path, lines = self.path / "metrics.jsonl", []
        if not self._has(path.name):
            return []
        for number, line in enumerate(read_text(path).splitlines(), 1):
            if line.strip():
                place = f"{path}, line {number}"
                lines.append(check_fields(place, parse_json(place, line), LINE, ("epoch",)))
        return lines


def located(root: str | Path = "runs") -> Path:
    """Returns the folder of runs that `root` names; a relative path is also searched above this folder and in the checkout.

    The first that exists is taken, else the path as given. So a notebook finds the records wherever its kernel starts.
    """
    candidates = [Path(root), Path("..") / root] + ([TREE / root] if (TREE / "pyproject.toml").exists() else [])
    return next((folder for folder in candidates if folder.is_dir()), candidates[0])


def find(root: str | Path = "runs") -> list[Run]:
    """Returns all run folders directly below `root`, by name, then those in its `SYNTHETIC`; also links to folders.

    The list is empty where `root` cannot be listed.
    """
    runs = []
    for parent in (Path(root), Path(root) / SYNTHETIC):
        with suppress(OSError), os.scandir(parent) as entries:
            paths = sorted(parent / entry.name for entry in entries)
            runs += [Run(path) for path in paths if os.path.lexists(path / "recipe.json")]
    return runs


def summary(run: Run) -> dict:
    """Returns a run's progress as JSON values: run, status, done and epochs, metric, its best value and best_epoch, seconds of
    training and images_per_s over the finished epochs. A folder that cannot be read has the status "damaged: ...".
    """
    empty = dict.fromkeys(("done", "epochs", "metric", "best", "best_epoch", "images_per_s"))
    try:
        lines, recipe = run.metrics(), run.spec["recipe"]
        metric = recipe["metric"]
        best = max((line for line in lines if metric in line), key=lambda line: line[metric], default=None)
        seconds = sum(line.get("seconds", 0) for line in lines)
        return {
            "run": run.path.name,
            "status": run.status,
            "done": len(lines),
            "epochs": recipe["epochs"],
            "metric": metric,
            "best": best and best[metric],
            "best_epoch": best and best["epoch"],
            "seconds": round(seconds, 1),
            "images_per_s": round(sum(line.get("samples", 0) for line in lines) / seconds, 2) if seconds > 1e-3 else None,
        }
    except MdwError as error:
        return {"run": run.path.name, "status": f"damaged: {error}"} | empty | {"seconds": 0.0}


def environment(device: str) -> dict:
    """Returns the environment of a record: commit, versions, hardware, time. Nothing in it names a person."""
    installed: dict[str, str | None] = {}
    for package in PACKAGES:
        try:
            installed[package] = version(package)
        except ImportError:
            installed[package] = None
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "python": platform.python_version(),
        "packages": installed,
        "device": device,
        "hardware": hardware(device),
        "threads": threads(),
        "platform": f"{platform.system()} {platform.machine()}",
    }


def threads() -> int:
    """Returns the number of torch's threads; before torch is imported, that of OMP_NUM_THREADS, else one for each core."""
    if "torch" in sys.modules:
        return sys.modules["torch"].get_num_threads()
    outermost = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()  # "2,1" is for nested threads
    return int(outermost) if outermost.isdecimal() and 0 < int(outermost) < 10_000 else os.cpu_count() or 1


def hardware(device: str = "cpu") -> str:
    """Returns the GPU's name, or the processor's with its number of cores; torch is imported only for a GPU."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.get_device_name(device)
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), name)
    except OSError:
        if sys.platform == "darwin":
            name = _output(["sysctl", "-n", "machdep.cpu.brand_string"]) or name
    return f"{name}, {os.cpu_count()} cores"


def commit() -> str | None:
    """Returns the commit of the source tree this package runs from, with "+" where files differ; None outside a checkout."""
    if not (TREE / ".git").exists():
        return None
    git = ["git", "-C", str(TREE)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}  # of another repository
    head = _output([*git, "rev-parse", "--short=10", "HEAD"], environment)
    dirty = _output([*git, "status", "--porcelain", "--untracked-files=no"], environment)
    return f"{head}+" if head and dirty else head


def _is_locked(path: Path) -> bool:
    """Returns whether a running process holds the run's folder; the lock file of an ended process does not count."""
    try:
        if (path / ".lock").exists():
            FileLock(path / ".lock", timeout=0).acquire().lock.release()
    except Timeout:
        return True
    except OSError:
        pass  # a folder that cannot be written has no writer
    return False


def _output(command: list[str], environment: dict[str, str] | None = None) -> str | None:
    try:
        process = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", check=True, env=environment)
        return process.stdout.strip() or None
    except (OSError, subprocess.CalledProcessError):
        return None
