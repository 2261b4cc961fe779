"""Computes a network by ONNX Runtime, from an export that is checked against torch and cached for these weights."""

import hashlib
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mdw.models.counts import digest_of_networks
from mdw.models.dynamic_conv import DynamicConv
from mdw.util.errors import MdwError
from mdw.util.extras import need
from mdw.util.files import cache_folder

NEEDED = ("onnx", "onnxruntime")


def check_installed() -> None:
    """Raise MdwError where a package is missing."""
    need("export", *NEEDED)


def exported(model: nn.Module, size: tuple[int, int], batch: int | None = None) -> Path:
    """Returns the ONNX file of `model` at `size` (height, width), exported into the cache if needed. MdwError as `export`."""
    from mdw.models.export import digest, export

    key = f"{digest_of_networks()} {version('onnx')} {version('onnxruntime')} {size} {batch} {digest(model)} {model!r}"
    path = cache_folder() / f"network-{hashlib.sha256(key.encode()).hexdigest()[:16]}.onnx"
    if not path.exists():
        export(model, path, size, batch)
    return path


class OnnxNetwork(nn.Module):
    """`model` by ONNX Runtime: (N, 3, H, W) float32 of one `size` (height, width) -> (N, J, H/4, W/4); no gradient.

    Where the network has dynamic convolutions, single images have their own file, in which each is a plain convolution. A file
    is exported when first needed. `file`: an export of these weights by `mdw export`, used for all batches. Uses as many
    threads as torch has when a file is opened. Raises MdwError where ONNX Runtime is missing, the export fails, or `file` is of
    other weights or of a fixed batch.
    """

    def __init__(self, model: nn.Module, size: tuple[int, int], file: Path | None = None):
        super().__init__()
        check_installed()
        self.model, self.size, self.file = model, size, file
        self.sessions: dict[int | None, Any] = {}
        self.mixes = file is None and any(isinstance(module, DynamicConv) for module in model.modules())
        self.about = _about(self._session(None), file, model, size) if file else {}

    def forward(self, x: Tensor) -> Tensor:
        session = self._session(1 if len(x) == 1 and self.mixes else None)
        return torch.from_numpy(session.run(None, {"image": x.contiguous().numpy()})[0])

    def close(self) -> None:
        """Close the files and free their memory; they are opened again when needed."""
        self.sessions.clear()

    def _session(self, batch: int | None):
        import onnxruntime

        if batch not in self.sessions:
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = torch.get_num_threads()
            file = str(self.file or exported(self.model, self.size, batch))
            try:
                session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
            except Exception as error:  # its exception types are not public
                reason = str(error).strip().splitlines()[0]
                raise MdwError(f"onnxruntime cannot open {file} ({reason}); export the network again") from None
            self.sessions[batch] = session
        return self.sessions[batch]


def _about(session, file: Path, model: nn.Module, size: tuple[int, int]) -> dict:
    """Returns the file's metadata. Raises MdwError unless it is of these weights, of this size and of any batch."""
    from mdw.models.export import digest

    about = json.loads(session.get_modelmeta().custom_metadata_map.get("mdw", "{}"))
    batch, _, *shape = session.get_inputs()[0].shape
    if about.get("weights") != digest(model):
        raise MdwError(f"{file} is not an export of these weights; write it with mdw export and the same weights")
    if shape != list(size):
        raise MdwError(f"{file} takes {shape[0]}x{shape[1]}, the weights {size[0]}x{size[1]}; export at that size")
    if isinstance(batch, int):
        raise MdwError(f"{file} takes batches of {batch} alone; export without --batch")
    return about
