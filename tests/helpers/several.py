"""What the processes of a distributed test do. Each writes what it found into a folder."""

import os
import signal
import socket
from pathlib import Path

import kills
import numpy as np
import pytest
import torch
from double_precision import double_precision

from mdw import data
from mdw.data.augment import NONE
from mdw.training import loop, validation
from mdw.training.distributed import World, join
from mdw.training.recipes import Recipe
from mdw.training.state import State
from mdw.training.train import train


def start_two(function, *arguments) -> None:
    """Run `function(*arguments)` in two processes, as torchrun would, and wait for both to end well."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    processes = []
    for rank in ("0", "1"):
        process = kills.context().Process(
            target=_with, args=(address | {"RANK": rank, "LOCAL_RANK": rank}, function, *arguments)
        )
        process.start()
        processes.append(process)
    for process in processes:
        process.join(600)
    assert [process.exitcode for process in processes] == [0, 0]


def _with(environment, function, *arguments):
    os.environ.update(environment)
    torch.set_num_threads(1)
    function(*arguments)


def train_exactly(spec: dict, root: str, out: str) -> None:
    """Train in double precision; `out` keeps the summed gradient of the first update and the statistics that its batch left."""
    calls, sum_gradients = [], World.sum_gradients

    def keeping(world, model):
        sum_gradients(world, model)
        calls.append(1)
        if world.main and len(calls) == 1:
            gradients, statistics = (p.grad for p in model.parameters()), (b.double() for b in model.buffers())
            parts = {"gradients": gradients, "statistics": statistics}
            np.savez(out, **{name: torch.cat([t.flatten() for t in part]) for name, part in parts.items()})

    with pytest.MonkeyPatch.context() as patch, double_precision():
        patch.setattr(World, "sum_gradients", keeping)
        train(spec, runs_root=root, device="cpu", quiet=True)


def validate(spec: dict, out: str) -> None:
    """What a validation gives with fresh weights: metric, joints and scores."""
    recipe = Recipe.from_dict(spec["recipe"])
    people = data.load(recipe.data, "val", aspect=recipe.aspect, **recipe.val_options)
    with join("cpu") as world:
        metrics, xy, scores = validation.validate(State.new(spec, 17, "cpu"), recipe, people, world)
        if world.main:
            np.savez(out, xy=xy, scores=scores, metric=metrics[recipe.metric])


def train_and_die(spec: dict, root: str, deadly: bool) -> None:
    """A worker of a job; with `deadly`, the second one is killed once, in the middle of the second epoch."""
    torch.set_num_threads(1)
    mark = Path(root) / "died"
    backward = loop.backward

    def dying(*arguments):
        dying.calls += 1
        if deadly and os.environ["RANK"] == "1" and dying.calls == 5 and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return backward(*arguments)

    dying.calls, loop.backward = 0, dying
    train(spec, runs_root=root, device="cpu", quiet=True, checkpoint_seconds=0)


SMALL = kills.spec(steps=3, batch_size=4, augmentation=NONE)
