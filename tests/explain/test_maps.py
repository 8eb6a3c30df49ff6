"""Maps of images point at what the network looks at, and are laid where it stands."""

from clinical.encoders.cnn import CNNEncoder
from clinical.encoders.image_reading import patch_levels, resample
from clinical.explain.closely import _boxes
from clinical.explain.maps import even_pixels, maps_of
from clinical.explain.question import Question
from clinical.modalities.decoding import Recipe, decode, read_slices

import copy
import itertools
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


@pytest.fixture(scope="module", params=range(3))
def trained(request, batches):
    """A model of images alone that has learned which way the stripes run."""
    config = batches.make_config(modalities=("images",), relations=(), tasks=(TASK,))
    model = batches.make_model(config, seed=request.param)
    model.encoders["images"].coarse = None
    model.train()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for step in range(25):
        batch, upright = striped_batch(batches, 16, 1000 * request.param + step)
        loss = nn.functional.binary_cross_entropy_with_logits(
            model(batch).logits[TASK], upright.float()
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.2
    return model.eval()


def maps(model, batch, *, steps=32):
    question = Question.of(model, batch, model.memory)
    return maps_of(question, batch.inputs["images"], tasks=[TASK], steps=steps)[TASK]


def logit_of(question, images) -> float:
    with torch.no_grad():
        encoding = question.model.encoders["images"](images)
        return question.logits("images", encoding)[TASK].item()


def alone(batches, n: int):
    """Samples with upright stripes, each a batch of its own."""
    batch, upright = striped_batch(batches, 2 * n, seed=99)
    for place in torch.nonzero(upright)[:, 0].tolist():
        images = batch.inputs["images"].drop(torch.arange(2 * n) != place)
        own = images.replace(sample=torch.zeros_like(images.sample), size=1)
        yield replace(batch, row=batch.row[:1], inputs={"images": own}, targets={})


def test_the_map_is_highest_where_the_planted_pattern_is(trained, batches):
    for batch in alone(batches, 4):
        effect = maps(trained, batch).backbone[0]
        inside = effect[:2, :2]
        elsewhere = torch.cat([effect[2:].ravel(), effect[:2, 2:].ravel()])
        assert inside.min() > 0.2
        assert inside.min() > 2 * elsewhere.abs().max()


@pytest.mark.parametrize("trained", [0], indirect=True)
def test_the_map_is_another_one_for_random_weights(trained, batches):
    """The sanity check of Adebayo et al. (2018): else the map would explain nothing."""
    config = batches.make_config(modalities=("images",), relations=(), tasks=(TASK,))
    samples = list(alone(batches, 2))
    mine = [maps(trained, batch).backbone[0].ravel() for batch in samples]
    likeness = []
    for seed in range(8):  # any one of them may look at stripes by chance
        random = batches.make_model(config, seed=100 + seed)
        random.encoders["images"].coarse = None
        for own, batch in zip(mine, samples, strict=True):
            other = maps(random, batch, steps=8).backbone[0].ravel()
            likeness.append(torch.corrcoef(torch.stack([own, other]))[0, 1].item())
    assert np.mean(likeness) < 0.5


def test_the_coarse_share_of_a_patch_is_what_hiding_it_from_the_coarse_view_takes(batches):
    model = batches.make_model()
    batch = batches.take(batches.make_batch(), torch.tensor([2]))
    question = Question.of(model, batch, model.memory)
    images, encoder = batch.inputs["images"], model.encoders["images"]
    found = maps_of(question, images, tasks=[TASK], steps=1)[TASK]
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


@pytest.fixture
def several(batches):
    """A model asked about a sample with three images: one padded, one with hidden patches."""
    model = batches.make_model()
    batch = batches.take(batches.make_batch(), torch.tensor([2]))
    many = batches.make_images(torch.arange(3), 3, torch.Generator().manual_seed(5))
    pixels, observed = many.pixels.clone(), many.observed.clone()
    pixels[0, :, :6] = pixels[0, :, 26:] = 0
    pixels[0, :, 10, 10] = 0  # not along an edge
    observed[1, 0, 1] = observed[1, 3] = False
    images = many.replace(
        pixels=pixels, observed=observed, sample=torch.zeros_like(many.sample), size=1
    )
    batch = replace(batch, inputs={**batch.inputs, "images": images})
    return Question.of(model, batch, model.memory), images


def held_at(encoder, images):
    """The encoder, whose coarse view reads these images whatever it is given."""
    held = copy.deepcopy(encoder)
    level = patch_levels(images)
    held.coarse.linear.register_forward_pre_hook(lambda _, read: (level,))
    return held


def test_patches_add_up_to_what_the_images_change_beside_even_ones(several, monkeypatch):
    monkeypatch.setattr("clinical.explain.line.FAINT", 0.0)  # random weights say little
    question, images = several
    even = images.replace(pixels=even_pixels(images))
    tasks = ["readmission", TASK]
    found = maps_of(question, images, tasks=tasks, steps=64)
    whole = logit_of(question, images)
    question.model.encoders["images"] = held_at(question.model.encoders["images"], images)
    assert logit_of(question, images) == pytest.approx(whole, abs=1e-6)
    difference = whole - logit_of(question, even)
    assert abs(difference) > 0.003
    total = float(found[TASK].backbone.sum())
    assert total + found[TASK].gap == pytest.approx(difference, abs=1e-6)
    assert abs(found[TASK].gap) < 0.02 * abs(difference)
    assert (found["readmission"].backbone - found[TASK].backbone).abs().max() > 1e-4


def test_a_map_is_that_of_a_naive_walk_in_many_steps(several, monkeypatch):
    monkeypatch.setattr("clinical.explain.line.FAINT", 0.0)
    question, images = several
    found = maps_of(question, images, tasks=[TASK], steps=64)[TASK]
    encoder, even, steps = question.model.encoders["images"], even_pixels(images), 80
    held = held_at(encoder, images)
    naive = torch.zeros(3, 4, 4)
    for step in range(steps):
        contrast = ((step + 0.5) / steps) ** 2  # early ones closer to each other
        length = (2 * step + 1) / steps**2
        pixels = ((1 - contrast) * even + contrast * images.pixels).requires_grad_()
        logit = question.logits("images", held(images.replace(pixels=pixels)))[TASK].sum()
        (gradient,) = torch.autograd.grad(logit, pixels)
        for image, down, across in itertools.product(range(3), range(4), range(4)):
            place = image, 0, *(slice(8 * at, 8 * at + 8) for at in (down, across))
            change = images.pixels[place] - even[place]
            naive[image, down, across] += (gradient[place] * change).sum() * length
    strongest = naive.abs().max()
    assert strongest > 1e-3
    torch.testing.assert_close(found.backbone.float(), naive, rtol=0, atol=0.03 * strongest.item())


def test_an_even_image_is_as_bright_and_keeps_its_black_border(several):
    _, images = several
    even = even_pixels(images)
    assert (even[0, :, :6] == 0).all()
    assert (even[0, :, 26:] == 0).all()
    inside = images.pixels[0, 0, 6:26].mean()
    torch.testing.assert_close(even[0, 0, 6:26], inside.expand(20, 32))
    seen = images.pixels[1, 0][images.observed[1].repeat_interleave(8, 0).repeat_interleave(8, 1)]
    torch.testing.assert_close(even[1, 0], seen.mean().expand(32, 32))
    torch.testing.assert_close(even[2, 0], images.pixels[2].mean().expand(32, 32))
    black = images.replace(pixels=torch.zeros_like(images.pixels))
    assert (even_pixels(black) == 0).all()


def test_what_shows_nothing_adds_nothing(several):
    question, images = several
    pixels = images.pixels.clone()
    pixels[0, :, :8] = 0
    images = images.replace(pixels=pixels)
    found = maps_of(question, images, tasks=[TASK], steps=16)[TASK].backbone
    assert (found[0, 0] == 0).all()
    assert (found[~images.observed] == 0).all()
    assert (found[0, 1:] != 0).all()
    assert (found[2] != 0).all()
    none = images.drop(torch.ones(1, dtype=torch.bool))
    absent = maps_of(question, none, tasks=[TASK], steps=16)[TASK]
    assert absent.backbone.shape == absent.coarse.shape == (0, 4, 4)
    assert absent.gap == pytest.approx(0.0, abs=1e-6)


def test_passes_of_any_size_give_the_same_and_leave_the_network_as_it_was(several, monkeypatch):
    question, images = several
    whole = maps_of(question, images, tasks=[TASK], steps=16)[TASK]
    monkeypatch.setattr("clinical.explain.maps.PIXELS_AT_ONCE", 1)
    each = maps_of(question, images, tasks=[TASK], steps=16)[TASK]
    torch.testing.assert_close(whole.backbone, each.backbone, rtol=0, atol=1e-5)
    assert whole.gap == pytest.approx(each.gap, abs=1e-5)
    assert not question.model.encoders["images"].coarse.linear._forward_pre_hooks
    assert all(weight.grad is None for weight in question.model.parameters())


def test_the_tasks_asked_together_change_nothing(several):
    question, images = several
    both = maps_of(question, images, tasks=["readmission", TASK], steps=16)[TASK]
    alone = maps_of(question, images, tasks=[TASK], steps=16)[TASK]
    torch.testing.assert_close(both.backbone, alone.backbone, rtol=0, atol=1e-9)


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
    found = maps_of(question, images, tasks=[TASK], steps=1)[TASK]
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
    naive = naive[:, 0] - naive.mean()
    assert naive.abs().max() > 1e-4
    torch.testing.assert_close(found.backbone.float(), naive, rtol=1e-3, atol=1e-6)
    assert np.isnan(found.gap)
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
