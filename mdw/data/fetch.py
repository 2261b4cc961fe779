"""Fetches one file over HTTP; an interrupted transfer is continued where it stopped.

pooch compares the checksum, requests and urllib3's Retry transfer the bytes. pooch's own downloaders start again after an
interruption and have no limit, so it gets `Resumable`, which continues, checks whether the file is still the same, and limits
the number of bytes and the length of pauses.
"""

import json
import os
import re
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import pooch
import requests
from requests.adapters import HTTPAdapter
from tqdm import tqdm
from urllib3.exceptions import HTTPError, InvalidHeader
from urllib3.util import Retry

from mdw.util.errors import MdwError
from mdw.util.files import write_json

CHUNK = 1 << 16  # bytes that a kill may lose
BUSY = (429, 500, 502, 503, 504)
TIMEOUT_S = (10, 60)  # to connect; between two bytes
PAUSE_S = 120  # the longest pause between two tries
LIMIT = 10**12  # bytes of a file of unknown size


def fetch(url: str, path: str | Path, size: int | None = None, md5: str | None = None, **options) -> None:
    """Fetch `url` to `path`, continuing `path`.part of an earlier call.

    `path` appears only when the file is complete and has `size` bytes and the checksum `md5` where these are given.
    `options`: see `Resumable`. Raises MdwError with the address (without its password) and the remedy; the bytes received so
    far stay in `path`.part unless the checksum is wrong.
    """
    path = Path(path)
    job = Resumable(url, path, size, md5, **options)
    fresh = path.with_name(path.name + ".new")  # pooch's file before it is checked
    store = pooch.create(fresh, base_url="", registry={path.name: f"md5:{md5}" if md5 else None}, urls={path.name: url})
    pooch.get_logger().setLevel("WARNING")  # or it would print the address
    try:
        while True:
            shutil.rmtree(fresh, ignore_errors=True)  # of a call that was killed
            try:
                os.replace(store.fetch(path.name, downloader=job), path)
                return job.forget()
            except (MdwError, requests.RequestException):
                raise
            except ValueError:  # pooch raises it for a wrong checksum
                received_md5 = pooch.file_hash(job.part, alg="md5") if job.part.exists() else "of another file"
                pieces = job.pieces
                job.forget()
                if pieces == 1:  # several pieces may not fit together: try once more in one piece
                    problem = f"has the MD5 sum {received_md5} instead of {md5}; nothing was kept, try later or give --mirror"
                    raise MdwError(f"{job.shown} {problem}") from None
    except requests.RequestException as error:
        reason = str(error).replace(url, job.shown)
        raise MdwError(f"cannot fetch {job.shown} ({reason}); check the address, or put the file at {path} yourself") from None
    except OSError as error:
        raise MdwError(f"cannot write {job.part} ({error.strerror or error}); make room or choose another --root") from None
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def check_space(folder: Path, need: int, purpose: str) -> None:
    """Raise MdwError where fewer than `need` bytes are free in `folder`."""
    free = shutil.disk_usage(folder).free
    if free < need:
        raise MdwError(f"{purpose} needs {need / 1e9:.2f} GB in {folder}, where {free / 1e9:.2f} GB are free; make room there")


class _Patience(Retry):
    """Waits as long as a busy server asks for, but at most `PAUSE_S`."""

    def get_retry_after(self, response) -> float | None:
        try:
            pause = super().get_retry_after(response)
        except (InvalidHeader, ValueError, OverflowError):  # no date, too long a number
            return None
        return pause and min(pause, PAUSE_S)


