"""Files that are either whole or absent: everything is written under a temporary name and renamed."""

import errno
import json
import os
import re
import stat
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from mdw.util.errors import MdwError


def write_bytes(path: str | Path, data: bytes) -> Path:
    """Write `data` to `path` atomically, making its folder. Raises MdwError where the place cannot be written."""
    path = Path(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")  # two writers never share a temporary file
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())  # a rename may reach the disk before the data does
        os.replace(temporary, path)
    except OSError as error:
        if temporary:
            discard(temporary)
        raise cannot_write(path, error) from None
    return path


def discard(path: Path) -> None:
    """Remove a file if it can be removed. Clean-up has nothing to say: the fault that led to it is the one to be told."""
    with suppress(OSError):
        path.unlink()


@contextmanager
def whole(path: str | Path) -> Iterator[Path]:
    """A temporary name beside `path`, with its ending, for whoever has to write a file himself, making its folder.

    The file becomes `path` when the block ends well; otherwise it is removed. Raises MdwError where it cannot be put there.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.{uuid.uuid4().hex[:8]}{path.suffix}")
    check_writable(path)
    try:
        yield temporary
        try:
            os.replace(temporary, path)
        except OSError as error:
            raise cannot_write(path, error) from None
    finally:
        discard(temporary)


def check_writable(path: str | Path) -> None:
    """Raise MdwError where `path` could not be written, before the work that fills it; makes its folder, writes nothing."""
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(path, error) from None
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        reason = "it is a folder" if path.is_dir() else "its folder is read-only"
        raise MdwError(f"cannot write {path}: {reason}; choose a place that can be written")


def cannot_write(path: str | Path, error: OSError) -> MdwError:
    """The sentence for a place that cannot be written: a full disk is to be emptied, any other place to be changed."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    remedy = "make room there and give the same command again" if full else "choose a place that can be written"
    return MdwError(f"cannot write {path}: {error.strerror or error}; {remedy}")


def cache_folder() -> Path:
    """Where what can be made again is kept between processes: $MDW_CACHE, else the user's cache.

    A temporary folder of this process where neither can be written.
    """
    try:
        chosen = Path(os.environ.get("MDW_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mdw")
        chosen.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=chosen):
            return chosen
    except (OSError, RuntimeError):  # RuntimeError: a user without a home and without an entry in passwd
        return Path(_own_folder().name)


@cache
def _own_folder() -> tempfile.TemporaryDirectory:
    """A folder that goes with this process."""
    return tempfile.TemporaryDirectory(prefix="mdw-")


def sweep(folder: str | Path) -> None:
    """Remove the temporary files that killed writers left in `folder`; to be called by its only writer."""
    for left in Path(folder).glob(".*.[0-9a-f]*"):
        if re.fullmatch(r"\..+\.[0-9a-f]{8}", left.name):
            discard(left)


def write_text(path: str | Path, text: str) -> Path:
    """Write `text` as UTF-8, atomically; see `write_bytes`."""
    return write_bytes(path, text.encode())


def read_bytes(path: str | Path) -> bytes:
    """What a file holds. Raises MdwError where it is missing, cannot be read or is none: a device or pipe may have no end."""
    path = Path(path)
    try:
        check_regular(path)
        return path.read_bytes()
    except MdwError:
        raise
    except FileNotFoundError:
        raise MdwError(f"{path} does not exist; check the path") from None
    except (OSError, ValueError) as error:  # ValueError: a name with a zero byte
        problem = getattr(error, "strerror", None) or error
        raise MdwError(f"cannot read {path}: {problem}; check the path and its permissions") from None


def check_regular(path: Path) -> None:
    """Raise MdwError where `path` is a device or a pipe, which may have no end; OSError where it is missing."""
    mode = path.stat().st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # opening a folder says what it is
        raise MdwError(f"{path} is no regular file but a device, pipe or socket; copy it into a file first")


def write_json(path: str | Path, value: object, indent: int | None = 1) -> Path:
    """Write `value` as JSON, atomically; see `write_bytes`. NaN is refused: it is not JSON."""
    return write_text(path, json.dumps(value, indent=indent, allow_nan=False) + "\n")


def read_json(path: str | Path) -> object:
    """Read a JSON file. Raises MdwError, naming the file, where it is missing or not JSON."""
    return parse_json(path, read_text(path))


def read_rows(path: str | Path) -> list[dict]:
    """Read a JSON file that holds a list of objects. Raises MdwError, naming the file, as `read_json` and for anything else."""
    rows = read_json(path)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise MdwError(f"{path} holds no list of objects; write it again, or remove it")
    return rows


def read_text(path: str | Path) -> str:
    """The text of a UTF-8 file, a byte order mark left out. Raises MdwError, naming the file, where it cannot be read."""
    path = Path(path)
    try:
        check_regular(path)
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        if path.is_symlink():
            raise MdwError(f"{path} is a link to nothing; fetch the file, as with dvc pull or git annex get") from None
        raise MdwError(f"{path} does not exist; check the path") from None
    except OSError as error:
        raise MdwError(f"cannot read {path}: {error.strerror}; check the path and its permissions") from None
    except UnicodeDecodeError as error:
        raise MdwError(f"{path} is no text in UTF-8 ({error}); fetch or write it again") from None


def parse_json(place: str | Path, text: str) -> object:
    """The value of a JSON text. Raises MdwError, naming its `place`, where it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:  # also a number or a nesting without end
        raise MdwError(f"{place} is not valid JSON ({error}); fetch or write it again") from None
