"""`python benchmarks/kernels.py`: where a tuned training step goes, kernel by kernel, beside the machine's limits.

Milliseconds are CPU time of the calling thread, so run it with one thread. The bytes of a call are those of the tensors that it
reads and writes, each once: the least that has to move. Arithmetic is counted for convolutions (two operations a multiply-add).
The limits are measured in the same process: torch's `a + s * b -> c` on arrays that fit in L2 and on arrays of 256 MiB, and a
matrix product.
"""

import argparse
import json
import time
from collections import defaultdict
from pathlib import Path

import torch
from torch import Tensor
from torch.autograd import Function
from torch.profiler import ProfilerActivity, profile

import mdw
from mdw.backends.choose import switch
from mdw.backends.cpu import ops


class Meter:
    """Calls, seconds, bytes and operations of every differentiable kernel, by name and size of its first tensor."""

    def __init__(self):
        self.rows = defaultdict(lambda: [0, 0.0, 0, 0])
        for kernel in vars(ops).values():
            if isinstance(kernel, type) and issubclass(kernel, Function) and kernel is not Function:
                kernel.forward = staticmethod(self._timed(kernel.__name__, "forward", kernel.forward))
                kernel.backward = staticmethod(self._timed(kernel.__name__, "backward", kernel.backward))

    def _timed(self, name: str, way: str, call):
        def timed(ctx, *inputs):
            began = time.thread_time()
            outputs = call(ctx, *inputs)
            seconds = time.thread_time() - began
            tensors = [*inputs, *(outputs if isinstance(outputs, tuple) else (outputs,))]
            if way == "backward":
                tensors += ctx.saved_tensors
            else:
                ctx.operations = operations(name, inputs, outputs)
            tensors = {t.data_ptr(): t for t in tensors if isinstance(t, Tensor)}.values()
            row = self.rows[name, way]
            row[0] += 1
            row[1] += seconds
            row[2] += sum(t.nbytes for t in tensors)
            row[3] += ctx.operations * (1 if way == "forward" else 2)
            return outputs

        return timed


def operations(name: str, inputs: tuple, outputs) -> int:
    """Additions and multiplications of a convolution's forward pass; 0 for other kernels."""
    if name == "DepthwiseNorm":  # the banks (n, C, k, k) of parts of all channels
        banks = [t for t in inputs[1:] if isinstance(t, Tensor) and t.ndim == 4]
        channels = outputs[0].shape[1]
        return sum(2 * outputs[0].numel() * bank.shape[1] // channels * bank.shape[-1] ** 2 for bank in banks)
    if name == "Pointwise":  # weight (out, in, 1, 1)
        return 2 * outputs.numel() * inputs[1].shape[1]
    return 0


def rate(call, amount: float, seconds: float = 0.5) -> float:
    """The best of `amount` a second over calls that take `seconds` together."""
    best, end = 0.0, time.perf_counter() + seconds
    call()
    while time.perf_counter() < end:
        began = time.perf_counter()
        call()
        best = max(best, amount / (time.perf_counter() - began))
    return best


def limits() -> dict[str, float]:
    """GB/s of a triad in L2 and in memory, GFLOP/s of a matrix product, on the threads torch has."""
    found = {}
    for name, count in {"triad in L2, GB/s": 2**16, "triad in memory, GB/s": 2**26}.items():
        a, b, c = (torch.ones(count) for _ in range(3))
        found[name] = rate(lambda a=a, b=b, c=c: torch.add(a, b, alpha=2, out=c), 3 * a.nbytes) / 1e9
    a, b, c = (torch.ones(1024, 1024) for _ in range(3))
    found["matrix product, GFLOP/s"] = rate(lambda: torch.mm(a, b, out=c), 2 * 1024**3) / 1e9
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model", nargs="?", default="mdw_hrnet_18")
    parser.add_argument("--size", default="128x96", help="HEIGHTxWIDTH")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--others", type=int, default=12, help="How many of torch's own operators to list.")
    parser.add_argument("--record", type=Path, help="Also write the figures here as JSON.")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    torch.manual_seed(0)
    height, width = map(int, asked.size.split("x"))
    model = switch(mdw.create_model(asked.model, 17).train(), "tuned")
    optimizer = torch.optim.Adam(model.parameters(), 1e-4, fused=True)
    x, target = torch.randn(asked.batch, 3, height, width), torch.rand(asked.batch, 17, height // 4, width // 4)

    def step() -> float:
        began = time.process_time()
        optimizer.zero_grad(set_to_none=True)
        (model(x) - target).square().mean().backward()
        optimizer.step()
        return time.process_time() - began

    for _ in range(2):
        step()
    whole = min(step() for _ in range(asked.steps))
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        step()
    meter = Meter()
    for _ in range(asked.steps):
        step()
    machine = limits()
    rows = []
    for (name, way), (calls, seconds, moved, done) in sorted(meter.rows.items(), key=lambda row: -row[1][1]):
        rows.append(
            {
                "kernel": f"{name} {way}",
                "calls": calls // asked.steps,
                "ms": 1e3 * seconds / asked.steps,
                "MB": moved / asked.steps / 1e6,
                "GB/s": moved / seconds / 1e9,
                "GFLOP/s": done / seconds / 1e9,
            }
        )
    print(f"{asked.model}, batch {asked.batch} at {asked.size}, {asked.threads} threads: {1e3 * whole:.0f} ms of CPU a step")
    print("; ".join(f"{name} {value:.0f}" for name, value in machine.items()))
    print(f"{'kernel':24}{'calls':>6}{'ms':>8}{'MB':>8}{'GB/s':>8}{'of L2':>7}{'GFLOP/s':>9}{'of peak':>9}")
    for row in rows:
        of_triad = row["GB/s"] / machine["triad in L2, GB/s"]
        of_peak = row["GFLOP/s"] / machine["matrix product, GFLOP/s"]
        print(
            f"{row['kernel']:24}{row['calls']:6}{row['ms']:8.1f}{row['MB']:8.0f}{row['GB/s']:8.1f}{of_triad:7.0%}"
            + (f"{row['GFLOP/s']:9.1f}{of_peak:9.0%}" if row["GFLOP/s"] else "")
        )
    kernels = sum(row["ms"] for row in rows)
    print(f"{'all kernels':24}{sum(row['calls'] for row in rows):6}{kernels:8.1f}")
    others = [e for e in profiler.key_averages() if e.key.startswith(("aten::", "Optimizer", "torch::"))]
    for event in sorted(others, key=lambda event: -event.self_cpu_time_total)[: asked.others]:
        print(f"{event.key:40}{event.count:6}{event.self_cpu_time_total / 1e3:8.1f} ms")
    if asked.record:
        record = {"model": asked.model, "size": asked.size, "batch": asked.batch, "threads": asked.threads}
        record |= {"step_ms": 1e3 * whole, "machine": machine, "kernels": rows}
        asked.record.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
