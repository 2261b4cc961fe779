"""Packs: every crop that training may ask for is in them, they outlive a kill, and what is damaged or foreign is refused."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace

import cv2
import numpy as np
import pytest
from PIL import Image

from mdw import data
from mdw.data import pack as packing
from mdw.data.augment import HRNET_COCO, LITE_COCO, MDW_COCO, MDW_MPII, NONE, Augmentation, Draws, augment
from mdw.data.pack import pack
from mdw.data.packed import chunk_path, open_pack, verify
from mdw.data.sample import Dataset, Sample
from mdw.data.warp import crop
from mdw.inference.evaluate import predict_dataset, refuse_pack
from mdw.pose.affine import affine_matrix, apply
from mdw.pose.boxes import box_to_center_scale
from mdw.pose.joints import COCO17
from mdw.training import recipes
from mdw.util.errors import MdwError

SIZE = (48, 64)
EVERYTHING = {
    "hrnet": HRNET_COCO,
    "lite": LITE_COCO,
    "static20": replace(NONE, jitter="static20"),
    "per_sample16": replace(NONE, jitter="per_sample16"),
    "uniform": Augmentation(rotation=30.0, rotation_law="uniform", rotation_probability=1.0),
    "upside_down": Augmentation(rotation=90.0, half_body_probability=1.0),
    "none": NONE,
}


def smooth_photo(path, size, seed):
    """A photo without fine detail and without black, so that what a pack leaves out is seen and little else."""
    rng = np.random.default_rng(seed)
    image = cv2.resize(rng.integers(110, 256, (5, 6, 3), dtype=np.uint8), size, interpolation=cv2.INTER_LINEAR)
    Image.fromarray(image).save(path, quality=95)
    return path


def some_people(folder, count=24, seed=0):
    """Persons of all sizes in photos of all sizes, some at the edge or beyond it, some with few labelled joints."""
    rng = np.random.default_rng(seed)
    sizes = [(160, 120), (90, 240), (500, 400), (1200, 900)]
    photos = [smooth_photo(folder / f"{k}.{'png' if k == 1 else 'jpg'}", size, k) for k, size in enumerate(sizes)]
    samples = []
    for k in range(count):
        image, (width, height) = photos[k % 4], sizes[k % 4]
        w, h = rng.uniform(0.05, 0.9, 2) * (width, height)
        x, y = rng.uniform(-0.3, 1.1, 2) * (width - w, height - h)
        center, scale = box_to_center_scale([x, y, w, h], SIZE)
        joints = np.array([x, y]) + rng.uniform(-0.1, 1.1, (17, 2)) * (w, h)  # some outside their box, as in COCO
        visible = (rng.random(17) < rng.choice([0.2, 0.8, 1.0])).astype(np.float32)
        samples.append(Sample(image, k % 4, k, center, scale, joints, visible, float(w * h), box_wh=(w, h)))
    return Dataset("some", COCO17, tuple(samples))


def extremes(rng):
    """Numbers whose crops go as far as any, more often than not."""
    u, z = rng.choice([0.0, 0.5, 1 - 1e-9], 7), rng.choice([-9.0, 0.0, 9.0], 3)
    if rng.random() < 0.5:
        u, z = rng.random(7), rng.standard_normal(3)
    return Draws(u[0], z[0], z[1], u[1], z[2], u[2], u[3], u[4], u[5], u[6])


def both_crops(direct, packed, augmentation, draws, shift):
    """The same augmented crop from the photo and from the pack, and how far inside the photo each pixel lies, in pixels.

    `shift` (-1..1) is static20's, in parts of its reach."""
    made = []
    for sample in (direct, packed):
        image = sample.pixels()
        center = sample.center + (0.2 * shift * sample.box_wh if augmentation.jitter == "static20" else 0)
        arguments = image.shape[1], COCO17, SIZE, augmentation, draws
        a = augment(center, sample.scale, sample.joints, sample.visible, *arguments)
        made.append(crop(image, a.center, a.scale, a.rotation, SIZE, a.flip).astype(int))
        if sample is direct:
            back = affine_matrix(a.center, a.scale, a.rotation, SIZE, inverse=True)
            xy = apply(back, np.stack(np.meshgrid(np.arange(SIZE[0]), np.arange(SIZE[1])), axis=-1))
            inside = np.minimum(xy, np.array(image.shape[1::-1]) - 1 - xy).min(axis=-1)
    return *made, inside


