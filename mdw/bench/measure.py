"""How fast networks train and answer, in the official way, in ours and by ONNX Runtime, side by side.

All modes are measured in one process, in turns, so that whatever else the machine does hits all. On a CPU so are all
networks: on a shared machine its speed can change by a third within minutes. The C library keeps what a turn has freed, in
pieces that the next network's tensors do not fit into: six networks at 256x192 and batch 32 so came to 17 GB. Each turn
therefore ends by giving memory back, and begins with calls that are not timed. On a GPU each network has the memory alone.
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
    """One dict for every network, a model's name and its options, size (height, width), batch and mode; plain JSON values.

    train_images_per_s: whole training steps, batches made as the mode makes them; step_images_per_s: the same without making
    batches; loader_share: what the first lose to the second, 0..1 (noise can make it negative). infer_images_per_s: forward
    passes in evaluation mode without gradients; latency_ms: those of one image. Each is the median over `*_calls` calls,
    with its quartiles in `*_spread`; `*_cpu_s` is the median of this process's CPU seconds a call, of all its threads.
    peak_memory_mib: tensors alive in a training step. launches: operators that compute in it. operators: those of a training
    step by time. first_calls_s: one call of each kind before anything was warm, with what is compiled for a network then;
    kernels_ready_s: until our CPU kernels were compiled or found compiled, if they are used. bounds: what the memory and the
    arithmetic of this machine would allow. process_peak_mib: the most memory that this process has had until the row was done.
    A row of "onnx" has what concerns use alone. With `processes` a row of "tuned" on a CPU also has processes: what
    `mdw.bench.processes.compare` says of training in one process with all threads and in one process for each thread.

    A network takes `seconds` for each size and batch, more where `rounds` take longer. `dataset`: images to train on (synthetic
    people if None); `packed`: the same from a pack, for the tuned mode alone, whose augmentation both modes then have.
    `modes`: all that work here if None. Raises MdwError for unknown models and modes, and for a mode that does not work here.
    """
    begun, device = time.perf_counter(), pick_device(device)
    modes = _modes(modes, device, say)
    ready = None
    if choose("auto", device) == "tuned":
        ready = time.perf_counter() - begun
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
            # whatever the images are: only how batches are made counts
            recipe = Recipe("bench", "people", input_size=(width, height), batch_size=batch, augmentation=augmentation)
            about = {"size": f"{height}x{width}", "batch": batch, "device": device, "environment": environment}
            # one loader a mode for all networks, its processes begun before there is anything large for them to hold on to
            made = {mode: batches(mode, recipe, sets[mode], device) for mode in modes}
            fixed = {mode: tuple(t.to(device) for t in next(made[mode])) for mode in modes}
            together = torch.device(device).type == "cpu"
            for group in [networks] if together else [[network] for network in networks]:
                say(f"{', '.join(runs.network_name(*network) for network in group)}, {height}x{width}, batch {batch}")
                ways = {
                    (place, mode): prepare(mode, name, options, images.joints.num_joints, made[mode], device, (height, width))
                    for place, (name, options) in enumerate(group)
                    for mode in modes
                }
                counted = [bytes_and_work(*network, images.joints.num_joints, (height, width)) for network in group]
                for (place, mode), found in _measure(ways, fixed, device, batch, seconds * len(group), rounds).items():
                    name, options = group[place]
                    bounds = _bounds(counted[place] | measured, found)
                    told = {"model": name, "options": options, "mode": mode, "bounds": bounds, "kernels_ready_s": ready}
                    rows.append(told | about | found | {"process_peak_mib": _peak_of_process()})
                ways.clear()
                for row in rows[-len(group) * len(modes) :] if processes and together else ():
                    if row["mode"] == "tuned":
                        say(f"{row['model']}: training in one process with all threads and in one for each thread")
                        row["processes"] = compare(row["model"], row["options"], (height, width), batch, seconds / 4, rounds)
    return rows


def _modes(modes: Sequence[str] | None, device: str, say) -> Sequence[str]:
    """What is asked for, or all that work here."""
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
    """MiB; None where the system does not say."""
    try:
        import resource
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


@contextmanager
def _turn(way: Way) -> Iterator[None]:
    """A way's turn, after which the process has no more memory than what lives on."""
    with way.active():
        yield
    if way.optimizer is not None:
        way.optimizer.zero_grad(set_to_none=True)
    gc.collect()
    if hasattr(ctypes.CDLL(None), "malloc_trim"):  # glibc's; others give back by themselves
        ctypes.CDLL(None).malloc_trim(0)


