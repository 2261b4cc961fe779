"""Every network at every size: what was published of its cost, and what we count, by each convention in a column of its own."""

from functools import cache

import pandas as pd

from mdw.models import counts, list_models
from mdw.report import article
from mdw.report.names import NETWORKS, size_of
from mdw.report.outputs import MEASURED

SIZES = ("256x192", "384x288", "256x256")


@cache
def _published() -> pd.DataFrame:
    frame = article.published(primary=True)
    frame = frame[frame["params_M"].notna() | frame["gflops"].notna()]
    return frame.drop_duplicates(["model", "input_size"])


def published(name: str, size: str) -> dict:
    """{"params_M", "gflops", "counter", "source"} that was published of a network at a size; empty where nothing was."""
    label, counter = NETWORKS[name].published, NETWORKS[name].counter
    frame = _published()
    found = frame[(frame["model"] == label) & (frame["input_size"] == size)] if counter else frame[:0]
    if found.empty:
        return {}
    row = found.iloc[0]
    return {"params_M": row["params_M"], "gflops": row["gflops"], "counter": counter, "source": row["source"]}


def costs(models: list[str] | None = None, sizes: list[str] | None = None, joints: int = 17, **options) -> pd.DataFrame:
    """One row per network and size (HEIGHTxWIDTH), as `counts.counted`.

    Published: "published params M", "published GFLOPs", "counter" (whose), "source". Counted: "params M", "executed M"
    (multiply-adds, 10^6), "Lite-HRNet's count, 2^20", "HRNet 2^30", "launches", "activations MiB" (float32, one image).
    Published figures are NaN or empty where there are none. Raises MdwError for an unknown network or a size it does not take.
    """
    rows = []
    for name in models or list_models():
        for size in sizes or SIZES:
            counted, known = counts.counted(name, size_of(size), joints, **options), published(name, size)
            rows.append(
                {
                    "network": name,
                    "input": size,
                    "published params M": known.get("params_M", float("nan")),
                    "published GFLOPs": known.get("gflops", float("nan")),
                    "counter": known.get("counter", ""),
                    "source": known.get("source", ""),
                    "params M": counted["params"] / 1e6,
                    "executed M": counted["macs"] / 1e6,
                    "Lite-HRNet's count, 2^20": counted["peer_macs"] / counts.PEER_UNIT,
                    "HRNet 2^30": counted["hrnet_macs"] / 2**30,
                    "launches": counted["launches"],
                    "activations MiB": counted["activation_bytes"] / 2**20,
                }
            )
    return pd.DataFrame(rows)


def beside_published(models: list[str] | None, sizes: list[str]) -> pd.DataFrame:
    """`costs` for `outputs.show`: published figures and counted ones in column groups of their own."""
    frame = costs(models, sizes)
    groups = {"network": "", "input": ""} | dict.fromkeys(
        ["published params M", "published GFLOPs", "counter", "source"], "published"
    )
    frame.columns = pd.MultiIndex.from_tuples(
        (groups.get(name, MEASURED), name.removeprefix("published ")) for name in frame.columns
    )
    return frame
