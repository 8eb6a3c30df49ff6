"""A hidden pair leaves nothing behind; its neighbour is sought among references of its kind."""

import clinical  # noqa: F401
from clinical.batch import ClinicalBatch, Neighbours
from clinical.errors import ConfigError
from clinical.graph import EmbeddingMemory
from clinical.objectives import OBJECTIVES, ReferenceEdges
from clinical.objectives.patient_edges import MaskedPatients

import math
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

# Twelve references (as many as the model's memory has rows) of six subjects, two stays each, then
# four samples of two subjects that are no reference.
SUBJECT = torch.tensor([0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7])
N_REFERENCE = 12
EVERYBODY = torch.arange(16)


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def linked(pairs: set[tuple[int, int]]) -> Neighbours:
    """Edges into every sample from all stays of the subjects that it is paired with."""
    lines = [
        [
            row
            for row in range(N_REFERENCE)
            if (int(SUBJECT[sample]), int(SUBJECT[row])) in pairs
            and SUBJECT[sample] != SUBJECT[row]
        ]
        for sample in range(16)
    ]
    rows = torch.tensor([line + [-1] * (N_REFERENCE - len(line)) for line in lines])
    return Neighbours(rows, (rows >= 0).float())


def objective_of(pairs: set[tuple[int, int]], *, share: float, candidates: int = 5):
    """Of a network with one relation of a table, and all samples as a batch."""
    model = SimpleNamespace(width=8, relation_kinds={"home": "given"})
    objective = MaskedPatients(model, share=share, candidates=candidates)
    edges = linked(pairs)
    own = Neighbours(edges.rows[:N_REFERENCE], edges.weight[:N_REFERENCE])
    objective.use_references(ReferenceEdges(SUBJECT, torch.arange(N_REFERENCE), {"home": own}))
    return objective, ClinicalBatch(EVERYBODY, {}, {"home": edges}, {})


def pairs_of(edges: Neighbours) -> set[tuple[int, int]]:
    sample, place = torch.nonzero(edges.rows >= 0, as_tuple=True)
    other = SUBJECT[edges.rows[sample, place]]
    return set(zip(SUBJECT[sample].tolist(), other.tolist(), strict=True))


def turned(pairs: set[tuple[int, int]]) -> set[tuple[int, int]]:
    return {(second, first) for first, second in pairs}


# With one at least that leads from a reference to another.
some_pairs = st.sets(st.tuples(st.integers(0, 7), st.integers(0, 5)), max_size=14).map(
    lambda pairs: pairs | {(0, 1)}
)


@given(some_pairs, st.integers(0, 1000))
def test_a_pair_is_hidden_as_a_whole_or_not_at_all(pairs, seed):
    objective, batch = objective_of(pairs, share=0.5)
    masked, hidden = objective.hide(batch, draws(seed))
    before, after = batch.neighbours["home"], masked.neighbours["home"]
    left, gone = pairs_of(after), pairs_of(before) - pairs_of(after)
    # Neither in the other direction nor by another stay of either.
    assert not left & (gone | turned(gone))
    kept = torch.tensor([[p >= 0 and (int(s), int(SUBJECT[p])) in left for p in line]
                         for s, line in zip(SUBJECT, before.rows, strict=True)])  # fmt: skip
    assert torch.equal(after.rows, before.rows.masked_fill(~kept, -1))
    assert torch.equal(after.weight > 0, after.rows >= 0)
    asked = hidden["home"]
    edges = set(zip(asked.sample.tolist(), asked.candidates[:, 0].tolist(), strict=True))
    sample, place = torch.nonzero((before.rows >= 0) & (after.rows < 0), as_tuple=True)
    lost = before.rows[sample, place]
    assert edges == set(zip(sample.tolist(), lost.tolist(), strict=True))


