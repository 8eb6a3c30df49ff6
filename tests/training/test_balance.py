"""Weights of objectives by what their losses usually are."""

from clinical.training.balance import DECAY, Balance

import pytest
import torch


def losses(**values: float) -> dict[str, torch.Tensor]:
    return {name: torch.tensor(value, requires_grad=True) for name, value in values.items()}


def shares(balance: Balance) -> dict[str, float]:
    return {name: share.item() for name, share in balance.shares().items()}


def test_where_each_loss_is_the_usual_one_each_counts_its_weight_whatever_its_units():
    balance, given = Balance(("a", "b")), losses(a=7.0, b=0.02)
    balance.note(given)
    balance(given, {"a": 1.0, "b": 0.5}).backward()
    counts = {name: value.item() * value.grad.item() for name, value in given.items()}
    assert counts == pytest.approx({"a": 1.0, "b": 0.5})
    assert shares(balance) == pytest.approx({"a": 1 / 7, "b": 50.0})


def test_the_share_is_where_kendalls_loss_is_least_on_average():
    draws = torch.Generator().manual_seed(0)
    seen = (0.5 + torch.rand(200, generator=draws)).tolist()
    balance = Balance(("a",))
    for value in seen:
        balance.note(losses(a=value))
    age = torch.arange(len(seen) - 1, -1, -1)
    recent = DECAY**age / (DECAY**age).sum()
    log_variance = torch.linspace(-1, 1, 20_001)
    # The mean over batches, the recent ones more, of L e^-s + s.
    mean = (recent * torch.tensor(seen)).sum()
    least = log_variance[(mean * (-log_variance).exp() + log_variance).argmin()]
    assert shares(balance)["a"] == pytest.approx((-least).exp().item(), rel=1e-3)


@pytest.mark.parametrize("first", [7.0, 0.05, 1e-6])
def test_a_first_loss_that_is_out_of_the_way_is_soon_forgotten(first):
    balance = Balance(("a",))
    balance.note(losses(a=first))
    for _ in range(300):
        balance.note(losses(a=1.0))
    assert shares(balance)["a"] == pytest.approx(1.0, rel=0.05)


def test_no_batch_counts_more_than_the_mean_has_memory():
    balance = Balance(("a",))
    for _ in range(500):
        balance.note(losses(a=1e-6))
    given = losses(a=1.0)
    balance.note(given)
    assert balance(given, {"a": 1.0}).item() < 1 / (1 - DECAY) + 1e-3


def test_a_batch_that_asks_nothing_of_an_objective_says_nothing_of_its_weight():
    balance = Balance(("a", "b"))
    balance.note(losses(a=2.0, b=0.0))
    assert shares(balance) == pytest.approx({"a": 0.5, "b": 1.0})
    balance.note(losses(a=0.0, b=4.0))
    assert shares(balance) == pytest.approx({"a": 0.5, "b": 0.25})
    given = losses(a=1.0, b=0.0)
    assert balance(given, {"a": 1.0, "b": 1.0}).item() == pytest.approx(0.5)


def test_an_objective_without_weight_learns_nothing():
    balance, given = Balance(("a", "b")), losses(a=1.0, b=2.0)
    balance.note(given)
    balance(given, {"a": 1.0, "b": 0.0}).backward()
    assert given["b"].grad == 0


def test_the_means_go_on_where_they_were_saved():
    before, after = Balance(("a",)), Balance(("a",))
    before.note(losses(a=3.0))
    after.load_state_dict(before.state_dict())
    for balance in (before, after):
        balance.note(losses(a=1.0))
    assert shares(after) == shares(before)
