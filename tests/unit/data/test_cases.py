"""Annotation files as tools write them: the right value, or one sentence of file, place, what is there and what should be.

Every case is built here; those that the project was given are looked at, too, where they lie.
"""

import copy
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command import mistake, run
from PIL import Image, ImageOps

from mdw import data
from mdw.data.coco import coco, detections
from mdw.data.custom import read_joints
from mdw.inference.boxes import find_files, read_boxes
from mdw.inference.evaluate import score
from mdw.pose.average_precision import coco_ap
from mdw.training import recipes
from mdw.training.batches import TrainingBatches
from mdw.util.errors import MdwError

TOML = """
name = "star5"
names = ["hub", "a", "b", "c", "d"]
sigmas = [0.06, 0.06, 0.06, 0.06, 0.06]
pairs = [["a", "d"], ["b", "c"]]
limbs = [["hub", "a"], ["hub", "b"], ["hub", "c"], ["hub", "d"]]
"""
NAMES = ["hub", "a", "b", "c", "d"]
COLOURS = ((250, 250, 250), (63, 243, 60), (240, 60, 60), (60, 60, 240), (240, 240, 60))
POINTS = np.array([(58, 60), (24, 50), (40, 20), (80, 24), (90, 62)])


def star_set(root: Path, change=lambda truth: None, ending="png", save=lambda image, path: image.save(path)) -> Path:
    """A custom set of four stars to train on and three to validate, the annotations of both changed by `change`."""
    (root / "images").mkdir(parents=True)
    (root / "annotations").mkdir()
    (root / "joints.toml").write_text(TOML)
    for split, count in (("train", 4), ("val", 3)):
        images, annotations = [], []
        for k in range(1, count + 1):
            points = POINTS + (k, 2 * k)
            pixels = np.full((100, 120, 3), 31, np.uint8)
            for (x, y), colour in zip(points, COLOURS, strict=True):
                pixels[y - 3 : y + 4, x - 3 : x + 4] = colour
            save(Image.fromarray(pixels), root / "images" / f"{split}{k}.{ending}")
            images.append({"id": k, "file_name": f"{split}{k}.{ending}", "width": 120, "height": 100})
            low, size = points.min(0) - 5, np.ptp(points, axis=0) + 10
            annotations.append(
                {
                    "id": k,
                    "image_id": k,
                    "category_id": 1,
                    "iscrowd": 0,
                    "num_keypoints": 5,
                    "segmentation": [],
                    "bbox": [*low.tolist(), *size.tolist()],
                    "area": float(size.prod()),
                    "keypoints": np.column_stack([points, np.full(5, 2)]).astype(float).ravel().tolist(),
                }
            )
        truth = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "star", "keypoints": NAMES}]}
        truth = change(truth) or truth
        (root / "annotations" / f"{split}.json").write_bytes(truth if isinstance(truth, bytes) else json.dumps(truth).encode())
    return root


def each(**fields):
    def change(truth):
        for index, entry in enumerate(truth["annotations"]):
            entry.update({name: value(entry, index) if callable(value) else value for name, value in fields.items()})

    return change


