"""Weights files: whatever is no weights is said as such, and nothing that is not finite or another kind of number gets in."""

import io
import json
import random
import zipfile

import kills
import numpy as np
import pytest
import torch
from command import mistake
from safetensors.torch import save
from small_networks import small
from torch import nn

from mdw.models import official
from mdw.models.weights import load_network, load_weights, read_about, read_tensors
from mdw.util.errors import MdwError

ABOUT = {"model": "mdw_hrnet_18", "options": kills.PLAIN, "joints": "coco17", "input_size": [64, 96], "recipe": "x", "seed": 0}
NO_WEIGHTS = {  # content -> what is said
    b"": "is empty",
    b"<!DOCTYPE html><html>403 Forbidden": "is a web page",
    b'{"error": "not found"}': "is a web page or a message",
    b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n": "is a pointer of Git LFS.*git lfs pull",
}


@pytest.fixture(scope="module")
def lite():
    torch.manual_seed(0)
    return small("lite_hrnet_18").state_dict()


@pytest.fixture(autouse=True)
def small_ones(monkeypatch):
    """The doors build small networks."""
    monkeypatch.setattr(official, "create_model", lambda name, num_joints: small(name, num_joints))


@pytest.mark.parametrize("name", ["w.pth", "w.npz", "w.safetensors"])
@pytest.mark.parametrize(("content", "said"), NO_WEIGHTS.items())
def test_a_file_that_is_no_weights_is_said_as_such(name, content, said, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(MdwError, match=f"{name} {said}"):
        official.load("lite_hrnet_18", tmp_path / name)
    with pytest.raises(MdwError, match=f"{name} {said}"):
        load_network(tmp_path / name)


def changed(value: torch.Tensor) -> dict[str, object]:
    return {
        "not finite": torch.full_like(value, float("nan")),
        "int8": value.to(torch.int8),
        "complex64": value.to(torch.complex64),
        "<U1": np.array(["x"]),
        "datetime64": np.array(["2020-01-01"], dtype="datetime64[D]"),
        "object": np.array([object()]),
        "of another shape": torch.zeros(1).expand(10**12),
    }


def test_official_weights_are_finite_floating_point_numbers(lite):
    name = "stem.conv1.conv.weight"
    for said, value in changed(lite[name]).items():
        with pytest.raises(MdwError, match=f"{said}.*" if name in said else said) as error:
            official.load("lite_hrnet_18", lite | {name: value})
        assert name in str(error.value) and "\n" not in str(error.value)
    for dtype in (torch.float64, torch.float16):
        half = official.load("lite_hrnet_18", {key: v.to(dtype) if v.is_floating_point() else v for key, v in lite.items()})
        torch.testing.assert_close(half.state_dict()[name], lite[name], rtol=1e-3, atol=1e-3)


def test_a_dict_that_holds_itself_ends(lite):
    state: dict = {}
    state["state_dict"] = state
    with pytest.raises(MdwError, match="'state_dict' within another"):
        official.load("lite_hrnet_18", state)
    assert official.load("lite_hrnet_18", {"state_dict": {"state_dict": lite}})


def test_an_archive_is_as_large_as_it_says(tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (10**12,)})
    with zipfile.ZipFile(tmp_path / "w.npz", "w") as archive:
        archive.writestr("a.npy", header.getvalue() + bytes(4))
    with pytest.raises(MdwError, match="w.npz cannot be read.*1000000000000"):
        official.load("lite_hrnet_18", tmp_path / "w.npz")


def test_our_own_weights_are_finite_before_anything_is_written(tmp_path, monkeypatch):
    """`predict` with a NaN in the first layer; the same door refuses integers and what a file says of itself."""
    monkeypatch.setattr("mdw.models.weights.create_model", lambda name, joints, **options: small(name, joints, **options))
    state = small("mdw_hrnet_18", **kills.PLAIN).state_dict()
    name = next(iter(state))
    file, photo = tmp_path / "w.safetensors", tmp_path / "a.png"
    photo.write_bytes(b"")
    for value, said in ((state[name] * float("nan"), "is not finite"), (state[name].to(torch.int8), "holds int8")):
        file.write_bytes(save({**state, name: value}, {"mdw": json.dumps(ABOUT)}))
        assert f"{file}: {name} {said}" in mistake("predict", photo, "--weights", file, "--out", tmp_path / "out")
        assert not (tmp_path / "out").exists()
    for about in ("[]", "{", "[" * 100_000, json.dumps(ABOUT | {"input_size": [0, "x"]}), json.dumps(ABOUT | {"joints": [1]})):
        file.write_bytes(save(state, {"mdw": about}))
        with pytest.raises(MdwError, match="w.safetensors"):
            load_network(file)


def changes(content: bytes, rng: random.Random) -> bytes:
    """Flipped bytes, most of them in the header; something cut off, doubled or put in front."""
    changed = bytearray(content)
    for _ in range(rng.choice((0, 1, 3))):
        changed[rng.randrange(rng.choice((min(len(content), 120), len(content))))] = rng.randrange(256)
    cut = rng.choice((len(content), rng.randrange(len(content))))
    return rng.choice((b"", b"", b"", b"\n", content[:8])) + bytes(changed[:cut]) + rng.choice((b"", b"", b"\0"))


def test_any_change_of_a_weights_file_is_a_sentence_or_weights(tmp_path):
    """250 random changes of each kind of file, with a fixed seed: never another error, and what is loaded is finite."""
    rng, model = random.Random(0), nn.Conv2d(3, 2, 1)
    state, refused = model.state_dict(), 0
    (tmp_path / "w.safetensors").write_bytes(save(state, {"mdw": json.dumps(ABOUT)}))
    torch.save({"meta": {"epoch": 1}, "state_dict": state}, tmp_path / "w.pth")
    torch.save(state, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    np.savez(tmp_path / "w.npz", **{name: value.numpy() for name, value in state.items()})
    for name in ("w.safetensors", "w.pth", "old.pth", "w.npz"):
        content = (tmp_path / name).read_bytes()
        for _ in range(250):
            (tmp_path / name).write_bytes(changes(content, rng))
            try:
                if name == "w.safetensors":
                    read_about(tmp_path / name), read_tensors(tmp_path / name)
                    loaded = load_weights(tmp_path / name, model).state_dict()
                    assert all(value.isfinite().all() for value in loaded.values())
                else:
                    assert official._weights(official._read(tmp_path / name), name)
            except MdwError as error:
                assert "\n" not in str(error) and name in str(error) and len(str(error)) < 600
                refused += 1
    assert 400 < refused < 1000
