"""mdw: the human-pose network MDW-HRNet and every network it is compared with, rebuilt, measured and reported.

Importing this package is cheap: torch is loaded when a network is built, not before.
"""

from mdw.errors import MdwError
from mdw.models import create_model, list_models

__version__ = "0.1.0"
__all__ = ["MdwError", "create_model", "list_models", "__version__"]
