"""CNNs on images: hidden patches, the patch grid, frozen backbones, several images and slices."""

import clinical  # noqa: F401
from clinical.containers import Images
from clinical.encoders.cnn import CNNEncoder
from clinical.errors import ConfigError

import pytest
import torch
from torch import nn
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
    assert len(build({"size": size, "patch": 16}).backbone.stages) == stages


@pytest.mark.parametrize(
    ("size", "backbone", "kernel"),
    [(32, "resnet18", 3), (64, "resnet18", 7), (32, "densenet121", 7)],
)
def test_small_images_get_a_small_stem_where_there_is_one(size, backbone, kernel):
    net = build({"size": size, "patch": 8}, backbone=backbone).backbone
    assert net.net.get_parameter(net.first).shape[-1] == kernel


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


def test_weights_are_given_to_the_backbone(tmp_path):
    torch.save(get_model("resnet18", weights=None).state_dict(), tmp_path / "weights.pth")
    encoder = build({"size": 64, "patch": 8}, norm="batch")
    before = encoder.backbone.net.layer1[0].conv1.weight.clone()
    encoder.load_weights(tmp_path / "weights.pth")
    assert not torch.equal(encoder.backbone.net.layer1[0].conv1.weight, before)


def frozen(**options) -> CNNEncoder:
    encoder = build({"size": 64, "patch": 8}, train="frozen", **options)
    for module in encoder.modules():
        if isinstance(module, nn.GroupNorm):
            nn.init.uniform_(module.bias)
    return encoder


@pytest.mark.parametrize("coarse", [True, False])
def test_what_a_frozen_backbone_made_of_images_can_be_given_in_their_place(coarse):
    encoder, images = frozen(coarse=coarse), blank(64, 8, rows=3)
    encoded = encoder.encode_rows(images)
    assert encoded.shape == (3, encoder.encoded_width)
    assert encoder.encoded_width == 64 + 128 + 256 + (64 if coarse else 0)
    given = encoder(images.replace(pixels=images.pixels[:, :, :0], encoded=encoded))
    fresh = encoder(images)
    assert torch.equal(given.summary, fresh.summary)
    assert torch.equal(given.states, fresh.states)
    assert given.states.shape == (3, 1, 1, 16)


def test_a_frozen_backbone_learns_nothing_and_drops_no_block():
    encoder = frozen(backbone="efficientnet_b0").train()
    images = blank(64, 8)
    assert not encoder.backbone.training
    assert encoder.read_means.training
    encoder(images).summary.sum().backward()
    assert all(p.grad is None for p in encoder.backbone.parameters())
    learned = [p for p in encoder.parameters() if p.requires_grad]
    assert learned
    assert not any(p is own for p in learned for own in encoder.backbone.parameters())
    assert torch.equal(encoder.encode_rows(images), encoder.eval().encode_rows(images))


def test_random_weights_are_not_kept_as_they_are(tmp_path):
    with pytest.raises(ConfigError, match=r"images.train: a backbone of random weights"):
        CNNEncoder.check("modalities.images", {"train": "frozen"}, weights=None)
    weights = tmp_path / "weights.pth"
    weights.touch()
    CNNEncoder.check("modalities.images", {"train": "frozen"}, weights=weights)
    CNNEncoder.check("modalities.images", {}, weights=None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backbone": "resnet19"}, "did you mean resnet18"),
        ({"norm": "layer"}, "norm: layer should be group or batch"),
        ({"stem": "large"}, "stem: large should be standard or small"),
        ({"stages": 5}, "stages: 5 should be 1 to 4"),
        ({"size": 16, "stem": "standard", "patch": 2, "stages": 4, "augment": 3.0}, "augment: 3.0"),
        ({"norm": "batch"}, "norm: batch keeps the statistics of weights, and none are given"),
    ],
)
def test_what_cannot_be_built_is_refused_before_anything_is_prepared(options, message):
    with pytest.raises(ConfigError, match=message):
        CNNEncoder.check("modalities.images", options, weights=None)


