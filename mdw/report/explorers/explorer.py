"""Figures that answer: drawn by one JavaScript function, in JupyterLab through an anywidget and in a page without a kernel.

`explore.py` makes them. What a reader without scripts sees, and what a notebook shows without anywidget, is a still image.
"""

import base64
import json
import zlib
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from mdw.report.outputs import Output, report_folder
from mdw.report.site import markup
from mdw.util.errors import MdwError

FOLDER = Path(__file__).parent
KINDS = ("poses", "gates", "points")
STILL = "This image answers to controls where scripts run; here it stands still."


class Explorer(Output):
    """An interactive figure of the kind "poses", "gates" or "points", which is the file explore_<kind>.js.

    data: plain JSON for its `draw`; photos: data URIs, given to it as `data.photos`; still: the image shown in its place
    where no script runs, whose caption and alternative text are the figure's.
    """

    def __init__(self, kind: str, data: dict, still: Output, photos: Sequence[str] = ()) -> None:
        spec = still.spec | {"kind": "explorer", "explorer": kind, "data": data, "photos": list(photos)}
        super().__init__(spec, still.html and f"{still.html}<p>{STILL}</p>", still.text, still.extra)

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict:
        bundle = super()._repr_mimebundle_(include, exclude)
        if report_folder() is None and find_spec("anywidget"):  # a published page draws by itself
            view, _ = widget(self.spec)._repr_mimebundle_()
            bundle = view | bundle
        return bundle


def widget(spec: dict):
    """The explorer as an anywidget.AnyWidget, from an `Explorer`'s spec."""
    import anywidget
    import traitlets

    class ExplorerWidget(anywidget.AnyWidget):
        _esm = source(spec["explorer"])
        _css = style()
        data = traitlets.Dict().tag(sync=True)

    caption = spec["caption"].replace("`", "")  # the page sets it; here the widget does
    return ExplorerWidget(data=spec["data"] | {"photos": spec["photos"], "caption": caption})


def static(spec: dict, data: dict, number: int) -> str:
    """The figure as HTML without kernel or request, from the explorer's `spec` and the image in its MIME bundle."""
    if "image/svg+xml" in data:
        still = markup.drawing("".join(data["image/svg+xml"]), number)
    else:
        still = markup.image(f"data:image/webp;base64,{''.join(data['image/webp'])}", spec["alt"])
    photos = "".join(markup.image(uri, "") for uri in spec["photos"])
    text = json.dumps(spec["data"], separators=(",", ":"), ensure_ascii=False).replace("<", "\\u003c")
    drawn = (
        f'<div class="explorer" data-kind="{spec["explorer"]}">{still}<p class="note">{STILL}</p>'
        f'<div class="x-photos" hidden>{photos}</div><script type="application/json">{text}</script></div>'
        f'<style>{style()}</style><script type="module">{script(spec["explorer"])}</script>'
    )
    return markup.figure(drawn, spec["caption"], number, spec.get("files", []))


def source(kind: str) -> str:
    """The JavaScript module of one kind, the same for JupyterLab and for the page."""
    if kind not in KINDS:
        raise MdwError(f"there is no explorer of the kind {kind!r}; the kinds are {', '.join(KINDS)}")
    return "\n".join((FOLDER / name).read_text(encoding="utf-8") for name in (f"explore_{kind}.js", "explore.js"))


def script(kind: str) -> str:
    """The script of a page that holds explorers of one kind."""
    return f'{source(kind)}\nmount("{kind}");'


def style() -> str:
    """The style sheet of all kinds."""
    return (FOLDER / "explore.css").read_text(encoding="utf-8")


def pack(arrays: Sequence[np.ndarray]) -> dict:
    """Arrays as one text: {"bytes": zlib in base64, "sizes", "ranges"}; `unpack` is the way back.

    Each array is kept in steps of 1/255 of its range, rounded down, so that no value but the highest becomes the highest:
    where its maximum is stays exact.
    """
    parts, ranges = [], []
    for array in arrays:
        values = np.asarray(array, np.float64).ravel()
        low, high = float(values.min()), float(values.max())
        parts.append(np.floor((values - low) / ((high - low) or 1.0) * 255).astype(np.uint8).tobytes())
        ranges.append([round(low, 6), round(high, 6)])
    packed = base64.b64encode(zlib.compress(b"".join(parts), 9)).decode()
    return {"bytes": packed, "sizes": [len(part) for part in parts], "ranges": ranges}


def unpack(packed: dict) -> list[np.ndarray]:
    """What `pack` has kept, float64, each array flat; as explore.js reads it."""
    values = np.frombuffer(zlib.decompress(base64.b64decode(packed["bytes"])), np.uint8)
    parts = np.split(values, np.cumsum(packed["sizes"])[:-1])
    return [low + part / 255 * (high - low) for part, (low, high) in zip(parts, packed["ranges"], strict=True)]
