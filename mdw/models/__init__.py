"""Every network by name. A name leads to a plain function; its file is read only when a network of it is built."""

import inspect
from collections.abc import Callable
from importlib import import_module
from typing import Annotated

from annotated_types import Interval

from mdw.util.errors import MdwError
from mdw.util.typed import fit, fit_all

MODELS = {  # name -> module that holds the function of that name
    "mdw_hrnet_18": "mdw.models.mdw_hrnet",
    "mdw_hrnet_30": "mdw.models.mdw_hrnet",
    "lite_hrnet_18": "mdw.models.lite_hrnet",
    "lite_hrnet_30": "mdw.models.lite_hrnet",
    "naive_lite_hrnet_18": "mdw.models.lite_hrnet",
    "wider_naive_lite_hrnet_18": "mdw.models.lite_hrnet",
    "dite_hrnet_18": "mdw.models.dite_hrnet",
    "dite_hrnet_30": "mdw.models.dite_hrnet",
    "hrnet_w32": "mdw.models.hrnet",
    "hrnet_w48": "mdw.models.hrnet",
    "small_hrnet": "mdw.models.hrnet",
    "simple_baseline_50": "mdw.models.simple_baseline",
    "simple_baseline_101": "mdw.models.simple_baseline",
    "simple_baseline_152": "mdw.models.simple_baseline",
    "mobilenetv2": "mdw.models.simple_baseline",
    "mobilenetv3": "mdw.models.simple_baseline",
    "shufflenetv2": "mdw.models.simple_baseline",
}


def list_models() -> list[str]:
    """The names `create_model` knows."""
    return list(MODELS)


def model_function(name: str) -> Callable:
    """The function behind a name. Raises MdwError, listing the names, for one that is not there."""
    if not isinstance(name, str) or name not in MODELS:
        raise MdwError(f"there is no model {name!r}; the models are {', '.join(MODELS)}")
    return getattr(import_module(MODELS[name]), name)


def create_model(name: str, /, num_joints: int = 17, **options):
    """Build a network with fresh weights from torch's global random state.

    Returns a torch module (N, 3, H, W) normalised RGB float32 -> (N, num_joints, H/4, W/4) heat maps. `options` are the
    keywords of the network's own function. Raises MdwError for an unknown name or option and for a value out of range.
    """
    function, options = model_function(name), fit_options(name, options)
    return function(num_joints=fit("num_joints", num_joints, Annotated[int, Interval(ge=1, le=1000)], 17), **options)


def fit_options(name: str, options: dict) -> dict:
    """The options of the network `name` as its function's annotations have them; no network is built.

    Only where there are options its file is read, and torch with it. Raises MdwError as `create_model`.
    """
    if not options and name in list_models():
        return {}
    return fit_all(name, options, parameters(model_function(name)))


def parameters(function: Callable) -> dict[str, inspect.Parameter]:
    """Options of a network's function, through the one that its **options go to (`mdw_hrnet_18` -> `mdw_hrnet`)."""
    found = inspect.signature(function, eval_str=True).parameters
    if any(p.kind is p.VAR_KEYWORD for p in found.values()):
        return parameters(getattr(inspect.getmodule(function), function.__name__.rsplit("_", 1)[0]))
    return {n: p for n, p in found.items() if p.kind is p.KEYWORD_ONLY}


def __getattr__(name: str):
    """`mdw.models.official` works after `import mdw`, and brings torch only then."""
    if name == "official":
        return import_module("mdw.models.official")
    raise AttributeError(f"module 'mdw.models' has no attribute {name!r}")
