"""Integrated gradients of notes: what they add up to, and exact where the network is linear."""

from clinical.containers import Tokens
from clinical.encoders.encoding import Encoding
from clinical.explain.gradients import integrate
from clinical.explain.question import Question

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn

TASK = "mortality"


@pytest.fixture(scope="module", params=["full", "frozen"])
def question(request, batches, frozen_bert):
    """A random model, asked about a sample with five chunks of different lengths; and these."""
    model = batches.make_model()
    if request.param == "frozen":
        model.encoders["notes"] = frozen_bert(model)
    batch = batches.take(batches.make_batch(), torch.tensor([2]))
    many = batches.make_notes(torch.arange(5), 5, torch.Generator().manual_seed(4))
    notes = many.replace(sample=torch.zeros_like(many.sample), size=1)
    assert len(notes.mask.sum(1).unique()) > 2
    batch = replace(batch, inputs={**batch.inputs, "notes": notes})
    return Question.of(model, batch, model.memory), notes


def test_the_parts_of_the_notes_add_up_to_what_they_change(question):
    asked, notes = question
    path = integrate(asked, notes, tasks=[TASK], steps=64)[TASK]
    told = float((path.phrases * notes.phrases).sum())
    assert abs(path.difference) > 1e-3
    assert abs(told) > 1e-4
    assert abs(path.gap) < 0.01 * abs(path.difference)
    total = float(path.pieces.sum()) + told
    assert total == pytest.approx(path.difference - path.gap, abs=1e-9)
    with torch.no_grad():
        whole = asked.model.encoders["notes"](notes)
        real = float(asked.logits("notes", whole)[TASK])
    sizes = asked.model.sizes["notes"]
    masked = torch.where(
        notes.mask & (notes.ids != sizes["cls"]) & (notes.ids != sizes["sep"]),
        sizes["mask"],
        notes.ids,
    )
    blank = notes.replace(ids=masked, phrases=torch.zeros_like(notes.phrases))
    with torch.no_grad():
        nothing = float(asked.logits("notes", asked.model.encoders["notes"](blank))[TASK])
    assert path.difference == pytest.approx(real - nothing, abs=1e-6)


def test_one_step_is_further_from_the_whole_than_many(question):
    asked, notes = question
    gaps = [
        abs(integrate(asked, notes, tasks=[TASK], steps=steps)[TASK].gap) for steps in (1, 8, 64)
    ]
    assert gaps[0] > gaps[1] > gaps[2]


def test_start_end_and_padding_add_nothing_and_words_do(question):
    asked, notes = question
    path = integrate(asked, notes, tasks=[TASK], steps=4)[TASK]
    sizes = asked.model.sizes["notes"]
    words = notes.mask & (notes.ids != sizes["cls"]) & (notes.ids != sizes["sep"])
    assert (path.pieces[~words] == 0).all()
    assert (path.pieces[words] != 0).all()


def test_passes_of_any_size_give_the_same_and_leave_the_network_as_it_was(question, monkeypatch):
    asked, notes = question
    whole = integrate(asked, notes, tasks=[TASK], steps=9)[TASK]
    monkeypatch.setattr("clinical.explain.gradients.NUMBERS_AT_ONCE", 1)
    each = integrate(asked, notes, tasks=[TASK], steps=9)[TASK]
    torch.testing.assert_close(whole.pieces, each.pieces, rtol=0, atol=1e-7)
    table = asked.model.encoders["notes"].piece_table
    assert not table._forward_hooks
    assert not table._forward_pre_hooks
    assert all(weight.grad is None for weight in asked.model.parameters())


class Linear(nn.Module):
    """An encoder whose summary is the sum of its pieces' vectors and of what phrases say."""

    def __init__(self, *, frozen: bool) -> None:
        super().__init__()
        self.piece_table = nn.Embedding(9, 3)
        self.frozen = frozen

    def forward(self, notes: Tokens) -> Encoding:
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            vectors = self.piece_table(notes.ids) * notes.mask[..., None]
            rows = vectors.sum(1)
        rows = rows + notes.phrases.sum(1, keepdim=True)
        summary = rows.new_zeros(notes.size, 3).index_add(0, notes.sample, rows)
        return Encoding(summary, summary[:, None], torch.ones(notes.size, 1).bool(), vectors)


@pytest.mark.parametrize("frozen", [False, True])
def test_of_a_linear_network_each_part_is_exactly_its_own(frozen):
    torch.manual_seed(0)
    encoder, weight = Linear(frozen=frozen), torch.tensor([1.0, -2.0, 0.5])
    model = SimpleNamespace(
        encoders={"notes": encoder},
        sizes={"notes": {"pad": 0, "cls": 2, "sep": 3, "mask": 4}},
    )
    asked = SimpleNamespace(
        model=model, logits=lambda _, encoding: {TASK: encoding.summary @ weight}
    )
    ids = torch.tensor([[2, 5, 6, 3], [2, 7, 3, 0]])
    notes = Tokens(
        ids=ids,
        mask=ids > 0,
        time_hours=torch.zeros(2),
        kind=torch.zeros(2, dtype=torch.int64),
        chunk=torch.zeros(2, dtype=torch.int64),
        sample=torch.zeros(2, dtype=torch.int64),
        size=1,
        phrases=torch.tensor([[0.5], [-1.0]]),
    )
    path = integrate(asked, notes, tasks=[TASK], steps=3)[TASK]
    each = ((encoder.piece_table.weight - encoder.piece_table.weight[4]) @ weight).tolist()
    expected = torch.tensor([[0, each[5], each[6], 0], [0, each[7], 0, 0]])
    torch.testing.assert_close(path.pieces.float(), expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(path.phrases, torch.full((2, 1), -0.5).double())
    assert path.gap == pytest.approx(0, abs=1e-5)