@pytest.mark.parametrize("name", EVERYTHING)
@pytest.mark.parametrize("compact", [False, True])
def test_every_augmented_crop_is_in_the_pack(tmp_path, name, compact):
    """Where the photo shows something the pack shows the same, where it is black the pack is black; the photo's rim, which a
    reduced image blurs, is left out."""
    people = some_people(tmp_path)
    pack(people, tmp_path / "pack", SIZE, EVERYTHING[name], {}, compact)
    packed, rng, seen = open_pack(tmp_path / "pack"), np.random.default_rng(1), 0
    for k in range(240):
        direct, stored = people[k % len(people)], packed[k % len(people)]
        draws, shift = extremes(rng), rng.choice([-1.0, 0.0, 1.0], 2)
        one, two, inside = both_crops(direct, stored, EVERYTHING[name], draws, shift)
        rim = 2 * direct.scale[0] / stored.scale[0]
        assert np.abs(one - two)[inside >= rim].max(initial=0) <= (48 if compact else 20), (k, draws)  # a gap makes 110
        assert two[inside <= -rim].max(initial=0) == 0
        seen += (inside >= rim).mean()
    assert seen > 40


def test_reduced_pictures_stay_where_they_were(tmp_path):
    """A bright disc has its middle at the same point of both crops, to a tenth of a crop's pixel."""
    image = np.full((900, 1200, 3), 60, np.uint8)
    cv2.circle(image, (611, 433), 60, (255, 255, 255), -1, cv2.LINE_AA)
    Image.fromarray(cv2.GaussianBlur(image, (0, 0), 15)).save(tmp_path / "disc.png")  # no aliasing in the direct crop
    center, scale = box_to_center_scale([300, 100, 500, 640], SIZE)
    person = Sample(tmp_path / "disc.png", 1, 1, center, scale, np.zeros((17, 2)), np.zeros(17))
    pack(Dataset("disc", COCO17, (person,)), tmp_path / "pack", SIZE, MDW_COCO, {})
    packed = open_pack(tmp_path / "pack")
    assert person.scale[0] / packed[0].scale[0] >= 5
    for flip_u in (0.0, 1.0):
        found = []
        for one in both_crops(person, packed[0], MDW_COCO, Draws(flip_u=flip_u, rotation_u=0.1, rotation_z=0.7), 0)[:2]:
            bright = (one[..., 0] - 60).clip(0)
            found.append([(bright * axis).sum() / bright.sum() for axis in np.mgrid[: SIZE[1], : SIZE[0]]])
        np.testing.assert_allclose(found[0], found[1], atol=0.1)


def test_photos_keep_their_jpeg_blocks_and_sizes_are_known(tmp_path):
    """Cut at whole blocks with the photo's own tables, a photo's pixels come out as they went in, but for rounding."""
    photos = data.load("photos", "all").select(range(12))
    pack(photos, tmp_path / "pack", (192, 256), MDW_COCO, {})
    packed = open_pack(tmp_path / "pack")
    for direct, stored in zip(photos, packed, strict=True):
        piece, image = stored.pixels(), direct.pixels()
        assert piece.shape[1::-1] == stored.image.size
        x, y = np.round(direct.center - stored.center).astype(int)
        if stored.scale[0] == direct.scale[0]:  # not reduced
            assert x % 16 == y % 16 == 0
            difference = np.abs(piece.astype(int) - image[y : y + len(piece), x : x + piece.shape[1]])
            assert difference[4:-4, 4:-4].mean() < 0.6 and difference[4:-4, 4:-4].max() <= 16


def test_the_compact_form_is_smaller(tmp_path):
    photos = data.load("photos", "all").select(range(12))
    made = [pack(photos, tmp_path / str(compact), (192, 256), MDW_COCO, {}, compact) for compact in (False, True)]
    assert 0 < made[1]["bytes"] < 0.7 * made[0]["bytes"]