def flags(*values):
    return each(keypoints=lambda e, _: [values[k // 3] if k % 3 == 2 else v for k, v in enumerate(e["keypoints"])])


def twice(truth):
    for place, (image, entry) in enumerate(zip(truth["images"], truth["annotations"], strict=True)):
        image["id"] = entry["image_id"] = 1 + place % 2


def text_ids(truth):
    for image, entry in zip(truth["images"], truth["annotations"], strict=True):
        image["id"] = entry["image_id"] = f"img_{image['id']:03d}"


def numbers_as_names(truth):
    for image in truth["images"]:
        image["file_name"] = image["id"]


def shell(truth):
    entry = truth["annotations"][0] | {"id": 99, "keypoints": [], "num_keypoints": 0, "bbox": [0, 0, 0, 0], "area": 0}
    truth["annotations"].append(entry)


def upside_down(image, path):
    exif = Image.Exif()
    exif[0x0112] = 3
    image.rotate(180).save(path, exif=exif, quality=95)


WHOLE = None  # what a case is refused with, or WHOLE: everything is read as it is
CASES = {
    "annotation_ids_from_0": (dict(change=each(id=lambda e, k: k)), WHOLE),
    "annotation_ids_twice": (dict(change=each(id=7)), WHOLE),
    "annotation_ids_text": (dict(change=each(id=lambda e, k: f"a{k}")), WHOLE),
    "annotation_ids_missing": (dict(change=lambda t: [e.pop("id") for e in t["annotations"]] and None), WHOLE),
    "area_0_all": (dict(change=each(area=0)), r"nobody with labelled joints of star5: \d has an area that is not above 0"),
    "area_nan": (dict(change=each(area=float("nan"))), r"annotations\[0\].area of .*json is nan, .* a finite number"),
    "box_zero": (dict(change=each(bbox=[0, 0, 0, 0])), r"\d has a box of a pixel or less \(the first is annotations\[0\]"),
    "box_of_fractions": (dict(change=each(bbox=[0.2, 0.2, 0.5, 0.4])), "a box of a pixel or less"),
    "box_negative": (
        dict(change=each(bbox=[90, 60, -60, -40])),
        r"annotations\[0\].bbox of .*json is \[90, 60, -60, -40\]|-60.0",
    ),
    "box_infinite": (dict(change=each(bbox=[1, 2, float("inf"), 4])), r"annotations\[0\].bbox\[2\] of .* is inf"),
    "empty_keypoints_one": (dict(change=shell), WHOLE),
    "num_keypoints_0": (dict(change=each(num_keypoints=0)), WHOLE),
    "exif_180": (dict(ending="jpg", save=upside_down), WHOLE),
    "flags_are_fractions": (dict(change=flags(0.9, 0.1, 0.3, 0.55, 0.45)), WHOLE),
    "flags_are_negative": (dict(change=flags(-1, -1, -1, -1, -1)), r"\d has no labelled joint"),
    "image_ids_text": (dict(change=text_ids), WHOLE),
    "image_ids_twice": (dict(change=twice), r"images\[2\].id of .*json is 1, .*'\w+1.png' and '\w+3.png'"),
    "image_ids_nested": (
        dict(change=lambda t: t["images"][1].update(id=[2])),
        r"images\[1\].id of .* is \[2\], .* number or text",
    ),
    "json_bom": (dict(change=lambda t: b"\xef\xbb\xbf" + json.dumps(t).encode()), WHOLE),
    "json_utf16": (dict(change=lambda t: json.dumps(t).encode("utf-16")), WHOLE),
    "no_joint_visible": (dict(change=flags(0, 0, 0, 0, 0)), r"nobody with labelled joints of star5: \d has no labelled joint"),
    "type_area_text": (dict(change=each(area="3014.1")), r"annotations\[0\].area of .*json is '\d+.*', it should be a number"),
    "type_file_name_number": (dict(change=numbers_as_names), r"images\[0\].file_name of .*json is 1, it should be text"),
    "type_file_name_null": (dict(change=lambda t: t["images"][0].update(file_name=None)), r"images\[0\].file_name .* None"),
    "type_iscrowd_text": (dict(change=each(iscrowd="0")), r"annotations\[0\].iscrowd of .*json is '0'"),
    "type_keypoints_text": (
        dict(change=each(keypoints=lambda e, _: [str(v) for v in e["keypoints"]])),
        r"annotations\[0\].keypoints\[0\] of .*json is '\d.*', it should be a number",
    ),
    "category_text": (
        dict(change=lambda t: t["annotations"][0].update(category_id="1")),
        r"annotations\[0\].category_id of .* is '1', it should be one of \[1\]",
    ),
    "nested_without_end": (dict(change=lambda t: b'{"images": ' + b"[" * 200_000), "nested too deeply"),
    "number_without_end": (
        dict(change=lambda t: json.dumps(t).replace('"id": 1,', f'"id": {"1" * 5000},', 1).encode()),
        "digits",
    ),
    "number_too_large": (dict(change=lambda t: json.dumps(t).replace('"area": ', '"area": 1e999, "x": ').encode()), "area"),
}


def load(root, split="val"):
    return data.load("custom", split, root, joints=root / "joints.toml")


def sentence(function, *arguments) -> str:
    with pytest.raises(MdwError) as error:
        function(*arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


def look(root: Path, refusal: str | None, counts: tuple[int, int] = (4, 3)) -> None:
    """Both splits are refused by that sentence; or all of them is there, labels lie on their dots, and perfect poses get 1."""
    if refusal is not None:
        for split in ("train", "val"):
            with pytest.raises(MdwError, match=refusal) as error:
                load(root, split)
            assert "\n" not in str(error.value) and f"{split}.json" in str(error.value)
        return
    stars, count = load(root), counts[1]
    assert (len(load(root, "train")), len(stars)) == counts
    assert sorted({s.person_id for s in stars}) == sorted({e["id"] for e in stars.ground_truth["annotations"]})
    for sample in stars:
        assert sample.visible.tolist() == [1] * 5
        x, y = sample.joints[1].round().astype(int)
        red, green, blue = sample.pixels()[y, x].astype(int)
        assert green > 200 and red < 120 and blue < 120, "joint a lies on its green dot"
    assert score(stars, np.stack([s.joints for s in stars]), np.ones((count, 5)))["AP"] == pytest.approx(1)
    recipe = recipes.get("custom", train_options={}, input_size=(64, 64))
    _, targets, weights = TrainingBatches(stars, recipe, 0).batch(0, np.arange(count))
    assert ((weights == 0) | (weights == 1)).all() and (targets.amax((2, 3))[weights.reshape(count, 5) > 0] > 0.5).all()


@pytest.mark.parametrize("name", CASES)
def test_a_custom_set_of_this_kind(tmp_path, name):
    build, refusal = CASES[name]
    look(star_set(tmp_path / "set", **build), refusal)


GIVEN = (
    "annotation_ids_from_0 area_0_all box_zero empty_keypoints_one exif_180 flags_are_fractions image_ids_text image_ids_twice "
    "json_bom no_joint_visible type_area_text type_file_name_number type_iscrowd_text type_keypoints_text"
).split()


def given(shared: Path, name: str) -> Path:
    if not (shared / "cases" / name).is_dir():
        pytest.skip(f"the case {name} in ../shared is not here")
    return shared / "cases" / name


@pytest.mark.parametrize("name", GIVEN)
def test_a_given_case_of_this_kind(shared, name):
    root = given(shared, name)
    if name == "image_ids_twice":  # in the training split alone
        assert "('train1.png' and 'train3.png')" in sentence(load, root, "train") and len(load(root)) == 3
    else:
        look(root, CASES[name][1], (3, 2) if name == "empty_keypoints_one" else (4, 3))


def test_who_is_left_out_is_told_and_is_nobodys_miss(tmp_path, caplog):
    def some(truth):
        truth["annotations"][0]["area"] = 0
        truth["annotations"][1]["bbox"] = [500, 20, 9, 9]

    stars = load(star_set(tmp_path / "set", some))
    assert "1 has an area that is not above 0 (the first is annotations[0])" in caplog.text
    assert "1 has a box outside its image (the first is annotations[1])" in caplog.text and "val.json" in caplog.text
    assert [s.person_id for s in stars] == [3]
    assert score(stars, np.stack([s.joints for s in stars]), np.ones((1, 5)))["AP"] == pytest.approx(1)


def test_text_ids_of_images_that_are_not_listed_are_not_taken_for_new_numbers(tmp_path):
    def change(truth):
        text_ids(truth)
        truth["annotations"][0]["image_id"] = 2

    assert "annotations[0].image_id" in sentence(load, star_set(tmp_path / "set", change))


def test_a_turned_photo_is_upright_in_a_custom_set_and_as_stored_in_coco(tmp_path):
    """COCO's labels are in the stored pixels, and HRNet reads with IMREAD_IGNORE_ORIENTATION."""
    root = star_set(tmp_path / "set", ending="jpg", save=upside_down)
    upright = load(root)[0].pixels()
    with Image.open(root / "images/val1.jpg") as image:
        assert np.array_equal(upright, np.array(ImageOps.exif_transpose(image)))
    coco_set(tmp_path, save=upside_down)
    with Image.open(tmp_path / "val2017/000000000007.jpg") as image:
        assert np.array_equal(coco(tmp_path, "val")[0].pixels(), np.array(image))

    def on_its_side(image, path):
        exif = Image.Exif()
        exif[0x0112] = 6
        image.save(path, exif=exif, quality=95)  # as high as wide when turned, labelled as stored

    stars = load(star_set(tmp_path / "side", ending="jpg", save=on_its_side))
    assert "is 100x120 when turned upright as its EXIF entry says, not 120x100" in sentence(stars[0].pixels)


def person(k: int, image: int, **changes) -> dict:
    keypoints = [value for joint in range(17) for value in (20 + joint + 3 * k, 30 + 2 * joint, 2)]
    entry = {"id": k, "image_id": image, "category_id": 1, "iscrowd": 0, "bbox": [10.0, 20.0, 70.0, 60.0], "area": 2100.0}
    return entry | {"num_keypoints": 17, "keypoints": keypoints} | changes


def coco_truth() -> dict:
    images = [{"id": id, "width": 120, "height": 100, "file_name": f"{id:012d}.jpg"} for id in (7, 3)]
    persons = [person(1, 7), person(2, 3), person(3, 3, iscrowd=1)]
    categories = [{"id": 1, "name": "person"}, {"id": 2, "name": "dog"}]
    return {"images": images, "annotations": persons, "categories": categories}


def coco_set(root: Path, truth: dict | None = None, save=lambda image, path: image.save(path)) -> Path:
    truth = truth or coco_truth()
    (root / "val2017").mkdir()
    for image in truth["images"]:
        save(Image.new("RGB", (120, 100), (9, 99, 199)), root / "val2017" / image["file_name"])
    file = root / "annotations/person_keypoints_val2017.json"
    file.parent.mkdir()
    file.write_text(json.dumps(truth))
    return file


def perfect(truth: dict) -> list[dict]:
    return [
        {"image_id": e["image_id"], "category_id": 1, "keypoints": list(e["keypoints"]), "score": 0.5}
        for e in truth["annotations"]
        if e["category_id"] == 1 and not e["iscrowd"]
    ]


@pytest.mark.parametrize(
    "change, refusal",
    [
        (lambda t: t["annotations"][0].update(area=float("nan")), r"annotations\[0\].area of gt.* nan"),
        (lambda t: t["annotations"][0].update(bbox=[1, 2, float("inf"), 4]), r"annotations\[0\].bbox\[2\]"),
        (lambda t: t["annotations"][0]["keypoints"].__setitem__(4, float("nan")), r"annotations\[0\].keypoints\[4\]"),
        (lambda t: t["annotations"][1].update(id=1), r"annotations\[1\].id .* is 1, .* another than that of annotations\[0\]"),
        (lambda t: t["annotations"][1].update(id=0), r"annotations\[1\].id .* is 0, .* from 1 on"),
        (lambda t: t["images"][1].update(id=7), r"images\[1\].id of gt.* is 7"),
        (lambda t: t["annotations"][0].update(category_id=9), r"annotations\[0\].category_id .* is 9"),
        (lambda t: t["annotations"][0].update(area="4"), r"annotations\[0\].area of gt.* is '4', it should be a number"),
        (lambda t: t["annotations"][0].pop("bbox"), r"annotations\[0\] of gt.* has no field 'bbox'"),
    ],
)
def test_ground_truth_that_pycocotools_would_score_anyhow(tmp_path, monkeypatch, change, refusal):
    monkeypatch.chdir(tmp_path)
    truth = coco_truth()
    results = perfect(truth)
    assert coco_ap(truth, results)["AP"] == 1
    change(truth)
    Path("gt.json").write_text(json.dumps(truth))
    with pytest.raises(MdwError, match=refusal.replace("gt", "gt.json")):
        coco_ap("gt.json", results)


def test_numpys_values_are_taken_as_pythons():
    truth = coco_truth()
    results = [e | {"keypoints": np.array(e["keypoints"]), "score": np.float32(0.5)} for e in perfect(truth)]
    assert coco_ap(truth, results) == coco_ap(truth, perfect(truth))


def test_labelled_joints_are_counted_whatever_the_file_says():
    truth = coco_truth()
    results = perfect(truth)
    for entry in truth["annotations"]:
        entry["num_keypoints"] = 0
    assert coco_ap(truth, results)["AP"] == 1


@pytest.mark.parametrize(
    "change, refusal",
    [
        (lambda r: r.update(category_id=0), r"\[1\].category_id of results.json is 0, .* as in gt.json, 1 or 2"),
        (lambda r: r.update(category_id="1"), r"\[1\].category_id of results.json is '1', it should be a whole number"),
        (lambda r: r.update(category_id=None), r"\[1\].category_id of results.json is None"),
        (lambda r: r.update(image_id="7"), r"\[1\].image_id of results.json is '7'"),
        (lambda r: r.update(score="0.5"), r"\[1\].score of results.json is '0.5'"),
        (lambda r: r.update(score=float("nan")), r"\[1\].score of results.json is nan"),
        (lambda r: r["keypoints"].__setitem__(3, float("inf")), r"\[1\].keypoints\[3\] of results.json is inf"),
        (lambda r: r["keypoints"].pop(), r"\[1\].keypoints of results.json has 50 numbers, it should have 51"),
        (lambda r: r.update(bbox=[1, 2, 3, 4]), "bbox in some entries only"),
    ],
)
def test_results_that_pycocotools_would_pass_over(tmp_path, monkeypatch, change, refusal):
    monkeypatch.chdir(tmp_path)
    truth = coco_truth()
    results = perfect(truth)
    change(results[1])
    for name, value in (("gt", truth), ("results", results)):
        Path(f"{name}.json").write_text(json.dumps(value))
    with pytest.raises(MdwError, match=refusal):
        coco_ap("gt.json", "results.json")


def test_the_given_results_and_ground_truths(shared):
    nan, foreign = given(shared, "gt_area_nan"), given(shared, "results_category_0")
    command = ("evaluate", "--data", "coco", "--predictions")
    told = mistake(*command, nan / "results.json", "--ground-truth", nan / "gt.json")
    assert "annotations[" in told and "].area of " in told and "nan" in told
    told = mistake(*command, foreign / "results.json", "--ground-truth", foreign / "gt.json")
    assert "[0].category_id" in told and "is 0, it should be as in" in told
    right = json.loads(run(*command, foreign / "results_1.json", "--ground-truth", foreign / "gt.json", "--json")[1])
    assert right["AP"] == pytest.approx(0.4686, abs=5e-5)


def test_boxes_belong_to_one_image(tmp_path, shared):
    images = [{"id": 1, "file_name": "train1.png"}, {"id": 1, "file_name": "train3.png"}]
    boxes = [{"id": k, "image_id": 1, "category_id": 1, "bbox": [20, 20, 60, 60]} for k in (1, 2)]
    truth = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "person"}]}
    for value, refusal in (
        (truth, "('train1.png' and 'train3.png')"),
        (truth | {"images": images[:1], "annotations": [boxes[0] | {"image_id": 5}]}, "annotations[0].image_id of"),
        (truth | {"images": images[:1], "annotations": [boxes[0] | {"bbox": "all"}]}, "annotations[0].bbox of"),
        ({"a.png": [[1, 2, "3", 4]]}, "is '3', it should be a number"),
        ({"a.png": [1, 2, 3, 4]}, "a list"),
    ):
        (tmp_path / "boxes.json").write_text(json.dumps(value))
        assert refusal in sentence(read_boxes, tmp_path / "boxes.json")
    images[1]["id"] = 2
    (tmp_path / "boxes.json").write_bytes(b"\xef\xbb\xbf" + json.dumps(truth).encode())
    assert read_boxes(tmp_path / "boxes.json") == {"train1.png": [[20, 20, 60, 60]] * 2, "train3.png": []}
    assert "id" in sentence(read_boxes, given(shared, "image_ids_twice") / "boxes.json")


def test_hidden_files_of_a_folder_are_passed_over_and_devices_refused(tmp_path):
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
    (tmp_path / "._a.png").write_bytes(b"\0\5\x16\7" + bytes(80))
    (tmp_path / "a.png").rename(tmp_path / "12:30:05.png")
    assert find_files([tmp_path]) == ([tmp_path / "12:30:05.png"], [])
    assert data.sample.read_image(tmp_path / "12:30:05.png").shape == (9, 9, 3)
    (tmp_path / "pipe.jpg").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "fifo.json")
    assert "no regular file" in sentence(data.sample.read_image, tmp_path / "pipe.jpg")
    for file in (tmp_path / "fifo.json", tmp_path / "pipe.jpg"):
        assert sentence(read_joints, file).startswith(f"{file} is no regular file")
        assert "no regular file" in sentence(coco_ap, file, [])
        assert "no regular file" in sentence(read_boxes, file)


