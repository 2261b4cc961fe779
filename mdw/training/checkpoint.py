"""Checkpoints of a run: tensors and plain JSON values in one safetensors file, so that they always belong together.

The newest state is checkpoint.safetensors, the one before it checkpoint.previous.safetensors. Each is written under a temporary
name and then renamed, and has a checksum: a process may be killed at any moment, and a disk may return wrong data.
"""

import hashlib
import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as parse
from safetensors.torch import save as serialise
from torch import Tensor

from mdw.util.errors import MdwError
from mdw.util.files import write_bytes

NEWEST, PREVIOUS = "checkpoint.safetensors", "checkpoint.previous.safetensors"
KEY = "mdw"  # the one metadata entry: safetensors writes several in no fixed order


def save(folder: Path, tensors: dict[str, Tensor], state: dict) -> None:
    """Write these tensors, on any device, and this dict of JSON values as the newest checkpoint of `folder`.

    Raises MdwError where a tensor is not finite or the folder cannot be written; the newest checkpoint then stays as it was.
    """
    tensors = {name: value.detach().contiguous().cpu() for name, value in tensors.items()}
    bad = next((name for name, value in tensors.items() if value.is_floating_point() and not value.isfinite().all()), None)
    if bad:
        raise MdwError(
            f"{bad} is no longer finite in epoch {state['epoch'] + 1}, step {state['step']}; lower the learning rate with "
            f"--set lr=..., what is kept is the last good state"
        )
    written = json.dumps(state, sort_keys=True)
    metadata = json.dumps({"state": written, "checksum": _checksum(tensors, written)})
    data = serialise(tensors, {KEY: metadata})
    if (folder / NEWEST).exists():
        write_bytes(folder / "checkpoint.next.safetensors", data)  # first: on a full disk both older ones stay
        os.replace(folder / NEWEST, folder / PREVIOUS)
        os.replace(folder / "checkpoint.next.safetensors", folder / NEWEST)
    else:
        write_bytes(folder / NEWEST, data)


def read(
    folder: Path, check: Callable[[dict[str, Tensor], dict], None] = lambda tensors, state: None
) -> tuple[bytes | None, str | None]:
    """Returns the bytes of the newest undamaged checkpoint (None without one) and a warning where it is not the newest of all.

    `check` raises MdwError, "is ...", for tensors and state that do not fit the run. Raises MdwError where checkpoints exist
    but all are damaged or do not fit.
    """
    damaged = []
    for name in (NEWEST, PREVIOUS):
        try:
            data = (folder / name).read_bytes()
            tensors, state = unpack(data)
            check(tensors, state)
        except FileNotFoundError:
            continue
        except (OSError, MdwError) as error:
            damaged.append(f"{folder / name} {error}")
            continue
        position = f"epoch {state['epoch'] + 1}, step {state['step']}"
        return data, f"{damaged[0]}; going on from the checkpoint before it, {position}" if damaged else None
    if damaged:
        raise MdwError(f"{' and '.join(damaged)}; delete {folder} to begin this run anew")
    return None, None


def unpack(data: bytes) -> tuple[dict[str, Tensor], dict]:
    """Returns tensors and state of a checkpoint's bytes. Raises MdwError, "is damaged ...", where they are not as written."""
    try:
        tensors = parse(data)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        metadata = json.loads(header["__metadata__"][KEY])
        state = json.loads(metadata["state"])
        if not isinstance(state, dict):
            raise TypeError("its state is no object")
        intact = metadata["checksum"] == _checksum(tensors, metadata["state"])
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise MdwError(f"is damaged or of another version ({type(error).__name__}: {error})") from None
    if not intact:
        raise MdwError("is damaged: its checksum is wrong")
    return tensors, state


def exists(folder: Path) -> bool:
    """Returns whether a run has a checkpoint."""
    return any((folder / name).exists() for name in (NEWEST, PREVIOUS))


def remove(folder: Path) -> None:
    """Remove the checkpoints of a finished run."""
    for path in folder.glob("checkpoint*.safetensors"):
        with suppress(OSError):  # a finished run on a read-only disk is still one
            path.unlink()


def _checksum(tensors: dict[str, Tensor], written: str) -> str:
    digest = hashlib.sha256(written.encode())
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].dtype} {tuple(tensors[name].shape)} ".encode())
        digest.update(tensors[name].reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
