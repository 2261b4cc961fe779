"""A report's record in words: where its page comes from, and the commands that make it again."""

import json
import re

from mdw.experiments.studies import NEEDS
from mdw.report.site.sources import MEASURED

ENDINGS = {
    "finished": "finished",
    "failed": "failed",
    "timeout": "timed out",
    "killed": "killed",
    "interrupted": "interrupted",
    "running": "running",
}
ALWAYS = ("Data", "Seeds", "Boxes", "Flip test", "Epochs", "Hardware")  # a page answers these even where they do not apply


def when(iso: str | None) -> str:
    """ "2024-05-01T10:20:30+00:00" -> "2024-05-01 10:20 UTC"."""
    return f"{iso[:10]} {iso[11:16]} UTC" if iso else "unknown"


def duration(seconds: float | None) -> str:
    """Seconds in the unit a reader would use."""
    if seconds is None:
        return "unknown"
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.1f} h"


def show_value(value: object) -> str:
    """A parameter or a fact as text."""
    if isinstance(value, list | tuple):
        return ", ".join(map(show_value, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value in (None, "") else str(value)


def number(name: str) -> str:
    """The number of a report by its name: "06_table5_modules" -> "06"; empty where it has none."""
    return found[0] if (found := re.match(r"\d+(?=_)", name)) else ""


def facts(found: dict, record: dict) -> dict:
    """What a notebook said of its runs, made complete: every name of `ALWAYS` first, then the others in order."""
    absent = "does not apply" if record["status"] == "finished" else "unknown"
    return dict.fromkeys(ALWAYS, absent) | {"Hardware": record.get("hardware") or absent} | found


def runs_read(record: dict) -> list[str]:
    """The finished runs and the measurements that a report was made from, by name."""
    made = (record.get("sources") or {}).get("runs", {})
    there = [name for name, digest in made.items() if digest]
    runs = [name.removesuffix("/result.json") for name in there if name.endswith("/result.json")]
    return runs + [name for name in there if name.startswith(MEASURED)]


def command(record: dict) -> str:
    """The command line that repeats a report, as it is typed in a shell."""
    words = ["mdw report", record["notebook"]]
    for name, value in record["parameters"].items():
        if name == "preset":
            words.append(f"--preset {value}")
        elif name == "runs":
            words += [f"--runs {_quote(str(value))}"] * (value != "runs")
        elif name in record.get("given", record["parameters"]):
            words.append(f"-p {_quote(f'{name}={value if isinstance(value, str) else json.dumps(value)}')}")
    return " ".join(words)


def trainings(record: dict) -> str:
    """The command line that first trains what a report needs and is missing; empty for one that needs no run."""
    if record["notebook"] not in NEEDS:
        return ""
    words, given = ["mdw reproduce", record["notebook"]], record.get("given", ())
    if "preset" in given:
        words.append(f"--preset {record['preset']}")
    if record["parameters"].get("seeds") and "seeds" in given:
        words.append(f"--seeds {','.join(map(str, record['parameters']['seeds']))}")
    return " ".join(words)


def _quote(text: str) -> str:
    return text if re.fullmatch(r"[\w./=:,-]+", text) else "'" + text.replace("'", "'\\''") + "'"
