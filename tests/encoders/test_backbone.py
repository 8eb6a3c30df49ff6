"""CNNs of torchvision: their stages, their norms, published weights for one channel or three."""

import clinical  # noqa: F401
from clinical.encoders.backbone import Backbone
from clinical.encoders.norms import group_norm
from clinical.errors import ConfigError

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.models import DenseNet, get_model

# One of each family: the name, and the channels of its four stages.
FAMILIES = {
    "resnet18": [64, 128, 256, 512],
    "resnext50_32x4d": [256, 512, 1024, 2048],
    "densenet121": [128, 256, 512, 1024],
    "efficientnet_b0": [24, 40, 112, 1280],
    "convnext_tiny": [96, 192, 384, 768],
    "mobilenet_v3_small": [16, 24, 48, 576],
    "regnet_y_400mf": [48, 104, 208, 440],
}
ALL_FAMILIES = pytest.mark.parametrize("name", FAMILIES)


def build(name: str = "resnet18", **options: Any) -> Backbone:
    torch.manual_seed(0)
    default = {"size": 64, "channels": 1, "norm": "batch", "stem": "standard", "stages": 4}
    return Backbone(name, **{**default, "drop_blocks": False, **options}).eval()


def published(name: str, **options: Any) -> nn.Module:
    """A network as torchvision has it, with statistics that matter."""
    torch.manual_seed(1)
    net = get_model(name, weights=None, **options).eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.8, 1.2)
    return net


def last_maps(net: nn.Module, pixels: Tensor) -> Tensor:
    """What torchvision's own forward averages."""
    if isinstance(net, DenseNet):
        return net.features(pixels).relu()
    seen = []
    net.avgpool.register_forward_hook(lambda module, given, made: seen.append(given[0]))
    net(pixels)
    return seen[0]


def save(tensors: Any, folder: Path) -> Path:
    torch.save(tensors, folder / "weights.pth")
    return folder / "weights.pth"


def grey(size: int = 64, channels: int = 1) -> Tensor:
    return torch.rand(2, channels, size, size, generator=torch.Generator().manual_seed(4))


@ALL_FAMILIES
@torch.no_grad()
def test_published_weights_see_a_grey_image_as_the_same_in_all_colours(name, tmp_path):
    net, backbone = published(name), build(name)
    backbone.load(save(net.state_dict(), tmp_path))
    maps = backbone(grey())
    assert [stage.shape[1] for stage in maps] == backbone.channels == FAMILIES[name]
    assert [stage.shape[-1] for stage in maps] == [16, 8, 4, 2]
    expected = last_maps(net, grey().expand(-1, 3, -1, -1))
    torch.testing.assert_close(maps[-1], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["resnet18", "convnext_tiny"])
