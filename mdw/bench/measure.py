"""Measures how fast networks train and predict, in the official way, in ours and by ONNX Runtime.

All modes are measured in one process, in turns, so that other work on the machine affects all of them. On a CPU so are all
networks: the speed of a shared machine can change by a third within minutes. The C library keeps freed memory in pieces that
the next network's tensors do not fit into: six networks at 256x192 and batch 32 took 17 GB. Each turn therefore ends by giving
memory back to the system, and begins with untimed calls. On a GPU each network has the memory alone.
"""

import ctypes
import gc
import os
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from mdw.backends.choose import choose, pick_device, works
from mdw.bench.counts import bytes_and_work, launches, machine, profiled, wait
from mdw.bench.modes import MODES, Way, batches, drawn, prepare
from mdw.bench.processes import compare
from mdw.data.augment import MDW_COCO, Augmentation
from mdw.data.packed import Packed
from mdw.data.sample import Dataset
from mdw.training import runs
from mdw.training.recipes import Recipe
from mdw.util.extras import remedy

VISITS = ("train", "step", "infer", "latency")


def bench(
    networks: Sequence[tuple[str, dict]],
    sizes: Sequence[tuple[int, int]] = ((256, 192),),
    batch_sizes: Sequence[int] = (32,),
    device: str = "cpu",
    seconds: float = 60,
    rounds: int = 3,
    modes: Sequence[str] | None = None,
    dataset: Dataset | None = None,
    packed: Packed | None = None,
    say=lambda line: None,
    processes: bool = False,
) -> list[dict]:
    """Returns a dict of JSON values for every network (name and options), size (height, width), batch and mode.

    train_images_per_s: complete training steps, with the mode's own loading of batches; step_images_per_s: without loading;
    loader_share: the fraction of time lost by loading, 0..1 (noise can make it negative). infer_images_per_s: forward passes in
    evaluation mode without gradients; latency_ms: a forward pass of one image. Each is the median over `*_calls` calls, with
    its quartiles in `*_spread`; `*_cpu_s`: the median CPU seconds a call of all threads of this process. peak_memory_mib:
    tensors alive in a training step. launches: computing operators in it. operators: those of a training step by time.
    first_calls_s: the very first call of each kind, including compilation for this network; kernels_ready_s: the time until our
    CPU kernels were compiled or loaded, if they are used. bounds: the speeds that this machine's memory and arithmetic allow.
    process_peak_mib: the peak memory of this process until the end of the row. A row of "onnx" has only the figures of
    inference. With `processes` a row of "tuned" on a CPU also has processes, the result of `mdw.bench.processes.compare`.

    A network takes `seconds` for each size and batch, more where `rounds` take longer. `dataset`: images to train on (synthetic
    people if None); `packed`: the same from a pack, for the tuned mode only; both modes then use its augmentation.
    `modes`: all that work here if None. Raises MdwError for unknown models and modes, and for a mode that does not work here.
    """
    start, device = time.perf_counter(), pick_device(device)
    modes = _modes(modes, device, say)
    ready = None
    if choose("auto", device) == "tuned":
        ready = time.perf_counter() - start
        say(f"our kernels were ready after {ready:.1f} s; they are compiled once and kept")
    load = _load()
    if load is not None and load > 0.3 * (os.cpu_count() or 1):
        say(f"others use this machine, too (load {load:.1f} on {os.cpu_count()} cores); alone it is faster")
    measured, environment = machine(device), runs.environment(device) | {"torch_threads": torch.get_num_threads(), "load": load}
    rows = []
    for height, width in sizes:
        images = dataset or drawn(width / height)
        for batch in batch_sizes:
            sets = {mode: _endless(packed if packed and mode == "tuned" else images, batch) for mode in modes}
            augmentation = Augmentation(**packed.settings["augmentation"]) if packed else MDW_COCO
            # any data set would do: the recipe only says how batches are made
            recipe = Recipe("bench", "people", input_size=(width, height), batch_size=batch, augmentation=augmentation)
            about = {"size": f"{height}x{width}", "batch": batch, "device": device, "environment": environment}
            # one loader per mode for all networks; its processes start while this one is small, because they inherit its memory
            loaders = {mode: batches(mode, recipe, sets[mode], device) for mode in modes}
            fixed = {mode: tuple(t.to(device) for t in next(loaders[mode])) for mode in modes}
            together = torch.device(device).type == "cpu"
            for group in [networks] if together else [[network] for network in networks]:
                say(f"{', '.join(runs.network_name(*network) for network in group)}, {height}x{width}, batch {batch}")
                ways = {
                    (index, mode): prepare(
                        mode, name, options, images.joints.num_joints, loaders[mode], device, (height, width)
                    )
                    for index, (name, options) in enumerate(group)
                    for mode in modes
                }
                counted = [bytes_and_work(*network, images.joints.num_joints, (height, width)) for network in group]
                for (index, mode), figures in _measure(ways, fixed, device, batch, seconds * len(group), rounds).items():
                    name, options = group[index]
                    bounds = _bounds(counted[index] | measured, figures)
                    identity = {"model": name, "options": options, "mode": mode, "bounds": bounds, "kernels_ready_s": ready}
                    rows.append(identity | about | figures | {"process_peak_mib": _peak_of_process()})
                ways.clear()
                for row in rows[-len(group) * len(modes) :] if processes and together else ():
                    if row["mode"] == "tuned":
                        say(f"{row['model']}: training in one process with all threads and in one for each thread")
                        row["processes"] = compare(row["model"], row["options"], (height, width), batch, seconds / 4, rounds)
    return rows


