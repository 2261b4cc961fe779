"""Networks on an NVIDIA GPU: repeated parts are compiled, in bfloat16, and a whole step is recorded as one CUDA graph.

These networks have hundreds of small operators, so in eager torch the GPU waits for the CPU that launches them, and every
operator reads and writes its maps in memory. The compiler fuses the operators of a unit or of a fusion; repeated modules use
the code compiled for the first one, which limits the time of compilation. The recorded graph then needs one launch a step.

The given network is not changed: a second one with the same parameters and buffers is compiled (`twin`).
"""

import copy
import warnings
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from mdw.models.dynamic_conv import sum_of_shifts
from mdw.models.fusion import HighResolutionModule
from mdw.models.loss import heatmap_loss
from mdw.models.skeleton import HighResolutionNet
from mdw.util.errors import MdwError

WARM_UP = 3  # calls before a graph is recorded, for compilation, cuDNN's choices and the first memory allocations


@dataclass(frozen=True)
class Settings:
    """How a network is computed on a GPU. The defaults are expected to be the fastest, but not yet measured.

    precision: of convolutions and matrix products; norms' statistics, softmaxes over positions and the loss stay in float32.
    regions: compile "repeated" parts, the "whole" network, which takes minutes, or "none". graph: record a step and replay it.
    channels_last: memory layout of the input and so of the maps. shifted: in compiled parts compute depthwise convolutions as
    sums of shifted maps instead of by cuDNN. backend: torch.compile's.
    """

    precision: Literal["bfloat16", "float32"] = "bfloat16"
    regions: Literal["repeated", "whole", "none"] = "repeated"
    graph: bool = True
    channels_last: bool = True
    shifted: bool = True
    backend: str = "inductor"

    def __post_init__(self) -> None:
        for name, allowed in (("precision", ("bfloat16", "float32")), ("regions", ("repeated", "whole", "none"))):
            if getattr(self, name) not in allowed:
                raise MdwError(f"{name} is {getattr(self, name)!r}; use one of {', '.join(map(repr, allowed))}")

    def to_dict(self) -> dict:
        return asdict(self)

    def autocast(self, device: torch.device) -> AbstractContextManager:
        """Returns the context for this precision. There is no cache of cast weights, because it would outlive its graph."""
        if self.precision == "float32":
            return nullcontext()
        return torch.autocast(device.type, torch.bfloat16, cache_enabled=False)

    def layout(self, crops: Tensor) -> Tensor:
        return crops.contiguous(memory_format=torch.channels_last) if self.channels_last else crops


class ShiftedConv2d(nn.Conv2d):
    """A depthwise convolution as element-wise code: cuDNN's, above all its gradients, is far slower than memory allows."""

    def forward(self, x: Tensor) -> Tensor:
        y = sum_of_shifts(x, self.weight, self.stride[0], int(self.padding[0]), self.dilation[0])
        return y if self.bias is None else y + self.bias[:, None, None].to(y.dtype)


class ShiftedConv1d(nn.Conv1d):
    """A convolution along a line of channels, (N, 1, C) -> (N, n, C), as element-wise code instead of three launches."""

    def forward(self, x: Tensor) -> Tensor:
        padded, size = nn.functional.pad(x, [int(self.padding[0])] * 2), self.kernel_size[0]
        terms = [padded[..., k : k + padded.shape[-1] - size + 1] * self.weight[:, 0, k, None] for k in range(size)]
        y = sum(terms[1:], terms[0])
        return y.to(x.dtype) if self.bias is None else (y + self.bias[:, None]).to(x.dtype)


UNSHIFTED: dict[type[nn.Module], type[nn.Module]] = {ShiftedConv1d: nn.Conv1d, ShiftedConv2d: nn.Conv2d}


def _shifted(module: nn.Module) -> type[nn.Module] | None:
    """Returns the class that computes `module` by shifts; None where there is none."""
    if (
        not (type(module) is nn.Conv1d or type(module) is nn.Conv2d)
        or module.padding_mode != "zeros"
        or isinstance(module.padding, str)
    ):
        return None
    alike = all(len(set(v)) == 1 for v in (module.kernel_size, module.stride, module.padding, module.dilation))
    if type(module) is nn.Conv1d:
        return ShiftedConv1d if module.in_channels == 1 and module.stride == module.dilation == (1,) else None
    depthwise = 1 < module.groups == module.in_channels == module.out_channels
    return ShiftedConv2d if depthwise and alike and module.kernel_size[0] <= 9 else None


