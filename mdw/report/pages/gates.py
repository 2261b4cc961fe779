"""What the weightings of a trained MDW-HRNet do on real photos: CDC's gates, GCM_C's positions, GCM_S's maps."""

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib import font_manager
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor, nn

from mdw.data.photos import photos
from mdw.data.sample import Dataset, Sample
from mdw.data.warp import crop, normalise
from mdw.inference.draw import overlay, sheet
from mdw.models.context import GCM_C, GCM_S, SpatialGate
from mdw.models.dynamic_conv import DynamicConv
from mdw.report import plots, words
from mdw.report.outputs import Output
from mdw.util.errors import MdwError

GLOW = np.array((230, 159, 0), np.float32)  # Okabe & Ito's orange over a grey photo: told apart by lightness too


@dataclass(frozen=True)
class Seen:
    """One forward pass of N crops: what CDC, GCM_C and GCM_S multiplied by and what they were given, by module path.

    gates: CDC's (N, n, C), by the path of the attention. positions: where GCM_C looks, (N, H, W), summing to 1. channel:
    GCM_C's gates (N, C). spatial: GCM_S's, one (N, C, h_m, w_m) per branch, before they are enlarged. squeezed: the numbers a
    position that GCM_S's LayerNorm is over, the fewest where branches have one each. inputs: of attentions, GCM_C and GCM_S.
    """

    gates: dict[str, Tensor]
    positions: dict[str, Tensor]
    channel: dict[str, Tensor]
    spatial: dict[str, list[Tensor]]
    squeezed: dict[str, int]
    inputs: dict[str, Tensor | list[Tensor]]


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    modes = {module: module.training for module in model.modules()}
    try:
        with torch.inference_mode():
            model.eval()
            yield
    finally:
        for module, training in modes.items():
            module.training = training


def look(model: nn.Module, x: Tensor) -> Seen:
    """Run `model` once on x (N, 3, H, W), normalised, and keep what its weightings did; it is left as it was.

    Raises MdwError for a network without a dynamic convolution, which has no gates to show.
    """
    gates: dict[str, Tensor] = {}
    inputs: dict[str, Any] = {}
    handles = []

    def keep(name: str, gate: bool):
        def hook(module: nn.Module, given: tuple, output: Tensor) -> None:
            inputs[name] = given[0]
            if gate:
                gates[name] = output

        return hook

    dynamic = [f"{name}.attention" for name, module in model.named_modules() if isinstance(module, DynamicConv)]
    contexts = [name for name, module in model.named_modules() if isinstance(module, GCM_C | GCM_S)]
    if not dynamic:
        raise MdwError(f"{type(model).__name__} has no dynamic convolution whose gates could be shown; build it with CDC")
    try:
        for name in (*dynamic, *contexts):
            handles.append(model.get_submodule(name).register_forward_hook(keep(name, name in dynamic)))
        with _evaluating(model):
            model(x)
            positions, channel, spatial, squeezed = {}, {}, {}, {}
            for name in contexts:
                module, given = model.get_submodule(name), inputs[name]
                if isinstance(module, GCM_C):  # its gates have no module of their own; asked for what the module was given
                    where, channel[name] = module.weights(given)
                    positions[name] = where.unflatten(1, given.shape[-2:])
                elif isinstance(module, GCM_S):
                    spatial[name] = module.weights(given)
                    squeezed[name] = min(g.squeeze.out_features for g in module.gates if isinstance(g, SpatialGate))
    finally:
        for handle in handles:
            handle.remove()
    return Seen(gates, positions, channel, spatial, squeezed, inputs)


def people() -> list[Sample]:
    """The person with the most labelled joints in every bundled photo that has any, the fullest poses and largest first."""
    best: dict[int, Sample] = {}
    for sample in photos().samples:
        other = best.get(sample.image_id)
        if other is None or (sample.visible.sum(), sample.area) > (other.visible.sum(), other.area):
            best[sample.image_id] = sample
    return sorted(best.values(), key=lambda sample: (-sample.visible.sum(), -sample.area))


