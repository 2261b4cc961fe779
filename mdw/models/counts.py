"""What a network by name costs, kept between processes: counting loads torch and takes seconds, and networks seldom change."""

import hashlib
import json
from importlib.metadata import version
from pathlib import Path
from typing import cast

from mdw.models import create_model, fit_options
from mdw.util.errors import MdwError
from mdw.util.files import cache_folder, read_json, write_json


def counted(name: str, size: tuple[int, int], joints: int = 17, **options) -> dict[str, int]:
    """`mdw.models.complexity.measure` of the network `name` at `size` (height, width), counted at most once by this code.

    The cache goes by the text of every file in mdw/models and by the versions of torch and timm. Raises
    MdwError for an unknown network or option and for a size it does not take.
    """
    options = fit_options(name, options)
    path = cache_folder() / f"counts-{digest_of_networks()}.json"
    key = json.dumps([name, joints, options, size], default=str)
    known: dict[str, dict[str, int]]
    try:
        known = cast(dict, read_json(path)) if path.exists() else {}
    except MdwError:  # damaged: it is written anew
        known = {}
    if key not in known:
        import torch

        from mdw.models.complexity import measure

        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # one picture: on a busy machine more threads mostly wait for each other
        try:
            known = {**known, key: measure(create_model(name, joints, **options), size)}
        finally:
            torch.set_num_threads(threads)
        write_json(path, known)
    return known[key]


def digest_of_networks() -> str:
    """Of the text of every file in mdw/models and of the versions of torch and timm."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    said = "".join(file.read_text(encoding="utf-8") for file in files) + version("torch") + version("timm")
    return hashlib.sha256(said.encode()).hexdigest()[:16]
