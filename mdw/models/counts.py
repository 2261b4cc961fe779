"""What a network by name costs, kept between processes: counting loads torch and takes seconds, and networks seldom change."""

import hashlib
import json
from importlib.metadata import version
from pathlib import Path
from typing import cast

from mdw.models import create_model, fit_options
from mdw.util.errors import MdwError
from mdw.util.files import cache_folder, read_json, write_json

PEER_UNIT = 2**20  # of the figures that Lite- and Dite-HRNet print
LARGE = ("hrnet_w", "simple_baseline")  # how the names of the networks begin that have ten times the others' parameters


def counted(name: str, size: tuple[int, int], joints: int = 17, **options) -> dict[str, int]:
    """`mdw.models.complexity.measure` of the network `name` at `size` (height, width), counted at most once by this code.

    The cache goes by the text of every file in mdw/models and by the versions of torch and timm. Raises
    MdwError for an unknown network or option and for a size it does not take.
    """
    fit_options(name, {})  # an unknown network is refused before torch is loaded
    path = cache_folder() / f"counts-{digest_of_networks()}.json"
    key = json.dumps([name, joints, options, size], sort_keys=True, default=str)
    if key not in (known := _known(path)):
        found = _count(name, size, joints, options)
        known = _known(path) | {key: found}  # another process may have counted meanwhile
        write_json(path, known)
    return known[key]


def _known(path: Path) -> dict[str, dict[str, int]]:
    try:
        return cast(dict, read_json(path)) if path.exists() else {}
    except MdwError:  # damaged: it is written anew
        return {}


def _count(name: str, size: tuple[int, int], joints: int, options: dict) -> dict[str, int]:
    """A large network is not computed, on the meta device; a small one of many operators is computed faster than that."""
    import torch

    from mdw.models.complexity import measure

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # one image: on a busy machine more threads mostly wait for each other
    try:
        with torch.device("meta" if name.startswith(LARGE) else "cpu"):
            return measure(create_model(name, joints, **options), size)
    finally:
        torch.set_num_threads(threads)


def digest_of_networks() -> str:
    """Of the text of every file in mdw/models and of the versions of torch and timm."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    said = "".join(file.read_text(encoding="utf-8") for file in files) + version("torch") + version("timm")
    return hashlib.sha256(said.encode()).hexdigest()[:16]
