"""Broken images and boxes, from the annotation file to the training batch: handled as the protocol says, or one sentence."""

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from mdw.data.coco import coco, detections
from mdw.data.pack import pack
from mdw.data.packed import open_pack
from mdw.inference.evaluate import predict_dataset
from mdw.training import recipes
from mdw.training.batches import TrainingBatches
from mdw.util.errors import MdwError

SIZE = (96, 128)
RECIPE = replace(recipes.get("paper"), input_size=SIZE)
WIDTH, HEIGHT = 100, 80
RAMP = np.stack(np.broadcast_arrays(*np.ogrid[60:140:80j, 80:180:100j], 90), axis=-1).astype(np.uint8)
NAME = "000000000007"


def a_set(root, bbox=(10, 20, 40, 50), ending="jpg", size=(WIDTH, HEIGHT)):
    """A COCO folder of one person in one image, which is not written yet; returns the image's path."""
    entry = {"id": 1, "image_id": 7, "category_id": 1, "iscrowd": 0, "bbox": list(bbox), "area": 99.0}
    entry["keypoints"] = [value for k in range(17) for value in (20 + k, 30 + k, 2)]
    listed = {"id": 7, "width": size[0], "height": size[1], "file_name": f"{NAME}.{ending}"}
    (root / "annotations").mkdir()
    (root / "val2017").mkdir()
    truth = {"images": [listed], "annotations": [entry], "categories": [{"id": 1, "name": "person"}]}
    (root / "annotations/person_keypoints_val2017.json").write_text(json.dumps(truth))
    return root / "val2017" / f"{NAME}.{ending}"


def batch(root):
    return TrainingBatches(coco(root, "val"), RECIPE, 0).batch(0, np.arange(1))


def refused(function, *arguments):
    with pytest.raises(MdwError) as error:
        function(*arguments)
    sentence = str(error.value)
    assert NAME in sentence and "\n" not in sentence and ";" in sentence, sentence
    return sentence


def half(path):
    Image.fromarray(RAMP).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    "harm, said",
    [
        (lambda path: None, "missing"),
        (half, "damaged or cut short"),
        (lambda path: path.write_bytes(b""), "not an image"),
        (lambda path: path.mkdir(), "cannot read"),
        (lambda path: path.write_text("<html>404</html>"), "not an image"),
        (lambda path: Image.fromarray(RAMP[:, :60]).save(path), "is 60x80, not 100x80 as its annotations say"),
        (lambda path: Image.fromarray(np.zeros((HEIGHT, WIDTH), np.float32)).save(path, "TIFF"), "kind F"),
    ],
    ids=["missing", "truncated", "empty", "folder", "page", "other-size", "real-valued"],
)
def test_a_broken_picture_is_refused_by_name_in_training_packing_and_evaluation(tmp_path, harm, said):
    harm(a_set(tmp_path))
    assert said in refused(batch, tmp_path)
    assert said in refused(lambda: pack(coco(tmp_path, "val"), tmp_path / "pack", SIZE, RECIPE.augmentation, {}))
    assert said in refused(lambda: predict_dataset(torch.nn.Identity(), coco(tmp_path, "val"), SIZE))
    assert not (tmp_path / "pack/00000.safetensors").exists()


def wide_grey(path):
    cv2.imwrite(str(path), RAMP[..., 0].astype(np.uint16) * 257)


