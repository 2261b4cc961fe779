"""A network computed by ONNX Runtime: from its own export, checked against torch, made once for these weights and kept."""

import hashlib
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn

from mdw.models.counts import digest_of_networks
from mdw.util.errors import MdwError
from mdw.util.files import cache_folder

NEEDED = ("onnx", "onnxruntime")


def check_installed() -> None:
    """Raise MdwError where a package is missing."""
    missing = [package for package in NEEDED if find_spec(package) is None]
    if missing:
        raise MdwError(f"--computation onnx needs {' and '.join(missing)}; install the extra with pip install 'mdw[export]'")


def exported(model: nn.Module, size: tuple[int, int]) -> Path:
    """The ONNX file of `model` at `size` (height, width), from the cache or written into it. Raises MdwError as `export`."""
    from mdw.models.export import export

    said = hashlib.sha256(f"{digest_of_networks()} {version('onnx')} {size} {model!r}".encode())
    for name, value in model.state_dict().items():
        said.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
    path = cache_folder() / f"network-{said.hexdigest()[:16]}.onnx"
    if not path.exists():
        export(model, path, size)
    return path


class OnnxNetwork(nn.Module):
    """`model` by ONNX Runtime: (N, 3, H, W) float32 of the one `size` (height, width) -> (N, J, H/4, W/4); no gradient.

    It has as many threads as torch has when it is made. Raises MdwError where ONNX Runtime is missing or the export fails.
    """

    def __init__(self, model: nn.Module, size: tuple[int, int]):
        super().__init__()
        check_installed()
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        file = str(exported(model, size))
        self.session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])

    def forward(self, x: Tensor) -> Tensor:
        return torch.from_numpy(self.session.run(None, {"image": x.contiguous().numpy()})[0])
