"""Data sets from a local server to a checked folder: stopped anywhere, the same command goes on; verify sees what is wrong."""

import hashlib
import io
import os
import re
import signal
import subprocess
import sys
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
from local_server import serve, zipped

from mdw.data import download as module
from mdw.data.download import download, mirrored, verify
from mdw.data.sources import SOURCES, Archive, Manual, Source
from mdw.util.errors import MdwError

FILES = {f"images/im{k:05d}.jpg": os.urandom(20_000 + k) for k in range(1, 6)}
LABELS = {"annotations/a.json": b"[]", "annotations/b.json": b"[1]"}


def tarred(files):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as file:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))
    return stream.getvalue()


def archive(part, url, data, holds, **options):
    known = {"size": len(data), "md5": hashlib.md5(data).hexdigest()}
    return Archive(part, url, len(data), 200_000, holds, **(known | options))


@pytest.fixture
def server():
    with serve(files={"/v/labels.zip": zipped(LABELS), "/v/images.tar.gz": tarred(FILES)}) as server:
        yield server


@pytest.fixture
def source(server):
    labels, images = (server.files[f"/v/{name}"] for name in ("labels.zip", "images.tar.gz"))
    return Source(
        archives=(
            archive("labels", f"{server.url}/v/labels.zip", labels, (("annotations/*.json", 2),)),
            archive("images", f"{server.url}/v/images.tar.gz", images, (("images/im*.jpg", 5),)),
        ),
        manual=(Manual("boxes", "results/boxes.json", "ask the authors", 3),),
    )


def get(source, root, **options):
    lines = []
    download(source, root, tell=lines.append, wait=0, tries=3, **options)
    return lines


def refused(match, source, root, **options):
    with pytest.raises(MdwError, match=match) as error:
        get(source, root, **options)
    assert "\n" not in str(error.value)


def states(source, root, **options):
    return [line.state for line in verify(source, root, **options)]


def is_whole(root, files=FILES | LABELS):
    there = {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file() and ".mdw" not in p.parts}
    return there == files


def test_everything_is_fetched_unpacked_and_found_whole(server, source, tmp_path):
    root = tmp_path / "new" / "root"
    assert states(source, root) == ["absent"] * 3 and not root.exists()
    lines = get(source, root)
    assert is_whole(root) and len(server.asked) == 2
    assert "MD5 sum right; 2 files with the size" in lines[0]
    assert "ask the authors" in lines[2] and str(root / "results/boxes.json") in lines[2] and "with 3 entries" in lines[2]
    assert [line.state for line in verify(source, root, contents=True)] == ["ok", "ok", "absent"]
    assert "there already" in get(source, root)[0] and len(server.asked) == 2


def test_kept_archives_are_checked_too(server, source, tmp_path):
    get(source, tmp_path, keep_archives=True)
    assert is_whole(tmp_path, FILES | LABELS | {path[3:]: data for path, data in server.files.items()})
    assert states(source, tmp_path)[:2] == ["ok", "ok"]
    (tmp_path / "labels.zip").write_bytes(server.files["/v/labels.zip"][::-1])
    found = verify(source, tmp_path)[0]
    assert found.state == "broken" and "labels.zip has the MD5 sum" in found.checked


def test_what_is_missing_or_changed_is_seen_and_mended(server, source, tmp_path):
    get(source, tmp_path)
    changed, missing = tmp_path / "images/im00002.jpg", tmp_path / "images/im00004.jpg"
    data = bytearray(changed.read_bytes())
    data[7] ^= 1
    changed.write_bytes(data)
    assert states(source, tmp_path)[1] == "ok"  # only the size is compared
    assert states(source, tmp_path, contents=True)[1] == "broken"
    missing.unlink()
    found = verify(source, tmp_path, contents=True)[1]
    assert (found.state, found.part) == ("broken", "images") and "2 of 5 files missing or changed" in found.checked
    assert "images/im00002.jpg" in found.checked
    server.asked.clear()
    get(source, tmp_path)
    assert is_whole(tmp_path) and len(server.asked) == 1  # the labels were not fetched again
    (tmp_path / "annotations/a.json").write_bytes(b"[2, 3]")
    assert states(source, tmp_path)[0] == "broken"
    for name in LABELS:
        (tmp_path / name).unlink()
    assert states(source, tmp_path) == ["absent", "ok", "absent"]


def test_an_archive_put_there_by_hand_is_used(server, source, tmp_path):
    for path, data in server.files.items():
        (tmp_path / Path(path).name).write_bytes(data)
    get(source, tmp_path)
    assert is_whole(tmp_path) and server.asked == []
    (tmp_path / "images/im00001.jpg").unlink()
    (tmp_path / "images.tar.gz").write_bytes(server.files["/v/images.tar.gz"][:-1])
    refused("images.tar.gz has .* bytes instead of", source, tmp_path)
    (tmp_path / "images.tar.gz").write_bytes(server.files["/v/images.tar.gz"][::-1])
    refused("images.tar.gz has the MD5 sum", source, tmp_path)


def test_a_copy_unpacked_by_hand_is_told_by_its_counts(server, source, tmp_path):
    for name, data in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    found = verify(source, tmp_path)[1]
    assert found.state == "ok" and found.checked == "only counted: 5 of 5 images/im*.jpg"
    get(source.pick(["images"]), tmp_path)
    assert server.asked == []
    (tmp_path / "images/im00003.jpg").unlink()
    assert states(source, tmp_path)[1] == "broken"
    get(source.pick(["images"]), tmp_path)
    assert is_whole(tmp_path, FILES)


