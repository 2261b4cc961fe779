"""The standing measurements on an NVIDIA GPU: `python tools/gpu.py ITEM`, again until it says that the item is done.

What to prepare, in which order and what to commit: docs/gpu.md. Every call ends by itself after --seconds and prints a table.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import asdict
from itertools import product
from pathlib import Path

HOME = Path(__file__).resolve().parents[1]
FULL = ("mdw_hrnet_18", {})
TRAININGS = {  # item: (network, its options) for each run, all with the recipe `lspet`
    "first": [FULL, ("lite_hrnet_18", {}), ("dite_hrnet_18", {}), ("mobilenetv2", {})],
    "ablations": [("mdw_hrnet_18", options) for options in (
        {"cdc": False, "gcm_s": False, "gcm_c": False}, {"gcm_s": False, "gcm_c": False}, {"cdc": False}, {},
        *({"attention_kernel": k} for k in (1, 5, 7, 9)),  # 3 is the default
        {"dynamic": "condconv"}, {"dynamic": "dynamic"}, {"dynamic": "odconv"},  # none is cdc=False
    )],
    "choices": [("mdw_hrnet_18", options) for options in (
        {"attention": "line"}, {"dense_spatial": False}, {"down": "single"}, {"head": "highest"}, {"order": "channel_first"},
    )],
    "large": [(name, {}) for name in ("mdw_hrnet_30", "lite_hrnet_30", "dite_hrnet_30", "hrnet_w32", "simple_baseline_50")],
    "fine": [("mdw_hrnet_30", {})],
}  # fmt: skip
CHANGES = {"fine": {"input_size": [288, 384], "sigma": 3.0}}
VARIANTS = [  # what `variants` compares: first everything, then without one thing each
    {},
    {"channels_last": False},
    {"shifted": False},
    {"graph": False},
    {"regions": "none"},
    {"precision": "float32"},
]


def train(item: str, seeds: list[int], root: str, pack: str, runs: str, device: str, until: float) -> None:
    changes = [f"--set={name}={json.dumps(value)}" for name, value in CHANGES.get(item, {}).items()]
    rows = []
    for (model, options), seed in product(TRAININGS[item], seeds):
        told = [f"--option={name}={json.dumps(value)}" for name, value in options.items()]
        row = {"model": model, "options": options, "seed": seed, "done": "not begun"}
        rows.append(row)
        if (left := until - time.monotonic()) < 60:  # less than a start and a compilation take
            continue
        command = [
            sys.executable,
            "-m",
            "mdw",
            "train",
            model,
            *told,
            *changes,
            "--recipe=lspet",
            "--computation=tuned",
            "--json",
        ]
        command += [f"--seed={seed}", f"--root={root}", f"--pack={pack}", f"--runs={runs}", f"--device={device}"]
        done = subprocess.run([*command, f"--stop-after={left - 20:.0f}"], stdout=subprocess.PIPE, text=True)
        if done.returncode or not done.stdout.strip():
            row["done"] = f"failed with status {done.returncode}" if done.returncode else "begun; run this again"
        else:
            result = json.loads(done.stdout)
            row |= {"done": "yes", "pck": result["pck"], "run": result["run"]}
    for row in rows:
        print(f"{row['model']:20} {json.dumps(row['options']):45} seed {row['seed']}  {row['done']:24} {row.get('pck', '')}")
    print("this item is done" if all(row["done"] == "yes" for row in rows) else "this item is not done: run it again")


def variants(models: list[str], batches: list[int], device: str, until: float) -> None:
    """Images a second of a training step and of inference for each of VARIANTS and the reference, one process each."""
    for model, size, settings in product(models, batches, [None, *VARIANTS]):
        if until - time.monotonic() < 60:
            print("out of time; the rest was not measured")
            return
        command = [sys.executable, __file__, "--one", json.dumps([model, size, settings]), f"--device={device}", "one"]
        limit = until - time.monotonic()
        try:
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=limit)
            print(done.stdout.strip() or f"{model} {size} {settings}: failed with status {done.returncode}", flush=True)
        except subprocess.TimeoutExpired:
            print(f"{model} {size} {settings}: not ready within {limit:.0f} s", flush=True)


def one(model: str, size: int, settings: dict | None, device: str, repeats: int = 30) -> None:
    import torch

    import mdw
    from mdw.tuned.cuda import WARM_UP, Settings, prepare

    wait = torch.cuda.synchronize if device.startswith("cuda") else lambda: None
    torch.manual_seed(0)
    chosen = Settings(**settings or {})
    network = mdw.create_model(model).to(device)
    step, infer = prepare(network, "reference" if settings is None else "tuned", device, chosen)
    crops = torch.randn(size, 3, 256, 192, device=device)
    targets, weights = torch.rand(size, 17, 64, 48, device=device), torch.ones(size, 17, device=device)

    def measure(call) -> tuple[float, float]:
        begun = time.perf_counter()
        for _ in range(WARM_UP + 1):
            call()
        wait()
        ready, times = time.perf_counter() - begun, []
        for _ in range(repeats):
            begun = time.perf_counter()
            call()
            wait()
            times.append(time.perf_counter() - begun)
        return ready, sorted(times)[len(times) // 2]

    first, a = measure(lambda: step(crops, targets, weights))
    second, b = measure(lambda: infer(crops))
    third, c = measure(lambda: infer(crops[:1]))
    peak = torch.cuda.max_memory_allocated() / 2**30 if device.startswith("cuda") else float("nan")
    name = "reference" if settings is None else ", ".join(f"{k}={v}" for k, v in settings.items()) or "tuned"
    record = {"model": model, "batch": size, "variant": name, "settings": None if settings is None else asdict(chosen)}
    record |= {"train_images_per_s": size / a, "infer_images_per_s": size / b, "latency_ms": 1e3 * c}
    record |= {"ready_s": [first, second, third], "peak_gib": peak, "torch": torch.__version__}
    if out := os.environ.get("OUT"):
        with open(Path(out) / "variants.jsonl", "a") as lines:
            lines.write(json.dumps(record) + "\n")
    print(
        f"{model:14} {size:4} {name:24} train {size / a:8.0f}/s  infer {size / b:8.0f}/s  one {1e3 * c:6.2f} ms  "
        f"ready after {first:.0f} + {second:.0f} + {third:.0f} s  {peak:.1f} GiB"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("item", choices=["variants", "one", *TRAININGS])
    parser.add_argument("--root", default="data/lspet", help="LSPET's folder, of which the validation photos are read")
    parser.add_argument("--pack", default="data/lspet-pack", help="the pack of its training persons")
    parser.add_argument("--runs", default="runs")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--models", default="mdw_hrnet_18,lite_hrnet_18,dite_hrnet_18")
    parser.add_argument("--batches", default="128")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--seconds", type=float, default=540)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    given = parser.parse_args()
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(HOME), os.environ.get("PYTHONPATH")]))
    until = time.monotonic() + given.seconds
    if given.item == "one":
        one(*json.loads(given.one), given.device)
    elif given.item == "variants":
        variants(given.models.split(","), [int(n) for n in given.batches.split(",")], given.device, until)
    else:
        seeds = [int(seed) for seed in given.seeds.split(",")]
        train(given.item, seeds, given.root, given.pack, given.runs, given.device, until)


if __name__ == "__main__":
    main()