@given(some_pairs, st.integers(0, 1000))
def test_candidates_are_linked_to_somebody_and_none_but_the_first_to_the_sample(pairs, seed):
    objective, batch = objective_of(pairs, share=0.6)
    _, hidden = objective.hide(batch, draws(seed))
    asked, all_pairs = hidden["home"], pairs_of(batch.neighbours["home"])
    ends = set(batch.neighbours["home"].rows[:N_REFERENCE].flatten().tolist()) - {-1}
    for sample, line, fits in zip(asked.sample, asked.candidates, asked.fits, strict=True):
        assert fits[0]
        own = int(SUBJECT[sample])
        for row, counts in zip(line[1:].tolist(), fits[1:].tolist(), strict=True):
            other = int(SUBJECT[row])
            assert row in ends
            assert counts == (other != own and (own, other) not in all_pairs)


def test_a_reference_is_a_candidate_as_often_as_somebody_is_linked_to_it():
    # 0 has four people to look at, who have nobody else.
    pairs = {(1, 0), (2, 0), (3, 0), (4, 0), (0, 1), (0, 2), (0, 3), (0, 4), (6, 5), (5, 4)}
    objective, batch = objective_of(pairs, share=1.0, candidates=4001)
    _, hidden = objective.hide(batch, draws())
    asked = hidden["home"]
    drawn = Counter(SUBJECT[asked.candidates[:, 1:]].flatten().tolist())
    share = {subject: drawn[subject] / drawn.total() for subject in range(6)}
    expected = Counter(SUBJECT[r].item() for r in linked(pairs).rows[:12].flatten() if r >= 0)
    for subject in range(6):
        assert share[subject] == pytest.approx(expected[subject] / expected.total(), abs=0.01)


@pytest.fixture
def real(synthetic):
    """A whole network with a relation called `given`, the objective and a batch."""
    model = synthetic.make_model(synthetic.make_config(relations=("given", "similar")))
    objective = OBJECTIVES["edges"](model, share=0.5, candidates=4)
    batch = synthetic.make_batch(8)
    edges = linked({(0, 1), (1, 0), (2, 3), (3, 2), (1, 5), (5, 1)})
    own = Neighbours(edges.rows[:N_REFERENCE], edges.weight[:N_REFERENCE])
    each = {"given": own, "similar": own}
    objective.use_references(ReferenceEdges(SUBJECT, torch.arange(N_REFERENCE), each))
    into = Neighbours(edges.rows[:8], edges.weight[:8])
    neighbours = {"given": into, "similar": batch.neighbours["similar"]}
    return model, objective, replace(batch, neighbours=neighbours)


def test_no_message_comes_over_a_hidden_edge(real):
    model, objective, batch = real
    masked, hidden = objective.hide(batch, draws(1))
    asked = hidden.patients["given"]
    assert len(asked.sample)
    with torch.no_grad():
        before = model(masked)
        for sample, row in zip(asked.sample, asked.candidates[:, 0], strict=True):
            memory = model.memory.clone()
            memory[row] += 5.0
            said = model(masked, memory=memory).messages["given"][sample]
            assert torch.equal(said, before.messages["given"][sample])
            # It was heard before the edge was hidden, so that the check can fail.
            heard = model(batch, memory=memory).messages["given"][sample]
            assert not torch.equal(heard, model(batch).messages["given"][sample])


def test_the_loss_is_that_of_finding_the_neighbour_in_units_of_guessing(real):
    model, objective, batch = real
    masked, hidden = objective.hide(batch, draws(1))
    asked, outputs = hidden.patients["given"], model(masked)
    head, nats, guessing = objective.patients.heads["given"], 0.0, 0.0
    for sample, line, fits in zip(asked.sample, asked.candidates, asked.fits, strict=True):
        rows = (model.memory[line] - model.memory.mean(0)) / model.reference_memory.scale
        fit = rows @ head.project(outputs.aspects["given"][sample]) / math.sqrt(model.width)
        chance = float(fit[fits].softmax(0)[0].detach())
        nats, guessing = nats - math.log(chance), guessing + math.log(int(fits.sum()))
    part = objective.loss(outputs, hidden).parts["edges/given"]
    assert float(part) == pytest.approx(nats / guessing / 2, rel=1e-4)  # one of two relations


