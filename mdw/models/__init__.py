"""Every network by name. A name leads to a plain function; its file is read only when a network of it is built."""

import ast
import inspect
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

from annotated_types import Interval

from mdw.util.typed import fit, fit_all
from mdw.util.words import unknown

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
        raise unknown("there is no model", name, MODELS, "the models are")
    return getattr(import_module(MODELS[name]), name)


def network_name(model: str, options: dict) -> str:
    """A network and the keywords that make it a variant, for a reader: "mdw_hrnet_18 (cdc=False)"."""
    said = ", ".join(f"{name}={value}" for name, value in options.items())
    return f"{model} ({said})" if said else model


def create_model(name: str, /, num_joints: int = 17, **options):
    """Build a network with fresh weights from torch's global random state.

    Returns a torch module (N, 3, H, W) normalised RGB float32 -> (N, num_joints, H/4, W/4) heatmaps. `options` are the
    keywords of the network's own function. Raises MdwError for an unknown name or option and for a value out of range.
    """
    function, options = model_function(name), fit_options(name, options)
    return function(num_joints=fit("num_joints", num_joints, Annotated[int, Interval(ge=1, le=1000)], 17), **options)


def fit_options(name: str, options: dict) -> dict:
    """The options of the network `name` as its function's annotations have them; no network is built.

    Only where there are options its file is imported, and torch with it; a name that it does not take is refused before.
    Raises MdwError as `create_model`.
    """
    if name in MODELS:
        if not options:
            return {}
        if (known := _keywords(MODELS[name], name)) is not None:
            for option in options:
                if option not in known:
                    raise unknown(f"{name} has no option", option, known, "its options are")
    return fit_all(name, options, parameters(model_function(name)))


def _keywords(module: str, function: str) -> list[str] | None:
    """The names of `parameters` as the module's source has them, which is not imported; None where it has no such text."""
    place = find_spec(module)
    tree = ast.parse(Path(place.origin).read_bytes()) if place and place.origin else ast.Module([], [])
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name == function:
            names = [arg.arg for arg in node.args.kwonlyargs]
            return _keywords(module, function.rpartition("_")[0]) if node.args.kwarg else names
    return None


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
