"""Writes tests/fixtures, by which every clone checks exactness: python tests/helpers/make_fixtures.py ../shared/fixtures

What is written are our own results, on a part of the official inputs (tests/fixtures/protocol) and on weights and inputs
that are drawn from names (tests/fixtures/networks). It is written only after the tests have found our results equal to all the
official ones in the given folder. The networks for which there are official outputs are Lite-HRNet's; parameters and
multiply-adds are official for eleven. What the other networks and blocks give is ours, kept so that it does not change.
"""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from drawn import BLOCKS, block_numbers, network_numbers, networks
from official_names import EXACT, SECOND_RUN, VARIANTS, shape_only
from places import FIXTURES, ROOT, TESTS

from mdw.data import augment, warp
from mdw.models.complexity import hrnet_count, measure
from mdw.models.loss import heatmap_loss
from mdw.pose import affine, boxes, heatmap, metrics, oks
from mdw.pose.joints import COCO17, MPII16

IMAGES = 24  # of COCO's 200 made-up ones


def prove(official: Path) -> None:
    """Stops unless every test of `official` numbers passes and none of them is skipped."""
    if not (official / "protocol").is_dir():
        sys.exit(f"{official} holds no protocol folder; give the folder with the official numbers")
    command = [sys.executable, "-m", "pytest", "-q", "-n0", "-m", "official", f"--official={official}", "-rs", str(TESTS)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    print(done.stdout[-400:])
    if done.returncode or "skipped" in done.stdout:
        sys.exit("our numbers are not the official ones, or not all were compared; nothing was written")


def save(name: str, **arrays) -> None:
    path = FIXTURES / name
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **arrays)


def save_json(name: str, content) -> None:
    (FIXTURES / name).write_text(json.dumps(content, separators=(",", ":")) + "\n")


def rows(file, select, *names: str) -> dict[str, np.ndarray]:
    """The chosen rows of the official arrays that are inputs."""
    return {name: file[name][select] for name in names}


def geometry(official: Path) -> None:
    file = np.load(official / "affine.npz")
    given = rows(file, slice(0, 56, 2), "center", "scale", "rot", "output_size", "shift", "inv", "points")
    matrices = [
        affine.affine_matrix(c, s, r, tuple(size), shift, bool(inverse))
        for c, s, r, size, shift, inverse in zip(*(given[k] for k in list(given)[:-1]), strict=True)
    ]
    moved = [affine.apply(m, p) for m, p in zip(matrices, given["points"], strict=True)]
    back = rows(file, slice(3), "tp_coords", "tp_center", "tp_scale", "tp_output_size")
    sizes = map(tuple, back["tp_output_size"])
    inverses = [
        affine.affine_matrix(c, s, 0, z, inverse=True)
        for c, s, z in zip(back["tp_center"], back["tp_scale"], sizes, strict=True)
    ]
    tp_out = [affine.apply(m, p) for m, p in zip(inverses, back["tp_coords"], strict=True)]
    save("protocol/affine.npz", matrix=matrices, points_out=moved, tp_out=tp_out, **given, **back)

    given = rows(np.load(official / "box2cs.npz"), slice(None), "box_xywh", "aspect")
    pairs = [boxes.box_to_center_scale(b, (a, 1)) for b, a in zip(given["box_xywh"], given["aspect"], strict=True)]
    save("protocol/box2cs.npz", center=[c for c, _ in pairs], scale=[s for _, s in pairs], **given)

    entries = json.loads((official / "mpii_annot.json").read_text())
    save_json("protocol/mpii_annot.json", entries)
    center, scale = boxes.mpii_center_scale([e["center"] for e in entries], [e["scale"] for e in entries])
    visible = np.array([e["joints_vis"] for e in entries], float)
    joints = (np.array([e["joints"] for e in entries], float) - 1) * visible[..., None]
    pad = [(0, 0), (0, 0), (0, 1)]
    save("protocol/mpii_records.npz", center=center, scale=scale, joints=np.pad(joints, pad),
         joints_vis=np.pad(np.repeat(visible[..., None], 2, 2), pad))  # fmt: skip