def _modes(modes: Sequence[str] | None, device: str, say) -> Sequence[str]:
    """Returns `modes`, or all that work here."""
    if modes is not None:
        for mode in modes:
            if mode == "onnx":
                choose("onnx", device, training=False)
        return modes
    if torch.device(device).type != "cpu":
        return MODES[:2]
    if works("onnx"):
        return MODES
    say(f"ONNX Runtime is left out, because it is not installed; {remedy('export')}")
    return MODES[:2]


def _peak_of_process() -> float | None:
    """Returns this process's peak memory in MiB; None where the system does not tell."""
    try:
        import resource
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


@contextmanager
def _turn(way: Way) -> Iterator[None]:
    """A way's turn, after which all unused memory is given back."""
    with way.active():
        yield
    if way.optimizer is not None:
        way.optimizer.zero_grad(set_to_none=True)
    gc.collect()
    if hasattr(ctypes.CDLL(None), "malloc_trim"):  # of glibc; other libraries give memory back by themselves
        ctypes.CDLL(None).malloc_trim(0)


def _load() -> float | None:
    """Returns the mean number of processes that computed or waited in the last minute; None where the system does not tell."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def _endless(dataset: Dataset, batch: int) -> Dataset:
    """Returns the samples repeated so that an epoch has at least 16 batches."""
    return dataset.select(np.arange(max(len(dataset), 16 * batch)) % len(dataset))


def _measure(
    ways: dict[tuple, Way], fixed: dict[str, tuple], device: str, batch: int, seconds: float, rounds: int
) -> dict[tuple, dict]:
    first_results, visits = {}, {key: VISITS if way.optimizer else VISITS[2:] for key, way in ways.items()}
    for key, way in ways.items():
        batch_of_mode = fixed[key[1]]
        with _turn(way):
            start = time.perf_counter()
            for visit in visits[key]:
                _call(visit, way, batch_of_mode, device)
            first_results[key] = {"first_calls_s": time.perf_counter() - start}
            if way.optimizer:
                first_results[key] |= {"launches": launches(way, tuple(t[:2] for t in batch_of_mode))} | profiled(
                    way, batch_of_mode, device
                )
    times: defaultdict[tuple, list[tuple[float, float]]] = defaultdict(list)
    start, turn = time.perf_counter(), 0
    visit_seconds = seconds / (8 * len(VISITS) * len(ways))
    while turn < rounds or time.perf_counter() - start < seconds:
        for key in list(ways)[:: 1 if turn % 2 == 0 else -1]:
            with _turn(ways[key]):
                for visit in visits[key]:
                    if visit != "train":  # it differs from "step" only by loading
                        _call(visit, ways[key], fixed[key[1]], device)
                for visit in visits[key]:
                    times[key, visit] += _visit(visit, ways[key], fixed[key[1]], device, visit_seconds)
        turn += 1
    return {key: _figures({visit: times[key, visit] for visit in visits[key]}, batch) | first_results[key] for key in ways}


def _visit(visit: str, way: Way, fixed: tuple, device: str, seconds: float) -> list[tuple[float, float]]:
    """Returns the seconds of every call, wall time and CPU time of this process; at least one call."""
    if visit == "train" and torch.device(device).type != "cpu":
        for _ in range(8):  # batches loaded during other measurements would hide the time of loading
            next(way.batches)
    durations: list[tuple[float, float]] = []
    visit_start = time.perf_counter()
    while not durations or time.perf_counter() - visit_start < seconds:
        start, cpu_start = time.perf_counter(), time.process_time()
        _call(visit, way, fixed, device)
        durations.append((time.perf_counter() - start, time.process_time() - cpu_start))
    return durations


def _call(visit: str, way: Way, fixed: tuple, device: str) -> None:
    if visit in ("train", "step"):
        crops, targets, weights = (t.to(device, non_blocking=True) for t in next(way.batches)) if visit == "train" else fixed
        way.gradient((crops, targets, weights))
        way.update()
    else:
        way.infer(fixed[0][:1] if visit == "latency" else fixed[0])
    wait(device)


def _figures(times: dict[str, list[tuple[float, float]]], batch: int) -> dict:
    """Returns medians and quartiles of images a second, or milliseconds, and medians of CPU seconds."""
    figures: dict[str, Any] = {}
    for visit, durations in times.items():
        name = "latency_ms" if visit == "latency" else f"{visit}_images_per_s"
        values = [1e3 * t for t, _ in durations] if visit == "latency" else [batch / t for t, _ in durations]
        figures[name] = statistics.median(values)
        figures[f"{name}_spread"] = [float(q) for q in np.quantile(values, (0.25, 0.75))]
        figures[f"{name}_calls"] = len(values)
        figures[f"{visit}_cpu_s"] = statistics.median(cpu_seconds for _, cpu_seconds in durations)
    if "train" in times:
        figures["loader_share"] = 1 - figures["train_images_per_s"] / figures["step_images_per_s"]
    return figures


def _bounds(counted: dict[str, float], figures: dict) -> dict[str, float]:
    """Returns the images a second that memory and arithmetic allow, and the reached fractions of the former."""
    speed, flops = 1e9 * counted["copy_gb_per_s"], 1e9 * counted["product_gflops"]
    bounds = dict(counted)
    for kind, figure, passes in (("train", "step_images_per_s", 3), ("infer", "infer_images_per_s", 1)):
        if figure in figures:
            by_memory = speed / counted[f"least_{kind}_bytes"]
            bounds[f"memory_{kind}_images_per_s"] = by_memory
            bounds[f"memory_share_{kind}"] = figures[figure] / by_memory
            bounds[f"arithmetic_{kind}_images_per_s"] = flops / (2 * passes * counted["macs"])
    return bounds
