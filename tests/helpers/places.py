"""Where the tests find the project and what lies beside it."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TESTS, RUNS = ROOT / "tests", ROOT / "runs"
FIXTURES, SHARED = TESTS / "fixtures", ROOT.parent / "shared"
