import json
import re

import numpy as np
from PIL import Image

from mdw.data.photos import photo_paths, photos

LICENCES = {4: "https://creativecommons.org/licenses/by/2.0/", 5: "https://creativecommons.org/licenses/by-sa/2.0/"}


def folder():
    return photo_paths()[0].parent


def truth():
    return json.loads((folder() / "person_keypoints.json").read_text())


def test_every_file_has_an_attribution_line_with_an_allowed_licence():
    lines = [x for x in (folder() / "ATTRIBUTION.md").read_text().splitlines() if x.startswith("| `")]
    images = {image["file_name"]: image for image in truth()["images"]}
    files = {path.name for path in folder().iterdir()} - {"ATTRIBUTION.md", "person_keypoints.json"}
    assert files == set(images) == {re.match(r"\| `(.+?)`", line)[1] for line in lines} and len(lines) == 23
    for line in lines:
        image = images[re.match(r"\| `(.+?)`", line)[1]]
        assert image["license"] in LICENCES
        for part in (LICENCES[image["license"]], image["flickr_url"], image["coco_url"], "unmodified"):
            assert part in line


def test_pictures_are_whole_small_and_as_the_json_says():
    for entry in truth()["images"]:
        path = folder() / entry["file_name"]
        with Image.open(path) as image:
            assert image.size == (entry["width"], entry["height"]) and max(image.size) <= 640
            image.load()
    assert sum(path.stat().st_size for path in folder().iterdir()) < 5e6


def test_bytes_are_those_of_coco(shared):
    for path in photo_paths():
        originals = list((shared / "data/coco_mini").glob(f"*2017/{path.name}"))
        assert len(originals) == 1 and originals[0].read_bytes() == path.read_bytes()


def test_annotations_are_of_these_images_and_persons_only():
    content = truth()
    listed = {image["id"] for image in content["images"]}
    assert {a["image_id"] for a in content["annotations"]} <= listed
    assert {a["category_id"] for a in content["annotations"]} == {1} == {c["id"] for c in content["categories"]}
    assert len({a["id"] for a in content["annotations"]}) == len(content["annotations"])


def test_samples():
    data = photos(aspect=1.0)
    expected = [a["id"] for a in truth()["annotations"] if not a["iscrowd"] and any(a["keypoints"])]
    assert sorted(s.person_id for s in data) == sorted(expected) and len(data) > 40
    assert all(np.isclose(s.scale[0], s.scale[1]) and s.image.is_file() for s in data)
    assert data.ground_truth.is_file() and data[0].pixels().ndim == 3
