"""Counts of networks by name, cached between processes: counting imports torch and takes seconds."""

import hashlib
import json
from importlib.metadata import version
from pathlib import Path
from typing import cast

from mdw.models import create_model, fit_options
from mdw.util.errors import MdwError
from mdw.util.files import cache_folder, read_json, write_json

PEER_UNIT = 2**20  # the unit of Lite- and Dite-HRNet's figures
LARGE = ("hrnet_w", "simple_baseline")  # prefixes of networks with ten times as many parameters as the others


def counted(name: str, size: tuple[int, int], joints: int = 17, **options) -> dict[str, int]:
    """Returns `mdw.models.complexity.measure` of the network `name` at `size` (height, width), from the cache if possible.

    The cache depends on the text of every file in mdw/models and on the versions of torch and timm. Raises MdwError for an
    unknown network or option and for a size it does not take.
    """
    fit_options(name, {})  # an unknown network is refused before torch is imported
    path = cache_folder() / f"counts-{digest_of_networks()}.json"
    key = json.dumps([name, joints, options, size], sort_keys=True, default=str)
    if key not in (cache := _read_cache(path)):
        result = _count(name, size, joints, options)
        cache = _read_cache(path) | {key: result}  # another process may have counted meanwhile
        write_json(path, cache)
    return cache[key]


def _read_cache(path: Path) -> dict[str, dict[str, int]]:
    try:
        return cast(dict, read_json(path)) if path.exists() else {}
    except MdwError:  # damaged: it is written again
        return {}


def _count(name: str, size: tuple[int, int], joints: int, options: dict) -> dict[str, int]:
    """Counts a large network on the meta device, without computing, and a small one on the CPU, which is faster for it."""
    import torch

    from mdw.models.complexity import measure

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # for one image more threads mostly wait for each other
    try:
        with torch.device("meta" if name.startswith(LARGE) else "cpu"):
            return measure(create_model(name, joints, **options), size)
    finally:
        torch.set_num_threads(threads)


def digest_of_networks() -> str:
    """Returns a hash of the text of every file in mdw/models and of the versions of torch and timm."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    content = "".join(file.read_text(encoding="utf-8") for file in files) + version("torch") + version("timm")
    return hashlib.sha256(content.encode()).hexdigest()[:16]
