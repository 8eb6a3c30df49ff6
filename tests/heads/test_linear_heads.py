"""Heads: losses against values worked out by hand, absent labels, unknown kinds."""

import clinical  # noqa: F401
from clinical.answers import Binary, Multiclass, Multilabel, Regression, TimeToEvent
from clinical.batch import Target
from clinical.heads import HEADS
from clinical.heads.linear import BinaryHead
from clinical.heads.losses import binary_loss, hazard_loss, multiclass_loss, regression_loss

import math

import pytest
import torch


def target(value: list[float], observed: list[bool]) -> Target:
    return Target(torch.tensor(value, dtype=torch.float32), torch.tensor(observed))


def test_the_loss_is_the_mean_over_known_labels():
    logits = torch.tensor([0.0, math.log(3), 5.0])
    # -log(1/2) for the first, -log(1 - 3/4) for the second; the third has no label.
    expected = (math.log(2) + math.log(4)) / 2
    loss = binary_loss(logits, target([1, 0, 0], [True, True, False]))
    assert loss.item() == pytest.approx(expected, abs=1e-6)


def test_what_stands_in_an_absent_label_changes_nothing():
    logits = torch.tensor([0.3, -2.0])
    known = binary_loss(logits, target([1, 0], [True, False]))
    garbage = binary_loss(logits, target([1, math.nan], [True, False]))
    assert torch.equal(known, garbage)


@pytest.mark.parametrize("size", [0, 3])
def test_no_known_label_gives_zero_and_a_gradient_of_zero(size):
    head = BinaryHead(4, Binary())
    logits = head(torch.randn(size, 4))
    unknown = Target(torch.zeros(size), torch.zeros(size, dtype=torch.bool))
    loss = head.loss(logits, unknown)
    assert loss.item() == 0
    loss.backward()
    assert all(not p.grad.any() for p in head.parameters())


def test_extreme_logits_stay_finite():
    logits = torch.tensor([-1e4, 1e4], requires_grad=True)
    loss = binary_loss(logits, target([1, 0], [True, True]))
    loss.backward()
    assert loss.item() == pytest.approx(1e4)
    assert logits.grad.tolist() == [-0.5, 0.5]


def test_a_binary_head_is_linear():
    torch.manual_seed(0)
    head = BinaryHead(4, Binary())
    one, other = torch.randn(2, 3, 4).unbind(0)
    origin = head(torch.zeros(3, 4))
    torch.testing.assert_close(head(one + other) - origin, head(one) + head(other) - 2 * origin)
    assert head(one).shape == (3,)


def test_multiclass_loss_is_the_cross_entropy_of_the_known():
    logits = torch.tensor([[0.0, 0.0, math.log(2)], [9.0, 0.0, 0.0]])
    # The first class has 1 of 1 + 1 + 2; the second sample has no label.
    loss = multiclass_loss(logits, target([0, math.nan], [True, False]))
    assert loss.item() == pytest.approx(math.log(4), abs=1e-6)


def test_multilabel_loss_is_a_mean_over_the_known_cells():
    logits = torch.tensor([[0.0, math.log(3)], [5.0, 5.0]])
    value = torch.tensor([[1.0, 1.0], [0.0, math.nan]])
    observed = torch.tensor([[True, True], [False, False]])
    expected = (math.log(2) - math.log(3 / 4)) / 2
    loss = binary_loss(logits, Target(value, observed))
    assert loss.item() == pytest.approx(expected, abs=1e-6)


def test_regression_loss_is_in_standard_deviations_and_linear_far_away():
    logits = torch.tensor([1.0, 0.0, 0.0])
    loss = regression_loss(logits, target([60, 150, 0], [True, True, False]), mean=50.0, sd=10.0)
    # The first is right; the second is 10 sd off: 3 * (10 - 1.5).
    assert loss.item() == pytest.approx((0 + 25.5) / 2, abs=1e-5)


EDGES = torch.tensor([10.0, 20.0, 40.0])


@pytest.mark.parametrize(
    ("hours", "happened", "through", "came"),
    [
        (0.0, 1, [], [0]),
        (10.0, 1, [], [0]),  # an interval holds its end
        (10.5, 1, [0], [1]),
        (40.0, 1, [0, 1], [2]),
        (41.0, 1, [0, 1, 2], []),  # after all that is asked
        (0.0, 0, [], []),
        (4.0, 0, [], []),  # in the first half of an interval
        (6.0, 0, [0], []),
        (20.0, 0, [0, 1], []),
        (31.0, 0, [0, 1, 2], []),
        (500.0, 0, [0, 1, 2], []),
    ],
)
def test_hazards_are_told_by_the_intervals_come_through_and_the_event(
    hours, happened, through, came
):
    logits = torch.tensor([[-1.0, 0.5, 0.2], [7.0, 7.0, 7.0]])
    value = torch.tensor([[hours, happened], [0.0, 0.0]])
    observed = torch.tensor([[True, True], [False, False]])
    hazard = logits[0].sigmoid()
    likelihood = math.prod(1 - hazard[i] for i in through) * math.prod(hazard[i] for i in came)
    expected = -math.log(likelihood)
    loss = hazard_loss(logits, Target(value, observed), EDGES)
    assert loss.item() == pytest.approx(expected, abs=1e-5)


ANSWERS_BY_KIND = {
    "binary": Binary(),
    "multiclass": Multiclass(("a", "b", "c")),
    "multilabel": Multilabel(("a", "b")),
    "regression": Regression(50.0, 10.0),
    "time_to_event": TimeToEvent((10.0, 20.0, 40.0), (40.0,)),
}


@pytest.mark.parametrize("kind", HEADS)
def test_every_head_learns_eight_samples_and_ignores_what_is_unknown(kind):
    torch.manual_seed(0)
    answer = ANSWERS_BY_KIND[kind]
    head, aspect = HEADS[kind](8, answer), torch.randn(9, 8)
    draws = torch.arange(9)
    value = {
        "multiclass": (draws % 3).float(),
        "multilabel": torch.stack([draws % 2, draws // 4 % 2], 1).float(),
        "regression": 50 + 10 * torch.linspace(-1, 1, 9),
        "time_to_event": torch.stack([5.0 * draws, draws % 2], 1).float(),
    }.get(kind, (draws % 2).float())
    observed = torch.ones(value.shape, dtype=torch.bool)
    observed[8] = False
    value[8] = math.nan
    truth = Target(value, observed)
    optimizer = torch.optim.Adam(head.parameters(), lr=0.1)
    losses = []
    for _ in range(400):
        loss = head.loss(head(aspect), truth)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert head(aspect).shape == (9, *answer.shape)
    assert losses[-1] < 0.25 * losses[0]
    nobody = Target(value, torch.zeros_like(observed))
    nothing = head.loss(head(aspect), nobody)
    head.zero_grad()
    nothing.backward()
    assert nothing.item() == 0
    assert all(not p.grad.any() for p in head.parameters())