def test_persons_and_labels_go_with_the_pixels(tmp_path):
    people = some_people(tmp_path)
    pack(people, tmp_path / "pack", SIZE, MDW_COCO, {"data": "some"})
    packed = open_pack(tmp_path / "pack", {"data": "some"})
    assert packed.name == "some" and packed.joints == COCO17 and len(packed) == len(people)
    for direct, stored in zip(people, packed, strict=True):
        m = direct.scale[0] / stored.scale[0]
        assert (direct.image_id, direct.person_id) == (stored.image_id, stored.person_id)
        assert np.isclose(m, round(m)) and np.array_equal(direct.visible, stored.visible)
        labelled = direct.visible > 0
        np.testing.assert_allclose(
            (stored.joints - stored.center)[labelled] * m, (direct.joints - direct.center)[labelled], atol=1e-3
        )
        np.testing.assert_allclose(stored.box_wh * m, direct.box_wh, rtol=1e-5)
        assert (stored.joints[~labelled] == 0).all()
    assert max(d.scale[0] / s.scale[0] for d, s in zip(people, packed, strict=True)) > 2, "large persons are reduced"


def test_what_is_not_annotated_changes_no_byte(tmp_path):
    people = some_people(tmp_path)
    poisoned = []
    for k, poison in enumerate((0.0, 1e6, np.nan)):
        joints = [np.where(s.visible[:, None] > 0, s.joints, poison) for s in people]
        samples = tuple(replace(s, joints=j) for s, j in zip(people, joints, strict=True))
        pack(replace(people, samples=samples), tmp_path / str(k), SIZE, MDW_COCO, {})
        poisoned.append(chunk_path(tmp_path / str(k), 0).read_bytes())
    assert poisoned[0] == poisoned[1] == poisoned[2]


KILLED = """
import sys
from pathlib import Path
from mdw import data
from mdw.data import pack as packing
from mdw.data.augment import MDW_COCO
packing.CHUNK = 4
def told(persons):
    print(persons, flush=True)
    sys.stdin.readline()
packing.pack(data.load("photos", "all"), sys.argv[1], (192, 256), MDW_COCO, {}, progress=told)
"""


