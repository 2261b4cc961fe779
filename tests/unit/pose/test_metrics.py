"""OKS, suppression, scores and benchmark numbers, against the official ones and cases with a known answer."""

import copy
import json

import numpy as np
import pytest
from official_names import VARIANTS

from mdw.pose.boxes import box_to_center_scale
from mdw.pose.joints import LSP14, MPII16
from mdw.pose.metrics import COCO_NAMES, coco_ap, coco_results, pck, pckh
from mdw.pose.oks import nms_per_image, oks, oks_nms, rescore, soft_oks_nms
from mdw.util.errors import MdwError


@pytest.fixture
def raw(protocol):
    return dict(np.load(protocol / "coco_raw_predictions.npz"))


def poses(n=6, seed=0, groups=1):
    rng = np.random.default_rng(seed)
    base = rng.uniform(0, 100, (groups, 17, 2))[rng.integers(0, groups, n)]
    return base + rng.normal(0, 4, (n, 17, 2)), rng.random(n), rng.uniform(4000, 9000, n)


# OKS


def test_oks_and_suppression_equal_the_official_ones(protocol):
    for case in json.loads((protocol / "oks_nms.json").read_text())["cases"]:
        keypoints, area, score = case["keypoints"], case["area"], case["score"]
        if case["oks_of_first_vs_rest"] is not None:
            k, a = np.array(keypoints).reshape(-1, 17, 3), np.array(area)
            np.testing.assert_allclose(oks(k[0], k[1:], a[0], a[1:]), case["oks_of_first_vs_rest"], atol=1e-12, rtol=0)
        for threshold in (0.9, 0.5, 0.3):
            assert oks_nms(keypoints, score, area, threshold).tolist() == case["keep"][str(threshold)]
            assert soft_oks_nms(keypoints, score, area, threshold).tolist() == case["keep_soft"][str(threshold)]


def test_oks_means_what_it_says():
    keypoints, _, areas = poses()
    table = oks(keypoints[:, None], keypoints[None], areas[:, None], areas[None])
    np.testing.assert_allclose(table, table.T)
    np.testing.assert_allclose(np.diag(table), 1)
    np.testing.assert_allclose(oks(keypoints[0] + 50, keypoints[1] + 50, areas[0], areas[1]), table[0, 1])  # shift
    np.testing.assert_allclose(oks(keypoints[0] * 3, keypoints[1] * 3, areas[0] * 9, areas[1] * 9), table[0, 1])  # zoom
    assert oks(keypoints[0], keypoints[0] + 1e6, 1.0, 1.0) == 0
    with pytest.raises(MdwError, match="sigmas"):
        oks(np.zeros((3, 16, 2)), np.zeros((3, 16, 2)), np.ones(3), np.ones(3))
    assert oks(np.zeros((3, 16, 2)), np.zeros((3, 16, 2)), np.ones(3), np.ones(3), sigmas=[0.1] * 16).tolist() == [
        1,
        1,
        1,
    ]


def test_suppression():
    keypoints, scores, areas = poses()
    doubles = np.concatenate([keypoints[:1] + 1e4 * i for i in range(4)] * 2)
    kept = oks_nms(doubles, [0.1, 0.9, 0.3, 0.4, 0.8, 0.2, 0.7, 0.6], np.full(8, 5000.0))
    assert kept.tolist() == [1, 4, 6, 7]  # the better of each pair, best first
    assert set(oks_nms(keypoints, scores, areas, 1.0)) == set(range(6)), "keeps OKS <= threshold"
    assert oks_nms(keypoints, scores, areas, -1).tolist() == [int(np.argmax(scores))]
    assert oks_nms([], [], []).tolist() == [] and soft_oks_nms([], [], []).tolist() == []
    assert oks_nms(np.zeros((2, 17, 2)), [0.5, 0.5], [1, 1]).tolist() == [1]  # a tie: the later one
    assert oks_nms(np.zeros((2, 17, 2)), [0.5, 0.6], [1, 1], threshold=1.0).tolist() == [1, 0], "OKS 1 is not above 1"
    images = [7, 3, 7, 3, 5]  # in order of first appearance, best first in each
    far = np.arange(5)[:, None, None] * 1e4 + np.zeros((5, 17, 2))
    assert nms_per_image(images, far, [0.1, 0.2, 0.3, 0.4, 0.5], np.ones(5)).tolist() == [2, 0, 3, 1, 4]
    assert nms_per_image(images, far * 0, [0.1, 0.2, 0.3, 0.4, 0.5], np.ones(5)).tolist() == [2, 3, 4]
    assert nms_per_image([], [], [], []).tolist() == []
    with pytest.raises(MdwError, match="fit"):
        oks_nms(keypoints, scores[:3], areas)
    with pytest.raises(MdwError, match="not a number"):
        oks_nms(keypoints, scores * np.nan, areas)


