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
sys.path.insert(0, str(HOME))  # it need not be installed

from mdw.experiments import studies  # noqa: E402
from mdw.experiments.studies import CONTROL, HIGH, LARGER, OTHERS, SMALL, STUDIES, Row  # noqa: E402
from mdw.training import recipes  # noqa: E402

PRESET = "lspet"  # its runs are the ones that `mdw reproduce --preset lspet` looks for
TABLES = [row for table in ("table5", "table6", "table7") for row in STUDIES[table]]
UNDECIDED = {"attention": "line", "dense_spatial": False, "down": "single", "head": "highest", "order": "channel_first"}
TRAININGS = {  # item: what it trains
    "first": [row for row in SMALL if row is not CONTROL],
    "ablations": list({json.dumps([row.model, row.options]): row for row in TABLES}.values()),  # what tables share, once
    "choices": [*STUDIES["lspet_variants"][1:], *(Row(key, "mdw_hrnet_18", {key: told}) for key, told in UNDECIDED.items())],
    "large": [*LARGER, *(row for row in OTHERS if row.model in ("hrnet_w32", "simple_baseline_50"))],
    "fine": [Row("MDW-HRNet-30, 384x288", "mdw_hrnet_30", changes=HIGH)],
}
VARIANTS = {  # what `variants` compares: the reference, then everything, then without one thing each
    "reference": None,
    "tuned": {},
    "channels_last=False": {"channels_last": False},
    "shifted=False": {"shifted": False},
    "graph=False": {"graph": False},
    "regions=none": {"regions": "none"},
    "precision=float32": {"precision": "float32"},
}
LEAST = 60  # seconds: with less left nothing is begun, a start and a compilation take longer
KINDS = ("train", "infer")


def command(row: Row, seed: int, root: str, pack: str, runs: str, device: str) -> list[str]:
    """The `mdw train` of a row with all that the study's recipe gives it, so that the run has the study's name."""
    base, wanted = (recipe.to_dict() for recipe in (recipes.get(studies.PRESETS[PRESET]), studies.recipe(row, PRESET)))
    told = [f"--option={name}={json.dumps(value)}" for name, value in row.options.items()]
    told += [f"--set={name}={json.dumps(value)}" for name, value in wanted.items() if value != base.get(name)]
    told += [f"--recipe={base['name']}", "--backend=tuned", "--json", f"--seed={seed}"]
    told += [f"--root={root}", f"--pack={pack}", f"--runs={runs}", f"--device={device}"]
    return [sys.executable, "-m", "mdw", "train", row.model, *told]


def train(item: str, seeds: list[int], root: str, pack: str, runs: str, device: str, until: float) -> None:
    found = []
    for row, seed in product(TRAININGS[item], seeds):
        state, pck = "not begun", ""
        if (left := until - time.monotonic()) >= LEAST:
            told = [*command(row, seed, root, pack, runs, device), f"--stop-after={left - 20:.0f}"]
            done = subprocess.run(told, stdout=subprocess.PIPE, text=True)
            state = f"failed with status {done.returncode}" if done.returncode else "begun; run this again"
            if not done.returncode and done.stdout.strip():
                state, pck = "yes", json.loads(done.stdout)["pck"]
        found.append((state, f"{row.model:25} {json.dumps(row.options):55} seed {seed}  {state:24} {pck}"))
    print("\n".join(line for _, line in found))
    say_whether_done(all(state == "yes" for state, _ in found))


def say_whether_done(done: bool) -> None:
    print("this item is done" if done else "this item is not done: run it again")


def variants(models: list[str], batches: list[int], names: list[str], device: str, record: Path, until: float) -> None:
    """Images a second of a training step and of inference for those of VARIANTS in `names`, one process each, which appends
    a line to `record`; what stands there is not measured again. What matters most comes first, for every network."""
    pairs = [(model, batch, name) for batch, model, name in product(batches, models, list(VARIANTS)[:2]) if name in names]
    rest = [(model, batch, name) for name, batch, model in product(list(VARIANTS)[2:], batches, models) if name in names]
    found = {}
    for model, batch, name in pairs + rest:
        state, line = "not begun", recorded(record, model, batch, name, device)
        if not line and (left := until - time.monotonic()) >= LEAST:
            told = [sys.executable, __file__, "one", "--one", json.dumps([model, batch, name])]
            try:
                done = subprocess.run([*told, f"--device={device}", f"--record={record}"], timeout=left)
                state = f"failed with status {done.returncode}"
            except subprocess.TimeoutExpired:
                state = f"not ready within {left:.0f} s"
            line = recorded(record, model, batch, name, device)
        found[model, batch, name] = line
        print(f"{model:14} {batch:4} {name:20} {as_text(line) if line else state}", flush=True)
    for model, batch in dict.fromkeys((model, batch) for model, batch, _ in pairs):
        reference, tuned = (found.get((model, batch, name)) for name in ("reference", "tuned"))
        if reference and tuned:
            print(f"{model:14} {batch:4} tuned/reference      {as_ratios(reference, tuned)}")
    say_whether_done(all(found.values()))


