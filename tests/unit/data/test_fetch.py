"""Fetching from a server that breaks off, lies and changes its mind: the right file, or one sentence and no file."""

import hashlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from local_server import serve

from mdw.data import fetch as module
from mdw.data.fetch import fetch
from mdw.util.errors import MdwError

DATA = np.random.default_rng(0).integers(0, 256, 300_000, dtype=np.uint8).tobytes()
OTHER = DATA[::-1]
MD5 = hashlib.md5(DATA).hexdigest()


@pytest.fixture
def server():
    with serve(files={"/a/file.zip": DATA}) as server:
        yield server


def get(server, folder, **options):
    fetch(f"{server.url}/a/file.zip", folder / "file.zip", **{"wait": 0, "tries": 3} | options)


def whole(folder, data=DATA):
    """The file is there under its name, and nothing else is."""
    assert [path.name for path in folder.iterdir()] == ["file.zip"]
    return (folder / "file.zip").read_bytes() == data


def refused(match, server, folder, **options):
    with pytest.raises(MdwError, match=match) as error:
        get(server, folder, **options)
    assert "\n" not in str(error.value) and not (folder / "file.zip").exists()
    return str(error.value)


def begin(server, folder, bytes_=100_000, **options):
    """Leave the first part of the file, as a transfer that broke off for good does."""
    server.plan = [{"cut": bytes_}, {"status": 404}]
    refused("answers 404", server, folder, **options)
    assert (folder / "file.zip.part").stat().st_size == bytes_
    server.asked.clear()


def test_a_file_comes_in_one_request(server, tmp_path):
    get(server, tmp_path, size=len(DATA), md5=MD5)
    assert whole(tmp_path) and server.sent() == [len(DATA)] and server.first() == [0]


def test_what_has_come_before_a_break_is_not_asked_for_again(server, tmp_path):
    server.plan = [{"cut": 100_000}, {"cut": 1}, {"cut": 0}, {"cut": 150_000}]
    get(server, tmp_path, md5=MD5)
    assert whole(tmp_path)
    assert server.first() == [0, 100_000, 100_001, 100_001, 250_001]
    assert sum(server.sent()) == len(DATA)
    assert {request["if_range"] for request in server.asked[1:]} == {f'"{MD5}"'}


def test_every_piece_asks_whether_the_file_is_the_same(server, tmp_path):
    server.validator = "Last-Modified"  # which an answer to If-Range need not repeat
    server.plan = [{"cut": 100_000}] * 2
    get(server, tmp_path)
    assert whole(tmp_path) and [bool(request["if_range"]) for request in server.asked] == [False, True, True]


@pytest.mark.parametrize("validator", ["ETag", "Last-Modified", ""])
def test_a_later_call_goes_on(server, tmp_path, validator):
    server.validator = validator
    begin(server, tmp_path)
    get(server, tmp_path)
    assert whole(tmp_path) and server.first() == [100_000] and server.sent() == [200_000]


def test_a_killed_process_goes_on(server, tmp_path):
    server.plan = [{"stall": 200_000}]
    code = f"from mdw.data.fetch import fetch; fetch('{server.url}/a/file.zip', {str(tmp_path / 'file.zip')!r})"
    process = subprocess.Popen([sys.executable, "-c", code])
    part = tmp_path / "file.zip.part"
    least = 200_000 - module.CHUNK  # the chunk that is not full yet is lost with the process
    while process.poll() is None and not (part.exists() and part.stat().st_size >= least):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL and not (tmp_path / "file.zip").exists()
    have = part.stat().st_size
    get(server, tmp_path, md5=MD5)
    assert whole(tmp_path) and server.first() == [0, have] and server.sent()[1] == len(DATA) - have


def test_killed_between_the_last_byte_and_the_name(server, tmp_path):
    begin(server, tmp_path)
    with open(tmp_path / "file.zip.part", "ab") as part:
        part.write(DATA[100_000:])
    get(server, tmp_path, md5=MD5)
    assert whole(tmp_path) and server.asked == []


def test_a_server_without_ranges_starts_again(server, tmp_path):
    server.ranges = False
    server.plan = [{"cut": 100_000}, {"cut": 200_000}]
    get(server, tmp_path, md5=MD5)
    assert whole(tmp_path) and server.sent() == [100_000, 200_000, len(DATA)]


def test_breaks_without_progress_end_it_and_keep_the_part(server, tmp_path):
    server.plan = [{"cut": 100_000}, *[{"cut": 0}] * 3]
    sentence = refused("broke off after 100,000 bytes", server, tmp_path)
    assert "run the command again" in sentence and len(server.asked) == 4
    server.ranges = False
    server.plan = [{"cut": 50_000}] * 10
    refused("cannot fetch", server, tmp_path)
    assert len(server.asked) == 7  # and not for ever
    server.plan = []
    get(server, tmp_path, md5=MD5)
    assert whole(tmp_path)