def test_suppression_in_blocks_equals_one_by_one(monkeypatch):
    keypoints, scores, areas = poses(200, seed=4, groups=9)
    whole = oks_nms(keypoints, scores, areas, 0.75)
    assert 9 < len(whole) < 190
    monkeypatch.setattr("mdw.pose.oks._BLOCK", 17 * 2 * 200 * 7)  # blocks of seven rows
    assert np.array_equal(oks_nms(keypoints, scores, areas, 0.75), whole)
    left, expected = list(np.argsort(-scores)), []
    while left:
        expected.append(left.pop(0))
        left = [i for i in left if oks(keypoints[expected[-1]], keypoints[i], areas[expected[-1]], areas[i]) <= 0.75]
    assert whole.tolist() == expected


def test_rescoring(raw):
    ours = rescore(raw["box_score"], raw["preds"][..., 2])
    np.testing.assert_allclose(ours, raw["instance_score"], rtol=1e-7, atol=0)
    assert rescore(0.5, [0.1, 0.2, -3]) == 0  # none above
    assert rescore(0.5, [0.1, 0.4, 0.8]) == pytest.approx(0.3)
    assert rescore(np.empty(0), np.empty((0, 17))).shape == (0,) and rescore([1.0], np.empty((1, 0))).tolist() == [0]


# COCO


def test_the_coco_chain_gives_the_official_numbers(protocol, raw):
    """Detector file to crops, scores, suppression, results file and AP."""
    detections = [d for d in json.loads((protocol / "coco_detections.json").read_text()) if d["category_id"] == 1]
    center, scale = box_to_center_scale([d["bbox"] for d in detections], (192, 256))
    np.testing.assert_allclose(center, raw["center"], atol=1e-6, rtol=0)
    np.testing.assert_allclose(scale, raw["scale"], atol=1e-6, rtol=0)
    image_ids, boxes = [d["image_id"] for d in detections], [d["score"] for d in detections]
    xy, joint_scores = raw["preds"][..., :2], raw["preds"][..., 2]
    kept = nms_per_image(image_ids, xy, rescore(boxes, joint_scores), raw["area"])
    assert np.array_equal(np.sort(kept), np.flatnonzero(raw["kept_by_oks_nms"]))

    results = coco_results(image_ids, xy, joint_scores, center, scale, boxes)
    official = json.loads((protocol / "coco_results.json").read_text())
    assert len(results) == len(official) and not any("bbox" in r for r in results)
    for ours, theirs in zip(json.loads(json.dumps(results)), official, strict=True):  # same order too
        assert ours.keys() == theirs.keys()
        for key in theirs:
            np.testing.assert_allclose(ours[key], theirs[key], rtol=1e-6, err_msg=key)

    expected = json.loads((protocol / "coco_expected.json").read_text())
    rescored = expected["after_official_rescoring_and_nms"]["stats_full"]
    np.testing.assert_allclose(list(coco_ap(protocol / "coco_gt.json", results).values()), rescored, atol=1e-9, rtol=0)
    bare = coco_results(image_ids, xy, joint_scores, center, scale, boxes, score_threshold=None, nms_threshold=None)
    assert len(bare) == len(detections)
    want = expected["raw_detections_box_score_no_nms"]["stats_full"]
    np.testing.assert_allclose(list(coco_ap(protocol / "coco_gt.json", bare).values()), want, atol=1e-9, rtol=0)
    boxed = [{**r, "bbox": d["bbox"]} for r, d in zip(bare, detections, strict=True)]
    want = expected["raw_with_bbox_key"]["stats_full"]
    np.testing.assert_allclose(list(coco_ap(protocol / "coco_gt.json", boxed).values()), want, atol=1e-9, rtol=0)


