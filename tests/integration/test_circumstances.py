"""Odd surroundings: locale, folders, mounts, compilers. What is asked for is done, or one sentence says why not."""

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from report_helpers import NOTEBOOKS
from small_networks import small

from mdw.backends.cpu import library
from mdw.models import create_model
from mdw.report.site.notebook import read_record
from mdw.util.errors import MdwError

MDW = Path(sys.executable).with_name("mdw")
PUBLISH = """
import sys
from mdw.report.site import publish
publish.publish(["80"], "smoke", None, sys.argv[1] + "/runs", sys.argv[1] + "/reports", timeout=300, notebooks=sys.argv[2])
"""


def run(*command, **environment) -> subprocess.CompletedProcess:
    cwd = environment.pop("cwd", None)
    kept = {
        name: value for name, value in os.environ.items() if name not in ("LC_ALL", "LANG", "PYTHONUTF8", "MDW_CFLAGS", "CC")
    }
    words = [str(word) for word in command]
    return subprocess.run(words, capture_output=True, text=True, errors="replace", cwd=cwd, env=kept | environment, timeout=500)


def published(folder: Path, cwd: Path, **environment) -> str:
    """The page of everything, published into `folder` by a process of its own from `cwd`."""
    driver = folder.with_name("driver.py")
    driver.write_text(PUBLISH)
    done = run(sys.executable, "-P", driver, folder, NOTEBOOKS, cwd=cwd, **environment)
    record = read_record(folder / "reports/80_everything")
    assert record and record["status"] == "finished", (done.stderr[-2000:], record and record["error"])
    return (folder / "reports/80_everything/index.html").read_text(encoding="utf-8")


def test_a_report_from_a_working_folder_of_traps_in_an_ascii_locale(tmp_path):
    """A random.py, a style that asks for TeX, another repository, braces in the path."""
    folder = tmp_path / "{x} {y"
    folder.mkdir()
    for name in ("random.py", "statistics.py", "json.py"):
        (folder / name).write_text("raise SystemExit('this is not the library')")
    (folder / "matplotlibrc").write_text("text.usetex: True\nsvg.fonttype: path\n")
    environment = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "GIT_DIR": "/nowhere", "GIT_WORK_TREE": "/"}
    text = published(folder / "out", folder, **environment)
    assert "A rising line." in text and "rising" in text and "<svg" in text
    here = Path(__file__).parent
    head = subprocess.run(["git", "-C", here, "rev-parse", "--short=10", "HEAD"], capture_output=True, text=True).stdout.strip()
    assert read_record(folder / "out/reports/80_everything")["commit"].removesuffix("+") == head  # not of GIT_DIR


def test_a_parameter_that_no_locale_reads_is_refused():
    from mdw.report.site import parameters

    allowed = {"runs": parameters.Parameter("runs", "runs")}
    for path in ("l\udcc3\udca4ufer", "\ud800"):
        with pytest.raises(MdwError, match="parameter `runs` is .*, whose letters this locale cannot read; set PYTHONUTF8=1"):
            parameters.check({"runs": path}, allowed)


def test_a_report_with_a_long_name_of_the_temporary_folder(tmp_path):
    """A socket's name has at most 107 bytes."""
    long = tmp_path / ("t" * 140)
    long.mkdir()
    assert "A rising line." in published(tmp_path / "out", tmp_path, TMPDIR=str(long))
    assert not list(long.iterdir())


ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.mark.parametrize(
    "words", [("list",), ("--help",), ("report", "--check"), ("runs",), ("predict", "läufer.jpg"), ("data", "list")]
)
def test_an_ascii_locale(tmp_path, words):
    done = run(MDW, *words, cwd=tmp_path, **ASCII)
    assert done.returncode in (0, 1) and "Traceback" not in done.stderr, done.stderr[-800:]


@pytest.mark.parametrize("target", ["/dev/full", "closed"])
@pytest.mark.parametrize("words", [("list",), ("--help",)])
def test_an_output_that_takes_nothing(words, target):
    where = ">&-" if target == "closed" else f"> {target}"
    done = run("sh", "-c", f"exec {MDW} {' '.join(words)} {where}")
    assert "Traceback" not in done.stderr
    assert done.returncode == (0 if target == "closed" else 1) and ("cannot be written" in done.stderr) == (
        target == "/dev/full"
    )


@pytest.fixture
def mounted(tmp_path):
    """A function options -> a small file system mounted with them; skipped where one may not mount."""
    places = []

    def mount(options: str) -> Path:
        place = tmp_path / f"mount{len(places)}"
        place.mkdir()
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", place], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
        places.append(place)
        return place

    yield mount
    for place in places:
        subprocess.run(["umount", place], check=False)


CHOOSE = "import torch; from mdw.backends.choose import choose; print(choose('auto', 'cpu'), choose('auto', 'cpu'))"


def chosen(**environment) -> tuple[str, str]:
    """What a new process computes by, and what it says."""
    done = run(sys.executable, "-c", CHOOSE, **{"MDW_CFLAGS": "-O0"} | environment)  # compiled in a second
    assert done.returncode == 0, done.stderr[-800:]
    return done.stdout.strip(), done.stderr


def test_a_cache_that_is_mounted_noexec(mounted):
    """The kernels compile and cannot be loaded: the slower backend, and why, once."""
    backend, said = chosen(MDW_CACHE=str(mounted("noexec,size=16m")))
    assert backend == "reference reference" and said.count("reference mode, which is slower") == 1 and "MDW_CACHE" in said


