"""`mdw data download` and `verify`, run for real: LSPET's address behind a mirror that holds a tiny archive."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest
from command import mistake, run
from local_server import serve, zipped

LSPET = {f"images/im{k:05d}.jpg": os.urandom(20_000 + k) for k in range(1, 6)} | {"joints.mat": b"mat"}


@pytest.fixture
def server():
    with serve(files={"/x/research/lspet_dataset.zip": zipped(LSPET)}) as server:
        yield server


def test_the_command_fetches_lspet_from_a_mirror_and_says_what_is_odd(server, tmp_path):
    command = ("data", "download", "lspet", "--root", tmp_path, "--mirror", f"{server.url}/x", "--keep-archives")
    status, output, _ = run(*command)
    assert status == 0 and "neither size nor checksum is published; 6 files" in output
    assert "note: 5 of 10,000 images/im*.jpg" in output and output.count("\n") == 1
    assert (tmp_path / "images/im00005.jpg").read_bytes() == LSPET["images/im00005.jpg"]
    assert (tmp_path / "lspet_dataset.zip").exists()
    assert "there already" in run(*command)[1]
    status, output, _ = run("data", "verify", "lspet", "--root", tmp_path, "--contents", "--json")
    (line,) = json.loads(output)
    assert status == 0 and line["state"] == "ok" and "size and CRC-32" in line["checked"]
    (tmp_path / "joints.mat").unlink()
    assert "images (broken)" in mistake("data", "verify", "lspet", "--root", tmp_path)


def test_the_commands_refuse_and_tell(server, tmp_path):
    root = ("--root", tmp_path)
    assert "there is coco, mpii, lsp, lspet" in mistake("data", "download", "x", *root)
    assert "it has annotations, test-info, val" in mistake("data", "verify", "coco", *root, "--part", "x")
    assert "--mirror" in mistake("data", "download", "coco", *root, "--mirror", "here")
    assert "answers 404" in mistake("data", "download", "lsp", *root, "--mirror", server.url)
    status, output, sentence = run("data", "verify", "coco", *root)
    assert status == 1 and output.count("absent") == 7 and "7 of 7 files" in sentence
    assert "104,125 entries" in output and "COCO_val2017_detections_AP_H_56_person.json" in output
    status, output, _ = run("data", "download", "coco", *root, "--part", "detections")
    assert status == 0 and "COCO_val2017_detections_AP_H_56_person.json: not at" in output
    assert "mdw data convert mpii" in run("data", "download", "mpii", *root, "--part", "json")[1]


def test_a_killed_download_goes_on(server, tmp_path):
    server.plan = [{"stall": 80_000}]
    command = [sys.executable, "-m", "mdw", "data", "download", "lspet", "--root", str(tmp_path), "--mirror", f"{server.url}/x"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    part = tmp_path / "lspet_dataset.zip.part"
    while process.poll() is None and not (part.exists() and part.stat().st_size):
        time.sleep(0.01)
    other = subprocess.run(command, capture_output=True, text=True)  # two at once
    assert other.returncode == 1 and re.fullmatch("mdw: another process is downloading lspet_dataset.zip .*\n", other.stderr)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    have = part.stat().st_size
    assert not (tmp_path / "images").exists()
    assert run(*command[3:])[0] == 0
    assert {name: (tmp_path / name).read_bytes() for name in LSPET} == LSPET
    assert server.first() == [0, have] and have > 0
