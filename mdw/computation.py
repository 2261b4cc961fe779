"""How a network is computed: `reference`, its modules as torch runs them, or `tuned`, the same values faster.

The choice is no part of a run's identity: results agree within rounding. A run keeps the one it began with, to the bit.
"""

import torch
from torch import nn

from mdw.errors import MdwError
from mdw.tuned import tune
from mdw.tuned.inference import for_inference
from mdw.tuned.library import available, kernels

COMPUTATIONS = ("auto", "reference", "tuned")


def choose(asked: str, device: str) -> str:
    """What `asked` (one of `COMPUTATIONS`) means on `device`: "reference" or "tuned"; "auto" takes the second where it works.

    Raises MdwError for another word, and where "tuned" is asked for by name and does not work here.
    """
    if asked not in COMPUTATIONS:
        raise MdwError(f"there is no computation {asked!r}; give {', '.join(COMPUTATIONS)}")
    on_cpu = torch.device(device).type == "cpu"
    if asked == "tuned" and not on_cpu:
        raise MdwError(f"the tuned computation is for CPUs, not for {device}; give --computation auto or reference")
    if asked == "tuned":
        kernels()
    return "tuned" if asked != "reference" and on_cpu and available() else "reference"


def switch(model: nn.Module, computation: str) -> nn.Module:
    """`model` itself, from now on computed as `choose` has said."""
    return tune(model) if computation == "tuned" else model


def for_use(model: nn.Module, computation: str) -> nn.Module:
    """A network that gives the maps of `model` in evaluation mode; `model` itself, or a copy with its norms folded."""
    return for_inference(model) if computation == "tuned" else model.eval()
