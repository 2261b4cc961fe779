"""Weight files: safetensors that name their network. Nothing pickled is ever loaded."""

import json
import re
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from mdw.models import MODELS, create_model
from mdw.pose.joints import COCO17, MPII16, JointSet, joint_set
from mdw.util.errors import MdwError
from mdw.util.files import parse_json, write_bytes
from mdw.util.typed import Size, fit
from mdw.util.words import unknown

if TYPE_CHECKING:  # metadata are read without torch
    from torch import Tensor, nn

OFFICIAL = {17: (COCO17, (192, 256)), 16: (MPII16, (256, 256))}  # number of joints -> joint set and input (width, height)
KEY = "mdw"  # one metadata entry: safetensors writes several in no fixed order, and equal runs must give equal files


def about(spec: dict, joints: str | dict) -> dict:
    """Returns a weight file's metadata: the network, its options, its input (width, height), recipe, initialisation and joints.

    `joints` is a `JointSet.key`: the name of a known joint set, or a whole joint set.
    """
    recipe = spec["recipe"]
    return {
        "model": spec["model"],
        "options": spec["options"],
        "joints": joints,
        "input_size": recipe["input_size"],
        "recipe": recipe["name"],
        "seed": spec["seed"],
    } | init_of(recipe)


def init_of(recipe: dict) -> dict:
    """Returns {"init": rule} of a recipe's dict; empty for recipes without this field."""
    return {name: recipe[name] for name in ("init",) if name in recipe}


def save_weights(path: str | Path, model: "nn.Module", about: dict) -> None:
    """Write the model's state as safetensors with `about` (see above) inside, atomically."""
    from safetensors.torch import save

    state = {name: value.detach().contiguous().cpu() for name, value in model.state_dict().items()}
    write_bytes(path, save(state, {KEY: json.dumps(about, sort_keys=True)}))


def read_about(path: str | Path) -> dict:
    """Reads a weight file's metadata; empty where it has none. Raises MdwError as `read_tensors` does."""
    if named := official_checkpoint(path):
        return {"model": named[0], "options": {}}
    source = f"what {path} says of itself"
    return fit(source, parse_json(source, _read(path, "np", lambda file: file.metadata() or {}).get(KEY, "{}")), dict[str, Any])


def load_weights(path: str | Path, model: "nn.Module") -> "nn.Module":
    """Load safetensors weights into `model` and return it.

    Raises MdwError, naming the file, where it is missing, damaged, of another network or number of joints, and as
    `check_numbers` does.
    """
    state, _ = read_tensors(path)
    expected = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    stored = {name: tuple(value.shape) for name, value in state.items()}
    if expected != stored:
        different = sorted({name for name, _ in set(expected.items()) ^ set(stored.items())})
        raise MdwError(
            f"{path} holds the weights of another network{_network_and_joints(read_about(path))}: {len(different)} tensors "
            f"differ, the first is {different[0]}; name the network, options and joints it was trained with"
        )
    check_numbers(str(path), state, model.state_dict())
    model.load_state_dict(state)
    return model


def check_numbers(source: str, state: "Mapping[str, Tensor]", network_state: "Mapping[str, Tensor]") -> None:
    """Raise MdwError for a tensor of `state` that is not finite, or not floating-point where `network_state` has such a one.

    Loading would silently convert integers and drop the imaginary part of complex numbers.
    """
    for name, value in state.items():
        if name in network_state and (
            value.is_floating_point() != network_state[name].is_floating_point() or value.is_complex()
        ):
            dtype, expected = (str(tensor.dtype).removeprefix("torch.") for tensor in (value, network_state[name]))
            raise MdwError(
                f"{source}: {name} holds {dtype} where the network has {expected}; give weights that it was trained to"
            )
        if value.is_floating_point() and not value.isfinite().all():
            raise MdwError(
                f"{source}: {name} is not finite, so nothing can be computed by it; give the weights of a whole training"
            )


def load_network(path: str | Path | None = None) -> "tuple[nn.Module, JointSet, tuple[int, int]]":
    """Returns the network of a weight file, with its weights, in evaluation mode; its joints; its input (width, height).

    `path` as for `weights_file`; an official checkpoint, "NAME=FILE", is that network as released. Such a file does not contain
    the input size: we take 256x192 (height x width), or 256x256 where it predicts MPII's 16 joints.
    Raises MdwError where the file is missing, damaged, or does not name its network.
    """
    path = weights_file(path)
    if named := official_checkpoint(path):
        from mdw.models import official

        model, number = official.load_any(*named)
        if number not in OFFICIAL:
            raise MdwError(f"{named[1]} predicts {number} joints, neither COCO's 17 nor MPII's 16; load it from Python")
        return model, *OFFICIAL[number]
    about_file = read_about(path)
    try:
        name, options, (width, height) = about_file["model"], about_file["options"], about_file["input_size"]
        joints = joint_set(about_file["joints"])
        size = fit("input_size", (width, height), Size)
        options = fit("options", options, dict[str, Any])
    except (KeyError, TypeError, ValueError, AttributeError):  # MdwError is one, too
        raise MdwError(f"{path} does not say which network it belongs to; use weights that `mdw train` wrote") from None
    model = create_model(name, joints.num_joints, **options)
    load_weights(path, model)
    return model.eval(), joints, size