def heatmaps(official: Path) -> None:
    for name in ("target_256x192_s2", "target_384x288_s3", "target_256x256_s2"):
        file = dict(np.load(official / f"{name}.npz"))
        sizes = tuple(file["image_size"]), tuple(file["heatmap_size"]), int(file["sigma"])
        given = file["joints"][..., :2], file["joints_vis"][..., 0], *sizes
        file["target"], weight = heatmap.encode(*given)
        file["target_weight"] = weight[..., None]
        if "target_weight_different" in file:
            file["target_weight_different"] = heatmap.encode(*given, joint_weights=COCO17.importance)[1][..., None]
        save(f"protocol/{name}.npz", **file)
    for name, select in (("coco_48x64", [0, -1]), ("coco_72x96", [-1]), ("mpii_64x64", [-1])):
        given = rows(np.load(official / f"decode_{name}.npz"), select, "heatmaps", "center", "scale")
        maps, crops = given["heatmaps"], (given["center"], given["scale"])
        xy, score = heatmap.peaks(maps)
        save(f"protocol/decode_{name}.npz", argmax_xy=xy, maxvals=score[..., None], shifted_xy=heatmap.quarter_shift(maps, xy),
             preds_post=heatmap.decode(maps, *crops)[0], preds_nopost=heatmap.decode(maps, *crops, refine=False)[0],
             preds_post_mmpose016=heatmap.decode(maps, *crops, empty="mm")[0], **given)  # fmt: skip
    file, kept = np.load(official / "flip.npz"), {}
    for prefix, joints in (("coco", COCO17), ("mpii", MPII16)):
        plain, mirrored = (file[f"{prefix}_{n}"][:1, :, :6, :5] for n in ("output", "output_of_mirrored_input"))
        kept |= {f"{prefix}_output": plain, f"{prefix}_output_of_mirrored_input": mirrored}
        kept |= {f"{prefix}_pairs": np.array(joints.pairs)}
        kept[f"{prefix}_flip_back"] = heatmap.flip_back(mirrored, joints.pairs, shift=False)
        kept[f"{prefix}_flip_back_shifted"] = heatmap.flip_back(mirrored, joints.pairs)
        kept[f"{prefix}_avg_shift"] = heatmap.flip_average(plain, mirrored, joints.pairs)
        kept[f"{prefix}_avg_noshift"] = heatmap.flip_average(plain, mirrored, joints.pairs, shift=False)
        people = {f"{prefix}_{n}": file[f"{prefix}_{n}"] for n in ("joints", "joints_vis", "image_width")}
        turned = [augment.flip_joints(j[:, :2], v[:, 0], w, joints) for j, v, w in zip(*people.values(), strict=True)]
        kept |= people | {f"{prefix}_joints_flipped": np.array([xy for xy, _ in turned])}
        kept[f"{prefix}_joints_vis_flipped"] = np.array([visible for _, visible in turned])[..., None]
    save("protocol/flip.npz", **kept)


def training(official: Path) -> None:
    file = np.load(official / "half_body.npz")
    given = {name: file[name] for name in ("joints", "joints_vis", "normal_draw", "aspect")}
    people = zip(given["joints"], given["joints_vis"], given["normal_draw"], strict=True)
    ours = [augment.half_body(j[:, :2], v[:, 0], COCO17, (float(given["aspect"]), 1), z) for j, v, z in people]
    save(
        "protocol/half_body.npz",
        center=[c for c, _, _ in ours],
        scale=[s for _, s, _ in ours],
        valid=[v for *_, v in ours],
        **given,
    )

    file = np.load(official / "crop.npz")
    given = rows(file, slice(2), "center", "scale", "rot")
    size, image = tuple(file["output_size"]), file["image_rgb"]
    crops = np.array([warp.crop(image, *person, size) for person in zip(*given.values(), strict=True)])
    save("protocol/crop.npz", image_rgb=image, output_size=size, crop=crops, crop_exact_bilinear=crops,
         normalised=warp.normalise(crops), **given)  # fmt: skip

    file = np.load(official / "train_sample.npz")
    names = ("image_rgb", "box_xywh", "joints", "joints_vis", "image_size", "heatmap_size")
    given = {name: file[name] for name in names} | rows(file, [3, 5], "draws", "train")
    size, maps, image = tuple(given["image_size"]), tuple(given["heatmap_size"]), given["image_rgb"]
    center, scale = boxes.box_to_center_scale(given["box_xywh"], size)
    kept = {name: [] for name in ("center", "scale", "rot", "crop", "joints_in_crop", "vis", "target", "weight")}
    for numbers, train in zip(given["draws"], given["train"], strict=True):
        switches = augment.MDW_COCO if train else augment.NONE
        person = center, scale, given["joints"][:, :2], given["joints_vis"][:, 0]
        one = augment.augment(*person, image.shape[1], COCO17, size, switches, augment.Draws(*numbers.tolist()))
        placed = warp.joints_to_crop(one.joints, one.visible, one.center, one.scale, one.rotation, size)
        target, weight = heatmap.encode(placed, one.visible, size, maps, 2)
        cropped = warp.crop(image, one.center, one.scale, one.rotation, size, one.flip)
        values = one.center, one.scale, one.rotation, cropped, placed, one.visible[:, None], target, weight[:, None]
        for name, value in zip(kept, values, strict=True):
            kept[name].append(value)
    save("protocol/train_sample.npz", box_center=center, box_scale=scale, **given, **kept)

    given = rows(np.load(official / "loss.npz"), (slice(2), slice(None)), "output", "target", "weight", "weight_frac")
    given |= {name: given[name][..., :6, :5] for name in ("output", "target")}
    output, target, kept = torch.tensor(given["output"]).double().requires_grad_(), torch.tensor(given["target"]).double(), {}
    for name in ("weighted", "weighted_frac"):
        weight = torch.tensor(given[name.replace("weighted", "weight")][..., 0]).double()
        loss = heatmap_loss(output, target, weight)
        kept |= {f"loss_{name}": loss.item(), f"grad_{name}": torch.autograd.grad(loss, output)[0].float().numpy()}
        kept[f"loss_mmpose_{name}"] = heatmap_loss(output, target, weight, factor=1.0).item()
    save("protocol/loss.npz", **given, **kept)
    save_json("protocol/lr_schedule.json", json.loads((official / "lr_schedule.json").read_text()))  # proven equal to ours


