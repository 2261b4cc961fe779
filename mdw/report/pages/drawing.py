"""A high-resolution network drawn from its own modules: a row per module, a column per branch, every tensor as it was.

Nothing is typed in: shapes come from one forward pass on the meta device, lines from the paths that the fusion holds.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import nn

from mdw.models.dynamic_conv import DynamicConv
from mdw.models.fusion import HighResolutionModule
from mdw.models.skeleton import HighResolutionNet, PerBranch
from mdw.report.names import name_of, size_of
from mdw.report.outputs import Output, report_folder, write_csv
from mdw.report.plots import COLOURS
from mdw.report.site import markup
from mdw.util.errors import MdwError
from mdw.util.files import write_text

Shape = tuple[int, int, int]  # channels, height, width
GUTTER, COLUMN, BOX = 118, 138, 116  # the sizes of the drawing are in CSS pixels
LINE, FUSE = 15, 40  # of text; between the boxes of a module and the sums
SOFT, WASH = "var(--soft, #5f584e)", "var(--wash, #f6f2e9)"  # the page's own; the fallback is for the file by itself


@dataclass(frozen=True)
class Row:
    """A step of the network: `name` is the module's path, `shapes` what each branch is there, `notes` what is in each box.

    `paths` are the (from, to) branches that lead into the row from the one above; `fused` those of the fusion that ends it.
    """

    kind: str
    name: str
    what: str
    shapes: tuple[Shape, ...]
    notes: tuple[str, ...]
    paths: tuple[tuple[int, int], ...]
    fused: tuple[tuple[int, int], ...] = ()
    units: int = 0


def plan(model: nn.Module, size: tuple[int, int]) -> list[Row]:
    """The rows of `model`'s drawing for images of `size` (height, width); the model itself is neither run nor changed.

    Raises MdwError for what is no HighResolutionNet, and for a size it does not take.
    """
    if not isinstance(model, HighResolutionNet):
        raise MdwError(f"{type(model).__name__} has no parallel branches to draw; name a network of the HRNet family")
    shapes = _shapes(model, size)
    rows = [Row("stem", "stem", type(model.stem).__name__, shapes["stem"], ("3 colours in",), ((0, 0),))]
    branches = 1
    for s in range(model.num_stages):
        name = f"transition{s}"
        paths = tuple((min(b, branches - 1), b) for b in range(len(shapes[name])))
        rows.append(Row("transition", name, "transition", shapes[name], ("",) * len(paths), paths))
        for m, module in enumerate(model.get_submodule(f"stage{s}").children()):
            assert isinstance(module, HighResolutionModule)
            name = f"stage{s}.{m}"
            inside = shapes[f"{name}.layers"]
            branches = len(inside)
            unit, units = module.layers[0], len(module.layers)
            what = "blocks" if isinstance(unit, PerBranch) else type(unit).__name__
            notes = tuple(_note(unit, b, branches, units) for b in range(branches))
            fused = tuple((j, i) for i, paths in enumerate(module.fuse_layers) for j in range(_length(paths)))
            straight = tuple((b, b) for b in range(branches))
            rows.append(Row("module", name, what, inside, notes, straight, fused, units))
            branches = len(shapes[name])
    read = tuple((b, b) for b in range(branches))
    rows.append(Row("head", "head_layer", type(model.head_layer).__name__, shapes["head_layer"], ("",), read))
    rows.append(Row("maps", "final_layer", "heatmaps", shapes["final_layer"], ("a map per joint",), ((0, 0),)))
    return rows


def _length(modules: nn.Module) -> int:
    return len(list(modules.children()))


def show(name: str, size: str, **options: Any) -> Output:
    """The drawing of a network by its name and `options`, at a size such as "256x192", as a figure of the report."""
    import mdw

    rows = plan(mdw.create_model(name, **options), size_of(size))
    title, said = f"{name_of(name)} at {size}", describe(rows)
    drawn, files = svg(rows, "network", title, said), []
    if (folder := report_folder()) is not None:
        write_text(folder / "network.svg", drawn.replace("<svg ", '<svg style="background: #fff; color: #1f1c18" ', 1))
        write_csv(folder / "network.csv", frame(rows))
        files = ["network.svg", "network.csv"]
    caption = (
        f"`{name}` as built, from the image down to the heatmaps, one column per branch. Boxes: channels · height × width, "
        "and below it the units of the module with the sizes of their kernels. Between the boxes and the sums (+) the "
        "fusion: solid blue lines halve a branch, dashed orange ones enlarge it, thin ones pass it on."
    )
    spec = {"kind": "figure", "name": "network", "caption": caption, "alt": said, "files": files}
    return Output(spec, "", f"{caption}\n{said}", {"image/svg+xml": drawn})


def frame(rows: Sequence[Row]) -> pd.DataFrame:
    """Every box -> module, kind, branch (from 1), channels, height, width, units."""
    found = [(r.name, r.kind, b + 1, *shape, r.units) for r in rows for b, shape in enumerate(r.shapes)]
    return pd.DataFrame(found, columns=["module", "kind", "branch", "channels", "height", "width", "units"])


def describe(rows: Sequence[Row]) -> str:
    """The drawing in words, for whoever cannot see it."""
    parts = []
    for name, modules in _stages(rows).items():
        shapes = "; ".join(f"{c} channels of {h} × {w}" for c, h, w in modules[0].shapes)
        parts.append(f"{name}: {_count(len(modules), 'module')} of {_count(modules[0].units, 'unit')} on branches of {shapes}.")
    channels, height, width = rows[-1].shapes[0]
    count, units = sum(row.kind == "module" for row in rows), sum(row.units for row in rows)
    return (
        f"A stem, {_count(count, 'module')} with {_count(units, 'unit')} in all, a head and {channels} heatmaps of "
        f"{height} × {width}. {' '.join(parts)} Every module ends in a fusion of its branches."
    )


def svg(rows: Sequence[Row], name: str, title: str, said: str) -> str:
    """The rows as an SVG of their natural size, which a narrow page scrolls; ids begin with `name`."""
    labels = {modules[0].name: (stage, modules) for stage, modules in _stages(rows).items()}
    parts, y, sums = [], 8, None  # sums: where the outputs of the row above are, by branch
    for row in rows:
        tall = 2 * LINE + 8 if any(row.notes) or row.kind == "head" else LINE + 8
        top = y + (0 if sums is None else 16)
        if sums is not None:
            parts += [_line(_x(a), sums, _x(b), top, _style(a, b)) for a, b in row.paths]
        if row.kind == "head":  # one box across the branches it reads
            text = (row.what, _shape(row.shapes[0]))
            parts.append(_box(row, 0, top, tall, _x(len(row.paths) - 1) - _x(0) + BOX, text))
        else:
            parts += [_box(row, b, top, tall, BOX, (_shape(s), row.notes[b])) for b, s in enumerate(row.shapes)]
        if row.kind != "module":
            parts.append(_text(0, top + 16, {"maps": "output"}.get(row.kind, row.kind), bold=row.kind != "transition"))
            if row.kind == "stem":
                parts.append(_text(0, top + 16 + LINE, row.what, SOFT))
        elif row.name in labels:
            stage, modules = labels[row.name]
            lines = (_count(len(modules), "module"), f"{_count(row.units, 'unit')} in each")
            parts.append(_text(0, top + 14, stage, bold=True))
            parts += [_text(0, top + 14 + LINE * (i + 1), line, SOFT) for i, line in enumerate((*lines, *_words(row.what)))]
        y = sums = top + tall
        if row.fused:
            y = sums + FUSE
            parts += [_line(_x(a), sums, _x(b), y, _style(a, b), "fusion") for a, b in row.fused]
            parts += [_sum(_x(b), y + 6) for b in sorted({b for _, b in row.fused})]
            y = sums = y + 12
    width, height = GUTTER + COLUMN * max(len(row.shapes) for row in rows), y + 8
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-labelledby="{name}-title {name}-desc" '
        f'width="{width}" height="{height}" viewBox="0 0 {width} {height}" style="min-width: {width}px" '
        f'font-family="system-ui, DejaVu Sans, sans-serif" font-size="12" fill="currentColor">'
    )
    said = f'<title id="{name}-title">{markup.escape(title)}</title><desc id="{name}-desc">{markup.escape(said)}</desc>'
    return "\n".join([head, said, *parts, "</svg>"])


def _shapes(model: HighResolutionNet, size: tuple[int, int]) -> dict[str, tuple[Shape, ...]]:
    """What every drawn module gives, by its path; asked of a copy without memory."""
    ghost, seen = copy.deepcopy(model).to("meta").eval(), {}

    def watch(name: str):
        def hook(module: nn.Module, inputs: tuple, output: torch.Tensor | Sequence[torch.Tensor]) -> None:
            tensors = [output] if isinstance(output, torch.Tensor) else output
            seen[name] = tuple((t.shape[1], t.shape[2], t.shape[3]) for t in tensors)

        return hook

    modules = [f"stage{s}.{m}" for s in range(ghost.num_stages) for m in range(_length(ghost.get_submodule(f"stage{s}")))]
    watched = ["stem", *(f"transition{s}" for s in range(ghost.num_stages)), "head_layer", "final_layer"]
    for name in [*watched, *modules, *(f"{module}.layers" for module in modules)]:
        ghost.get_submodule(name).register_forward_hook(watch(name))
    with torch.no_grad():
        ghost(torch.zeros(1, 3, *size, device="meta"))
    return seen


def _note(unit: nn.Module, branch: int, branches: int, units: int) -> str:
    """How many units a module has and the sizes of their kernels on one branch: "2 units: 3, 5"."""
    lists = [m for m in unit.children() if isinstance(m, nn.ModuleList) and len(m) == branches]
    parts = [unit[branch]] if isinstance(unit, PerBranch) else [found[branch] for found in lists]
    sizes = set()
    for module in (module for part in parts for module in part.modules()):
        if isinstance(module, DynamicConv):
            sizes.add(module.kernel_size)
        elif isinstance(module, nn.Conv2d):
            sizes.add(module.kernel_size[0])
    return f"{_count(units, 'unit')}: {', '.join(map(str, sorted(sizes - {1})))}"


def _stages(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """The modules by stage, counted as the article does: the stem is stage 1."""
    stages: dict[str, list[Row]] = {}
    for row in rows:
        if row.kind == "module":
            stages.setdefault(f"Stage {int(row.name[5 : row.name.index('.')]) + 2}", []).append(row)
    return stages


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" + ("" if number == 1 else "s")


def _words(name: str) -> list[str]:
    """A class name in lines that fit the gutter: "ConditionalChannelWeighting" -> "Conditional", "ChannelWeighting"."""
    lines = [""]
    for i, letter in enumerate(name):
        if letter.isupper() and i and name[i - 1].islower() and len(name[i:]) + len(lines[-1]) > 16 and len(lines[-1]) > 6:
            lines.append("")
        lines[-1] += letter
    return lines


def _shape(shape: Shape) -> str:
    return f"{shape[0]} · {shape[1]} × {shape[2]}"


def _x(branch: int) -> float:
    return GUTTER + COLUMN * branch + BOX / 2


def _style(start: int, end: int) -> str:
    if start == end:
        return 'stroke="currentColor" stroke-width="0.8"'
    return f'stroke="{COLOURS[0]}"' if end > start else f'stroke="{COLOURS[1]}" stroke-dasharray="4 3"'


def _line(x1: float, y1: float, x2: float, y2: float, style: str, kind: str = "path") -> str:
    return f'<line class="{kind}" x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}" {style}/>'


def _sum(x: float, y: float) -> str:
    cross = f'<path d="M{x - 3:g} {y:g}h6M{x:g} {y - 3:g}v6" stroke="currentColor"/>'
    return f'<circle cx="{x:g}" cy="{y:g}" r="6" fill="{WASH}" stroke="currentColor" stroke-width="0.8"/>{cross}'


def _box(row: Row, branch: int, top: float, tall: float, wide: float, lines: Sequence[str]) -> str:
    left, shape = _x(branch) - BOX / 2, "x".join(map(str, row.shapes[branch]))
    rect = (
        f'<rect class="{row.kind}" data-module="{row.name}" data-branch="{branch}" data-shape="{shape}" x="{left:g}" '
        f'y="{top:g}" width="{wide:g}" height="{tall:g}" rx="3" fill="{WASH}" stroke="currentColor" stroke-width="0.8"/>'
    )
    middle = left + wide / 2
    texts = [_text(middle, top + 16 + LINE * i, line, SOFT if i else "", middle=True) for i, line in enumerate(lines) if line]
    return rect + "".join(texts)


def _text(x: float, y: float, text: str, fill: str = "", bold: bool = False, middle: bool = False) -> str:
    style = (' font-weight="600"' if bold else "") + (' text-anchor="middle"' if middle else "")
    colour = f' style="fill: {fill}"' if fill else ""
    return f'<text x="{x:g}" y="{y:g}"{style}{colour}>{markup.escape(text)}</text>'
