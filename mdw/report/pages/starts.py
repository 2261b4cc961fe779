"""How alive the signal is before the first step: what each rule of `mdw.models.init` makes of a network on real photos."""

from functools import cache, partial

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from mdw.data.warp import crop, normalise
from mdw.experiments import studies
from mdw.experiments.studies import Row
from mdw.models import create_model
from mdw.models.fusion import HighResolutionModule
from mdw.models.init import start
from mdw.models.rules import RULES
from mdw.report import words
from mdw.report.pages.gates import people

TABLE = (  # the four cells of Table 5, Lite- and Dite-HRNet, and Table 7's rows that are not among those cells
    *(row for row in studies.STUDIES["table5"] if row is not studies.CONTROL),
    *studies.SMALL[1:3],
    *(row for row in studies.STUDIES["table7"] if "dynamic" in row.options),
)
QUANTITIES = {"own share": "own share", "lowest": "lowest signal", "faded": "norms below 0.9, %"}
FORMATS = {rule: "{:.2f}" for rule in RULES}


@cache
def crops(width: int = 96, height: int = 128) -> Tensor:
    """One person of each bundled photo that has any, as a network gets them: (N, 3, height, width), normalised RGB float32."""
    return torch.from_numpy(normalise(np.stack([crop(p.pixels(), p.center, p.scale, 0.0, (width, height)) for p in people()])))


def look(model: nn.Module, x: Tensor) -> tuple[dict[str, float], float]:
    """One forward pass in training mode -> the signal behind every norm, by the norm's path, and the own share.

    x (N, 3, H, W); running statistics are left as they are. The signal is the standard deviation of what a BatchNorm2d gives
    before its own weights: 1 where the norm divides by the deviation of its input, less where that is lost in its eps. The own
    share is how much of the last fusion's sum on the highest branch is that branch's own signal, which is all that is felt of
    what a module does there: its variance over the variances of all terms, the mean over channels, since in Lite- and
    Dite-HRNet as released one channel doubles in every fusion and outgrows the others; NaN without a fusion.
    """
    stds: dict[str, float] = {}
    kept: list[Tensor] = []

    def keep(name: str, norm: nn.BatchNorm2d, inputs: tuple[Tensor]) -> None:
        variance = inputs[0].var((0, 2, 3), correction=0)
        stds[name] = (variance / (variance + norm.eps)).mean().sqrt().item()

    norms = {name: module for name, module in model.named_modules() if isinstance(module, nn.BatchNorm2d)}
    handles = [norm.register_forward_pre_hook(partial(keep, name)) for name, norm in norms.items()]
    fusions = [module for module in model.modules() if isinstance(module, HighResolutionModule)]
    if fusions:
        handles.append(fusions[-1].layers.register_forward_hook(lambda module, inputs, outputs: kept.extend(outputs)))
    try:
        _training_pass(model, x)
    finally:
        for handle in handles:
            handle.remove()
    if not fusions:
        return stds, float("nan")
    with torch.no_grad():
        paths = fusions[-1].fuse_layers[0].children()
        terms = torch.stack([path(y).var((0, 2, 3)) for path, y in zip(paths, kept, strict=True)])
    return stds, (terms[0] / terms.sum(0)).mean().item()  # terms: (branches, C)


def _training_pass(model: nn.Module, x: Tensor) -> None:
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    before = [(norm.track_running_stats, norm.training) for norm in norms]
    mode = model.training
    try:
        model.train()
        for norm in norms:
            norm.track_running_stats = False
        with torch.no_grad():
            model(x)
    finally:
        model.train(mode)
        for norm, (tracked, training) in zip(norms, before, strict=True):
            norm.track_running_stats = tracked
            norm.train(training)


@cache
def table(limit: int | None = None, seed: int = 0) -> pd.DataFrame:
    """Every network of `TABLE` under every rule -> network, rule, own share, lowest (the lowest signal behind a norm), faded.

    faded: the share of norms behind which the signal is below 0.9. LSPET's input and joints. limit: only so many networks, at
    least the two without and with CDC.
    """
    x, rows = crops(), []
    for row in TABLE[: limit and max(limit, 2)]:
        for rule in RULES:
            torch.manual_seed(seed)
            model = start(create_model(row.model, 14, **row.options), rule)
            stds, share = look(model, x)
            values = np.array(list(stds.values()))
            told = {"own share": share, "lowest": values.min(), "faded": (values < 0.9).mean()}
            rows.append({"network": _name(row), "rule": rule} | told)
    return pd.DataFrame(rows)


def beside(found: pd.DataFrame) -> pd.DataFrame:
    """`table` with a row per network and the rules side by side, for `outputs.show`."""
    wide = found.pivot(index="network", columns="rule", values=list(QUANTITIES)).loc[found["network"].unique()]
    frame = {("", "network"): wide.index.tolist()}
    for quantity, said in QUANTITIES.items():
        frame |= {(said, rule): (100 if quantity == "faded" else 1) * wide[quantity, rule].to_numpy() for rule in RULES}
    return pd.DataFrame(frame)


def in_words(found: pd.DataFrame) -> str:
    """What the rules make of the four cells of Table 5, from `table`."""
    known = found.set_index(["network", "rule"])
    pairs = [(rule, *(known.loc[(label, rule), "own share"] for label in ("+ CDC", "Simple"))) for rule in RULES]
    worst = {rule: found.loc[found["rule"] == rule, "lowest"].min() for rule in RULES}
    return words.text("cost.starts", pairs=pairs, worst=worst)


def _name(row: Row) -> str:
    return "MDW-HRNet-18 (CDC + GCM)" if row is studies.FULL else row.label
