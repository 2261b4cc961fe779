"""What official numbers are called, and what ours is beside them."""

from functools import cache

import torch

import mdw

EXACT = {  # our name -> its name among the measured official networks
    "lite_hrnet_18": "lite_hrnet_18",
    "lite_hrnet_30": "lite_hrnet_30",
    "naive_lite_hrnet_18": "naive_lite_hrnet_18",
    "wider_naive_lite_hrnet_18": "wider_naive_lite_hrnet_18",
    "dite_hrnet_18": "dite_hrnet_18",
    "dite_hrnet_30": "dite_hrnet_30",
    "hrnet_w32": "hrnet_w32",
    "hrnet_w48": "hrnet_w48",
    "simple_baseline_50": "simplebaseline_r50",
    "simple_baseline_101": "simplebaseline_r101",
    "simple_baseline_152": "simplebaseline_r152",
}
# multiply-adds of the paths from branch 0, which the released code runs twice and we run once, at 256x192 and 17 joints
SECOND_RUN = {
    "lite_hrnet_18": 43_718_400,
    "lite_hrnet_30": 76_652_160,
    "naive_lite_hrnet_18": 25_531_200,
    "wider_naive_lite_hrnet_18": 43_718_400,
    "dite_hrnet_18": 43_718_400,
    "dite_hrnet_30": 76_652_160,
}
# the rules of PCK among the official numbers -> our keywords
VARIANTS = {
    "default_torso_lsho_rhip_thr0p2": {"reference": "torso", "count": "all"},
    "thr0p1": {"reference": "torso", "count": "all", "threshold": 0.1},
    "visible_only": {"reference": "torso", "count": "flagged"},
    "other_diagonal": {"reference": "other_diagonal", "count": "all"},
    "max_of_diagonals": {"reference": "max_of_diagonals", "count": "all"},
    "bbox_max_side": {"reference": "bbox", "count": "all"},
    "lspet_rule_thr0p2": {},
    "lspet_rule_thr0p1": {"threshold": 0.1},
}


@cache
def shape_only(name, num_joints=17, mode=None):
    with torch.device("meta"):
        return mdw.create_model(name, num_joints, **({"mode": mode} if mode else {}))
