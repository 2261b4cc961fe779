"""Videos and cameras: frames, rate and times are kept, the poses are those of the frames, and nothing half-written is left."""

import json
import resource
import signal
from pathlib import Path

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
        image = np.random.default_rng(k).integers(0, noise + 1, (size[1], size[0], 3)).astype(np.uint8)
        cv2.circle(image, track(k), 6, (0, 0, 255), -1)
        writer.write(image)
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
        for number, seen, image in frames:
            read_ahead.append(number)
            yield number, seen, image

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
        for number, seen, image in frames:
            if number == 5:
                signal.raise_signal(signal.SIGINT)
            yield number, seen, image

    said = predict_video(open_camera(0), tmp_path / "out", PREDICTOR, progress=interrupted)
    assert said["frames"] == 6 == len(lines(tmp_path / "out/camera0.poses.jsonl"))
    assert read(tmp_path / "out/camera0.overlay.mp4")[0]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_video_that_is_interrupted_leaves_nothing(tmp_path, number):
    def interrupted(frames):
        for k, seen, image in frames:
            if k == 10:
                signal.raise_signal(number)
            yield k, seen, image

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


def mjpeg(path, frames=20, spoilt=()):
    """A video of single JPEGs, in some of which bytes are overwritten."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (160, 120))
    for k in range(frames):
        image = np.random.default_rng(k).integers(0, 60, (120, 160, 3)).astype(np.uint8)
        cv2.circle(image, track(k), 6, (0, 0, 255), -1)
        writer.write(image)
    writer.release()
    data = bytearray(path.read_bytes())
    starts, at = [], -1
    while (at := data.find(b"\xff\xd8\xff", at + 1)) >= 0:
        starts.append(at)
    for k in spoilt:
        data[starts[k] : starts[k] + 1500] = bytes(1500)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(("spoilt", "read"), [((8,), range(18, 20)), ((0,), range(18, 20)), ((3, 4, 12), range(14, 18))])
def test_frames_behind_one_that_cannot_be_decoded_are_read(tmp_path, caplog, spoilt, read):
    source = open_video(mjpeg(tmp_path / "a.avi", spoilt=spoilt))
    said = predict_video(source, tmp_path / "out", PREDICTOR, [(0, 0, 160, 120)])
    poses = lines(tmp_path / "out/a.poses.jsonl")
    assert said["frames"] == len(poses) and len(poses) in read
    assert f"only {len(poses)} of the 20 frames of a can be read" in caplog.text
    assert poses[-1]["people"][0]["keypoints"][:2] == pytest.approx(track(19), abs=6)  # the last frame, at its own time
    assert poses[-1]["time"] - poses[0]["time"] == pytest.approx(1.9 if 0 not in spoilt else 1.8, abs=0.11)


def test_a_whole_video_is_read_without_a_word(tmp_path, caplog):
    for path in (mjpeg(tmp_path / "a.avi"), clip(tmp_path / "b.mp4"), clip(tmp_path / "c.mkv"), clip(tmp_path / "d.mov")):
        assert len(list(open_video(path).frames())) == 20
    assert caplog.text == ""


def test_a_video_that_is_cut_short_says_so(tmp_path, caplog):
    whole = mjpeg(tmp_path / "whole.avi").read_bytes()
    (tmp_path / "cut.avi").write_bytes(whole[: len(whole) * 6 // 10])
    read = len(list(open_video(tmp_path / "cut.avi").frames()))
    assert 6 <= read <= 13 and f"only {read} of the 20 frames of cut can be read" in caplog.text


@pytest.mark.parametrize("name", ["12:30:05.mp4", "file:a.mp4", "concat:a.mp4", "%02d.mp4", "-i.mp4", "a b#?.mp4"])
def test_a_name_is_a_file_and_no_protocol(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    clip(tmp_path / "plain.mp4").rename(tmp_path / name)
    said = predict_video(open_video(Path(name)), Path("."), PREDICTOR, [(0, 0, 160, 120)])
    assert said["frames"] == 20 and Path(f"{name.removesuffix('.mp4')}.overlay.mp4").exists()


def test_the_given_videos(shared, tmp_path, caplog):
    cases = shared / "cases"
    for name, frames in (("bad_middle.mp4", 18), ("cut_short.avi", 6), ("one_bad_frame.avi", 18), ("whole.avi", 20)):
        caplog.clear()
        assert len(list(open_video(cases / "video_cut" / name).frames())) == frames
        assert (f"only {frames} of the 20 frames" in caplog.text) == (frames < 20)
    assert len(list(open_video(cases / "video_name_colon/12:30:05.mp4").frames())) == 20


def test_any_damage_to_a_video_or_image_is_a_sentence_or_frames(tmp_path):
    """120 random changes each of an .avi, an .mp4, a PNG and a JPEG: never a traceback, and never without end."""
    from mdw.data.sample import read_image

    rng = np.random.default_rng(0)
    mjpeg(tmp_path / "a.avi", 6), clip(tmp_path / "a.mp4", 6)
    for name in ("a.png", "a.jpg"):
        cv2.imwrite(str(tmp_path / name), rng.integers(0, 255, (40, 60, 3), np.uint8))
    refused = dict.fromkeys(("a.avi", "a.mp4", "a.png", "a.jpg"), 0)
    for name in refused:
        whole = (tmp_path / name).read_bytes()
        for k in range(120):
            data = bytearray(whole)
            for place in rng.integers(0, min(len(data), 2000 if k % 2 else len(data)), rng.choice([1, 4, 40])):
                data[place] = rng.integers(256)
            path = tmp_path / f"x{name[1:]}"
            path.write_bytes(data[: rng.choice([len(data), rng.integers(len(data))])])
            try:
                if name in ("a.avi", "a.mp4"):
                    source = open_video(path)
                    assert len(list(source.frames())) <= max(source.count or 0, 50)
                else:
                    assert read_image(path).ndim == 3
            except MdwError as error:
                assert str(path) in str(error) and "\n" not in str(error)
                refused[name] += 1
    assert min(refused.values()) > 10 and sum(refused.values()) < 450, refused
