"""What a network costs: parameters, multiply-adds that are executed, and the figure Lite-HRNet's counter would print.

Two conventions live in the literature's one column. Ours is what the dispatcher executes. Lite-HRNet's counter keeps one value
per module, the one of its last call, and adds things up that are no multiply-adds; they print it in units of 2**20.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from mdw.models.counts import PEER_UNIT as PEER_UNIT
from mdw.models.dynamic_conv import DynamicConv

# Views that do not call themselves so; and `zeros`, which makes the blank image that is counted on.
FREE = {torch.ops.aten.detach, torch.ops.aten._unsafe_view, torch.ops.aten.lift_fresh, torch.ops.aten.zeros}


class MultiplyAdds(TorchDispatchMode):
    """Adds up, in `.macs`, the multiply-adds of every convolution and matrix product while it is active.

    torch's own formulas without torch's `FlopCounterMode`, which decomposes every other operator in passing and takes seconds.
    """

    def __init__(self):
        super().__init__()
        self.macs = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """False: torch need not load its compiler (2 seconds) to keep it from compiling this."""
        return False

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        output = function(*args, **(kwargs or {}))
        formula = flop_registry.get(function._overloadpacket)
        if formula is not None:
            self.macs += formula(*args, **(kwargs or {}), out_val=output) // 2
        return output


class Work(MultiplyAdds):
    """MultiplyAdds, and what else an execution costs: `.launches` operators that compute, `.activation_bytes` they write.

    An operator whose results all lie in memory that it was given (views, in-place work on its input) writes nothing new; views
    are no launches either. A device may need several kernels for one operator, and a compiler fewer: eager torch is counted.
    """

    def __init__(self):
        super().__init__()
        self.launches = self.activation_bytes = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        output = super().__torch_dispatch__(function, types, args, kwargs)
        if function.is_view or function._overloadpacket in FREE:
            return output
        self.launches += 1
        given = {x.untyped_storage()._cdata for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)}
        for result in tree_leaves(output):
            if isinstance(result, Tensor) and result.untyped_storage()._cdata not in given:
                self.activation_bytes += result.numel() * result.element_size()
        return output


@contextmanager
def _one_picture(model: nn.Module, size: tuple[int, int]) -> Iterator[Tensor]:
    """A blank image where the model is, which is in evaluation mode meanwhile, without gradients."""
    modes = {module: module.training for module in model.modules()}
    parameter = next(model.parameters())
    try:
        with torch.no_grad():
            model.eval()
            yield torch.zeros(1, 3, *size, device=parameter.device, dtype=parameter.dtype)
    finally:
        for module, training in modes.items():
            module.training = training


def measure(model: nn.Module, size: tuple[int, int]) -> dict[str, int]:
    """Count one forward pass of one image of `size` (height, width); the model is left as it was.

    It runs once, where the model is; on the meta device nothing is computed and only time is lost.

    Returns {"params", "macs", "peer_macs", "hrnet_macs", "launches", "activation_bytes"}, all plain counts. params: all
    elements of all parameters. macs: multiply-adds of every convolution and matrix product that runs, seen at the dispatcher,
    however the modules are arranged; element-wise work, norms, pooling and resizing are not multiply-adds. Dynamic
    convolutions are counted in the form they are in (`use_static_form`). peer_macs: the torchstat sum that Lite- and
    Dite-HRNet print after dividing by 2**20; hrnet_macs: as `hrnet_count`. launches: operators that compute something, views
    left out. activation_bytes: what they write, the memory traffic of a forward pass and about what training keeps for the
    backward pass; the live peak of inference is lower.
    Raises MdwError for a size the network does not take.
    """
    with Work() as counter:
        peer, hrnet = _call_values(model, size, PEER_RULES, HRNET_RULES)
    return {
        "params": sum(p.numel() for p in model.parameters()),
        "macs": counter.macs,
        "peer_macs": _of_last_calls(peer),
        "hrnet_macs": _of_all_calls(hrnet),
        "launches": counter.launches,
        "activation_bytes": counter.activation_bytes,
    }


def cost_by_part(model: nn.Module, size: tuple[int, int], part: Callable[[str], str]) -> dict[str, dict[str, int]]:
    """Parameters and executed multiply-adds summed by `part(module name)`, for leaf modules; {part: {"params", "macs"}}.

    A leaf is a module with parameters of its own, or a whole dynamic convolution. A part's multiply-adds are those that run
    inside its leaf modules, so their sum can stay below `measure`'s where a module computes with plain functions of its own.
    """
    totals: dict[str, dict[str, int]] = {}
    handles, counted = [], set()
    for name, module in model.named_modules():
        if module in counted:
            continue
        dynamic = isinstance(module, DynamicConv)
        own = sum(p.numel() for p in module.parameters(recurse=dynamic))
        if dynamic:
            counted.update(module.modules())
        if own:
            totals.setdefault(part(name), {"params": 0, "macs": 0})["params"] += own
        if own and name:
            handles += _count_inside(module, totals[part(name)])
    _run_and_remove(model, size, handles)
    return totals


def peer_count(model: nn.Module, size: tuple[int, int]) -> int:
    """The sum of Lite-HRNet's counter (divide by 2**20 for the figure in their tables).

    Per leaf module, with the shapes of its last call: convolution k*k*in/groups*out*H*W, plus out*H*W with a bias (a
    transposed one with the H*W it reads); a norm 2 per element, a ReLU module 1; a global pool C*(H+1)*(W+1); an Upsample
    module H*W; nothing for functions. A dynamic convolution counts as the ordinary one it applies, a linear map as the 1x1
    convolution it is. The last call overwrites the ones before, as in the tool.
    """
    return _of_last_calls(*_call_values(model, size, PEER_RULES))


def hrnet_count(model: nn.Module, size: tuple[int, int]) -> int:
    """The sum of the counter in HRNet's repository (divide by 2**30 for the figures of HRNet and SimpleBaseline).

    Every call of a convolution, transposed convolution or linear map: its weights times the positions it writes. That
    overstates a transposed convolution of stride 2 four times; for a network without one it is the executed multiply-adds.
    """
    return _of_all_calls(*_call_values(model, size, HRNET_RULES))


def _of_last_calls(values: dict[str, list[int]]) -> int:
    return sum(calls[-1] for calls in values.values())


def _of_all_calls(values: dict[str, list[int]]) -> int:
    return sum(map(sum, values.values()))


def _call_values(model: nn.Module, size: tuple[int, int], *tables: tuple) -> list[dict[str, list[int]]]:
    """For each table of rules what its first rule for a module's kind gives for every call of every module."""
    handles: list = []
    found: list[dict[str, list[int]]] = []

    def watch(values: dict[str, list[int]], name: str, rule: Callable) -> Callable:
        def hook(module: nn.Module, inputs: tuple, output: Tensor) -> None:
            values.setdefault(name, []).append(rule(module, inputs[0], output))

        return hook

    for rules in tables:
        found.append({})
        for name, module in model.named_modules():
            rule = next((rule for kinds, rule in rules if isinstance(module, kinds)), None)
            if rule is not None:
                handles.append(module.register_forward_hook(watch(found[-1], name, rule)))
    _run_and_remove(model, size, handles)
    return found


