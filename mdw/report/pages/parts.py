"""Where the parameters and multiply-adds of MDW-HRNet, Lite-HRNet and Dite-HRNet go, in the same parts for all three."""

from collections.abc import Sequence

import pandas as pd

from mdw.report.names import name_of, size_of

ACROSS, CHANNELS, UNITS = "weights from all branches", "weights per channel", "convolutions of the units"
PARTS = ("stem", "transitions", ACROSS, UNITS, CHANNELS, "fusion", "head")
REST = "matrix products between modules"
OWNERS = {  # the name of a unit's child -> part; what is not here is one of the unit's convolutions
    "gcm_s": ACROSS,
    "cross_resolution_weighting": ACROSS,
    "dcm": ACROSS,
    "gcm_c": CHANNELS,
    "spatial_weighting": CHANNELS,
    "gcm": CHANNELS,
}


def part(name: str) -> str:
    """The part that a module belongs to, by its path: "stage0.1.fuse_layers.0.1.0" -> "fusion"."""
    top, *inner = name.split(".")
    if top.startswith("stage"):
        return "fusion" if "fuse_layers" in inner else next((OWNERS[word] for word in inner if word in OWNERS), UNITS)
    return "transitions" if top.startswith("transition") else "head" if top in ("head_layer", "final_layer") else top


def of_depth(model: str) -> list[str]:
    """ "mdw_hrnet_18" -> itself and the Lite- and Dite-HRNet of its depth."""
    depth = model.rpartition("_")[2]
    return [model, f"lite_hrnet_{depth}", f"dite_hrnet_{depth}"]


def costs(models: Sequence[str], size: str) -> pd.DataFrame:
    """Cost per part at `size` ("256x192"), tidy -> model, part, params, macs (plain counts, multiply-adds executed).

    What runs between the modules, such as a softmax-weighted sum, has no module to be counted in and is a part of its own, so
    that the parts of a model add up to `mdw.models.complexity.measure`.
    """
    import mdw
    from mdw.models.complexity import cost_by_part
    from mdw.report.pages.architecture import cost

    rows = []
    for model in models:
        found = cost_by_part(mdw.create_model(model), size_of(size), part)
        whole = cost(model, size)
        found[REST] = {ours: whole[ours] - sum(counts[ours] for counts in found.values()) for ours in ("params", "macs")}
        rows += [{"model": model, "part": name} | found.get(name, {"params": 0, "macs": 0}) for name in (*PARTS, REST)]
    return pd.DataFrame(rows)


def beside(measured: pd.DataFrame) -> pd.DataFrame:
    """`costs` with the networks side by side, in K parameters and M multiply-adds, and their sums, for `outputs.show`."""
    names = list(dict.fromkeys(measured["part"]))
    table: dict = {("", "part"): [*names, "all"]}
    for model, rows in measured.groupby("model", sort=False):
        rows = rows.set_index("part").loc[names]
        for column, title, unit in (("params", "params K", 1e3), ("macs", "MACs M", 1e6)):
            table[name_of(model), title] = [*(rows[column] / unit), rows[column].sum() / unit]
    return pd.DataFrame(table)


def in_words(measured: pd.DataFrame) -> str:
    """What takes the most of each network, in a list."""
    said = []
    for model, rows in measured.groupby("model", sort=False):
        rows = rows.set_index("part")[["params", "macs"]]
        most, shares = rows.idxmax(), 100 * rows.max() / rows.sum()
        said.append(
            f"- {name_of(model)}: the {most['params']} takes the most parameters ({shares['params']:.0f} %), the "
            f"{most['macs']} the most multiply-adds ({shares['macs']:.0f} %)."
        )
    return "\n".join(said)
