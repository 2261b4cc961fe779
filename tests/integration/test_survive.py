"""Whatever interrupts a run, the same command goes on, and what comes out is to the bit what would have come out anyway."""

import os
import re
import shutil
import signal
import subprocess

import kills
import pytest
import torch
from torch import nn

from mdw import data
from mdw.data.sample import Dataset, Sample
from mdw.inference.draw import write_image
from mdw.training import checkpoint, loop, runs
from mdw.training.diagnose import first_not_finite
from mdw.training.train import train
from mdw.util import files
from mdw.util.errors import MdwError, Stopped
from mdw.util.signals import listen

SPEC = kills.spec(steps=3, ema=0.9)


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def hang_up():
    """A closed terminal is told, also where the tests run under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What the run of SPEC comes to when nothing happens."""
    torch.set_num_threads(1)
    return kills.outcome(go(tmp_path_factory.mktemp("whole")))


def go(root, spec=SPEC, seconds=0.0):
    return train(spec, runs_root=root, device="cpu", quiet=True, checkpoint_seconds=seconds)


def at_step(monkeypatch, number, act):
    """Call `act(model)` before the `number`th step of this process."""
    steps, backward = [], loop.backward

    def acting(model, *rest):
        steps.append(1)
        if len(steps) == number:
            act(model)
        return backward(model, *rest)

    monkeypatch.setattr(loop, "backward", acting)


def stands(path):
    state = checkpoint.unpack(checkpoint.read(path)[0])[1]
    return state["epoch"], state["step"]


@pytest.mark.slow
def test_killed_at_random_moments(tmp_path):
    """MDW_KILLS=50 kills more often, over several runs; `-s` shows the log."""
    assert kills.main(int(os.environ.get("MDW_KILLS", 2)), tmp_path, say=lambda line: print(line, flush=True)) == 0


class Killed(BaseException):
    pass


def killing(k):
    """os.replace that ends the process at its call `k`, before or after the rename."""
    replace, calls = os.replace, []

    def one(source, target):
        calls.append(target)
        if len(calls) == k + 1 and k % 2:
            raise Killed
        replace(source, target)
        if len(calls) == k + 1:
            raise Killed

    return one


def test_killed_at_any_write_of_a_run(tmp_path, monkeypatch):
    """A life that ends at its k-th rename: no half-written state passes for whole, and the next life ends as if undisturbed."""
    spec, replace, renames = kills.spec(steps=1), os.replace, []
    monkeypatch.setattr(os, "replace", lambda source, target: (renames.append(target), replace(source, target)))
    undisturbed = kills.outcome(go(tmp_path / "whole", spec, 300))
    assert len(renames) > 12
    kept = {"recipe.json", "env.json", "metrics.jsonl", "persons.csv", "result.json", "predictions.json", ".lock"}
    kept.add("weights.safetensors")
    for k in range(0, len(renames), 3):
        monkeypatch.setattr(os, "replace", replace)
        monkeypatch.setattr(os, "replace", killing(k))
        with pytest.raises(Killed):
            go(tmp_path / str(k), spec, 300)
        monkeypatch.setattr(os, "replace", replace)
        run = go(tmp_path / str(k), spec, 300)
        assert kills.outcome(run) == undisturbed, renames[k]
        assert {p.name for p in run.path.iterdir()} == kept


def test_killed_at_every_rename_of_a_checkpoint(tmp_path, monkeypatch):
    """What is read is one of the last two states, and nothing is said to be damaged."""
    for k in range(3):
        folder = tmp_path / str(k)
        for step in (1, 2):
            checkpoint.save(folder, {"a": torch.full((2,), step)}, {"epoch": 0, "step": step})
        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(os, "replace", killing(k))
            checkpoint.save(folder, {"a": torch.full((2,), 3)}, {"epoch": 0, "step": 3})
        content, told = checkpoint.read(folder)
        tensors, state = checkpoint.unpack(content)
        assert told is None and state["step"] in (2, 3) and (tensors["a"] == state["step"]).all()


