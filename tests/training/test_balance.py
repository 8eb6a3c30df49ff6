"""Weights of objectives that are learned."""

from clinical.training.balance import Balance

import math

import pytest
import torch


def losses(**values: float) -> dict[str, torch.Tensor]:
    return {name: torch.tensor(value, requires_grad=True) for name, value in values.items()}


def test_the_loss_is_that_of_the_definition():
    balance = Balance(("a", "b"))
    balance.log_variance.data = torch.tensor([math.log(2.0), math.log(0.5)])
    found = balance(losses(a=3.0, b=4.0), {"a": 1.0, "b": 10.0})
    # 3/2 + log 2, and ten times 4/0.5 + log 0.5.
    assert found.item() == pytest.approx(1.5 + math.log(2) + 10 * (8 - math.log(2)))


def test_where_each_loss_is_the_usual_one_nothing_pulls_and_each_counts_its_weight():
    balance, given = Balance(("a", "b")), losses(a=7.0, b=0.02)
    balance.begin(given)
    balance(given, {"a": 1.0, "b": 0.5}).backward()
    assert balance.log_variance.grad == pytest.approx(torch.zeros(2), abs=1e-6)
    counts = {name: value.item() * value.grad.item() for name, value in given.items()}
    assert counts == pytest.approx({"a": 1.0, "b": 0.5})
    shares = {name: share.item() for name, share in balance.shares().items()}
    assert shares == pytest.approx({"a": 1 / 7, "b": 50.0})


def test_learning_finds_what_a_loss_usually_is():
    balance = Balance(("a", "b"))
    optimizer = torch.optim.Adam(balance.parameters(), lr=0.05)
    for _ in range(400):
        optimizer.zero_grad()
        balance(losses(a=4.0, b=0.1), {"a": 1.0, "b": 1.0}).backward()
        optimizer.step()
    assert balance.log_variance.exp().tolist() == pytest.approx([4.0, 0.1], rel=0.01)


def test_a_batch_that_asks_nothing_of_an_objective_says_nothing_of_its_weight():
    balance = Balance(("a", "b"))
    balance.begin(losses(a=2.0, b=0.0))
    assert balance.has_begun.tolist() == [True, False]
    balance.begin(losses(a=5.0, b=3.0))  # the second time only b is new
    assert balance.log_variance.exp().tolist() == pytest.approx([2.0, 3.0])
    given = losses(a=1.0, b=0.0)
    total = balance(given, {"a": 1.0, "b": 1.0})
    total.backward()
    assert total.item() == pytest.approx(0.5 + math.log(2))
    assert balance.log_variance.grad[0] != 0
    assert balance.log_variance.grad[1] == 0


def test_an_objective_without_weight_is_neither_learned_nor_balanced():
    balance, given = Balance(("a", "b")), losses(a=1.0, b=2.0)
    balance(given, {"a": 1.0, "b": 0.0}).backward()
    assert given["b"].grad == 0
    assert balance.log_variance.grad[1] == 0