def test_coco_ap_reads_files_quietly_and_changes_nothing(protocol, capfd):
    truth, results = protocol / "coco_gt.json", protocol / "coco_results.json"
    from_files = coco_ap(truth, str(results))
    assert tuple(from_files) == COCO_NAMES
    loaded = json.loads(truth.read_text()), json.loads(results.read_text())
    before = copy.deepcopy(loaded)
    assert coco_ap(*loaded) == from_files
    assert loaded == before
    assert capfd.readouterr() == ("", "")
    expected = json.loads((protocol / "coco_expected.json").read_text())["after_official_rescoring_and_nms"]["stats"]
    assert {k: round(v, 6) for k, v in from_files.items()} == expected


def drawn_truth(n=6):
    """One person an image, half of them small enough to be "medium"."""
    rng = np.random.default_rng(0)
    images, annotations = [], []
    for i in range(n):
        size = 60 if i % 2 else 150
        xy = rng.uniform(20, 20 + size, (17, 2))
        keypoints = np.concatenate([xy, np.full((17, 1), 2.0)], axis=1).ravel().tolist()
        images.append({"id": 100 + i, "width": 300, "height": 300})
        person = {"id": i + 1, "image_id": 100 + i, "category_id": 1, "iscrowd": 0, "bbox": [20, 20, size, size]}
        annotations.append({**person, "area": float(size**2), "num_keypoints": 17, "keypoints": keypoints})
    return {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "person"}]}


def perfect_results(truth):
    xy = np.array([a["keypoints"] for a in truth["annotations"]]).reshape(-1, 17, 3)[..., :2]
    ids = [a["image_id"] for a in truth["annotations"]]
    center, scale = box_to_center_scale([a["bbox"] for a in truth["annotations"]], (192, 256))
    return coco_results(ids, xy, np.ones(xy.shape[:2]), center, scale)


def test_a_perfect_prediction_scores_one_and_none_scores_zero():
    truth = drawn_truth()
    results = perfect_results(truth)
    assert coco_ap(truth, results) == pytest.approx(dict.fromkeys(COCO_NAMES, 1.0))
    moved = [{**r, "keypoints": (np.array(r["keypoints"]) + 1000).tolist()} for r in results]
    assert coco_ap(truth, moved) == dict.fromkeys(COCO_NAMES, 0.0)
    assert coco_ap(truth, []) == dict.fromkeys(COCO_NAMES, 0.0)
    half = coco_ap(truth, results[:3])
    assert half["AR"] == pytest.approx(0.5) and 0.4 < half["AP"] < 0.6
    large_only = {**truth, "annotations": truth["annotations"][::2]}
    assert coco_ap(large_only, results[::2])["APM"] == -1, "no person of that size"


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda t, r: (t, [{**r[0], "image_id": 5}]), "image_id .* is 5"),
        (lambda t, r: (t, [{k: v for k, v in r[0].items() if k != "score"}]), "score"),
        (lambda t, r: (t, [{**r[0], "keypoints": [1, 2, 3]}]), "51"),
        (lambda t, r: (t, [{**r[0], "score": float("nan")}]), "finite"),
        (lambda t, r: (t, [{**r[0], "score": "high"}]), "number"),
        (lambda t, r: (t, {"annotations": r}), "results list"),
        (lambda t, r: ({"images": []}, r), "ground truth"),
        (lambda t, r: ({**t, "annotations": [{**t["annotations"][0], "id": 0}]}, r), "annotations.0..id .* from 1 on"),
        (lambda t, r: ({**t, "annotations": [{"id": 1}]}, r), "annotation"),
    ],
)
def test_coco_ap_names_what_is_wrong(change, words):
    truth = drawn_truth()
    with pytest.raises(MdwError, match=words) as caught:
        coco_ap(*change(truth, perfect_results(truth)))
    assert "\n" not in str(caught.value)


def test_coco_ap_of_broken_files(tmp_path):
    (tmp_path / "bad.json").write_text("[{")
    with pytest.raises(MdwError, match="bad.json"):
        coco_ap(drawn_truth(), tmp_path / "bad.json")
    with pytest.raises(MdwError, match="nowhere.json"):
        coco_ap(tmp_path / "nowhere.json", [])