def test_batch_norm_that_a_network_does_not_have_needs_no_weights():
    options = {"norm": "batch", "backbone": "convnext_tiny"}
    CNNEncoder.check("modalities.images", options, weights=None)


def test_weights_that_are_no_file_are_refused_before_anything_is_prepared(tmp_path):
    for path in (tmp_path, tmp_path / "nowhere.pth"):
        with pytest.raises(ConfigError, match="there is no such file of weights"):
            CNNEncoder.check("modalities.images", {"norm": "batch"}, weights=path)


def test_half_precision_does_not_change_what_is_kept_of_a_frozen_backbone():
    encoder, images = frozen(), blank(64, 8)
    exact = encoder.encode_rows(images)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(encoder.encode_rows(images), exact)


def test_nothing_is_kept_of_a_backbone_that_learns():
    encoder = build()
    assert encoder.encoded_width is None
    with pytest.raises(NotImplementedError, match="CNNEncoder has no frozen part"):
        encoder.encode_rows(blank(16, 4))


def test_slices_between_their_neighbours_are_encoded():
    encoder = build({"size": 64, "patch": 8, "channels": 3})
    images = blank(64, 8, rows=3)
    slices = images.replace(
        pixels=torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0)),
        position=torch.tensor([0.0, 0.5, 1.0]),
        sample=torch.zeros(3, dtype=torch.int64),
        size=1,
    )
    encoding = encoder(slices)
    assert encoding.tokens.shape == (1, 3, 16)
    before = slices.pixels.clone()
    before[1, 0] = 0.0  # the slice before the second
    moved = encoder(slices.replace(pixels=before)).tokens - encoding.tokens
    assert moved[0].abs().amax(1).gt(1e-4).tolist() == [False, True, False]


def test_the_view_of_an_image_is_learned():
    encoder = build({**SMALL, "views": 3})
    images = blank(16, 4).replace(view=torch.tensor([1, 2]))
    optimizer = torch.optim.Adam(encoder.parameters(), lr=0.05)
    encoder(images).summary[:, 0].sub(torch.tensor([1.0, -1.0])).square().sum().backward()
    optimizer.step()
    other = images.replace(view=torch.tensor([2, 2]))
    moved = encoder(other).summary - encoder(images).summary
    assert moved[0].abs().max() > 1e-3
    assert not moved[1].any()


def test_images_are_augmented_in_training_only():
    plain, encoder = (build(dropout=0.0, augment=strength) for strength in (0.0, 1.0))
    images = blank(16, 4)
    assert torch.equal(encoder(images).summary, plain(images).summary)
    assert not torch.equal(encoder.train()(images).summary, plain.train()(images).summary)


def test_augmentation_brings_no_hidden_pixel_into_view():
    encoder = build(dropout=0.0, augment=1.0).train()
    images = blank(16, 4)
    observed = images.observed.clone()
    observed[:, 1:3, 1:3] = False
    unseen = ~observed.repeat_interleave(4, 1).repeat_interleave(4, 2)[:, None]
    summaries = []
    for pixels in (images.pixels, torch.where(unseen, 1 - images.pixels, images.pixels)):
        torch.manual_seed(0)
        summaries.append(encoder(images.replace(pixels=pixels, observed=observed)).summary)
    assert torch.equal(*summaries)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"augment": -0.5}, "augment: -0.5 should be between 0 and 2"),
        ({"augment": 0.5, "train": "frozen"}, "augment: a frozen backbone sees each image once"),
        ({"augment": 0.0, "flip": True}, "flip: without augment nothing is flipped"),
    ],
)
def test_augmentation_that_would_do_nothing_is_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        build(**options)


def test_training_drops_nothing_of_the_coarse_view():
    # Levels are far from zero: what is dropped of them is mostly what all films share, and the
    # network learns not to listen to a sum that jumps.
    encoder, images, said = build(dropout=0.5).train(), blank(16, 4), []
    encoder.coarse.register_forward_hook(lambda _module, _read, view: said.append(view))
    encoder(images), encoder(images)
    assert torch.equal(said[0], said[1])
