"""What modalities of a sample share without being read (hours, kinds) teaches no objective."""

import clinical  # noqa: F401
from clinical.batch import ClinicalBatch
from clinical.containers import SUMMARY_STATISTICS
from clinical.objectives import OBJECTIVES

import pytest
import torch
from torch import Tensor

MODALITIES = ("notes", "codes")
BETWEEN_MODALITIES = pytest.mark.parametrize("name", ["alignment", "masked_modality"])


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def charted_together(synthetic, size: int, *, seed: int) -> ClinicalBatch:
    """Notes and codes of one hour that tell nothing of each other."""
    generator = draws(seed)
    everyone = torch.arange(size)
    hours = 48 * torch.rand(size, generator=generator)
    notes = synthetic.make_notes(everyone, size, generator).replace(time_hours=hours)
    codes = synthetic.make_codes(torch.ones(size, dtype=torch.bool), generator)
    codes = codes.replace(time_hours=hours[:, None] * codes.mask)
    return ClinicalBatch(
        row=everyone, inputs={"notes": notes, "codes": codes}, neighbours={}, targets={}
    )


@BETWEEN_MODALITIES
def test_modalities_are_not_found_by_their_hours_alone(name, synthetic):
    config = synthetic.make_config(modalities=MODALITIES, relations=())
    model = synthetic.make_model(config)
    objective = OBJECTIVES[name](model, width=8)
    optimizer = torch.optim.Adam([*model.parameters(), *objective.parameters()], lr=1e-2)

    def loss(seed: int) -> Tensor:
        batch = charted_together(synthetic, 32, seed=seed)
        shown, hidden = objective.hide(batch, draws(seed))
        return objective.loss(model(shown), hidden).total

    for step in range(100):
        optimizer.zero_grad()
        loss(step).backward()
        optimizer.step()
    with torch.no_grad():
        fresh = torch.stack([loss(seed) for seed in range(1000, 1004)]).mean()
    assert fresh > 0.9  # guessing is 1


def test_notes_and_images_keep_neither_hours_nor_kinds(synthetic):
    batch = synthetic.make_batch()
    notes, images, codes = (batch.inputs[name] for name in ("notes", "images", "codes"))
    one = torch.ones_like(notes.kind)
    notes = notes.replace(kind=one, chunk=one).timeless()
    images = images.replace(view=torch.ones_like(images.view)).timeless()
    told = (notes.time_hours, notes.kind, notes.chunk, images.time_hours, images.view)
    assert not any(tensor.any() for tensor in (*told, codes.timeless().time_hours))


def test_events_keep_the_hours_between_them_and_say_nothing_of_the_newest(synthetic):
    events = synthetic.make_events(6, draws())
    mask = events.mask.clone()
    mask[2] = False
    events = events.replace(time_hours=events.time_hours * mask, mask=mask)
    later = events.replace(
        time_hours=(events.time_hours + 7) * mask,
        summary=events.summary.clone(),
    )
    later.summary[..., SUMMARY_STATISTICS.index("last_hours")] = 0.9
    seen, again = events.timeless(), later.timeless()
    torch.testing.assert_close(again.time_hours, seen.time_hours)
    assert torch.equal(again.summary, seen.summary)
    assert not seen.time_hours[~mask].any()
    for hours, was, stands in zip(seen.time_hours, events.time_hours, mask, strict=True):
        if stands.any():
            torch.testing.assert_close(hours[stands], was[stands] - was[stands].min())
    others = [i for i, name in enumerate(SUMMARY_STATISTICS) if name != "last_hours"]
    assert torch.equal(seen.summary[..., others], events.summary[..., others])
