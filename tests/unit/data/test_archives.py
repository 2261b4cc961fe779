"""Unpacking what comes from elsewhere: files come out whole, and nothing gets out of the folder."""

import gzip
import io
import stat
import struct
import tarfile
import zipfile
import zlib

import numpy as np
import pytest

from mdw.data import archives
from mdw.data.archives import unpack
from mdw.util.errors import MdwError

FILES = {"images/im1.jpg": b"one" * 1000, "images/deep/im2.jpg": b"", "joints.mat": bytes(range(256)) * 20}
LIMIT = 10_000


def zipped(path, *members, method=zipfile.ZIP_DEFLATED):
    """A zip of (name or ZipInfo, bytes) pairs, in this order."""
    with zipfile.ZipFile(path, "w", method) as file:
        for name, data in members:
            file.writestr(name, data)
    return path


def tarred(path, *members):
    """A tar of (name or TarInfo, bytes) pairs, packed where the name ends in .gz."""
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w", format=tarfile.GNU_FORMAT) as file:
        for name, data in members:
            info = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))
    return path


def special(name, kind, target="/etc/passwd"):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def refused(match, archive, folder, limit=LIMIT):
    """The archive is refused in one sentence, and neither `folder` nor anything beside it has been made."""
    before = sorted(folder.parent.rglob("*"))
    with pytest.raises(MdwError, match=match) as error:
        unpack(archive, folder, limit)
    assert "\n" not in str(error.value) and archive.name in str(error.value)
    assert sorted(folder.parent.rglob("*")) == before
    return str(error.value)


MAKERS = [(zipped, "a.zip"), (tarred, "a.tar"), (tarred, "a.tar.gz")]


@pytest.mark.parametrize("make, name", MAKERS)
def test_files_come_out_as_they_went_in(tmp_path, make, name):
    archive = make(tmp_path / name, *FILES.items())
    found = unpack(archive, tmp_path / "out" / "new", LIMIT)
    assert found == {path: (len(data), zlib.crc32(data)) for path, data in FILES.items()}
    for path, data in FILES.items():
        assert (tmp_path / "out" / "new" / path).read_bytes() == data


def test_folders_and_modes_are_plain(tmp_path):
    folder, program = tarfile.TarInfo("./images"), tarfile.TarInfo("./images/run")
    folder.type, folder.mode, program.mode = tarfile.DIRTYPE, 0o000, 0o6777
    top = tarfile.TarInfo(".")
    top.type = tarfile.DIRTYPE
    unpack(tarred(tmp_path / "a.tar.gz", (top, b""), (folder, b""), (program, b"x")), tmp_path / "out", LIMIT)
    assert (tmp_path / "out/images/run").stat().st_mode & 0o7111 == 0
    unpack(zipped(tmp_path / "a.zip", ("images/", b""), ("images/im1.jpg", b"x")), tmp_path / "out2", LIMIT)
    assert (tmp_path / "out2/images/im1.jpg").is_file()


@pytest.mark.parametrize("make, name", MAKERS)
@pytest.mark.parametrize(
    "path", ["../evil", "a/../../evil", "/evil", "..\\evil", "a\\..\\evil", "C:evil", "C:/evil", "//host/share/x"]
)
def test_no_way_out_of_the_folder(tmp_path, make, name, path):
    (tmp_path / "sub").mkdir()
    archive = make(tmp_path / name, ("good", b"x"), (path, b"evil"))
    refused("leads out of its folder", archive, tmp_path / "sub" / "out")
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_no_links_and_devices_in_a_tar(tmp_path, kind):
    archive = tarred(tmp_path / "a.tar.gz", ("good", b"x"), (special("bad", kind), b""), ("bad/file", b"through the link"))
    assert "'bad'" in refused("a link or device", archive, tmp_path / "out")


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO])
def test_no_links_and_devices_in_a_zip(tmp_path, kind):
    info = zipfile.ZipInfo("bad")
    info.external_attr = (kind | 0o777) << 16
    refused("'bad', a link or device", zipped(tmp_path / "a.zip", ("good", b"x"), (info, b"/etc/passwd")), tmp_path / "out")


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("make, name", MAKERS)
@pytest.mark.parametrize("twice", ["a/b", "a/./b", "a//b", "a", "a/b/c"])
def test_no_name_comes_twice(tmp_path, make, name, twice):
    refused("holds the name .* twice", make(tmp_path / name, ("a/b", b"x"), (twice, b"y")), tmp_path / "out")


