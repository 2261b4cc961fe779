"""People in images: whichever way the boxes come, photos as phones store them, many people at once."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image, ImageOps
from torch import nn
from torchvision import models
from typer.testing import CliRunner

import mdw
from mdw.cli import app
from mdw.data.photos import photos
from mdw.data.sample import image_shape, read_image
from mdw.inference.boxes import check_boxes, find_files, read_boxes
from mdw.inference.detector import DEFAULT, load_detector
from mdw.inference.draw import COLOURS, SURE, WARNING, caption
from mdw.inference.predict import CHUNK, Predictor, image_ids, load_predictor, predict_files
from mdw.pose.joints import LSP14
from mdw.util.errors import MdwError

SMALL = "ssdlite320_mobilenet_v3_large"


class Brightest(nn.Module):
    """Stands for a network: each joint's map is the crop's red, so that every joint is there. Notes its batches."""

    def __init__(self):
        super().__init__()
        self.batches = []

    def forward(self, x):
        self.batches.append(len(x))
        return nn.functional.avg_pool2d(x[:, :1] + 3, 4).repeat(1, LSP14.num_joints, 1, 1)


@pytest.fixture
def predictor():
    return Predictor(Brightest(), LSP14, (96, 128), flip_test=False)


def dots(places, shape=(240, 320)):
    """An image, red at these places and less so around them."""
    image, line = np.zeros((*shape, 3), np.uint8), np.exp(-(np.arange(-4, 5) ** 2) / 18)
    for x, y in places:
        image[y - 4 : y + 5, x - 4 : x + 5, 0] = 255 * np.outer(line, line)
    return image


def test_many_people_share_few_batches_and_keep_their_places(predictor):
    places = [(x, y) for y in range(20, 220, 22) for x in range(20, 300, 22)]
    boxes = [(x - 9, y - 10, 15, 20) for x, y in places]  # each a few pixels off the dot's centre
    half = len(places) // 2
    people = predictor([dots(places), dots(places)], [boxes[:half], boxes[half:]])
    assert [len(found) for found in people] == [half, len(places) - half]
    got = [person["keypoints"][0, :2] for found in people for person in found]
    np.testing.assert_allclose(got, places, atol=1.5)
    full, rest = divmod(len(places), 32)
    assert predictor.model.batches == [32] * full + ([rest] if rest else [])


def test_photos_do_not_gather_in_memory(tmp_path, predictor, monkeypatch):
    import weakref

    alive, most = [], []

    def read(path, upright=False):
        pixels = read_image(path, upright)
        most.append(sum(image() is not None for image in alive))
        alive.append(weakref.ref(pixels))
        return pixels

    monkeypatch.setattr("mdw.inference.predict.read_image", read)
    files = [tmp_path / f"{k}.png" for k in range(40)]
    for file in files:
        Image.fromarray(dots([(100, 100)])).save(file)
    predict_files(files, tmp_path / "out", predictor)
    assert len(alive) == len(list((tmp_path / "out").glob("*.overlay.png"))) == 40  # each is decoded once
    assert max(most) <= 3 * CHUNK + 1  # those ahead, those in the network, those that are drawn


def test_a_photo_cut_short_leaves_nothing(tmp_path, predictor):
    files = [tmp_path / f"{k}.jpg" for k in range(9)]
    for file in files:
        Image.fromarray(dots([(100, 100)])).save(file)
    files[7].write_bytes(files[7].read_bytes()[:-200])
    with pytest.raises(MdwError, match="7.jpg is damaged or cut short"):
        predict_files(files, tmp_path / "out", predictor)
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_header_tells_the_shape(tmp_path, orientation):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    Image.fromarray(dots([(200, 60)])).save(tmp_path / "photo.jpg", exif=exif)
    for upright in (False, True):
        assert image_shape(tmp_path / "photo.jpg", upright) == read_image(tmp_path / "photo.jpg", upright).shape[:2]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photo_is_turned_as_its_camera_was_held(tmp_path, predictor, orientation):
    stored, path = dots([(200, 60)]), tmp_path / "photo.png"
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    Image.fromarray(stored).save(path, exif=exif)
    upright = np.array(ImageOps.exif_transpose(Image.open(path)))
    assert np.array_equal(read_image(path, upright=True), upright) and np.array_equal(read_image(path), stored)

    (entry,) = predict_files([path], tmp_path / "out", predictor)
    y, x = np.argwhere(upright[..., 0]).mean(axis=0)
    np.testing.assert_allclose(entry["keypoints"][:2], (x, y), atol=12)  # a pixel of the map is 17 wide here
    drawn = read_image(tmp_path / "out/photo.overlay.png")
    assert drawn.shape[1:] == upright.shape[1:] and np.abs(drawn[: len(upright)].astype(int) - upright).mean() < 20
    assert len(drawn) > len(upright)  # the legend is below it


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_an_orientation_that_cannot_be_read_is_none(tmp_path):
    path = tmp_path / "photo.jpg"
    Image.fromarray(dots([(200, 60)])).save(path, exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xff nothing of this is a table")
    assert read_image(path, upright=True).shape == (240, 320, 3)


@pytest.mark.parametrize("kind", ["grey", "transparent", "16 bit", "palette", "cmyk"])
def test_pictures_of_every_kind_under_names_of_every_kind(tmp_path, kind):
    grey = np.full((90, 70), 30, np.uint8)
    grey[40:60, 20:40] = 220
    image = Image.fromarray(grey)
    made = {
        "grey": lambda: image,
        "transparent": lambda: Image.merge("RGBA", [image, image, image, Image.new("L", image.size, 255)]),
        "16 bit": lambda: Image.fromarray(grey.astype(np.uint16) * 257),
        "palette": lambda: image.convert("RGB").quantize(8),
        "cmyk": lambda: image.convert("RGB").convert("CMYK"),
    }[kind]()
    path = tmp_path / "Fußball 走る" / f"läufer é.{'jpg' if kind == 'cmyk' else 'png'}"
    path.parent.mkdir()
    made.save(path)
    predictor = Predictor(Brightest(), LSP14, (96, 128), flip_test=False)
    (entry,) = predict_files([path], tmp_path / "øut", predictor)
    assert 20 <= entry["keypoints"][0] <= 40 and 40 <= entry["keypoints"][1] <= 60
    assert json.loads((tmp_path / "øut/predictions.json").read_text(encoding="utf-8"))[0]["file_name"] == path.name
    assert (tmp_path / "øut" / f"{path.stem}.overlay{path.suffix}").exists()


def test_results_are_coco_results(tmp_path, predictor):
    """pycocotools reads them and takes them for poses, which an entry with a "bbox" would not be."""
    from pycocotools.coco import COCO

    people = photos()
    files = sorted({sample.image for sample in people})[:2]
    boxes = read_boxes(people.ground_truth)
    entries = predict_files(files, tmp_path, predictor, boxes)
    loaded = COCO(people.ground_truth).loadRes(str(tmp_path / "predictions.json")).anns.values()
    spread = [np.ptp(np.reshape(entry["keypoints"], (-1, 3))[:, :2], axis=0) for entry in entries]
    np.testing.assert_allclose([entry["area"] for entry in loaded], np.prod(spread, axis=1), atol=0.1)
    assert {entry["joints"] for entry in entries} == {"lsp14"} and len(entries) == sum(len(boxes[f.name]) for f in files)


def test_numbers_of_photos_are_their_names_only_where_all_have_one(tmp_path):
    named = [tmp_path / "000000000785.jpg", tmp_path / "12.png"]
    assert list(image_ids(named).values()) == [785, 12]
    assert list(image_ids([*named, tmp_path / "party.jpg"]).values()) == [1, 2, 3]
    assert list(image_ids([tmp_path / "a/7.jpg", tmp_path / "b/7.jpg"]).values()) == [1, 2]


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """A folder of torch's with weights for one small detector: random, with biases that call everything a person."""
    torch.manual_seed(0)
    model = models.get_model(SMALL, weights=None, weights_backbone=None)
    for level, layers in enumerate(model.head.classification_head.module_list):
        layers[-1].bias.data.view(-1, 91)[:, 1] += 5 if level < 4 else 7  # small ones less surely than large ones
    folder = tmp_path_factory.mktemp("torch")
    (folder / "hub/checkpoints").mkdir(parents=True)
    file = models.get_model_weights(SMALL).DEFAULT.url.rpartition("/")[2]
    torch.save(model.state_dict(), folder / "hub/checkpoints" / file)
    return folder


