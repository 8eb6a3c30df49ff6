"""What modalities of a sample share without being read (hours, kinds) teaches no objective."""

import clinical  # noqa: F401
from clinical.batch import ClinicalBatch
from clinical.containers import SUMMARY_STATISTICS
from clinical.model import ClinicalModel
from clinical.objectives import OBJECTIVES

import pytest
import torch
from torch import Tensor

N_KINDS = 4
N_THINGS = 8
MODALITIES = ("events", "notes", "images", "codes")
BETWEEN_MODALITIES = pytest.mark.parametrize("name", ["alignment", "masked_modality"])


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def charted_together(synthetic, size: int, *, seed: int, thing: Tensor | None) -> ClinicalBatch:
    """All of a sample ends in one hour and is of one kind, and tells of one thing if any."""
    generator = draws(seed)
    everyone = torch.arange(size)
    events = synthetic.make_events(size, generator)
    notes = synthetic.make_notes(everyone, size, generator)
    images = synthetic.make_images(everyone, size, generator)
    codes = synthetic.make_codes(torch.ones(size, dtype=torch.bool), generator)
    end = 48 * torch.rand(size, 1, generator=generator)
    kind = torch.randint(N_KINDS, (size,), generator=generator)
    if thing is not None:
        level = thing[:, None] / (N_THINGS - 1)
        bits = (thing[:, None] // torch.tensor([1, 2, 4, 8]) % 2).float().view(size, 1, 2, 2)
        words = notes.ids.clone()
        words[:, 1:5] = 5 + thing[:, None]
        events = events.replace(value=level * events.mask, summary=0 * events.summary + 0.5)
        notes = notes.replace(ids=words)
        images = images.replace(pixels=(images.pixels + torch.kron(bits, torch.ones(16, 16))) / 2)
        codes = codes.replace(code=thing[:, None] * codes.mask)
    span = events.time_hours.amax(1, keepdim=True)
    hours = (events.time_hours + end) * events.mask
    summary = events.summary.clone()
    summary[..., SUMMARY_STATISTICS.index("last_hours")] = end / 48
    shared = {
        "events": events.replace(time_hours=hours, summary=summary),
        "notes": notes.replace(time_hours=end[:, 0], kind=kind, chunk=kind),
        "images": images.replace(time_hours=end[:, 0], view=kind),
        "codes": codes.replace(time_hours=(end + span) * codes.mask),
    }
    return ClinicalBatch(row=everyone, inputs=shared, neighbours={}, targets={})


def learned(synthetic, name: str, *, is_paired: bool) -> float:
    """Loss on samples never seen, after some steps; guessing is 1."""
    torch.manual_seed(0)
    config = synthetic.make_config(modalities=MODALITIES, relations=())
    sizes = {
        **synthetic.SIZES,
        "notes": {**synthetic.SIZES["notes"], "kinds": N_KINDS},
        "images": {**synthetic.SIZES["images"], "views": N_KINDS},
    }
    model = ClinicalModel(config, sizes, n_reference=0).eval()
    objective = OBJECTIVES[name](model, width=8)
    optimizer = torch.optim.Adam([*model.parameters(), *objective.parameters()], lr=1e-2)

    def loss(seed: int) -> Tensor:
        thing = torch.randint(N_THINGS, (32,), generator=draws(seed)) if is_paired else None
        batch = charted_together(synthetic, 32, seed=seed, thing=thing)
        shown, hidden = objective.hide(batch, draws(seed))
        return objective.loss(model(shown), hidden).total

    for step in range(STEPS):
        optimizer.zero_grad()
        loss(step).backward()
        optimizer.step()
    with torch.no_grad():
        return float(torch.stack([loss(seed) for seed in range(10_000, 10_004)]).mean())


STEPS = 120


@BETWEEN_MODALITIES
def test_modalities_are_not_found_by_their_hours_and_kinds_alone(name, synthetic):
    assert learned(synthetic, name, is_paired=False) > 0.9


@BETWEEN_MODALITIES
def test_modalities_are_found_by_what_they_tell(name, synthetic):
    assert learned(synthetic, name, is_paired=True) < 0.75


