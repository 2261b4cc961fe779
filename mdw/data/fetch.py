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
from dataclasses import dataclass
from pathlib import Path

import requests
from requests.adapters import HTTPAdapter
from tqdm import tqdm
from urllib3.exceptions import HTTPError
from urllib3.util import Retry

from mdw.util.errors import MdwError
from mdw.util.files import write_json

CHUNK = 1 << 16  # what a kill can cost
BUSY = (429, 500, 502, 503, 504)
TIMEOUT_S = (10, 60)  # to connect; without a byte


@dataclass(frozen=True)
class _Job:
    """What `fetch` was asked for."""

    url: str
    path: Path
    size: int | None
    md5: str | None
    reserve: int

    @property
    def part(self) -> Path:
        return self.path.with_name(self.path.name + ".part")

    @property
    def note(self) -> Path:
        return self.path.with_name(self.path.name + ".part.json")

    @property
    def have(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def forget(self) -> None:
        self.part.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)


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
    A part of the same address is continued if its length and, as far as the server tells them, its ETag or Last-Modified
    are still the same; a part of another address (a mirror) only with `md5`, which proves the whole. Otherwise, and where
    the server knows no ranges, the file is fetched from the start. `tries` breaks without a new byte end it, with pauses
    of `wait` seconds, doubled each time; `reserve` bytes are to stay free on the disk. Raises MdwError, naming the address
    and the remedy; what has come by then stays in `path`.part unless its checksum is wrong.
    """
    job = _Job(url, Path(path), size, md5, reserve)
    retry = Retry(
        total=None, connect=0, read=0, other=0, status=tries, status_forcelist=BUSY, backoff_factor=wait, raise_on_status=False
    )
    try:
        with requests.Session() as session, tqdm(unit="B", unit_scale=True, desc=job.path.name, disable=None) as bar:
            session.mount("http://", HTTPAdapter(max_retries=retry))
            session.mount("https://", HTTPAdapter(max_retries=retry))
            pieces = _fill(session, job, tries, wait, bar)
            found = md5_of(job.part) if md5 else None
            if found != md5 and pieces > 1:  # pieces that do not fit together: once more, in one piece
                job.forget()
                _fill(session, job, tries, wait, bar)
                found = md5_of(job.part)
        if found != md5:
            job.forget()
            raise MdwError(f"{url} has the MD5 sum {found} instead of {md5}; nothing was kept, try later or give --mirror")
        os.replace(job.part, job.path)
        job.forget()
    except requests.RequestException as error:
        raise MdwError(f"cannot fetch {url} ({error}); check the address, or put the file at {path} yourself") from None
    except OSError as error:
        raise MdwError(f"cannot write {job.part} ({error.strerror or error}); make room or choose another --root") from None


def md5_of(path: Path) -> str:
    """The MD5 sum of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def check_space(folder: Path, need: int, what: str) -> None:
    """Raise MdwError where fewer than `need` bytes are free in `folder`."""
    free = shutil.disk_usage(folder).free
    if free < need:
        raise MdwError(f"{what} needs {need / 1e9:.2f} GB in {folder}, where {free / 1e9:.2f} GB are free; make room there")


def _fill(session: requests.Session, job: _Job, tries: int, wait: float, bar: tqdm) -> int:
    """Make the part whole; returns of how many pieces it is made at most."""
    began = best = job.have
    pieces, failures = 1 + (best > 0), 0
    while True:
        try:
            if _receive(session, job, bar):
                return pieces
            reason = "it sent too little"
        except (requests.ConnectionError, requests.Timeout, HTTPError) as error:
            reason = _reason(error)
        failures = 0 if job.have > best else failures + 1
        best = max(best, job.have)  # only a new record counts as progress, or a server without ranges would be asked for ever
        if failures >= tries and best == began:
            remedy = f"check the connection and the address, give --mirror, or put the file at {job.path} yourself"
            raise MdwError(f"cannot fetch {job.url} ({reason}); {remedy}")
        if failures >= tries:
            raise MdwError(f"{job.url} broke off after {job.have:,} bytes ({reason}); run the command again, it goes on there")
        pieces += 1
        bar.set_postfix_str(f"broke off, again in {wait * 2**failures:.0f} s")
        time.sleep(wait * 2**failures)


def _receive(session: requests.Session, job: _Job, bar: tqdm) -> bool:
    """Ask once for what the part lacks and add it. Returns whether the part is whole."""
    note = _read_note(job.note)
    same = note.get("url") == job.url
    if not same and (not note or job.md5 is None):
        job.forget()
        note = {}
    have, headers = job.have, {"Accept-Encoding": "identity"}  # or the lengths would be those of a packed body
    if have and have == (note["total"] or job.size):
        return True  # stopped between the last byte and the new name
    if have:
        headers["Range"] = f"bytes={have}-"
        if same and note["validator"]:
            headers["If-Range"] = note["validator"]
    with session.get(job.url, headers=headers, stream=True, timeout=TIMEOUT_S) as answer:
        if have and answer.status_code == 416:  # no such range: the file has become shorter
            job.forget()
            return False
        if answer.status_code != 200 and not (have and answer.status_code == 206):
            remedy = f"try later, give --mirror, or put the file at {job.path} yourself"
            raise MdwError(f"{job.url} answers {answer.status_code} {answer.reason}; {remedy}")
        start, total = _range(answer)
        validator = _validator(answer)
        changed = same and validator not in (None, note["validator"])  # an answer to If-Range may leave it out
        if answer.status_code == 206 and (start != have or total != note["total"] or changed):
            job.forget()  # the server overlooked If-Range: another file, or another piece than asked for
            return False
        if job.size is not None and total is not None and total != job.size:
            raise MdwError(f"{job.url} is {total:,} bytes long instead of {job.size:,}, another file; give another --mirror")
        expected = total or job.size
        if expected is None and job.md5 is None and not answer.raw.chunked:
            raise MdwError(f"{job.url} does not tell its length, so a broken-off file would look whole; give another --mirror")
        check_space(job.path.parent, (expected or 0) - start + job.reserve, f"{job.url} with what it unpacks to")
        kept = validator or (note["validator"] if start and same else None)
        write_json(job.note, {"url": job.url, "total": total, "validator": kept})
        bar.reset(expected)
        bar.update(start)
        with open(job.part, "ab" if start else "wb") as file:
            for chunk in answer.raw.stream(CHUNK, decode_content=False):  # some servers call a .gz file an encoding
                file.write(chunk)
                bar.update(len(chunk))
            file.flush()
            os.fsync(file.fileno())  # a rename may reach the disk before the data does
    if expected is not None and job.have > expected:
        raise MdwError(f"{job.url} sends more than the {expected:,} bytes expected; give another --mirror")
    return expected is None or job.have == expected


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


def _reason(error: Exception) -> str:
    """What lies at the bottom of an error of requests, without the names of the pools around it."""
    while error.args and isinstance(inner := getattr(error.args[0], "reason", error.args[-1]), Exception):
        error = inner
    return str(error)


def _read_note(file: Path) -> dict:
    try:
        note = json.loads(file.read_text(encoding="utf-8"))
        return {name: note[name] for name in ("url", "total", "validator")}
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        return {}
