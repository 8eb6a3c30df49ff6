"""A code is itself and a case of its classes."""

import clinical  # noqa: F401
from clinical.encoders.bag import BagEncoder
from clinical.encoders.ontology import CodeEmbedding, Ontology

import pytest
import torch

# 1 and 2 are cases of 0, 3 of 2 and so of 0; 4 stands alone.
ANCESTORS = [[], [0], [0], [0, 2], []]


def owning(*codes: int) -> torch.Tensor:
    return torch.tensor([[code in codes for code in range(5)]])


@pytest.fixture
def table() -> CodeEmbedding:
    torch.manual_seed(0)
    table = CodeEmbedding(5, 3)
    table.ontology.set_ancestors(ANCESTORS)
    return table


def test_a_code_is_its_own_part_and_the_mean_of_its_ancestors(table):
    own = table.weight
    expected = torch.stack([own[0], own[1] + own[0], own[2] + own[0]])
    assert torch.allclose(table(torch.tensor([0, 1, 2])), expected)
    assert torch.allclose(table(torch.tensor([[3, 4]]))[0, 0], own[3] + (own[0] + own[2]) / 2)
    assert torch.equal(table(torch.tensor(4)), own[4])


def test_what_is_learned_of_a_code_is_learned_of_its_classes_and_of_no_other(table):
    table(torch.tensor([3])).sum().backward()
    assert table.weight.grad.any(1).tolist() == [True, False, True, True, False]


def test_without_an_ontology_it_is_an_embedding():
    table = CodeEmbedding(5, 3)
    assert torch.equal(table(torch.arange(5)), table.weight)


def test_ancestors_and_special_cases_are_reached():
    ontology = Ontology(5)
    ontology.set_ancestors(ANCESTORS)
    assert torch.equal(ontology.above(owning(3, 4)), owning(0, 2))
    assert torch.equal(ontology.below(owning(2, 4)), owning(3))
    assert torch.equal(ontology.below(owning(0)), owning(1, 2, 3))


@torch.no_grad()
def test_codes_begin_as_what_they_were_under_another_ontology(table):
    """4 stands above 3 here, which has no other class but 0; 1 and 4 are not known."""
    here = CodeEmbedding(5, 3)
    here.ontology.set_ancestors([[4], [0, 4], [], [0, 4], []])
    before = here.weight.clone()
    known = torch.tensor([True, False, True, True, False])
    here.begin_as(table.table(), known)
    torch.testing.assert_close(here.table()[known], table.table()[known])
    assert torch.equal(here.weight[4], torch.zeros(3))
    assert torch.equal(here.weight[1], before[1])


@pytest.mark.parametrize("ancestors", [[[], [0]], [[], [5], [], [], []], [[-1], [], [], [], []]])
def test_an_ontology_of_another_vocabulary_is_refused(ancestors):
    with pytest.raises(ValueError, match="ancestors"):
        Ontology(5).set_ancestors(ancestors)


def test_the_bag_reads_the_ontology_and_keeps_it_out_of_its_weights(codes):
    torch.manual_seed(0)
    encoder = BagEncoder({"codes": 20}, width=8).eval()
    before, saved = encoder(codes).summary, set(encoder.state_dict())
    encoder.use_statistics({"parents": [[], *[[0] for _ in range(19)]]})
    assert not torch.allclose(encoder(codes).summary, before)
    assert set(encoder.state_dict()) == saved
    assert not any("ontology" in name for name in saved)
