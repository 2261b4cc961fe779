"""Official checkpoints: names, ways of storing them, and outputs."""

import json

import numpy as np
import pytest
import torch
from command import mistake, run
from drawn import fill
from safetensors.torch import save_file

import mdw
from mdw.data.photos import photo_paths
from mdw.data.sample import read_image
from mdw.inference.predict import Predictor
from mdw.models import official
from mdw.models.hrnet import HighResolutionNet
from mdw.models.weights import load_network, save_weights
from mdw.pose.joints import COCO17, MPII16
from mdw.util.errors import MdwError


@pytest.fixture(scope="module")
def lite():
    """A state of Lite-HRNet-18 as MMPose's checkpoints have it: the backbone and the head apart."""
    state = fill(mdw.create_model("lite_hrnet_18")).float().state_dict()
    prefixes = {False: "backbone.", True: "keypoint_head."}
    return {prefixes[key.startswith(("head_layer", "final_layer"))] + key: value.numpy() for key, value in state.items()}


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


@pytest.mark.official
def test_lite_hrnet_18_gives_the_official_output(official_numbers):
    archive = official_numbers / "networks/lite_hrnet_18_coco.npz"
    model = official.load("lite_hrnet_18", archive)
    assert not model.training
    with np.load(archive) as file, torch.no_grad():
        x = torch.from_numpy(file["input"])
        single, double = model(x).numpy(), model.double()(x.double()).numpy()
        for ours, theirs, tolerance in ((single, file["output"], 1e-4), (double, file["output_float64"], 1e-12)):
            assert np.abs(ours - theirs).max() < tolerance * np.abs(theirs).max()


def test_the_described_network_gives_another_output(lite):
    model = mdw.create_model("lite_hrnet_18", mode="as_described").eval()
    released = official.load("lite_hrnet_18", lite)
    model.load_state_dict(released.state_dict())
    with torch.no_grad():
        y, theirs = (network(torch.ones(1, 3, 64, 64)) for network in (model, released))
    assert (y - theirs).abs().max() > theirs.std()


def test_every_way_of_storing_is_read(lite, tmp_path):
    reference = official.load("lite_hrnet_18", lite)
    tensors = {key: torch.from_numpy(np.asarray(value)) for key, value in lite.items()}
    torch.save({"meta": {"epoch": 210, "mmpose_version": "0.7.0"}, "state_dict": tensors, "optimizer": {"state": {}}},
               tmp_path / "mmcv.pth")  # fmt: skip
    torch.save({f"module.{key}": value for key, value in tensors.items()}, tmp_path / "parallel.tar")
    save_file({key: value.contiguous() for key, value in tensors.items()}, tmp_path / "plain.safetensors")
    np.savez(tmp_path / "plain.npz", **lite)
    for stored in ("mmcv.pth", "parallel.tar", "plain.safetensors", "plain.npz"):
        assert same(official.load("lite_hrnet_18", tmp_path / stored), reference), stored
    assert same(official.load("lite_hrnet_18", {"state_dict": tensors}), reference)
    bare = {key.removeprefix("backbone.").removeprefix("keypoint_head."): value for key, value in tensors.items()}
    assert same(official.load("lite_hrnet_18", bare), reference)


def test_counters_of_norms_may_be_absent(lite):
    model = official.load("lite_hrnet_18", {key: value for key, value in lite.items() if "num_batches_tracked" not in key})
    full = official.load("lite_hrnet_18", lite)
    weights = [(a, b) for (key, a), b in zip(model.state_dict().items(), full.state_dict().values(), strict=True)
               if "num_batches_tracked" not in key]  # fmt: skip
    assert all(torch.equal(a, b) for a, b in weights)


def test_what_does_not_fit_is_said_in_one_sentence(lite):
    with pytest.raises(MdwError) as error:
        official.load("lite_hrnet_18", {k: v for k, v in lite.items() if "final_layer" not in k} | {"odd.weight": np.zeros(3)})
    assert "2 missing (final_layer.weight, final_layer.bias); 1 extra (odd.weight)" in str(error.value)
    with pytest.raises(MdwError, match=r"final_layer.weight \(17, 40, 1, 1\) for \(16, 40, 1, 1\).*give num_joints"):
        official.load("lite_hrnet_18", lite, num_joints=16)
    with pytest.raises(MdwError, match="missing .*extra .*check the network's name"):
        official.load("dite_hrnet_18", lite)
    with pytest.raises(MdwError, match="no official weights to load for 'mdw_hrnet_18'"):
        official.load("mdw_hrnet_18", lite)
    with pytest.raises(MdwError, match="holds no weights"):
        official.load("lite_hrnet_18", {"state_dict": {}})