def test_a_stalled_connection_is_given_up(server, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "TIMEOUT_S", (1, 0.2))
    server.plan = [{"stall": module.CHUNK}]
    get(server, tmp_path, md5=MD5)
    assert whole(tmp_path) and server.first() == [0, module.CHUNK]


@pytest.mark.parametrize("heed", [True, False])
@pytest.mark.parametrize("other", [OTHER, OTHER[:250_000], OTHER + OTHER, OTHER[:50_000]])
def test_a_file_that_changes_between_the_pieces_is_fetched_anew(server, tmp_path, heed, other):
    server.heed = heed
    begin(server, tmp_path)
    server.files["/a/file.zip"] = other
    get(server, tmp_path)
    assert whole(tmp_path, other)
    assert server.sent()[-1] == len(other) and len(server.asked) == (1 if heed else 2)


def test_another_piece_than_asked_for_is_not_taken(server, tmp_path):
    for wrong in (f"bytes 5-299999/{len(DATA)}", f"bytes */{len(DATA)}", "pages 1-2/3", "bytes 100000-299999/*"):
        begin(server, tmp_path)
        server.plan = [{"headers": {"Content-Range": wrong}}]
        get(server, tmp_path)
        assert whole(tmp_path) and server.first() == [100_000, 0]
        (tmp_path / "file.zip").unlink()


def test_a_file_of_another_length_is_noticed_without_a_validator(server, tmp_path):
    server.validator = ""
    begin(server, tmp_path)
    server.files["/a/file.zip"] = OTHER + OTHER
    get(server, tmp_path)
    assert whole(tmp_path, OTHER + OTHER)


def test_pieces_that_do_not_fit_are_fetched_once_more(server, tmp_path):
    server.validator = ""  # it does not tell that the file has changed
    begin(server, tmp_path)
    server.files["/a/file.zip"] = OTHER
    get(server, tmp_path, md5=hashlib.md5(OTHER).hexdigest())
    assert whole(tmp_path, OTHER) and server.first() == [100_000, 0]


def test_wrong_bytes_leave_nothing(server, tmp_path):
    sentence = refused("has the MD5 sum", server, tmp_path, size=len(DATA), md5="0" * 32)
    assert MD5 in sentence and "--mirror" in sentence
    assert list(tmp_path.iterdir()) == [] and len(server.asked) == 1


def test_another_length_is_refused_before_a_byte_is_written(server, tmp_path):
    refused("300,000 bytes long instead of 300,001", server, tmp_path, size=300_001)
    assert not list(tmp_path.iterdir())


def test_a_busy_server_is_asked_again(server, tmp_path):
    server.plan = [{"status": 503, "headers": {"Retry-After": "0"}}, {"status": 429}, {"cut": 5}, {"status": 502}]
    get(server, tmp_path, md5=MD5)
    assert whole(tmp_path) and server.sent() == [0, 0, 5, 0, len(DATA) - 5]
    (tmp_path / "file.zip").unlink()
    server.plan = [{"status": 503}] * 20
    refused("answers 503", server, tmp_path)


def test_refusals_are_told(server, tmp_path):
    server.plan = [{"status": 404}]
    assert "put the file at" in refused("answers 404 Not Found", server, tmp_path)
    server.plan = [{"status": 206, "headers": {"Content-Range": f"bytes 0-9/{len(DATA)}"}}]
    refused("answers 206", server, tmp_path)  # nobody asked for a range
    server.plan = [{"status": 302, "headers": {"Location": "/a/file.zip"}}] * 50
    refused("redirects", server, tmp_path)
    assert not list(tmp_path.iterdir())


def test_redirects_are_followed_and_resumed_behind(server, tmp_path):
    away = {"status": 302, "headers": {"Location": "/b/real.zip"}}
    server.files["/b/real.zip"] = server.files.pop("/a/file.zip")
    server.plan = [away, {"cut": 100_000}, away]
    get(server, tmp_path, md5=MD5)
    assert whole(tmp_path) and server.sent() == [0, 100_000, 0, 200_000]


def test_nobody_there(tmp_path):
    with serve() as server:
        pass
    sentence = refused("cannot fetch", server, tmp_path)
    assert "refused" in sentence and "Max retries" not in sentence
    server.url = "http://"
    refused("cannot fetch", server, tmp_path)


