"""Compiles units.c with kernels.c once for this processor and caches it: no build step, a few seconds at the first use.

It uses a C compiler and ctypes, because inductor needed 60 to 110 s for one module of one stage, and its training step was
slower than eager torch (32 x 128x96, 2 threads, torch 2.14: 91 to 109 ms against 69 ms).
"""

import ctypes
import hashlib
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path

from mdw.util.errors import MdwError
from mdw.util.files import cache_folder, cannot_write, discard, write_bytes

SOURCE = Path(__file__).with_name("units.c")
FLAGS = ("-O3", "-fno-math-errno", "-fno-trapping-math", "-fno-tree-loop-distribute-patterns", "-shared", "-fPIC")
TRIES = (("-march=native", "-fopenmp"), ("-mcpu=native", "-fopenmp"), ("-fopenmp",), ())  # the first the compiler takes
KINDS = {"int": ctypes.c_int, "i64": ctypes.c_longlong}
MALLOPT = {"M_TRIM_THRESHOLD": -1, "M_TOP_PAD": -2, "M_MMAP_MAX": -4}  # malloc.h's numbers
PAGE, LARGE_PAGES, MADV_HUGEPAGE = 2 * 2**20, 4 * 2**30, 14  # bytes, bytes, asm-generic/mman-common.h's number
REALS = {"float": ctypes.c_float, "double": ctypes.c_double}


def compiled(real: str = "float") -> Path:
    """Returns the compiled file for `real` "float" or "double", compiling it if needed. torch is not needed.

    Its name ends with its checksum: a damaged file is removed and compiled again, because loading it would end the process.
    $CC names the compiler, with arguments if needed ("ccache gcc"). $MDW_CFLAGS are flags that come after ours:
    "-march=x86-64" compiles for a processor without wide vectors and fused multiply-adds. Raises MdwError, with the reason,
    where compilation fails.
    """
    compiler = _compiler()
    version = _run([*compiler, "--version"]).stdout
    flags = _split_variable("MDW_CFLAGS")
    key = "\n".join([_source(), version, *FLAGS, *map(str, TRIES), *flags, _processor(), real])
    name = f"kernels-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
    folder = cache_folder()
    for file in folder.glob(f"{name}-*.so"):
        with suppress(OSError):
            if _named(name, file.read_bytes()) == file.name:
                return file
        discard(file)
    return _compile(compiler, folder, name, real, flags)


@cache
def kernels(real: str = "float") -> ctypes.CDLL:
    """Returns the functions of the `compiled` file, with argument types from the source.

    Raises MdwError as `compiled` does, and where the file cannot be loaded, as from a file system mounted noexec.
    """
    import torch  # noqa: F401  its OpenMP library must be loaded first, so that both use one pool of threads

    built, source = compiled(real), _source()
    kinds_of = KINDS | {"real": REALS[real]}
    try:
        library = ctypes.CDLL(str(built))
        for name, arguments in re.findall(r"^void (\w+)\(([^)]*)\)", source, re.MULTILINE):
            kinds = [argument.rsplit(None, 1) for argument in re.split(r",\s*", arguments.replace("\n", " "))]
            getattr(library, name).argtypes = [
                ctypes.c_void_p if "*" in "".join(kind) else kinds_of[kind[0].split()[-1]] for kind in kinds
            ]
            getattr(library, name).restype = None
    except (OSError, AttributeError) as error:
        raise MdwError(
            f"the compiled kernels {built} cannot be loaded ({error}); set MDW_CACHE to a folder from which programs may run, "
            "mend CC, or use the reference mode"
        ) from None
    return library


