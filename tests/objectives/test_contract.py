"""What every objective of the menu keeps to."""

import clinical  # noqa: F401
from clinical.batch import ClinicalBatch, Neighbours
from clinical.errors import ConfigError
from clinical.model import ClinicalModel
from clinical.objectives import OBJECTIVES, Loss, Objective, ReferenceEdges

import dataclasses

import pytest
import torch
from torch import Tensor

# What makes an objective hide every bit of what it chose: words are partly left in place.
OPTIONS = {
    "tokens": {"kept": 0.0, "share": 0.5},
    "edges": {"share": 0.5},
    "static": {"share": 0.5},
    "forecast": {"share": 0.8},
    "presence": {"share": 0.8},
}

REFERENCES = torch.arange(12) + 100
LINKED = (torch.arange(12)[:, None] + torch.tensor([1, 5])) % 12

ALL_OBJECTIVES = pytest.mark.parametrize("name", OBJECTIVES)
HIDING = pytest.mark.parametrize("name", [name for name in OBJECTIVES if OBJECTIVES[name].hides])
DRAWING = pytest.mark.parametrize("name", [name for name in OBJECTIVES if name != "alignment"])


def draws(seed: int = 5) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def build(name: str, model: ClinicalModel, **options: float) -> Objective:
    """An objective of the menu that knows who the patients are."""
    objective = OBJECTIVES[name](model, **options)
    edges = {relation: Neighbours(LINKED, torch.ones(LINKED.shape)) for relation in model.relations}
    objective.use_references(ReferenceEdges(torch.arange(200), REFERENCES, edges))
    return objective


def tensors_of(value: object) -> list[Tensor]:
    """Every tensor below a batch, a container or a mapping of them."""
    if isinstance(value, Tensor):
        return [value]
    if dataclasses.is_dataclass(value):
        value = vars(value)
    if isinstance(value, dict):
        return [tensor for inner in value.values() for tensor in tensors_of(inner)]
    return []


def alter_values(batch: ClinicalBatch, masked: ClinicalBatch) -> ClinicalBatch:
    events, seen = batch.inputs["events"], masked.inputs["events"]
    untold = events.summary_observed & ~seen.summary_observed
    return batch.replace(
        events=events.replace(
            value=torch.where(events.observed & ~seen.observed, 1 - events.value, events.value),
            summary=torch.where(untold[..., None], 1 - events.summary, events.summary),
        )
    )


def alter_hours(batch: ClinicalBatch, masked: ClinicalBatch) -> ClinicalBatch:
    """Other variables at other values in the hours taken away, and other summaries."""
    events, seen = batch.inputs["events"], masked.inputs["events"]
    gone = events.mask & ~seen.mask
    untold = events.summary_observed & ~seen.summary_observed
    return batch.replace(
        events=events.replace(
            variable=torch.where(gone, (events.variable + 2) % 6, events.variable),
            value=torch.where(gone, 1 - events.value, events.value),
            summary=torch.where(untold[..., None], 1 - events.summary, events.summary),
        )
    )


def alter_tokens(batch: ClinicalBatch, masked: ClinicalBatch) -> ClinicalBatch:
    notes, chosen = batch.inputs["notes"], batch.inputs["notes"].ids != masked.inputs["notes"].ids
    other = (notes.ids - 5 + 7) % 35 + 5
    return batch.replace(notes=notes.replace(ids=torch.where(chosen, other, notes.ids)))


def alter_patches(batch: ClinicalBatch, masked: ClinicalBatch) -> ClinicalBatch:
    images, seen = batch.inputs["images"], masked.inputs["images"].observed
    unseen = ~seen.repeat_interleave(8, 1).repeat_interleave(8, 2)[:, None]
    pixels = torch.where(unseen, 1 - images.pixels, images.pixels)
    return batch.replace(images=images.replace(pixels=pixels))


def alter_static(batch: ClinicalBatch, masked: ClinicalBatch) -> ClinicalBatch:
    static, seen = batch.inputs["static"], masked.inputs["static"].observed
    value = torch.where(static.observed & ~seen, 1 - static.value, static.value)
    return batch.replace(static=static.replace(value=value))


