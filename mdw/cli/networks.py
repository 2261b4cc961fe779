"""Commands about networks: list, complexity."""

import json
from typing import Annotated

import typer

from mdw.cli.common import Joints, Json, Options, as_table, read_size, read_values, show


def list_(as_json: Json = False) -> None:
    """List the networks."""
    from mdw.models import list_models

    show(list_models(), as_json, lambda names: "\n".join(names))


def complexity(
    models: Annotated[list[str] | None, typer.Argument(help="Networks; all if left out.")] = None,
    size: Annotated[list[str] | None, typer.Option(help="HEIGHTxWIDTH; repeatable.")] = None,
    joints: Joints = 17,
    option: Options = None,
    beside: Annotated[bool, typer.Option("--table", help="Beside the published figures, by every convention.")] = False,
    as_json: Json = False,
) -> None:
    """Count parameters, executed multiply-adds and what Lite-HRNet's counter would print."""
    from mdw.models import list_models
    from mdw.models.counts import counted

    if beside:
        from mdw.report.pages.zoo import costs

        texts = ["{}x{}".format(*read_size(text)) for text in size or []]
        frame = costs(models, texts, joints, **read_values("--option", option))
        show(json.loads(frame.to_json(orient="records")), as_json, lambda _: _beside(frame))
        return
    sizes = {text: read_size(text) for text in size or ["256x192", "384x288", "256x256"]}
    options = read_values("--option", option)
    rows = [
        {"model": name, "size": text} | counted(name, sides, joints, **options)
        for name in models or list_models()
        for text, sides in sizes.items()
    ]

    def line(row: dict) -> dict:
        cells = {name: row[name] for name in ("model", "size")} | {"params": f"{row['params'] / 1e6:.3f} M"}
        cells |= {
            "executed MACs": f"{row['macs'] / 1e6:.1f} M",
            "Lite-HRNet's counter": f"{row['peer_macs'] / 2**20:.1f} x 2^20",
        }
        return cells | {name: row[name] for name in ("launches", "activation_bytes")}

    show(rows, as_json, lambda rows: as_table([line(row) for row in rows]))


def _beside(frame) -> str:
    """Returns the frame of `zoo.costs` as text, with its long sources as notes below."""
    sources = list(dict.fromkeys(source for source in frame["source"] if source))
    numbered = frame.assign(source=[f"[{sources.index(source) + 1}]" if source else "-" for source in frame["source"]])
    table = numbered.to_string(index=False, na_rep="-", float_format="%.3f")
    return "\n".join([table, "", *(f"[{number}] {source}" for number, source in enumerate(sources, 1))])
