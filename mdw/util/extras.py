"""Checks for optional packages before any work is done; errors name the extra of pyproject.toml that installs them."""

from importlib.util import find_spec

from mdw.util.errors import MdwError


def missing(*modules: str) -> list[str]:
    """Returns those of `modules` that are not installed."""
    return [module for module in modules if find_spec(module) is None]


def remedy(extra: str) -> str:
    """Returns the sentence that tells how to install `extra`."""
    return f"install the extra {extra} of mdw, from a checkout with pip install -e '.[{extra}]'"


def need(extra: str, *modules: str) -> None:
    """Raises MdwError, with the pip command, unless all `modules` are installed; `extra` brings them."""
    if absent := missing(*modules):
        raise MdwError(f"{' and '.join(absent)} {'is' if len(absent) == 1 else 'are'} not installed; {remedy(extra)}")
