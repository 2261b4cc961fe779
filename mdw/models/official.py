"""Loads official checkpoints of Lite-HRNet, Dite-HRNet, HRNet and SimpleBaseline into the networks of this project.

Our modules have the official names wherever the networks have the same structure; only prefixes and, for the naive network and
HRNet, the order of branch and block and the numbers of the stages are translated.
"""

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from pickle import UnpicklingError
from zipfile import ZipFile

import numpy as np
import torch
from torch import Tensor, nn

from mdw.models import create_model
from mdw.models.weights import check_numbers, no_weights, read_tensors
from mdw.util.errors import MdwError
from mdw.util.words import unknown

DEEPEST, LARGEST = 8, 2**33  # dicts within each other; bytes of one array
PREFIXES = re.compile(r"^(module\.|backbone\.|keypoint_head\.|head\.)+")  # of DataParallel, MMPose 0.x and MMPose 1
NAIVE = ((r"^(stage\d\.\d+\.layers)\.(\d+)\.(\d+)\.", r"\1.\3.\2."),)  # layers.<branch>.<block> -> layers.<block>.<branch>
HRNET = (
    (r"^(conv1|bn1|conv2|bn2|layer1)\.", r"stem.\1."),
    (r"^transition(\d)", lambda m: f"transition{int(m[1]) - 1}"),
    (r"^stage(\d)", lambda m: f"stage{int(m[1]) - 2}"),
    (r"\.branches\.(\d+)\.(\d+)\.", r".layers.\2.\1."),
)
RULES: dict[str, tuple[tuple[str, str | Callable], ...]] = {  # network -> patterns, applied one after the other
    "lite_hrnet_18": (),
    "lite_hrnet_30": (),
    "naive_lite_hrnet_18": NAIVE,
    "wider_naive_lite_hrnet_18": NAIVE,
    "dite_hrnet_18": (),
    "dite_hrnet_30": (),
    "hrnet_w32": HRNET,
    "hrnet_w48": HRNET,
    "small_hrnet": HRNET,
    "simple_baseline_50": (),
    "simple_baseline_101": (),
    "simple_baseline_152": (),
}


def load_any(name: str, path: str | Path) -> tuple[nn.Module, int]:
    """Returns `load` of a file and its number of joints, taken from its last convolution."""
    state = _weights(_read(Path(path)), str(path))
    final_kernels = [value for key, value in state.items() if _plain(key).startswith("final_layer") and value.ndim == 4]
    joints = len(final_kernels[-1]) if final_kernels else 17
    return load(name, state, joints), joints


def load(name: str, state_or_path: str | Path | Mapping, num_joints: int = 17) -> nn.Module:
    """Returns the network `name` with official weights, as released, in evaluation mode.

    `state_or_path`: a .pth/.pt/.tar file (read with weights_only=True), .npz or .safetensors, or a mapping from names to
    tensors or arrays; the weights may be under "state_dict" beside optimizer and meta entries, and names may begin with
    "module.", "backbone." and "keypoint_head.". Counters of norms (num_batches_tracked) may be missing. Raises MdwError for a
    file that cannot be read and for weights that are missing, extra or of another shape.
    """
    if name not in RULES:
        raise unknown("there are no official weights to load for", name, RULES, "the networks with some are")
    source, state = "the given state", state_or_path
    if not isinstance(state_or_path, Mapping):
        source, state = str(state_or_path), _read(Path(state_or_path))
    model = create_model(name, num_joints)
    names = {_plain(key): key for key in model.state_dict()}
    weights = {}
    for key, value in _weights(state, source).items():
        key = _translate(_plain(key), RULES[name])
        weights[names.get(key, key)] = value
    _check_names_and_shapes(name, source, model, weights)
    check_numbers(source, weights, model.state_dict())
    model.load_state_dict(weights, strict=False)
    return model.eval()


def _plain(key: str) -> str:
    return PREFIXES.sub("", key)


def _translate(key: str, rules: tuple) -> str:
    for pattern, replacement in rules:
        key = re.sub(pattern, replacement, key)
    return key


