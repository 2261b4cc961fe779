"""`mdw reproduce`: what it plans, what it will take, and that neither a failure nor a kill changes what the others come to."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import kills
import pytest
import torch
from command import mistake, run
from report_helpers import write_run

from mdw.cli.plan import describe
from mdw.experiments import executor, studies
from mdw.report import runs as frames
from mdw.report.site import publish
from mdw.training import recipes, runs
from mdw.util.errors import MdwError
from mdw.util.files import write_json, write_text

TABLES = ("06_table5_modules", "07_table6_kernel_size", "08_table7_dynamic_convs")


def plan(root, *arguments):
    status, output, _ = run("reproduce", *arguments, "--runs", root, "--dry-run", "--json", "--device", "cpu")
    assert status == 0
    return json.loads(output)


def measured(root, row, seed, seconds, samples=64, epochs=2, recipe="smoke", **env):
    """A finished run of `write_run` that says how fast it was."""
    path = write_run(root, row, seed, 0.2, recipe)
    lines = [json.dumps({"epoch": k + 1, "loss": 0.1, "samples": samples, "seconds": seconds}) for k in range(epochs)]
    write_text(path / "metrics.jsonl", "\n".join(lines) + "\n")
    told = {"device": "cpu", "hardware": runs.hardware(), "threads": 1, "computation": "tuned", "started": "2026-01-01"}
    write_json(path / "env.json", told | env)
    return path


def test_a_run_that_several_tables_need_is_planned_once(tmp_path):
    found = describe(studies.plan_reports(TABLES, "smoke", [0], tmp_path), "smoke", tmp_path, "cpu", 2)
    names = [one["run"] for one in found["runs"]]
    assert len(names) == len(set(names)) == 7 + 4 + 4
    (shared,) = [one for one in found["runs"] if one["network"].startswith("mdw_hrnet_18 96x64")]
    assert shared["rows"] == dict(zip(TABLES, (["CDC + GCM (full)"], ["K = 3"], ["CDC"]), strict=True))
    assert shared["samples"] == 16 and shared["seconds"] is None, "nothing is known of the time, so nothing is said"
    assert found["totals"]["left_out"] == 5 and found["totals"]["to_train"] == 10
    assert found["totals"]["without_estimate"] == 10 and found["totals"]["seconds"] is None
    every = describe(studies.plan_reports(TABLES, "smoke", [0], tmp_path, all_rows=True), "smoke", tmp_path, "cpu", 2)
    assert every["totals"]["to_train"] == 15 and not list(tmp_path.iterdir())


def test_time_is_estimated_from_what_was_measured_of_this_network_and_size(tmp_path):
    simple, full = studies.SIMPLE, studies.FULL
    measured(tmp_path, simple, 1, seconds=10.0)
    measured(tmp_path, full, 1, seconds=1.0, recipe="lspet_small")  # another size
    one = {line["network"]: line for line in plan(tmp_path, "table5", "--preset", "smoke", "--jobs", "2")["runs"]}
    ours = one["mdw_hrnet_18 (cdc=False, gcm_s=False, gcm_c=False) 96x64"]
    # 2 epochs of 8 persons, 2 validations of 4 persons, each twice and for a third: 21.3 samples at 6.4 a second
    assert ours["samples"] == 16 and ours["seconds"] == pytest.approx(21.33 / 6.4, abs=0.06)
    assert ours["basis"].startswith(runs.folder(runs.make_spec(simple.model, recipes.get("smoke"), 1, simple.options)).name)
    assert one["mdw_hrnet_18 96x64"]["seconds"] is None
    measured(tmp_path, simple, 2, seconds=1.0, hardware="another machine", started="2026-02-01")
    assert plan(tmp_path, "table5", "--preset", "smoke")["runs"][0]["seconds"] == ours["seconds"], "this machine's counts first"
    bench = {"model": full.model, "size": "96x64", "device": "cpu", "mode": "tuned", "train_images_per_s": 2.0}
    place = {"hardware": "another machine", "torch_threads": 2, "started": "2026-01-01"}
    other = bench | {"options": {"gcm_s": False}, "train_images_per_s": 9.0}  # of another network, so it counts for none here
    write_json(tmp_path / "bench" / "cpu.json", [row | {"environment": place} for row in (other, bench, other)])
    text = run("reproduce", "table5", "--preset", "smoke", "--runs", tmp_path, "--dry-run", "--device", "cpu")[1]
    assert "0:11" in text and "another machine" in text and "without 3 of them whose time is unknown" in text
    write_json(tmp_path / "bench" / "cpu.json", {"rows": []})
    code, *texts = run("reproduce", "table5", "--preset", "smoke", "--runs", tmp_path, "--dry-run")
    assert code == 1 and "cpu.json holds no list of objects" in "".join(texts)


def test_a_page_of_records_is_made_without_their_data(tmp_path):
    """No preset but its own kind trains on people that a fresh clone does not have; under every one their records count."""
    measured(tmp_path, studies.FULL, 0, 40.0, recipe="lspet_small_mixed")
    runs = studies.each_once(studies.plan_reports(["11_lspet"], "lspet_small_mixed", [0], tmp_path))
    others = len(runs) - 1
    for preset, trained, left in (("demo", 0, others), ("coco", 0, others), ("lspet_small_mixed", others, 0)):
        totals = plan(tmp_path, "lspet", "--preset", preset)["totals"]
        assert (totals["finished"], totals["to_train"], totals["left_out"]) == (1, trained, left)
    text = run("reproduce", "lspet", "--preset", "demo", "--all-rows", "--runs", tmp_path, "--dry-run", "--device", "cpu")[1]
    assert "left out of demo (trained with --preset lspet_small_mixed)" in text
    assert "no preset" in mistake("reproduce", "lspet", "--preset", "nothing", "--runs", tmp_path, "--dry-run")
    on_a_gpu = plan(tmp_path, "lspet", "--preset", "lspet")["runs"]
    assert {one["network"].split()[-1] for one in on_a_gpu} == {"256x192", "128x96"}, "its own size and the search's"
    assert all(one["status"] == "not run" for one in on_a_gpu)


def test_samples_left_are_those_of_the_epochs_left(tmp_path):
    path = measured(tmp_path, studies.SIMPLE, 0, seconds=10.0, epochs=1)
    (path / "result.json").unlink()
    (one,) = [one for one in plan(tmp_path, "table5", "--preset", "smoke")["runs"] if one["run"] == path.name]
    assert one["status"] == "interrupted" and one["samples"] == 8 and one["seconds"] is not None
    coco = plan(tmp_path, "table5", "--preset", "coco")["runs"][0]
    assert coco["samples"] == 240 * (149_813 // 32 * 32)


def test_a_plan_is_no_training_and_json_is_a_plan(tmp_path):
    assert "--dry-run" in mistake("reproduce", "table5", "--preset", "smoke", "--runs", tmp_path, "--json")
    assert not list(tmp_path.iterdir())


def test_a_failure_hides_no_other_and_the_summary_says_why(tmp_path, monkeypatch, capsys):
    """Of table 5 one training fails and one ends the wrong way; table 6 has a damaged run; every page is still made."""
    root = tmp_path / "runs"
    failing = runs.folder(runs.make_spec("mdw_hrnet_18", recipes.get("smoke"), 0, studies.SIMPLE.options), root).name

    def train(spec, root, runs_root, device, bar, title):
        name = runs.folder(spec, runs_root).name
        if name == failing:
            raise RuntimeError("out of\nmemory")
        if spec["model"] == studies.CONTROL.model:
            raise MdwError("a sentence; a remedy")
        if spec["options"].get("attention_kernel") == 9:
            return str(runs.Run(runs.folder(spec, runs_root)).result)  # what the real one reads first
        (row,) = {one.row.model: one.row for one in wanted if one.path.name == name}.values()
        write_run(Path(runs_root), row, 0, 0.2)
        return "AP 0.2"

    published = [{"notebook": name, "status": "finished", "error": None} for name in TABLES[:2]]
    published[1] |= {"status": "failed", "error": "ValueError: x"}
    monkeypatch.setattr(executor, "_train", train)
    monkeypatch.setattr(publish, "publish", lambda *rest, **named: published)
    monkeypatch.setattr(publish, "find", lambda names: [Path(f"{record['notebook']}.ipynb") for record in published])
    monkeypatch.setattr(publish, "check_parameters", lambda *rest: None)
    broken = write_run(root, studies.STUDIES["table6"][-1], 0, 0.2)
    (broken / "result.json").write_text("{")
    other = write_run(root, studies.SIMPLE, 7, 0.2)  # of no table here
    (other / "metrics.jsonl").write_text("{")
    wanted = studies.each_once(studies.plan_reports(TABLES[:2], "smoke", [0], root))
    status, output, sentence = run("reproduce", "--preset", "smoke", "--runs", root, "--device", "cpu")
    assert status == 1 and "3 trainings and 1 report failed" in sentence
    said = output[output.index("06_table5_modules: page finished") :]
    assert "06_table5_modules: page finished, 3 of 7 runs finished" in said
    assert "failed: Simple, seed 0: RuntimeError: out of memory" in said
    assert "failed: Wider Naive Lite-HRNet-18, seed 0: a sentence; a remedy" in said
    assert "07_table6_kernel_size: page failed (ValueError: x), 2 of 5 runs finished" in said
    assert "failed: K = 9, seed 0:" in said and "result.json" in said
    assert "not run: K = 5, seed 0, K = 7, seed 0; the preset smoke leaves them out, --all-rows trains them" in said


def die(spec, *rest):
    if spec["seed"] < 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return "AP 1"


def test_a_process_that_dies_takes_only_its_own_run_along(tmp_path, monkeypatch):
    specs = [runs.make_spec("small_hrnet", recipes.get("smoke"), seed) for seed in range(3)]
    wanted = [studies.Planned(studies.FULL, k, spec, runs.folder(spec, tmp_path), "not run") for k, spec in enumerate(specs)]
    monkeypatch.setattr(executor, "_train", die)
    failed = executor.train_missing(wanted, runs_root=tmp_path, jobs=2)
    assert set(failed) == {one.path.name for one in wanted[:2]}, "the third has ended well, in a process made anew"
    assert all("was killed" in why and "goes on" in why for why in failed.values())


SMALL = """
import os, sys
from mdw.experiments import executor, studies
os.cpu_count = lambda: 2  # one thread for each of two jobs, whatever the machine has: sums are rounded by threads
if __name__ == "__main__":
    rows = studies.plan("table5", "smoke", [0], sys.argv[1])[:2]
    assert not executor.train_missing(rows, runs_root=sys.argv[1], device="cpu", jobs=2)
