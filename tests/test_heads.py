"""Heads: losses against values worked out by hand, absent labels, unknown kinds."""

import clinical  # noqa: F401
from clinical.batch import Target
from clinical.config import TaskConfig
from clinical.errors import ConfigError
from clinical.heads import HEADS, BinaryHead, binary_loss, build_head

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
    head = BinaryHead(4)
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


def test_a_binary_head_is_linear_and_its_probability_a_sigmoid():
    torch.manual_seed(0)
    head = BinaryHead(4)
    one, other = torch.randn(2, 3, 4).unbind(0)
    origin = head(torch.zeros(3, 4))
    torch.testing.assert_close(head(one + other) - origin, head(one) + head(other) - 2 * origin)
    assert head(one).shape == (3,)
    chance = head.probability(torch.tensor([0.0, math.log(3), -math.log(3)]))
    assert chance.tolist() == pytest.approx([0.5, 0.75, 0.25])


def test_a_task_gets_the_head_of_its_kind():
    head = build_head(TaskConfig(kind="binary", labels="tasks/death"), 8)
    assert isinstance(head, BinaryHead)
    assert head(torch.zeros(2, 8)).shape == (2,)


def test_a_kind_without_a_head_is_refused_with_those_that_have_one():
    task = TaskConfig(kind="regression", labels="tasks/stay")
    with pytest.raises(ConfigError, match=r"kind regression cannot .*; the kinds are binary"):
        build_head(task, 8)
    assert set(HEADS) == {"binary"}
