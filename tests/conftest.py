"""What the tests share: official numbers and real data where they are here, memory that is given back, a list of what skips."""

import ctypes
import gc
import os
from collections import Counter
from pathlib import Path

import pytest
from places import FIXTURES, SHARED

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is loaded: on small tensors threads only wait for each other

STATM, MUCH = Path("/proc/self/statm"), 100_000_000  # bytes


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with fixtures and data beside the project; a test that needs it is skipped without it."""
    if not SHARED.is_dir():
        pytest.skip("the folder ../shared with official fixtures and data is not here")
    return SHARED


def pytest_addoption(parser):
    parser.addoption("--official", type=Path, default=SHARED / "fixtures", help="folder with the official numbers")


@pytest.fixture(scope="session")
def official_numbers(request) -> Path:
    """The folder with all official numbers, protocol/ and networks/; a test that needs it is skipped without it."""
    folder = request.config.getoption("official")
    if not folder.is_dir():
        pytest.skip("the official numbers are not here; the committed ones, a part of them, are checked")
    return folder


@pytest.fixture(scope="session", params=["committed", pytest.param("official", marks=pytest.mark.official)])
def numbers(request) -> Path:
    """Numbers to be equal to: the committed ones always (`make_fixtures.py`), and the official ones where they are here."""
    return FIXTURES if request.param == "committed" else request.getfixturevalue("official_numbers")


@pytest.fixture(scope="session")
def protocol(numbers) -> Path:
    """The part of `numbers` about the protocol: crops, heatmaps, suppression, scores."""
    return numbers / "protocol"


@pytest.fixture(autouse=True)
def memory_is_given_back():
    """The C library keeps what was freed, and after a network of half a gigabyte the process would stay that large."""
    before = resident()
    yield
    if resident() > before + MUCH:
        gc.collect()
        getattr(ctypes.CDLL(None), "malloc_trim", lambda pad: None)(0)


def pytest_terminal_summary(terminalreporter):
    """For each reason, how many tests it has kept from running: a pass that skips in silence claims too much."""
    reports = terminalreporter.stats.get("skipped", [])
    reasons = Counter(report.longrepr[2].removeprefix("Skipped: ") for report in reports if isinstance(report.longrepr, tuple))
    for reason, count in reasons.most_common():
        terminalreporter.write_line(f"{count} skipped: {reason}")


def resident() -> int:
    """Bytes of this process in memory, 0 where no file tells."""
    return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if STATM.exists() else 0