def test_the_gradient_reaches_the_aspect_and_not_the_memory(real):
    model, objective, batch = real
    masked, hidden = objective.hide(batch, draws(1))
    outputs = model(masked)
    only = replace(hidden, codes=None)
    objective.loss(outputs, only).total.backward()
    place = model.readout.aspects.index("given")
    assert model.readout.query.grad[place].abs().sum() > 0
    assert model.encoders["static"].shift.grad.abs().sum() > 0
    assert not model.memory.requires_grad


@pytest.mark.parametrize("fits", [True, False])
def test_who_belongs_together_is_learned_and_only_where_something_tells(fits):
    """Subject s is paired with s + 1, if even; all that is known of both is one random vector."""
    torch.manual_seed(0)
    n = 400
    subject = torch.arange(n)
    own = Neighbours((subject ^ 1)[:, None], torch.ones(n, 1))
    model = SimpleNamespace(width=8, relation_kinds={"home": "given"})
    objective = MaskedPatients(model, share=0.5, candidates=8)
    objective.use_references(ReferenceEdges(subject, subject, {"home": own}))
    home = torch.randn(n // 2, 8).repeat_interleave(2, 0)
    memory = EmbeddingMemory(n, 8)
    memory.replace_all(home if fits else torch.randn(n, 8))
    optimizer = torch.optim.Adam(objective.parameters(), lr=1e-2)
    losses = []
    for step in range(80):
        rows = torch.randperm(n)[:64]
        edges = Neighbours(own.rows[rows], own.weight[rows])
        _, hidden = objective.hide(ClinicalBatch(rows, {}, {"home": edges}, {}), draws(step))
        outputs = SimpleNamespace(memory=memory, aspects={"home": home[rows]})
        loss = objective.parts(outputs, hidden)["home"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    late = sum(losses[-20:]) / 20
    assert late < 0.4 if fits else late > 0.9


def test_without_a_share_nothing_is_asked():
    objective, batch = objective_of({(0, 1), (1, 0)}, share=0.0)
    masked, hidden = objective.hide(batch, draws())
    assert torch.equal(masked.neighbours["home"].rows, batch.neighbours["home"].rows)
    assert len(hidden["home"].sample) == 0
    memory = EmbeddingMemory(N_REFERENCE, 8)
    memory.replace_all(torch.randn(N_REFERENCE, 8))
    aspects = {"home": torch.randn(16, 8, requires_grad=True)}
    loss = objective.parts(SimpleNamespace(memory=memory, aspects=aspects), hidden)["home"]
    assert loss.item() == 0
    loss.backward()


def test_a_relation_that_has_no_edges_takes_nothing_from_the_others():
    model = SimpleNamespace(width=8, relation_kinds={"home": "given", "alike": "similar"})
    objective = MaskedPatients(model, share=0.5, candidates=4)
    edges = linked({(0, 1), (1, 0)})
    own = Neighbours(edges.rows[:N_REFERENCE], edges.weight[:N_REFERENCE])
    none = own.keep(torch.zeros_like(own.rows, dtype=torch.bool))
    objective.use_references(
        ReferenceEdges(SUBJECT, torch.arange(N_REFERENCE), {"home": own, "alike": none})
    )
    assert objective.relations == ("home",)


def test_a_network_without_codes_learns_from_a_table_alone(synthetic):
    config = synthetic.make_config(modalities=("static",), relations=("given",))
    model = synthetic.make_model(config)
    assert OBJECTIVES["edges"](model).codes is None
    model = synthetic.make_model(synthetic.make_config(modalities=("static",), relations=()))
    with pytest.raises(ConfigError, match="there is no modality codes"):
        OBJECTIVES["edges"](model)
    with pytest.raises(ConfigError, match=r"edges\.candidates: 1 should be at least 2"):
        OBJECTIVES["edges"](model, candidates=1)
