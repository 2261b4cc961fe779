"""Names and words that the whole report shares, each known once: networks, data sets, metrics, sizes, numbers in a text."""

import re
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Network:
    """What a network is called: by the article and here; in published.csv; in its list of AP with ground-truth boxes.

    counter: whose count its published GFLOPs are; empty where there are none.
    """

    label: str
    published: str = ""
    annotated: str = ""
    counter: str = ""


NETWORKS = {
    "mdw_hrnet_18": Network("MDW-HRNet-18", "MDW-HRNet-18"),
    "mdw_hrnet_30": Network("MDW-HRNet-30", "MDW-HRNet-30"),
    "lite_hrnet_18": Network("Lite-HRNet-18", "Lite-HRNet-18", "LiteHRNet-18", "Lite-HRNet's, 2^20"),
    "lite_hrnet_30": Network("Lite-HRNet-30", "Lite-HRNet-30", "LiteHRNet-30", "Lite-HRNet's, 2^20"),
    "dite_hrnet_18": Network("Dite-HRNet-18", "Dite-HRNet-18", "", "Lite-HRNet's, 2^20"),
    "dite_hrnet_30": Network("Dite-HRNet-30", "Dite-HRNet-30", "", "Lite-HRNet's, 2^20"),
    "naive_lite_hrnet_18": Network("Naive Lite-HRNet-18", "Naive Lite-HRNet-18", "", "Lite-HRNet's, 2^20"),
    "wider_naive_lite_hrnet_18": Network(
        "Wider Naive Lite-HRNet-18", "Wider Naive Lite-HRNet-18", "WiderNaiveHRNet-18", "Lite-HRNet's, 2^20"
    ),
    "small_hrnet": Network("Small HRNet", "Small HRNet"),
    "hrnet_w32": Network("HRNet-W32", "pose_hrnet_w32", "HRNet-w32", "HRNet, 2^30"),
    "hrnet_w48": Network("HRNet-W48", "pose_hrnet_w48", "", "HRNet, 2^30"),
    "simple_baseline_50": Network("SimpleBaseline-50", "pose_resnet_50", "pose_resnet_50", "HRNet, 2^30"),
    "simple_baseline_101": Network("SimpleBaseline-101", "pose_resnet_101", "", "HRNet, 2^30"),
    "simple_baseline_152": Network("SimpleBaseline-152", "pose_resnet_152", "", "HRNet, 2^30"),
    "mobilenetv2": Network("MobileNetV2", "MobileNetV2", "", "mmcv, 10^9"),
    "mobilenetv3": Network("MobileNetV3"),
    "shufflenetv2": Network("ShuffleNetV2", "ShuffleNetV2", "", "mmcv, 10^9"),
}
DATA = {"coco": "COCO", "mpii": "MPII", "lspet": "LSPET", "people": "synthetic people", "custom": "own data"}
METRICS = {"pck": "PCK@0.2", "pckh": "PCKh@0.5", "AP": "AP"}  # all in percent
BOXES = {"ground truth": "ground-truth boxes", "detector": "a detector's boxes"}


def name_of(model: str) -> str:
    """The name of a network for a reader: "lite_hrnet_18" -> "Lite-HRNet-18"; one that is not known keeps its own."""
    return NETWORKS[model].label if model in NETWORKS else model


def data_of(data: str, split: str = "val") -> str:
    """A data set for a reader, with the split where it has a public one: "COCO val", "LSPET"."""
    return DATA.get(data, data) + (f" {split}" if data in ("coco", "mpii") else "")


def percent(metric: str, value: float | None) -> float | None:
    """A metric as every table states it. COCO's average precision is stored as 0..1, PCK and PCKh in percent."""
    return value if value is None or metric.startswith("pck") else 100 * value


def size_of(text: str) -> tuple[int, int]:
    """ "256x192" -> (256, 192), height and width."""
    height, _, width = text.partition("x")
    return int(height), int(width)


def size_name(size: Sequence[int]) -> str:
    """A recipe's input size, width and height, as the tables write it: (192, 256) -> "256x192"."""
    width, height = size
    return f"{height}x{width}"


def and_list(words: Sequence[str], none: str = "none") -> str:
    """["a", "b", "c"] -> "a, b and c"."""
    words = list(words)
    return none if not words else words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def signed(pattern: str, value: float) -> str:
    """A number by its pattern, with a minus sign instead of a hyphen and none before what rounds to zero."""
    text = pattern.format(value)
    return text[1:] if re.fullmatch(r"[-+]0(\.0*)?", text) else text.replace("-", "\u2212")
