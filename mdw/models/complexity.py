"""Counts a network's parameters, executed multiply-adds (MACs), and the figure of Lite-HRNet's counter.

Published tables mix two conventions in one column. Ours counts what the dispatcher executes. Lite-HRNet's counter keeps the
value of each module's last call only and includes operations that are not multiply-adds; it is printed in units of 2**20.
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

# Views that are not marked as views; and `zeros`, which makes the blank input image.
FREE = {torch.ops.aten.detach, torch.ops.aten._unsafe_view, torch.ops.aten.lift_fresh, torch.ops.aten.zeros}


class MultiplyAdds(TorchDispatchMode):
    """Sums in `.macs` the multiply-adds of every convolution and matrix product while it is active.

    It uses torch's formulas, but not `FlopCounterMode`, which also decomposes every other operator and takes seconds.
    """

    def __init__(self):
        super().__init__()
        self.macs = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Returns False, so that torch does not import its compiler (2 seconds) only to skip this mode."""
        return False

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        output = function(*args, **(kwargs or {}))
        formula = flop_registry.get(function._overloadpacket)
        if formula is not None:
            self.macs += formula(*args, **(kwargs or {}), out_val=output) // 2
        return output


class Work(MultiplyAdds):
    """MultiplyAdds that also counts `.launches`, the computing operators, and `.activation_bytes`, the bytes they write.

    An operator whose results lie in its inputs' memory (views, in-place operators) writes no new bytes; views are not launches
    either. Eager torch's operators are counted; a device may use several kernels for one, and a compiler may fuse them.
    """

    def __init__(self):
        super().__init__()
        self.launches = self.activation_bytes = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        output = super().__torch_dispatch__(function, types, args, kwargs)
        if function.is_view or function._overloadpacket in FREE:
            return output
        self.launches += 1
        input_storages = {x.untyped_storage()._cdata for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)}
        for result in tree_leaves(output):
            if isinstance(result, Tensor) and result.untyped_storage()._cdata not in input_storages:
                self.activation_bytes += result.numel() * result.element_size()
        return output


@contextmanager
def _blank_image(model: nn.Module, size: tuple[int, int]) -> Iterator[Tensor]:
    """Yields a blank image on the model's device, with the model in evaluation mode and without gradients."""
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
    """Counts one forward pass of one image of `size` (height, width); the model is not changed.

    The model runs once on its own device, which may be the meta device.

    Returns {"params", "macs", "peer_macs", "hrnet_macs", "launches", "activation_bytes"}, all plain counts. params: elements
    of all parameters. macs: multiply-adds of every executed convolution and matrix product, counted at the dispatcher and so
    independent of modules; element-wise operators, norms, pooling and resizing have none. Dynamic convolutions are counted in
    their present form (`use_static_form`). peer_macs: the torchstat sum that Lite- and Dite-HRNet print divided by 2**20;
    hrnet_macs: as `hrnet_count`. launches: computing operators, without views. activation_bytes: the bytes they write, which is
    the write traffic of a forward pass and about the memory that training needs for the backward pass; the peak of inference is
    lower.
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
    """Returns {part: {"params", "macs"}}: parameters and executed multiply-adds of leaf modules, summed by `part(name)`.

    A leaf is a module with its own parameters, or a whole dynamic convolution. Only multiply-adds inside leaf modules are
    counted, so the sum over all parts can be below `measure`'s where a module computes with plain functions.
    """
    totals: dict[str, dict[str, int]] = {}
    handles, counted = [], set()
    for name, module in model.named_modules():
        if module in counted:
            continue
        dynamic = isinstance(module, DynamicConv)
        params = sum(p.numel() for p in module.parameters(recurse=dynamic))
        if dynamic:
            counted.update(module.modules())
        if params:
            totals.setdefault(part(name), {"params": 0, "macs": 0})["params"] += params
        if params and name:
            handles += _count_inside(module, totals[part(name)])
    _run_and_remove(model, size, handles)
    return totals


def peer_count(model: nn.Module, size: tuple[int, int]) -> int:
    """Returns the sum of Lite-HRNet's counter (divide by 2**20 for the figure in its tables).

    Per leaf module, with the shapes of its last call: convolution k*k*in/groups*out*H*W, plus out*H*W with a bias (for a
    transposed one H*W of its input); a norm 2 per element, a ReLU module 1; a global pool C*(H+1)*(W+1); an Upsample module
    H*W; nothing for functions. A dynamic convolution counts as a static one, a linear map as a 1x1 convolution. As in the
    original tool, only a module's last call counts.
    """
    return _of_last_calls(*_call_values(model, size, PEER_RULES))


def hrnet_count(model: nn.Module, size: tuple[int, int]) -> int:
    """Returns the sum of the counter in HRNet's repository (divide by 2**30 for the figures of HRNet and SimpleBaseline).

    Every call of a convolution, transposed convolution or linear map counts its weights times its output positions. For a
    transposed convolution of stride 2 that is four times too much; without one it equals the executed multiply-adds.
    """
    return _of_all_calls(*_call_values(model, size, HRNET_RULES))


def _of_last_calls(values: dict[str, list[int]]) -> int:
    return sum(calls[-1] for calls in values.values())


def _of_all_calls(values: dict[str, list[int]]) -> int:
    return sum(map(sum, values.values()))


def _call_values(model: nn.Module, size: tuple[int, int], *tables: tuple) -> list[dict[str, list[int]]]:
    """Returns, for each table of rules, the values of all calls of each module by the first rule for its class."""
    handles: list = []
    values_by_table: list[dict[str, list[int]]] = []

    def watch(values: dict[str, list[int]], name: str, rule: Callable) -> Callable:
        def hook(module: nn.Module, inputs: tuple, output: Tensor) -> None:
            values.setdefault(name, []).append(rule(module, inputs[0], output))

        return hook

    for rules in tables:
        values_by_table.append({})
        for name, module in model.named_modules():
            rule = next((rule for kinds, rule in rules if isinstance(module, kinds)), None)
            if rule is not None:
                handles.append(module.register_forward_hook(watch(values_by_table[-1], name, rule)))
    _run_and_remove(model, size, handles)
    return values_by_table


def _run_and_remove(model: nn.Module, size: tuple[int, int], handles: list) -> None:
    try:
        with _blank_image(model, size) as image:
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
    """Registers hooks that add the multiply-adds executed during each call of `module` to `total`; returns their handles."""
    running: list[MultiplyAdds] = []

    def begin(module: nn.Module, inputs: tuple) -> None:
        running.append(MultiplyAdds())
        running[-1].__enter__()

    def end(module: nn.Module, inputs: tuple, output: Tensor) -> None:
        counter = running.pop()
        counter.__exit__(None, None, None)
        total["macs"] += counter.macs

    return [module.register_forward_pre_hook(begin), module.register_forward_hook(end)]