def turned(path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(RAMP).save(path, exif=exif, quality=95)


WRITERS = {
    "colour": ("png", lambda path: Image.fromarray(RAMP).save(path), 0),
    "grey": ("jpg", lambda path: Image.fromarray(RAMP).convert("L").save(path, quality=95), None),
    "cmyk": ("jpg", lambda path: Image.fromarray(RAMP).convert("CMYK").save(path, quality=95), 6),
    "palette": ("png", lambda path: Image.fromarray(RAMP).quantize(64).save(path), 25),
    "alpha": ("png", lambda path: Image.fromarray(RAMP).convert("RGBA").save(path), 0),
    "sixteen-bit": ("png", wide_grey, None),
    "sixteen-bit-colour": ("png", lambda path: cv2.imwrite(str(path), RAMP[..., ::-1].astype(np.uint16) * 257), 1),
    "exif-rotated": ("jpg", turned, 6),
}


@pytest.mark.parametrize("name", WRITERS)
def test_unusual_pictures_are_read_where_they_lie(tmp_path, name):
    """The same batch as of the plain colour image, but for the file's own loss; grey ones have three equal channels.

    EXIF's orientation is ignored, as HRNet's code does: the annotations are in the stored image's pixels.
    """
    ending, write, tolerance = WRITERS[name]
    write(a_set(tmp_path, ending=ending))
    (sample,) = coco(tmp_path, "val")
    image = sample.pixels().astype(int)
    assert image.shape == RAMP.shape
    if tolerance is None:
        assert (image[..., 0] == image[..., 1]).all() and image.std() > 10
    else:
        assert np.abs(image - RAMP).max() <= tolerance
    crops, targets, weights = batch(tmp_path)
    assert crops.isfinite().all() and targets.max() == 1 and weights.sum() > 0
    pack(coco(tmp_path, "val"), tmp_path / "pack", SIZE, RECIPE.augmentation, {})
    stored = TrainingBatches(open_pack(tmp_path / "pack"), RECIPE, 0).batch(0, np.arange(1))
    assert torch.equal(stored[2], weights) and (stored[0] - crops).abs().mean() < 0.05


@pytest.mark.parametrize("bbox", [(10, 20, 0.5, 30), (10, 20, 30, 1)])
def test_a_person_whose_box_is_a_line_stays_by_hrnets_rule(tmp_path, bbox):
    """With area and keypoints it is a record, whose batch is finite."""
    Image.fromarray(RAMP).save(a_set(tmp_path, bbox))
    (sample,) = coco(tmp_path, "val")
    assert (sample.scale >= 0).all()
    for dataset in (coco(tmp_path, "val"), open_after_packing(tmp_path)):
        for part in TrainingBatches(dataset, RECIPE, 0).batch(0, np.arange(1)):
            assert part.isfinite().all()


def open_after_packing(root):
    pack(coco(root, "val"), root / "pack", SIZE, RECIPE.augmentation, {})
    return open_pack(root / "pack")


def test_a_box_outside_the_picture_is_no_training_record(tmp_path):
    Image.fromarray(RAMP).save(a_set(tmp_path, (500, 20, 40, 50)))
    with pytest.raises(MdwError, match="person_keypoints_val2017.json has nobody with labelled joints"):
        coco(tmp_path, "val")


def test_detected_boxes_of_no_area_or_outside_give_finite_joints(tmp_path):
    Image.fromarray(RAMP).save(a_set(tmp_path))
    boxes = [(10, 20, 0, 0), (500, 500, 30, 60), (-90, -90, 30, 60), (10, 20, 0, 30)]
    entries = [{"image_id": 7, "category_id": 1, "bbox": box, "score": 0.5} for box in boxes]
    (tmp_path / "boxes.json").write_text(json.dumps(entries))
    dataset = detections(tmp_path, "val", tmp_path / "boxes.json")

    class Network(torch.nn.Module):
        def forward(self, crops):
            return torch.nn.functional.avg_pool2d(crops.mean(1, keepdim=True), 4).expand(-1, 17, -1, -1)

    xy, scores = predict_dataset(Network(), dataset, SIZE)
    assert xy.shape == (4, 17, 2) and np.isfinite(xy).all() and np.isfinite(scores).all()
    np.testing.assert_allclose(xy[0], np.broadcast_to([10, 20], (17, 2)), atol=1e-3)


def test_joints_that_are_no_numbers_are_refused_by_annotation(tmp_path):
    Image.fromarray(RAMP).save(a_set(tmp_path))
    file = tmp_path / "annotations/person_keypoints_val2017.json"
    truth = json.loads(file.read_text())
    truth["annotations"][0]["keypoints"][4] = float("nan")
    file.write_text(json.dumps(truth))
    with pytest.raises(MdwError, match=r"annotations\[0\]\.keypoints\[4\] of .*person_keypoints_val2017.json"):
        coco(tmp_path, "val")
