"""Estimates the time of planned trainings from earlier measurements."""

from dataclasses import dataclass
from pathlib import Path

from mdw.experiments.studies import Planned
from mdw.training import runs
from mdw.training.recipes import Recipe
from mdw.util.errors import MdwError
from mdw.util.files import read_rows


@dataclass(frozen=True)
class Estimate:
    """The remaining work of a run: training samples, seconds and the record whose speed was used. None: unknown."""

    samples: int | None
    seconds: float | None = None
    basis: str | None = None


class Speeds:
    """The measured speeds below `root`: of its runs, finished or not, and of the records of `mdw bench` in root/bench.

    Estimates are for `device` ("cpu", "cuda", ...) and runs of `threads` threads each, computed by `backend`. A speed must be
    of the same network, options and input size; of several the one under the most similar circumstances is used, this machine's
    first.
    """

    def __init__(self, root: str | Path, device: str, threads: int, backend: str) -> None:
        self.device = device.partition(":")[0]
        self.circumstances = {"hardware": runs.hardware(device), "computation": backend, "threads": threads}
        self.records, self.runs = [], []
        for run in runs.find(root):
            try:
                speeds, _ = _speeds_of_run(run), run.result  # `result` is read now and cached
            except (MdwError, ValueError, KeyError, TypeError):  # a damaged run, which `mdw runs` reports
                continue
            self.runs.append(run)
            self.records += speeds
        self.records += [record for path in sorted(Path(root).glob("bench/*.json")) for record in _speeds_of_bench(path)]

    def estimate(self, planned: Planned) -> Estimate:
        """Returns the remaining work of a planned run.

        A training step is taken as three forward passes, a rule of thumb; loading and start are not counted.
        """
        recipe = Recipe.from_dict(planned.spec["recipe"])
        readable = {run.path for run in self.runs}
        finished = len(runs.Run(planned.path).metrics()) if planned.path in readable else 0
        epoch = self._persons(recipe, "train")
        if epoch is not None and recipe.drop_last and epoch >= recipe.batch_size:
            epoch -= epoch % recipe.batch_size
        if planned.status == "finished":
            return Estimate(0, 0.0)
        if epoch is None:
            return Estimate(None)
        samples = (recipe.epochs - finished) * epoch
        required = _key(planned.spec["model"], planned.spec["options"], recipe.input_size) | {"device": self.device}
        matching = [record for record in self.records if required.items() <= record.items()]
        best = max(matching, key=self._likeness, default=None)
        if best is None:
            return Estimate(samples)
        validations = sum(e == recipe.epochs or e % recipe.eval_every == 0 for e in range(finished + 1, recipe.epochs + 1))
        passes = validations * (self._persons(recipe, "val") or 0) * (2 if recipe.flip_test else 1)
        return Estimate(samples, (samples + passes / 3) / best["images_per_s"], f"{best['source']}, {best['hardware']}")

    def _likeness(self, record: dict) -> tuple:
        return *(record[name] == value for name, value in self.circumstances.items()), record["of_run"], record["started"]

    def _persons(self, recipe: Recipe, part: str) -> int | None:
        """Returns a split's number of persons: from the recipe, published counts or a finished run; None if unknown."""
        from mdw.data import coco, mpii

        split = getattr(recipe, f"{part}_split")
        if "count" in getattr(recipe, f"{part}_options"):
            return getattr(recipe, f"{part}_options")["count"]
        if recipe.data == "coco" and split in coco.PUBLIC_COUNTS:
            return coco.PUBLIC_COUNTS[split]["persons"]
        if recipe.data == "mpii" and mpii.FILES.get(split) in mpii.PUBLIC_COUNTS:
            return mpii.PUBLIC_COUNTS[mpii.FILES[split]][0]
        for run in self.runs:
            run_recipe = run.spec["recipe"]
            if (run_recipe["data"], run_recipe[f"{part}_split"]) == (recipe.data, split) and run.result:
                return run.metrics()[-1]["samples"] if part == "train" else run.result["val_persons"]
        return None


def _key(model: str, options: dict, input_size) -> dict:
    return {"model": model, "options": options, "input_size": list(input_size)}


def _speeds_of_run(run: runs.Run) -> list[dict]:
    env, recipe = run.env, run.spec["recipe"]
    lines = [line for line in run.metrics() if line.get("seconds") and line.get("samples")]
    if not lines or not env:
        return []
    return [
        _key(run.spec["model"], run.spec["options"], recipe["input_size"])
        | {"device": env["device"].partition(":")[0], "hardware": env["hardware"], "threads": env.get("threads")}
        | {"computation": env.get("computation", "reference"), "started": env["started"], "source": run.path.name}
        | {"images_per_s": sum(line["samples"] for line in lines) / sum(line["seconds"] for line in lines), "of_run": True}
    ]


def _speeds_of_bench(path: Path) -> list[dict]:
    records = []
    for row in read_rows(path):
        if row.get("train_images_per_s") is None:  # a backend that only predicts
            continue
        height, width = map(int, row["size"].split("x"))
        env = row["environment"]
        records.append(
            _key(row["model"], row.get("options", {}), (width, height))
            | {"device": row["device"].partition(":")[0], "hardware": env["hardware"], "threads": env["torch_threads"]}
            | {"computation": row["mode"], "started": env["started"], "source": f"bench/{path.name}"}
            | {"images_per_s": row["train_images_per_s"], "of_run": False}
        )
    return records