@pytest.mark.parametrize("signal_", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_saves_and_says_how_to_go_on(tmp_path, monkeypatch, whole, signal_):
    with monkeypatch.context() as patch:
        at_step(patch, 5, lambda model: os.kill(os.getpid(), signal_))
        with pytest.raises(Stopped, match=rf"{signal_.name}.*saved in epoch 2, step 2 of 3; the same command goes on"):
            go(tmp_path, seconds=300)
    assert stands(runs.folder(SPEC, tmp_path)) == (1, 2)
    assert runs.Run(runs.folder(SPEC, tmp_path)).status == "interrupted"
    torch.manual_seed(99)  # the state of the process must not matter
    assert kills.outcome(go(tmp_path)) == whole


def test_a_second_ctrl_c_interrupts_at_once_and_handlers_come_back(monkeypatch):
    before = signal.getsignal(signal.SIGINT)
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    with listen() as asked:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)  # torchrun's copy of the first
        assert asked == ["SIGINT"]
        now[0] += 3
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_a_closed_terminal_does_not_keep_a_run_from_being_saved(tmp_path, monkeypatch):
    """SIGHUP comes when the terminal has gone: whatever is then said there fails."""

    class Terminal:
        encoding, closed = "utf-8", False

        def write(self, text):
            if Terminal.closed:
                raise OSError(5, "Input/output error")

        def flush(self):
            self.write("")

        def isatty(self):
            return True

    def close(model):
        Terminal.closed = True
        os.kill(os.getpid(), signal.SIGHUP)

    monkeypatch.setattr("mdw.training.progress.sys.stderr", Terminal())
    at_step(monkeypatch, 2, close)
    with pytest.raises(Stopped, match="SIGHUP.*saved"):
        train(SPEC, runs_root=tmp_path, device="cpu", checkpoint_seconds=300)
    assert stands(runs.folder(SPEC, tmp_path)) == (0, 2)


def test_nohup_is_left_alone():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with listen() as asked:
            os.kill(os.getpid(), signal.SIGHUP)
        assert asked == []
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("moved", [True, False])
def test_a_folder_that_is_moved_or_removed_is_noticed_at_the_next_save(tmp_path, monkeypatch, moved):
    """Moved back, it goes on from its last checkpoint."""
    path, away = runs.folder(SPEC, tmp_path), tmp_path / "away"
    act = (lambda model: path.rename(away)) if moved else (lambda model: shutil.rmtree(path))
    with monkeypatch.context() as patch:
        at_step(patch, 3, act)
        with pytest.raises(MdwError, match="was moved, removed or replaced while its run was trained; move it back"):
            go(tmp_path)
    assert not path.exists()
    if moved:
        away.rename(path)
        assert stands(path) == (0, 2)


def test_a_checkpoint_with_a_right_checksum_and_a_wrong_state_is_not_gone_on_from(tmp_path, monkeypatch, whole):
    """The one before it is used; without one, a sentence says what does not fit."""
    path = stopped_at(tmp_path, monkeypatch, 3)
    newest, previous = path / checkpoint.NEWEST, path / checkpoint.PREVIOUS
    content, older = newest.read_bytes(), previous.read_bytes()
    tensors, state = checkpoint.unpack(content)
    name = next(name for name in tensors if name.startswith("model."))
    moment = next(name for name in tensors if name.endswith("exp_avg"))
    model = {key: value for key, value in tensors.items() if not key.startswith("optimizer.")}
    wrong = {
        "step 999": (tensors, state | {"step": 999}),
        "updates": (model, state),
        "does not fit its network": ({**tensors, name: tensors[name].to(torch.int8)}, state),
        " updates": ({**tensors, moment: tensors[moment][:1]}, state),
        "  updates": (tensors, state | {"step": 2}),
        "   updates": ({**tensors, moment.removesuffix("exp_avg") + "step": torch.ones(2)}, state),
        "finite": (tensors, state | {"total": None}),
        "does not tell of 1 epochs": (tensors, state | {"epoch": 1, "step": 0}),
        "step None": (tensors, {}),
    }
    for told, (tensors_, state_) in wrong.items():
        previous.unlink(missing_ok=True)
        newest.unlink()
        checkpoint.save(path, tensors_, state_ if state_ else {"epoch": 0})
        with pytest.raises(MdwError, match=rf"is of another run.*{told.strip()}.*delete"):
            go(tmp_path)
    previous.write_bytes(older)
    assert kills.outcome(go(tmp_path)) == whole