def _repeated(model: nn.Module) -> list[tuple[nn.Module, str]]:
    """Returns (module, method) of all parts to compile separately; together they are the whole network."""
    if not isinstance(model, HighResolutionNet):
        return [(model, "forward")]
    groups = [(model.stem, "forward"), (model.head_layer, "forward"), (model.final_layer, "forward")]
    for s in range(model.num_stages):
        groups += [
            (part, "forward") for part in model.get_submodule(f"transition{s}").children() if not isinstance(part, nn.Identity)
        ]
        for module in model.get_submodule(f"stage{s}").children():
            assert isinstance(module, HighResolutionModule)
            groups += [(unit, "forward") for unit in module.layers] + [(module, "fuse")]
    return groups


def tune(model: nn.Module, settings: Settings) -> nn.Module:
    """Set up `model` to be compiled by `settings` at its first call, in place; returns it. The caller sets layout and precision
    (`Settings.autocast`, `Settings.layout`)."""
    if settings.regions == "none":
        return model
    if settings.shifted:
        for module in model.modules():
            module.__class__ = _shifted(module) or type(module)
    # one code object serves all stages, widths and modes; torch would give up after eight
    torch._dynamo.config.recompile_limit = max(64, torch._dynamo.config.recompile_limit)
    for part, method in _repeated(model) if settings.regions == "repeated" else [(model, "forward")]:
        compiled = torch.compile(getattr(part, method), backend=settings.backend, dynamic=False, fullgraph=True)
        setattr(part, method, compiled)
    return model


def plain(model: nn.Module) -> nn.Module:
    """Undo `tune`, in place; returns `model`."""
    for module in model.modules():
        for method in ("forward", "fuse"):
            module.__dict__.pop(method, None)
        module.__class__ = UNSHIFTED.get(type(module), type(module))
    return model


def twin(model: nn.Module) -> nn.Module:
    """Returns a copy of the module tree with the same parameters and buffers, so that changes of weights affect both."""
    return copy.deepcopy(model, {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())})


class Graph:
    """Records `function()`, which returns a list of tensors, as a CUDA graph at the first `replay`; always the same tensors."""

    def __init__(self, function: Callable[[], list], stream):
        self.function, self.stream = function, stream
        self.graph: torch.cuda.CUDAGraph | None = None
        self.results: list = []

    def replay(self) -> list:
        if self.graph is None:
            graph = torch.cuda.CUDAGraph()
            # CUDA calls of the threads that make batches must not end the recording
            with torch.cuda.graph(graph, stream=self.stream, capture_error_mode="thread_local"):
                self.results = self.function()
            self.graph = graph
        self.graph.replay()
        return self.results


class Repeat:
    """Does what `Graph` does on any device, without its speed: calls the function again and copies the results over the old."""

    def __init__(self, function: Callable[[], list], stream=None):
        self.function = function
        self.results: list[Tensor | None] | None = None

    def replay(self) -> list:
        fresh = self.function()
        if self.results is None:
            self.results = [None if t is None else t.clone() for t in fresh]
        for old, new in zip(self.results, fresh, strict=True):
            if old is not None:
                old.copy_(new)
        return self.results


class Recorded:
    """Calls `function(*tensors)`, which returns a list of tensors or None, as a graph after the warm-up.

    Each shape of the inputs has its own graph. The next replay overwrites the results. Where a graph cannot be recorded, a
    warning gives the reason and the function is called directly.
    """

    def __init__(self, function: Callable[..., list], record: type | None = Graph):
        self.function, self.record = function, record
        self.calls: dict[tuple, int] = {}
        self.graphs: dict[tuple, tuple[list[Tensor], Graph]] = {}
        self.stream = torch.cuda.Stream() if record is Graph else None

    def __call__(self, *tensors: Tensor) -> list:
        key = tuple((tuple(t.shape), t.dtype) for t in tensors)
        self.calls[key] = self.calls.get(key, 0) + 1
        if self.calls[key] <= WARM_UP or self.record is None:
            return self._beside(tensors)
        if key not in self.graphs:
            inputs = [torch.empty_like(t) for t in tensors]
            self.graphs[key] = inputs, self.record(lambda: self.function(*inputs), self.stream)
        inputs, graph = self.graphs[key]
        for target, tensor in zip(inputs, tensors, strict=True):
            target.copy_(tensor, non_blocking=True)
        try:
            return graph.replay()
        except RuntimeError as error:
            if isinstance(error, torch.OutOfMemoryError) or self.calls[key] > WARM_UP + 1:
                raise
            warnings.warn(f"the step could not be recorded and runs without a CUDA graph: {error}", stacklevel=2)
            self.graphs, self.record = {}, None
            return self._beside(tensors)

    def _beside(self, tensors: Iterable[Tensor]) -> list:
        """Calls the function on the stream of the recording, because libraries set up their state per stream."""
        if self.stream is None:
            return self.function(*tensors)
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):
            results = self.function(*tensors)
        torch.cuda.current_stream().wait_stream(self.stream)
        return results