def test_results_of_nothing_and_of_a_diverged_network():
    assert coco_results([], np.empty((0, 17, 2)), np.empty((0, 17)), np.empty((0, 2)), np.empty((0, 2))) == []
    xy, ones = np.zeros((1, 17, 2)), np.ones((1, 2))
    with pytest.raises(MdwError, match="diverged"):
        coco_results([1], xy, np.full((1, 17), np.nan), ones, ones)
    with pytest.raises(MdwError, match="17"):
        coco_results([1], np.zeros((1, 16, 2)), np.ones((1, 16)), ones, ones)


# PCKh


def test_pckh_equals_the_official_one(protocol):
    given = np.load(protocol / "pckh.npz")
    expected = json.loads((protocol / "pckh_expected.json").read_text())
    official, derived = expected["official"], expected["derived"]
    pred = given["preds"][..., :2].astype(np.float64) + 1  # MPII counts from 1
    gt, heads, missing = given["pos_gt_src"], given["headboxes_src"], given["jnt_missing"]
    ours = pckh(pred, gt, heads, missing)
    assert ours["mean"] == pytest.approx(official["Mean"], abs=1e-9)
    assert ours["groups"] == pytest.approx({k: v for k, v in official.items() if "Mean" not in k}, abs=1e-9)
    assert ours["per_joint"] == pytest.approx(expected["official_pckh_per_joint"], abs=1e-9)
    assert ours["joint_counts"] == expected["joint_count"]
    assert ours["mean@0.1"] == pytest.approx(derived["mean_at_true_0_10"], abs=1e-9)
    compat = pckh(pred, gt, heads, missing, compat_0p11=True)
    assert compat["mean@0.1"] == pytest.approx(official["Mean@0.1"], abs=1e-9) and compat["mean"] == ours["mean"]
    assert pckh(pred, gt, heads, missing, macro=True)["mean"] == pytest.approx(derived["macro_mean_at_0_5"], abs=1e-9)
    strict = pckh(pred, gt, heads, missing, strict=True, macro=True)
    assert strict["per_joint"] == pytest.approx(derived["strict_less_per_joint"], abs=1e-9)
    assert strict["mean"] == pytest.approx(derived["strict_less_macro_mean"], abs=1e-9)
    people_first = pckh(pred, gt.transpose(2, 0, 1), heads.transpose(2, 0, 1), missing.T)
    assert people_first == ours
    for threshold, row in zip(given["thresholds"], given["pck_all"], strict=True):
        np.testing.assert_allclose(pckh(pred, gt, heads, missing, threshold)["per_joint"], row, atol=1e-9, rtol=0)


def test_pckh_on_the_real_validation_labels(shared):
    from scipy.io import loadmat

    folder = shared / "data" / "mpii_annotations"
    if not (folder / "gt_valid.mat").exists():
        pytest.skip("gt_valid.mat is not here")
    mat = loadmat(folder / "gt_valid.mat")
    truth = mat["pos_gt_src"], mat["headboxes_src"], mat["jnt_missing"]
    own = pckh(mat["pos_pred_src"], *truth, compat_0p11=True)
    assert own["mean"] == pytest.approx(82.336716, abs=1e-6)
    assert own["mean@0.1"] == pytest.approx(33.138173, abs=1e-6)
    labels = np.array([person["joints"] for person in json.loads((folder / "valid.json").read_text())])
    assert pckh(labels, *truth)["mean"] == pytest.approx(99.968774, abs=1e-6)


