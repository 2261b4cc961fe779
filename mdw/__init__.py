"""mdw: the human-pose network MDW-HRNet and every network it is compared with, rebuilt, measured and reported.

Importing this package is cheap: torch is loaded when a network is built, not before.
"""

from importlib import import_module

from mdw.errors import MdwError
from mdw.models import create_model, list_models

__version__ = "0.1.0"
__all__ = ["MdwError", "create_model", "list_models", "predict", "__version__"]

_ROOMS = ("complexity", "data", "evaluate", "pose", "prediction", "recipes", "report", "runs", "studies", "train", "weights")


def predict(image, weights=None, boxes=None, **options) -> list[dict]:
    """People in a picture, in one line: `mdw.predict("photo.jpg")`; see `mdw.prediction.predict`."""
    from mdw.prediction import predict

    return predict(image, weights, boxes, **options)


def __getattr__(name: str):
    """`mdw.complexity` and its like work after `import mdw`, and are loaded only then."""
    if name in _ROOMS:
        return import_module(f"mdw.{name}")
    raise AttributeError(f"module 'mdw' has no attribute {name!r}")
