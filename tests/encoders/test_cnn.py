"""ResNets on one channel: hidden patches, the patch grid, weights from files."""

import clinical  # noqa: F401
from clinical.containers import Images
from clinical.encoders.cnn import CNNEncoder, resample
from clinical.errors import ConfigError

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import get_model

SMALL = {"size": 16, "patch": 4}


def build(sizes=SMALL, **options) -> CNNEncoder:
    torch.manual_seed(0)
    return CNNEncoder(sizes, width=16, **options).eval()


def blank(size: int, patch: int, rows: int = 2) -> Images:
    return Images(
        pixels=torch.rand(rows, 1, size, size, generator=torch.Generator().manual_seed(0)),
        observed=torch.ones(rows, size // patch, size // patch, dtype=torch.bool),
        time_hours=torch.zeros(rows),
        view=torch.zeros(rows, dtype=torch.int64),
        position=torch.full((rows,), 0.5),
        sample=torch.arange(rows),
        size=rows,
    )


@pytest.mark.parametrize(("size", "patch"), [(64, 8), (64, 16), (32, 8), (48, 4), (40, 8)])
def test_states_lie_on_the_patch_grid(size, patch):
    states = build({"size": size, "patch": patch})(blank(size, patch)).states
    assert states.shape == (2, size // patch, size // patch, 16)


@pytest.mark.parametrize(("size", "stages"), [(64, 3), (128, 4)])
def test_small_images_go_without_the_last_stage(size, stages):
    backbone = build({"size": size, "patch": 16}).backbone
    assert [hasattr(backbone, f"layer{i}") for i in (1, 3, 4)] == [True, True, stages == 4]


def test_states_know_their_place():
    images = blank(64, 8, rows=1)
    brighter = images.pixels.clone()
    brighter[:, :, 48:, 48:] = 1.0
    encoder = build({"size": 64, "patch": 8}, stages=2)
    moved = (encoder(images.replace(pixels=brighter)).states - encoder(images).states).abs()
    # Group norm looks at the whole image, so all move, those near the change the most.
    assert moved[0, 6:, 6:].mean() > 3 * moved[0, :3, :3].mean()


def test_a_hidden_patch_is_seen_to_be_hidden():
    images = blank(16, 4)
    hidden = images.observed.clone()
    hidden[0, 1, 1] = False
    encoder = build(stages=2)
    moved = encoder(images.replace(observed=hidden)).summary - encoder(images).summary
    assert moved[0].abs().max() > 1e-4
    assert not moved[1].any()


def test_one_image_trains_even_when_its_maps_are_one_pixel():
    encoder = build({"size": 16, "patch": 16}, stages=4).train()
    encoding = encoder(blank(16, 16, rows=1))
    encoding.summary.sum().backward()
    assert all(p.grad.isfinite().all() for p in encoder.parameters())


@pytest.mark.parametrize("norm", ["group", "batch"])
def test_training_does_not_look_at_other_images_of_the_batch(norm):
    encoder = build(norm=norm, stages=2, dropout=0.0).train()
    images = blank(16, 4)
    one = images.drop(torch.tensor([False, True])).replace(size=1)
    together, alone = encoder(images).summary[:1], encoder(one).summary
    torch.testing.assert_close(alone, together, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", [".pth", ".safetensors"])
def test_published_weights_are_loaded_and_summed_over_colours(tmp_path, kind):
    torch.manual_seed(1)
    published = get_model("resnet18", weights=None).eval()
    with torch.no_grad():
        published.bn1.running_mean.uniform_(-0.1, 0.1)
    file = tmp_path / f"weights{kind}"
    if kind == ".pth":
        torch.save(published.state_dict(), file)
    else:
        save_file(published.state_dict(), file)
    encoder = build({"size": 64, "patch": 8}, norm="batch", stages=4).train()
    encoder.load_weights(file)
    grey = torch.randn(2, 1, 64, 64)
    expected = published.bn1(published.conv1(grey.expand(-1, 3, -1, -1)))
    net = encoder.backbone
    torch.testing.assert_close(net.bn1(net.conv1(grey)), expected, rtol=0, atol=1e-4)
    assert torch.equal(net.layer4[1].conv2.weight, published.layer4[1].conv2.weight)


def test_weights_of_batch_norm_are_refused_by_group_norm(tmp_path):
    file = tmp_path / "weights.pth"
    torch.save(get_model("resnet18", weights=None).state_dict(), file)
    with pytest.raises(ConfigError, match="set norm: batch"):
        build().load_weights(file)


def test_weights_of_another_resnet_are_refused(tmp_path):
    file = tmp_path / "weights.pth"
    torch.save(get_model("resnet18", weights=None).state_dict(), file)
    with pytest.raises(ConfigError, match=r"weights.pth: lacks \d+ of \d+ tensors"):
        build({"size": 64, "patch": 8}, backbone="resnet34", norm="batch").load_weights(file)


def test_weights_for_the_standard_stem_are_refused_by_the_small_one(tmp_path):
    file = tmp_path / "weights.pth"
    torch.save(get_model("resnet18", weights=None).state_dict(), file)
    with pytest.raises(ConfigError, match=r"conv1.weight has shape \(64, 1, 7, 7\)"):
        build(norm="batch", stem="small").load_weights(file)


def test_a_file_without_tensors_is_refused(tmp_path):
    file = Path(tmp_path / "weights.pth")
    torch.save([1, 2], file)
    with pytest.raises(ConfigError, match="should hold a state dict"):
        build(norm="batch").load_weights(file)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backbone": "resnet19"}, "backbone: resnet19 is no ResNet; did you mean resnet1"),
        ({"backbone": "vgg11"}, "backbone: vgg11 is no ResNet; known here: resnet101"),
        ({"stem": "tiny"}, "stem: tiny should be standard or small"),
        ({"norm": "layer"}, "norm: layer should be group or batch"),
        ({"stages": 5}, "stages: 5 should be 1 to 4"),
    ],
)
def test_options_that_do_not_exist_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        build(**options)


def test_finer_maps_are_averaged_and_coarser_ones_interpolated():
    fine = torch.arange(16.0).view(1, 1, 4, 4)
    assert resample(fine, (2, 2)).flatten().tolist() == [2.5, 4.5, 10.5, 12.5]
    coarse = resample(torch.tensor([[[[0.0, 4.0]]]]), (1, 4))
    assert coarse.flatten().tolist() == [0.0, 1.0, 3.0, 4.0]
