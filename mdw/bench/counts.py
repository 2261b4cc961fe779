"""What `mdw bench` says besides times: launches, memory, operators by time, and what the memory's speed would allow."""

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
    """Work without bare allocations, and `.convolution_bytes`: the results of convolutions and matrix products."""

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
    """What tensors take in memory; an expanded one no more than it has."""
    return sum(min(x.nbytes, x.untyped_storage().nbytes()) for x in tree_leaves(values) if isinstance(x, Tensor))


class _Counted:
    """A library whose calls are counted."""

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
    """Operators that compute something in one training step: torch's at its dispatcher, and calls of our own kernels."""
    with way.active(), Traffic() as work, _own_kernels() as own:
        way.gradient(batch)
        way.update()
    return work.launches + own.calls


def bytes_and_work(name: str, options: dict, joints: int, size: tuple[int, int], images: int = 2) -> dict[str, float]:
    """Per image, counted on the network as it is written, float32:

    least_train_bytes, least_infer_bytes: what a machine has to move that computes everything but convolutions and matrix
    products in passing. Their results are written and read once; in training they are read again for the backward pass, and
    their gradients written and read. operator_bytes: what the operators of an eager forward pass read and write.
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
    """copy_gb_per_s: bytes read and written by copying 128 MiB, 10^9 a second. product_gflops: of a matrix product of 2,048."""
    a = torch.ones(2**25, device=device)
    b, square = torch.empty_like(a), torch.ones(2048, 2048, device=device)
    return {
        "copy_gb_per_s": 2 * a.nbytes / _seconds(lambda: b.copy_(a), device) / 1e9,
        "product_gflops": 2 * 2048**3 / _seconds(lambda: square @ square, device) / 1e9,
    }


def _seconds(act, device: str, times: int = 7) -> float:
    taken = []
    for _ in range(times + 1):
        begun = time.perf_counter()
        act()
        wait(device)
        taken.append(time.perf_counter() - begun)
    return statistics.median(taken[1:])


def wait(device: str) -> None:
    """Until the device has done what it was given."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def profiled(way: Way, batch: Batch, device: str, top: int = 15) -> dict:
    """One training step watched: peak_memory_mib of tensors (weights, optimizer and batch with it) and `operators`, the
    `top` by time of their own, [{"name", "calls", "ms", "share"}]."""
    on_gpu = torch.device(device).type == "cuda"
    held = sum(t.nbytes for t in {t.data_ptr(): t for t in [*way.held(), *batch]}.values())
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with way.active(), profile(activities=activities, profile_memory=not on_gpu) as watched:
        way.gradient(batch)
        way.update()
        wait(device)
    rise = torch.cuda.max_memory_allocated(device) - before if on_gpu else _peak(watched.profiler.kineto_results.events())
    own = "self_device_time_total" if on_gpu else "self_cpu_time_total"
    found = sorted(watched.key_averages(), key=lambda event: -getattr(event, own))
    total = sum(getattr(event, own) for event in found)
    operators = [
        {"name": e.key, "calls": e.count, "ms": getattr(e, own) / 1e3, "share": getattr(e, own) / total} for e in found[:top]
    ]
    return {"peak_memory_mib": (held + rise) / 2**20, "operators": operators}


def _peak(events) -> int:
    """How far the sum of allocations rose, from the profiler's events of a CPU."""
    level = highest = 0
    for event in sorted((e for e in events if e.name() == "[memory]"), key=lambda e: e.start_ns()):
        level += event.nbytes()
        highest = max(highest, level)
    return highest
