"""How long a planned training will take, from what was measured before; where nothing was, it is unknown."""

from dataclasses import dataclass
from pathlib import Path

from mdw.experiments.studies import Planned
from mdw.training import runs
from mdw.training.recipes import Recipe
from mdw.util.errors import MdwError
from mdw.util.files import read_rows


@dataclass(frozen=True)
class Estimate:
    """What is left of one run: training samples, seconds and the record whose speed was taken. None is unknown."""

    samples: int | None
    seconds: float | None = None
    basis: str | None = None


class Speeds:
    """The measured speeds of `root`: of its runs, finished or not, and of the records of `mdw bench` in root/bench.

    Asked for `device` ("cpu", "cuda", ...) and runs of `threads` threads each, computed by `backend`. A figure of this
    network, these options and this input size is required; of several the one from most alike circumstances is
    taken, this machine's before another's.
    """

    def __init__(self, root: str | Path, device: str, threads: int, backend: str) -> None:
        self.device = device.partition(":")[0]
        self.here = {"hardware": runs.hardware(device), "computation": backend, "threads": threads}
        self.known, self.runs = [], []
        for run in runs.find(root):
            try:
                found, _ = _of_run(run), run.result  # read now, and kept
            except (MdwError, ValueError, KeyError, TypeError):  # damaged, as `mdw runs` says; the others are not
                continue
            self.runs.append(run)
            self.known += found
        self.known += [known for path in sorted(Path(root).glob("bench/*.json")) for known in _of_bench(path)]

    def estimate(self, one: Planned) -> Estimate:
        """What `one` still needs. The time of a validation is a third of training's for every forward pass.

        That a training step costs three forward passes is a rule of thumb; loading and start are not counted.
        """
        recipe = Recipe.from_dict(one.spec["recipe"])
        done = len(runs.Run(one.path).metrics()) if one.path in {run.path for run in self.runs} else 0  # damaged: none
        epoch = self._persons(recipe, "train")
        if epoch is not None and recipe.drop_last and epoch >= recipe.batch_size:
            epoch -= epoch % recipe.batch_size
        if one.status == "finished":
            return Estimate(0, 0.0)
        if epoch is None:
            return Estimate(None)
        samples = (recipe.epochs - done) * epoch
        wanted = _key(one.spec["model"], one.spec["options"], recipe.input_size) | {"device": self.device}
        fits = [known for known in self.known if wanted.items() <= known.items()]
        best = max(fits, key=self._likeness, default=None)
        if best is None:
            return Estimate(samples)
        times = sum(e == recipe.epochs or e % recipe.eval_every == 0 for e in range(done + 1, recipe.epochs + 1))
        passes = times * (self._persons(recipe, "val") or 0) * (2 if recipe.flip_test else 1)
        return Estimate(samples, (samples + passes / 3) / best["images_per_s"], f"{best['source']}, {best['hardware']}")

    def _likeness(self, known: dict) -> tuple:
        return *(known[name] == value for name, value in self.here.items()), known["of_run"], known["started"]

    def _persons(self, recipe: Recipe, part: str) -> int | None:
        """How many persons a split has: as the recipe draws, as is published, or as a run has counted."""
        from mdw.data import coco, mpii

        split = getattr(recipe, f"{part}_split")
        if "count" in getattr(recipe, f"{part}_options"):
            return getattr(recipe, f"{part}_options")["count"]
        if recipe.data == "coco" and split in coco.PUBLIC_COUNTS:
            return coco.PUBLIC_COUNTS[split]["persons"]
        if recipe.data == "mpii" and mpii.FILES.get(split) in mpii.PUBLIC_COUNTS:
            return mpii.PUBLIC_COUNTS[mpii.FILES[split]][0]
        for run in self.runs:
            theirs = run.spec["recipe"]
            if (theirs["data"], theirs[f"{part}_split"]) == (recipe.data, split) and run.result:
                return run.metrics()[-1]["samples"] if part == "train" else run.result["val_persons"]
        return None


def _key(model: str, options: dict, input_size) -> dict:
    return {"model": model, "options": options, "input_size": list(input_size)}


def _of_run(run: runs.Run) -> list[dict]:
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


def _of_bench(path: Path) -> list[dict]:
    found = []
    for row in read_rows(path):
        height, width = map(int, row["size"].split("x"))
        place = row["environment"]
        found.append(
            _key(row["model"], row.get("options", {}), (width, height))
            | {"device": row["device"].partition(":")[0], "hardware": place["hardware"], "threads": place["torch_threads"]}
            | {"computation": row["mode"], "started": place["started"], "source": f"bench/{path.name}"}
            | {"images_per_s": row["train_images_per_s"], "of_run": False}
        )
    return found
