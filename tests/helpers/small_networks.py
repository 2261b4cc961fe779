"""The networks of the papers' families with one module in each stage: every part once, which the deeper ones repeat; and
which parameters of a network learn."""

from functools import partial

import torch
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


def loudly(model: nn.Module) -> nn.Module:
    """Start values that keep the size of the signal through a small network: by its own, gradients vanish on their way."""
    for module in model.modules():
        if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Linear, nn.ConvTranspose2d)):
            nn.init.kaiming_normal_(module.weight)
    return model


def without_gradient(model: nn.Module, batch: int = 4) -> tuple[set[str], set[str]]:
    """Names of the parameters that no gradient reaches, and of those whose gradient is 0.

    In double precision, where less than 1e-12 of the largest gradient is rounding, and with the norms' statistics held at those
    of the batch: in a training step a norm takes away what the bias of a norm before it adds, and the gradient of that bias is
    rounding and nothing else.
    """
    model, x = model.double(), torch.randn(batch, 3, 64, 64).double()
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = 1.0
    with torch.no_grad():
        model.train()(x)
    output = model.eval()(x)
    assert output.shape == (batch, 17, 16, 16) and output.isfinite().all()
    (output - torch.rand_like(output)).square().mean().backward()
    sizes = {name: None if p.grad is None else p.grad.abs().max().item() for name, p in model.named_parameters()}
    floor = 1e-12 * max(size for size in sizes.values() if size is not None)
    unreached = {name for name, size in sizes.items() if size is None}
    return unreached, {name for name, size in sizes.items() if size is not None and size <= floor}
