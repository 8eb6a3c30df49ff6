"""Batches in which some samples, or all, lack everything that an objective needs."""

from clinical.batch import ClinicalBatch, Neighbours
from clinical.model import ClinicalModel
from clinical.objectives import OBJECTIVES, Objective, ReferenceEdges
from clinical.sections import PretrainConfig
from clinical.training.pretrain import PretrainStage

import dataclasses
import sys

import pytest
import torch
from torch import Tensor

REFERENCES = torch.arange(12) + 100
LINKED = (torch.arange(12)[:, None] + torch.tensor([1, 5])) % 12
# Enough of what is hidden, so that each loss is above zero.
OPTIONS = {"edges": {"share": 0.5}, "static": {"share": 0.5}, "presence": {"share": 0.8}}

ALL_OBJECTIVES = pytest.mark.parametrize("name", OBJECTIVES)


def build(name: str, model: ClinicalModel) -> Objective:
    """An objective of the menu that knows who the patients are."""
    objective = OBJECTIVES[name](model, **OPTIONS.get(name, {}))
    edges = {relation: Neighbours(LINKED, torch.ones(LINKED.shape)) for relation in model.relations}
    objective.use_references(ReferenceEdges(torch.arange(200), REFERENCES, edges))
    return objective


def lacking(batch: ClinicalBatch, samples: Tensor, modalities: set[str]) -> ClinicalBatch:
    """The batch without these modalities of `samples` [B] bool, nor anybody related to them."""
    fewer = batch.replace(**{name: batch.inputs[name].drop(samples) for name in modalities})
    related = {name: edges.drop(samples) for name, edges in batch.neighbours.items()}
    return dataclasses.replace(fewer, neighbours=related)


@pytest.fixture
def drawn_by_place(monkeypatch):
    """Draws that a sample or row has from its place alone, whoever comes after it."""
    calls: list[int] = []

    def uniform(shape: tuple[int, ...], generator: torch.Generator, like: Tensor) -> Tensor:
        calls.append(len(calls))
        draws = torch.Generator().manual_seed(calls[-1])
        assert shape[0] <= 500
        return torch.rand((500, *shape[1:]), generator=draws)[: shape[0]]

    for name, module in list(sys.modules.items()):
        if name.startswith("clinical.objectives") and hasattr(module, "uniform"):
            monkeypatch.setattr(module, "uniform", uniform)
    return calls


@ALL_OBJECTIVES
def test_samples_that_lack_all_of_it_do_not_change_what_others_cost(
    name, synthetic, drawn_by_place
):
    model, batch = synthetic.make_model(), synthetic.make_batch(10)
    objective = build(name, model)
    last = torch.arange(10) >= 7
    needs = set(objective.hides) or set(batch.inputs)
    whole = lacking(batch, last, needs)
    losses = []
    for some in (whole, synthetic.take(whole, torch.arange(7))):
        drawn_by_place.clear()
        masked, hidden = objective.hide(some, torch.Generator())
        losses.append(objective.loss(model(masked), hidden))
    mixed, alone = losses
    assert alone.total > 0
    torch.testing.assert_close(mixed.total, alone.total, rtol=1e-5, atol=1e-6)
    for part, value in alone.parts.items():
        torch.testing.assert_close(mixed.parts[part], value, rtol=1e-5, atol=1e-6)


def stage_of(names: tuple[str, ...], synthetic, balance: str) -> PretrainStage:
    model = synthetic.make_model()
    torch.manual_seed(1)
    stage = PretrainStage(
        model,
        None,
        config=PretrainConfig(objectives=dict.fromkeys(names, 1.0), balance=balance),
        objectives={name: build(name, model) for name in OBJECTIVES if name in names},
        feeds={},
        key_codes={},
        seed=1,
    )
    stage.log_figures = lambda *_, **__: None
    return stage


@ALL_OBJECTIVES
@pytest.mark.parametrize("balance", ["fixed", "uncertainty"])
def test_an_objective_that_all_samples_lack_leaves_the_others_gradients_alone(
    name, balance, synthetic, monkeypatch
):
    monkeypatch.setattr(PretrainStage, "current_epoch", 0)
    other = "patches" if name == "tokens" else "tokens"
    stays = {"patches": "images", "tokens": "notes"}[other]
    batch = synthetic.make_batch(9)
    needs = set(OBJECTIVES[name].hides) or batch.inputs.keys() - {stays}
    batch = lacking(batch, torch.ones(9, dtype=torch.bool), needs)
    both, alone = (stage_of(names, synthetic, balance) for names in ((name, other), (other,)))
    alone.objectives[other].load_state_dict(both.objectives[other].state_dict())
    totals = [stage.training_step(batch, 0) for stage in (both, alone)]
    assert totals[1] > 0
    torch.testing.assert_close(*totals)
    for total in totals:
        total.backward()
    assert any(p.grad is not None and p.grad.any() for p in alone.model.parameters())
    expected = dict(alone.model.named_parameters())
    for parameter, value in both.model.named_parameters():
        own, wanted = (
            torch.zeros(()) if p.grad is None else p.grad for p in (value, expected[parameter])
        )
        torch.testing.assert_close(own, wanted.expand_as(own), rtol=1e-5, atol=1e-7)
    decoders = both.objectives[name].parameters()
    assert all(p.grad is None or not p.grad.any() for p in decoders)
    if both.balance is not None:
        assert both.balance.weight[both.balance.names.index(name)] == 0