def percent_of_joints(official: Path) -> None:
    names = ("preds", "pos_gt_src", "jnt_missing", "headboxes_src", "dataset_joints")
    file = np.load(official / "pckh.npz")
    given, thresholds = {name: file[name] for name in names}, file["thresholds"][::5]
    truth = given["preds"][..., :2].astype(float) + 1, given["pos_gt_src"], given["headboxes_src"], given["jnt_missing"]
    curve = [metrics.pckh(*truth, t)["per_joint"] for t in thresholds]
    save("protocol/pckh.npz", thresholds=thresholds, pck_all=curve, **given)
    ours, eleven, strict = (
        metrics.pckh(*truth),
        metrics.pckh(*truth, compat_0p11=True),
        metrics.pckh(*truth, strict=True, macro=True),
    )
    expected = json.loads((official / "pckh_expected.json").read_text())
    save_json("protocol/pckh_expected.json", {
        "official": ours["groups"] | {"Mean": ours["mean"], "Mean@0.1": eleven["mean@0.1"]},
        "official_pckh_per_joint": ours["per_joint"],
        "joint_names": expected["joint_names"],
        "joint_count": ours["joint_counts"],
        "derived": {"mean_at_true_0_10": ours["mean@0.1"], "macro_mean_at_0_5": metrics.pckh(*truth, macro=True)["mean"],
                    "strict_less_per_joint": strict["per_joint"], "strict_less_macro_mean": strict["mean"]},
    })  # fmt: skip
    given = dict(np.load(official / "lsp_pck.npz"))
    save("protocol/lsp_pck.npz", **given)
    tables = {"joint_names": json.loads((official / "lsp_pck_expected.json").read_text())["joint_names"]}
    for name, switches in VARIANTS.items():
        ours = metrics.pck(given["pred"], given["gt"], given["visible"], **switches)
        tables[name] = {"mean": ours["pck"]} | {k: ours[k] for k in ("groups", "per_joint", "images_used", "joints_used")}
    save_json("protocol/lsp_pck_expected.json", tables)


