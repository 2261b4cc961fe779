"""The optional packages: which extra of pyproject.toml brings them, said before anything is done."""

from importlib.util import find_spec

from mdw.util.errors import MdwError


def missing(*modules: str) -> list[str]:
    """Those of `modules` that are not installed."""
    return [module for module in modules if find_spec(module) is None]


def remedy(extra: str) -> str:
    """How to install what `extra` brings."""
    return f"install the extra {extra} of mdw, from a checkout with pip install -e '.[{extra}]'"


def need(extra: str, *modules: str) -> None:
    """Raises MdwError, with the pip command, unless all of `modules`, which `extra` installs, can be imported."""
    if absent := missing(*modules):
        raise MdwError(f"{' and '.join(absent)} {'is' if len(absent) == 1 else 'are'} not installed; {remedy(extra)}")