def _read(path: Path):
    """Reads a weight file without running code in it."""
    if path.suffix == ".safetensors":
        return read_tensors(path)[0]
    if path.is_file() and (problem := no_weights(path)):
        raise MdwError(f"{path} {problem}")
    try:
        if path.suffix == ".npz":
            _check_archive(path)
            with np.load(path, allow_pickle=False) as archive:
                return {key: archive[key] for key in archive.files}
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise MdwError(f"there is no weight file {path}; check the path") from None
    except UnpicklingError as error:
        message = str(error).partition("WeightsUnpickler error: ")[2] or str(error)
        reason = _first_sentence(message)
        if not re.search("global|class", reason, re.IGNORECASE):
            raise MdwError(f"{path} cannot be read as a weight file ({reason}); is it complete?") from None
        raise MdwError(
            f"{path} holds more than tensors and plain values, which is refused because it could run code ({reason}); "
            "save its state_dict alone and load that"
        ) from None
    except Exception as error:  # torch and NumPy raise many kinds for damaged bytes
        reason = _first_sentence(str(error)) or type(error).__name__
        raise MdwError(f"{path} cannot be read as a weight file ({reason}); is it complete?") from None


def _first_sentence(message: str) -> str:
    """Returns the first sentence of an error message, which may continue with the file's bytes."""
    return message.partition("\n")[0].split(". ")[0].rstrip(".")[:200]


def _check_archive(path: Path) -> None:
    """Raise ValueError for an .npz with wrong array sizes in its headers, by which NumPy would allocate memory."""
    with ZipFile(path) as archive:
        for member in archive.infolist():
            with archive.open(member) as file:
                version = np.lib.format.read_magic(file)
                read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                shape, _, dtype = read(file)
                if math.prod(shape) * dtype.itemsize != member.file_size - file.tell():
                    raise ValueError(f"{member.filename} says that it holds {shape} numbers and does not")
                if member.file_size > LARGEST:
                    raise ValueError(f"{member.filename} is larger than any network here")


def _weights(state, source: str) -> dict[str, Tensor]:
    """Returns the weights of a checkpoint by name: under "state_dict", under names "state/...", or all of it."""
    for _ in range(DEEPEST):  # a dict may hold itself
        if not isinstance(state, Mapping) or not isinstance(state.get("state_dict"), Mapping):
            break
        state = state["state_dict"]
    else:
        raise MdwError(f"{source} holds a 'state_dict' within another, {DEEPEST} deep; give the innermost alone")
    if isinstance(state, Mapping) and any(str(key).startswith("state/") for key in state):
        state = {str(key)[6:]: value for key, value in state.items() if str(key).startswith("state/")}
    if not isinstance(state, Mapping):
        raise MdwError(f"{source} holds a {type(state).__name__}, not names with weights; give a state_dict")
    tensors = {}
    for name, value in state.items():
        if isinstance(value, Tensor | np.ndarray | np.generic):
            try:
                tensors[str(name)] = torch.as_tensor(value)
            except (TypeError, ValueError, RuntimeError):  # text, dates, objects, another byte order
                raise MdwError(f"{source}: {name} holds {value.dtype}, which are no weights; give a state_dict") from None
    if not tensors:
        raise MdwError(f"{source} holds no weights; give a state_dict, or a checkpoint with one under 'state_dict'")
    return tensors


def _check_names_and_shapes(name: str, source: str, model: nn.Module, weights: dict[str, Tensor]) -> None:
    """Raise MdwError that lists missing and extra weights and wrong shapes."""
    expected = model.state_dict()
    faults = []
    absent = [key for key in expected if key not in weights and not key.endswith("num_batches_tracked")]
    extra = [key for key in weights if key not in expected]
    shapes = [
        f"{key} {tuple(weights[key].shape)} for {tuple(expected[key].shape)}"
        for key in expected
        if key in weights and weights[key].numel() != 1 and weights[key].shape != expected[key].shape
    ]
    for fault, keys in (("missing", absent), ("extra", extra), ("of another shape", shapes)):
        if keys:
            examples = ", ".join(keys[:3]) + (", ..." if len(keys) > 3 else "")
            faults.append(f"{len(keys)} {fault} ({examples})")
    if faults:
        hint = "give num_joints as it was trained" if len(shapes) and not absent + extra else "check the network's name"
        raise MdwError(f"{source} does not fit {name}: {'; '.join(faults)}; {hint}")