@pytest.mark.parametrize("make, name", MAKERS)
def test_no_more_comes_out_than_expected(tmp_path, make, name):
    archive = make(tmp_path / name, ("a", bytes(6000)), ("b", bytes(4001)))
    refused("unpacks to more than 10,000 bytes", archive, tmp_path / "out")
    assert unpack(archive, tmp_path / "out", 10_001).keys() == {"a", "b"}


@pytest.mark.parametrize("stated", [100, 5_001])
def test_a_zip_that_lies_about_its_size(tmp_path, stated):
    archive = zipped(tmp_path / "a.zip", ("a", bytes(5_000)))
    data = bytearray(archive.read_bytes())
    at = data.index(b"PK\x01\x02")
    data[at + 24 : at + 28] = struct.pack("<I", stated)
    archive.write_bytes(data)
    refused("is broken .*CRC" if stated < 5_000 else "another size than stated", archive, tmp_path / "out")


@pytest.mark.parametrize("make, name", MAKERS)
@pytest.mark.parametrize("share", [0, 0.3, 0.6, 0.9])
def test_a_cut_archive(tmp_path, make, name, share):
    noise = np.random.default_rng(0).bytes(40_000)
    archive = make(tmp_path / name, ("a", noise[:20_000]), ("b", noise[20_000:]))
    archive.write_bytes(archive.read_bytes()[: int(share * len(noise))])
    refused("is broken", archive, tmp_path / "out", 10**6)


def test_a_wrong_checksum(tmp_path):
    archive = zipped(tmp_path / "a.zip", ("a", b"hello world"), method=zipfile.ZIP_STORED)
    archive.write_bytes(archive.read_bytes().replace(b"hello", b"hallo"))
    refused("is broken .*CRC", archive, tmp_path / "out")
    archive = tarred(tmp_path / "a.tar", ("a", b"hello world"))
    packed = bytearray(gzip.compress(archive.read_bytes()))
    packed[-8] ^= 1  # gzip's CRC-32, behind the last member
    (tmp_path / "a.tar.gz").write_bytes(packed)
    refused("is broken .*CRC", tmp_path / "a.tar.gz", tmp_path / "out")


def test_what_is_no_archive(tmp_path):
    for name in ("a.zip", "a.tar", "a.tar.gz"):
        (tmp_path / name).write_bytes(b"<html>moved</html>" * 100)
        refused("is broken", tmp_path / name, tmp_path / "out")
    refused("No such file", tmp_path / "gone.zip", tmp_path / "out")


def test_names_and_packings_that_cannot_be_used(tmp_path):
    refused("is broken", tarred(tmp_path / "a.tar", ("caf\udce9", b"x")), tmp_path / "out")  # latin-1
    secret = zipped(tmp_path / "a.zip", ("a", b"x"))
    data = bytearray(secret.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1  # encrypted
    data[data.index(b"PK\x03\x04") + 6] |= 1
    secret.write_bytes(data)
    refused("is broken .*password", secret, tmp_path / "out")


def test_what_would_take_gigabytes_of_memory_is_refused(tmp_path):
    """A name of 2 GB, a note of 2 GB, a map of holes, LZMA's dictionary: refused by their headers, which are all there is."""
    for kind in (tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_SPARSE):
        info = special("long", kind)
        info.size = 2 << 30
        archive = tmp_path / "a.tar.gz"
        archive.write_bytes(gzip.compress(info.tobuf(tarfile.GNU_FORMAT) + bytes(1 << 16)))
        refused("is broken .*a name without end", archive, tmp_path / "out")
    for method in (zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2):
        refused("'a' in an unusual way", zipped(tmp_path / "a.zip", ("a", b"x"), method=method), tmp_path / "out")


def test_a_folder_that_exists_is_left_alone(tmp_path):
    archive = zipped(tmp_path / "a.zip", ("a", b"x"))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("precious")
    refused("mine", archive, tmp_path / "mine")
    assert (tmp_path / "mine" / "file").read_text() == "precious"


def test_a_full_disk_is_no_broken_archive(tmp_path, monkeypatch):
    archive = zipped(tmp_path / "a.zip", ("a", b"x"))

    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(archives, "open", full, raising=False)
    assert "download" not in refused("No space left", archive, tmp_path / "out")