def test_a_cache_on_a_full_disk(mounted):
    backend, said = chosen(MDW_CACHE=str(mounted("size=64k")))
    assert backend == "reference reference" and said.count("which is slower") == 1, said
    assert "make room" in said or "No space" in said or "cannot" in said


def test_a_read_only_mount_keeps_the_sentence(mounted):
    from mdw.util.files import whole, write_text

    place = mounted("size=1m")
    subprocess.run(["mount", "-o", "remount,ro", place], check=True)
    with pytest.raises(MdwError, match="cannot write .*(?:Read-only|read-only)"):
        write_text(place / "a.txt", "text")
    with pytest.raises(MdwError, match="cannot write .*read-only"), whole(place / "b.onnx"):
        pass


def test_a_mount_that_becomes_read_only_keeps_the_sentence(mounted):
    """The clean-up of a half-written file fails too, and has nothing to say."""
    from mdw.util.files import whole

    place = mounted("size=1m")
    with pytest.raises(MdwError, match="cannot write .*Read-only"), whole(place / "b.onnx") as half:
        half.write_text("work of 40 seconds")
        subprocess.run(["mount", "-o", "remount,ro", place], check=True)
    with pytest.raises(ZeroDivisionError), whole(mounted("size=1m") / "c.onnx") as half:
        half.write_text("x")
        subprocess.run(["mount", "-o", "remount,ro", half.parent], check=True)
        raise ZeroDivisionError


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A new cache with the kernels, compiled in a second and without care."""
    for name, value in {"MDW_CACHE": str(tmp_path / "cache"), "MDW_CFLAGS": "-O0"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("CC", raising=False)
    try:
        return library.compiled()
    except MdwError as error:
        pytest.skip(f"no kernels here: {error}")


DAMAGE = {
    "truncated": lambda data: data[: len(data) // 2],
    "zeroed": lambda data: bytes(len(data)),
    "a page of zeros": lambda data: data[:4096] + bytes(4096) + data[8192:],
    "empty": lambda data: b"",
    "foreign": lambda data: Path("/bin/true").read_bytes(),
    "one bit": lambda data: data[:-9] + bytes([data[-9] ^ 1]) + data[-8:],
    "text": lambda data: b"not a library",
}


def test_a_damaged_library_is_made_anew(cache):
    whole = cache.read_bytes()
    for name, damage in DAMAGE.items():
        cache.write_bytes(damage(whole))
        assert library.compiled() == cache and cache.read_bytes() == whole, name  # gcc writes the same byte by byte
        assert [path.name for path in cache.parent.iterdir()] == [cache.name], name
    ctypes.CDLL(str(cache))


@pytest.mark.parametrize("command", ["ccache gcc", "gcc -m64", "ccache gcc -m64", "env LC_ALL=C gcc"])
def test_compilers_with_arguments(cache, tmp_path, monkeypatch, command):
    """A ccache that stands for the real one: a program that runs its arguments."""
    (tmp_path / "bin").mkdir()
    ccache = tmp_path / "bin/ccache"
    ccache.write_text('#!/bin/sh\necho "$*" >> "$0.log"\nexec "$@"\n')
    ccache.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("MDW_CACHE", str(tmp_path / "another"))
    monkeypatch.setenv("CC", command)
    ctypes.CDLL(str(library.compiled()))
    assert command.startswith("ccache") == (tmp_path / "bin/ccache.log").exists()


@pytest.mark.parametrize(
    "options",
    [{"norm": "group", "channel_ratios": (20, 4, 4, 4)}, {"norm": "group", "channel_ratios": (4, 4, 4, 160)}],
)
def test_a_norm_over_one_value_is_refused(options):
    with pytest.raises(MdwError, match="channel_ratios has .* leaves norm 'group' one value; give at most"):
        create_model("mdw_hrnet_18", **options)


@pytest.mark.parametrize(
    "options", [{"spatial_ratio": 64}, {"spatial_ratio": 64, "dense_spatial": False}, {"order": "parallel"}]
)
def test_a_group_norm_of_a_single_value_is_computed(options):
    """One image of 32 x 32 pixels, whose lowest map is a single value of a single channel."""
    model = small("mdw_hrnet_18", 5, norm="group", channel_ratios=(2, 2, 2, 2), **options).eval()
    with torch.no_grad():
        assert model(torch.randn(1, 3, 32, 32)).isfinite().all()


@pytest.mark.parametrize("name", ["mobilenetv2", "mobilenetv3", "shufflenetv2", "simple_baseline_50"])
def test_imagenet_weights_that_cannot_be_fetched(name, monkeypatch, tmp_path):
    import socket

    def none(*_, **__):
        raise OSError("Network is unreachable\nand more")

    for function in ("getaddrinfo", "create_connection"):
        monkeypatch.setattr(socket, function, none)
    for variable in ("HF_HOME", "TORCH_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(variable, str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("torch.hub._hub_dir", str(tmp_path))
    monkeypatch.setattr("time.sleep", lambda _: None)  # the hub's client tries again, after a while
    with pytest.raises(MdwError, match="ImageNet weights of .* cannot be fetched .*; connect, or leave pretrained out"):
        create_model(name, pretrained=True)