def settings_of(name: str) -> dict | None:
    """All settings of one of VARIANTS, with today's defaults; None for the reference."""
    from mdw.backends.cuda import Settings

    return None if VARIANTS[name] is None else asdict(Settings(**VARIANTS[name]))


def recorded(record: Path, model: str, batch: int, name: str, device: str) -> dict | None:
    """The last line of `record` that measures this with the settings that `name` has today; None without."""
    wanted = {"model": model, "batch": batch, "settings": settings_of(name), "device": device}
    lines = record.read_text(encoding="utf-8").splitlines() if record.exists() else []
    return next((found for text in reversed(lines) if wanted.items() <= (found := json.loads(text)).items()), None)


def as_text(line: dict) -> str:
    return (
        "train {train_images_per_s:8.0f}/s  infer {infer_images_per_s:8.0f}/s  one {latency_ms:6.2f} ms  "
        "ready after {ready_s[0]:.0f} + {ready_s[1]:.0f} + {ready_s[2]:.0f} s  {peak_gib:.1f} GiB"
    ).format(**line)


def as_ratios(reference: dict, tuned: dict) -> str:
    """How many times faster, and the shares of what the memory's speed allows that are reached."""
    times, shares = [], []
    for kind in KINDS:
        times.append(f"{kind} {tuned[f'{kind}_images_per_s'] / reference[f'{kind}_images_per_s']:.2f}x")
        shares.append(f"{kind} {tuned[f'memory_share_{kind}']:.0%} (reference {reference[f'memory_share_{kind}']:.0%})")
    return f"{', '.join(times)}, one {reference['latency_ms'] / tuned['latency_ms']:.2f}x; of memory bound: {', '.join(shares)}"


def one(model: str, batch: int, name: str, device: str, record: Path, repeats: int = 30) -> None:
    """Measure one of VARIANTS and append the line to `record`."""
    import torch

    import mdw
    from mdw.backends.cuda import WARM_UP, Settings, prepare
    from mdw.bench.counts import bytes_and_work, machine, wait
    from mdw.training.runs import environment

    torch.manual_seed(0)
    settings = settings_of(name)
    network = mdw.create_model(model).to(device)
    step, infer = prepare(network, "tuned" if settings else "reference", device, Settings(**settings or {}))
    crops = torch.randn(batch, 3, 256, 192, device=device)
    targets, weights = torch.rand(batch, 17, 64, 48, device=device), torch.ones(batch, 17, device=device)

    def measure(call) -> tuple[float, float]:
        begun = time.perf_counter()
        for _ in range(WARM_UP + 1):
            call()
        wait(device)
        ready, times = time.perf_counter() - begun, []
        for _ in range(repeats):
            begun = time.perf_counter()
            call()
            wait(device)
            times.append(time.perf_counter() - begun)
        return ready, sorted(times)[len(times) // 2]

    first, a = measure(lambda: step(crops, targets, weights))
    second, b = measure(lambda: infer(crops))
    third, c = measure(lambda: infer(crops[:1]))
    peak = torch.cuda.max_memory_allocated() / 2**30 if device.startswith("cuda") else 0.0
    least, speed = bytes_and_work(model, {}, 17, (256, 192)), 1e9 * machine(device)["copy_gb_per_s"]
    line = {"model": model, "batch": batch, "variant": name, "settings": settings, "device": device}
    line |= {"train_images_per_s": batch / a, "infer_images_per_s": batch / b, "latency_ms": 1e3 * c}
    line |= {f"memory_share_{kind}": line[f"{kind}_images_per_s"] * least[f"least_{kind}_bytes"] / speed for kind in KINDS}
    line |= {"ready_s": [first, second, third], "peak_gib": peak, "environment": environment(device)}
    record.parent.mkdir(parents=True, exist_ok=True)
    with open(record, "a", encoding="utf-8") as lines:
        lines.write(json.dumps(line) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("item", choices=["variants", "one", *TRAININGS])
    parser.add_argument("--root", default="data/lspet", help="LSPET's folder, of which the validation photos are read")
    parser.add_argument("--pack", default="data/lspet-pack", help="the pack of its training persons")
    parser.add_argument("--runs", default="runs")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--models", default="mdw_hrnet_18,lite_hrnet_18,dite_hrnet_18")
    parser.add_argument("--batches", default="128")
    parser.add_argument("--only", action="append", choices=list(VARIANTS), help="a variant; repeatable, all if left out")
    parser.add_argument("--record", type=Path, default=Path("data/variants.jsonl"), help="what `variants` has measured")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--seconds", type=float, default=540)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    given = parser.parse_args()
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(HOME), os.environ.get("PYTHONPATH")]))
    until = time.monotonic() + given.seconds
    if given.item == "one":
        one(*json.loads(given.one), given.device, given.record)
    elif given.item == "variants":
        batches, names = [int(n) for n in given.batches.split(",")], given.only or list(VARIANTS)
        variants(given.models.split(","), batches, names, given.device, given.record, until)
    else:
        seeds = [int(seed) for seed in given.seeds.split(",")]
        train(given.item, seeds, given.root, given.pack, given.runs, given.device, until)


if __name__ == "__main__":
    main()
