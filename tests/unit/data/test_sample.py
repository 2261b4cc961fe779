import io

import cv2
import numpy as np
import pytest
from PIL import Image

from mdw.data.sample import Dataset, Sample, check_images, read_image
from mdw.pose.joints import LSP14
from mdw.util.errors import MdwError

RAMP = np.stack(np.broadcast_arrays(np.arange(0, 240, 5)[None, :], np.arange(0, 200, 5)[:, None], 90), -1).astype(np.uint8)


def one_sentence(error) -> str:
    text = str(error.value)
    assert "\n" not in text and len(text) > 20
    return text


def sample(joints, visible, **options) -> Sample:
    return Sample(lambda: RAMP, 1, 1, (10, 10), (0.1, 0.1), joints, visible, **options)


def test_unannotated_joints_are_zero_whatever_was_given():
    poison = np.array([[3, 4], [np.nan, -1e9], [np.inf, 7]])
    got = sample(poison, [1, 0, 0])
    assert got.joints.tolist() == [[3, 4], [0, 0], [0, 0]]
    assert got.joints.dtype == got.visible.dtype == got.center.dtype == got.scale.dtype == np.float32


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="should be"):
        sample(np.zeros((2, 3)), [1, 1])


def test_dataset_indexing_iteration_and_selection():
    data = Dataset("d", LSP14, tuple(sample(np.full((1, 2), k), [1]) for k in range(4)), ground_truth={"images": []})
    assert len(data) == 4 and data[2].joints[0, 0] == 2 and len(list(data)) == 4
    part = data.select([3, 1])
    assert [s.joints[0, 0] for s in part] == [3, 1] and part.ground_truth == data.ground_truth and len(data) == 4


def test_drawn_pixels():
    assert sample([[0, 0]], [1]).pixels() is RAMP


def test_reads_rgb_not_bgr(tmp_path):
    Image.fromarray(RAMP).save(tmp_path / "a.png")
    assert np.array_equal(read_image(tmp_path / "a.png"), RAMP)


def test_equals_opencv_on_real_jpegs(shared):
    files = sorted((shared / "data/coco_mini/val2017").glob("*.jpg"))[:4]
    assert files
    for file in files:
        bgr = cv2.imread(str(file), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
        assert np.array_equal(read_image(file), bgr[..., ::-1])


def test_exif_orientation_is_ignored(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # "turn by 90 degrees to look at it"
    Image.fromarray(RAMP).save(tmp_path / "a.jpg", exif=exif)
    assert read_image(tmp_path / "a.jpg").shape == RAMP.shape


@pytest.mark.parametrize("mode", ["L", "1", "P", "CMYK"])
def test_other_colour_modes_become_rgb(tmp_path, mode):
    name = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    Image.fromarray(RAMP).convert(mode).save(name, quality=95)
    got = read_image(name)
    assert got.shape == RAMP.shape and got.dtype == np.uint8 and got.flags.writeable
    expected = np.array(Image.fromarray(RAMP).convert(mode).convert("RGB"))
    assert np.abs(got.astype(int) - expected).mean() < 3


def test_sixteen_bit_grey_is_scaled_and_not_clipped(tmp_path):
    grey = np.linspace(0, 65535, 48 * 40).reshape(40, 48).astype(np.uint16)
    cv2.imwrite(str(tmp_path / "a.png"), grey)
    got = read_image(tmp_path / "a.png")
    assert np.array_equal(got[..., 0], grey >> 8) and np.array_equal(got[..., 0], got[..., 2])


def test_sixteen_bit_colour_is_scaled(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), RAMP[..., ::-1].astype(np.uint16) * 257)
    assert np.abs(read_image(tmp_path / "a.png").astype(int) - RAMP).max() <= 1


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_laid_over_white(tmp_path, mode):
    image = Image.new(mode, (8, 6), 0)  # black, fully transparent
    image.save(tmp_path / "a.png")
    assert (read_image(tmp_path / "a.png") == 255).all()


def jpeg() -> bytes:
    data = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 48, 3), dtype=np.uint8)).save(data, "JPEG")
    return data.getvalue()


@pytest.mark.parametrize("share", [0.02, 0.3, 0.7, 0.99])
def test_truncated_jpeg_is_refused_by_name(tmp_path, share):
    data = jpeg()
    (tmp_path / "cut.jpg").write_bytes(data[: int(share * len(data))])
    with pytest.raises(MdwError) as error:
        read_image(tmp_path / "cut.jpg")
    assert "cut.jpg" in one_sentence(error)


def test_last_two_bytes_missing_is_refused_and_whole_file_is_not(tmp_path):
    (tmp_path / "whole.jpg").write_bytes(jpeg())
    (tmp_path / "cut.jpg").write_bytes(jpeg()[:-2])
    assert read_image(tmp_path / "whole.jpg").shape == (64, 48, 3)
    with pytest.raises(MdwError, match="cut.jpg"):
        read_image(tmp_path / "cut.jpg")


@pytest.mark.parametrize("content", [b"", b"hello", b"\x89PNG\r\n\x1a\n and then nothing"])
def test_no_picture_is_refused_by_name(tmp_path, content):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(MdwError) as error:
        read_image(tmp_path / "a.png")
    assert "a.png" in one_sentence(error)


def test_missing_file_folder_and_real_valued_pixels_are_refused(tmp_path):
    Image.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / "f.tiff")
    for name, word in (("no.jpg", "does not exist"), (".", "cannot read"), ("f.tiff", "kind F")):
        with pytest.raises(MdwError, match=word) as error:
            read_image(tmp_path / name)
        one_sentence(error)


def test_check_images_names_the_first_gap(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"")
    check_images([tmp_path / "a.jpg"], tmp_path / "labels.json")
    with pytest.raises(MdwError, match=r"2 of the images .*labels.json.*b.jpg"):
        check_images([tmp_path / "a.jpg", tmp_path / "b.jpg", tmp_path / "c.jpg"], tmp_path / "labels.json")
    with pytest.raises(MdwError, match="image folder"):
        check_images([tmp_path / "nowhere" / "a.jpg"], tmp_path / "labels.json")