def coco(official: Path) -> None:
    cases = json.loads((official / "oks_nms.json").read_text())["cases"]
    for case in cases:
        given = case["keypoints"], case["score"], case["area"]
        k, a = np.array(case["keypoints"]).reshape(-1, 17, 3), np.array(case["area"])
        if case["oks_of_first_vs_rest"] is not None:
            case["oks_of_first_vs_rest"] = oks.oks(k[0], k[1:], a[0], a[1:]).tolist()
        for name, function in (("keep", oks.oks_nms), ("keep_soft", oks.soft_oks_nms)):
            case[name] = {str(t): function(*given, t).tolist() for t in (0.9, 0.5, 0.3)}
    save_json("protocol/oks_nms.json", {"cases": cases})

    truth = json.loads((official / "coco_gt.json").read_text())
    records = dict(np.load(official / "coco_records.npz"))
    left_out = records["image_id"][~records["kept_by_mmpose016"]].tolist()
    detections = json.loads((official / "coco_detections.json").read_text())
    crowded = Counter(d["image_id"] for d in detections).most_common(1)[0][0]
    images = {crowded, *left_out[:2], *[i["id"] for i in truth["images"][:IMAGES]]}
    truth["images"] = [{k: i[k] for k in ("id", "width", "height", "file_name")} for i in truth["images"] if i["id"] in images]
    truth["annotations"] = [a for a in truth["annotations"] if a["image_id"] in images]
    truth = {k: truth[k] for k in ("images", "annotations", "categories")}
    save_json("protocol/coco_gt.json", truth)
    of = np.isin(records["image_id"], list(images))
    save("protocol/coco_records.npz", **{name: values[of] for name, values in records.items()})  # proven equal to ours
    save_json("protocol/coco_detections.json", [d for d in detections if d["image_id"] in images])

    raw = dict(np.load(official / "coco_raw_predictions.npz"))
    raw = {name: values[np.isin(raw["image_id"], list(images))] for name, values in raw.items()}
    people = [d for d in detections if d["image_id"] in images and d["category_id"] == 1]
    raw["center"], raw["scale"] = boxes.box_to_center_scale([d["bbox"] for d in people], (192, 256))
    xy, scores = raw["preds"][..., :2], raw["preds"][..., 2]
    raw["instance_score"] = oks.rescore(raw["box_score"], scores)
    kept = oks.nms_per_image(raw["image_id"], xy, raw["instance_score"], raw["area"])
    raw["kept_by_oks_nms"] = np.isin(np.arange(len(people)), kept)
    save("protocol/coco_raw_predictions.npz", **raw)
    given = raw["image_id"].tolist(), xy, scores, raw["center"], raw["scale"], raw["box_score"]
    results = metrics.coco_results(*given)
    save_json("protocol/coco_results.json", results)
    bare = metrics.coco_results(*given, score_threshold=None, nms_threshold=None)
    boxed = [{**r, "bbox": d["bbox"]} for r, d in zip(bare, people, strict=True)]
    expected = {}
    for name, entries in (
        ("after_official_rescoring_and_nms", results),
        ("raw_detections_box_score_no_nms", bare),
        ("raw_with_bbox_key", boxed),
    ):
        ours = metrics.coco_ap(truth, entries)
        expected[name] = {"stats": {k: round(v, 6) for k, v in ours.items()}, "stats_full": list(ours.values())}
    save_json("protocol/coco_expected.json", expected)


def counts() -> dict:
    """Shapes, parameters and multiply-adds of the eleven networks, in the form of the official file."""
    models = {}
    for name, theirs in EXACT.items():
        model = shape_only(name)
        params = sum(p.numel() for p in model.parameters())
        shapes = Counter(tuple(p.shape) for p in model.parameters())
        macs, module_count = measure(model, (256, 192)), hrnet_count(model, (256, 192))
        cost = {
            "macs_executed": macs["macs"] + SECOND_RUN.get(name, 0),
            "module_count_total": macs["peer_macs"] if name in SECOND_RUN else module_count,
        }
        models[theirs] = {
            "joints_17": {
                "params_total": params,
                "state_dict_tensors": len(model.state_dict()),
                "param_shapes": [[list(shape), count] for shape, count in sorted(shapes.items())],
                "cost": {"256x192": cost},
            },
            "joints_16": {"params_total": sum(p.numel() for p in shape_only(name, 16).parameters())},
        }
    return models


def main(official: Path) -> None:
    prove(official)
    for part in (geometry, heatmaps, training, percent_of_joints, coco):
        part(official / "protocol")
    (FIXTURES / "networks").mkdir(exist_ok=True)
    save_json("networks/complexity.json", {"models": counts()})
    save("networks/whole.npz", **{name: network_numbers(build) for name, build in networks()})
    blocks = {name: block_numbers(*block) for name, block in BLOCKS.items()}
    save("networks/blocks.npz", **{f"{name}: {kind}": v for name, kinds in blocks.items() for kind, v in kinds.items()})


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve()) if len(sys.argv) == 2 else sys.exit(__doc__)