def folder_bytes(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_a_killed_packing_goes_on_and_ends_the_same(tmp_path, monkeypatch):
    killed, whole, parallel = (tmp_path / name for name in ("killed", "whole", "parallel"))
    process = subprocess.Popen([sys.executable, "-c", KILLED, killed], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    for _ in range(3):
        assert process.stdout.readline() == "4\n"
        process.stdin.write("\n")
        process.stdin.flush()
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    process.stdin.close()
    process.stdout.close()
    (killed / ".00009.safetensors.0123abcd").write_bytes(b"half a chunk")  # what a kill within a write leaves
    with pytest.raises(MdwError, match="not finished"):
        open_pack(killed)
    monkeypatch.setattr(packing, "CHUNK", 4)
    people, arguments = data.load("photos", "all"), ((192, 256), MDW_COCO, {})
    went_on = pack(people, killed, *arguments)
    assert 3 <= went_on["kept"] < went_on["chunks"]
    assert pack(people, whole, *arguments)["kept"] == 0
    told = []
    pack(people, parallel, *arguments, workers=2, progress=told.append)
    assert sum(told) == len(people)
    assert folder_bytes(killed) == folder_bytes(whole) == folder_bytes(parallel)
    assert verify(killed) == len(people)


def test_damage_is_found_and_mended(tmp_path, monkeypatch):
    monkeypatch.setattr(packing, "CHUNK", 8)
    people, out = some_people(tmp_path), tmp_path / "pack"
    pack(people, out, SIZE, MDW_COCO, {})
    whole = folder_bytes(out)

    def cut(chunk):
        chunk.write_bytes(chunk.read_bytes()[:-100])

    def empty(chunk):
        chunk.write_bytes(b"")

    def flip_a_bit(chunk):
        content = bytearray(chunk.read_bytes())
        content[-50] ^= 4
        chunk.write_bytes(content)

    for harm in (cut, empty, flip_a_bit, os.unlink):
        harm(chunk_path(out, 1))
        with pytest.raises(MdwError, match=r"00001.safetensors.*same `mdw data pack` command again") as error:
            verify(out)
        assert "\n" not in str(error.value)
        assert pack(people, out, SIZE, MDW_COCO, {})["kept"] == 2
        assert folder_bytes(out) == whole
    chunk_path(out, 1).write_bytes(whole["00002.safetensors"])  # a whole chunk in the wrong place
    with pytest.raises(MdwError, match="do not belong together"):
        open_pack(out)


def test_changed_labels_make_their_chunk_anew(tmp_path, monkeypatch):
    monkeypatch.setattr(packing, "CHUNK", 8)
    people, out = some_people(tmp_path), tmp_path / "pack"
    pack(people, out, SIZE, MDW_COCO, {})
    moved = replace(people, samples=(replace(people[0], center=people[0].center + 1), *people.samples[1:]))
    assert pack(moved, out, SIZE, MDW_COCO, {})["kept"] == 2


def test_other_settings_and_other_folders_are_refused(tmp_path):
    people, out = some_people(tmp_path, 4), tmp_path / "pack"
    pack(people, out, SIZE, MDW_COCO, {"data": "some"})
    before = folder_bytes(out)
    for change in (
        {"input_size": (96, 128)},
        {"augmentation": HRNET_COCO},
        {"compact": True},
        {"source": {"data": "other"}},
        {"dataset": people.select([0])},
    ):
        arguments = {"dataset": people, "out": out, "input_size": SIZE, "augmentation": MDW_COCO, "source": {"data": "some"}}
        with pytest.raises(MdwError, match="other data or settings"):
            pack(**(arguments | change))
    assert folder_bytes(out) == before
    (tmp_path / "full").mkdir()
    (tmp_path / "full/letter.txt").write_text("dear")
    for taken in (tmp_path / "full", tmp_path / "full/letter.txt"):
        with pytest.raises(MdwError, match="is no pack"):
            pack(people, taken, SIZE, MDW_COCO, {})
    with pytest.raises(MdwError, match="cannot pack 0 persons"):
        pack(people.select([]), tmp_path / "none", SIZE, MDW_COCO, {})
    with pytest.raises(MdwError, match="was made from"):
        open_pack(out, {"data": "other"})
    for content in ("[]", "{", json.dumps({"format": 99})):
        (out / "pack.json").write_text(content)
        with pytest.raises(MdwError, match="pack.json"):
            open_pack(out)


def test_a_pack_serves_what_it_covers_and_nothing_wider(tmp_path):
    pack(some_people(tmp_path, 4), tmp_path / "pack", (192, 256), MDW_COCO, {})
    packed = open_pack(tmp_path / "pack")
    for size, augmentation in (((192, 256), MDW_COCO), ((96, 128), MDW_COCO), ((192, 256), MDW_MPII), ((48, 64), NONE)):
        packed.check(size, augmentation)
    for size, augmentation in (
        ((288, 384), MDW_COCO),
        ((192, 192), MDW_COCO),
        ((192, 256), HRNET_COCO),
        ((192, 256), LITE_COCO),
        ((192, 256), replace(MDW_COCO, jitter="per_sample16")),
        ((192, 256), replace(MDW_COCO, half_body_min_joints=4)),
        ((192, 256), replace(MDW_COCO, scale=0.3)),
    ):
        with pytest.raises(MdwError, match="does not cover"):
            packed.check(size, augmentation)


def test_an_evaluation_refuses_a_pack(tmp_path):
    pack(some_people(tmp_path, 4), tmp_path / "pack", SIZE, MDW_COCO, {})
    packed = open_pack(tmp_path / "pack")
    for use in (refuse_pack, lambda p: predict_dataset(None, p, SIZE)):
        with pytest.raises(MdwError, match="for training only"):
            use(packed)


def test_a_broken_photo_stops_the_packing_with_its_name_and_keeps_the_rest(tmp_path, monkeypatch):
    monkeypatch.setattr(packing, "CHUNK", 1)
    people = some_people(tmp_path, 4)
    whole = people[3].image.read_bytes()
    people[3].image.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(MdwError, match="3.jpg is damaged or cut short"):
        pack(people, tmp_path / "pack", SIZE, MDW_COCO, {})
    people[3].image.write_bytes(whole)
    assert pack(people, tmp_path / "pack", SIZE, MDW_COCO, {})["kept"] == 3


def test_training_reads_a_pack_by_name(tmp_path):
    recipe = recipes.get("smoke")
    source = {"data": "people", "split": "train", "aspect": recipe.aspect, "options": recipe.train_options}
    people = data.load("people", "train", aspect=recipe.aspect, **recipe.train_options)
    pack(people, tmp_path / "pack", recipe.input_size, recipe.augmentation, source)
    packed = data.load("people", "train", aspect=recipe.aspect, packed=tmp_path / "pack", **recipe.train_options)
    assert len(packed) == 8
    with pytest.raises(MdwError, match="pack that first"):
        data.load("people", "val", aspect=recipe.aspect, packed=tmp_path / "pack", **recipe.train_options)
