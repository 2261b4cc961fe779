"""Finds people with torchvision's detectors and its weights for COCO."""

import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from mdw.util.errors import MdwError
from mdw.util.words import unknown

# The detector of `mdw predict`; docs/measurements.md has its time and those of others.
DEFAULT = "fasterrcnn_mobilenet_v3_large_fpn"


@dataclass(frozen=True)
class Detector:
    """A detection network of torchvision, with its name there. `person`: the label of people; `threshold`: lowest score."""

    model: nn.Module
    person: int
    threshold: float = 0.5
    device: str = "cpu"
    name: str = "detector"

    @torch.no_grad()
    def __call__(self, images: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Returns the people in each image, RGB uint8 (H, W, 3): (n, 5) float64 x, y, width, height (px), score; best first."""
        x = [torch.from_numpy(np.ascontiguousarray(p)).to(self.device).permute(2, 0, 1).float() / 255 for p in images]
        people = []
        for detections in self.model(x):
            corners, scores = detections["boxes"].double().cpu().numpy(), detections["scores"].double().cpu().numpy()
            has_area = (corners[:, 2:] > corners[:, :2]).all(axis=1)  # a box at the edge may have been clipped to a line
            is_person = (detections["labels"].cpu().numpy() == self.person) & (scores >= self.threshold) & has_area
            boxes = np.column_stack([corners[:, :2], corners[:, 2:] - corners[:, :2], scores])[is_person]
            people.append(boxes[np.argsort(-boxes[:, 4], kind="stable")])
        return people


def load_detector(name: str, threshold: float = 0.5, device: str = "cpu") -> Detector:
    """Returns torchvision's detector `name` with its default weights, which torchvision downloads the first time and caches.

    Raises MdwError for an unknown name, where the weights cannot be downloaded, and where torchvision is missing.
    """
    models = _torchvision()
    if not 0 <= threshold <= 1:
        raise MdwError(f"the detector's threshold must be a score from 0 to 1, not {threshold}")
    names = models.list_models(module=models.detection)
    if name not in names:
        raise unknown("torchvision has no detector", name, names, "give --detector one of")
    weights = models.get_model_weights(name).DEFAULT
    file, _ = weights_of(name)
    try:
        with redirect_stdout(sys.stderr):  # torch prints what it downloads; stdout may be JSON
            model = models.get_model(name, weights=weights)
    except (OSError, EOFError, RuntimeError) as error:  # no connection, a full disk, another file than expected
        reason = str(error).partition("\n")[0]
        raise MdwError(
            f"the weights of {name} cannot be had ({reason}); put {weights.url} into {file.parent} yourself"
        ) from None
    labels = weights.meta["categories"]
    return Detector(model.eval().to(device), labels.index("person"), threshold, device, name)


def weights_of(name: str) -> tuple[Path, str]:
    """Returns the path where torch caches the weights of torchvision's detector `name`, and their size and address as text.

    Raises MdwError where torchvision is missing.
    """
    weights = _torchvision().get_model_weights(name).DEFAULT
    path = Path(torch.hub.get_dir(), "checkpoints", weights.url.rpartition("/")[2])
    return path, f"{weights.meta['_file_size']:.0f} MB from {weights.url}"


def _torchvision():
    try:
        from torchvision import models
    except (ImportError, RuntimeError) as error:  # RuntimeError: a torchvision that was built for another torch
        raise MdwError(f"finding people needs torchvision ({error}); install the one that belongs to this torch") from None
    return models
