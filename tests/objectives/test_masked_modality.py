"""One modality is kept from the fusion and found by the others; nothing can collapse."""

import clinical  # noqa: F401
from clinical.batch import ClinicalBatch
from clinical.containers import CodeSet, Vector
from clinical.errors import ConfigError
from clinical.objectives import ReferenceEdges
from clinical.objectives.masked_modality import MaskedModality

import pytest
import torch

MODALITIES = ("events", "static", "notes", "images", "codes")


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def planted(size: int, *, seed: int, shuffled: bool = False) -> ClinicalBatch:
    """Static columns and codes that tell of the same thing, one of eight."""
    generator = draws(seed)
    thing = torch.randint(8, (size,), generator=generator)
    told = thing[torch.randperm(size, generator=generator)] if shuffled else thing
    columns = torch.stack([(thing // 2**bit % 2).float() for bit in range(3)], 1)
    columns = torch.cat([columns, torch.rand(size, 1, generator=generator)], 1)
    everywhere = torch.ones(size, 1, dtype=torch.bool)
    return ClinicalBatch(
        row=torch.arange(size),
        inputs={
            "static": Vector(columns, torch.ones(size, 4, dtype=torch.bool)),
            "codes": CodeSet(told[:, None], torch.zeros(size, 1), everywhere),
        },
        neighbours={},
        targets={},
    )


@pytest.fixture
def model(synthetic):
    config = synthetic.make_config(modalities=("static", "codes"), relations=())
    return synthetic.make_model(config)


def judged(model, objective, batch) -> float:
    hidden_batch, hidden = objective.hide(batch, draws(1))
    with torch.no_grad():
        return float(objective.loss(model(hidden_batch), hidden).total)


def train(model, objective, *, shuffled: bool = False, steps: int = 100) -> None:
    optimizer = torch.optim.Adam([*model.parameters(), *objective.parameters()], lr=1e-2)
    for step in range(steps):
        batch, hidden = objective.hide(planted(32, seed=step, shuffled=shuffled), draws(step))
        loss = objective.loss(model(batch), hidden).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def test_what_the_others_know_is_found_and_a_constant_prediction_is_worse(model):
    torch.manual_seed(0)
    objective = MaskedModality(model, share=1.0, width=8)
    train(model, objective)
    fresh = planted(64, seed=999)
    learned = judged(model, objective, fresh)
    assert learned < 0.8
    # Nothing has collapsed: samples still differ in what is to be predicted.
    encodings = model(fresh).encodings.values()
    assert all(encoding.summary.std(0).mean() > 0.1 for encoding in encodings)
    for predict in objective.predict.values():
        torch.nn.init.zeros_(predict[2].weight)
    assert judged(model, objective, fresh) > max(1.0, learned + 0.2)


def test_a_shuffled_pairing_teaches_nothing(model):
    torch.manual_seed(0)
    objective = MaskedModality(model, share=1.0, width=8)
    train(model, objective, shuffled=True)
    assert judged(model, objective, planted(64, seed=999, shuffled=True)) > 0.95


def test_summaries_that_are_all_the_same_are_guessing_and_no_way_out(model):
    objective = MaskedModality(model, share=1.0, width=8)
    batch, hidden = objective.hide(planted(16, seed=0), draws())
    outputs = model(batch)
    for encoding in outputs.encodings.values():
        encoding.summary[:] = encoding.summary[:1].clone()
    assert float(objective.loss(outputs, hidden).total) == pytest.approx(1.0, abs=1e-5)


def test_one_modality_is_withheld_of_samples_that_have_two_or_more(synthetic):
    model, batch = synthetic.make_model(), synthetic.make_batch(30)
    only = torch.arange(30) < 4
    batch = batch.replace(
        **{name: batch.inputs[name].drop(only) for name in MODALITIES if name != "events"}
    )
    masked, hidden = MaskedModality(model, share=1.0).hide(batch, draws())
    present = torch.stack([batch.inputs[name].present for name in MODALITIES])
    withheld = torch.stack([masked.withheld[name] for name in MODALITIES])
    assert not (withheld & ~present).any()
    assert torch.equal(withheld.sum(0), (~only).long())
    assert withheld.any(1).all()
    assert all(torch.equal(masked.inputs[n].present, batch.inputs[n].present) for n in MODALITIES)
    assert all(torch.equal(hidden.chosen[name], masked.withheld[name]) for name in MODALITIES)
    some, _ = MaskedModality(model, share=0.3).hide(batch, draws())
    n_withheld = sum(int(chosen.sum()) for chosen in some.withheld.values())
    assert 2 <= n_withheld <= 14


def test_what_is_withheld_does_not_reach_what_predicts_it(synthetic):
    for fusion in ("attention", "gated", "cross_attention"):
        model = synthetic.make_model(synthetic.make_config(fusion=fusion))
        batch = synthetic.make_batch()
        masked, hidden = MaskedModality(model, share=1.0).hide(batch, draws())
        chosen = hidden.chosen["static"]
        assert chosen.any()
        static = masked.inputs["static"]
        other = static.replace(
            value=torch.where(chosen[:, None], 1 - static.value, static.value),
            observed=static.observed,
        )
        with torch.no_grad():
            before, after = model(masked), model(masked.replace(static=other))
        moved = (before.encodings["static"].summary != after.encodings["static"].summary).any(1)
        assert torch.equal(moved, chosen)
        assert torch.equal(before.fused, after.fused)


def test_the_target_has_no_gradient(model):
    objective = MaskedModality(model, share=1.0, width=8)
    batch = planted(12, seed=0)
    batch, hidden = objective.hide(batch, draws())
    # Codes alone are withheld, of everybody: static columns predict.
    everyone, nobody = torch.ones(12, dtype=torch.bool), torch.zeros(12, dtype=torch.bool)
    withheld = {"static": nobody, "codes": everyone}
    hidden = type(hidden)(withheld, hidden.present, hidden.subject)
    batch = ClinicalBatch(batch.row, batch.inputs, {}, {}, withheld)
    objective.loss(model(batch), hidden).total.backward()
    gradients = [p.grad for p in model.encoders["codes"].parameters()]
    assert all(grad is None or not grad.any() for grad in gradients)
    assert any(p.grad is not None and p.grad.any() for p in model.encoders["static"].parameters())


def test_samples_of_one_subject_are_not_told_apart(model):
    objective = MaskedModality(model, share=1.0)
    objective.use_references(ReferenceEdges(torch.zeros(6, dtype=torch.int64), torch.arange(0), {}))
    assert judged(model, objective, planted(6, seed=0)) == 0


def test_a_width_below_one_is_refused(model):
    with pytest.raises(ConfigError, match=r"masked_modality\.width: 0 should be at least 1"):
        MaskedModality(model, width=0)