@torch.no_grad()
def test_published_weights_for_colour_are_kept_for_three_slices(name, tmp_path):
    net, backbone = published(name), build(name, channels=3)
    backbone.load(save(net.state_dict(), tmp_path))
    slices = grey(channels=3)
    torch.testing.assert_close(backbone(slices)[-1], last_maps(net, slices), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("norm", ["group", "batch"])
@ALL_FAMILIES
def test_training_does_not_look_at_other_images_of_the_batch(name, norm):
    backbone = build(name, norm=norm).train()
    together, alone = backbone(grey()), backbone(grey()[:1])
    for many, one in zip(together, alone, strict=True):
        torch.testing.assert_close(many[:1], one, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("drop_blocks", [False, True])
def test_blocks_are_dropped_in_training_only_where_that_is_wanted(drop_blocks):
    backbone = build("efficientnet_b0", drop_blocks=drop_blocks).train()
    torch.manual_seed(0)
    same = torch.equal(backbone(grey())[-1], backbone(grey())[-1])
    assert same is not drop_blocks


@pytest.mark.parametrize("stages", [1, 2, 3])
@pytest.mark.parametrize("name", ["resnet18", "densenet121", "mobilenet_v3_small"])
def test_fewer_stages_are_the_first_ones_and_the_others_are_gone(name, stages):
    few, all_four = build(name, stages=stages), build(name)
    few.net.load_state_dict(all_four.net.state_dict(), strict=False)
    with torch.no_grad():
        for one, other in zip(few(grey()), all_four(grey())[:stages], strict=True):
            assert torch.equal(one, other)
    assert not any(name.startswith(("fc", "classifier")) for name in all_four.net.state_dict())
    assert len(few.net.state_dict()) < len(all_four.net.state_dict())


def test_groups_have_sixteen_channels_or_as_few_more_as_divide():
    groups = {n: group_norm(nn.BatchNorm2d(n)).num_groups for n in (8, 64, 120, 40)}
    assert groups == {8: 1, 64: 4, 120: 6, 40: 2}


@pytest.fixture
def xray() -> nn.Module:
    """As torchxrayvision builds its DenseNet: one channel, 18 findings, their thresholds."""
    net = published("densenet121", num_classes=18)
    net.features.conv0 = nn.Conv2d(1, 64, 7, stride=2, padding=3, bias=False)
    net.register_buffer("op_threshs", torch.full((18,), torch.nan))
    return net


@torch.no_grad()
def test_weights_of_torchxrayvision_are_given_pixels_from_minus_to_plus_1024(xray, tmp_path):
    tensors = xray.state_dict()
    assert tensors["features.conv0.weight"].shape == (64, 1, 7, 7)
    assert tensors["classifier.weight"].shape == (18, 1024)
    assert {"features.denseblock1.denselayer1.norm1.weight", "features.norm5.bias"} <= set(tensors)
    backbone = build("densenet121")
    backbone.load(save(tensors, tmp_path))
    pixels = backbone.normalise(grey())
    torch.testing.assert_close(pixels, (2 * grey() - 1) * 1024, rtol=0, atol=1e-3)
    expected = last_maps(xray, (2 * grey() - 1) * 1024)
    torch.testing.assert_close(backbone(pixels)[-1], expected, rtol=1e-4, atol=1e-3)
    again = build("densenet121")
    again.load_state_dict(backbone.state_dict())
    assert torch.equal(again.normalise(grey()), pixels)


@torch.no_grad()
def test_weights_of_one_channel_see_three_equal_slices_as_one(xray, tmp_path):
    one, three = build("densenet121"), build("densenet121", channels=3)
    file = save(xray.state_dict(), tmp_path)
    one.load(file), three.load(file)
    given = one.normalise(grey())
    repeated = three(given.expand(-1, 3, -1, -1))
    torch.testing.assert_close(repeated[-1], one(given)[-1], rtol=1e-4, atol=1e-3)


def test_a_pickled_model_is_refused(xray, tmp_path):
    with pytest.raises(ConfigError, match="not readable as plain tensors"):
        build("densenet121").load(save(xray, tmp_path))


def test_the_published_names_of_old_densenets_are_understood(tmp_path):
    net = published("densenet121")
    old = net.state_dict()
    for name in list(old):
        layer, found, own = name.partition("denselayer")
        if found:
            kind = own.replace("norm1", "norm.1").replace("norm2", "norm.2")
            kind = kind.replace("conv1", "conv.1").replace("conv2", "conv.2")
            old[f"module.{layer}{found}{kind}"] = old.pop(name)
    assert "module.features.denseblock1.denselayer1.norm.1.weight" in old
    backbone = build("densenet121")
    backbone.load(save(old, tmp_path))
    own = backbone.net.state_dict()["features.denseblock4.denselayer16.conv2.weight"]
    assert torch.equal(own, net.state_dict()["features.denseblock4.denselayer16.conv2.weight"])


def test_safetensors_are_read_too(tmp_path):
    net, backbone = published("resnet18"), build()
    save_file(net.state_dict(), tmp_path / "weights.safetensors")
    backbone.load(tmp_path / "weights.safetensors")
    assert torch.equal(backbone.net.layer4[1].conv2.weight, net.layer4[1].conv2.weight)


def test_weights_of_batch_norm_are_refused_by_group_norm(tmp_path):
    file = save(published("resnet18").state_dict(), tmp_path)
    with pytest.raises(ConfigError, match="set norm: batch"):
        build(norm="group").load(file)


def test_weights_of_another_network_are_refused_and_change_nothing(tmp_path):
    file = save(published("resnet18").state_dict(), tmp_path)
    backbone = build("resnet34")
    before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    with pytest.raises(ConfigError, match=r"weights.pth: lacks \d+ of \d+ tensors"):
        backbone.load(file)
    assert all(torch.equal(before[k], tensor) for k, tensor in backbone.state_dict().items())


def test_weights_for_the_standard_stem_are_refused_by_the_small_one(tmp_path):
    file = save(published("resnet18").state_dict(), tmp_path)
    with pytest.raises(ConfigError, match=r"conv1.weight has shape \(64, 1, 7, 7\)"):
        build(stem="small").load(file)


def test_a_file_without_tensors_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="should hold a state dict"):
        build().load(save([1, 2], tmp_path))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "resnet19"}, "backbone: resnet19 is no CNN known here; did you mean resnet1"),
        ({"name": "vgg11"}, "backbone: vgg11 is no CNN known here"),
        ({"stem": "tiny"}, "stem: tiny should be standard or small"),
        ({"stem": "small", "name": "densenet121"}, "stem: densenet121 has no small one"),
        ({"norm": "layer"}, "norm: layer should be group or batch"),
        ({"stages": 5}, "stages: 5 should be 1 to 4"),
        ({"size": 16, "name": "convnext_tiny"}, "has nothing left of 16 pixels after 4 stages"),
    ],
)
def test_options_that_do_not_exist_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        build(**options)
