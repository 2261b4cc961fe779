"""Unpacks zip and tar files from other sources.

zipfile and tarfile read them. What to write is decided here, because pooch's Unzip and Untar, shutil.unpack_archive and
tarfile's "data" filter keep links, do not limit the size and write directly into the folder, so that an interrupted run leaves
half of the files there.
"""

import gzip
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, Self

from tqdm import tqdm

from mdw.util.errors import MdwError

CHUNK = 1 << 20

# What zipfile, tarfile and the decompressors raise for a broken archive
BROKEN: tuple[type[Exception], ...] = (zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError)
BROKEN += (UnicodeError, RuntimeError)  # a name that is no UTF-8; a password, an unknown method

Member = tuple[str, int, bool, Callable[[], AbstractContextManager[IO[bytes]]]]  # name, bytes, is it a folder, open


def unpack(archive: str | Path, folder: str | Path, limit: int) -> dict[str, tuple[int, int]]:
    """Unpack `archive` (.zip, .tar, .tar.gz) into `folder`, which must not exist yet, and return the unpacked files.

    The result maps each file's path in `folder` (with "/") to (bytes, CRC-32). Only plain files and folders are unpacked,
    without permissions, owners and times. Raises MdwError, and leaves no `folder`, where a name is absolute, leads out of the
    folder or occurs twice, a member is a link or a device, the content is larger than `limit` bytes, the archive is broken or
    the disk full.
    """
    archive, folder = Path(archive), Path(folder)
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise MdwError(f"cannot make {folder} to unpack {archive} into ({error.strerror}); choose another folder") from None
    try:
        with tqdm(total=limit, unit="B", unit_scale=True, desc=f"unpack {archive.name}", disable=None) as bar:
            files = _unpack(archive, folder, limit, bar)
            bar.total = bar.n
        return files
    except BaseException as error:
        shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, BROKEN):
            raise MdwError(f"{archive} is broken ({error}); delete it and download it again") from None
        if isinstance(error, (FileExistsError, NotADirectoryError)):  # the folder was empty
            name = Path(error.filename).relative_to(folder)
            raise MdwError(f"{archive} holds the name {name.as_posix()!r} twice; do not use this archive") from None
        if isinstance(error, OSError):
            raise MdwError(f"cannot unpack {archive} into {folder} ({error.strerror or error}); mend that first") from None
        raise


def _unpack(archive: Path, folder: Path, limit: int, bar: tqdm) -> dict[str, tuple[int, int]]:
    files, total = {}, 0
    for name, size, is_folder, open_member in (_zip if archive.suffix == ".zip" else _tar)(archive):
        target = folder.joinpath(*_safe_parts(name, archive))
        if is_folder:
            target.mkdir(parents=True, exist_ok=True)
            continue
        total += size
        if total > limit:
            raise MdwError(f"{archive} unpacks to more than {limit:,} bytes; it is not the expected file, delete it")
        target.parent.mkdir(parents=True, exist_ok=True)
        crc = 0
        with open_member() as source, open(target, "xb") as copy:  # "x": a name that occurs twice is refused
            while chunk := source.read(CHUNK):
                crc = zlib.crc32(chunk, crc)
                copy.write(chunk)
                bar.update(len(chunk))
        if target.stat().st_size != size:
            raise MdwError(f"{name!r} in {archive} has another size than stated; delete the archive and download it again")
        files[target.relative_to(folder).as_posix()] = (size, crc)
    return files


def _safe_parts(name: str, archive: Path) -> tuple[str, ...]:
    parts = PurePosixPath(name).parts
    name.encode()  # an archive with a name that is not UTF-8 counts as broken: the list of files could not hold it
    if "\\" in name or "\0" in name or name.startswith("/") or ".." in parts or PureWindowsPath(name).drive:
        raise MdwError(f"{archive} holds the name {name!r}, which leads out of its folder; do not use this archive")
    return parts


def _zip(archive: Path) -> Iterator[Member]:
    with zipfile.ZipFile(archive) as file:
        for info in file.infolist():
            kind = stat.S_IFMT(info.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise MdwError(f"{archive} holds {info.orig_filename!r}, a link or device; do not use this archive")
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # LZMA needs gigabytes of memory
                raise MdwError(f"{archive} packs {info.orig_filename!r} in an unusual way; do not use this archive")
            yield info.orig_filename, info.file_size, info.is_dir(), partial(file.open, info)


class _PlainMember(tarfile.TarInfo):
    """Refuses members with a large header: tarfile reads long names, notes and maps of holes into memory."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        info = super().frombuf(buf, encoding, errors)
        notes = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
        if info.type == tarfile.GNUTYPE_SPARSE or (info.type in notes and info.size > CHUNK):
            raise tarfile.ReadError("a member with holes, or a name without end")
        return info


def _content(file: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    if (content := file.extractfile(info)) is None:
        raise tarfile.ReadError(f"{info.name} has no content")
    return content


def _tar(archive: Path) -> Iterator[Member]:
    opener = open if archive.suffix == ".tar" else gzip.open
    with (
        opener(archive, "rb") as stream,
        tarfile.open(fileobj=stream, mode="r|", tarinfo=_PlainMember) as file,  # one pass over 13 GB
    ):
        for info in file:
            if not (info.isreg() or info.isdir()):
                raise MdwError(f"{archive} holds {info.name!r}, a link or device; do not use this archive")
            yield info.name, info.size, info.isdir(), partial(_content, file, info)
        while stream.read(CHUNK):  # gzip's checksum, the only one MPII's images have, is compared at the very end
            pass