def test_files_that_cannot_be_read_are_named(tmp_path):
    with pytest.raises(MdwError, match="there is no weight file .*none.pth"):
        official.load("lite_hrnet_18", tmp_path / "none.pth")
    for name in ("cut.pth", "cut.npz", "cut.safetensors"):
        (tmp_path / name).write_bytes(b"PK\x03\x04 cut short")
        with pytest.raises(MdwError, match=f"{name} (cannot be read as a weight file|is not a whole safetensors file)"):
            official.load("lite_hrnet_18", tmp_path / name)
    torch.save({"state_dict": {"x": torch.zeros(1)}, "hook": print}, tmp_path / "code.pth")
    with pytest.raises(MdwError, match="code.pth holds more than tensors"):
        official.load("lite_hrnet_18", tmp_path / "code.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(MdwError, match="holds a list, not names with weights"):
        official.load("lite_hrnet_18", tmp_path / "list.pth")


def official_names(model, name):
    """Our state under the official names, by the rules of the papers' code rather than by those of `official`."""
    state = {}
    for key, value in model.state_dict().items():
        parts = key.split(".")
        if "naive" in name and parts[0].startswith("stage") and parts[2] == "layers":
            parts[3], parts[4] = parts[4], parts[3]
        if name.startswith(("hrnet", "small")):
            if parts[0] == "stem":
                parts = parts[1:]
            elif parts[0].startswith("transition"):
                parts[0] = f"transition{int(parts[0][10:]) + 1}"
            elif parts[0].startswith("stage"):
                parts[0] = f"stage{int(parts[0][5:]) + 2}"
                if parts[2] == "layers":
                    parts[2:5] = ["branches", parts[4], parts[3]]
        state[".".join(parts)] = value
    return state


@pytest.mark.parametrize("name", ["naive_lite_hrnet_18", "dite_hrnet_18", "small_hrnet"])
@pytest.mark.parametrize("prefixes", [("", ""), ("backbone.", "keypoint_head.")])
def test_translated_names_lead_back(name, prefixes):
    source = mdw.create_model(name, 16)
    state = official_names(source, name)
    state = {prefixes[key.startswith("final_layer")] + key: value for key, value in state.items()}
    assert same(official.load(name, state, num_joints=16), source)


def test_hrnet_loads_timms_weights_and_agrees():
    """An independent implementation with the official names: HRNet-W18-Small of timm is the trunk of our small HRNet."""
    import timm

    torch.manual_seed(0)
    theirs = timm.create_model("hrnet_w18_small", pretrained=False).eval()
    for module in theirs.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.2, 0.2)
            torch.nn.init.uniform_(module.running_var, 0.5, 2)
    ours = mdw.create_model("small_hrnet")
    wanted = official_names(ours, "small_hrnet").keys()
    state = {key: value for key, value in theirs.state_dict().items() if key in wanted}
    state |= {"final_layer.weight": torch.zeros(17, 16, 1, 1), "final_layer.bias": torch.zeros(17)}
    ours, theirs = official.load("small_hrnet", state).double(), theirs.double()
    assert isinstance(ours, HighResolutionNet)
    x = torch.randn(1, 3, 64, 96).double()
    with torch.no_grad():
        y = theirs.act2(theirs.bn2(theirs.conv2(theirs.act1(theirs.bn1(theirs.conv1(x))))))
        torch.testing.assert_close(ours.branches(x)[0], theirs.stages(y)[0], rtol=1e-9, atol=1e-9)


