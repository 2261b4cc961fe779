"""The command that evaluates a network on a data set, or a results file: evaluate."""

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from mdw.cli.common import Blur, Device, FlipTest, ForUse, InputSize, Json, Root, Weights, as_lines, read_size, show
from mdw.util.errors import MdwError
from mdw.util.typed import Odd, fit

TEST_DEV = "the labels of test-dev are not public, so only COCO's server can measure it"


def evaluate(
    data: Annotated[str, typer.Option(help="A data set of `mdw data list`.")],
    root: Root = None,
    split: Annotated[str, typer.Option(help="Part of the data set; a wrong one lists them.")] = "val",
    weights: Weights = None,
    detections: Annotated[Path | None, typer.Option(help="coco: boxes of this detector file, not the annotated ones.")] = None,
    gt_boxes: Annotated[bool, typer.Option("--gt-boxes", help="With --detections: annotated boxes too, named apart.")] = False,
    predictions: Annotated[Path | None, typer.Option(help="coco, mpii: measure this file; no network is used.")] = None,
    ground_truth: Annotated[Path | None, typer.Option(help="With --predictions: annotations to use, not --root's.")] = None,
    results: Annotated[Path | None, typer.Option(help="coco: write the official results JSON here.")] = None,
    submission: Annotated[
        str | None, typer.Option(help="coco: write the COCO server's zip, for a method of this name.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="The folder of the --submission zip.")] = Path("."),
    record: Annotated[
        str | None, typer.Option(help="Keep the figures in the run of --weights, as evaluations/NAME.json, for the reports.")
    ] = None,
    size: InputSize = None,
    flip_test: FlipTest = True,
    blur: Blur = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Persons that go through the network together.")] = 32,
    device: Device = None,
    backend: ForUse = "auto",
    onnx: Annotated[
        Path | None, typer.Option(help="Let this file by `mdw export`, of the same weights, compute the network.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure a network on a data set, by that data set's own metric."""
    from mdw.backends.choose import check
    from mdw.data import check_place

    requested_size = read_size(size) if size else None
    only_coco = {"--predictions": predictions, "--results": results, "--submission": submission, "--detections": detections}
    _check_flags(data, split, only_coco, gt_boxes, ground_truth)
    blur = fit("--blur", blur, Odd | None, 11)
    if blur and predictions:
        raise MdwError("--blur goes with a network, whose heatmaps it filters; --predictions are decoded already")
    check(backend, training=False)
    check_place(data, root)
    if onnx and (predictions or backend not in ("auto", "onnx")):
        conflict = "--predictions" if predictions else f"--backend {backend}"
        raise MdwError(f"--onnx is a file that computes the network; leave it or {conflict} out")
    if onnx and not onnx.is_file():
        raise MdwError(f"{onnx} does not exist; write it with mdw export")
    record_file = _record_file(record, weights, predictions)
    write = _Writer(results, submission, out, split)
    if predictions and data == "mpii":
        show(_score_mpii(root, split, predictions, ground_truth), as_json, as_lines)
        return
    if predictions:
        show(_score_file(root, split, predictions, ground_truth, write), as_json, as_lines)
        return
    from mdw.models.weights import load_network, read_about, weights_file

    about_weights = read_about(weights_file(weights))  # torch takes seconds to import: mistakes with files are reported before

    from tqdm import tqdm

    from mdw.backends.choose import choose, for_use, pick_device, released
    from mdw.backends.onnx import OnnxNetwork
    from mdw.data import coco, load
    from mdw.data.lsp import mean_pose, predict_mean_pose
    from mdw.inference.evaluate import predict_dataset, score
    from mdw.inference.evaluate import results as results_list
    from mdw.training.runs import environment
    from mdw.util.files import write_json

    device = pick_device(device)
    network, joints, shape = load_network(weights)
    shape = requested_size[::-1] if requested_size else shape
    backend = choose("onnx" if onnx else backend, device, training=False, network=released(about_weights))
    network = for_use(network.to(device), backend, shape, onnx)
    sets = {}
    if detections:
        sets["detector_boxes"] = load(data, split, root, shape[0] / shape[1], detections=detections)
    if gt_boxes or not detections:
        options: dict[str, Any] = {"joints": joints} if data == "custom" else {}  # those of the weights
        sets["ground_truth_boxes"] = load(data, split, root, shape[0] / shape[1], **options)
    figures = {}
    for name, dataset in sets.items():
        if dataset.joints != joints:
            raise MdwError(f"these weights predict {joints.name}, {data} has {dataset.joints.name}; choose weights that fit")
        if data == "coco":
            typer.echo(coco.describe(dataset), err=True)
        bar = lambda batches: tqdm(batches, "predicting", disable=None)  # noqa: E731
        xy, scores = predict_dataset(network, dataset, shape, flip_test, batch_size, device, bar, blur)
        boxes = {"boxes": "detector", "detections": detections.name} if detections and name == "detector_boxes" else {}
        about = {"boxes": "ground truth"} | boxes | {"backend": backend}
        if onnx and isinstance(network, OnnxNetwork):
            about |= {"onnx": onnx.name, "precision": network.about["precision"]}
        written = write(results_list(dataset, xy, scores)) if write.wanted else {}
        measured = {"not_measured": TEST_DEV} if split == "test-dev" else score(dataset, xy, scores)
        figures[name] = measured | {"persons": len(dataset), "flip_test": flip_test, "blur": blur} | about | written
        if data in ("lspet", "lsp"):  # the baseline that depends on the box alone
            mean = mean_pose(load(data, "train", root, shape[0] / shape[1]))
            figures[name]["mean_pose_pck"] = score(dataset, predict_mean_pose(dataset, mean), scores)["pck"]
        if data == "coco":
            figures[name]["public_persons"] = coco.counts(dataset)["public_persons"]
    if record_file:
        write_json(record_file, {"data": data, "split": split, "environment": environment(device), "measured": figures})
    if len(figures) == 1:
        show(next(iter(figures.values())), as_json, as_lines)
    else:
        show(figures, as_json, lambda named: "\n\n".join(f"{name}\n{as_lines(values)}" for name, values in named.items()))


class _Writer:
    """Writes the requested files of a results list; raises MdwError for impossible paths before anything is computed."""

    def __init__(self, results: Path | None, submission: str | None, out: Path, split: str):
        from mdw.pose.submission import submission_path
        from mdw.util.files import check_writable

        self.results, self.submission, self.out, self.split = results, submission, out, split
        self.wanted = bool(results or submission)
        if results:
            check_writable(results)
        if submission:
            check_writable(submission_path(out, submission, split))

    def __call__(self, entries: list[dict]) -> dict:
        from mdw.pose.submission import write_submission
        from mdw.util.files import write_json

        fields: dict[str, object] = {"instances": len(entries)}
        if self.results:
            fields["results"] = str(write_json(self.results, entries, indent=None))
        if self.submission:
            fields["submission"] = str(write_submission(self.out, self.submission, self.split, entries))
        return fields


def _record_file(name: str | None, weights: Path | None, predictions: Path | None) -> Path | None:
    """Returns the file of --record. Raises MdwError where no run's folder is measured, and for a name that no file can have."""
    from mdw.training.runs import Run
    from mdw.util.files import check_writable

    if name is None:
        return None
    if predictions or weights is None or not (weights / "recipe.json").is_file():
        raise MdwError("--record keeps figures in a run's folder; give the folder with --weights, and no --predictions")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
        raise MdwError(f"--record {name!r} cannot be a file's name; use letters, digits, hyphens, as in coco-val")
    file = Run(weights).evaluation_file(name)
    check_writable(file)
    return file


def _check_flags(data: str, split: str, only_coco: dict, gt_boxes: bool, ground_truth: Path | None) -> None:
    """Raise MdwError for flags that exclude each other, before anything is loaded."""
    flags = [flag for flag, value in only_coco.items() if value is not None]
    if data == "mpii" and flags == ["--predictions"] and not gt_boxes:
        return
    if data != "coco" and (flags or gt_boxes or ground_truth):
        flag = [*flags, "--gt-boxes" if gt_boxes else "--ground-truth"][0]
        raise MdwError(f"{flag} goes with --data coco, not with {data}")
    if gt_boxes and "--detections" not in flags:
        raise MdwError("--gt-boxes goes with --detections; without a detector file the annotated boxes are used anyway")
    if gt_boxes and {"--results", "--submission"} & set(flags):
        raise MdwError("a results file holds one kind of boxes; leave --gt-boxes out, or --results and --submission")
    if ground_truth and "--predictions" not in flags:
        raise MdwError("--ground-truth goes with --predictions; a network is measured on the data set of --root")
    if "--predictions" in flags and {"--results", "--detections"} & set(flags):
        raise MdwError("--predictions is a results file already, with whatever boxes it was made; leave the other flag out")
    if split == "test-dev":
        if gt_boxes or ground_truth or not {"--detections", "--predictions"} & set(flags):
            raise MdwError(f"{TEST_DEV}, and it has no boxes of its own; give --detections, the detector's file for test-dev")
        if not {"--submission", "--results"} & set(flags):
            raise MdwError(f"{TEST_DEV}; give --submission NAME to write the zip for it")


def _score_mpii(root: Path | None, split: str, predictions: Path, ground_truth: Path | None) -> dict:
    """Returns the scores of a file of poses that lists the persons in the order of the labels; no image is needed."""
    from mdw.data.mpii import read_predictions, score_mpii, truth_file

    truth = ground_truth or (truth_file(root, split) if root is not None else None)
    if truth is None:
        raise MdwError("--predictions is measured against labels; give --root, MPII's folder, or --ground-truth gt_valid.mat")
    return score_mpii(truth, read_predictions(predictions)) | {"ground_truth": truth.name, "predictions": predictions.name}


def _score_file(root: Path | None, split: str, predictions: Path, ground_truth: Path | None, write: _Writer) -> dict:
    """Returns the scores of a results file; with --submission also writes its zip."""
    from mdw.data import coco
    from mdw.pose.average_precision import coco_ap
    from mdw.pose.coco_files import read_results, read_truth

    truth = ground_truth or (coco.annotation_file(root, split) if root is not None else None)
    if truth is None:
        raise MdwError("--predictions is measured against annotations; give --root, COCO's folder, or --ground-truth FILE")
    if split == "test-dev":
        images = [image.id for image in coco.read_image_list(truth).images]
        entries = read_results(predictions, images, [coco.PERSON], truth)
        measured: dict = {"not_measured": TEST_DEV}
    else:
        labels = read_truth(truth)
        images, categories = ([entry["id"] for entry in labels[key]] for key in ("images", "categories"))
        entries = read_results(predictions, images, categories, truth)
        measured = coco_ap(labels, entries, results_name=predictions)
    fields = {"instances": len(entries), "boxes": "those that the predictions were made with", "predictions": predictions.name}
    if entries and "bbox" in entries[0]:
        fields["areas"] = "from the bbox in the file, which changes APM, APL, ARM and ARL; official results have none"
    return measured | fields | (write(entries) if write.wanted else {})
