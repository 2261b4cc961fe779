"""mdw: rebuilds, measures and reports the human-pose network MDW-HRNet and every network it is compared with.

Importing this package is fast: torch is imported only when a network is built.
"""

import sys
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec

from mdw.models import create_model, list_models
from mdw.util.errors import MdwError

__version__ = "0.1.0"
__all__ = ["MdwError", "create_model", "list_models", "predict", "__version__"]

_ROOMS = ("data", "models", "pose", "report")
_KNOWN_AS = {  # older names, which `import mdw.NAME` and `mdw.NAME` still find
    "complexity": "mdw.models.complexity",
    "computation": "mdw.backends.choose",
    "evaluate": "mdw.inference.evaluate",
    "prediction": "mdw.inference.predict",
    "recipes": "mdw.training.recipes",
    "runs": "mdw.training.runs",
    "studies": "mdw.experiments.studies",
    "train": "mdw.training.train",
    "weights": "mdw.models.weights",
}


class _Known(MetaPathFinder, Loader):
    """Finds the modules of `_KNOWN_AS` by both names, as the same module."""

    def find_spec(self, name, path, target=None):
        package, _, last = name.rpartition(".")
        return ModuleSpec(name, self) if package == "mdw" and last in _KNOWN_AS else None

    def exec_module(self, module):
        sys.modules[module.__name__] = import_module(_KNOWN_AS[module.__name__.rpartition(".")[2]])


sys.meta_path.append(_Known())  # the last finder


def predict(image, weights=None, boxes=None, **options) -> list[dict]:
    """Returns the people in an image: `mdw.predict("photo.jpg")`; see `mdw.inference.predict.predict`."""
    from mdw.inference.predict import predict

    return predict(image, weights, boxes, **options)


def __getattr__(name: str):
    """Makes `mdw.complexity` and similar names available after `import mdw`; they are imported on first use."""
    if name in _ROOMS or name in _KNOWN_AS:
        return import_module(f"mdw.{name}")
    raise AttributeError(f"module 'mdw' has no attribute {name!r}")
