"""The networks of the papers' families with one module in each stage: every part once, which the deeper ones repeat."""

from functools import partial

from torch import nn

from mdw.models.dite_hrnet import dite_hrnet
from mdw.models.lite_hrnet import lite_hrnet, shuffle_units
from mdw.models.mdw_hrnet import mdw_hrnet

FAMILIES = {
    "mdw_hrnet_18": mdw_hrnet,
    "lite_hrnet_18": lite_hrnet,
    "naive_lite_hrnet_18": partial(lite_hrnet, unit=shuffle_units, widths=(30, 60, 120, 240)),
    "dite_hrnet_18": dite_hrnet,
}


def small(name: str, num_joints: int = 17, **options) -> nn.Module:
    """As `mdw.create_model`, but less deep."""
    return FAMILIES[name]((1, 1, 1), num_joints, **options)
