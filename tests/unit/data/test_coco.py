import json

import numpy as np
import pytest
from PIL import Image

from mdw.data.coco import coco, counts, detections, person_samples, read_annotations
from mdw.pose.boxes import clip_box
from mdw.util.errors import MdwError

KEYPOINTS = [v for k in range(17) for v in ((20 + k, 30 + 2 * k, 2) if k % 2 else (0, 0, 0))]


def person(id=1, image_id=7, **changes) -> dict:
    return {
        "id": id,
        "image_id": image_id,
        "category_id": 1,
        "iscrowd": 0,
        "bbox": [10.0, 20.0, 40.0, 60.0],
        "area": 1500.5,
        "num_keypoints": 8,
        "keypoints": KEYPOINTS,
    } | changes


def write(root, annotations, images=(7, 3), split="val"):
    """A tiny COCO folder: black 100 x 80 images."""
    folder = root / f"{split}2017"
    folder.mkdir(parents=True, exist_ok=True)
    listed = []
    for id in images:
        Image.new("RGB", (100, 80)).save(folder / f"{id:012d}.jpg")
        listed.append({"id": id, "width": 100, "height": 80, "file_name": f"{id:012d}.jpg"})
    file = root / "annotations" / f"person_keypoints_{split}2017.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text(
        json.dumps({"images": listed, "annotations": annotations, "categories": [{"id": 1, "name": "person"}, {"id": 2}]})
    )
    return file


def message(error) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


def test_records_equal_the_official_ones(protocol):
    truth = read_annotations(protocol / "coco_gt.json")
    official = np.load(protocol / "coco_records.npz")
    got = person_samples(truth, protocol, 0.75)
    assert [s.person_id for s in got] == official["ann_id"].tolist()
    assert [s.image_id for s in got] == official["image_id"].tolist()
    assert np.array_equal([s.center for s in got], official["center"])
    np.testing.assert_allclose([s.scale for s in got], official["scale"], rtol=1e-6)
    visible = official["joints_vis"][..., 0]
    assert np.array_equal([s.visible for s in got], visible)
    assert np.array_equal([s.joints for s in got], np.float32(official["joints"][..., :2] * visible[..., None]))


def test_mmpose_would_keep_fewer_and_which(protocol):
    """The other rule of the protocol, as a remark: boxes one pixel wide and persons whose count of keypoints says 0."""
    truth = json.loads((protocol / "coco_gt.json").read_text())
    official = np.load(protocol / "coco_records.npz")
    entries, images = {a["id"]: a for a in truth["annotations"]}, {i["id"]: i for i in truth["images"]}
    kept = []
    for id in official["ann_id"].tolist():
        image = images[entries[id]["image_id"]]
        box = clip_box(entries[id]["bbox"], (image["width"], image["height"]), entries[id]["area"], strict=True)
        kept.append(box is not None and entries[id]["num_keypoints"] > 0)
    assert kept == official["kept_by_mmpose016"].tolist() and not all(kept)


@pytest.mark.parametrize("split, persons, joints", [("train", 86, 800), ("val", 68, 652)])
def test_mini_set(shared, split, persons, joints):
    data = coco(shared / "data/coco_mini", split)
    assert len(data) == persons and sum(s.visible.sum() for s in data) == joints
    assert data.ground_truth.is_file() and data.joints.name == "coco17"
    height, width, _ = data[0].pixels().shape
    assert (data[0].joints[data[0].visible > 0] < (width, height)).all() and data[0].area > 0


def test_order_is_by_image_then_annotation_and_leaves_out_what_the_rule_says(tmp_path):
    write(
        tmp_path,
        [
            person(1, 3),
            person(2, 7),
            person(3, 3),
            person(4, 7, iscrowd=1),
            person(5, 7, category_id=2),
            person(6, 7, keypoints=[0] * 51),
            person(7, 7, area=0.0),
            person(8, 7, bbox=[200, 20, 5, 5]),
        ],
    )
    data = coco(tmp_path, "val")
    assert [s.person_id for s in data] == [2, 1, 3]  # image 7 is listed first; crowd, other category, ... are gone
    first = data[0]
    np.testing.assert_allclose(first.center, (10 + 39 / 2, 20 + 59 / 2))  # one pixel smaller than annotated
    np.testing.assert_allclose(first.scale, np.array([59 * 0.75, 59]) / 200 * 1.25, rtol=1e-6)
    assert first.visible.tolist() == [0, 1] * 8 + [0] and first.area == 1500.5
    assert first.pixels().shape == (80, 100, 3)


def test_negative_corner_moves_the_box_and_far_corner_cuts_it(tmp_path):
    write(tmp_path, [person(1, bbox=[-5, 20, 41, 31]), person(2, bbox=[80, 20, 41, 31])])
    centers = [s.center.tolist() for s in coco(tmp_path, "val", aspect=1.0)]
    assert centers == [[20, 35], [(80 + 99) / 2, 35]]


def test_coordinates_of_unlabelled_joints_do_not_matter(tmp_path):
    write(tmp_path, [person()])
    clean = coco(tmp_path, "val")[0]
    poisoned = list(KEYPOINTS)
    for k in range(0, 17, 2):
        poisoned[3 * k], poisoned[3 * k + 1] = -1e6, 1e6
    write(tmp_path, [person(keypoints=poisoned)])
    dirty = coco(tmp_path, "val")[0]
    for name in ("center", "scale", "joints", "visible"):
        assert np.array_equal(getattr(clean, name), getattr(dirty, name))


