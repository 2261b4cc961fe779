"""The reconstruction in figures: its stages as the modules say them, its cost by formula and by count, its open choices.

torch is imported inside the functions: a notebook that only reads runs never waits for it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from mdw.models import counts
from mdw.report import words
from mdw.report.names import size_of

PARAMS_WINDOW = {"mdw_hrnet_18": (1.09e6, 1.17e6), "mdw_hrnet_30": (1.74e6, 1.83e6)}  # from percentages in the article's text
PEER_WINDOW = {  # M multiply-adds as Lite-HRNet's counter prints them; from percentages in the article's text
    ("mdw_hrnet_18", "256x192"): (195, 208),
    ("mdw_hrnet_30", "256x192"): (302, 323),
    ("mdw_hrnet_30", "384x288"): (680, 725),
    ("mdw_hrnet_30", "256x256"): (400, 430),
}
SIZES = ("256x192", "384x288", "256x256")


@dataclass(frozen=True)
class Choice:
    """One variant of a point that the text leaves open; the variant `number`a is the default."""

    number: str
    question: str
    variant: str
    options: dict = field(default_factory=dict)


CHOICES = (
    Choice("2b", "order in the unit", "GCM_C, CDC, GCM_S", {"order": "channel_first"}),
    Choice("2c", "order in the unit", "GCM_S and GCM_C in parallel as in PSA, then CDC", {"order": "parallel"}),
    Choice("3b", "attention of Eq. 5", "one gate per kernel", {"attention": "scalar"}),
    Choice("3d", "attention of Eq. 5", "Conv1d alone, one gate per kernel and channel", {"attention": "line"}),
    Choice("4c", "number of kernels", "2", {"kernels": 2}),
    Choice("4d", "number of kernels", "8", {"kernels": 8}),
    Choice("5b", "where CDC stands", "also in the stem", {"dynamic_stem": True}),
    Choice("6b", "kernels of B and C", "3, 5 and 3, 5, 7, 9", {"kernel_sizes": ((3,), (3,), (3, 5), (3, 5, 7, 9))}),
    Choice("6c", "kernels of B and C", "5 and 7", {"kernel_sizes": ((3,), (3,), (5,), (7,))}),
    Choice("6d", "kernels of B and C", "3, 5 and 5, 7", {"kernel_sizes": ((3,), (3,), (3, 5), (5, 7))}),
    Choice("7b", "wiring of GCM_S", "every branch by itself, ratio 8", {"dense_spatial": False, "spatial_ratio": 8}),
    Choice("7c", "wiring of GCM_S", "ReLU after the LayerNorm", {"spatial_relu": True}),
    Choice("8b", "squeeze of GCM_C", "16 on every branch", {"channel_ratios": (16, 16, 16, 16)}),
    Choice("9b", "LayerNorm", "over channels and positions", {"norm": "group"}),
    Choice("10b", "downsampling", "depthwise 3x3, as in Lite-HRNet", {"down": "3x3"}),
    Choice("10c", "downsampling", "one step with kernel = stride", {"down": "single"}),
    Choice("11b", "fusion sum", "branch 1 counted twice, as Lite-HRNet's code does", {"double_first": True}),
    Choice("12b", "head", "1x1 on branch 1", {"head": "highest"}),
    Choice("13b", "stem", "GCM_C inside", {"stem_gcm": True}),
    Choice("14b", "gate", "BatchNorm after the product", {"gate": "norm"}),
    Choice("14c", "gate", "twice the sigmoid in GCM_C alone", {"gate": "double"}),
    Choice("14d", "gate", "twice the sigmoid in GCM_C and GCM_S", {"gate_start": "one"}),
    Choice("15b", "after CDC", "BatchNorm and ReLU", {"conv_relu": True}),
)


def structure(model: str, size: str) -> pd.DataFrame:
    """The article's Table 1 for a network of ours, read off the built modules: one row per stage and branch."""
    import mdw

    net = mdw.create_model(model)
    height, width = size_of(size)
    stem = net.transition0[0][0].in_channels
    rows = [
        {
            "stage": 1,
            "branch": 1,
            "map": f"{height // 4}x{width // 4}",
            "channels": stem,
            "unit": "3x3 convolution and shuffle block",
            "kernels": "3",
            "units": 1,
            "modules": 1,
        }
    ]
    for s in range(net.num_stages):
        modules = net.get_submodule(f"stage{s}")
        unit = modules[0].layers[0]
        for b, split in enumerate(unit.convs):
            sizes = [conv.kernel_size for conv in split.convs]
            rows.append(
                {
                    "stage": s + 2,
                    "branch": b + 1,
                    "map": f"{height // (4 * 2**b)}x{width // (4 * 2**b)}",
                    "channels": 2 * sum(split.widths),
                    "unit": f"MDW module {'AABC'[b]}",
                    "kernels": ", ".join(map(str, sizes)),
                    "units": len(modules[0].layers),
                    "modules": len(modules),
                }
            )
    return pd.DataFrame(rows)


