"""Videos and cameras: frames, rate and times are kept, the poses are those of the frames, and nothing half-written is left."""

import json
import resource
import signal

import cv2
import numpy as np
import pytest
from torch import nn
from typer.testing import CliRunner

from mdw.cli import app
from mdw.inference import video
from mdw.inference.draw import write_image
from mdw.inference.predict import Predictor
from mdw.inference.video import open_camera, open_video, predict_video
from mdw.pose.joints import LSP14
from mdw.util.errors import MdwError


class Brightest(nn.Module):
    """Stands for a network: each joint's map is the crop's red, so that every joint is at the reddest place."""

    def forward(self, x):
        return nn.functional.avg_pool2d(x[:, :1] + 3, 4).repeat(1, LSP14.num_joints, 1, 1)


PREDICTOR = Predictor(Brightest(), LSP14, (96, 128), flip_test=False)


def track(k):
    """Where the red dot of frame k is."""
    return 30 + 5 * k, 100 - 3 * k


def clip(path, frames=20, fps=23.976, size=(160, 120), noise=0):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), fps, size)
    for k in range(frames):
        picture = np.random.default_rng(k).integers(0, noise + 1, (size[1], size[0], 3)).astype(np.uint8)
        cv2.circle(picture, track(k), 6, (0, 0, 255), -1)
        writer.write(picture)
    writer.release()
    return path


def read(path):
    capture = cv2.VideoCapture(str(path))
    frames = []
    while (frame := capture.read())[0]:
        frames.append(frame[1])
    return frames, capture.get(cv2.CAP_PROP_FPS)


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("box", [None, [(0, 0, 160, 120)]])
def test_a_video_keeps_its_frames_rate_and_times(tmp_path, box):
    source = open_video(clip(tmp_path / "läufer 走.mp4"))
    said = predict_video(source, tmp_path / "out", PREDICTOR, box)
    frames, fps = read(tmp_path / "out/läufer 走.overlay.mp4")
    assert len(frames) == said["frames"] == said["people"] == said["frames_with_people"] == 20
    assert fps == pytest.approx(23.976, rel=1e-4) and frames[0].shape[1:] == (160, 3)
    poses = lines(tmp_path / "out/läufer 走.poses.jsonl")
    assert [line["frame"] for line in poses] == list(range(20))
    np.testing.assert_allclose([line["time"] for line in poses], np.arange(20) / 23.976, atol=1e-3)
    found = [line["people"][0]["keypoints"][:2] for line in poses]
    np.testing.assert_allclose(found, [track(k) for k in range(20)], atol=6)  # each frame's own: the dot moves on by as much
    assert {line["joints"] for line in poses} == {"lsp14"}
    assert [line["people"][0]["image_id"] for line in poses] == list(range(20))
    for frame in frames:
        blue, green, red = frame.astype(int).transpose(2, 0, 1)
        assert (red - blue).max() > 100, "the dot is no longer red"
        assert green.max() > 120, "nothing was drawn: the dot and its ground have no green"
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"läufer 走.overlay.mp4", "läufer 走.poses.jsonl"}