def test_a_detector_finds_the_people_that_are_then_posed(hub, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(hub))
    detector = load_detector(SMALL)
    detector.model.topk_candidates, detector.model.detections_per_img = 60, 12
    images = [
        np.random.default_rng(k).integers(0, 255, (h, w, 3), dtype=np.uint8) for k, (h, w) in enumerate([(120, 200), (90, 60)])
    ]
    found = detector(images)
    for image, boxes in zip(images, found, strict=True):
        assert len(boxes) and (np.diff(boxes[:, 4]) <= 0).all() and (boxes[:, 4] >= 0.5).all()
        check_boxes(boxes[:, :4], image.shape)
        low, high = boxes[:, :2], boxes[:, :2] + boxes[:, 2:4]
        assert (low >= 0).all() and (high <= np.array(image.shape[1::-1]) + 1e-3).all()
    first = load_predictor(detector=detector, flip_test=False)(images, [None, [(0, 0, 60, 90)]])
    assert [person["box"] for person in first[0]] == [tuple(box[:4]) for box in found[0]]
    assert [person["box_score"] for person in first[0]] == found[0][:, 4].tolist()
    assert [person["box"] for person in first[1]] == [(0, 0, 60, 90)] and first[1][0]["box_score"] == 1
    alone = mdw.predict(images[0], boxes=found[0][:, :4], flip_test=False)  # the same people, now by their boxes
    np.testing.assert_allclose([p["keypoints"] for p in alone], [p["keypoints"] for p in first[0]], atol=1e-4)


