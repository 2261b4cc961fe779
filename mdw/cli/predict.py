"""The command that finds people's joints in images, videos and camera recordings: predict."""

import os
import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from mdw.cli.common import Device, FlipTest, ForUse, InputSize, Json, Weights, read_size, show
from mdw.util.errors import MdwError, Nobody
from mdw.util.words import count

WHOLE_IMAGE = "People were not looked for: the whole image is taken as one person."


def predict(
    files: Annotated[
        list[Path] | None, typer.Argument(help="Images, videos or folders of them; the bundled photos if left out.")
    ] = None,
    camera: Annotated[int | None, typer.Option(min=0, help="Record from this camera instead, until Ctrl-C.")] = None,
    seconds: Annotated[float | None, typer.Option(min=0, help="With --camera: record so long.")] = None,
    out: Annotated[
        Path,
        typer.Option("--out", help="The folder of overlays and poses. What it holds of images with other file names stays."),
    ] = Path("predictions"),
    boxes: Annotated[Path | None, typer.Option(help="JSON: file name -> [[x, y, w, h], ...], or COCO annotations.")] = None,
    box: Annotated[list[str] | None, typer.Option(help="A person's x,y,w,h in every image and frame; repeatable.")] = None,
    whole: Annotated[bool, typer.Option("--whole", help="Take every image and frame as one person; look for nobody.")] = False,
    detector: Annotated[
        str | None,
        typer.Option(
            help="torchvision's network that finds people; fetches its weights. fasterrcnn_mobilenet_v3_large_fpn if "
            "left out; fasterrcnn_mobilenet_v3_large_320_fpn is faster, fasterrcnn_resnet50_fpn_v2 finds more."
        ),
    ] = None,
    detector_threshold: Annotated[
        float, typer.Option(min=0, max=1, help="The detector's people below this score are left out.")
    ] = 0.5,
    weights: Weights = None,
    size: InputSize = None,
    flip_test: FlipTest = True,
    threshold: Annotated[
        float,
        typer.Option(
            help="Joints below this score are not drawn, and people whose mean score is below it are framed. At the default "
            "half of the shipped network's joints are right (PCK@0.2)."
        ),
    ] = 0.38,
    device: Device = None,
    backend: ForUse = "auto",
    as_json: Json = False,
) -> None:
    """Find people's joints: an overlay for each image or video, and the poses as JSON in COCO's results form.

    People are looked for by a detector of torchvision, unless boxes are given; the bundled photos have boxes of their own. Its
    weights are taken from torch's cache; where they are not there a terminal is asked whether to fetch them. Without them each
    image is taken as one person's, and overlay and JSON say so.

    predictions.json holds what all calls into one folder have found; a photo takes the place of one with its file name. Boxes
    and poses are in pixels of the upright image.
    """
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # before cv2 is imported; our own messages report errors

    from tqdm import tqdm

    from mdw.backends.choose import check, pick_device
    from mdw.data.photos import photo_paths
    from mdw.inference import boxes as box_files
    from mdw.models.weights import read_about, weights_file

    box_flags = {"--boxes": boxes, "--box": box, "--detector": detector, "--whole": whole}
    used_flags = [flag for flag, value in box_flags.items() if value]
    if len(used_flags) > 1:
        raise MdwError(f"{' and '.join(used_flags)} each say where the people are; give one of them")
    if camera is not None and (files or boxes):
        raise MdwError("--camera reads no files; leave them and --boxes out")
    if seconds is not None and camera is None:
        raise MdwError("--seconds goes with --camera; a video is read to its end")
    check(backend, training=False)
    shape = read_size(size)[::-1] if size else None

    photos, videos = ([], []) if camera is not None else box_files.find_files(files or photo_paths())
    read_about(weights_file(weights))

    from mdw.inference import predict as prediction  # torch takes seconds to import: mistakes with files are reported before
    from mdw.inference import video

    prediction.one_name_each(photos)
    prediction.one_name_each(videos)
    everywhere = [box_files.parse_box(text) for text in box] if box else None
    named: dict[str, list] = {path.name: everywhere for path in photos + videos} if everywhere else {}
    if boxes:
        named = box_files.read_boxes(boxes)
        if not named.keys() & {path.name for path in photos + videos}:
            raise MdwError(
                f"{boxes} has boxes for none of these files; it has to call them by name, as {(photos + videos)[0].name}"
            )
    elif photos and not used_flags and (beside := photos[0].parent / "person_keypoints.json").exists():
        named = box_files.read_boxes(beside)  # the bundled photos come with their boxes
    sources = [(video.open_video(path), named.get(path.name)) for path in videos]
    if camera is not None:
        sources = [(video.open_camera(camera), everywhere)]

    device = pick_device(device)
    needs_boxes = any(path.name not in named for path in photos) or any(source_boxes is None for _, source_boxes in sources)
    finder = _detector(detector, detector_threshold, device) if needs_boxes and not whole else None
    warning = WHOLE_IMAGE if needs_boxes and not whole and finder is None else ""
    predictor = prediction.load_predictor(weights, flip_test, device, backend, finder, size=shape, warning=warning)
    results, lines, empty = [], [], []
    if photos:
        bar = partial(tqdm, desc="photos", disable=None)
        try:
            results = prediction.predict_files(photos, out, predictor, named, threshold, bar)
        except Nobody as error:
            empty.append(error)
        else:
            lines = [f"{_people_found(results, threshold)} in {count(len(photos), 'photo')}, drawn in {out}"]
            names = {entry["file_name"] for entry in prediction.read_predictions(out / "predictions.json", without=photos)}
            earlier = f"; what it says of {count(len(names), 'other photo')} was kept" if names else ""
            lines.append(f"poses are in {out / 'predictions.json'}{earlier}")
            if nobody := len(photos) - len({result["file_name"] for result in results}):
                typer.echo(f"mdw: there is nobody in {nobody} of {count(len(photos), 'photo')}", err=True)
    for source, its_boxes in sources:
        bar = partial(tqdm, desc=source.name, total=source.count, unit=" frames", disable=None)
        try:
            figures = video.predict_video(source, out, predictor, its_boxes, threshold, seconds, bar)
        except Nobody as error:
            empty.append(error)
            continue
        results.append(figures)
        files_written = f"{source.name}.overlay.mp4 and {source.name}.poses.jsonl are in {out}"
        people, frames = count(figures["people"], "pose"), count(figures["frames"], "frame")
        lines.append(f"{people} in {frames} of {source.name}; {files_written}")
    if empty and not lines:
        raise empty[0]
    for no_person in empty:  # the other files have been processed
        typer.echo(f"mdw: {no_person}", err=True)
    boxes_by = f"boxes by {finder.name}, " if finder else ""
    show(
        results,
        as_json,
        lambda _: "\n".join([*lines, f"{boxes_by}joints by {predictor.name}, computed by {predictor.backend}"]),
    )