@functools.cache
def shipped() -> tuple[Seen, list[Sample], np.ndarray]:
    """What the network of the package does on all bundled photos -> seen, their people, their crops (N, H, W, 3) uint8."""
    from mdw.models.weights import load_network

    model, _, size = load_network()
    found = people()
    crops = np.stack([crop(person.pixels(), person.center, person.scale, 0.0, size) for person in found])
    return look(model, torch.from_numpy(normalise(crops))), found, crops


def spread(seen: Seen) -> pd.DataFrame:
    """How far CDC's gates differ, per layer -> layer, stage, branch, unit, part, mean, and three standard deviations.

    "channels": across the channels of one kernel, "kernels": across the kernels of one channel, "photos": of one gate across
    the photos; each averaged over the rest. `unit` counts the units of the network from 1, `part` those of a branch's channels.
    """
    rows, units = [], dict[str, int]()
    for name, gates in seen.gates.items():
        if not name.startswith("stage"):
            continue  # the stem's, where there is one
        unit, branch, place = _place(name)
        rows.append(
            {
                "layer": name.removesuffix(".attention"),
                "stage": int(name[5]) + 2,
                "branch": branch + 1,
                "unit": units.setdefault(unit, len(units) + 1),
                "part": place + 1,
                "mean": gates.mean().item(),
                "channels": gates.std(2, correction=0).mean().item(),
                "kernels": gates.std(1, correction=0).mean().item(),
                "photos": gates.std(0, correction=0).mean().item(),
            }
        )
    return pd.DataFrame(rows)


def gate_maps(seen: Seen, photo: int = 0) -> Output:
    """CDC's gates of one photo: a panel per branch, a band of n kernel rows per unit, a column per channel."""
    bands: dict[int, dict[str, list[np.ndarray]]] = {}
    for name, gates in seen.gates.items():
        if name.startswith("stage"):
            unit, branch, _ = _place(name)
            bands.setdefault(branch, {}).setdefault(unit, []).append(gates[photo].numpy())
    joined = {branch: np.concatenate([np.concatenate(parts, 1) for parts in units.values()]) for branch, units in bands.items()}
    low, high = min(map(np.min, joined.values())), max(map(np.max, joined.values()))
    reach, total = max(high - 0.5, 0.5 - low), max(map(len, bands.values()))
    fig, axes = plots.columns(len(joined), 7.2, 4.4)
    for ax, (branch, values) in zip(axes, sorted(joined.items()), strict=True):
        units = len(bands[branch])
        image = ax.imshow(values, "PuOr_r", aspect="auto", vmin=0.5 - reach, vmax=0.5 + reach, interpolation="none")
        for edge in range(1, units):
            ax.axhline(edge * len(values) / units - 0.5, color="#808080", linewidth=0.6)
        named = [str(unit) for unit in range(total - units + 1, total + 1)]
        ax.set_yticks((np.arange(units) + 0.5) * len(values) / units - 0.5, named)
        ax.set_xticks([0, values.shape[1] - 1], ["1", str(values.shape[1])])
        ax.set_title(f"branch {branch + 1}", fontsize=9)
        ax.set_xlabel("channel")
    axes[0].set_ylabel("unit, from the stem on; a row per kernel")
    fig.colorbar(image, ax=axes, label="gate", aspect=40)
    rows = [
        (name.removesuffix(".attention"), kernel + 1, channel + 1, round(value, 4))
        for name, gates in seen.gates.items()
        for kernel, line in enumerate(gates[photo].tolist())
        for channel, value in enumerate(line)
    ]
    data = pd.DataFrame(rows, columns=["layer", "kernel", "channel", "gate"])
    return plots.save(
        fig,
        data,
        "gates",
        "CDC's gates on the photo below: for every unit a band with a row per kernel, for every branch its channels. "
        f"0 would switch a kernel off, 1 takes it whole, 0.5 is where training starts; here {low:.2f} to {high:.2f}.",
        f"{len(joined)} heatmaps of gates between {low:.2f} and {high:.2f}, one per branch, over units, kernels and channels.",
    )


