"""Which patches are hidden, and what drawing them is measured by."""

import clinical  # noqa: F401
from clinical.errors import ConfigError
from clinical.objectives.patches import MaskedPatches, cut, standardise

import pytest
import torch


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_same_number_of_patches_is_hidden_in_every_image(synthetic):
    batch = synthetic.make_batch(20)
    masked, hidden = MaskedPatches(synthetic.make_model(), share=0.5).hide(batch, draws())
    assert (hidden.patch.flatten(1).sum(1) == 8).all()
    assert torch.equal(masked.inputs["images"].observed, ~hidden.patch)
    assert not torch.equal(hidden.patch[0], hidden.patch[1])


def test_pixels_are_cut_as_a_loop_would_cut_them():
    pixels = torch.rand(2, 1, 12, 8, generator=draws())
    patches = cut(pixels, 4)
    assert patches.shape == (2, 3, 2, 16)
    for row in range(3):
        for column in range(2):
            expected = pixels[:, 0, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
            assert torch.equal(patches[:, row, column], expected.reshape(2, 16))


def test_of_a_slice_between_its_neighbours_the_slice_is_drawn():
    slices = torch.rand(2, 3, 12, 8, generator=draws())
    assert torch.equal(cut(slices, 4), cut(slices[:, 1:2], 4))


def test_a_frozen_backbone_is_refused(synthetic):
    config = synthetic.make_config()
    frozen = config.modalities["images"].model_copy(
        update={"options": {**config.modalities["images"].options, "train": "frozen"}}
    )
    config = config.model_copy(update={"modalities": {**config.modalities, "images": frozen}})
    with pytest.raises(ConfigError, match="patches: the encoder of images is frozen"):
        MaskedPatches(synthetic.make_model(config))


def test_texture_and_level_of_patches_worked_out_by_hand():
    texture, level = standardise(torch.tensor([[0.0, 1.0, 0.0, 1.0], [0.3, 0.3, 0.3, 0.3]]))
    torch.testing.assert_close(level, torch.tensor([0.5, 0.3]))
    torch.testing.assert_close(texture, torch.tensor([[-1.0, 1.0, -1.0, 1.0], [0.0] * 4]))


def test_the_loss_is_the_mean_absolute_error_over_hidden_patches(synthetic):
    model = synthetic.make_model()
    objective = MaskedPatches(model)
    masked, hidden = objective.hide(synthetic.make_batch(), draws())
    outputs = model(masked)
    textures, levels = [], []
    for image, row, column in torch.nonzero(hidden.patch).tolist():
        drawn = objective.decode(
            objective.norm(outputs.encodings["images"].states[image, row, column])
        )
        texture, level = standardise(hidden.pixels[image, row, column][None])
        textures.append((drawn[1:] - texture[0]).abs().mean())
        levels.append((drawn[0] - level[0]).abs())
    parts = objective.loss(outputs, hidden).parts
    torch.testing.assert_close(parts["patches/texture"], torch.stack(textures).mean())
    torch.testing.assert_close(parts["patches/level"], torch.stack(levels).mean())


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_nothing_or_everything_can_be_hidden(synthetic, share):
    model = synthetic.make_model()
    objective = MaskedPatches(model, share=share)
    masked, hidden = objective.hide(synthetic.make_batch(), draws())
    assert float(hidden.patch.float().mean()) == share
    assert torch.isfinite(objective.loss(model(masked), hidden).total)