def _people_found(results: list[dict], threshold: float) -> str:
    """Returns for example "3 people (1 with a mean score below 0.38, framed)"."""
    low = sum(entry["score"] < threshold for entry in results)
    return count(len(results), "person", "people") + (f" ({low} with a mean score below {threshold:g}, framed)" if low else "")


def _detector(name: str | None, threshold: float, device: str):
    """Returns the detector `name`, by default `DEFAULT`, or None, with a message, if that is not available or not wanted."""
    from mdw.inference.detector import DEFAULT, load_detector, weights_of

    if name:
        return load_detector(name, threshold, device)
    try:
        file, source = weights_of(DEFAULT)
        if file.is_file() or (_at_terminal() and _download_allowed(DEFAULT, source, file)):
            return load_detector(DEFAULT, threshold, device)
        reason = f"the weights of {DEFAULT} are not in {file.parent} (`--detector {DEFAULT}` fetches {source})"
    except MdwError as error:
        reason = str(error)
    typer.echo(f"mdw: people were not looked for, each image is taken as one person: {reason}", err=True)
    return None


def _at_terminal() -> bool:
    """Returns whether the user can be asked a question."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def _download_allowed(name: str, source: str, file: Path) -> bool:
    """Asks the user whether the weights may be downloaded."""
    question = f"People are found by torchvision's {name}. Fetch its weights, {source}, into {file.parent}?"
    return typer.confirm(question, default=True, err=True)
