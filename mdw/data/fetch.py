"""Fetching one file over HTTP so that a broken or killed transfer goes on where it stopped.

requests and urllib3's Retry carry it: connections, redirects, proxies, waiting as long as a busy server asks. Going on is
done here. pooch starts again after a break, urllib3 does not retry while a body is read, and huggingface_hub's http_get,
which does go on, is not public and never asks whether the file has changed meanwhile.
"""

import hashlib
import json
import os
import re
import shutil
import time
from pathlib import Path

import requests
from requests.adapters import HTTPAdapter
from tqdm import tqdm
from urllib3.util import Retry

from mdw.errors import MdwError
from mdw.files import write_json

CHUNK = 1 << 16  # what a break can cost: a chunk that has not come whole is lost
BUSY = (429, 500, 502, 503, 504)
TIMEOUT_S = (10, 60)  # to connect; without a byte


def fetch(
    url: str,
    path: str | Path,
    size: int | None = None,
    md5: str | None = None,
    reserve: int = 0,
    tries: int = 6,
    wait: float = 1.0,
) -> None:
    """Fetch `url` to `path`, going on with `path`.part where an earlier call left one.

    The name `path` appears only when the file is whole and has `size` bytes and the checksum `md5` where these are given.
    The part is continued only if the server says that the file is the same (ETag or Last-Modified, length); otherwise, and
    where it knows no ranges, the file is fetched from the start. `tries` breaks without a new byte end it, with pauses of
    `wait` seconds, doubled each time; `reserve` bytes are to stay free on the disk. Raises MdwError, naming the address and
    the remedy; what has come by then stays in `path`.part unless its checksum is wrong.
    """
    path = Path(path)
    part = path.with_name(path.name + ".part")
    retry = Retry(
        total=None, connect=0, read=0, other=0, status=tries, status_forcelist=BUSY, backoff_factor=wait, raise_on_status=False
    )
    try:
        with requests.Session() as session, tqdm(unit="B", unit_scale=True, desc=path.name, disable=None) as bar:
            session.mount("http://", HTTPAdapter(max_retries=retry))
            session.mount("https://", HTTPAdapter(max_retries=retry))
            pieces = _fill(session, url, part, size, reserve, tries, wait, bar)
            if md5 and pieces > 1 and md5_of(part) != md5:  # pieces that do not fit together: once more, in one piece
                _forget(part)
                _fill(session, url, part, size, reserve, tries, wait, bar)
        found = md5_of(part) if md5 else None
        if found != md5:
            _forget(part)
            raise MdwError(f"{url} has the MD5 sum {found} instead of {md5}; nothing was kept, try later or give --mirror")
        os.replace(part, path)
        _forget(part)
    except requests.RequestException as error:
        raise MdwError(f"cannot fetch {url} ({error}); check the address, or put the file at {path} yourself") from None
    except OSError as error:
        raise MdwError(f"cannot write {part} ({error.strerror or error}); make room or choose another --root") from None


def md5_of(path: Path) -> str:
    """The MD5 sum of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def check_space(folder: Path, need: int, what: str) -> None:
    """Raise MdwError where fewer than `need` bytes are free in `folder`."""
    free = shutil.disk_usage(folder).free
    if free < need:
        raise MdwError(f"{what} needs {need / 1e9:.2f} GB in {folder}, where {free / 1e9:.2f} GB are free; make room there")


def _fill(session, url: str, part: Path, size: int | None, reserve: int, tries: int, wait: float, bar: tqdm) -> int:
    """Make `part` whole; returns of how many pieces it is made at most."""
    best = _length(part)
    pieces, failures = 1 + (best > 0), 0
    while True:
        try:
            if _receive(session, url, part, size, reserve, bar):
                return pieces
            reason = "it sent too little"
        except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
            reason = error
        have = _length(part)
        failures = 0 if have > best else failures + 1
        best = max(best, have)  # only a new record counts as progress, or a server without ranges would be asked for ever
        if failures >= tries:
            raise MdwError(f"{url} broke off after {have:,} bytes ({reason}); run the command again, it goes on from there")
        pieces += 1
        time.sleep(wait * 2**failures)


def _receive(session, url: str, part: Path, size: int | None, reserve: int, bar: tqdm) -> bool:
    """Ask once for what `part` lacks and add it. Returns whether `part` is whole."""
    note = _read_note(part)
    if note.get("url") != url:
        _forget(part)
        note = {}
    have, headers = _length(part), {"Accept-Encoding": "identity"}  # or the lengths would be those of a packed body
    if have and have == (note["total"] or size):
        return True  # stopped between the last byte and the new name
    if have:
        headers["Range"] = f"bytes={have}-"
        if note["validator"]:
            headers["If-Range"] = note["validator"]
    with session.get(url, headers=headers, stream=True, timeout=TIMEOUT_S) as answer:
        if answer.status_code == 416:  # no such range: the file has become shorter
            _forget(part)
            return False
        if answer.status_code not in (200, 206):
            remedy = f"try later, give --mirror, or put the file at {part.with_suffix('')} yourself"
            raise MdwError(f"{url} answers {answer.status_code} {answer.reason}; {remedy}")
        start, total = _range(answer)
        if answer.status_code == 206 and (start != have or total != note["total"] or _validator(answer) != note["validator"]):
            _forget(part)  # the server overlooked If-Range: another file, or another piece than asked for
            return False
        if size is not None and total is not None and total != size:
            raise MdwError(f"{url} is {total:,} bytes long instead of {size:,}, another file; give another --mirror")
        check_space(part.parent, (total or size or 0) - start + reserve, f"{url} with what it unpacks to")
        if start == 0:
            write_json(_note(part), {"url": url, "total": total, "validator": _validator(answer)})
        bar.total, bar.n = total or size, start
        with open(part, "ab" if start else "wb") as file:
            for chunk in answer.iter_content(CHUNK):
                file.write(chunk)
                bar.update(len(chunk))
    expected = total or size
    if expected is not None and _length(part) > expected:
        raise MdwError(f"{url} sends more than the {expected:,} bytes expected; give another --mirror")
    return expected is None or _length(part) == expected


def _range(answer: requests.Response) -> tuple[int, int | None]:
    """(first byte, length of the whole file or None) of an answer."""
    if answer.status_code == 206:
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", answer.headers.get("Content-Range", ""))
        return (int(match[1]), None if match[2] == "*" else int(match[2])) if match else (-1, None)
    length = answer.headers.get("Content-Length", "")
    return 0, int(length) if length.isdigit() else None


def _validator(answer: requests.Response) -> str | None:
    """What If-Range may carry: a strong ETag, otherwise the time of change (RFC 9110, section 13.1.5)."""
    etag = answer.headers.get("ETag", "")
    return etag if etag.startswith('"') else answer.headers.get("Last-Modified")


def _length(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _note(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _read_note(part: Path) -> dict:
    try:
        note = json.loads(_note(part).read_text(encoding="utf-8"))
        return {name: note[name] for name in ("url", "total", "validator")}
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        return {}


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    _note(part).unlink(missing_ok=True)
