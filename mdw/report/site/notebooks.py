"""Where the notebooks lie: in an installed package beside its modules, in a checkout at its top."""

import shutil
from importlib.resources import files
from pathlib import Path

from mdw.util.errors import MdwError

_INSTALLED = Path(str(files("mdw"))) / "notebooks"
NOTEBOOKS = _INSTALLED if _INSTALLED.is_dir() else _INSTALLED.parents[1] / "notebooks"
KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}


def copy_notebooks(folder: str | Path) -> list[Path]:
    """Copies the notebooks into `folder`, made if need be; returns their paths there.

    Raises MdwError, before any is copied, where one of them is there already or there is none to copy.
    """
    sources = sorted(NOTEBOOKS.glob("*.ipynb"))
    if not sources:
        raise MdwError(f"there is no notebook in {NOTEBOOKS}; install mdw from a checkout or from its wheel")
    targets = [Path(folder) / source.name for source in sources]
    if there := [target for target in targets if target.exists()]:
        raise MdwError(f"{there[0]} is there already; give a folder without notebooks, or move it away")
    Path(folder).mkdir(parents=True, exist_ok=True)
    for source, target in zip(sources, targets, strict=True):
        shutil.copyfile(source, target)
    return targets


def without_outputs(model: dict, **_: object) -> None:
    """JupyterLab's hook before it saves a file: of a notebook it keeps what somebody wrote, not what running it left.

    model: as jupyter_server has it, with "type" and "content"; changed in place.
    """
    if model["type"] == "notebook":
        model["content"]["metadata"] = {"kernelspec": KERNEL}
        for cell in model["content"]["cells"]:
            cell["metadata"] = {name: value for name, value in cell["metadata"].items() if name == "tags"}
            if cell["cell_type"] == "code":
                cell |= {"outputs": [], "execution_count": None}
