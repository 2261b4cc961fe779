"""The ways that `mdw bench` compares: what the official repositories do, what is done here, and for use ONNX Runtime.

`prepare` is the only thing that the measurement knows of them. Another way, for another device, is another function like
`reference` and `tuned` below.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from copy import deepcopy
from dataclasses import dataclass, replace
from itertools import count
from unittest.mock import patch

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader

from mdw.backends import cuda
from mdw.backends.choose import FOR_USE, choose, for_use, switch
from mdw.backends.onnx import OnnxNetwork
from mdw.data.augment import augment
from mdw.data.sample import Dataset
from mdw.data.synthetic import people
from mdw.data.warp import crop, joints_to_crop, normalise
from mdw.models import create_model, fusion, resize
from mdw.pose.heatmap import encode
from mdw.training.device_batches import training_batches
from mdw.training.recipes import Recipe
from mdw.training.step import Batch, backward
from mdw.util.words import unknown

MODES = FOR_USE[1:]  # all but auto


@dataclass
class Way:
    """A network made ready in one mode. Everything below is to be called inside `active()`.

    gradient(batch) computes the loss and the gradients, update() applies them, infer(crops) gives heatmaps; batches is an
    endless iterator of training batches as this mode makes them, on the host or the device, which networks may share. A way
    without an optimizer cannot train.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer | None
    infer: Callable[[Tensor], Tensor]
    batches: Iterator[Batch]
    active: Callable[[], AbstractContextManager] = nullcontext
    backward: Callable[..., Tensor] = backward  # as `mdw.training.step` has it, or what takes its place

    def gradient(self, batch: Batch) -> float:
        assert self.optimizer is not None
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.backward(self.model, batch, 0.5, 1.0)
        return loss.item()  # the official loops log it at every step

    def update(self) -> None:
        assert self.optimizer is not None
        self.optimizer.step()

    def held(self) -> list[Tensor]:
        """The tensors that live between two steps."""
        of_steps = self.optimizer.state.values() if self.optimizer is not None else ()
        states = [value for state in of_steps for value in state.values() if isinstance(value, Tensor)]
        parameters = list(self.model.parameters())
        return [*parameters, *(p.grad for p in parameters if p.grad is not None), *self.model.buffers(), *states]


def batches(mode: str, recipe: Recipe, dataset: Dataset, device: str) -> Iterator[Batch]:
    """Training batches of `dataset` as `mode` makes them, without end. Raises MdwError for an unknown mode."""
    if mode not in MODES:
        raise unknown("there is no mode", mode, MODES, "the modes are")
    return _loaded(dataset, recipe) if mode == "reference" else _made(dataset, recipe, device)


def prepare(
    mode: str,
    name: str,
    options: dict,
    joints: int,
    made: Iterator[Batch],
    device: str,
    size: tuple[int, int] = (256, 192),
) -> Way:
    """The network `name` in `mode`, with equal weights in every mode, ready to train on the batches `made` of `mode`.

    `size` (height, width) of the images, which "onnx" needs, by which no network trains.
    """
    torch.manual_seed(0)
    model = create_model(name, joints, **options).to(device)
    if mode == "onnx":
        return onnx(model, made, size)
    return {"reference": reference, "tuned": tuned}[mode](model, made, device)


def reference(model: nn.Module, made: Iterator[Batch], device: str) -> Way:
    """What the official repositories do: eager float32, NCHW, torch's own gradients, Adam, torch's DataLoader."""
    still = deepcopy(model).eval()
    return Way(
        model.train(),
        torch.optim.Adam(model.parameters(), 1e-4),
        _without_gradient(still),
        made,
        _torch_resize,
    )


