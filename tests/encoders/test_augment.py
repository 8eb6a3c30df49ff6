"""Images taken differently: what may change, what may not, and for whom together."""

import clinical  # noqa: F401
from clinical.containers import Images
from clinical.encoders import augment
from clinical.encoders.augment import augmented

import pytest
import torch
from torch import Tensor


def draw(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(pixels: Tensor, sample: Tensor | None = None, hours: Tensor | None = None) -> Images:
    rows = len(pixels)
    sample = torch.arange(rows) if sample is None else sample
    return Images(
        pixels=pixels,
        observed=torch.ones(rows, 4, 4, dtype=torch.bool),
        time_hours=torch.zeros(rows) if hours is None else hours,
        view=torch.zeros(rows, dtype=torch.int64),
        position=torch.full((rows,), 0.5),
        sample=sample,
        size=int(sample[-1]) + 1,
    )


def smooth(rows: int, channels: int = 1) -> Tensor:
    coarse = torch.rand(rows, channels, 4, 4, generator=draw())
    return torch.nn.functional.interpolate(coarse, (32, 32), mode="bilinear")


@pytest.mark.parametrize("channels", [1, 3])
def test_every_image_changes_a_little_and_stays_between_black_and_white(channels):
    torch.manual_seed(0)
    given = images(smooth(16, channels))
    before = given.pixels.clone()
    changed = augmented(given, strength=1.0).pixels
    difference = (changed - given.pixels).abs().mean((1, 2, 3))
    assert (difference > 0.005).all()
    assert (difference < 0.2).all()
    assert changed.min() >= 0
    assert changed.max() <= 1
    assert torch.equal(given.pixels, before)


def test_at_no_strength_nothing_changes():
    given = images(smooth(4))
    torch.testing.assert_close(
        augmented(given, strength=0.0).pixels, given.pixels, rtol=0, atol=1e-4
    )


def test_draws_come_from_the_global_generator():
    given = images(smooth(4))
    found = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        found.append(augmented(given, strength=1.0).pixels)
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_slices_of_one_stack_move_together_and_other_images_by_themselves(monkeypatch):
    monkeypatch.setattr(augment, "_NOISE", 0.0)
    torch.manual_seed(0)
    sample, hours = torch.tensor([0, 0, 0, 1]), torch.tensor([5.0, 5.0, 2.0, 2.0])
    given = images(smooth(1).expand(4, -1, -1, -1), sample, hours)
    pixels = augmented(given, strength=1.0).pixels
    assert torch.equal(pixels[0], pixels[1])
    assert not torch.equal(pixels[1], pixels[2])
    assert not torch.equal(pixels[2], pixels[3])


@pytest.mark.parametrize("flip", [False, True])
def test_the_heart_stays_where_it_is_unless_flipped_and_nothing_turns_upside_down(flip):
    pixels = torch.full((200, 1, 32, 32), 0.2)
    pixels[:, :, 20:26, 20:26] = 0.9  # below, to the right
    torch.manual_seed(0)
    changed = augmented(images(pixels), strength=1.0, flip=flip).pixels[:, 0]
    is_right = changed[:, :, 16:].mean((1, 2)) > changed[:, :, :16].mean((1, 2))
    is_below = changed[:, 16:].mean((1, 2)) > changed[:, :16].mean((1, 2))
    assert is_below.all()
    assert 60 < is_right.sum() < 140 if flip else is_right.all()


def test_the_angle_is_at_most_seven_degrees(monkeypatch):
    for name in ("_SHIFT", "_SCALE", "_BRIGHTNESS", "_CONTRAST", "_GAMMA", "_NOISE"):
        monkeypatch.setattr(augment, name, 0.0)
    pixels = torch.zeros(300, 1, 64, 64)
    pixels[:, :, 31:33, 56] = 1.0  # to the right of the middle
    torch.manual_seed(0)
    changed = augmented(images(pixels), strength=1.0).pixels[:, 0]
    changed = changed * (changed > 0.01)
    height = torch.arange(64.0) - 31.5
    rise = (changed.sum(2) * height).sum(1) / changed.sum((1, 2))
    angle = torch.rad2deg((rise / 24.5).asin())
    assert 6 < angle.abs().max() < 7.5
    assert -1 < angle.mean() < 1


def test_images_with_hidden_patches_stay_as_they_are_and_the_others_do_not():
    given = images(smooth(3))
    observed = given.observed.clone()
    observed[1, 2, 2] = False
    torch.manual_seed(0)
    changed = augmented(given.replace(observed=observed), strength=1.0).pixels
    same = [torch.equal(changed[i], given.pixels[i]) for i in range(3)]
    assert same == [False, True, False]


def test_no_image_at_all_is_fine():
    nothing = images(smooth(1)).drop(torch.tensor([True]))
    assert augmented(nothing, strength=1.0) is nothing
