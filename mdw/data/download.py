"""Downloads data sets from their public addresses into a checked folder, and checks such a folder again.

root/NAME.zip.part, .part.json    an unfinished transfer; a later call continues it
root/NAME.zip                     a complete archive, its size and checksum checked; also one that was put there by hand
root/.mdw/NAME.zip.csv            its unpacked files: path, bytes, crc32
"""

import contextlib
import csv
import io
import os
import shutil
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pooch
from filelock import FileLock, Timeout
from tqdm import tqdm

from mdw.data.archives import CHUNK, unpack
from mdw.data.fetch import check_space, fetch, without_password
from mdw.data.sources import Archive, Manual, Source
from mdw.util.errors import MdwError, printable
from mdw.util.files import read_json, write_text


@dataclass(frozen=True)
class CheckResult:
    """The result of checking one part: `state` is "ok", "absent" or "broken", `checked` says what was compared."""

    part: str
    file: str
    state: str
    checked: str


def download(
    source: Source,
    root: str | Path,
    mirror: str | None = None,
    keep_archives: bool = False,
    tell: Callable[[str], None] = lambda line: None,
    **options,
) -> None:
    """Fetch, check and unpack the archives of `source` into `root`, except those that are there already.

    `mirror` replaces scheme, host and port of every address and may add a folder; the path stays. An archive is deleted
    after unpacking unless `keep_archives`. `tell` gets a line for each archive and for each missing file that no archive has;
    `options` (tries, wait) go to `fetch`. It may be stopped at any time and called again. Raises MdwError where the disk is
    too small, as `fetch` and `unpack` do, and where another process works on the same archive.
    """
    root = Path(root)
    addresses = {archive: mirrored(archive.url, mirror) for archive in source.archives}
    with _plain_errors(root):
        (root / ".mdw").mkdir(parents=True, exist_ok=True)
        todo = []
        for archive in source.archives:
            if (result := check_archive(archive, root)).state == "ok":
                tell(f"{archive.file}: there already; {result.checked}")
            else:
                todo.append(archive)
        _check_room(todo, root, keep_archives)
        for archive in todo:
            with _alone(root / ".mdw" / f"{archive.file}.lock", archive):
                result = check_archive(archive, root)  # another process may have fetched it meanwhile
                if result.state != "ok":
                    _install(archive, root, addresses[archive], keep_archives, options)
                    result = check_archive(archive, root)
            tell(f"{archive.file}: {_compared(archive)}; {result.checked}")
        for item in source.manual:
            if (result := check_manual(item, root)).state != "ok":
                tell(f"{item.file}: {result.checked}")


def verify(source: Source, root: str | Path, contents: bool = False) -> list[CheckResult]:
    """Check the files of `source` below `root`: archives by size and MD5, unpacked files by path and size.

    `contents` also reads every unpacked file and compares its CRC-32 with the one at unpacking. Files that `download` did not
    unpack can only be counted, and of an archive without a published checksum only the size is checked: `checked` says which.
    """
    root = Path(root)
    with _plain_errors(root):
        return [check_archive(archive, root, contents, packed=True) for archive in source.archives] + [
            check_manual(item, root) for item in source.manual
        ]


def check_archive(archive: Archive, root: Path, contents: bool = False, packed: bool = False) -> CheckResult:
    """Check the unpacked files of `archive` and, with `packed`, the archive file itself if it is still there."""
    state, checked = _check_unpacked(archive, root, contents)
    if packed and (root / archive.file).is_file():
        try:
            checked += f"; archive: {_check_packed(archive, root / archive.file)}"
        except MdwError as error:
            state, checked = "broken", str(error)
    return CheckResult(archive.part, archive.file, state, checked)


def check_manual(item: Manual, root: Path) -> CheckResult:
    """Check that a file that no archive has exists and, where known, has the right number of entries."""
    content = "" if item.count is None else f", with {item.count:,} entries"
    if not (root / item.file).is_file():
        return CheckResult(item.part, item.file, "absent", f"not at {root / item.file}{content}; {item.how}")
    if item.count is None:
        return CheckResult(item.part, item.file, "ok", "it is there; what it should hold is not known")
    try:
        entries = read_json(root / item.file)
    except MdwError as error:
        return CheckResult(item.part, item.file, "broken", str(error))
    count = len(entries) if isinstance(entries, list) else 0
    if count != item.count:
        return CheckResult(item.part, item.file, "broken", f"{count:,} entries instead of {item.count:,}; {item.how}")
    return CheckResult(item.part, item.file, "ok", f"{count:,} entries")


def mirrored(url: str, mirror: str | None) -> str:
    """Returns `url` with scheme, host and port replaced by `mirror`, an http(s) address that may end in a folder."""
    if mirror is None:
        return url
    try:
        usable = urlsplit(mirror).scheme in ("http", "https") and bool(urlsplit(mirror).netloc)
    except ValueError:
        usable = False
    if not usable:
        raise MdwError(
            f"--mirror {without_password(mirror)!r} is no address; write for example --mirror https://mirror.example.org/data"
        )
    return mirror.rstrip("/") + urlsplit(url).path


