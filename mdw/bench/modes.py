"""The modes that `mdw bench` compares: as in the official repositories, as in mdw, and ONNX Runtime for inference.

The measurement only calls `prepare`. A mode for another device is another function like `reference` and `tuned` below.
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
    """A network prepared for one mode. All methods must be called inside `active()`.

    gradient(batch) computes the loss and the gradients, update() applies them, infer(crops) returns heatmaps; batches is an
    endless iterator of this mode's training batches, on the host or the device, possibly the same for several networks. A way
    without an optimizer cannot train.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer | None
    infer: Callable[[Tensor], Tensor]
    batches: Iterator[Batch]
    active: Callable[[], AbstractContextManager] = nullcontext
    backward: Callable[..., Tensor] = backward  # that of `mdw.training.step` or its replacement

    def gradient(self, batch: Batch) -> float:
        assert self.optimizer is not None
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.backward(self.model, batch, 0.5, 1.0)
        return loss.item()  # the official loops log it at every step

    def update(self) -> None:
        assert self.optimizer is not None
        self.optimizer.step()

    def held(self) -> list[Tensor]:
        """Returns the tensors that live between two steps."""
        of_steps = self.optimizer.state.values() if self.optimizer is not None else ()
        states = [value for state in of_steps for value in state.values() if isinstance(value, Tensor)]
        parameters = list(self.model.parameters())
        return [*parameters, *(p.grad for p in parameters if p.grad is not None), *self.model.buffers(), *states]


def batches(mode: str, recipe: Recipe, dataset: Dataset, device: str) -> Iterator[Batch]:
    """Returns the endless training batches of `dataset` as `mode` makes them. Raises MdwError for an unknown mode."""
    if mode not in MODES:
        raise unknown("there is no mode", mode, MODES, "the modes are")
    return _loaded(dataset, recipe) if mode == "reference" else _training_batches(dataset, recipe, device)


def prepare(
    mode: str,
    name: str,
    options: dict,
    joints: int,
    loader: Iterator[Batch],
    device: str,
    size: tuple[int, int] = (256, 192),
) -> Way:
    """Returns the network `name` in `mode`, with equal weights in every mode, ready to train on the batches of `loader`.

    `size`: (height, width) of the images, needed by "onnx", which cannot train.
    """
    torch.manual_seed(0)
    model = create_model(name, joints, **options).to(device)
    if mode == "onnx":
        return onnx(model, loader, size)
    return {"reference": reference, "tuned": tuned}[mode](model, loader, device)


def reference(model: nn.Module, loader: Iterator[Batch], device: str) -> Way:
    """Prepares the official repositories' way: eager float32, NCHW, torch's own gradients, Adam, torch's DataLoader."""
    inference_model = deepcopy(model).eval()
    return Way(
        model.train(),
        torch.optim.Adam(model.parameters(), 1e-4),
        _without_gradient(inference_model),
        loader,
        _torch_resize,
    )


def tuned(model: nn.Module, loader: Iterator[Batch], device: str) -> Way:
    """Prepares mdw's way. On a CPU that of `mdw train` and `mdw predict`: our kernels where they work, fused Adam.

    On a GPU the training of `mdw train --backend tuned --set precision=bfloat16`, and an inference that is compiled and
    recorded in the same way, which no other command has.
    """
    if torch.device(device).type == "cuda":
        backward, infer = cuda.Backward(model.train(), cuda.Settings()), cuda.Inference(deepcopy(model), cuda.Settings())
        optimizer = torch.optim.Adam(model.parameters(), 1e-4, fused=True)
        return Way(model, optimizer, infer, loader, backward=backward)
    backend = choose("auto", device)
    inference_model = for_use(deepcopy(model), backend)
    optimizer = torch.optim.Adam(model.parameters(), 1e-4, fused=True)
    return Way(switch(model.train(), backend), optimizer, _without_gradient(inference_model), loader)


def onnx(model: nn.Module, loader: Iterator[Batch], size: tuple[int, int]) -> Way:
    """Prepares ONNX Runtime with the network's own export, which is cached; its memory is freed between its turns."""
    network = OnnxNetwork(model.eval(), size)

    @contextmanager
    def active() -> Iterator[None]:
        try:
            yield
        finally:
            network.close()

    return Way(model, None, network, loader, active)


def _without_gradient(model: nn.Module) -> Callable[[Tensor], Tensor]:
    return torch.no_grad()(model)


@contextmanager
def _torch_resize() -> Iterator[None]:
    """Uses torch's own gradient of bilinear upsampling, as every official network does; ours is faster."""

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
        arguments = person.center, person.scale, person.joints, person.visible, image.shape[1], self.dataset.joints
        a = augment(*arguments, size, recipe.augmentation, np.random.default_rng())
        joints = joints_to_crop(a.joints, a.visible, a.center, a.scale, float(a.rotation), size)
        target, weight = encode(joints, a.visible, size, recipe.heatmap_size, recipe.sigma)
        return normalise(crop(image, a.center, a.scale, float(a.rotation), size, bool(a.flip))), target, weight


def _one_thread(worker: int) -> None:
    cv2.setNumThreads(0)  # as mmpose does


def _loaded(dataset: Dataset, recipe: Recipe) -> Iterator[Batch]:
    workers = min(4, os.cpu_count() or 1)
    loader = DataLoader(
        PerSample(dataset, recipe),
        recipe.batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        worker_init_fn=_one_thread,
        persistent_workers=True,
        pin_memory=torch.cuda.is_available(),
    )
    while True:
        yield from map(tuple, loader)


def _training_batches(dataset: Dataset, recipe: Recipe, device: str) -> Iterator[Batch]:
    source = training_batches(dataset, recipe, 0, device)
    for epoch in count():
        yield from source.epoch(epoch)


@dataclass(frozen=True)
class Stored:
    """An image stored as JPEG in memory; calling it returns RGB uint8 (h, w, 3)."""

    jpeg: bytes

    def __call__(self) -> np.ndarray:
        image = cv2.imdecode(np.frombuffer(self.jpeg, np.uint8), cv2.IMREAD_COLOR)
        assert image is not None, "these bytes are cv2.imencode's"
        return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def drawn(aspect: float, images: int = 48) -> Dataset:
    """Returns synthetic people as JPEG images of 384 x 512 pixels in memory, which cost as much to load as crops of photos."""
    source = people(images, size=(384, 512), aspect=aspect)

    def stored(image: np.ndarray) -> Stored:
        return Stored(cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes())

    return Dataset("people", source.joints, tuple(replace(s, image=stored(s.pixels())) for s in source.samples))