"""


def outcomes(root) -> list:
    """The table's rows, and what its runs came to, to the bit: in seconds of training every AP is 0."""
    frame = frames.study("table5", "smoke", [0], root)[["label", "seed", "status", "value", "epochs"]]
    return [frame.to_csv()] + [kills.outcome(run) for run in runs.find(root) if run.status == "finished"]


@pytest.mark.slow
def test_killed_in_the_middle_and_started_again_it_ends_with_the_same_table(tmp_path):
    """Two at a time, the whole process group dies by SIGKILL at the first checkpoint; the rest is trained one by one."""
    script, cut, whole = tmp_path / "small.py", tmp_path / "cut", tmp_path / "whole"
    script.write_text(SMALL)
    environment = os.environ | {"PYTHONPATH": str(Path(studies.__file__).parents[2])}  # a script's own folder comes first
    first = subprocess.Popen([sys.executable, str(script), str(cut)], start_new_session=True, env=environment)
    while not list(cut.rglob("checkpoint*.safetensors")) and first.poll() is None:
        time.sleep(0.01)
    os.killpg(first.pid, signal.SIGKILL)
    assert first.wait() == -signal.SIGKILL and len(outcomes(cut)) < 3, "it had not ended"
    while any(run.status == "running" for run in runs.find(cut)):  # its workers hold their locks until they are gone
        time.sleep(0.01)
    torch.set_num_threads(1)
    for root in (cut, whole):
        assert not executor.train_missing(studies.plan("table5", "smoke", [0], root)[:2], runs_root=root, device="cpu")
    assert outcomes(cut) == outcomes(whole) and len(outcomes(cut)) == 3
