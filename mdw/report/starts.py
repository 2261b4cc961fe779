"""How alive the signal is before the first step: what each rule of `mdw.models.init` makes of a network on real photos."""

from functools import cache

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from mdw import studies
from mdw.data.warp import crop, normalise
from mdw.models import create_model
from mdw.models.fusion import HighResolutionModule
from mdw.models.init import start
from mdw.models.rules import RULES
from mdw.report.gates import people
from mdw.studies import Row

TABLE = (  # the four cells of Table 5, the siblings, and Table 7's rows that are not among those cells
    *(row for row in studies.STUDIES["table5"] if row is not studies.CONTROL),
    *studies.SMALL[1:3],
    *(row for row in studies.STUDIES["table7"] if "dynamic" in row.options),
)


@cache
def crops(width: int = 96, height: int = 128) -> Tensor:
    """One person of each bundled photo that has any, as a network gets them: (N, 3, height, width), normalised RGB float32."""
    return torch.from_numpy(normalise(np.stack([crop(p.pixels(), p.center, p.scale, 0.0, (width, height)) for p in people()])))


def norm_std(model: nn.Module, x: Tensor) -> dict[str, float]:
    """The standard deviation of what every BatchNorm2d of `model` gives in training mode, before its own weights -> by path.

    x (N, 3, H, W). One forward pass; running statistics are left as they are. It is 1 where a norm divides by the deviation of
    its input, and less where that is lost in the norm's eps.
    """
    found, handles = {}, []

    def keep(name: str):
        def hook(norm: nn.BatchNorm2d, inputs: tuple[Tensor]) -> None:
            variance = inputs[0].var((0, 2, 3), correction=0)
            found[name] = (variance / (variance + norm.eps)).mean().sqrt().item()

        return hook

    for name, module in model.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            handles.append(module.register_forward_pre_hook(keep(name)))
    try:
        _training_pass(model, x)
    finally:
        for handle in handles:
            handle.remove()
    return found


def own_share(model: nn.Module, x: Tensor) -> float:
    """How much of the last fusion's sum on the highest branch is that branch's own signal: variance over the terms' variances.

    x (N, 3, H, W). The mean over channels, since in Lite- and Dite-HRNet as released one channel doubles in every fusion and
    outgrows the others. NaN for a network without a fusion. What a module does on a branch is felt by this share alone.
    """
    fusions = [module for module in model.modules() if isinstance(module, HighResolutionModule)]
    if not fusions:
        return float("nan")
    kept: list[Tensor] = []
    handle = fusions[-1].layers.register_forward_hook(lambda module, inputs, outputs: kept.extend(outputs))
    try:
        _training_pass(model, x)
        with torch.no_grad():
            paths = zip(fusions[-1].fuse_layers[0], kept, strict=True)
            terms = torch.stack([path(y).var((0, 2, 3)) for path, y in paths])  # (branches, C)
    finally:
        handle.remove()
    return (terms[0] / terms.sum(0)).mean().item()


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
def table(seed: int = 0) -> pd.DataFrame:
    """Every network of `TABLE` under every rule -> network, rule, own share, lowest (the lowest std behind a norm), dead.

    dead: the share of norms whose output's std is below 0.9. LSPET's input and joints.
    """
    x, rows = crops(), []
    for row in TABLE:
        for rule in RULES:
            torch.manual_seed(seed)
            model = start(create_model(row.model, 14, **row.options), rule)
            stds = np.array(list(norm_std(model, x).values()))
            told = {"own share": own_share(model, x), "lowest": stds.min(), "dead": (stds < 0.9).mean()}
            rows.append({"network": _name(row), "rule": rule} | told)
    return pd.DataFrame(rows)


def beside(found: pd.DataFrame) -> pd.DataFrame:
    """`table` with a row per network and the rules side by side, for `outputs.show`."""
    wide = found.pivot(index="network", columns="rule", values=["own share", "lowest", "dead"]).loc[found["network"].unique()]
    frame = {("", "network"): wide.index.tolist()}
    for quantity in ("own share", "lowest", "dead"):
        frame |= {(quantity, rule): (100 if quantity == "dead" else 1) * wide[quantity, rule].to_numpy() for rule in RULES}
    return pd.DataFrame(frame)


def in_words(found: pd.DataFrame) -> str:
    """What the rules make of the four cells of Table 5, from `table`."""
    known = found.set_index(["network", "rule"])
    pairs = [
        f"{known.loc[('+ CDC', rule), 'own share']:.2f} with CDC and {known.loc[('Simple', rule), 'own share']:.2f} without "
        f"under *{rule}*"
        for rule in RULES
    ]
    worst = {rule: found.loc[found["rule"] == rule, "lowest"].min() for rule in RULES}
    return (
        "Before the first step the highest branch's own signal has this share of the last sum: "
        f"{', '.join(pairs[:-1])} and {pairs[-1]}. The weakest signal behind a norm has a standard deviation of "
        f"{worst['published']:.2f} under *published*, {worst['mixed']:.2f} under *mixed* and {worst['scaled']:.2f} under "
        "*scaled*; 1 is what a norm is there for."
    )


def _name(row: Row) -> str:
    return "MDW-HRNet-18 (CDC + GCM)" if row is studies.FULL else row.label
