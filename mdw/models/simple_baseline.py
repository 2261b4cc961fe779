"""SimpleBaseline (Xiao et al., ECCV 2018): a classification network's last map and three deconvolutions.

The mobile networks of the article's tables have the same head on other backbones (as in MMPose's model zoo). Backbones are
timm's, ShuffleNetV2 torchvision's; ImageNet weights are downloaded only with `pretrained=True`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from mdw.models.layers import init_normal
from mdw.models.skeleton import check_input
from mdw.util.errors import MdwError


class SimpleBaseline(nn.Module):
    """(N, 3, H, W) -> (N, num_joints, H/4, W/4). `backbone` returns a map (N, channels, H/32, W/32), or a list that ends in it.

    Head: three times 4x4 deconvolution with stride 2 to 256 channels, norm, ReLU; then a 1x1 convolution with bias.
    """

    size_multiple = 32

    def __init__(self, backbone: nn.Module, channels: int, num_joints: int):
        super().__init__()
        self.backbone = backbone
        layers = []
        for width in (channels, 256, 256):
            layers += [nn.ConvTranspose2d(width, 256, 4, 2, 1, bias=False), nn.BatchNorm2d(256), nn.ReLU()]
        self.deconv_layers = nn.Sequential(*layers)
        self.final_layer = nn.Conv2d(256, num_joints, 1)
        init_normal(self.deconv_layers)
        init_normal(self.final_layer)

    def forward(self, x: Tensor) -> Tensor:
        check_input(x, self.size_multiple)
        maps = self.backbone(x)
        return self.final_layer(self.deconv_layers(maps if isinstance(maps, Tensor) else maps[-1]))


@contextmanager
def _weights_of(name: str, pretrained: bool) -> Iterator[None]:
    """Turns errors while a backbone is built into MdwErrors where its ImageNet weights cannot be downloaded."""
    try:
        yield
    except Exception as error:  # urllib, httpx and the hub have different types for no network
        if not pretrained:
            raise
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise MdwError(
            f"the ImageNet weights of {name} cannot be fetched ({reason}); connect, or leave pretrained out"
        ) from None


def _on_timm(name: str, num_joints: int, pretrained: bool, **options) -> SimpleBaseline:
    """Returns SimpleBaseline on timm's `name` up to its last map."""
    import timm

    with _weights_of(name, pretrained):
        backbone: Any = timm.create_model(name, pretrained=pretrained, features_only=True, out_indices=(4,), **options)
    return SimpleBaseline(backbone, backbone.feature_info.channels()[-1], num_joints)


def _resnet(name: str, num_joints: int, pretrained: bool) -> SimpleBaseline:
    return _on_timm(name, num_joints, pretrained, zero_init_last=False)  # timm starts residual branches at 0, the original at 1


def simple_baseline_50(num_joints: int = 17, *, pretrained: bool = False) -> SimpleBaseline:
    """SimpleBaseline with ResNet-50: 33,999,697 parameters."""
    return _resnet("resnet50", num_joints, pretrained)


def simple_baseline_101(num_joints: int = 17, *, pretrained: bool = False) -> SimpleBaseline:
    """SimpleBaseline with ResNet-101: 52,991,825 parameters."""
    return _resnet("resnet101", num_joints, pretrained)


def simple_baseline_152(num_joints: int = 17, *, pretrained: bool = False) -> SimpleBaseline:
    """SimpleBaseline with ResNet-152: 68,635,473 parameters."""
    return _resnet("resnet152", num_joints, pretrained)


def mobilenetv2(num_joints: int = 17, *, pretrained: bool = False) -> SimpleBaseline:
    """MobileNetV2, width 1, with its last 1x1 convolution to 1,280 channels, which timm's feature list would leave out."""
    import timm

    with _weights_of("mobilenetv2_100", pretrained):
        backbone: Any = timm.create_model("mobilenetv2_100", pretrained=pretrained, num_classes=0, global_pool="")
    return SimpleBaseline(backbone, backbone.num_features, num_joints)


def mobilenetv3(num_joints: int = 17, *, pretrained: bool = False) -> SimpleBaseline:
    """MobileNetV3-Large, width 1, up to the map of 960 channels that is pooled in the classifier."""
    return _on_timm("mobilenetv3_large_100", num_joints, pretrained)


def shufflenetv2(num_joints: int = 17, *, pretrained: bool = False) -> SimpleBaseline:
    """ShuffleNetV2, width 1, up to its last 1x1 convolution to 1,024 channels."""
    from torchvision.models import ShuffleNet_V2_X1_0_Weights, shufflenet_v2_x1_0

    with _weights_of("shufflenet_v2_x1_0", pretrained):
        network = shufflenet_v2_x1_0(weights=ShuffleNet_V2_X1_0_Weights.DEFAULT if pretrained else None)
    children = {name: child for name, child in network.named_children() if name != "fc"}
    backbone = nn.Sequential()
    for name, child in children.items():
        backbone.add_module(name, child)
    return SimpleBaseline(backbone, 1024, num_joints)
