"""The command that finds people's joints in pictures, videos and what a camera sees: predict."""

import os
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from mdw.cli.common import Device, ForUse, Json, Weights, show
from mdw.util.errors import MdwError, Nobody


def predict(
    files: Annotated[
        list[Path] | None, typer.Argument(help="Pictures, videos or folders of them; the bundled photos if left out.")
    ] = None,
    camera: Annotated[int | None, typer.Option(min=0, help="Record from this camera instead, until Ctrl-C.")] = None,
    seconds: Annotated[float | None, typer.Option(min=0, help="With --camera: record so long.")] = None,
    out: Annotated[Path, typer.Option("--out", help="Where overlays and poses go.")] = Path("predictions"),
    boxes: Annotated[Path | None, typer.Option(help="JSON: file name -> [[x, y, w, h], ...], or COCO annotations.")] = None,
    box: Annotated[list[str] | None, typer.Option(help="A person's x,y,w,h in every picture and frame; repeatable.")] = None,
    detector: Annotated[
        str | None, typer.Option(help="Find people with torchvision's, e.g. fasterrcnn_resnet50_fpn_v2; fetches its weights.")
    ] = None,
    detector_threshold: Annotated[float, typer.Option(help="The detector's people below this score are left out.")] = 0.5,
    weights: Weights = None,
    flip_test: bool = True,
    threshold: Annotated[float, typer.Option(help="Joints below this score are drawn hollow, without limbs.")] = 0.2,
    device: Device = None,
    computation: ForUse = "auto",
    as_json: Json = False,
) -> None:
    """Find people's joints: an overlay for each picture or video, and the poses as JSON in COCO's results form.

    A picture is one person's unless there are boxes or a detector. Boxes and poses are in pixels of the upright picture.
    """
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # one sentence of ours says what is wrong, before cv2 is loaded

    from tqdm import tqdm

    from mdw.data.photos import photo_paths
    from mdw.inference import boxes as places
    from mdw.models.weights import read_about, weights_file

    told_where = [flag for flag, value in {"--boxes": boxes, "--box": box, "--detector": detector}.items() if value]
    if len(told_where) > 1:
        raise MdwError(f"{' and '.join(told_where)} each say where the people are; give one of them")
    if camera is not None and (files or boxes):
        raise MdwError("--camera reads no files; leave them and --boxes out")
    if seconds is not None and camera is None:
        raise MdwError("--seconds goes with --camera; a video is read to its end")

    photos, videos = ([], []) if camera is not None else places.find_files(files or photo_paths())
    read_about(weights_file(weights))

    from mdw.inference import predict as prediction  # torch takes seconds: what is amiss with files is said before
    from mdw.inference import video

    prediction.one_name_each(photos)
    prediction.one_name_each(videos)
    everywhere = [places.parse_box(text) for text in box] if box else None
    named: dict[str, list] = {path.name: everywhere for path in photos + videos} if everywhere else {}
    if boxes:
        named = places.read_boxes(boxes)
        if not named.keys() & {path.name for path in photos + videos}:
            raise MdwError(
                f"{boxes} has boxes for none of these files; it has to call them by name, as {(photos + videos)[0].name}"
            )
    elif photos and not told_where and (beside := photos[0].parent / "person_keypoints.json").exists():
        named = places.read_boxes(beside)  # the bundled photos come with their boxes
    sources = [(video.open_video(path), named.get(path.name)) for path in videos]
    if camera is not None:
        sources = [(video.open_camera(camera), everywhere)]

    predictor = prediction.load_predictor(weights, flip_test, device, computation, detector, detector_threshold)
    results, told, empty = [], [], []
    if photos:
        bar = partial(tqdm, desc="photos", disable=None)
        try:
            results = prediction.predict_files(photos, out, predictor, named, threshold, bar)
        except Nobody as error:
            empty.append(error)
        else:
            told = [f"{len(results)} people in {len(photos)} photos; overlays and predictions.json are in {out}"]
            if nobody := len(photos) - len({result["file_name"] for result in results}):
                typer.echo(f"mdw: there is nobody in {nobody} of {len(photos)} photos", err=True)
    for source, its_boxes in sources:
        bar = partial(tqdm, desc=source.name, total=source.count, unit=" frames", disable=None)
        try:
            said = video.predict_video(source, out, predictor, its_boxes, threshold, seconds, bar)
        except Nobody as error:
            empty.append(error)
            continue
        results.append(said)
        files_written = f"{source.name}.overlay.mp4 and {source.name}.poses.jsonl are in {out}"
        told.append(f"{said['people']} people in {said['frames']} frames of {source.name}; {files_written}")
    if empty and not told:
        raise empty[0]
    for nobody_there in empty:  # the others were looked at all the same
        typer.echo(f"mdw: {nobody_there}", err=True)
    show(results, as_json, lambda _: "\n".join([*told, f"the network was computed by {predictor.backend}"]))
