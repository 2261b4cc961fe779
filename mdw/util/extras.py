"""The optional packages: which extra of pyproject.toml brings them, said before anything is done."""

from importlib.util import find_spec

from mdw.util.errors import MdwError


def need(extra: str, *modules: str) -> None:
    """Raises MdwError, with the pip command, unless all of `modules`, which `extra` installs, can be imported."""
    missing = [module for module in modules if find_spec(module) is None]
    if missing:
        what = f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not installed"
        raise MdwError(f"{what}; install the extra {extra} of mdw, from a checkout with pip install -e '.[{extra}]'")