@pytest.fixture
def fetched(tmp_path, monkeypatch):
    """A folder of torch's with weights of the default detector: random, so that it finds something, or nothing."""
    file = models.get_model_weights(DEFAULT).DEFAULT.url.rpartition("/")[2]
    (tmp_path / "torch/hub/checkpoints").mkdir(parents=True)
    torch.manual_seed(0)
    model = models.get_model(DEFAULT, weights=None, weights_backbone=None)
    model.roi_heads.box_predictor.cls_score.bias.data[1] += 5  # everything is a person
    torch.save(model.state_dict(), tmp_path / "torch/hub/checkpoints" / file)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


def command(*arguments, answer=None):
    """(JSON, what was said) of `mdw predict`; with an answer at a terminal."""
    done = CliRunner().invoke(app, ["predict", *map(str, arguments), "--no-flip-test", "--json"], input=answer)
    assert done.exit_code == 0, done.exception
    return json.loads(done.stdout[done.stdout.index("[") :]), done.stderr


@pytest.fixture
def terminal(monkeypatch):
    """Somebody sits there."""
    monkeypatch.setattr("mdw.cli.predict._at_terminal", lambda: True)
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nobody listens there


@pytest.fixture
def photo(tmp_path):
    Image.fromarray(dots([(100, 100), (200, 60)])).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def test_people_are_found_by_default_where_the_weights_are(tmp_path, photo, fetched):
    people, said = command(photo, "--out", tmp_path / "out")
    assert len(people) > 1 and {p["box_from"] for p in people} == {DEFAULT} and not said
    assert all(p["box"][2:] != [320, 240] and p["box_score"] < 1 and "warning" not in p for p in people)
    asked, _ = command(photo, "--out", tmp_path / "out", "--detector", DEFAULT)
    assert asked == people
    whole, said = command(photo, "--out", tmp_path / "out", "--whole")  # nobody is looked for, and nothing is missing
    assert [p["box"] for p in whole] == [[0, 0, 320, 240]] and whole[0]["box_from"] == "whole image" and not said
    assert "warning" not in whole[0] and not warned(tmp_path / "out/photo.overlay.png")
    boxed, _ = command(photo, "--out", tmp_path / "out", "--box", "1,2,30,40")
    assert [p["box"] for p in boxed] == [[1, 2, 30, 40]] and boxed[0]["box_from"] == "given"


def warned(path):
    """Whether a bright strip goes from side to side below the image, which is 240 pixels high."""
    return bool((read_image(path)[242:, [0, 1, -2, -1]] == WARNING).all(-1).all(-1).any())


@pytest.mark.parametrize("answer", [None, "n\n", "y\n"], ids=["no terminal", "refused", "no connection"])
def test_without_a_detector_the_whole_image_is_taken_and_says_so(tmp_path, photo, monkeypatch, request, answer):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "empty"))
    if answer:
        request.getfixturevalue("terminal")
    (person,), said = command(photo, "--out", tmp_path / "out", answer=answer)
    assert person["box"] == [0, 0, 320, 240] and person["box_from"] == "whole image"
    assert "not looked for" in person["warning"]
    assert said.count("mdw: people were not looked for") == 1 and DEFAULT in said
    assert ("Fetch its weights, 74 MB from https://download.pytorch.org/models/" in said) == bool(answer)
    assert warned(tmp_path / "out/photo.overlay.png")
    assert json.loads((tmp_path / "out/predictions.json").read_text())[0]["warning"] == person["warning"]
    assert "warning" not in mdw.predict(photo, flip_test=False)[0]  # from Python nothing else was promised