def context_maps(photo: int = 0) -> Output:
    """GCM's maps of the last unit over one photo of `shipped`: the positions GCM_C reads, and where GCM_S lets pass."""
    from mdw.inference.evaluate import predict_dataset
    from mdw.models.weights import load_network

    seen, found, crops = shipped()
    model, joints, size = load_network()
    person, image = found[photo], crops[photo]
    xy, scores = predict_dataset(model, Dataset("photo", joints, [person]), size)
    drawn = overlay(person.pixels(), xy[0], joints, scores=scores[0])
    tiles = [tile(image, None, "the crop")]
    last = list(seen.positions)[-1].rpartition(".")[0]
    for branch, name in enumerate(name for name in seen.positions if name.rpartition(".")[0] == last):
        values = seen.positions[name][photo].numpy()
        tiles.append(tile(image, values / values.max(), f"GCM_C {branch + 1}: ≤ {values.max() * values.size:.0f}×"))
    tiles.append(tile(crop(drawn, person.center, person.scale, 0.0, size), None, "what it finds"))
    for branch, gates in enumerate(list(seen.spatial.values())[-1]):
        values = gates[photo].mean(0).numpy()
        low, high = values.min(), values.max()
        tiles.append(tile(image, (values - low) / max(high - low, 1e-9), f"GCM_S {branch + 1}: {low:.2f}–{high:.2f}"))
    return plots.photo(
        sheet(tiles, len(tiles) // 2, (192, 280)),
        "The last unit of the network on one photo (COCO, CC BY or CC BY-SA; see `mdw/photos/ATTRIBUTION.md`), the more "
        "orange the higher. Above: the softmax of GCM_C over the positions of each branch, 1× being an even look at all of "
        "them. Below: the gates of GCM_S, the mean over a branch's channels, between the lowest and the highest written.",
        f"The crop of a person, the pose found in it, and over it {len(tiles) - 2} maps of where the network looks",
    )


def in_words(seen: Seen) -> str:
    """How far the gates and maps depend on the image: computed sentences."""
    table, count = spread(seen), len(next(iter(seen.gates.values())))
    channels, kernels, over = (table[column].mean() for column in ("channels", "kernels", "photos"))
    every, most = torch.cat([gates.flatten() for gates in seen.gates.values()]), table.loc[table["photos"].idxmax()]
    near = 100 * ((every - 0.5).abs() < 0.01).float().mean().item()
    reach = max((float(p.flatten(1).max(1).values.mean()) * p[0].numel(), name) for name, p in seen.positions.items())
    told = {"photos": count, "layers": len(table), "low": every.min().item(), "high": every.max().item(), "near": near}
    told |= {"channels": channels, "kernels": kernels, "over": over, "layer": most["layer"], "follows": most["photos"]}
    return words.text("gates.found", **told, reach=reach[0], where=reach[1])


def _place(name: str) -> tuple[str, int, int]:
    """ "stage2.1.layers.0.convs.3.convs.1.attention" -> the unit's path, the branch, the part of its channels."""
    unit, _, rest = name.partition(".convs.")
    branch, _, part = rest.partition(".convs.")
    return unit, int(branch), int(part.partition(".")[0])


def tile(image: np.ndarray, weights: np.ndarray | None, label: str) -> np.ndarray:
    """A crop with `weights` (h, w) in 0..1 over it, on a strip that says what it is."""
    tall, wide = image.shape[:2]
    if weights is not None:
        grey = image.mean(2, keepdims=True)
        heat = Image.fromarray(weights.astype(np.float32)).resize((wide, tall), Image.Resampling.BILINEAR)
        alpha = 0.85 * np.asarray(heat)[..., None]
        image = (0.7 * grey * (1 - alpha) + GLOW * alpha).round().astype(np.uint8)
    tile = Image.new("RGB", (wide, tall + wide // 8), (20, 20, 20))
    tile.paste(Image.fromarray(image))
    font = ImageFont.truetype(font_manager.findfont("DejaVu Sans"), wide // 11)
    ImageDraw.Draw(tile).text((wide / 2, tall + wide / 16), label, (255, 255, 255), font, anchor="mm")
    return np.asarray(tile)
