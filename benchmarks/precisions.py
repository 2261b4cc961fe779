"""`python benchmarks/precisions.py LSPET`: what an export in half precision or with 8-bit integers costs and gains on a CPU.

Exports a network that comes with mdw in each precision, with `mdw export`; scores each file on LSPET's validation persons, with
the flip test, with `mdw evaluate`; then times all files in turns, one image and batches of 32, without the flip test.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnxruntime

CALLS = {1: 100, 32: 12}  # images of a batch -> timed calls, of which as many turns are made


def mdw(*words: str) -> dict:
    """What a command of mdw prints as JSON."""
    done = subprocess.run([sys.executable, "-m", "mdw", *words, "--json"], stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("root", help="LSPET's folder")
    parser.add_argument("--model", default="mdw_hrnet_18", help="One of the networks that come with mdw.")
    parser.add_argument("--persons", default="64", help="Training persons on whom the ranges of int8 are found.")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    place = ["--data", "lspet", "--root", options.root]
    with tempfile.TemporaryDirectory() as folder:
        rows, sessions = {}, {}
        for precision in ("fp32", "fp16", "int8"):
            file = str(Path(folder, f"{precision}.onnx"))
            calibration = [*place, "--persons", options.persons] if precision == "int8" else []
            export = [options.model, options.model, "--precision", precision, "--out", file, *calibration]
            nodes = mdw("export", *export)["nodes"]
            measured = mdw("evaluate", *place, "--split", "val", "--weights", options.model, "--onnx", file)
            rows[precision] = {"pck": measured["pck"], "nodes": nodes, "kB": Path(file).stat().st_size / 1e3}
            settings = onnxruntime.SessionOptions()
            settings.intra_op_num_threads = options.threads
            sessions[precision] = onnxruntime.InferenceSession(file, settings, providers=["CPUExecutionProvider"])
        height, width = sessions["fp32"].get_inputs()[0].shape[2:]
        for batch, calls in CALLS.items():
            image = np.random.default_rng(0).standard_normal((batch, 3, height, width), np.float32)
            seconds: dict[str, list[float]] = {precision: [] for precision in sessions}
            for turn in range(calls + 1):
                for precision in list(sessions)[:: 1 if turn % 2 else -1]:
                    began = time.perf_counter()
                    sessions[precision].run(None, {"image": image})
                    seconds[precision].append(time.perf_counter() - began)
            for precision, taken in seconds.items():
                rows[precision][f"ms of {batch}"] = 1e3 * statistics.median(taken[1:])  # the first call makes ready
    print(f"{options.model}, {height}x{width}, {options.threads} threads")
    for precision, row in rows.items():
        print(precision, *(f"{name} {value:.2f}" for name, value in row.items()), sep="  ")


if __name__ == "__main__":
    main()
