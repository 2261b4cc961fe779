"""The state of a training as tensors and plain values, so that it can be saved and resumed."""

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from mdw.models import create_model
from mdw.models.init import start
from mdw.training.recipes import Recipe
from mdw.util.errors import MdwError

if TYPE_CHECKING:
    from timm.utils import ModelEmaV3


@dataclass
class State:
    """A run between two steps: `step` steps of `epoch` (0-based) are done; `lines` has a line for each finished epoch.

    Of the present epoch, total: sum of the samples' losses; seen: number of samples; seconds: time spent on its steps.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    average: "ModelEmaV3 | None" = None
    epoch: int = 0
    step: int = 0
    total: float = 0.0
    seen: int = 0
    seconds: float = 0.0
    lines: list[dict] = field(default_factory=list)

    @staticmethod
    def new(spec: dict, num_joints: int, device: str) -> "State":
        """Returns the initial state of the run of `spec` and seeds torch."""
        recipe = Recipe.from_dict(spec["recipe"])
        torch.manual_seed(spec["seed"])
        model = start(create_model(spec["model"], num_joints, **spec["options"]), recipe.init).to(device)
        optimizer = torch.optim.Adam(model.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay, fused=True)
        average = None
        if recipe.ema:
            from timm.utils import ModelEmaV3

            average = ModelEmaV3(model, decay=recipe.ema, use_warmup=True)
        return State(model, optimizer, average)

    @property
    def result(self) -> nn.Module:
        """The network to validate and to save: the average, where there is one."""
        return self.average.module if self.average else self.model

    def count(self, loss: float, persons: int) -> None:
        """Add a step of the epoch: its mean loss over so many persons."""
        self.total, self.seen = self.total + loss * persons, self.seen + persons

    def stepped(self, step: int, iteration: int) -> None:
        """Note that an update is done: `step` of this epoch, `iteration` of the run."""
        self.step = step
        if self.average:
            self.average.update(self.model, iteration)

    def line(self, rate: float) -> dict:
        """Returns the finished epoch's line of metrics.jsonl; `rate` is its last learning rate."""
        return {
            "epoch": self.epoch + 1,
            "loss": self.total / self.seen,
            "lr": rate,
            "samples": self.seen,
            "seconds": round(self.seconds, 2),
            "images_per_s": round(self.seen / self.seconds, 2),
        }

    def next_epoch(self, line: dict) -> None:
        self.epoch, self.step, self.total, self.seen, self.seconds = self.epoch + 1, 0, 0.0, 0, 0.0
        self.lines.append(line)

    def tensors(self) -> dict[str, Tensor]:
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        for index, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": torch.as_tensor(value) for name, value in state.items()}
        if self.average:
            tensors |= {f"average.{name}": value for name, value in self.average.module.state_dict().items()}
        if torch.cuda.is_initialized():
            tensors["random.cuda"] = torch.cuda.get_rng_state()
        return tensors | {"random": torch.get_rng_state()}

    def values(self) -> dict:
        names = ("epoch", "step", "total", "seen", "seconds", "lines")
        return {name: getattr(self, name) for name in names}

    def check(self, tensors: dict[str, Tensor], values: dict, epochs: int, steps: int) -> None:
        """Raise MdwError where tensors and values are no state of this run of `epochs` with `steps` steps each."""
        epoch, step = values.get("epoch"), values.get("step")
        fields_fit = values.keys() == self.values().keys() and type(values["seen"]) is int and isinstance(values["lines"], list)
        if not (fields_fit and type(epoch) is int and type(step) is int and 0 <= epoch < epochs and 0 <= step <= steps):
            raise MdwError(f"is of another run: it stands in epoch {epoch}, step {step}, of {epochs} epochs of {steps} steps")
        if [line.get("epoch") if isinstance(line, dict) else None for line in values["lines"]] != list(range(1, epoch + 1)):
            raise MdwError(f"is of another run: it stands in epoch {epoch + 1} and does not tell of {epoch} epochs")
        numbers = [values["total"], values["seconds"]]
        if not all(isinstance(number, float | int) and math.isfinite(number) for number in numbers):
            raise MdwError("is of another run: its sums are no finite numbers")
        expected = self.tensors()
        moments = {name: value for name, value in tensors.items() if name.startswith("optimizer.")}
        for name in expected.keys() | (tensors.keys() - moments.keys()):
            if name.startswith("optimizer.") or name == "random.cuda":
                continue
            if name not in expected or name not in tensors or _kind(expected[name]) != _kind(tensors[name]):
                raise MdwError(f"is of another run: {name} does not fit its network")
        parameters, updates = list(self.model.parameters()), epoch * steps + step
        complete = {f"optimizer.{name.split('.')[1]}.{key}" for name in moments for key in ("step", "exp_avg", "exp_avg_sq")}
        counts = [value.item() if value.numel() == 1 else math.inf for name, value in moments.items() if name.endswith(".step")]
        fits = moments.keys() == complete and bool(moments) == bool(updates) and max([0, *counts]) == updates
        for name, value in moments.items() if fits else ():
            index, key = name.split(".")[1:]
            fits &= index.isdigit() and int(index) < len(parameters)
            fits = fits and (key == "step" or _kind(value) == _kind(parameters[int(index)]))
        if not fits:
            raise MdwError(f"is of another run: its optimizer has not done {updates} updates of this network")

    def restore(self, tensors: dict[str, Tensor], values: dict) -> None:
        """Restore the state that `tensors()` and `values()` returned."""
        self.model.load_state_dict(_below("model.", tensors))
        if self.average:
            self.average.module.load_state_dict(_below("average.", tensors))
        state: dict[int, dict] = {}
        for name, value in _below("optimizer.", tensors).items():
            index, _, key = name.partition(".")
            state.setdefault(int(index), {})[key] = value
        self.optimizer.load_state_dict(self.optimizer.state_dict() | {"state": state})
        torch.set_rng_state(tensors["random"])
        if "random.cuda" in tensors and torch.cuda.is_initialized():
            torch.cuda.set_rng_state(tensors["random.cuda"])
        for name, value in values.items():
            setattr(self, name, value)


@contextmanager
def deterministic(on: bool) -> Iterator[None]:
    """With `on`, torch uses only operators that give the same bits every time. Raises MdwError at an operator that does not."""
    if not on:
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # torch requires it; read when cuBLAS starts
    settings = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    try:
        yield
    except RuntimeError as error:
        if "deterministic" not in str(error):
            raise
        raise MdwError(f"{str(error).partition('.')[0]}; give --set deterministic=false for this network") from None
    finally:
        torch.use_deterministic_algorithms(settings[0])
        torch.backends.cudnn.benchmark = settings[1]


def _kind(tensor: Tensor) -> tuple:
    return tensor.dtype, tuple(tensor.shape)


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