def alter_edges(batch: ClinicalBatch, masked: ClinicalBatch) -> ClinicalBatch:
    codes, seen = batch.inputs["codes"], masked.inputs["codes"].mask
    hidden = codes.mask & ~seen
    return batch.replace(
        codes=codes.replace(
            code=torch.where(hidden, (codes.code + 4) % 15, codes.code),
            time_hours=torch.where(hidden, codes.time_hours + 99, codes.time_hours),
        )
    )


ALTER = {
    "forecast": alter_hours,
    "presence": alter_hours,
    "values": alter_values,
    "tokens": alter_tokens,
    "patches": alter_patches,
    "static": alter_static,
    "edges": alter_edges,
}


@HIDING
def test_what_is_hidden_does_not_reach_the_outputs(name, synthetic):
    model, batch = synthetic.make_model(), synthetic.make_batch()
    objective = build(name, model, **OPTIONS.get(name, {}))
    masked, _ = objective.hide(batch, draws())
    altered = ALTER[name](batch, masked)
    masked_again, _ = objective.hide(altered, draws())
    with torch.no_grad():
        assert not torch.equal(model(altered).fused, model(batch).fused)
        expected, outputs = model(masked), model(masked_again)
    for modality in batch.inputs:
        before, after = expected.encodings[modality], outputs.encodings[modality]
        assert torch.equal(before.states, after.states)
        assert torch.equal(before.summary, after.summary)
        assert torch.equal(before.tokens[before.token_mask], after.tokens[after.token_mask])
    assert torch.equal(expected.fused, outputs.fused)
    for task, logits in expected.logits.items():
        assert torch.equal(logits, outputs.logits[task])


@ALL_OBJECTIVES
def test_something_is_hidden_and_only_where_the_objective_says(name, synthetic):
    model, batch = synthetic.make_model(), synthetic.make_batch()
    objective = build(name, model)
    masked, _ = objective.hide(batch, draws())
    before = batch.timeless() if objective.own_pass else batch
    changed = {
        modality
        for modality in batch.inputs
        if any(
            not torch.equal(a, b)
            for a, b in zip(
                tensors_of(before.inputs[modality]),
                tensors_of(masked.inputs[modality]),
                strict=True,
            )
        )
    }
    assert changed == objective.hides


@ALL_OBJECTIVES
@pytest.mark.parametrize("padding", [True, False])
def test_nothing_to_hide_costs_nothing_and_backpropagates(name, padding, synthetic):
    model, batch = synthetic.make_model(), synthetic.make_batch(3)
    nobody = {k: c.drop(torch.ones(3, dtype=torch.bool)) for k, c in batch.inputs.items()}
    if not padding:
        steps = {"events": ("variable", "value", "time_hours", "mask", "observed")}
        steps["codes"] = ("code", "time_hours", "mask")
        for k, names in steps.items():
            none = {name: getattr(nobody[k], name)[:, :0] for name in names}
            nobody[k] = nobody[k].replace(**none)
    objective = build(name, model)
    linked = {
        k: edges.drop(torch.ones(3, dtype=torch.bool)) for k, edges in batch.neighbours.items()
    }
    batch = dataclasses.replace(batch.replace(**nobody), neighbours=linked)
    masked, hidden = objective.hide(batch, draws())
    loss = objective.loss(model(masked), hidden)
    assert loss.total == 0
    assert all(part == 0 for part in loss.parts.values())
    loss.total.backward()
    for module in (model, objective):
        assert all(p.grad is None or not p.grad.any() for p in module.parameters())


@ALL_OBJECTIVES
def test_a_sample_that_lacks_the_modality_does_not_spoil_the_others(name, synthetic):
    model, batch = synthetic.make_model(), synthetic.make_batch(3)
    first = torch.tensor([True, False, False])
    objective = build(name, model)
    lacking = objective.hides or batch.inputs.keys() - {"static"}
    fewer = batch.replace(**{k: batch.inputs[k].drop(first) for k in lacking})
    masked, hidden = objective.hide(fewer, draws())
    loss = objective.loss(model(masked), hidden)
    assert torch.isfinite(loss.total)
    loss.total.backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


