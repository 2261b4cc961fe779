"""Every network by name. A name leads to a plain function; its file is read only when a network of it is built."""

import inspect
from collections.abc import Callable
from importlib import import_module

from mdw.errors import MdwError

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
    if name not in MODELS:
        raise MdwError(f"there is no model {name!r}; the models are {', '.join(MODELS)}")
    return getattr(import_module(MODELS[name]), name)


def create_model(name: str, num_joints: int = 17, **options):
    """Build a network with fresh weights from torch's global random state.

    Returns a torch module (N, 3, H, W) normalised RGB float32 -> (N, num_joints, H/4, W/4) heat maps. `options` are the
    keywords of the network's own function. Raises MdwError for an unknown name or option.
    """
    function = model_function(name)
    known = _options(function)
    unknown = [option for option in options if option not in known]
    if unknown:
        raise MdwError(f"{name} has no option {unknown[0]!r}; its options are {', '.join(known) or 'none'}")
    return function(num_joints=num_joints, **options)


def _options(function: Callable) -> list[str]:
    """Keyword names of a factory, through the one that its **options go to (`mdw_hrnet_18` -> `mdw_hrnet`)."""
    parameters = inspect.signature(function).parameters
    names = [n for n, p in parameters.items() if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        family = getattr(inspect.getmodule(function), function.__name__.rsplit("_", 1)[0])
        names = _options(family)
    return [n for n in names if n not in ("num_joints", "modules")]


def __getattr__(name: str):
    """`mdw.models.official` works after `import mdw`, and brings torch only then."""
    if name == "official":
        return import_module("mdw.models.official")
    raise AttributeError(f"module 'mdw.models' has no attribute {name!r}")
