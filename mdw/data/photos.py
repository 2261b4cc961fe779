"""The 23 photos in the package: real people to look at, far too few for a measurement.

They are COCO 2017 images under CC BY 2.0 or CC BY-SA 2.0 with COCO's annotations; photos/ATTRIBUTION.md names the authors.
"""

from importlib.resources import files
from pathlib import Path

from mdw.data.coco import person_samples, read_annotations
from mdw.data.sample import Dataset
from mdw.pose.joints import COCO17


def photos(aspect: float = 0.75) -> Dataset:
    """Loads the annotated persons of the bundled photos, one sample each; rules as in `mdw.data.coco.coco`."""
    folder = _folder()
    file = folder / "person_keypoints.json"
    samples = person_samples(read_annotations(file), folder, aspect, file)
    return Dataset("photos", COCO17, samples, folder, file)


def photo_paths() -> list[Path]:
    """Returns the paths of the bundled photos, sorted by name (which is the COCO image id)."""
    return sorted(_folder().glob("*.jpg"))


def _folder() -> Path:
    return Path(str(files("mdw"))) / "photos"