@cache
def keep_memory() -> None:
    """Make this process keep the memory that a training step frees, in large pages, for the next step.

    The C library gives large free blocks back to the system at once; a step of mdw_hrnet_18 (batch 32, 128x96) then has 11,000
    to 20,000 page faults, some 10 % of its time. Pages of 2 MiB instead of 4 KiB save another 2 to 13 %: the first
    `LARGE_PAGES` bytes of the heap, as addresses and not as memory, are reserved for them. The peak memory does not change
    (docs/measurements.md). Only for glibc on Linux; elsewhere nothing is done.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None, use_errno=True)
    libc.sbrk.restype, libc.sbrk.argtypes = ctypes.c_void_p, [ctypes.c_ssize_t]
    libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    for parameter, value in {"M_MMAP_MAX": 0, "M_TRIM_THRESHOLD": -1, "M_TOP_PAD": 64 * 2**20}.items():
        libc.mallopt(MALLOPT[parameter], value)
    begin = -(-libc.sbrk(0) // PAGE) * PAGE
    libc.free(libc.malloc(LARGE_PAGES))  # the heap stays that large
    if libc.sbrk(0) > begin:  # a limit on addresses may not allow it; then pages stay small
        libc.madvise(begin, (libc.sbrk(0) - begin) // PAGE * PAGE, MADV_HUGEPAGE)


def available() -> bool:
    """Returns whether the kernels can be compiled here and, if torch is imported, loaded; warns once with the reason if not."""
    try:
        kernels() if "torch" in sys.modules else compiled()
    except MdwError as error:
        _warn_once(f"mdw: networks are computed by the reference mode, which is slower: {error}")
        return False
    return True


@cache
def _warn_once(sentence: str) -> None:
    """Print `sentence` on stderr, once in a process."""
    print(sentence, file=sys.stderr)


def _source() -> str:
    return "".join(path.read_text(encoding="utf-8") for path in (SOURCE.with_name("kernels.c"), SOURCE))


def _compiler() -> list[str]:
    """Returns the command of the C compiler. Raises MdwError where there is none."""
    named = _split_variable("CC")
    compiler = shutil.which(named[0]) if named else shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if named and compiler is None:
        raise MdwError(f"the tuned mode needs a C compiler, and CC names {named[0]!r}, which is none; mend CC or unset it")
    if compiler is None:
        raise MdwError("the tuned mode needs a C compiler and found none; install gcc or clang, or use the reference mode")
    return [compiler, *named[1:]]


def _split_variable(variable: str) -> list[str]:
    """Returns an environment variable split as by a shell. Raises MdwError for an unclosed quotation mark."""
    try:
        return shlex.split(os.environ.get(variable, ""))
    except ValueError as error:
        raise MdwError(f"{variable} is {os.environ[variable]!r}, which cannot be split into words ({error}); mend it") from None


def _run(command: list[str]) -> subprocess.CompletedProcess:
    """Run a compiler, whose output may be in any encoding. Raises MdwError where it cannot be started."""
    try:
        return subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, encoding="utf-8", errors="replace")
    except OSError as error:
        raise MdwError(f"the C compiler {command[0]} cannot be started ({error.strerror}); mend CC or unset it") from None


def _named(name: str, content: bytes) -> str:
    return f"{name}-{hashlib.sha256(content).hexdigest()[:16]}.so"


def _compile(compiler: list[str], folder: Path, name: str, real: str, flags: list[str]) -> Path:
    """Compile the source into `folder` with the first of TRIES that works, and return the file's path."""
    reason = ""
    try:
        with tempfile.TemporaryDirectory(dir=folder) as temporary:
            fresh = Path(temporary) / "kernels.so"
            for extra_flags in TRIES:
                process = _run(
                    [*compiler, *FLAGS, *extra_flags, *flags, f"-DREAL={real}", "-o", str(fresh), str(SOURCE), "-lm"]
                )
                if process.returncode == 0 and fresh.is_file():
                    content = fresh.read_bytes()
                    return write_bytes(folder / _named(name, content), content)
                reason = reason or next((line for line in process.stderr.splitlines() if "error" in line), "no reason given")
    except OSError as error:
        raise cannot_write(folder, error) from None
    remedy = f"mend MDW_CFLAGS, which is {' '.join(flags)!r}" if flags else "install a current gcc or clang"
    raise MdwError(f"{' '.join(compiler)} cannot compile {SOURCE} ({reason}); {remedy}, or use the reference mode")


def _processor() -> str:
    """Returns the processor's features, so that different machines with a common home folder do not use the same code."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        return next((line for line in lines if line.startswith(("flags", "Features"))), platform.machine())
    except OSError:
        return f"{platform.system()} {platform.machine()} {platform.processor()}"
