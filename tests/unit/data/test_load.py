import subprocess
import sys

import numpy as np
import pytest

from mdw.data import DATASETS, load
from mdw.util.errors import MdwError


def test_unknown_names_splits_options_and_roots_say_what_exists():
    for arguments, options, match in (
        (("mpi", "val"), {}, "there is people, photos, coco, mpii, lspet, lsp, custom"),
        (("photos", "val"), {}, "there is all"),
        (("people", "test"), {}, "there is train, val"),
        (("coco", "val"), {}, "--root"),
        (("mpii", "val"), {}, "--root"),
        (("custom", "val"), {}, "--root"),
        (("lspet", "val"), {}, "--root"),
        (("lsp", "val"), {}, "--root"),
        (("photos", "all"), {"colour": 1}, "no option 'colour'; its options are none"),
        (("people", "val"), {"number": 1}, "its options are count, seed, size"),
    ):
        with pytest.raises(MdwError, match=match):
            load(*arguments, **options)


def test_photos_by_name():
    assert load("photos", "all", aspect=1.0).name == "photos"


def test_people_splits_differ_and_repeat():
    train, again, val = (load("people", split, count=3) for split in ("train", "train", "val"))
    assert len(train) == len(val) == 3
    assert np.array_equal(train[1].pixels(), again[1].pixels()) and not np.array_equal(train[1].joints, val[1].joints)


def test_real_sets_by_name(shared):
    assert len(load("coco", "val", shared / "data/coco_mini")) == 68
    assert len(load("lspet", "val", str(shared / "data/lspet"))) == 1000


def test_everything_listed_is_named_in_the_docstring():
    assert all(name in load.__doc__ for name in DATASETS)


def test_needs_no_torch():
    modules = (
        "mdw.data, mdw.data.coco, mdw.data.mpii_release, mdw.data.custom, mdw.data.lsp, mdw.data.photos, mdw.inference.draw"
    )
    code = f"import sys, {modules}; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"