def test_a_video_says_so_too(tmp_path, monkeypatch):
    import cv2

    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "empty"))
    writer = cv2.VideoWriter(str(tmp_path / "clip.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 10, (320, 240))
    for _ in range(2):
        writer.write(dots([(100, 100)]))
    writer.release()
    _, said = command(tmp_path / "clip.avi", "--out", tmp_path / "out")
    assert said.count("people were not looked for") == 1
    line = json.loads((tmp_path / "out/clip.poses.jsonl").read_text().splitlines()[1])
    assert "not looked for" in line["people"][0]["warning"]


def test_calls_into_one_folder_keep_each_others_people(tmp_path, predictor):
    files = [tmp_path / name for name in ("a.png", "b.png", "7.png", "a.jpg")]
    for file in files:
        Image.fromarray(dots([(100, 100)])).save(file)
    out = tmp_path / "out"
    a, b, seven, other = files
    predict_files([a], out, predictor)
    predict_files([b, seven], out, predictor, {"b.png": [(60, 60, 90, 90)] * 2})
    kept = json.loads((out / "predictions.json").read_text())
    assert [(p["file_name"], p["image_id"]) for p in kept] == [("a.png", 1), ("b.png", 2), ("b.png", 2), ("7.png", 3)]
    predict_files([b], out, predictor)  # again, now one person's
    kept = json.loads((out / "predictions.json").read_text())
    assert sorted(p["file_name"] for p in kept) == ["7.png", "a.png", "b.png"]
    assert len({p["image_id"] for p in kept}) == 3
    with pytest.raises(MdwError, match="would both be written as a.overlay"):
        predict_files([other], out, predictor)
    (out / "predictions.json").write_text('{"mine": 1}')
    with pytest.raises(MdwError, match="is not what an earlier call has left there"):
        predict_files([a], out, predictor)
    assert (out / "predictions.json").read_text() == '{"mine": 1}'


def test_what_is_not_sure_is_not_drawn_and_who_is_not_is_framed(predictor):
    grey = np.full((300, 400, 3), 120, np.uint8)
    xy = np.stack([np.linspace(40, 360, 14), np.linspace(20, 280, 14)], 1)

    def drawn(scores, **options):
        scores = np.asarray(scores, float)
        person = {"keypoints": np.column_stack([xy, scores]), "score": scores.mean(), "box": (20, 10, 360, 280)}
        return predictor.draw(grey, [person], **options)[:300]

    sure = np.full(14, 0.9)
    weak = np.where(np.arange(14) == 3, SURE - 0.01, sure)
    without = drawn(np.where(np.arange(14) == 3, 0, sure))
    assert np.array_equal(drawn(weak), without) and not np.array_equal(drawn(sure), without)
    assert np.array_equal(drawn(weak, threshold=0.2), drawn(sure))
    assert not painted(drawn(sure), WARNING) and painted(drawn(np.full(14, 0.2)), WARNING)
    assert not painted(drawn(np.full(14, 0.2), threshold=0.1), WARNING)


@pytest.mark.parametrize("width", [40, 161, 640, 3000])
def test_the_legend_says_which_network_it_was(predictor, monkeypatch, width):
    said = []
    monkeypatch.setattr("mdw.inference.predict.caption", lambda image, *texts: said.append(texts) or caption(image, *texts))
    image = np.full((120, width, 3), 120, np.uint8)
    drawn = replace(predictor, name="mdw_hrnet_18 (cdc=False)").draw(image, [], 0.25, "Nobody was found in this image.")
    assert "mdw_hrnet_18 (cdc=False), input 128x96, without flip test" in said[0][0] and "0.25" in said[0][0]
    assert np.array_equal(drawn[:120], image) and drawn.shape[1] == width and len(drawn) % 2 == 0
    colours = [painted(drawn[120:], colour) for colour in (COLOURS["left"], COLOURS["right"], WARNING)]
    assert all(colours), "the words of the sides have their colours, and the note its ground"


def painted(image, colour) -> int:
    return int((image == colour).all(-1).sum())


def test_only_people_count_and_only_the_sure_ones(hub, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(hub))
    image = np.random.default_rng(0).integers(0, 255, (120, 200, 3), dtype=np.uint8)
    detector = load_detector(SMALL, threshold=0.0)
    detector.model.topk_candidates = 60
    said = detector.model([torch.from_numpy(image).permute(2, 0, 1) / 255])[0]
    scores = said["scores"][said["labels"] == 1].detach().sort(descending=True).values.numpy()
    assert 2 <= len(scores) < len(said["labels"])
    np.testing.assert_allclose(detector([image])[0][:, 4], scores, rtol=1e-6)
    assert len(replace(detector, threshold=0.8)([image])[0]) == (scores >= 0.8).sum() < len(scores)
    assert mdw.predict(image, detector=replace(detector, threshold=1.0)) == []


def test_a_detector_that_cannot_be_had(tmp_path, monkeypatch):
    with pytest.raises(MdwError, match="no detector 'eyes'.*ssdlite320"):
        load_detector("eyes")
    with pytest.raises(MdwError, match="from 0 to 1, not 7"):
        load_detector(SMALL, threshold=7)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nobody listens there
    with pytest.raises(MdwError, match="cannot be had.*ssdlite320_mobilenet_v3_large_coco-.*checkpoints yourself"):
        load_detector(SMALL)
    monkeypatch.setitem(__import__("sys").modules, "torchvision", None)
    with pytest.raises(MdwError, match="finding people needs torchvision"):
        load_detector(SMALL)


def test_nobody_found_leaves_nothing(tmp_path, predictor):
    Image.fromarray(dots([(100, 100)])).save(tmp_path / "a.png")
    with pytest.raises(MdwError, match="no person in .*a.png; lower --detector-threshold"):
        predict_files([tmp_path / "a.png"], tmp_path / "out", predictor, {"a.png": []})
    assert not list((tmp_path / "out").iterdir())
    Image.fromarray(dots([(100, 100)])).save(tmp_path / "b.png")
    predict_files([tmp_path / "a.png", tmp_path / "b.png"], tmp_path / "out", predictor, {"a.png": []})
    drawn = read_image(tmp_path / "out/a.overlay.png")  # somebody else has been found
    assert np.array_equal(drawn[:240], dots([(100, 100)])) and painted(drawn[240:], WARNING)


def test_two_photos_never_share_an_overlay(tmp_path, predictor):
    for name in ("a.png", "a.bmp"):
        Image.fromarray(dots([(100, 100)])).save(tmp_path / name)
    with pytest.raises(MdwError, match="a.png.*a.bmp would both be written as a.overlay"):
        predict_files([tmp_path / "a.png", tmp_path / "a.bmp"], tmp_path / "out", predictor)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("box", "sentence"),
    [
        ((1, 2, 3), "is no \\(x, y, width, height\\)"),
        (7, "is no \\(x, y, width, height\\)"),
        (("a", 1, 2, 3), "is no \\(x, y, width, height\\)"),
        ((0, 0, float("nan"), 5), "positive width and height"),
        ((0, 0, 5, -5), "positive width and height"),
        ((320, 0, 10, 10), "lies outside the image, which is 320 x 240"),
        ((-20, 5, 20, 10), "lies outside the image"),
    ],
)
def test_boxes_that_are_none(box, sentence):
    with pytest.raises(MdwError, match=sentence):
        check_boxes([(0, 0, 1, 1), box], (240, 320, 3))


def test_only_the_persons_of_annotations_count(tmp_path):
    names = {"images": [{"id": 5, "file_name": "a.jpg"}], "categories": [{"id": 3, "name": "person"}, {"id": 1, "name": "cat"}]}
    boxes = [{"image_id": 5, "category_id": k, "bbox": [k, 0, 9, 9]} for k in (1, 3)]
    (tmp_path / "all.json").write_text(json.dumps(names | {"annotations": boxes}))
    assert read_boxes(tmp_path / "all.json") == {"a.jpg": [[3, 0, 9, 9]]}


def test_a_folder_gives_its_pictures_and_videos_but_not_our_own(tmp_path):
    for name in ("b.JPG", "a.tiff", "c.mp4", "c.overlay.mp4", "b.overlay.png", "notes.txt"):
        (tmp_path / name).touch()
    found = [[file.name for file in kind] for kind in find_files([tmp_path])]
    assert found == [["a.tiff", "b.JPG"], ["c.mp4"]]
    assert find_files([tmp_path / "notes.txt"])[0]  # named, it is taken for an image, and refused when it is read
