"""All networks by name. Each has a plain function, whose file is imported only when the network is built."""

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
    """Returns the names that `create_model` takes."""
    return list(MODELS)


def model_function(name: str) -> Callable:
    """Returns the function of a network. Raises MdwError, listing the names, for an unknown one."""
    if not isinstance(name, str) or name not in MODELS:
        raise unknown("there is no model", name, MODELS, "the models are")
    return getattr(import_module(MODELS[name]), name)


def network_name(model: str, options: dict) -> str:
    """Returns a network's name with the options of its variant, for readers: "mdw_hrnet_18 (cdc=False)"."""
    keywords = ", ".join(f"{name}={value}" for name, value in options.items())
    return f"{model} ({keywords})" if keywords else model


def create_model(name: str, /, num_joints: int = 17, **options):
    """Build a network with fresh weights from torch's global random state.

    Returns a torch module (N, 3, H, W) normalised RGB float32 -> (N, num_joints, H/4, W/4) heatmaps. `options` are the
    keywords of the network's own function. Raises MdwError for an unknown name or option and for a value out of range.
    """
    function, options = model_function(name), fit_options(name, options)
    return function(num_joints=fit("num_joints", num_joints, Annotated[int, Interval(ge=1, le=1000)], 17), **options)


def fit_options(name: str, options: dict) -> dict:
    """Returns the options of the network `name` converted to its function's annotations; no network is built.

    The network's file, and torch with it, is imported only where there are options, all with known names. Raises MdwError as
    `create_model`.
    """
    if name in MODELS:
        if not options:
            return {}
        if (keywords := _keywords(MODELS[name], name)) is not None:
            for option in options:
                if option not in keywords:
                    raise unknown(f"{name} has no option", option, keywords, "its options are")
    return fit_all(name, options, parameters(model_function(name)))


def _keywords(module: str, function: str) -> list[str] | None:
    """Returns the names of `parameters` from the module's source, without importing it; None where there is no source."""
    spec = find_spec(module)
    tree = ast.parse(Path(spec.origin).read_bytes()) if spec and spec.origin else ast.Module([], [])
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name == function:
            names = [arg.arg for arg in node.args.kwonlyargs]
            return _keywords(module, function.rpartition("_")[0]) if node.args.kwarg else names
    return None


def parameters(function: Callable) -> dict[str, inspect.Parameter]:
    """Returns the options of a network's function, or of the one that gets its **options (`mdw_hrnet_18` -> `mdw_hrnet`)."""
    signature = inspect.signature(function, eval_str=True).parameters
    if any(p.kind is p.VAR_KEYWORD for p in signature.values()):
        return parameters(getattr(inspect.getmodule(function), function.__name__.rsplit("_", 1)[0]))
    return {n: p for n, p in signature.items() if p.kind is p.KEYWORD_ONLY}


def __getattr__(name: str):
    """Makes `mdw.models.official` available after `import mdw`; torch is imported only when it is used."""
    if name == "official":
        return import_module("mdw.models.official")
    raise AttributeError(f"module 'mdw.models' has no attribute {name!r}")
