"""Writes the zip for COCO's evaluation server, for a split without public labels, and reads the scores it returns.

The zip holds only `[type]_[testset]_[alg]_results.json` and has the same name; the type is `person_keypoints`. This follows
public projects that submit there; check the server's instructions (https://cocodataset.org/#upload) before you upload.
"""

import io
import json
import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mdw.pose.average_precision import COCO_NAMES
from mdw.util.errors import MdwError
from mdw.util.files import read_bytes, write_bytes


def submission_path(folder: str | Path, algorithm: str, split: str) -> Path:
    """Returns the path of the zip. Raises MdwError unless `algorithm` is letters, digits and hyphens ("_" separates fields)."""
    if not re.fullmatch(r"[A-Za-z0-9-]+", algorithm):
        raise MdwError(
            f"{algorithm!r} cannot be part of a submission's name; use letters, digits and hyphens, as in mdw-hrnet-18"
        )
    return Path(folder) / f"person_keypoints_{split}2017_{algorithm}_results.zip"


def write_submission(folder: str | Path, algorithm: str, split: str, results: Sequence[Mapping[str, Any]]) -> Path:
    """Write results (of `coco_results`) in the server's format and return the zip's path.

    To keep test-dev small enough for the upload, only the four fields of COCO's format are written, positions to a hundredth of
    a pixel and joint scores, which the server does not use, to a thousandth. Instance scores keep all digits, because their
    order counts. Equal results give equal bytes.
    """
    path = submission_path(folder, algorithm, split)
    entries = [
        {
            "image_id": entry["image_id"],
            "category_id": entry["category_id"],
            "keypoints": [round(value, 3 if k % 3 == 2 else 2) for k, value in enumerate(entry["keypoints"])],
            "score": entry["score"],
        }
        for entry in results
    ]
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        entry_info = zipfile.ZipInfo(path.with_suffix(".json").name, (1980, 1, 1, 0, 0, 0))  # the clock would change the bytes
        entry_info.compress_type, entry_info.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
        archive.writestr(entry_info, json.dumps(entries, allow_nan=False, separators=(",", ":")))
    return write_bytes(path, packed.getvalue())


def read_scores(path: str | Path) -> dict[str, float]:
    """Reads the scores that the server returned: {"AP": 0..1, "AP50": ..., ...}, by the names of `COCO_NAMES`.

    It reads the ten lines that COCO's evaluation code prints ("Average Precision (AP) @[ IoU=0.50:0.95 | area= all | maxDets=
    20 ] = 0.709"), anywhere in a text, or a JSON object with these names; the server's present format was not available to us.
    Raises MdwError, naming the file, where there is no AP between 0 and 1, or two different ones.
    """
    path = Path(path)
    try:
        text = read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise MdwError(f"cannot read {path} ({error}); save the server's scores there as text") from None
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):  # no JSON; a number or a nesting without end
        values = None
    pairs = (
        list(values.items()) if isinstance(values, dict) else [(_name(m), float(m["value"])) for m in _PRINTED.finditer(text)]
    )
    scores: dict[str, float] = {}
    for name, value in pairs:
        if name in COCO_NAMES:
            number = type(value) in (int, float) and -1 <= value <= 1
            if not number or scores.get(name, value) != value:
                raise MdwError(f"{path} does not say one number for {name}; keep one evaluation's scores in it")
            scores[name] = float(value)
    if not 0 <= scores.get("AP", -1) <= 1:
        raise MdwError(f"{path} holds no AP between 0 and 1; save what the server printed, or a JSON object with AP, AP50, ...")
    return scores


_PRINTED = re.compile(
    r"\((?P<kind>AP|AR)\)\s*@\[\s*IoU=(?P<iou>[\d.:]+)\s*\|\s*area=\s*(?P<area>\w+)\s*\|\s*maxDets=\s*20\s*\]\s*="
    r"\s*(?P<value>-?\d+(\.\d+)?)"
)


def _name(match: re.Match) -> str:
    of_iou = {"0.50": "50", "0.75": "75"}.get(match["iou"], "")
    return match["kind"] + of_iou + {"medium": "M", "large": "L"}.get(match["area"], "")