def test_a_file_of_unknown_length(server, tmp_path):
    server.length = "chunked"  # whose end is marked
    server.plan = [{"cut": 100_000}]
    get(server, tmp_path)
    assert whole(tmp_path)
    (tmp_path / "file.zip").unlink()
    server.length = "none"
    refused("does not tell its length", server, tmp_path)
    get(server, tmp_path, md5=MD5)
    assert whole(tmp_path)
    (tmp_path / "file.zip").unlink()
    server.plan = [{"cut": 100_000}] * 3
    refused("has the MD5 sum", server, tmp_path, md5=MD5)


def test_a_packed_answer_is_not_unpacked(server, tmp_path):
    server.plan = [{"headers": {"Content-Encoding": "x-gzip"}}]  # as some servers call a .tar.gz
    get(server, tmp_path, md5=MD5)
    assert whole(tmp_path)


def test_another_server_goes_on_only_where_the_checksum_proves_it(server, tmp_path):
    with serve(files={"/a/file.zip": DATA}, validator="Last-Modified") as mirror:
        begin(server, tmp_path)
        get(mirror, tmp_path, md5=MD5)
        assert whole(tmp_path) and mirror.first() == [100_000] and mirror.asked[0]["if_range"] is None
        (tmp_path / "file.zip").unlink()
        begin(server, tmp_path)
        get(mirror, tmp_path)
        assert whole(tmp_path) and mirror.first()[1:] == [0]


def test_a_disk_without_links(server, tmp_path, monkeypatch):
    monkeypatch.setattr(module.os, "link", lambda *places: (_ for _ in ()).throw(OSError(95, "Operation not supported")))
    get(server, tmp_path, md5=MD5)
    assert whole(tmp_path)
    (tmp_path / "file.zip").unlink()
    refused("has the MD5 sum of another file", server, tmp_path, md5="0" * 32)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_note_costs_the_part_only(server, tmp_path):
    for note in ("", "[]", '{"url": 1}'):
        begin(server, tmp_path)
        (tmp_path / "file.zip.part.json").write_text(note)
        get(server, tmp_path)
        assert whole(tmp_path) and server.first() == [0]
        (tmp_path / "file.zip").unlink()


def test_the_disk_is_looked_at_first(server, tmp_path, monkeypatch):
    room = len(DATA) + 1000
    monkeypatch.setattr(module.shutil, "disk_usage", lambda folder: type("usage", (), {"free": room}))
    refused("make room", server, tmp_path, reserve=1001)
    assert list(tmp_path.iterdir()) == []
    get(server, tmp_path, reserve=1000)
    assert whole(tmp_path)


def test_a_place_that_cannot_be_written_is_named(server, tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(MdwError, match="cannot write .*taken"):
        get(server, tmp_path / "taken")


def test_a_body_without_end_is_not_written_without_end(server, tmp_path):
    server.length = "chunked"
    refused("sends more than the 200,000 bytes", server, tmp_path, limit=200_000)
    assert list(tmp_path.iterdir()) == []
    server.length = "length"
    refused("is 300,000 bytes long, far too many", server, tmp_path, limit=200_000)
    server.plan = [{"headers": {"Content-Length": "9" * 5000}}]
    refused("does not tell its length", server, tmp_path)
    begin(server, tmp_path)
    server.plan = [{"headers": {"Content-Range": f"bytes {'1' * 5000}-299999/{len(DATA)}"}}]
    get(server, tmp_path)
    assert whole(tmp_path) and server.first() == [100_000, 0]


def test_a_server_asks_for_a_pause_of_two_minutes_at_most(server, tmp_path):
    def pause(asked):
        return module._Patience().get_retry_after(type("answer", (), {"headers": {"Retry-After": asked}}))

    assert (pause("99999999"), pause("7"), pause("9" * 5000), pause("soon")) == (120, 7, None, None)
    server.plan = [{"status": 503, "headers": {"Retry-After": value}} for value in ("9" * 5000, "soon")]
    get(server, tmp_path, md5=MD5)
    assert whole(tmp_path)


def test_neither_terminal_codes_nor_passwords_are_told(server, tmp_path, capfd):
    server.plan = [{"status": 404, "reason": "Not \x1b[31mFound\x07"}]
    assert r"Not \x1b[31mFound\x07" in refused("answers 404", server, tmp_path)
    host = server.url
    server.url = host.replace("://", "://me:secret@")
    sentences = [refused("answers 404", server, tmp_path) for server.plan in ([{"status": 404}],)]
    sentences += [refused("has the MD5 sum", server, tmp_path, md5="0" * 32)]
    begin(server, tmp_path)
    sentences += [(tmp_path / "file.zip.part.json").read_text()]
    get(server, tmp_path)
    server.url += "x"  # a port that is no number
    (tmp_path / "file.zip").unlink()
    sentences += [refused("cannot fetch", server, tmp_path), *capfd.readouterr()]
    assert not any("secret" in sentence for sentence in sentences) and host[7:] in sentences[0]
