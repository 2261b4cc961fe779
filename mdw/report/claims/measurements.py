"""What a finished run was measured to reach: its last validation, what `mdw evaluate --record` kept, COCO's server."""

from dataclasses import dataclass

from mdw.data.coco import PUBLIC_COUNTS
from mdw.pose.submission import read_scores
from mdw.training.runs import Run

BOXES = {"detector_boxes": "detector", "ground_truth_boxes": "ground truth"}  # in a record of `mdw evaluate` -> in words


@dataclass(frozen=True)
class Measurement:
    """Metrics of a run on one split with one kind of boxes.

    split: "val", "test-dev" or another of the data set. boxes: "detector" or "ground truth". metrics: as stored, AP from 0 to
    1, PCK and PCKh in percent. persons: how many boxes were measured; public: how many the public split has. Either is None
    where it is not known.
    """

    split: str
    boxes: str
    metrics: dict
    persons: int | None = None
    public: int | None = None

    @property
    def part(self) -> str:
        """ "9 of 104,125 boxes" where less than the public split was measured, which compares with no published figure."""
        if self.persons is None or self.public is None or self.persons >= self.public:
            return ""
        return f"{self.persons:,} of {self.public:,} boxes"


def measurements(run: Run) -> list[Measurement]:
    """What is known of a finished run, once for each split and kind of boxes; the two never mix.

    Recorded evaluations are those of the run's own data and validation split that flip as its recipe does. A later one counts
    before an earlier one, any before the run's own validation, and one of the whole split before one of a part. The scores of
    COCO's server are those of "test-dev" with a detector's boxes. Raises MdwError for scores that cannot be read.
    """
    recipe, result = run.spec["recipe"], run.outcome
    data, split = recipe["data"], recipe["val_split"]
    public = PUBLIC_COUNTS.get(split, {}).get("persons") if data == "coco" else None
    boxes = "detector" if recipe["val_options"].get("detections") else result.get("boxes", "ground truth")
    found = [Measurement(split, boxes, result, result.get("val_persons"), public)]
    for evaluation in run.evaluations(data, split):
        for name, metrics in evaluation["measured"].items():
            if name in BOXES and metrics.get("flip_test", True) == recipe["flip_test"]:
                counted = metrics.get("persons"), metrics.get("public_persons")
                found.append(Measurement(split, BOXES[name], metrics, *counted))
    if run.server_scores:
        found.append(Measurement("test-dev", "detector", read_scores(run.server_scores)))
    best = sorted(found, key=lambda one: not one.part)  # stable: of equals the last stays the last
    return list({(one.split, one.boxes): one for one in best}.values())