def test_files_of_no_archive_are_counted(source, tmp_path):
    (tmp_path / "results").mkdir()
    for text, state in (("[1, 2, 3]", "ok"), ("[1]", "broken"), ('{"a": 1}', "broken"), ("[1, 2", "broken")):
        (tmp_path / "results/boxes.json").write_text(text)
        assert states(source, tmp_path)[2] == state, text


def test_killed_while_unpacking(server, source, tmp_path):
    """SIGKILL at the worst places: files half unpacked, files half moved. The same call again makes it whole."""
    code = """
import os, signal, sys
from pathlib import Path
from mdw.data import archives, download as module
from mdw.data.sources import Archive, Source
where, root, url, size = sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
calls = 0
def die_at_the_third(function):
    def called(*arguments, **options):
        global calls
        calls += 1
        if calls == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **options)
    return called
(root / "images").mkdir(parents=True)  # so that the files are moved one by one
if where == "unpack":
    archives._safe_parts = die_at_the_third(archives._safe_parts)
else:
    os.replace = die_at_the_third(os.replace)
    module.write_text = lambda path, text: Path(path).write_text(text)
    module.fetch = lambda url, path, *rest, **options: Path(path).write_bytes(__import__("requests").get(url).content)
images = Archive("images", url, size, 200_000, (("images/im*.jpg", 5),))
module.download(Source((images,)), root)
"""
    images = source.pick(["images"])
    for where in ("unpack", "move"):
        root = tmp_path / where
        size = str(len(server.files["/v/images.tar.gz"]))
        done = subprocess.run([sys.executable, "-c", code, where, str(root), images.archives[0].url, size])
        assert done.returncode == -signal.SIGKILL
        assert len(list(root.glob("images/*"))) == (0 if where == "unpack" else 2)
        assert states(images, root) == ["absent" if where == "unpack" else "broken"]
        server.asked.clear()
        get(images, root)
        assert is_whole(root, FILES) and server.asked == []  # from the archive that was there
        assert not list(root.glob(".mdw/unpacking*"))


def test_another_process_that_has_just_finished_leaves_nothing_to_do(server, source, tmp_path, monkeypatch):
    labels = source.pick(["labels"])
    room = module._check_room
    monkeypatch.setattr(module, "_check_room", lambda *a: (monkeypatch.undo(), room(*a), get(labels, tmp_path)))
    get(labels, tmp_path)
    assert len(server.asked) == 1


def test_the_disk_is_looked_at_first(server, source, tmp_path, monkeypatch):
    sizes = [len(data) for data in server.files.values()]
    free = [400_000 + max(sizes) - 1]
    monkeypatch.setattr("shutil.disk_usage", lambda folder: type("usage", (), {"free": free[0]}))
    refused("unpacking labels.zip, images.tar.gz needs .* make room", source, tmp_path)
    assert server.asked == []
    free[0] += 1
    refused("make room", source, tmp_path, keep_archives=True)
    get(source, tmp_path)
    assert is_whole(tmp_path)


def test_what_cannot_be_had_leaves_the_rest_whole(server, source, tmp_path):
    good = server.files["/v/images.tar.gz"]
    server.files["/v/images.tar.gz"] = good[::-1]
    refused("has the MD5 sum", source, tmp_path)
    assert is_whole(tmp_path, LABELS)
    del server.files["/v/images.tar.gz"]
    refused("answers 404", source, tmp_path)
    assert is_whole(tmp_path, LABELS)
    server.files["/v/images.tar.gz"] = good
    get(source, tmp_path)
    assert is_whole(tmp_path)


def test_a_hostile_archive_gets_nothing_into_the_folder(server, source, tmp_path):
    server.files["/v/labels.zip"] = evil = zipped(LABELS | {"../../evil": b"x"})
    (labels,) = source.pick(["labels"]).archives
    bad = Source((replace(labels, size=len(evil), md5=hashlib.md5(evil).hexdigest()),))
    refused("leads out of its folder", bad, tmp_path / "root")
    assert is_whole(tmp_path / "root", {"labels.zip": evil}) and states(bad, tmp_path / "root") == ["absent"]


def test_a_folder_that_cannot_be_used_is_named(source, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    refused("--root", source, tmp_path / "file")
    get(source, tmp_path / "good")
    (tmp_path / "good/.mdw/labels.zip.csv").write_text("path,bytes,crc32\nannotations/a.json,many,0\n")
    assert states(source, tmp_path / "good")[0] == "broken"
    get(source, tmp_path / "good")
    assert states(source, tmp_path / "good")[0] == "ok"


def test_a_mirror_keeps_the_path():
    url = "http://images.example.org/zips/a.zip"
    assert mirrored(url, None) == url
    assert mirrored(url, "https://mirror.example.org:81/coco/") == "https://mirror.example.org:81/coco/zips/a.zip"
    for bad in ("mirror.example.org", "ftp://mirror.example.org", "http://", "http://[::1", "/data"):
        with pytest.raises(MdwError, match="--mirror .* is no address"):
            mirrored(url, bad)
    with pytest.raises(MdwError, match="ftp://m.example.org'"):
        mirrored(url, "ftp://me:secret@m.example.org")


def test_what_is_written_about_the_sources_hangs_together():
    for source in SOURCES.values():
        parts = [item.part for item in source.archives]
        assert len(set(parts)) == len(parts) and len({a.file for a in source.archives}) == len(parts)
        for item in source.archives:
            assert item.url.startswith("http") and item.file.endswith((".zip", ".tar.gz"))
            assert item.about <= item.unpacked and item.size in (None, item.about)
            assert item.md5 is None or re.fullmatch("[0-9a-f]{32}", item.md5)
