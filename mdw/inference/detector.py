"""Where the people are: torchvision's detectors, with its weights for COCO."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from mdw.util.errors import MdwError


@dataclass(frozen=True)
class Detector:
    """A detection network of torchvision. `person` is the label it gives people, `threshold` the least score of a person."""

    model: nn.Module
    person: int
    threshold: float = 0.5
    device: str = "cpu"

    @torch.no_grad()
    def __call__(self, pictures: Sequence[np.ndarray]) -> list[np.ndarray]:
        """People in each picture, RGB uint8 (H, W, 3): (n, 5) float64: x, y, width, height in pixels, score; best first."""
        x = [torch.from_numpy(np.ascontiguousarray(p)).to(self.device).permute(2, 0, 1).float() / 255 for p in pictures]
        people = []
        for found in self.model(x):
            corners, scores = found["boxes"].double().cpu().numpy(), found["scores"].double().cpu().numpy()
            wide = (corners[:, 2:] > corners[:, :2]).all(axis=1)  # a box at the edge may have been clipped to a line
            kept = (found["labels"].cpu().numpy() == self.person) & (scores >= self.threshold) & wide
            boxes = np.column_stack([corners[:, :2], corners[:, 2:] - corners[:, :2], scores])[kept]
            people.append(boxes[np.argsort(-boxes[:, 4], kind="stable")])
        return people


def load_detector(name: str, threshold: float = 0.5, device: str = "cpu") -> Detector:
    """torchvision's detector called `name`, with its default weights, which torchvision fetches the first time and keeps.

    Raises MdwError for a name it does not have, where the weights cannot be fetched, and where torchvision is missing.
    """
    try:
        from torchvision import models
    except (ImportError, RuntimeError) as error:  # RuntimeError: a torchvision that was built for another torch
        raise MdwError(f"--detector needs torchvision ({error}); install the one that belongs to this torch") from None
    if not 0 <= threshold <= 1:
        raise MdwError(f"the detector's threshold must be a score from 0 to 1, not {threshold}")
    names = models.list_models(module=models.detection)
    if name not in names:
        raise MdwError(f"torchvision has no detector {name!r}; give --detector one of {', '.join(names)}")
    weights = models.get_model_weights(name).DEFAULT
    try:
        model = models.get_model(name, weights=weights)
    except (OSError, EOFError, RuntimeError) as error:  # no connection, a full disk, a file that is not the one expected
        folder = f"{torch.hub.get_dir()}/checkpoints"
        raise MdwError(f"the weights of {name} cannot be had ({error}); put {weights.url} into {folder} yourself") from None
    labels = weights.meta["categories"]
    return Detector(model.eval().to(device), labels.index("person"), threshold, device)
