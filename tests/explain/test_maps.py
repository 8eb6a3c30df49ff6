"""Maps of images point at what the network looks at, and are laid where it stands."""

from clinical.encoders.cnn import CNNEncoder
from clinical.encoders.image_reading import resample
from clinical.explain.closely import _boxes
from clinical.explain.maps import maps_of
from clinical.explain.question import Question
from clinical.modalities.decoding import Recipe, decode, read_slices

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

TASK = "mortality"


def striped_batch(batches, size: int, seed: int):
    """Noisy images with stripes in the upper left corner: upright ones (label 1) or lying ones.

    Nothing but that corner tells them apart: neither brightness nor contrast of the whole does,
    which the norms spread all over an image.
    """
    draws = torch.Generator().manual_seed(seed)
    images = batches.make_images(torch.arange(size), size, draws)
    pixels = 0.5 * torch.rand(size, 1, 32, 32, generator=draws)
    lines = 0.5 * (torch.arange(16) // 2 % 2)
    upright = torch.arange(size) % 2 == 0
    pixels[upright, :, :16, :16] += lines
    pixels[~upright, :, :16, :16] += lines[:, None]
    inputs = {"images": images.replace(pixels=pixels)}
    return replace(batches.make_batch(size), inputs=inputs, neighbours={}), upright


@pytest.fixture(scope="module")
def trained(batches):
    """A model of images alone that has learned which way the stripes run."""
    config = batches.make_config(modalities=("images",), relations=(), tasks=(TASK,))
    model = batches.make_model(config)
    model.encoders["images"].coarse = None
    model.train()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for step in range(25):
        batch, upright = striped_batch(batches, 16, step)
        loss = nn.functional.binary_cross_entropy_with_logits(
            model(batch).logits[TASK], upright.float()
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.2
    return model.eval()


def maps(model, batch):
    found = maps_of(Question.of(model, batch, model.memory), batch.inputs["images"], tasks=[TASK])
    return found[TASK]


def alone(batches, n: int):
    """Samples with upright stripes, each a batch of its own."""
    batch, upright = striped_batch(batches, 2 * n, seed=99)
    for place in torch.nonzero(upright)[:, 0].tolist():
        images = batch.inputs["images"].drop(torch.arange(2 * n) != place)
        own = images.replace(sample=torch.zeros_like(images.sample), size=1)
        yield replace(batch, row=batch.row[:1], inputs={"images": own}, targets={})


def test_the_map_is_highest_where_the_planted_pattern_is(trained, batches):
    for batch in alone(batches, 6):
        effect = maps(trained, batch).states[0]
        inside = effect[:2, :2]
        elsewhere = torch.cat([effect[2:].ravel(), effect[:2, 2:].ravel()])
        assert inside.min() > 0
        assert inside.min() > elsewhere.max()


def test_the_map_is_another_one_for_random_weights(trained, batches):
    """The sanity check of Adebayo et al. (2018): else the map would explain nothing."""
    config = batches.make_config(modalities=("images",), relations=(), tasks=(TASK,))
    likeness = []
    for seed in range(12):  # any one of them may look at stripes by chance
        random = batches.make_model(config, seed=seed)
        random.encoders["images"].coarse = None
        for batch in alone(batches, 2):
            pair = [maps(model, batch).states[0].ravel() for model in (trained, random)]
            likeness.append(torch.corrcoef(torch.stack(pair))[0, 1].item())
    assert np.mean(likeness) < 0.5


def test_the_coarse_share_of_a_patch_is_what_hiding_it_from_the_coarse_view_takes(batches):
    model = batches.make_model()
    batch = batches.take(batches.make_batch(), torch.tensor([2]))
    question = Question.of(model, batch, model.memory)
    images, encoder = batch.inputs["images"], model.encoders["images"]
    found = maps_of(question, images, tasks=[TASK])[TASK]
    weight, small = encoder.coarse.linear.weight, 1e-2
    whole = question.logits("images", encoder(images))[TASK]
    for patch in (0, 5, 15):
        kept = weight[:, patch].clone()
        with torch.no_grad():
            weight[:, patch] *= 1 - small  # a hundredth hidden: to first order
            less = question.logits("images", encoder(images))[TASK]
            weight[:, patch] = kept
        expected = (whole - less).item() / small
        assert float(found.coarse[0].ravel()[patch]) == pytest.approx(expected, rel=0.05, abs=2e-4)
    assert found.coarse.abs().max() > 1e-3
    assert not encoder.coarse.linear._forward_pre_hooks


def test_grad_cam_is_the_states_weighed_by_their_mean_gradient(batches):
    model = batches.make_model()
    batch = batches.take(batches.make_batch(), torch.tensor([2]))
    question = Question.of(model, batch, model.memory)
    found = maps_of(question, batch.inputs["images"], tasks=[TASK])[TASK]
    encoding = model.encoders["images"](batch.inputs["images"])
    logit = question.logits("images", encoding)[TASK][0]
    (gradient,) = torch.autograd.grad(logit, encoding.states)
    naive = torch.zeros(4, 4)
    for channel in range(encoding.states.shape[-1]):
        naive += gradient[0, :, :, channel].mean() * encoding.states[0, :, :, channel].detach()
    torch.testing.assert_close(found.states[0].float(), naive, rtol=0, atol=1e-6)


@pytest.mark.parametrize("coarse", [True, False])
def test_of_a_frozen_backbone_the_map_is_that_of_its_last_maps(batches, coarse):
    model = batches.make_model()
    torch.manual_seed(2)
    sizes = model.sizes["images"]
    encoder = CNNEncoder(sizes, width=16, train="frozen", stages=3, coarse=coarse).eval()
    model.encoders["images"] = encoder
    batch = batches.take(batches.make_batch(), torch.tensor([2]))
    question = Question.of(model, batch, model.memory)
    images = batch.inputs["images"]
    found = maps_of(question, images, tasks=[TASK])[TASK]
    # All the way with gradients, where the encoder has none: the last map of each stage.
    read = [maps.detach().requires_grad_() for maps in encoder.backbone(encoder._visible(images))]
    encoded = [maps.mean((2, 3)) for maps in read]
    if coarse:
        encoded.append(encoder.encode_rows(images)[:, encoder.n_means :])
    encoding = encoder(images.replace(encoded=torch.cat(encoded, 1)))
    logit = question.logits("images", encoding)[TASK][0]
    naive = torch.zeros(1, 1, 4, 4)
    for maps, gradient in zip(read, torch.autograd.grad(logit, read), strict=True):
        each = (gradient * maps.detach()).sum(1, keepdim=True)  # of each place of the map
        naive += resample(each, (4, 4)) * each[0, 0].numel() / 16
    assert naive.abs().max() > 1e-4
    torch.testing.assert_close(found.states.float(), naive[:, 0], rtol=1e-3, atol=1e-6)
    kept = encoder.maps_of_means(images)
    assert kept.shape == (1, 4, 4, encoder.n_means)
    torch.testing.assert_close(kept.mean((1, 2)), torch.cat(encoded[:3], 1))
    assert (found.coarse.abs().max() > 1e-5) == coarse


@pytest.mark.parametrize("square", ["pad", "stretch"])
@pytest.mark.parametrize(("width", "height"), [(40, 40), (50, 20), (13, 70)])
def test_patches_are_laid_over_the_real_image(tmp_path, width, height, square):
    size, patch = 32, 8
    recipe = Recipe(size, square=square)
    path = tmp_path / "white.png"
    Image.fromarray(np.full((height, width), 255, np.uint8)).save(path)
    stored = decode("white.png", tmp_path.joinpath, recipe).pixels[0]
    left, upper, wide, high = recipe.placed(width, height)
    white = np.zeros((size, size), np.uint8)
    white[upper : upper + high, left : left + wide] = 255
    np.testing.assert_array_equal(stored, white)
    (picture,) = read_slices("white.png", tmp_path.joinpath, recipe)
    boxes = _boxes(picture.shape, recipe=recipe, patch=patch)
    # A patch has a box if anything of it is white, and the boxes tile the image.
    has = stored.reshape(4, patch, 4, patch).any((1, 3)).ravel()
    assert boxes["left"].is_not_null().to_list() == has.tolist()
    area = ((boxes["right"] - boxes["left"]) * (boxes["lower"] - boxes["upper"])).sum()
    assert area == pytest.approx(width * height)
    assert (boxes["left"].min(), boxes["upper"].min()) == (0, 0)
    assert boxes["right"].max() == pytest.approx(width)
    assert boxes["lower"].max() == pytest.approx(height)


def test_an_image_that_is_gone_has_patches_without_a_place(tmp_path):
    assert read_slices("gone.png", tmp_path.joinpath, Recipe(16)) == []
    boxes = _boxes(None, recipe=Recipe(16), patch=8)
    assert boxes.height == 4
    assert boxes["left"].null_count() == 4