def tuned(model: nn.Module, made: Iterator[Batch], device: str) -> Way:
    """On a CPU what `mdw train` and `mdw predict` do: our kernels where they work, fused Adam, batches made at once.

    On a GPU the training of `mdw train --backend tuned --set precision=bfloat16`, and an inference compiled and recorded
    alike, which no other command has.
    """
    if torch.device(device).type == "cuda":
        backward, infer = cuda.Backward(model.train(), cuda.Settings()), cuda.Inference(deepcopy(model), cuda.Settings())
        optimizer = torch.optim.Adam(model.parameters(), 1e-4, fused=True)
        return Way(model, optimizer, infer, made, backward=backward)
    backend = choose("auto", device)
    still = for_use(deepcopy(model), backend)
    optimizer = torch.optim.Adam(model.parameters(), 1e-4, fused=True)
    return Way(switch(model.train(), backend), optimizer, _without_gradient(still), made)


def onnx(model: nn.Module, made: Iterator[Batch], size: tuple[int, int]) -> Way:
    """ONNX Runtime with the network's own export, kept from one bench to the next; its memory is freed between its turns."""
    network = OnnxNetwork(model.eval(), size)

    @contextmanager
    def active() -> Iterator[None]:
        try:
            yield
        finally:
            network.close()

    return Way(model, None, network, made, active)


def _without_gradient(model: nn.Module) -> Callable[[Tensor], Tensor]:
    return torch.no_grad()(model)


@contextmanager
def _torch_resize() -> Iterator[None]:
    """torch's own gradient of bilinear enlargement, which every official network uses; ours is faster."""

    def bilinear(x: Tensor, size: tuple[int, int], align_corners: bool = False) -> Tensor:
        return F.interpolate(x, size=size, mode="bilinear", align_corners=align_corners)

    with ExitStack() as stack:
        for module in (fusion, resize):
            stack.enter_context(patch.object(module, "bilinear", bilinear))
        yield


class PerSample(torch.utils.data.Dataset):
    """Training samples one at a time, as the official data sets make them: read, augment, warp, normalise, encode."""

    def __init__(self, dataset: Dataset, recipe: Recipe):
        self.dataset, self.recipe = dataset, recipe

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        recipe, person = self.recipe, self.dataset[index]
        size, image = recipe.input_size, person.pixels()
        told = person.center, person.scale, person.joints, person.visible, image.shape[1], self.dataset.joints
        a = augment(*told, size, recipe.augmentation, np.random.default_rng())
        joints = joints_to_crop(a.joints, a.visible, a.center, a.scale, float(a.rotation), size)
        target, weight = encode(joints, a.visible, size, recipe.heatmap_size, recipe.sigma)
        return normalise(crop(image, a.center, a.scale, float(a.rotation), size, bool(a.flip))), target, weight


def _alone(worker: int) -> None:
    cv2.setNumThreads(0)  # as mmpose does


def _loaded(dataset: Dataset, recipe: Recipe) -> Iterator[Batch]:
    workers = min(4, os.cpu_count() or 1)
    loader = DataLoader(
        PerSample(dataset, recipe),
        recipe.batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        worker_init_fn=_alone,
        persistent_workers=True,
        pin_memory=torch.cuda.is_available(),
    )
    while True:
        yield from map(tuple, loader)


def _made(dataset: Dataset, recipe: Recipe, device: str) -> Iterator[Batch]:
    source = training_batches(dataset, recipe, 0, device)
    for epoch in count():
        yield from source.epoch(epoch)


@dataclass(frozen=True)
class Stored:
    """An image kept as a JPEG in memory: call it for RGB uint8 (h, w, 3)."""

    jpeg: bytes

    def __call__(self) -> np.ndarray:
        image = cv2.imdecode(np.frombuffer(self.jpeg, np.uint8), cv2.IMREAD_COLOR)
        assert image is not None, "these bytes are cv2.imencode's"
        return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def drawn(aspect: float, images: int = 48) -> Dataset:
    """Synthetic people as JPEG images of 384 x 512 pixels in memory, so that a sample costs what one of a photo's crop does."""
    source = people(images, size=(384, 512), aspect=aspect)

    def stored(image: np.ndarray) -> Stored:
        return Stored(cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes())

    return Dataset("people", source.joints, tuple(replace(s, image=stored(s.pixels())) for s in source.samples))
