"""Reads and writes files. A written file is either complete or absent: it gets a temporary name first and is then renamed."""

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
    """Write `data` to `path` atomically, making its folder. Raises MdwError where `path` cannot be written."""
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
    """Remove a file if it can be removed. Errors are ignored: the one that led to the clean-up is reported instead."""
    with suppress(OSError):
        path.unlink()


@contextmanager
def whole(path: str | Path) -> Iterator[Path]:
    """Yields a temporary path beside `path`, with the same suffix, for code that writes the file itself; makes its folder.

    The file is renamed to `path` when the block ends without an error and removed otherwise. Raises MdwError where `path`
    cannot be written.
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
    """Raise MdwError where `path` cannot be written, before the work that would fill it; makes its folder, writes nothing."""
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(path, error) from None
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        reason = "it is a folder" if path.is_dir() else "its folder is read-only"
        raise MdwError(f"cannot write {path}: {reason}; choose a place that can be written")


def cannot_write(path: str | Path, error: OSError) -> MdwError:
    """Returns the error for a path that cannot be written: make room on a full disk, or choose another place."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    remedy = "make room there and give the same command again" if full else "choose a place that can be written"
    return MdwError(f"cannot write {path}: {error.strerror or error}; {remedy}")


def cache_folder() -> Path:
    """Returns the folder for files that can be made again: $MDW_CACHE, else the user's cache.

    Where neither can be written, it is a temporary folder of this process.
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
    """Returns a temporary folder that is removed when this process ends."""
    return tempfile.TemporaryDirectory(prefix="mdw-")


def sweep(folder: str | Path) -> None:
    """Remove the temporary files of killed writers from `folder`. Only the folder's one writer may call this."""
    for leftover in Path(folder).glob(".*.[0-9a-f]*"):
        if re.fullmatch(r"\..+\.[0-9a-f]{8}", leftover.name):
            discard(leftover)


def write_text(path: str | Path, text: str) -> Path:
    """Write `text` as UTF-8, atomically; see `write_bytes`."""
    return write_bytes(path, text.encode())


def read_bytes(path: str | Path) -> bytes:
    """Read a file's bytes. Raises MdwError where it is missing, unreadable, or a device or pipe, which may have no end."""
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
    """Read a JSON file that holds a list of objects. Raises MdwError as `read_json`, and for any other content."""
    rows = read_json(path)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise MdwError(f"{path} holds no list of objects; write it again, or remove it")
    return rows


def read_text(path: str | Path) -> str:
    """Read a UTF-8 text file without its byte order mark. Raises MdwError, naming the file, where it cannot be read."""
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
    """Returns the value of a JSON text. Raises MdwError, naming `place`, where the text is not JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:  # also too long a number and too deep a nesting
        raise MdwError(f"{place} is not valid JSON ({error}); fetch or write it again") from None