@dataclass
class Resumable:
    """pooch's downloader: completes `path`.part in as many pieces as needed and gives it to pooch.

    A part from the same address is continued if the file's length and, where the server sends them, ETag or Last-Modified are
    still the same; a part from another address (a mirror) only with `md5`, which proves that the pieces fit. Otherwise, and
    where the server has no range requests, the file is fetched from the start. It gives up after `tries` failures without a new
    byte, with pauses of `wait` seconds, doubled each time; `reserve` bytes must stay free on the disk; a file may have at most
    `limit`.
    """

    url: str
    path: Path
    size: int | None = None
    md5: str | None = None
    reserve: int = 0
    limit: int = LIMIT
    tries: int = 6
    wait: float = 1.0
    pieces: int = 0  # an upper bound of the pieces in the part

    def __post_init__(self):
        self.part = self.path.with_name(self.path.name + ".part")
        self.note = self.path.with_name(self.path.name + ".part.json")
        self.shown = without_password(self.url)

    @property
    def have(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def forget(self) -> None:
        self.part.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)

    def __call__(self, url: str, output_file: str, _pooch: object) -> None:
        retry = _Patience(
            total=None, connect=0, read=0, other=0, status=self.tries, status_forcelist=BUSY, backoff_factor=self.wait,
            raise_on_status=False,
        )  # fmt: skip
        with requests.Session() as session, tqdm(unit="B", unit_scale=True, desc=self.path.name, disable=None) as bar:
            for scheme in ("http://", "https://"):
                session.mount(scheme, HTTPAdapter(max_retries=retry))
            self._fill(session, bar)
        os.unlink(output_file)
        try:
            os.link(self.part, output_file)  # the part stays until the checksum is known, so a kill loses nothing
        except OSError:  # a disk without links, on which a kill at this moment loses the file
            os.replace(self.part, output_file)

    def _fill(self, session: requests.Session, bar: tqdm) -> None:
        began = best = self.have
        self.pieces, failures = 1 + (best > 0), 0
        while True:
            try:
                if self._receive(session, bar):
                    return
                reason = "it sent too little"
            except (requests.ConnectionError, requests.Timeout, HTTPError) as error:
                reason = _reason(error)
            failures = 0 if self.have > best else failures + 1
            best = max(best, self.have)  # else a server without ranges would be asked for ever
            if failures >= self.tries and best == began:
                remedy = f"check the connection and the address, give --mirror, or put the file at {self.path} yourself"
                raise MdwError(f"cannot fetch {self.shown} ({reason}); {remedy}")
            if failures >= self.tries:
                problem = f"broke off after {self.have:,} bytes ({reason}); run the command again, it goes on there"
                raise MdwError(f"{self.shown} {problem}")
            self.pieces += 1
            bar.set_postfix_str(f"broke off, again in {self.wait * 2**failures:.0f} s")
            time.sleep(self.wait * 2**failures)

    def _receive(self, session: requests.Session, bar: tqdm) -> bool:
        """Request the missing bytes once and add them. Returns whether the part is complete."""
        note = _read_note(self.note)
        same = note.get("url") == self.shown
        if not same and (not note or self.md5 is None):
            self.forget()
            note = {}
        have, headers = self.have, {"Accept-Encoding": "identity"}  # else the lengths would be those of a compressed body
        if have and have == (note["total"] or self.size):
            return True  # stopped between the last byte and the new name
        if have:
            headers["Range"] = f"bytes={have}-"
            if same and note["validator"]:
                headers["If-Range"] = note["validator"]
        with session.get(self.url, headers=headers, stream=True, timeout=TIMEOUT_S) as answer:
            if have and answer.status_code == 416:  # no such range: the file has become shorter
                self.forget()
                return False
            if answer.status_code != 200 and not (have and answer.status_code == 206):
                remedy = f"try later, give --mirror, or put the file at {self.path} yourself"
                raise MdwError(f"{self.shown} answers {answer.status_code} {answer.reason[:80]}; {remedy}")
            start, total = _range(answer)
            validator = _validator(answer)
            changed = same and validator not in (None, note["validator"])  # an answer to If-Range may leave it out
            if answer.status_code == 206 and (start != have or total != note["total"] or changed):
                self.forget()  # the server ignored If-Range: another file, or another piece than requested
                return False
            if self.size is not None and total is not None and total != self.size:
                problem = f"is {total:,} bytes long instead of {self.size:,}, another file; give another --mirror"
                raise MdwError(f"{self.shown} {problem}")
            expected = total or self.size
            if (expected or 0) > self.limit:
                raise MdwError(f"{self.shown} is {expected:,} bytes long, far too many; give another --mirror")
            if expected is None and self.md5 is None and not answer.raw.chunked:
                problem = "does not tell its length, so a broken-off file would look whole; give another --mirror"
                raise MdwError(f"{self.shown} {problem}")
            check_space(self.path.parent, (expected or 0) - start + self.reserve, f"{self.shown} with what it unpacks to")
            stored_validator = validator or (note["validator"] if start and same else None)
            write_json(self.note, {"url": self.shown, "total": total, "validator": stored_validator})
            bar.reset(expected)
            bar.update(start)
            self._write(answer, start, expected, bar)
        return expected is None or self.have == expected

    def _write(self, answer: requests.Response, start: int, expected: int | None, bar: tqdm) -> None:
        most, have = expected or self.limit, start
        with open(self.part, "ab" if start else "wb") as file:
            for chunk in answer.raw.stream(CHUNK, decode_content=False):  # some servers call a .gz file an encoding
                have += len(chunk)
                if have > most:
                    break
                file.write(chunk)
                bar.update(len(chunk))
            file.flush()
            os.fsync(file.fileno())  # a rename may reach the disk before the data does
        if have > most:
            self.forget()
            raise MdwError(f"{self.shown} sends more than the {most:,} bytes expected; give another --mirror")


def without_password(url: str) -> str:
    """Returns `url` without user name and password, for messages and files."""
    return re.sub(r"^(\w+://)[^/?#]*@", r"\1", url)


def _range(answer: requests.Response) -> tuple[int, int | None]:
    """Returns (first byte, length of the whole file or None) of an answer; numbers of more than 15 digits are not read."""
    if answer.status_code == 206:
        match = re.fullmatch(r"bytes (\d{1,15})-\d{1,15}/(\d{1,15}|\*)", answer.headers.get("Content-Range", ""), re.ASCII)
        return (int(match[1]), None if match[2] == "*" else int(match[2])) if match else (-1, None)
    length = answer.headers.get("Content-Length", "")
    return 0, int(length) if re.fullmatch(r"[0-9]{1,15}", length) else None


def _validator(answer: requests.Response) -> str | None:
    """Returns the value for If-Range: a strong ETag, otherwise the time of change (RFC 9110, section 13.1.5)."""
    etag = answer.headers.get("ETag", "")
    return etag if etag.startswith('"') else answer.headers.get("Last-Modified")


def _reason(error: Exception) -> str:
    """Returns the innermost cause of an error of requests, without the names of the connection pools around it."""
    while error.args and isinstance(inner := getattr(error.args[0], "reason", error.args[-1]), Exception):
        error = inner
    return str(error)


def _read_note(file: Path) -> dict:
    try:
        note = json.loads(file.read_text(encoding="utf-8"))
        return {name: note[name] for name in ("url", "total", "validator")}
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        return {}
