"""Weights on disk: safetensors that say which network they belong to. Nothing pickled is ever loaded."""

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

if TYPE_CHECKING:  # what a file says of itself is read without torch
    from torch import Tensor, nn

OFFICIAL = {17: (COCO17, (192, 256)), 16: (MPII16, (256, 256))}  # joints of a checkpoint -> which, and input (width, height)
KEY = "mdw"  # one metadata entry, since safetensors writes several in no fixed order and equal runs are to give equal files


def about(spec: dict, joints: str | dict) -> dict:
    """What a weights file says of itself: the network, its options, its input (width, height), its recipe, start and joints.

    `joints` is a `JointSet.key`: the name of a known joint set, or all of one's own.
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
    """{"init": the rule} of a recipe's dict; empty where it started as all did before there was a choice."""
    return {name: recipe[name] for name in ("init",) if name in recipe}


def save_weights(path: str | Path, model: "nn.Module", about: dict) -> None:
    """Write the model's state as safetensors with `about` (see above) inside, whole or not at all."""
    from safetensors.torch import save

    state = {name: value.detach().contiguous().cpu() for name, value in model.state_dict().items()}
    write_bytes(path, save(state, {KEY: json.dumps(about, sort_keys=True)}))


def read_about(path: str | Path) -> dict:
    """What a weights file says of itself; empty where it says nothing. Raises MdwError as `read_tensors` does."""
    if named := official_checkpoint(path):
        return {"model": named[0], "options": {}}
    place = f"what {path} says of itself"
    return fit(place, parse_json(place, _read(path, "np", lambda file: file.metadata() or {}).get(KEY, "{}")), dict[str, Any])


def load_weights(path: str | Path, model: "nn.Module") -> "nn.Module":
    """Put safetensors weights into `model` and return it.

    Raises MdwError, naming the file, where it is missing, damaged, of another network or number of joints, and as
    `check_numbers` does.
    """
    state, _ = read_tensors(path)
    wanted = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in state.items()}
    if wanted != found:
        strange = sorted({name for name, _ in set(wanted.items()) ^ set(found.items())})
        raise MdwError(
            f"{path} holds the weights of another network{_named(read_about(path))}: {len(strange)} tensors differ, the first "
            f"is {strange[0]}; name the network, options and joints it was trained with"
        )
    check_numbers(str(path), state, model.state_dict())
    model.load_state_dict(state)
    return model


def check_numbers(source: str, state: "Mapping[str, Tensor]", own: "Mapping[str, Tensor]") -> None:
    """Raise MdwError for a tensor of `state` that is no floating-point one where `own` has one, or not finite.

    Loading would convert integers and drop the imaginary part of complex numbers without a word.
    """
    for name, value in state.items():
        if name in own and (value.is_floating_point() != own[name].is_floating_point() or value.is_complex()):
            dtype, wanted = (str(tensor.dtype).removeprefix("torch.") for tensor in (value, own[name]))
            raise MdwError(
                f"{source}: {name} holds {dtype} where the network has {wanted}; give weights that it was trained to"
            )
        if value.is_floating_point() and not value.isfinite().all():
            raise MdwError(
                f"{source}: {name} is not finite, so nothing can be computed by it; give the weights of a whole training"
            )


def load_network(path: str | Path | None = None) -> "tuple[nn.Module, JointSet, tuple[int, int]]":
    """The network a weights file describes, with its weights, in evaluation mode; its joints; its input (width, height).

    `path` as for `weights_file`; an official checkpoint, "NAME=FILE", is that network as released. Such a file does not say
    what its input was: it is taken to be 256x192 (height x width), or 256x256 where it predicts MPII's 16 joints.
    Raises MdwError where there is none, it is damaged, or it does not say what it belongs to.
    """
    path = weights_file(path)
    if named := official_checkpoint(path):
        from mdw.models import official

        model, number = official.load_any(*named)
        if number not in OFFICIAL:
            raise MdwError(f"{named[1]} predicts {number} joints, neither COCO's 17 nor MPII's 16; load it from Python")
        return model, *OFFICIAL[number]
    said = read_about(path)
    try:
        name, options, (width, height) = said["model"], said["options"], said["input_size"]
        joints = joint_set(said["joints"])
        size = fit("input_size", (width, height), Size)
        options = fit("options", options, dict[str, Any])
    except (KeyError, TypeError, ValueError, AttributeError):  # MdwError is one, too
        raise MdwError(f"{path} does not say which network it belongs to; use weights that `mdw train` wrote") from None
    model = create_model(name, joints.num_joints, **options)
    load_weights(path, model)
    return model.eval(), joints, size


def weights_file(path: str | Path | None = None) -> Path:
    """The file that is meant by a weights.safetensors, a run's folder, a name of `list_shipped`, or None for MDW-HRNet-18.

    Where there is no such path, a single word is taken for a name. An official checkpoint with its network, NAME=FILE, stays
    as it is. Raises MdwError where no weights of that name are shipped, and as `official_checkpoint` does.
    """
    path = shipped() if path is None else Path(path)
    if official_checkpoint(path):
        return path
    if not path.exists() and path.name == str(path) and not path.suffix:
        return shipped(str(path))
    return path / "weights.safetensors" if path.is_dir() else path


def official_checkpoint(path: str | Path) -> tuple[str, Path] | None:
    """The network and the file of "lite_hrnet_18=FILE.pth"; None for a path without a name before it.

    Raises MdwError for a name that no network has, and where the file does not exist.
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
    """The weights of that name which come with the package; see `list_shipped`.

    Raises MdwError, naming those that there are, where it comes without.
    """
    found = list_shipped()
    if name not in found:
        there = f"weights of {', '.join(found)}, not of {name}" if found else "no weights"
        raise MdwError(f"this copy of mdw comes with {there}; give a weights.safetensors or a run's folder")
    return found[name]


def list_shipped() -> dict[str, Path]:
    """The weights that come with the package by name: a network's, with a word after it where it is an ablation's."""
    folder = Path(str(resources.files("mdw") / "shipped"))
    return {path.stem.partition("-")[0]: path for path in sorted(folder.glob("*.safetensors"))}


def read_tensors(path: str | Path) -> "tuple[dict[str, Tensor], dict[str, str]]":
    """Tensors and metadata of a safetensors file. Raises MdwError, naming the file, where it is missing or damaged."""
    read = lambda file: ({name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {})  # noqa: E731, SIM118
    return _read(path, "pt", read)


def _read(path: str | Path, framework: str, read):
    path = Path(path)
    if not path.exists():
        raise MdwError(f"{path} does not exist; give a weights.safetensors or the folder of a finished run")
    try:
        with safe_open(path, framework=framework) as file:
            return read(file)
    except (SafetensorError, OSError, ValueError, TypeError, KeyError, AttributeError) as error:  # of a type that has no name
        if other := no_weights(path):
            raise MdwError(f"{path} {other}") from None
        if path.suffix in (".pth", ".pt", ".tar", ".npz"):
            raise MdwError(
                f"{path} does not say which network it belongs to; name the network before an official checkpoint, as "
                f"lite_hrnet_18={path.name}"
            ) from None
        raise MdwError(f"{path} is not a whole safetensors file ({error}); delete it or fetch it again") from None


def no_weights(path: Path) -> str | None:
    """What a file is instead of weights, as its first bytes tell, and what to do; None where they tell nothing."""
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


def _named(said: dict) -> str:
    if not {"model", "joints"} <= said.keys():
        return ""
    joints = said["joints"].get("name") if isinstance(said["joints"], dict) else said["joints"]
    return f" ({said['model']} with {joints})"