class Backward:
    """A faster `mdw.training.step.backward` for one network: adds `portion` of a batch's loss to its gradients, returns it.

    The network itself is not changed and can be validated and saved. `record` is `Repeat` in tests.
    """

    def __init__(self, model: nn.Module, settings: Settings, record: type = Graph):
        self.model, self.settings = model, settings
        self.fast = tune(twin(model), settings).train()
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.steps: dict[float, Recorded] = {}
        self.record = record if settings.graph else None

    def __call__(self, model: nn.Module, batch: tuple[Tensor, Tensor, Tensor], factor: float, portion: float) -> Tensor:
        assert model is self.model
        earlier = [None if p.grad is None else p.grad.clone() for p in self.parameters]  # before a replay overwrites them
        if factor not in self.steps:
            self.steps[factor] = Recorded(lambda *tensors: self._step(factor, *tensors), self.record)
        crops, targets, weights = batch
        portion_tensor = torch.full((), portion, device=crops.device)
        loss, *gradients = self.steps[factor](self.settings.layout(crops), targets, weights, portion_tensor)
        for parameter, old_gradient, gradient in zip(self.parameters, earlier, gradients, strict=True):
            if gradient is not None:
                parameter.grad = gradient if old_gradient is None else old_gradient.add_(gradient)
        return loss.clone()  # the caller keeps it over several steps

    def _step(self, factor: float, crops: Tensor, targets: Tensor, weights: Tensor, portion: Tensor) -> list:
        with self.settings.autocast(crops.device):
            output = self.fast(crops)
        loss = heatmap_loss(output, targets, weights, factor) * portion
        return [loss.detach(), *torch.autograd.grad(loss, self.parameters, allow_unused=True)]


class Inference:
    """crops (N, 3, H, W) -> heatmaps (N, J, H/4, W/4) float32 of `model` in evaluation mode; the next call overwrites them."""

    def __init__(self, model: nn.Module, settings: Settings, record: type = Graph):
        self.settings = settings
        self.fast = tune(twin(model), settings).eval()
        self.maps = Recorded(self._maps, record if settings.graph else None)

    def __call__(self, crops: Tensor) -> Tensor:
        with torch.no_grad():
            return self.maps(self.settings.layout(crops))[0]

    def _maps(self, crops: Tensor) -> list[Tensor]:
        with torch.no_grad(), self.settings.autocast(crops.device):
            return [self.fast(crops).float()]


def prepare(model: nn.Module, mode: str, device: str, settings: Settings = Settings()) -> tuple[Callable, Callable]:
    """Returns train_step(crops, targets, weights) -> loss and infer(crops) -> heatmaps of `model` on `device`, to measure them.

    mode "reference": eager float32, NCHW, torch's default Adam. mode "tuned": by `settings`. Both update the same parameters.
    The first WARM_UP + 1 calls of each shape compile and record.
    """
    if mode not in ("reference", "tuned"):
        raise MdwError(f"mode is {mode!r}; use 'reference' or 'tuned'")
    if mode == "reference":
        settings = Settings("float32", regions="none", graph=False, channels_last=False, shifted=False)
    model = model.to(device)
    record = Graph if torch.device(device).type == "cuda" else Repeat
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=mode == "tuned" or None)
    backward = Backward(model, settings, record)

    def train_step(crops: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        loss = backward(model, (crops, targets, weights), 0.5, 1.0)
        optimizer.step()
        return loss

    return train_step, Inference(model, settings, record)