def test_simple_baseline_loads_the_original_names_and_agrees():
    """torchvision's ResNet-50 has the original's names and its stride in the 3x3 convolution."""
    from torchvision.models import resnet50

    theirs = resnet50(weights=None).eval()
    own = mdw.create_model("simple_baseline_50").state_dict()
    state = {key: value for key, value in theirs.state_dict().items() if not key.startswith("fc.")}
    state |= {key: value for key, value in own.items() if not key.startswith("backbone.")}
    ours, theirs = official.load("simple_baseline_50", state).double(), theirs.double()
    x = torch.randn(1, 3, 64, 64).double()
    with torch.no_grad():
        y = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(x))))
        y = theirs.layer4(theirs.layer3(theirs.layer2(theirs.layer1(y))))
        torch.testing.assert_close(ours.backbone(x)[-1], y, rtol=1e-9, atol=1e-9)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A checkpoint on disk, as official ones are, with weights whose heatmaps have the size that trained ones have."""
    path = tmp_path_factory.mktemp("official") / "litehrnet18_coco_256x192.pth"
    torch.manual_seed(0)
    state = mdw.create_model("lite_hrnet_18").state_dict()
    head = ("head_layer", "final_layer")
    tensors = {("keypoint_head." if key.startswith(head) else "backbone.") + key: value for key, value in state.items()}
    torch.save({"meta": {"epoch": 210}, "state_dict": tensors}, path)
    return path


def test_the_command_line_predicts_by_a_named_checkpoint(checkpoint, tmp_path):
    photo, named = photo_paths()[0], f"lite_hrnet_18={checkpoint}"
    status, output, _ = run("predict", photo, "--whole", "--weights", named, "--out", tmp_path, "--no-flip-test", "--json")
    (person,) = json.loads(output)
    direct = Predictor(official.load("lite_hrnet_18", checkpoint), COCO17, (192, 256), flip_test=False)
    (expected,) = direct([read_image(photo, upright=True)], [None])[0]
    assert status == 0 and person["joints"] == "coco17"
    np.testing.assert_allclose(np.reshape(person["keypoints"], (17, 3)), expected["keypoints"], rtol=1e-3, atol=1e-2)
    assert mdw.predict(photo, weights=named, flip_test=False)[0]["joints"] == COCO17.names
    larger = ("--size", "384x288", "--no-flip-test", "--json", "--out", tmp_path)
    other = json.loads(run("predict", photo, "--whole", "--weights", named, *larger)[1])
    assert other[0]["keypoints"] != person["keypoints"]


def test_the_command_line_measures_and_exports_a_named_checkpoint(checkpoint, tmp_path):
    named, truth = f"lite_hrnet_18={checkpoint}", json.loads((photo_paths()[0].parent / "person_keypoints.json").read_text())
    photo = truth["images"][0]
    truth["images"], truth["annotations"] = [photo], [a for a in truth["annotations"] if a["image_id"] == photo["id"]]
    (tmp_path / "annotations").mkdir()
    (tmp_path / "val2017").symlink_to(photo_paths()[0].parent)
    (tmp_path / "annotations/person_keypoints_val2017.json").write_text(json.dumps(truth))
    given = ("evaluate", "--data", "coco", "--root", tmp_path, "--no-flip-test", "--json", "--device", "cpu", "--weights")
    save_weights(tmp_path / "own.safetensors", official.load("lite_hrnet_18", checkpoint), {
        "model": "lite_hrnet_18", "options": {}, "joints": "coco17", "input_size": [192, 256],
    })  # fmt: skip
    theirs, ours = (run(*given, weights)[1] for weights in (named, tmp_path / "own.safetensors"))
    found = json.loads(theirs[theirs.index("{\n") :])
    assert found == json.loads(ours[ours.index("{\n") :]) and found["persons"] > 0

    if pytest.importorskip("onnxruntime", reason="the extra export is not installed"):
        out = tmp_path / "lite.onnx"
        status, output, sentence = run("export", "lite_hrnet_18", named, "--out", out, "--json")
        assert status == 0, sentence
        record = json.loads(output)
        assert out.is_file() and (record["height"], record["width"]) == (256, 192)
    assert "holds lite_hrnet_18, not hrnet_w32" in mistake("export", "hrnet_w32", named, "--out", tmp_path / "no.onnx")


def test_a_checkpoint_needs_its_networks_name_and_holds_tensors_alone(checkpoint, tmp_path):
    out = ("--out", tmp_path / "out")
    for command in (("predict", "--whole", *out), ("evaluate", "--data", "people")):
        sentence = mistake(*command, "--weights", checkpoint)
        assert f"name the network before an official checkpoint, as lite_hrnet_18={checkpoint.name}" in sentence
        assert "delete" not in sentence
        assert "does not exist; write lite_hrnet_18=FILE.pth" in mistake(*command, "--weights", "lite_hrnet_18=no.pth")
        assert "did you mean lite_hrnet_18?" in mistake(*command, "--weights", f"litehrnet_18={checkpoint}")
        assert "does not fit dite_hrnet_18" in mistake(*command, "--weights", f"dite_hrnet_18={checkpoint}")
        assert "no official weights to load for 'mdw_hrnet_18'" in mistake(*command, "--weights", f"mdw_hrnet_18={checkpoint}")
    torch.save({"state_dict": {}, "hook": print}, tmp_path / "code.pth")
    assert "could run code" in mistake("predict", "--whole", *out, "--weights", f"lite_hrnet_18={tmp_path / 'code.pth'}")
    assert not (tmp_path / "out").exists()


def test_joints_are_counted_in_the_checkpoint(tmp_path):
    torch.save(mdw.create_model("lite_hrnet_18", 16).state_dict(), tmp_path / "mpii.pth")
    _, joints, size = load_network(f"lite_hrnet_18={tmp_path / 'mpii.pth'}")
    assert joints is MPII16 and size == (256, 256)
    torch.save(mdw.create_model("lite_hrnet_18", 5).state_dict(), tmp_path / "hand.pth")
    with pytest.raises(MdwError, match="predicts 5 joints, neither COCO's 17 nor MPII's 16"):
        load_network(f"lite_hrnet_18={tmp_path / 'hand.pth'}")
