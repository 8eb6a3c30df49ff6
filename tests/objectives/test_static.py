"""Hidden facts: age, sex and what else has no time."""

from clinical.objectives import OBJECTIVES
from clinical.objectives.objective import ModelOutputs
from clinical.objectives.static import HiddenFacts
from clinical.sections import PretrainConfig
from clinical.training.pretrain import PretrainStage

import math
from types import SimpleNamespace
from typing import cast

import pytest
import torch

COLUMNS = ["GENDER//F", "GENDER//M", "SMOKER", "age_years"]
STATISTICS = {"static": {"columns": COLUMNS, "is_number": [False, False, False, True]}}


def draws(seed: int = 5) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def objective(synthetic):
    found = OBJECTIVES["static"](synthetic.make_model(), share=0.5)
    found.use_statistics(STATISTICS)
    return found


def fused(width: int, size: int) -> ModelOutputs:
    return cast(ModelOutputs, SimpleNamespace(fused=torch.zeros(size, width)))


def test_categories_of_one_question_are_hidden_together_and_a_lone_one_never(objective, synthetic):
    batch = synthetic.make_batch(60)
    everything = batch.inputs["static"].replace(observed=torch.ones(60, 4, dtype=torch.bool))
    masked, hidden = objective.hide(batch.replace(static=everything), draws())
    assert torch.equal(hidden.column[:, 0], hidden.column[:, 1])
    assert not hidden.column[:, 2].any()
    assert 15 < hidden.column[:, 0].sum() < 45
    assert 15 < hidden.column[:, 3].sum() < 45
    assert not torch.equal(hidden.column[:, 0], hidden.column[:, 3])
    assert torch.equal(masked.inputs["static"].observed, ~hidden.column)


def test_a_hidden_fact_is_to_the_encoder_as_one_that_was_never_known(objective, synthetic):
    model, batch = synthetic.make_model(), synthetic.make_batch(6)
    masked, hidden = objective.hide(batch, draws())
    assert hidden.column.any()
    static = batch.inputs["static"]
    missing = static.replace(
        observed=static.observed & ~hidden.column,
        value=static.value.masked_fill(hidden.column, torch.nan),
    )
    with torch.no_grad():
        found, expected = model(masked), model(batch.replace(static=missing))
    assert torch.equal(found.fused, expected.fused)


def test_the_losses_are_those_worked_out_by_hand(objective):
    with torch.no_grad():
        for decoder in (objective.number, objective.category):
            decoder.weight.zero_()
        objective.number.bias.fill_(0.5)
        objective.category.bias.copy_(torch.tensor([1.0, 0.0, 50.0, 0.0]))
    hidden = HiddenFacts(
        torch.tensor([[True, False, False, True], [False, True, False, False]]),
        torch.tensor([[1.0, 0.0, 0.0, 0.9], [0.0, 1.0, 0.0, 0.2]]),
    )
    loss = objective.loss(fused(16, 2), hidden)
    # Half of 0.4 squared, where knowing nothing costs 1/24.
    assert loss.parts["static/number"].item() == pytest.approx(0.5 * 0.4**2 * 24)
    # Two answers, of which the first is e times as likely; guessing costs log 2 for each sample.
    woman, man = math.log1p(math.exp(-1)), math.log1p(math.e)
    assert loss.parts["static/category"].item() == pytest.approx((woman + man) / (2 * math.log(2)))
    assert loss.total.item() == pytest.approx(sum(p.item() for p in loss.parts.values()))


def test_of_two_true_answers_either_is_right(objective):
    hidden = HiddenFacts(torch.tensor([[True, True, False, False]]), torch.ones(1, 4))
    loss = objective.loss(fused(16, 1), hidden)
    assert loss.parts["static/category"] == 0
    loss.total.backward()
    assert all(torch.isfinite(p.grad).all() for p in objective.parameters() if p.grad is not None)


def test_neighbours_chosen_by_age_and_sex_are_gone_where_these_are_hidden(synthetic):
    model, batch = synthetic.make_model(), synthetic.make_batch()
    objective = OBJECTIVES["static"](model)
    stage = PretrainStage(
        model,
        None,
        config=PretrainConfig(objectives={"static": 1.0}),
        objectives={"static": objective},
        feeds={"similar": frozenset({"events", "static"}), "same_unit": frozenset()},
        key_codes={},
        seed=1,
    )
    masked, _ = stage.hide(batch, stage.objectives, "train", 0, 0)
    assert (batch.neighbours["similar"].rows >= 0).any()
    assert not (masked.neighbours["similar"].rows >= 0).any()
    assert torch.equal(masked.neighbours["same_unit"].rows, batch.neighbours["same_unit"].rows)


def test_age_and_sex_are_found_in_the_events_that_follow_them(synthetic):
    torch.manual_seed(0)
    model = synthetic.make_model(synthetic.make_config(modalities=("events", "static")))
    objective = OBJECTIVES["static"](model, share=1.0)
    objective.use_statistics(STATISTICS)
    batch = synthetic.make_batch(64)
    events, static = batch.inputs["events"], batch.inputs["static"]
    level = events.summary[:, :1, 0].round()
    # A woman of 1, a man of 0, of none of whom it is said that they smoke.
    known = torch.cat([level, 1 - level, 0 * level, 0 * level + 1], 1) > 0.5
    static = static.replace(value=torch.where(known, level, 0.0), observed=known)
    batch = batch.replace(static=static)
    optimizer = torch.optim.AdamW([*model.parameters(), *objective.parameters()], lr=3e-3)
    for step in range(150):
        masked, hidden = objective.hide(batch, draws(step))
        loss = objective.loss(model(masked), hidden)
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
    assert loss.parts["static/number"] < 0.3
    assert loss.parts["static/category"] < 0.3