def test_a_size_that_is_odd(tmp_path):
    writer = cv2.VideoWriter(str(tmp_path / "odd.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 10, (75, 51))
    for _ in range(3):
        writer.write(np.full((51, 75, 3), 90, np.uint8))
    writer.release()
    predict_video(open_video(tmp_path / "odd.avi"), tmp_path, PREDICTOR)
    frames, _ = read(tmp_path / "odd.overlay.mp4")
    assert len(frames) == 3 and frames[0].shape[1] in (74, 75) and frames[0].shape[0] >= 50


def test_frames_are_read_a_few_at_a_time(tmp_path):
    read_ahead = []

    def watched(frames):
        for number, seen, picture in frames:
            read_ahead.append(number)
            yield number, seen, picture

    sizes = []

    class Counting(Brightest):
        def forward(self, x):
            sizes.append((len(x), read_ahead[-1] + 1))
            return super().forward(x)

    predict_video(
        open_video(clip(tmp_path / "a.mp4")), tmp_path, Predictor(Counting(), LSP14, (96, 128), False), progress=watched
    )
    assert sizes == [(8, 8), (8, 16), (4, 20)]


def test_a_camera_is_recorded_as_fast_as_life(tmp_path, monkeypatch):
    """A file stands for the camera and says 20 frames a second, but gives one every 0.12 s."""
    path, clock = clip(tmp_path / "scene.mp4", 40, 20), [100.0]
    asked, real = [], cv2.VideoCapture

    class Camera:
        def __init__(self, number):
            asked.append(number)
            self.file = real(str(path))

        def read(self):
            clock[0] += 0.12
            return self.file.read()

        def __getattr__(self, name):
            return getattr(self.file, name)

    monkeypatch.setattr(video.cv2, "VideoCapture", lambda name: Camera(name) if isinstance(name, int) else real(name))
    monkeypatch.setattr(video.time, "monotonic", lambda: clock[0])
    said = predict_video(open_camera(3), tmp_path / "out", PREDICTOR)
    frames, fps = read(tmp_path / "out/camera3.overlay.mp4")
    times = [line["time"] for line in lines(tmp_path / "out/camera3.poses.jsonl")]
    assert asked == [3] and fps == 20 and said["frames"] == len(times) == 40
    np.testing.assert_allclose(times, 0.12 * np.arange(40), atol=1e-3)
    assert len(frames) == round(times[-1] * 20) + 1


def test_a_recording_ends_with_ctrl_c_and_is_kept(tmp_path, monkeypatch):
    path, real = clip(tmp_path / "scene.mp4", 40, 20), cv2.VideoCapture
    monkeypatch.setattr(video.cv2, "VideoCapture", lambda name: real(str(path) if isinstance(name, int) else name))

    def interrupted(frames):
        for number, seen, picture in frames:
            if number == 5:
                signal.raise_signal(signal.SIGINT)
            yield number, seen, picture

    said = predict_video(open_camera(0), tmp_path / "out", PREDICTOR, progress=interrupted)
    assert said["frames"] == 6 == len(lines(tmp_path / "out/camera0.poses.jsonl"))
    assert read(tmp_path / "out/camera0.overlay.mp4")[0]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_video_that_is_interrupted_leaves_nothing(tmp_path, number):
    def interrupted(frames):
        for k, seen, picture in frames:
            if k == 10:
                signal.raise_signal(number)
            yield k, seen, picture

    with pytest.raises(MdwError, match="stopped at frame 16 of 20 of a; nothing of it was written"):
        predict_video(open_video(clip(tmp_path / "a.mp4")), tmp_path / "out", PREDICTOR, progress=interrupted)
    assert not list((tmp_path / "out").iterdir())


def test_whatever_goes_wrong_leaves_what_was_there(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    for name in ("a.overlay.mp4", "a.poses.jsonl"):
        (out / name).write_text("of yesterday")

    class Failing(Brightest):
        def forward(self, x):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        predict_video(open_video(clip(tmp_path / "a.mp4")), out, Predictor(Failing(), LSP14, (96, 128), False))
    assert {path.name: path.read_text() for path in out.iterdir()} == {
        "a.overlay.mp4": "of yesterday",
        "a.poses.jsonl": "of yesterday",
    }


@pytest.mark.parametrize(
    ("noise", "limit", "sentence"),
    [(0, 6000, "cannot write .*a.poses.jsonl"), (255, 40000, "a.overlay.mp4 could not be written whole; make room")],
)
def test_a_disk_that_fills_up_is_noticed(tmp_path, noise, limit, sentence):
    """OpenCV's writer says nothing; a limit on the size of files stands for the disk."""
    source = open_video(clip(tmp_path / "a.mp4", noise=noise))
    limits, seen = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limits[1]))
    try:
        with pytest.raises(MdwError, match=sentence):
            predict_video(source, tmp_path / "out", PREDICTOR)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, seen)
    assert not list((tmp_path / "out").iterdir())


def test_videos_and_cameras_that_are_none(tmp_path):
    whole = clip(tmp_path / "a.mp4").read_bytes()
    (tmp_path / "text.mp4").write_text("no video, whatever the name says")
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    for name in ("text.mp4", "cut.mp4"):
        with pytest.raises(MdwError, match=f"{name} cannot be read as a video"):
            open_video(tmp_path / name)
    with pytest.raises(MdwError, match="no camera 97"):
        open_camera(97)
    with pytest.raises(MdwError, match="lies outside a, which is 160 x 120"):
        predict_video(open_video(tmp_path / "a.mp4"), tmp_path / "out", PREDICTOR, [(500, 0, 5, 5)])
    with pytest.raises(MdwError, match="no person in a"):
        predict_video(open_video(tmp_path / "a.mp4"), tmp_path / "out", PREDICTOR, [])
    with pytest.raises(MdwError, match="cannot write"):
        predict_video(open_video(tmp_path / "a.mp4"), tmp_path / "a.mp4", PREDICTOR)
    assert not list((tmp_path / "out").iterdir())


def test_a_file_without_people_does_not_keep_the_others_back(tmp_path, monkeypatch):
    """One with nobody in it is said and left out; only where nobody is in any of them is that an error."""
    monkeypatch.setattr("mdw.inference.predict.load_predictor", lambda *_, **__: PREDICTOR)
    write_image(tmp_path / "a.png", np.zeros((120, 160, 3), np.uint8))
    for name in ("b.mp4", "c.mp4"):
        clip(tmp_path / name)
    boxes = {"a.png": [], "b.mp4": [], "c.mp4": [[0, 0, 160, 120]]}
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    asked = ["predict", *(str(tmp_path / name) for name in boxes), "--boxes", str(tmp_path / "boxes.json")]
    done = CliRunner().invoke(app, [*asked, "--out", str(tmp_path / "out")])
    assert done.exit_code == 0 and "no person in" in done.stderr and done.stderr.count("no person") == 2
    assert "20 poses in 20 frames of c" in done.stdout
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["c.overlay.mp4", "c.poses.jsonl"]
    (tmp_path / "boxes.json").write_text(json.dumps(boxes | {"c.mp4": []}))
    done = CliRunner().invoke(app, [*asked, "--out", str(tmp_path / "none")])
    assert "no person in" in str(done.exception) and not list((tmp_path / "none").iterdir())
