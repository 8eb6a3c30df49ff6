"""AdamW's groups, and the schedule against values worked out by hand."""

from clinical.training.optim import build_optimizer, warmup_cosine

import pytest
import torch
from torch import nn


def rates(total_steps: int, steps: int, *, peak: float = 1.0) -> list[float]:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=peak)
    schedule = warmup_cosine(optimizer, total_steps=total_steps)
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


def test_the_rate_warms_up_over_a_twentieth_of_the_steps_then_follows_a_cosine():
    found = rates(100, 101)
    assert found[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    # 5 warm-up steps leave 95: steps 5, 5 + 95/5, 100 are 0, 1/5 and all of the way down.
    assert found[5] == pytest.approx(1.0)
    assert found[24] == pytest.approx(0.01 + 0.99 * (1 + 0.80901699) / 2)  # cos 36°
    assert found[100] == pytest.approx(0.01)


def test_the_rate_halfway_down_is_the_mean_of_peak_and_floor():
    assert rates(20, 12, peak=2.0)[-1] == pytest.approx(2 * (0.01 + 0.99 * COS_OF_10_19))
    assert rates(21, 12)[11] == pytest.approx(0.505)  # one warm-up step, then 10 of 20


COS_OF_10_19 = 0.45871033  # (1 + cos(180° · 10 / 19)) / 2


@pytest.mark.parametrize("total", [1, 2, 3])
def test_very_short_trainings_have_a_finite_positive_rate(total):
    assert all(0 < rate <= 1 for rate in rates(total, total + 2))


def test_only_matrices_are_decayed_and_frozen_parameters_left_out():
    net = nn.Sequential(nn.Linear(3, 2), nn.LayerNorm(2))
    frozen = nn.Linear(2, 2)
    frozen.requires_grad_(False)
    optimizer = build_optimizer([[net, frozen]], learning_rate=0.1, weight_decay=0.5)
    decayed, rest = optimizer.param_groups
    assert [tuple(p.shape) for p in decayed["params"]] == [(2, 3)]
    assert [tuple(p.shape) for p in rest["params"]] == [(2,), (2,), (2,)]
    assert (decayed["weight_decay"], rest["weight_decay"]) == (0.5, 0.0)


def test_each_deeper_part_learns_slower_by_the_same_factor():
    parts = [[nn.Linear(3, 2)], [nn.Linear(2, 2), nn.Linear(2, 1)], [nn.Linear(1, 1)]]
    optimizer = build_optimizer(parts, learning_rate=0.9, weight_decay=0.5, falloff=3.0)
    groups = optimizer.param_groups
    assert [group["lr"] for group in groups] == pytest.approx([0.9, 0.9, 0.3, 0.3, 0.1, 0.1])
    assert [len(group["params"]) for group in groups] == [1, 1, 2, 2, 1, 1]
    assert [group["weight_decay"] for group in groups] == [0.5, 0.0] * 3
    schedule = warmup_cosine(optimizer, total_steps=40)  # the second of two steps of warm-up
    optimizer.step()
    schedule.step()
    assert [group["lr"] for group in groups] == pytest.approx([0.9, 0.9, 0.3, 0.3, 0.1, 0.1])
