"""Several processes compute what one does, and a job whose worker is killed ends all the same."""

from dataclasses import replace

import kills
import numpy as np
import pytest
import several
import torch

from mdw import data
from mdw.training import recipes, runs
from mdw.training.batches import TrainingBatches
from mdw.training.distributed import World
from mdw.training.train import train
from mdw.util.errors import MdwError

SMOKE = recipes.get("smoke")


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.mark.parametrize("length", [0, 1, 7, 32])
@pytest.mark.parametrize("size", [1, 2, 3, 8])
def test_shares_are_disjoint_and_together_everything(length, size):
    things = np.arange(length)
    shares = [World(rank, size).local(things) for rank in range(size)]
    assert np.array_equal(np.concatenate(shares), things)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize(("size", "accumulate", "begin"), [(1, 1, 0), (2, 1, 0), (2, 2, 1), (3, 2, 0)])
def test_an_epoch_covers_every_sample_once(monkeypatch, size, accumulate, begin):
    """Whatever the number of processes and parts and wherever it is taken up, a step has the same samples in the same order."""
    people = data.load("people", "train", count=29, size=SMOKE.input_size)
    recipe = replace(SMOKE, batch_size=8, accumulate=accumulate, drop_last=False)
    source = TrainingBatches(people, recipe, seed=1)
    monkeypatch.setattr(source, "batch", lambda epoch, indices: list(indices), raising=True)
    order = np.random.default_rng([1, 5]).permutation(29)
    parts = zip(*(source.epoch(5, begin, World(rank, size).local) for rank in range(size)), strict=True)
    steps = [[index for share in part for index in share] for part in parts]
    assert len(steps) == accumulate * (4 - begin) and source.sizes == [8, 8, 8, 5]
    assert [index for step in steps for index in step] == order[8 * begin :].tolist()


def test_two_processes_train_as_one_does(tmp_path):
    """Shares of 2 and 3 persons: the first update's gradient, the running statistics before it, and the loss of every epoch.

    In double precision, where only rounding is left to differ. Weights are not compared: the loss is blind to some, as to the
    bias of a norm before another norm, and Adam turns the rounding of their gradients, which are 0, into steps of full size.
    """
    spec = kills.spec(steps=3, batch_size=5, accumulate=1, train_options={"count": 15, "size": [64, 96]})
    several.train_exactly(spec, str(tmp_path / "one"), str(tmp_path / "one.npz"))
    several.start_two(several.train_exactly, spec, str(tmp_path / "two"), str(tmp_path / "two.npz"))
    one, two = (np.load(tmp_path / name) for name in ("one.npz", "two.npz"))
    assert one["gradients"].dtype == np.float64
    np.testing.assert_allclose(two["gradients"], one["gradients"], rtol=0, atol=1e-12 * np.abs(one["gradients"]).max())
    np.testing.assert_allclose(two["statistics"], one["statistics"], rtol=1e-9, atol=1e-12)
    one, two = (runs.Run(runs.folder(spec, tmp_path / name)) for name in ("one", "two"))
    assert (one.env["processes"], two.env["processes"]) == (1, 2)
    for alone, shared in zip(one.metrics(), two.metrics(), strict=True):
        assert shared["loss"] == pytest.approx(alone["loss"], rel=1e-9) and shared["samples"] == alone["samples"] == 15


def test_a_shared_validation_is_the_same_to_the_bit(tmp_path):
    spec = kills.spec(metric="pck", val_options={"count": 70, "size": [64, 96]})
    several.validate(spec, str(tmp_path / "one.npz"))
    several.start_two(several.validate, spec, str(tmp_path / "two.npz"))
    one, two = np.load(tmp_path / "one.npz"), np.load(tmp_path / "two.npz")
    assert one["xy"].shape == (70, 17, 2)
    assert all(np.array_equal(one[name], two[name]) for name in one.files)


@pytest.mark.slow
def test_a_job_whose_worker_is_killed_ends_as_if_nothing_had_happened(tmp_path):
    """torchrun's own agent, two processes: weights, metrics, result and predictions as if undisturbed, to the bit."""
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    kills.context()
    for name, deadly in (("whole", False), ("killed", True)):
        config = LaunchConfig(
            1, 1, 2, rdzv_backend="c10d", rdzv_endpoint="127.0.0.1:0", max_restarts=1, start_method="forkserver"
        )
        (tmp_path / name).mkdir()
        elastic_launch(config, several.train_and_die)(several.SMALL, str(tmp_path / name), deadly)
    assert (tmp_path / "killed/died").exists() and not (tmp_path / "whole/died").exists()
    whole, killed = (runs.Run(runs.folder(several.SMALL, tmp_path / name)) for name in ("whole", "killed"))
    assert kills.outcome(whole) == kills.outcome(killed)
    assert whole.env["processes"] == killed.env["processes"] == 2


def test_a_batch_too_small_to_be_split_is_refused(tmp_path):
    spec = kills.spec(accumulate=3, drop_last=False, train_options={"count": 6, "size": [64, 96]})
    with pytest.raises(MdwError, match="batch of 2 persons.*drop_last"):
        train(spec, runs_root=tmp_path, device="cpu", quiet=True)