def test_detector_boxes_are_used_as_they_are(tmp_path):
    write(tmp_path, [person()])
    boxes = [
        {"image_id": 7, "category_id": 1, "bbox": [-20, 10, 30, 80], "score": 0.9},
        {"image_id": 7, "category_id": 3, "bbox": [0, 0, 10, 10], "score": 0.8},
        {"image_id": 3, "category_id": 1, "bbox": [50, 50, 90, 90], "score": 0.01},
        {"image_id": 99, "category_id": 1, "bbox": [0, 0, 10, 10], "score": 0.8},
    ]
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    data = detections(tmp_path, "val", tmp_path / "boxes.json")
    assert [(s.image_id, s.person_id, s.box_score) for s in data] == [(7, 0, 0.9), (3, 2, 0.01)]
    assert data[0].center.tolist() == [-5, 50] and data[1].center.tolist() == [95, 95]
    assert all(s.visible.sum() == 0 for s in data) and data.ground_truth.name.endswith("val2017.json")
    assert len(detections(tmp_path, "val", tmp_path / "boxes.json", min_score=0.5)) == 1


def test_detections_of_the_fixture(protocol):
    official = np.load(protocol / "coco_raw_predictions.npz")
    from mdw.pose.boxes import box_to_center_scale

    entries = [e for e in json.loads((protocol / "coco_detections.json").read_text()) if e["category_id"] == 1]
    assert len(entries) == len(official["center"]) > 100
    pairs = [box_to_center_scale(e["bbox"], (0.75, 1.0)) for e in entries]
    np.testing.assert_allclose([c for c, _ in pairs], official["center"], rtol=1e-6)
    np.testing.assert_allclose([s for _, s in pairs], official["scale"], rtol=1e-6)


def test_test_dev_has_an_image_list_and_no_ground_truth(tmp_path):
    write(tmp_path, [], split="test")
    (tmp_path / "annotations/person_keypoints_test2017.json").unlink()
    (tmp_path / "annotations/image_info_test-dev2017.json").write_text(
        json.dumps({"images": [{"id": 7, "width": 100, "height": 80, "file_name": "000000000007.jpg"}]})
    )
    (tmp_path / "boxes.json").write_text('[{"image_id": 7, "category_id": 1, "bbox": [0, 0, 9, 9], "score": 0.5}]')
    data = detections(tmp_path, "test-dev", tmp_path / "boxes.json")
    assert len(data) == 1 and data.ground_truth is None and data[0].pixels().shape == (80, 100, 3)


def test_counts_stand_beside_the_public_ones(tmp_path):
    write(tmp_path, [person(1), person(2)])
    assert counts(coco(tmp_path, "val")) == {"persons": 2, "images": 1, "public_persons": 6352, "public_images": 5000}


def test_missing_folder_split_and_picture(tmp_path):
    with pytest.raises(MdwError, match="no annotation files"):
        coco(tmp_path / "nowhere", "val")
    write(tmp_path, [person()])
    with pytest.raises(MdwError, match="there is person_keypoints_val2017.json"):
        coco(tmp_path, "train")
    (tmp_path / "val2017/000000000007.jpg").unlink()
    with pytest.raises(MdwError, match="000000000007.jpg") as error:
        coco(tmp_path, "val")
    assert "1 of the images" in message(error)


@pytest.mark.parametrize(
    "change, named",
    [
        (lambda t: t.pop("images"), "'images'"),
        (lambda t: t.pop("annotations"), "'annotations'"),
        (lambda t: t["images"][0].pop("width"), "'width'"),
        (lambda t: t["annotations"][0].pop("bbox"), "'bbox'"),
        (lambda t: t["annotations"][0].pop("image_id"), "'image_id'"),
        (lambda t: t["annotations"][0].update(image_id=12345), "12345"),
        (lambda t: t["annotations"][0].update(keypoints=[1, 2, 2]), "keypoints"),
        (lambda t: t["annotations"][0].update(bbox=["a", 1, 2, 3]), "bbox"),
        (lambda t: t["annotations"][0].update(bbox=[float("nan"), 1, 2, 3]), "bbox"),
        (lambda t: t["annotations"][0].update(area=None), "area"),
        (lambda t: t["images"][0].update(width="wide"), "width"),
        (lambda t: t["annotations"].clear(), "nobody with labelled joints"),
    ],
)
def test_damaged_annotations_are_refused_by_field(tmp_path, change, named):
    file = write(tmp_path, [person()])
    truth = json.loads(file.read_text())
    change(truth)
    file.write_text(json.dumps(truth))
    with pytest.raises(MdwError) as error:
        coco(tmp_path, "val")
    assert named in message(error) and file.name in message(error)


def test_broken_json_and_other_json(tmp_path):
    file = write(tmp_path, [person()])
    for content in ('{"images": [', "[]", "7"):
        file.write_text(content)
        with pytest.raises(MdwError, match=file.name):
            coco(tmp_path, "val")


@pytest.mark.parametrize(
    "content",
    [
        "{}",
        "[]",
        "[1]",
        '[{"image_id": 7}]',
        '[{"image_id": 7, "category_id": 1, "bbox": [1], "score": 1}]',
        '[{"image_id": 7, "category_id": 1, "bbox": 5, "score": 1}]',
        '[{"image_id": 7, "category_id": 1, "bbox": [1, 1, 5, 5], "score": "high"}]',
        '[{"image_id": 99, "category_id": 1, "bbox": [1, 1, 5, 5], "score": 1}]',
    ],
)
def test_detector_files_that_do_not_fit(tmp_path, content):
    write(tmp_path, [person()])
    (tmp_path / "boxes.json").write_text(content)
    with pytest.raises(MdwError, match="boxes.json") as error:
        detections(tmp_path, "val", tmp_path / "boxes.json")
    message(error)
