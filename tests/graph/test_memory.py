"""The embedding memory is written whole, read detached and refuses to be read before that."""

import clinical  # noqa: F401
from clinical.graph import EmbeddingMemory

import pytest
import torch


def filled(n_rows: int = 6, width: int = 4) -> EmbeddingMemory:
    memory = EmbeddingMemory(n_rows, width)
    memory.replace_all(torch.randn(n_rows, width, generator=torch.Generator().manual_seed(0)))
    return memory


def test_rows_are_read_less_their_mean_in_units_of_their_spread():
    memory = EmbeddingMemory(2, 2)
    memory.replace_all(torch.tensor([[1.0, 10.0], [3.0, 14.0]]))
    # Centre (2, 12); squared deviations 1, 1, 4, 4, so the spread is the root of 2.5.
    expected = torch.tensor([[-1.0, -2.0], [1.0, 2.0]]) / 2.5**0.5
    torch.testing.assert_close(memory.read(torch.tensor([[0, 1]]))[0], expected)


def test_no_neighbour_is_read_as_zeros():
    read = filled().read(torch.tensor([[-1, 2], [-1, -1]]))
    assert torch.equal(read[0, 0], torch.zeros(4))
    assert torch.equal(read[1], torch.zeros(2, 4))
    assert read[0, 1].abs().sum() > 0


def test_a_memory_that_was_never_filled_refuses_to_be_read():
    memory = EmbeddingMemory(3, 4)
    with pytest.raises(AssertionError, match="before replace_all"):
        memory.read(torch.tensor([[0, -1]]))
    assert torch.equal(memory.read(torch.tensor([[-1, -1]])), torch.zeros(1, 2, 4))


def test_a_memory_without_rows_can_be_read_where_nobody_has_a_neighbour():
    read = EmbeddingMemory(0, 4).read(torch.full((3, 2), -1))
    assert torch.equal(read, torch.zeros(3, 2, 4))


def test_no_gradient_enters_the_memory():
    source = torch.randn(5, 4, requires_grad=True)
    memory = EmbeddingMemory(5, 4)
    memory.replace_all(source)
    assert not memory.read(torch.tensor([[0, 1]])).requires_grad
    assert not memory.holding(torch.cat([memory.embedding, source])).embedding.requires_grad


def test_writing_the_memory_copies_its_rows():
    source = torch.randn(5, 4)
    memory = EmbeddingMemory(5, 4)
    memory.replace_all(source)
    before = memory.embedding.clone()
    source.zero_()
    assert torch.equal(memory.embedding, before)


def test_rows_in_half_precision_are_read_in_single():
    memory = EmbeddingMemory(5, 4)
    memory.replace_all(torch.randn(5, 4, dtype=torch.float16))
    assert memory.read(torch.tensor([[0]])).dtype == torch.float32


def test_the_memory_is_no_part_of_the_weights():
    memory = filled()
    assert not memory.state_dict()
    assert not list(memory.parameters())


def test_rows_of_another_number_are_refused():
    with pytest.raises(ValueError, match=r"\(4, 4\) is not \(6, 4\)"):
        filled().replace_all(torch.zeros(4, 4))


def test_further_rows_stand_behind_the_references_and_move_none_of_them():
    memory = filled()
    everyone = torch.arange(6)[None]
    before = memory.read(everyone)
    extra = 100.0 + torch.randn(3, 4)
    longer = memory.holding(torch.cat([memory.embedding, extra]))
    assert torch.equal(longer.read(everyone), before)
    expected = (extra - memory.center) / memory.scale
    assert torch.equal(longer.read(torch.tensor([[6, 7, 8]]))[0], expected)
    assert len(memory) == 6
    assert torch.equal(memory.read(everyone), before)


def test_equal_rows_are_read_as_finite_numbers():
    memory = EmbeddingMemory(1, 4)
    memory.replace_all(torch.ones(1, 4))
    assert torch.equal(memory.read(torch.tensor([[0]])), torch.zeros(1, 1, 4))
