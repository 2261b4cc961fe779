"""Training runs that are killed: in a process of their own, without warning, at moments drawn at random."""

import multiprocessing
import re
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from mdw.training import checkpoint, recipes, runs
from mdw.util.errors import MdwError

PLAIN = {"cdc": False, "gcm_s": False, "gcm_c": False}
TIMES = ("seconds", "images_per_s", "train_seconds", "finished")  # what two runs of one question may differ in


def spec(seed=0, steps=4, model="mdw_hrnet_18", options=PLAIN, **changes):
    """A run of seconds: `steps` batches of four synthetic people per epoch."""
    changes = {"train_options": {"count": 4 * steps, "size": [64, 96]}} | changes
    return runs.make_spec(model, replace(recipes.get("smoke"), **changes), seed, options)


def outcome(run: runs.Run) -> dict:
    """Everything a finished run has come to, to the bit, without what the clock says."""

    def timeless(values):
        return {name: value for name, value in values.items() if name not in TIMES}

    return {
        "weights": run.weights.read_bytes(),
        "metrics": [timeless(line) for line in run.metrics()],
        "result": timeless(run.result),
        "predictions": (run.path / "predictions.json").read_bytes(),
    }


def life(spec: dict, root: str, seconds: float) -> None:
    """What the process to be killed does."""
    import torch

    from mdw.training.train import train

    torch.set_num_threads(1)
    train(spec, runs_root=root, quiet=True, device="cpu", checkpoint_seconds=seconds)


def context():
    """Processes that have torch loaded already, so that most of a short life is training."""
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(
        ["torch._dynamo", "timm.utils", "mdw.training.train", "mdw.models.mdw_hrnet", "mdw.data.synthetic", "kills"]
    )
    return server


def start(*arguments):
    """`life` in a process of its own."""
    process = context().Process(target=life, args=arguments)
    process.start()
    return process


def kill_often(one: dict, root: Path, kills: int, rng: np.random.Generator, longest: float, say=print) -> int:
    """Start the run until it has ended, killing it up to `kills` times; how many kills there were."""
    path, killed = runs.folder(one, root), 0
    while runs.Run(path).result is None:
        wait = float(rng.uniform(0, longest)) if killed < kills else None
        process = start(one, str(root), float(rng.choice([0.0, 0.3])))
        process.join(wait)
        if process.exitcode is None:
            process.kill()
            process.join()
            killed += 1
            say(f"  kill {killed:2d} after {wait:4.2f} s: {_where(path)}")
        elif process.exitcode:
            raise AssertionError(f"a life ended by itself with status {process.exitcode}, {_where(path)}")
    return killed


def _where(path: Path) -> str:
    half = [p.name for p in path.glob("*") if re.match(r"\..+\.|checkpoint.next", p.name)]
    try:
        data, told = checkpoint.read(path)
        place = "no checkpoint yet" if data is None else _place(checkpoint.unpack(data)[1])
    except MdwError as error:
        place, told = str(error), None
    notes = [told] if told else []
    if half:
        notes.append(f"left behind: {' '.join(half)}")
    if (path / "result.json").exists():
        notes.append("finished")
    return ", ".join([place, *notes])


def _place(state: dict) -> str:
    return f"kept epoch {state['epoch'] + 1}, step {state['step']}"


def main(kills: int, root: Path, seed: int = 0, say=print) -> int:
    """Kill runs until there were `kills` kills and compare every one with its undisturbed twin; how many were unequal."""
    rng, done, unequal, number = np.random.default_rng(seed), 0, 0, 0
    steps = 6 if kills > 5 else 3
    loading = context().Process(target=int)  # torch, once for all
    loading.start()
    loading.join()
    begun = time.perf_counter()
    while done < kills:
        changes = {"ema": 0.99, "accumulate": 2} if number % 2 else {}
        one = spec(seed=number, steps=steps, epochs=4 if steps > 3 else 2, lr_steps=(3,), **changes)
        clock = time.perf_counter()
        start(one, str(root / "whole"), 300.0).join()
        clock = time.perf_counter() - clock
        say(f"run {number}: {runs.folder(one).name}, undisturbed {clock:.1f} s")
        done += kill_often(one, root / "killed", kills - done, rng, clock, say)
        whole, killed = (outcome(runs.Run(runs.folder(one, root / name))) for name in ("whole", "killed"))
        differ = [name for name in whole if whole[name] != killed[name]]
        unequal += bool(differ)
        verdict = f"DIFFERENT: {', '.join(differ)}" if differ else "equal to the bit"
        say(f"  ended; weights, metrics, result, predictions: {verdict}")
        number += 1
    say(f"{done} kills in {number} runs, {unequal} unequal, {time.perf_counter() - begun:.0f} s")
    return unequal


if __name__ == "__main__":
    import sys
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 50, Path(folder)))