@ALL_OBJECTIVES
def test_one_sample_alone_can_be_learned_from(name, synthetic):
    model, batch = synthetic.make_model(), synthetic.make_batch()
    alone = synthetic.take(batch, torch.tensor([4]))
    objective = build(name, model, **OPTIONS.get(name, {}))
    masked, hidden = objective.hide(alone, draws())
    loss = objective.loss(model(masked), hidden)
    assert torch.isfinite(loss.total)


@ALL_OBJECTIVES
def test_inputs_are_not_mutated(name, synthetic):
    model, batch = synthetic.make_model(), synthetic.make_batch()
    before = [tensor.clone() for tensor in tensors_of(batch)]
    objective = build(name, model)
    masked, hidden = objective.hide(batch, draws())
    objective.loss(model(masked), hidden).total.backward()
    assert len(before) > 20
    assert all(torch.equal(a, b) for a, b in zip(before, tensors_of(batch), strict=True))


@DRAWING
def test_the_generator_alone_decides_what_is_hidden(name, synthetic):
    model, batch = synthetic.make_model(), synthetic.make_batch()
    objective = build(name, model)

    def hidden(seed: int) -> list[Tensor]:
        masked, kept = objective.hide(batch, draws(seed))
        return [*tensors_of(masked), *tensors_of(kept)]

    first = hidden(1)
    torch.rand(3)
    assert all(torch.equal(a, b) for a, b in zip(first, hidden(1), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first, hidden(2), strict=True))


@ALL_OBJECTIVES
def test_parts_are_named_after_the_objective_and_carry_no_gradient(name, synthetic):
    model, batch = synthetic.make_model(), synthetic.make_batch()
    objective = build(name, model)
    masked, hidden = objective.hide(batch, draws())
    loss = objective.loss(model(masked), hidden)
    assert isinstance(loss, Loss)
    assert loss.total.shape == ()
    assert loss.parts
    assert all(part.startswith(f"{name}/") for part in loss.parts)
    assert not any(part.requires_grad for part in loss.parts.values())


@ALL_OBJECTIVES
def test_the_gradient_reaches_the_encoder(name, synthetic):
    model, batch = synthetic.make_model(), synthetic.make_batch()
    objective = build(name, model, **OPTIONS.get(name, {}))
    masked, hidden = objective.hide(batch, draws())
    objective.loss(model(masked), hidden).total.backward()
    for modality in objective.hides or batch.inputs:
        gradients = [p.grad for p in model.encoders[modality].parameters() if p.grad is not None]
        assert sum(float(gradient.abs().sum()) for gradient in gradients) > 0


@ALL_OBJECTIVES
def test_the_model_is_no_part_of_the_objective(name, synthetic):
    model = synthetic.make_model()
    objective = build(name, model)
    ours = {id(parameter) for parameter in model.parameters()}
    assert ours
    assert all(id(parameter) not in ours for parameter in objective.parameters())
    assert not any(module is model for module in objective.modules())


@ALL_OBJECTIVES
def test_eight_samples_can_be_learned_by_heart(name, synthetic):
    kinds = (OBJECTIVES[name].hides or {"events"}) | {"static"}
    modalities = tuple(kind for kind in synthetic.ENCODERS if kind in kinds)
    model = synthetic.make_model(synthetic.make_config(modalities=modalities, relations=()))
    objective = build(name, model)
    batch = synthetic.make_batch(8)
    parameters = [*model.parameters(), *objective.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=3e-3)
    masked, hidden = objective.hide(batch, draws())
    losses = []
    for _ in range(60):
        loss = objective.loss(model(masked), hidden).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


@HIDING
def test_without_its_modality_an_objective_says_what_to_do(name, synthetic):
    (modality,) = OBJECTIVES[name].hides
    other = "static" if modality != "static" else "events"
    model = synthetic.make_model(synthetic.make_config(modalities=(other,), relations=()))
    with pytest.raises(ConfigError, match=rf"pretrain\.objectives\.{name}: .* {modality} "):
        build(name, model)


@DRAWING
def test_a_share_above_one_is_refused(name, synthetic):
    share = "variable_share" if name == "values" else "share"
    with pytest.raises(ConfigError, match=rf"objectives\.{name}\.{share}: 1\.5 should be"):
        build(name, synthetic.make_model(), **{share: 1.5})
