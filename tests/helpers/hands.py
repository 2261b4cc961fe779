"""A data set of one's own joints: hands of five points, drawn here."""

import json

import cv2
import numpy as np

TOML = """
name = "hand5"
names = ["wrist", "thumb", "index", "ring", "little"]
sigmas = [0.05, 0.04, 0.04, 0.04, 0.04]
pairs = [["thumb", "little"], ["index", "ring"]]    # hands seen from both sides
limbs = [["wrist", "thumb"], ["wrist", "index"], ["wrist", "ring"], ["wrist", "little"]]
upper = ["thumb", "index", "ring", "little"]
lower = ["wrist"]
"""
NAMES = ("wrist", "thumb", "index", "ring", "little")
FINGERS = np.array([[0, 0], [-22, -10], [-9, -30], [9, -30], [22, -10]])


def hands(root, split, count, seed):
    """Images of one hand each, in a file as an annotation tool writes it: category 3 of two, without iscrowd."""
    draw = np.random.default_rng(seed)
    (root / "images").mkdir(exist_ok=True)
    images, annotations = [], []
    for k in range(1, count + 1):
        joints = FINGERS * draw.uniform(0.8, 1.2) + draw.uniform((40, 50), (60, 60))
        image = np.zeros((80, 100, 3), np.uint8)
        for joint, colour in zip(joints, np.eye(5, 3) * 200 + 55, strict=True):
            cv2.line(image, joints[0].astype(int).tolist(), joint.astype(int).tolist(), (90, 90, 90), 3)
            cv2.circle(image, joint.astype(int).tolist(), 4, colour.tolist(), -1)
        cv2.imwrite(str(root / "images" / f"{split}{k}.png"), image)
        images.append({"id": k, "file_name": f"{split}{k}.png", "width": 100, "height": 80})
        visible = np.full(5, 2)
        visible[k % 5] = 0 if k % 3 == 0 else 2
        low, high = joints.min(0) - 5, joints.max(0) + 5
        annotations.append(
            {
                "id": k,
                "image_id": k,
                "category_id": 3,
                "bbox": [*low, *(high - low)],
                "area": float((high - low).prod()),
                "keypoints": np.column_stack([joints * (visible > 0)[:, None], visible]).ravel().tolist(),
            }
        )
    annotations.append({"id": 99, "image_id": 1, "category_id": 1, "bbox": [0, 0, 9, 9], "area": 9, "keypoints": [1, 1, 2]})
    categories = [{"id": 1, "name": "person", "keypoints": ["nose"]}, {"id": 3, "name": "hand", "keypoints": list(NAMES)}]
    (root / "annotations").mkdir(exist_ok=True)
    content = {"images": images, "annotations": annotations, "categories": categories}
    (root / "annotations" / f"{split}.json").write_text(json.dumps(content))