@pytest.mark.parametrize(
    "old, new, told",
    [
        ("sigmas = [0.06", f"sigmas = [1{'0' * 400}", "sigmas in .* 5 numbers above 0"),
        ("sigmas = [0.06", f"sigmas = [{'9' * 5000}", "not valid TOML"),
        ("sigmas = [", f"sigmas = [{'[' * 5000}", "not valid TOML"),
    ],
)
def test_joints_without_end(tmp_path, old, new, told):
    (tmp_path / "joints.toml").write_text(TOML.replace(old, new))
    with pytest.raises(MdwError, match=told):
        read_joints(tmp_path / "joints.toml")
    (tmp_path / "joints.toml").write_bytes(b"\xef\xbb\xbf" + TOML.encode())
    assert read_joints(tmp_path / "joints.toml").name == "star5"


def test_formats_are_told_by_content_and_others_are_not_started(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n%%EOF\n")
    assert "is not an image in JPEG, PNG, WEBP" in sentence(data.sample.read_image, tmp_path / "a.jpg")
    for name in ("PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM", "JPEG2000"):
        Image.new("RGB", (20, 10), (0, 0, 255)).save(tmp_path / "b.jpg", name)
        assert data.sample.read_image(tmp_path / "b.jpg").shape == (10, 20, 3)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_moving_images_it_is_said_that_the_first_alone_is_looked_at(tmp_path, caplog, kind):
    frames = [Image.new("RGB", (20, 10), (50 * k, 0, 0)) for k in range(5)]
    frames[0].save(tmp_path / "a.img", kind, save_all=True, append_images=frames[1:])
    assert data.sample.read_image(tmp_path / "a.img").max() < 9
    assert f"only the first of the 5 images in {tmp_path / 'a.img'} is looked at" in caplog.text


def test_a_photo_of_108_megapixels_is_read_without_a_word(tmp_path):
    Image.new("1", (12_000, 9_000)).save(tmp_path / "a.png")
    code = f"from mdw.data.sample import image_shape; print(image_shape({str(tmp_path / 'a.png')!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout.strip(), done.stderr) == ("(9000, 12000)", "")


ODD = (
    None,
    True,
    -1,
    0,
    0.5,
    1e308,
    10**30,
    float("nan"),
    float("inf"),
    "",
    "1",
    "\0",
    "\ud800",
    "../../x",
    [],
    [1],
    {},
    {"id": 1},
)


def mutated(rng: random.Random, value) -> bytes:
    """`value` as JSON with one to three places changed, doubled or taken away, then perhaps with some bytes flipped."""
    value = [json.loads(json.dumps(value))]
    for _ in range(rng.randint(1, 3)):
        holder, key = value, 0
        while isinstance(holder[key], dict | list) and holder[key] and rng.random() < 0.9:
            holder = holder[key]
            key = rng.choice(list(holder)) if isinstance(holder, dict) else rng.randrange(len(holder))
        if rng.random() < 0.2 and holder is not value:
            del holder[key]
        elif rng.random() < 0.2 and isinstance(holder, list) and holder is not value:
            holder.insert(key, holder[key])
        else:
            holder[key] = copy.deepcopy(rng.choice(ODD))
    content = bytearray(json.dumps(value[0]).encode())
    for _ in range(rng.choice((0, 0, 1, 3))):
        at = rng.randrange(len(content) + 1)
        content[at : at + rng.choice((0, 1, 1, 9))] = rng.choice((b"", b"\xff", b"[", b"e9", b'"', b"0", b"-"))
    return bytes(content)


def test_random_damage_to_annotations_is_refused_or_harmless(tmp_path):
    root, good = star_set(tmp_path / "set"), tmp_path / "coco"
    good.mkdir()
    files = {"custom": root / "annotations/val.json", "coco": coco_set(good)}
    values = {name: json.loads(file.read_text()) for name, file in files.items()}
    rng, refused = random.Random(0), 0
    for turn in range(400):
        name = ("custom", "coco")[turn % 2]
        files[name].write_bytes(mutated(rng, values[name]))
        try:
            found = load(root) if name == "custom" else coco(good, "val")
            assert len(found) and all(np.isfinite([*s.center, *s.scale, *s.joints.flat, s.area]).all() for s in found)
            assert all(s.scale.max() > 0 and set(s.visible.tolist()) <= {0, 1} for s in found)
            if name == "custom":
                xy = np.stack([s.joints for s in found])
                assert -1 <= score(found, xy, np.ones(xy.shape[:2]))["AP"] <= 1
        except MdwError as error:
            refused += 1
            assert "\n" not in str(error) and files[name].name in str(error) and len(str(error)) < 800
    assert 150 < refused < 395


def test_random_damage_to_results_is_refused_or_harmless(tmp_path):
    truth = coco_truth()
    results, file = perfect(truth), tmp_path / "results.json"
    rng, refused = random.Random(1), 0
    for _ in range(300):
        file.write_bytes(mutated(rng, results))
        try:
            assert -1 <= coco_ap(truth, file)["AP"] <= 1
        except MdwError as error:
            refused += 1
            assert "\n" not in str(error) and "results.json" in str(error) and len(str(error)) < 800
    assert 100 < refused < 295


def test_random_damage_to_detections_is_refused_or_harmless(tmp_path):
    coco_set(tmp_path)
    boxes = [{"image_id": 7, "category_id": 1, "bbox": [1, 2, 30, 40], "score": 0.5}] * 3
    rng, file = random.Random(2), tmp_path / "boxes.json"
    for _ in range(200):
        file.write_bytes(mutated(rng, boxes))
        try:
            assert all(np.isfinite([*s.center, *s.scale, s.box_score]).all() for s in detections(tmp_path, "val", file))
        except MdwError as error:
            assert "\n" not in str(error) and "boxes.json" in str(error) and len(str(error)) < 800
