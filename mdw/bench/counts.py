"""The figures of `mdw bench` besides times: launches, memory, operators by time, and bounds by the memory's speed."""

import statistics
import time
from contextlib import contextmanager
from unittest.mock import patch

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from mdw.backends.cpu import ops
from mdw.bench.modes import Batch, Way
from mdw.models import create_model
from mdw.models.complexity import FREE, Work

aten = torch.ops.aten
ALLOCATIONS = {aten.empty, aten.new_empty, aten.empty_like, aten.empty_strided, aten.new_empty_strided}
CONVOLUTIONS = {packet for packet in flop_registry if "backward" not in str(packet)}


class Traffic(Work):
    """Counts work without bare allocations; `.convolution_bytes`: the size of results of convolutions and matrix products."""

    def __init__(self):
        super().__init__()
        self.convolution_bytes = self.moved_bytes = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        packet = function._overloadpacket
        if packet in ALLOCATIONS:
            return function(*args, **(kwargs or {}))
        output = super().__torch_dispatch__(function, types, args, kwargs)
        if not function.is_view and packet not in FREE:
            self.moved_bytes += _bytes((args, kwargs)) + _bytes(output)
        if packet in CONVOLUTIONS:
            self.convolution_bytes += _bytes(output)
        return output


def _bytes(values) -> int:
    """Returns the size of tensors in memory; an expanded one counts only its storage."""
    return sum(min(x.nbytes, x.untyped_storage().nbytes()) for x in tree_leaves(values) if isinstance(x, Tensor))


class _Counted:
    """Counts the calls of a library."""

    def __init__(self, find):
        self.find, self.calls = find, 0

    def __getattr__(self, name):
        self.calls += 1
        return getattr(self.find(), name)


@contextmanager
def _own_kernels():
    counted = _Counted(ops.kernels)
    with patch.object(ops, "kernels", lambda *real: counted):
        yield counted


def launches(way: Way, batch: Batch) -> int:
    """Returns the number of computing operators in a training step: torch's at its dispatcher, and calls of our kernels."""
    with way.active(), Traffic() as work, _own_kernels() as kernels:
        way.gradient(batch)
        way.update()
    return work.launches + kernels.calls


def bytes_and_work(name: str, options: dict, joints: int, size: tuple[int, int], images: int = 2) -> dict[str, float]:
    """Returns bytes and multiply-adds per image, counted on the unchanged network in float32:

    least_train_bytes, least_infer_bytes: the least memory traffic, if everything except convolutions and matrix products is
    fused. Their results are written and read once; in training they are read again for the backward pass, and their gradients
    written and read. operator_bytes: what the operators of an eager forward pass read and write.
    macs: multiply-adds of the forward pass; a training step has three times as many.
    """
    with torch.device("meta"):
        model, crops = create_model(name, joints, **options).train(), torch.zeros(images, 3, *size)
        with torch.no_grad(), Traffic() as work:
            model(crops)
    least = work.convolution_bytes / images
    return {
        "least_train_bytes": 5 * least,
        "least_infer_bytes": 2 * least,
        "operator_bytes": work.moved_bytes / images,
        "macs": work.macs / images,
    }


def machine(device: str) -> dict[str, float]:
    """Measures copy_gb_per_s, 10^9 bytes a second read and written by copying 128 MiB; product_gflops of a 2,048 product."""
    a = torch.ones(2**25, device=device)
    b, square = torch.empty_like(a), torch.ones(2048, 2048, device=device)
    return {
        "copy_gb_per_s": 2 * a.nbytes / _seconds(lambda: b.copy_(a), device) / 1e9,
        "product_gflops": 2 * 2048**3 / _seconds(lambda: square @ square, device) / 1e9,
    }


def _seconds(act, device: str, times: int = 7) -> float:
    durations = []
    for _ in range(times + 1):
        start = time.perf_counter()
        act()
        wait(device)
        durations.append(time.perf_counter() - start)
    return statistics.median(durations[1:])


def wait(device: str) -> None:
    """Wait until the device has finished its work."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def profiled(way: Way, batch: Batch, device: str, top: int = 15) -> dict:
    """Profiles one training step: peak_memory_mib of tensors (with weights, optimizer and batch) and `operators`, the `top` by
    their own time, [{"name", "calls", "ms", "share"}]."""
    on_gpu = torch.device(device).type == "cuda"
    live_bytes = sum(t.nbytes for t in {t.data_ptr(): t for t in [*way.held(), *batch]}.values())
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(device)
        allocated = torch.cuda.memory_allocated(device)
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with way.active(), profile(activities=activities, profile_memory=not on_gpu) as profiler:
        way.gradient(batch)
        way.update()
        wait(device)
    rise = torch.cuda.max_memory_allocated(device) - allocated if on_gpu else _peak(profiler.profiler.kineto_results.events())
    self_time = "self_device_time_total" if on_gpu else "self_cpu_time_total"
    events = sorted(profiler.key_averages(), key=lambda event: -getattr(event, self_time))
    total = sum(getattr(event, self_time) for event in events)
    operators = [
        {"name": e.key, "calls": e.count, "ms": getattr(e, self_time) / 1e3, "share": getattr(e, self_time) / total}
        for e in events[:top]
    ]
    return {"peak_memory_mib": (live_bytes + rise) / 2**20, "operators": operators}


def _peak(events) -> int:
    """Returns the peak of the sum of allocations, from the profiler's events of a CPU."""
    level = highest = 0
    for event in sorted((e for e in events if e.name() == "[memory]"), key=lambda e: e.start_ns()):
        level += event.nbytes()
        highest = max(highest, level)
    return highest