def test_pckh_means_what_it_says():
    rng = np.random.default_rng(0)
    gt, heads = rng.uniform(0, 500, (20, 16, 2)), np.tile([[[0, 0], [30, 40]]], (20, 1, 1))  # head size 30
    missing = np.zeros((20, 16))
    assert pckh(gt, gt, heads, missing)["mean"] == 100
    assert pckh(gt + [14.99, 0], gt, heads, missing)["mean"] == 100  # half a head
    assert pckh(gt + [15.01, 0], gt, heads, missing)["mean"] == 0
    whole = np.round(gt)  # exactly half a head: right, unless strict
    assert pckh(whole + [15, 0], whole, heads, missing)["mean"] == 100
    assert pckh(whole + [15, 0], whole, heads, missing, strict=True)["mean"] == 0
    moved = pckh(gt + 70 + [9, 5], gt + 70, heads, missing, 0.4)
    assert moved == pckh(gt + [9, 5], gt, heads, missing, 0.4)
    bones = gt.copy()
    bones[:, [MPII16.index("pelvis"), MPII16.index("thorax")]] += 999
    assert pckh(bones, gt, heads, missing)["mean"] == 100, "pelvis and thorax do not count"
    missing[:, 0], bones[:, 0] = 1, np.nan
    some = pckh(bones, gt, heads, missing)
    assert some["mean"] == 100 and some["per_joint"][0] is None and some["groups"]["Ankle"] == 100
    json.dumps(some, allow_nan=False)
    lost = gt.copy()
    lost[0] = np.nan
    assert pckh(lost, gt, heads, np.zeros((20, 16)))["mean"] == pytest.approx(95)
    for arguments in ((gt[:5], gt, heads, missing), (gt, gt, heads, missing[:, :14]), ([], [], [], [])):
        with pytest.raises(MdwError, match="PCKh needs"):
            pckh(*arguments)
    with pytest.raises(MdwError, match="no annotated joint"):
        pckh(gt, gt, heads, np.ones((20, 16)))


# PCK


def test_pck_equals_the_written_rule_and_every_variant(protocol):
    given = np.load(protocol / "lsp_pck.npz")
    tables = json.loads((protocol / "lsp_pck_expected.json").read_text())
    assert set(tables) == {*VARIANTS, "joint_names"}
    for name, switches in VARIANTS.items():
        ours, expected = pck(given["pred"], given["gt"], given["visible"], **switches), tables[name]
        assert ours["pck"] == pytest.approx(expected["mean"], abs=1e-9), name
        assert ours["groups"] == pytest.approx(expected["groups"], abs=1e-9), name
        assert ours["per_joint"] == pytest.approx(expected["per_joint"], abs=1e-9), name
        for key in ("images_used", "joints_used"):
            assert ours[key] == expected.get(key, ours[key]), name
    plain = pck(given["pred"], given["gt"])  # no flags: the rule for the original LSP test
    assert plain["pck"] == pytest.approx(tables["default_torso_lsho_rhip_thr0p2"]["mean"], abs=1e-9)
    assert plain["images_used"] == plain["images_total"] == 50 and plain["joints_used"] == 700


def test_pck_means_what_it_says():
    rng = np.random.default_rng(0)
    gt, flags = rng.uniform(0, 200, (10, 14, 2)), np.ones((10, 14))
    left, right = LSP14.index("left_shoulder"), LSP14.index("right_hip")
    gt[:, left], gt[:, right] = [50, 50], [80, 90]  # a torso of 50: 10 px are allowed
    assert pck(gt, gt, flags)["pck"] == 100
    assert pck(gt + [9.99, 0], gt, flags)["pck"] == 100 and pck(gt + [10.01, 0], gt, flags)["pck"] == 0
    assert pck(gt + 33, gt + 33, flags.tolist()) == pck(gt, gt, flags > 0)
    flags[:, left], flags[0, LSP14.index("left_hip")] = 0, 0  # the other diagonal; for one image neither
    gt[:, left] = -999  # rubbish, as in the files
    other = pck(gt, gt, flags)
    assert other["images_used"] == 9 and other["joints_used"] == 9 * 13 and other["images_total"] == 10
    assert other["per_joint"][left] is None and other["groups"]["Shoulder"] == 100
    json.dumps(other, allow_nan=False)
    wrong = gt.copy()
    wrong[0] += 1e5  # the image left out
    wrong[1, 0] = np.nan
    assert pck(wrong, gt, flags)["pck"] == pytest.approx(100 * (9 * 13 - 1) / (9 * 13))
    with pytest.raises(MdwError, match="no annotated joint"):
        pck(gt, gt, np.zeros((10, 14)))
    with pytest.raises(MdwError, match="finite"):
        pck(gt, np.where(np.arange(14)[:, None] == 3, np.nan, gt), flags)
    with pytest.raises(MdwError, match="reference"):
        pck(gt, gt, flags, reference="torsos")
    with pytest.raises(MdwError, match="PCK needs"):
        pck(gt[:, :13], gt, flags)
    with pytest.raises(MdwError):
        pck([], [], [])
