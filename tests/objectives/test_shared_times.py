"""What modalities of a sample share without being read (hours, kinds) teaches no objective."""

import clinical  # noqa: F401
from clinical.containers import SUMMARY_STATISTICS
from clinical.objectives import OBJECTIVES

import pytest
import torch

BETWEEN_MODALITIES = pytest.mark.parametrize("name", ["alignment", "masked_modality"])


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@BETWEEN_MODALITIES
def test_another_clock_changes_nothing_that_is_learned(name, synthetic):
    model, batch = synthetic.make_model(), synthetic.make_batch()
    events, notes, images, codes = (batch.inputs[n] for n in ("events", "notes", "images", "codes"))
    summary = events.summary.clone()
    summary[..., SUMMARY_STATISTICS.index("last_hours")] += 0.3
    other = batch.replace(
        events=events.replace(time_hours=(events.time_hours + 5) * events.mask, summary=summary),
        notes=notes.replace(time_hours=notes.time_hours + 5, chunk=notes.chunk + 2),
        images=images.replace(time_hours=images.time_hours + 5),
        codes=codes.replace(time_hours=(2 * codes.time_hours + 5) * codes.mask),
    )
    objective = OBJECTIVES[name](model)
    torch.nn.init.normal_(model.encoders["notes"].place.number.weight)
    found = []
    for given in (batch, other):
        shown, hidden = objective.hide(given, draws())
        found.append(objective.loss(model(shown), hidden).total)
    torch.testing.assert_close(found[0], found[1])


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