def analytic(model: str, size: str) -> pd.DataFrame:
    """What each weighting adds, by formula and by count -> part, params, params counted, MACs, MACs counted.

    Counted: the difference of two built networks, with and without the part. By formula, for every unit and branch with C
    worked channels on H x W positions: CDC (n kernels of k x k) adds (n-1)Ck^2 + K + 3n parameters and KC + 3nC + nCk^2
    multiply-adds; GCM_C (squeezed to h) C + 2Ch + 3h + C and 2HWC + 2Ch; GCM_S (S channels of all branches, squeezed to h, on
    the lowest map) 2Sh + 3h + S and 2Sh per position there.
    """
    import mdw

    height, width = size_of(size)
    net = mdw.create_model(model)
    sums = {part: [0, 0] for part in ("CDC", "GCM_C", "GCM_S")}

    def add(part: str, params: int, macs: int) -> None:
        sums[part][0] += params
        sums[part][1] += macs

    for s in range(net.num_stages):
        for unit in (unit for module in net.get_submodule(f"stage{s}") for unit in module.layers):
            for b, split in enumerate(unit.convs):
                area = (height // (4 * 2**b)) * (width // (4 * 2**b))
                for channels, conv in zip(split.widths, split.convs, strict=True):
                    n, k = conv.weight.shape[0], conv.weight.shape[-1]
                    line = conv.attention.along_channels.kernel_size[0]
                    add("CDC", (n - 1) * channels * k * k + line + 3 * n, channels * (line + 3 * n + n * k * k))
                c, h = sum(split.widths), unit.gcm_c[b].squeeze.out_features
                add("GCM_C", 2 * c + 2 * c * h + 3 * h, 2 * area * c + 2 * c * h)
            total, hidden = sum(sum(split.widths) for split in unit.convs), unit.gcm_s.gates[0].squeeze.out_features
            add("GCM_S", 2 * total * hidden + 3 * hidden + total, 2 * total * hidden * area)  # area: of the lowest branch

    full = cost(model, size)
    rows = []
    for part, (params, macs) in sums.items():
        without = cost(model, size, **{part.lower(): False})
        rows.append(
            {
                "part": part,
                "params": params,
                "params counted": full["params"] - without["params"],
                "MACs": macs,
                "MACs counted": full["macs"] - without["macs"],
            }
        )
    return pd.DataFrame(rows)


def choices(model: str, size: str, limit: int | None = None) -> pd.DataFrame:
    """The default and every other variant of the text, built and counted, one change at a time.

    -> number, question, variant, params (M), change (K), MACs (M), change (M), peers (M; their unit), window: whether the
    parameters and Lite-HRNet's count stay in what the article's text allows. limit: how many variants are measured.
    """
    rows, base = [], None
    for choice in (Choice("all a", "default", "the first variant everywhere"), *CHOICES[:limit]):
        counted = cost(model, size, **choice.options)
        base = base or counted
        params, peer = counted["params"], counted["peer_macs"] / counts.PEER_UNIT
        rows.append(
            {
                "number": choice.number,
                "question": choice.question,
                "variant": choice.variant,
                "params M": params / 1e6,
                "change K": (params - base["params"]) / 1e3,
                "MACs M": counted["macs"] / 1e6,
                "change M": (counted["macs"] - base["macs"]) / 1e6,
                "Lite-HRNet's count, M": peer,
                "window": in_window(model, size, params, peer),
            }
        )
    return pd.DataFrame(rows)


def windows(model: str, size: str) -> tuple[tuple[float, float], tuple[float, float] | None]:
    """What the article's text allows: M parameters, and M multiply-adds by Lite-HRNet's counter (None at other sizes)."""
    low, high = PARAMS_WINDOW[model]
    return (low / 1e6, high / 1e6), PEER_WINDOW.get((model, size))


def in_window(model: str, size: str, params: float, peer: float) -> str:
    """ "yes", or which of the two figures leaves what the article's text allows."""
    low, high = PARAMS_WINDOW[model]
    bounds = PEER_WINDOW.get((model, size))
    outside = [
        name
        for name, inside in (("params", low <= params <= high), ("MACs", bounds is None or bounds[0] <= peer <= bounds[1]))
        if not inside
    ]
    return "no: " + " and ".join(outside) if outside else "yes"


def budget(models: Sequence[str], sizes: Sequence[str]) -> pd.DataFrame:
    """Networks at input sizes: model, input, params M, MACs M (executed), Lite-HRNet's count, M (in 2**20), window."""
    rows = []
    for model, size in ((model, size) for model in models for size in sizes):
        counted = cost(model, size)
        params, peer = counted["params"], counted["peer_macs"] / counts.PEER_UNIT
        rows.append(
            {
                "model": model,
                "input": size,
                "params M": params / 1e6,
                "MACs M": counted["macs"] / 1e6,
                "Lite-HRNet's count, M": peer,
                "window": in_window(model, size, params, peer),
            }
        )
    return pd.DataFrame(rows)


def cost(model: str, size: str, **options: Any) -> dict[str, int]:
    """`counts.counted` of a network by name at a size such as "256x192"."""
    return counts.counted(model, size_of(size), **options)


def agreement(formula: pd.DataFrame) -> str:
    """Whether `analytic` and the counts agree, in a sentence."""
    wrong = formula[(formula["params"] != formula["params counted"]) | (formula["MACs"] != formula["MACs counted"])]
    return words.text("cost.agreement", wrong=list(wrong["part"]), all=len(formula))


def outside(measured: pd.DataFrame) -> str:
    """The variants that leave the window, as a list."""
    return words.text("cost.outside", rows=measured[measured["window"] != "yes"].to_dict("records"), all=len(measured) - 1)


def in_words(model: str, measured: pd.DataFrame) -> str:
    """One sentence for the index."""
    kept = int((measured["window"][1:] == "yes").sum())
    return (
        f"`{model}` as built: {measured['params M'].iloc[0]:.3f} M parameters; {kept} of {len(measured) - 1} other "
        "variants that were measured fit the article's text as well."
    )