def _load() -> float | None:
    """Processes that computed or waited for a core in the last minute, on average; None where the system does not say."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def _endless(dataset: Dataset, batch: int) -> Dataset:
    """The samples again and again, so that epochs are no shorter than 16 batches."""
    return dataset.select(np.arange(max(len(dataset), 16 * batch)) % len(dataset))


def _measure(
    ways: dict[tuple, Way], fixed: dict[str, tuple], device: str, batch: int, seconds: float, rounds: int
) -> dict[tuple, dict]:
    told, visits = {}, {key: VISITS if way.optimizer else VISITS[2:] for key, way in ways.items()}
    for key, way in ways.items():
        one = fixed[key[1]]
        with _turn(way):
            begun = time.perf_counter()
            for visit in visits[key]:
                _call(visit, way, one, device)
            told[key] = {"first_calls_s": time.perf_counter() - begun}
            if way.optimizer:
                told[key] |= {"launches": launches(way, tuple(t[:2] for t in one))} | profiled(way, one, device)
    times: defaultdict[tuple, list[tuple[float, float]]] = defaultdict(list)
    begun, turn = time.perf_counter(), 0
    each = seconds / (8 * len(VISITS) * len(ways))
    while turn < rounds or time.perf_counter() - begun < seconds:
        for key in list(ways)[:: 1 if turn % 2 == 0 else -1]:
            with _turn(ways[key]):
                for visit in visits[key]:
                    if visit != "train":  # it differs from a step in its batch alone
                        _call(visit, ways[key], fixed[key[1]], device)
                for visit in visits[key]:
                    times[key, visit] += _visit(visit, ways[key], fixed[key[1]], device, each)
        turn += 1
    return {key: _figures({visit: times[key, visit] for visit in visits[key]}, batch) | told[key] for key in ways}


def _visit(visit: str, way: Way, fixed: tuple, device: str, seconds: float) -> list[tuple[float, float]]:
    """Seconds of every call, by the clock and of this process's CPU time; at least one."""
    if visit == "train" and torch.device(device).type != "cpu":
        for _ in range(8):  # what a loader has made while others were measured would hide what it costs
            next(way.batches)
    taken: list[tuple[float, float]] = []
    begun = time.perf_counter()
    while not taken or time.perf_counter() - begun < seconds:
        start, used = time.perf_counter(), time.process_time()
        _call(visit, way, fixed, device)
        taken.append((time.perf_counter() - start, time.process_time() - used))
    return taken


def _call(visit: str, way: Way, fixed: tuple, device: str) -> None:
    if visit in ("train", "step"):
        crops, targets, weights = (t.to(device, non_blocking=True) for t in next(way.batches)) if visit == "train" else fixed
        way.gradient((crops, targets, weights))
        way.update()
    else:
        way.infer(fixed[0][:1] if visit == "latency" else fixed[0])
    wait(device)


def _figures(times: dict[str, list[tuple[float, float]]], batch: int) -> dict:
    """Medians and quartiles of images a second, or milliseconds; medians of CPU seconds."""
    found: dict[str, Any] = {}
    for visit, taken in times.items():
        name = "latency_ms" if visit == "latency" else f"{visit}_images_per_s"
        values = [1e3 * t for t, _ in taken] if visit == "latency" else [batch / t for t, _ in taken]
        found[name] = statistics.median(values)
        found[f"{name}_spread"] = [float(q) for q in np.quantile(values, (0.25, 0.75))]
        found[f"{name}_calls"] = len(values)
        found[f"{visit}_cpu_s"] = statistics.median(used for _, used in taken)
    if "train" in times:
        found["loader_share"] = 1 - found["train_images_per_s"] / found["step_images_per_s"]
    return found


def _bounds(counted: dict[str, float], found: dict) -> dict[str, float]:
    """Images a second by the memory's speed and by the arithmetic's, and the shares of the first that were reached."""
    speed, flops = 1e9 * counted["copy_gb_per_s"], 1e9 * counted["product_gflops"]
    bounds = dict(counted)
    for kind, figure, passes in (("train", "step_images_per_s", 3), ("infer", "infer_images_per_s", 1)):
        if figure in found:
            by_memory = speed / counted[f"least_{kind}_bytes"]
            bounds[f"memory_{kind}_images_per_s"] = by_memory
            bounds[f"memory_share_{kind}"] = found[figure] / by_memory
            bounds[f"arithmetic_{kind}_images_per_s"] = flops / (2 * passes * counted["macs"])
    return bounds
