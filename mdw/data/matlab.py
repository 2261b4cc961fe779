"""Reads MATLAB files and turns every problem with them into an MdwError."""

from collections.abc import Sequence
from pathlib import Path

import scipy.io

from mdw.util.errors import MdwError


def read_mat(file: str | Path, names: Sequence[str] | None = None) -> dict:
    """Reads the variables of a MATLAB file up to version 7; structs are `mat_struct` objects, nothing is squeezed.

    names: the needed variables, returned in this order; None: all. Raises MdwError, naming the file, where it is missing, of
    version 7.3, damaged, or lacks one of `names`.
    """
    file = Path(file)
    if not file.is_file():
        raise MdwError(f"{file} does not exist; check the path")
    try:
        content = scipy.io.loadmat(file, struct_as_record=False, variable_names=names)
    except NotImplementedError:
        raise MdwError(f"{file} is a MATLAB file of version 7.3; save it with `save -v7` first") from None
    except Exception as error:  # SciPy raises many kinds, down to TypeError and zlib's own
        raise MdwError(f"{file} is not a readable MATLAB file ({error}); fetch it again") from None
    for name in names or ():
        if name not in content:
            raise MdwError(f"{file} has no variable {name!r}; give another file")
    return {name: content[name] for name in names or content if not name.startswith("__")}