def _run_and_remove(model: nn.Module, size: tuple[int, int], handles: list) -> None:
    try:
        with _one_picture(model, size) as image:
            model(image)
    finally:
        for handle in handles:
            handle.remove()


def _conv(module: _ConvNd, x: Tensor, y: Tensor) -> int:
    swept = x if isinstance(module, nn.ConvTranspose2d) else y
    return module.weight.numel() * swept.numel() // swept.shape[1] + (0 if module.bias is None else y.numel())


def _linear(module: nn.Linear, x: Tensor, y: Tensor) -> int:
    positions = y.numel() // y.shape[-1]
    return positions * (module.weight.numel() + (0 if module.bias is None else y.shape[-1]))


def _global_pool(module: nn.Module, x: Tensor, y: Tensor) -> int:
    return x.shape[1] * (x.shape[2] + 1) * (x.shape[3] + 1) if y.shape[-2:] == (1, 1) else 0


PEER_RULES = (  # kinds of module -> (module, input, output) -> count
    ((DynamicConv,), lambda m, x, y: y.numel() * m.bank[0, 0].numel()),
    ((nn.Conv1d, nn.Conv2d, nn.ConvTranspose2d), _conv),
    ((nn.Linear,), _linear),
    ((nn.BatchNorm2d, nn.LayerNorm, nn.GroupNorm), lambda m, x, y: 2 * x.numel()),
    ((nn.ReLU, nn.ReLU6), lambda m, x, y: x.numel()),
    ((nn.AdaptiveAvgPool2d,), _global_pool),
    ((nn.Upsample,), lambda m, x, y: y.shape[2] * y.shape[3]),
)

HRNET_RULES = (
    ((nn.Conv2d, nn.ConvTranspose2d), lambda m, x, y: m.weight.numel() * y.numel() // y.shape[1]),
    ((nn.Linear,), lambda m, x, y: m.weight.numel() * y.numel() // y.shape[-1]),
)


def _count_inside(module: nn.Module, total: dict[str, int]) -> list:
    """Hooks that add to `total` the multiply-adds executed during each call of `module`."""
    running: list[MultiplyAdds] = []

    def begin(module: nn.Module, inputs: tuple) -> None:
        running.append(MultiplyAdds())
        running[-1].__enter__()

    def end(module: nn.Module, inputs: tuple, output: Tensor) -> None:
        counter = running.pop()
        counter.__exit__(None, None, None)
        total["macs"] += counter.macs

    return [module.register_forward_pre_hook(begin), module.register_forward_hook(end)]
