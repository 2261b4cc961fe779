"""`python benchmarks/two_trees.py OLD NEW`: how much faster the tuned backend of the source tree NEW is than that of OLD.

Each tree has a process of its own, and they take turns, call by call, so that whatever else the machine does hits both. A
ratio is the median over pairs of neighbouring calls, OLD's seconds over NEW's, with its quartiles.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

NETWORKS = {
    "MDW-HRNet-18": ("mdw_hrnet_18", {}),
    "+ CDC": ("mdw_hrnet_18", {"gcm_s": False, "gcm_c": False}),
    "Lite-HRNet-18": ("lite_hrnet_18", {}),
    "Dite-HRNet-18": ("dite_hrnet_18", {}),
    "CondConv": ("mdw_hrnet_18", {"dynamic": "condconv"}),
    "ODConv": ("mdw_hrnet_18", {"dynamic": "odconv"}),
}
WORKER = """
import copy, json, sys, time
import torch
import mdw
from mdw.computation import for_use, switch

name, options, height, width, batch, threads = json.loads(sys.argv[1])
torch.set_num_threads(threads)
torch.manual_seed(0)
model = mdw.create_model(name, 17, **options)
still = for_use(copy.deepcopy(model), "tuned")
model = switch(model.train(), "tuned")
optimizer = torch.optim.Adam(model.parameters(), 1e-4, fused=True)
x, target = torch.randn(batch, 3, height, width), torch.rand(batch, 17, height // 4, width // 4)

def train():
    optimizer.zero_grad(set_to_none=True)
    loss = (model(x) - target).square().mean()
    loss.backward()
    optimizer.step()
    return loss.item()

@torch.no_grad()
def infer():
    still(x)

@torch.no_grad()
def latency():
    still(x[:1])

for line in sys.stdin:
    wall, cpu = time.perf_counter(), time.process_time()
    {"train": train, "infer": infer, "latency": latency}[line.strip()]()
    print(json.dumps([time.perf_counter() - wall, time.process_time() - cpu]), flush=True)
"""


class Tree:
    """A process that computes by the source tree `path`: `call("train")` -> (wall seconds, CPU seconds) of one call."""

    def __init__(self, path: Path, job: tuple):
        environment = os.environ | {"PYTHONPATH": str(path.resolve()), "OMP_NUM_THREADS": str(job[-1])}
        environment.setdefault("GOMP_SPINCOUNT", "20000")  # for both: what `mdw` sets since the newer tree
        command = [sys.executable, "-c", WORKER, json.dumps(job)]
        self.process = subprocess.Popen(
            command, cwd="/", env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def call(self, kind: str) -> tuple[float, float]:
        self.process.stdin.write(f"{kind}\n")
        self.process.stdin.flush()
        return tuple(json.loads(self.process.stdout.readline()))

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def ratio(old: list[float], new: list[float]) -> dict[str, float]:
    ratios = [before / after for before, after in zip(old, new, strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    return {"ratio": middle, "low": low, "high": high, "old_s": min(old), "new_s": min(new)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--networks", default=",".join(NETWORKS), help="Some of them, with commas between.")
    parser.add_argument("--size", action="append", help="HEIGHTxWIDTH; repeatable. 128x96 and 256x192 if left out.")
    parser.add_argument("--threads", type=int, action="append", help="Repeatable; 1 and 2 if left out.")
    parser.add_argument("--calls", default="train,infer,latency")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--record", type=Path, help="Also write the rows here as JSON.")
    told = parser.parse_args()
    rows = []
    for threads in told.threads or [1, 2]:
        for size in told.size or ["128x96", "256x192"]:
            for network in told.networks.split(","):
                job = (*NETWORKS[network], *map(int, size.split("x")), told.batch, threads)
                trees = [Tree(told.old, job), Tree(told.new, job)]
                for kind in told.calls.split(","):
                    taken = [[], []]
                    for turn in range(-1, told.rounds):
                        for k in (0, 1) if turn % 2 else (1, 0):
                            found = trees[k].call(kind)
                            if turn >= 0:  # the first calls make ready
                                taken[k].append(found)
                    row = {"network": network, "size": size, "batch": told.batch, "threads": threads, "call": kind}
                    row |= {clock: ratio(*[[t[i] for t in one] for one in taken]) for i, clock in enumerate(("wall", "cpu"))}
                    rows.append(row)
                    wall, cpu = row["wall"], row["cpu"]
                    print(
                        f"{network:14} {size:8} {threads} threads {kind:8} {wall['ratio']:5.2f} ({wall['low']:.2f} to "
                        f"{wall['high']:.2f}), CPU {cpu['ratio']:5.2f}; "
                        f"{1e3 * wall['old_s']:.0f} -> {1e3 * wall['new_s']:.0f} ms",
                        flush=True,
                    )
                for tree in trees:
                    tree.close()
    if told.record:
        told.record.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