def weights_file(path: str | Path | None = None) -> Path:
    """Returns the weight file for a weights.safetensors, a run's folder, a name of `list_shipped`, or None (MDW-HRNet-18).

    A single word that is no path is taken as a name. An official checkpoint with its network, NAME=FILE, is returned unchanged.
    Raises MdwError where no weights of that name are shipped, and as `official_checkpoint` does.
    """
    path = shipped() if path is None else Path(path)
    if official_checkpoint(path):
        return path
    if not path.exists() and path.name == str(path) and not path.suffix:
        return shipped(str(path))
    return path / "weights.safetensors" if path.is_dir() else path


def official_checkpoint(path: str | Path) -> tuple[str, Path] | None:
    """Returns the network and the file of "lite_hrnet_18=FILE.pth"; None for a path without a name before it.

    Raises MdwError for an unknown network, and where the file does not exist.
    """
    name, equals, file = str(path).partition("=")
    if not equals or not re.fullmatch(r"[\w-]+", name) or Path(path).exists():
        return None
    if name not in MODELS:
        raise unknown("there is no model", name, MODELS, "the models are")
    if not Path(file).is_file():
        raise MdwError(f"{file or 'the file'} of {path} does not exist; write {name}=FILE.pth, with the file's path")
    return name, Path(file)


def shipped(name: str = "mdw_hrnet_18") -> Path:
    """Returns the file of shipped weights by name; see `list_shipped`.

    Raises MdwError, listing the shipped ones, for another name.
    """
    available = list_shipped()
    if name not in available:
        content = f"weights of {', '.join(available)}, not of {name}" if available else "no weights"
        raise MdwError(f"this copy of mdw comes with {content}; give a weights.safetensors or a run's folder")
    return available[name]


def list_shipped() -> dict[str, Path]:
    """Returns the weights in the package by name: a network's name, with a suffix for an ablation."""
    folder = Path(str(resources.files("mdw") / "shipped"))
    return {path.stem.partition("-")[0]: path for path in sorted(folder.glob("*.safetensors"))}


def read_tensors(path: str | Path) -> "tuple[dict[str, Tensor], dict[str, str]]":
    """Reads tensors and metadata of a safetensors file. Raises MdwError, naming the file, where it is missing or damaged."""
    read = lambda file: ({name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {})  # noqa: E731, SIM118
    return _read(path, "pt", read)


def _read(path: str | Path, framework: str, read):
    path = Path(path)
    if not path.exists():
        raise MdwError(f"{path} does not exist; give a weights.safetensors or the folder of a finished run")
    try:
        with safe_open(path, framework=framework) as file:
            return read(file)
    except (SafetensorError, OSError, ValueError, TypeError, KeyError, AttributeError) as error:  # also for an unknown dtype
        if problem := no_weights(path):
            raise MdwError(f"{path} {problem}") from None
        if path.suffix in (".pth", ".pt", ".tar", ".npz"):
            raise MdwError(
                f"{path} does not say which network it belongs to; name the network before an official checkpoint, as "
                f"lite_hrnet_18={path.name}"
            ) from None
        raise MdwError(f"{path} is not a whole safetensors file ({error}); delete it or fetch it again") from None


def no_weights(path: Path) -> str | None:
    """Returns what a file is instead of weights, by its first bytes, and what to do; None where these say nothing."""
    try:
        with open(path, "rb") as file:
            head = file.read(200)
    except OSError:
        return None
    if not head:
        return "is empty, so no weights; fetch it again"
    if head.startswith(b"version https://git-lfs"):
        return "is a pointer of Git LFS and not the weights themselves; fetch them with git lfs pull"
    if head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"<", b"{"):
        return "is a web page or a message, not weights; look into it, and fetch the weights again"
    return None


def _network_and_joints(about_file: dict) -> str:
    if not {"model", "joints"} <= about_file.keys():
        return ""
    joints = about_file["joints"].get("name") if isinstance(about_file["joints"], dict) else about_file["joints"]
    return f" ({about_file['model']} with {joints})"