def _install(archive: Archive, root: Path, url: str, keep: bool, options: dict) -> None:
    packed, fresh = root / archive.file, root / ".mdw" / f"unpacking-{archive.file}"
    if packed.is_file():
        _check_packed(archive, packed)
    else:
        limits = {"reserve": archive.unpacked, "limit": archive.size or 2 * archive.about}
        fetch(url, packed, archive.size, archive.md5, **limits, **options)
    shutil.rmtree(fresh, ignore_errors=True)  # of a call that was killed
    files = unpack(packed, fresh, archive.unpacked)
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(("path", "bytes", "crc32"))
    rows.writerows(((Path(archive.into) / path).as_posix(), size, f"{crc:08x}") for path, (size, crc) in files.items())
    write_text(_list_file(archive, root), text.getvalue())  # before the files move: a stop in between shows as files missing
    _merge(fresh, root / archive.into)
    shutil.rmtree(fresh, ignore_errors=True)
    if not keep:
        packed.unlink()


def _check_packed(archive: Archive, packed: Path) -> str:
    size = packed.stat().st_size
    if archive.size is not None and size != archive.size:
        raise MdwError(f"{packed} has {size:,} bytes instead of {archive.size:,}; delete it and download it again")
    if archive.md5 is not None and (md5 := pooch.file_hash(packed, alg="md5")) != archive.md5:
        raise MdwError(f"{packed} has the MD5 sum {md5} instead of {archive.md5}; delete it and download it again")
    return _compared(archive)


def _compared(archive: Archive) -> str:
    """Returns which properties of an archive file were compared."""
    if archive.md5 is not None:
        return "MD5 sum right"
    return "size right, no checksum is published" if archive.size is not None else "neither size nor checksum is published"


def _check_unpacked(archive: Archive, root: Path, contents: bool) -> tuple[str, str]:
    if not _list_file(archive, root).is_file():
        counts = _count(archive, root)
        if not any(number for _, number, _ in counts):
            return "absent", "not unpacked"
        text = ", ".join(f"{number:,} of {count:,} {pattern}" for pattern, number, count in counts)
        return "ok" if all(number == count for _, number, count in counts) else "broken", f"only counted: {text}"
    rows = _read_list(_list_file(archive, root))
    if rows is None:
        return "broken", f"its list of files, {_list_file(archive, root)}, is damaged"
    bar = tqdm(rows, desc=f"verify {archive.file}", unit=" files", disable=None if contents else True, leave=False)
    wrong = [path for path, size, crc in bar if not _is_same(root / path, size, crc if contents else None)]
    if wrong and not any((root / path).exists() for path, _, _ in rows):
        return "absent", "not unpacked"
    if wrong:
        return "broken", f"{len(wrong):,} of {len(rows):,} files missing or changed, first {printable(wrong[0])}"
    odd = [f"{number:,} of {count:,} {pattern}" for pattern, number, count in _count(archive, root) if number != count]
    note = f"; note: {', '.join(odd)} are there, so the archive is not the one we know" if odd else ""
    return "ok", f"{len(rows):,} files with the {'size and CRC-32' if contents else 'size'} they had in the archive{note}"


def _read_list(file: Path) -> list[tuple[str, int, int]] | None:
    """Returns (path, bytes, CRC-32) of every file of an archive; None where the list cannot be read."""
    try:
        with open(file, newline="", encoding="utf-8") as lines:
            return [(row["path"], int(row["bytes"]), int(row["crc32"], 16)) for row in csv.DictReader(lines)]
    except (KeyError, TypeError, ValueError, csv.Error):
        return None


def _is_same(path: Path, size: int, crc: int | None) -> bool:
    if not path.is_file() or path.stat().st_size != size:
        return False
    file_crc = 0
    if crc is not None:
        with open(path, "rb") as file:
            while chunk := file.read(CHUNK):
                file_crc = zlib.crc32(chunk, file_crc)
    return crc in (None, file_crc)


def _count(archive: Archive, root: Path) -> list[tuple[str, int, int]]:
    return [(pattern, sum(1 for _ in root.glob(pattern)), count) for pattern, count in archive.holds]


def _check_room(archives: list[Archive], root: Path, keep: bool) -> None:
    """Raise MdwError unless there is room for all unpacked files and, at the same time, the archives or the largest of them."""
    packed = [a.about for a in archives if not (root / a.file).is_file()]
    need = sum(a.unpacked for a in archives) + (sum(packed) if keep else max(packed, default=0))
    received = sum(part.stat().st_size for a in archives if (part := root / f"{a.file}.part").is_file())
    check_space(root, need - received, f"unpacking {', '.join(a.file for a in archives)}")


def _merge(source: Path, target: Path) -> None:
    """Move what is in `source` into `target`: a new folder in one step, into an existing one file by file."""
    target.mkdir(parents=True, exist_ok=True)
    for entry in source.iterdir():
        if entry.is_dir() and (target / entry.name).is_dir():
            _merge(entry, target / entry.name)
        else:
            os.replace(entry, target / entry.name)


def _list_file(archive: Archive, root: Path) -> Path:
    return root / ".mdw" / f"{archive.file}.csv"


@contextlib.contextmanager
def _plain_errors(root: Path) -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:  # the reader of `tell`'s lines has ended
        raise
    except OSError as error:
        raise MdwError(f"cannot use {error.filename or root} ({error.strerror or error}); check --root") from None


@contextlib.contextmanager
def _alone(lock: Path, archive: Archive) -> Iterator[None]:
    try:
        with FileLock(lock, timeout=0):
            yield
    except Timeout:
        raise MdwError(f"another process is downloading {archive.file} (lock {lock}); wait for it or stop it") from None
