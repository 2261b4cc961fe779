"""People in pictures: whichever way the boxes come, photos as phones store them, many people at once."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image, ImageOps
from torch import nn
from torchvision import models

import mdw
from mdw.data.photos import photos
from mdw.data.sample import image_shape, read_image
from mdw.inference.boxes import check_boxes, find_files, read_boxes
from mdw.inference.detector import load_detector
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
    """A picture, red at these places and less so around them."""
    picture, line = np.zeros((*shape, 3), np.uint8), np.exp(-(np.arange(-4, 5) ** 2) / 18)
    for x, y in places:
        picture[y - 4 : y + 5, x - 4 : x + 5, 0] = 255 * np.outer(line, line)
    return picture


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
        most.append(sum(picture() is not None for picture in alive))
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
    assert drawn.shape == upright.shape


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_an_orientation_that_cannot_be_read_is_none(tmp_path):
    path = tmp_path / "photo.jpg"
    Image.fromarray(dots([(200, 60)])).save(path, exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xff nothing of this is a table")
    assert read_image(path, upright=True).shape == (240, 320, 3)


@pytest.mark.parametrize("kind", ["grey", "transparent", "16 bit", "palette", "cmyk"])
def test_pictures_of_every_kind_under_names_of_every_kind(tmp_path, kind):
    grey = np.full((90, 70), 30, np.uint8)
    grey[40:60, 20:40] = 220
    picture = Image.fromarray(grey)
    made = {
        "grey": lambda: picture,
        "transparent": lambda: Image.merge("RGBA", [picture, picture, picture, Image.new("L", picture.size, 255)]),
        "16 bit": lambda: Image.fromarray(grey.astype(np.uint16) * 257),
        "palette": lambda: picture.convert("RGB").quantize(8),
        "cmyk": lambda: picture.convert("RGB").convert("CMYK"),
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
    pictures = [
        np.random.default_rng(k).integers(0, 255, (h, w, 3), dtype=np.uint8) for k, (h, w) in enumerate([(120, 200), (90, 60)])
    ]
    found = detector(pictures)
    for picture, boxes in zip(pictures, found, strict=True):
        assert len(boxes) and (np.diff(boxes[:, 4]) <= 0).all() and (boxes[:, 4] >= 0.5).all()
        check_boxes(boxes[:, :4], picture.shape)
        low, high = boxes[:, :2], boxes[:, :2] + boxes[:, 2:4]
        assert (low >= 0).all() and (high <= np.array(picture.shape[1::-1]) + 1e-3).all()
    first = load_predictor(detector=detector, flip_test=False)(pictures, [None, [(0, 0, 60, 90)]])
    assert [person["box"] for person in first[0]] == [tuple(box[:4]) for box in found[0]]
    assert [person["box_score"] for person in first[0]] == found[0][:, 4].tolist()
    assert [person["box"] for person in first[1]] == [(0, 0, 60, 90)] and first[1][0]["box_score"] == 1
    alone = mdw.predict(pictures[0], boxes=found[0][:, :4], flip_test=False)  # the same people, now by their boxes
    np.testing.assert_allclose([p["keypoints"] for p in alone], [p["keypoints"] for p in first[0]], atol=1e-4)


def test_only_people_count_and_only_the_sure_ones(hub, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(hub))
    picture = np.random.default_rng(0).integers(0, 255, (120, 200, 3), dtype=np.uint8)
    detector = load_detector(SMALL, threshold=0.0)
    detector.model.topk_candidates = 60
    said = detector.model([torch.from_numpy(picture).permute(2, 0, 1) / 255])[0]
    scores = said["scores"][said["labels"] == 1].detach().sort(descending=True).values.numpy()
    assert 2 <= len(scores) < len(said["labels"])
    np.testing.assert_allclose(detector([picture])[0][:, 4], scores, rtol=1e-6)
    assert len(replace(detector, threshold=0.8)([picture])[0]) == (scores >= 0.8).sum() < len(scores)
    assert mdw.predict(picture, detector=replace(detector, threshold=1.0)) == []


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
    with pytest.raises(MdwError, match="--detector needs torchvision"):
        load_detector(SMALL)


def test_nobody_found_leaves_nothing(tmp_path, predictor):
    Image.fromarray(dots([(100, 100)])).save(tmp_path / "a.png")
    with pytest.raises(MdwError, match="no person in .*a.png; lower --detector-threshold"):
        predict_files([tmp_path / "a.png"], tmp_path / "out", predictor, {"a.png": []})
    assert not list((tmp_path / "out").iterdir())
    Image.fromarray(dots([(100, 100)])).save(tmp_path / "b.png")
    predict_files([tmp_path / "a.png", tmp_path / "b.png"], tmp_path / "out", predictor, {"a.png": []})
    assert np.array_equal(read_image(tmp_path / "out/a.overlay.png"), dots([(100, 100)]))  # somebody else has been found


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
        ((320, 0, 10, 10), "lies outside the picture, which is 320 x 240"),
        ((-20, 5, 20, 10), "lies outside the picture"),
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
    assert find_files([tmp_path / "notes.txt"])[0]  # named, it is taken for a picture, and refused when it is read