def stopped_at(root, monkeypatch, step):
    with monkeypatch.context() as patch:
        at_step(patch, step, lambda model: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(Stopped):
            go(root)
    return runs.folder(SPEC, root)


def test_a_damaged_checkpoint_is_noticed_and_the_one_before_is_used(tmp_path, monkeypatch, capsys, whole):
    path = stopped_at(tmp_path, monkeypatch, 3)
    newest = path / checkpoint.NEWEST
    content = newest.read_bytes()
    flipped = bytearray(content)
    flipped[-1000] ^= 1
    for bad in (content[:-7], b"", b"\x80\x04N.", content[:100], bytes(flipped)):
        newest.write_bytes(bad)
        assert stands(path) == (0, 2)
    run = train(SPEC, runs_root=tmp_path, device="cpu", bar=False)
    told = capsys.readouterr().err
    assert re.search(r"checkpoint.safetensors is damaged.*going on from the checkpoint before it, epoch 1, step 2", told)
    assert kills.outcome(run) == whole


def test_no_whole_checkpoint_is_a_sentence_and_not_a_new_beginning(tmp_path, monkeypatch):
    path = stopped_at(tmp_path, monkeypatch, 3)
    for name in (checkpoint.NEWEST, checkpoint.PREVIOUS):
        (path / name).write_bytes((path / name).read_bytes()[:-1])
    with pytest.raises(
        MdwError, match=r"checkpoint.safetensors is damaged.*previous.*is damaged.*delete .* to begin this run anew"
    ):
        go(tmp_path)


def test_a_checkpoint_gives_back_what_was_put_in(tmp_path):
    tensors = {"a": torch.randn(3, 1, 2), "b": torch.arange(5), "c": torch.tensor(2.5), "d": torch.zeros(0)}
    state = {"epoch": 3, "step": 2, "total": 0.1 + 0.2, "lines": [{"loss": 1 / 3}]}
    checkpoint.save(tmp_path, tensors, state)
    found, values = checkpoint.unpack(checkpoint.read(tmp_path)[0])
    assert values == state and found.keys() == tensors.keys()
    assert all(torch.equal(found[name], tensors[name]) for name in tensors)
    with pytest.raises(MdwError, match="a is no longer finite in epoch 4, step 2"):
        checkpoint.save(tmp_path, {"a": torch.tensor([1.0, float("nan")])}, state)
    assert torch.equal(checkpoint.unpack(checkpoint.read(tmp_path)[0])[0]["a"], tensors["a"])


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 36 MB and a function that changes its options; SPEC's checkpoint has 14."""
    place = tmp_path / "disk"
    place.mkdir()

    def mount(*options):
        return subprocess.run(["mount", *options, str(place)], capture_output=True).returncode if shutil.which("mount") else 1

    if mount("-t", "tmpfs", "-o", "size=36m", "tmpfs"):
        pytest.skip("this user cannot mount a tmpfs here")
    yield place, lambda options: mount("-o", f"remount,{options}")
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk_ends_with_a_sentence_and_a_run_that_goes_on(small_disk, whole):
    place, remount = small_disk
    with pytest.raises(MdwError, match="cannot write .*: No space left on device; make room there and give the same command"):
        go(place)
    path = runs.folder(SPEC, place)
    assert stands(path) == (0, 2) and not list(path.glob(".checkpoint*"))
    assert remount("size=64m") == 0
    assert kills.outcome(go(place)) == whole


def test_a_folder_that_becomes_read_only_ends_with_a_sentence(small_disk, monkeypatch, whole):
    place, remount = small_disk
    remount("size=64m")
    path = stopped_at(place, monkeypatch, 2)
    assert remount("ro") == 0
    with pytest.raises(MdwError, match="cannot write .*: Read-only file system; choose a place that can be written"):
        go(place)
    remount("rw")
    assert stands(path) == (0, 2)
    assert kills.outcome(go(place)) == whole


def test_data_that_vanishes_end_with_a_sentence(tmp_path, monkeypatch):
    """Images on a disk that goes away in the second epoch and comes back."""
    folder, away, load = tmp_path / "images", tmp_path / "away", data.load

    def on_disk(name, split, *_, **__):
        people = load("people", split, count=12 if split == "train" else 4, size=(64, 96))
        samples = []
        for k, sample in enumerate(people.samples):
            file = folder / f"{split}{k}.png"
            if not file.exists() and not away.exists():
                write_image(file, sample.pixels())
            fields = ("image_id", "person_id", "center", "scale", "joints", "visible", "area", "box_score", "box_wh")
            samples.append(Sample(file, **{name: getattr(sample, name) for name in fields}))
        return Dataset(people.name, people.joints, tuple(samples), ground_truth=people.ground_truth)

    monkeypatch.setattr("mdw.training.train.data.load", on_disk)
    undisturbed = kills.outcome(go(tmp_path / "whole"))
    with monkeypatch.context() as patch:
        at_step(patch, 4, lambda model: folder.rename(away))
        with pytest.raises(MdwError, match="the image .*images.* does not exist; check the data folder"):
            go(tmp_path / "cut", seconds=300)
    assert stands(runs.folder(SPEC, tmp_path / "cut"))[0] == 1
    away.rename(folder)
    assert kills.outcome(go(tmp_path / "cut")) == undisturbed


def test_numbers_that_are_not_finite_stop_the_run_at_its_last_good_state(tmp_path, monkeypatch, whole):
    def poison(model):
        with torch.no_grad():
            model.stem.conv1.conv.weight[0] = float("nan")

    with monkeypatch.context() as patch:
        at_step(patch, 5, poison)
        with pytest.raises(
            MdwError, match=r"the loss is nan in epoch 2, step 2 \(rate .*first stem.conv1.conv.weight; lower.*--set lr"
        ):
            go(tmp_path)
    assert stands(runs.folder(SPEC, tmp_path)) == (1, 1)
    assert kills.outcome(go(tmp_path)) == whole


class Function(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        ([nn.Conv2d(3, 2, 1), Function(lambda x: (-x.square() - 1).log()), nn.ReLU()], r"the output of 1 \(Function\)"),
        ([nn.Conv2d(3, 2, 1), Function(lambda x: (x * 0).sqrt()), nn.ReLU()], "the gradient at the output of 0"),
        ([nn.Conv2d(3, 2, 1), nn.ReLU()], "did not happen again"),
    ],
)
def test_where_numbers_stop_being_finite_is_named(parts, told):
    assert re.search(told, first_not_finite(nn.Sequential(*parts), torch.randn(2, 3, 4, 4), torch.sum))


def test_what_killed_writers_left_is_swept_and_nothing_else(tmp_path):
    for name in (".recipe.json.0a1b2c3d", ".lock", "recipe.json", ".hidden.txt", "checkpoint.safetensors"):
        (tmp_path / name).write_text("x")
    files.sweep(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {".lock", "recipe.json", ".hidden.txt", "checkpoint.safetensors"}
