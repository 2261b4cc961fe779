"""`python benchmarks/lspet_val.py LSPET OUT`: a folder like LSPET's in which only photos of the split "val" have content."""

import csv
import shutil
import sys
from pathlib import Path


def main(source: Path, out: Path) -> None:
    (out / "images").mkdir(parents=True, exist_ok=True)
    for name in ("joints.mat", "split.csv"):
        shutil.copyfile(source / name, out / name)
    with open(source / "split.csv", newline="", encoding="utf-8") as lines:
        kept = {row["image"] for row in csv.DictReader(lines) if row["split"] == "val"}
    for photo in (source / "images").iterdir():
        if photo.name in kept:
            shutil.copyfile(photo, out / "images" / photo.name)
        else:
            (out / "images" / photo.name).touch()  # the reader wants the numbers without a gap, and opens only its split's


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:3]))
