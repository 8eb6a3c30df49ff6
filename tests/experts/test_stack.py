"""The experts' weight: exact where it can be worked out, even where nothing is known."""

from clinical.config import RunConfig
from clinical.experts.stack import EVEN, fit_weight, prior_weight, stacked
from clinical.sections import FinetuneConfig

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st


def signals(n: int, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, a logit that tells them and one that is noise."""
    draws = np.random.default_rng(seed)
    logit = 2 * draws.normal(size=n)
    labels = (draws.random(n) < 1 / (1 + np.exp(-logit))).astype(np.float64)
    return labels, logit, 2 * draws.normal(size=n)


def test_a_stack_is_the_weighted_mean_of_each_kind_s_mean():
    networks, experts = np.array([[1.0, 2.0], [3.0, 6.0]]), np.array([[10.0, -4.0]])
    assert stacked(networks, experts, 0.25).tolist() == [4.0, 2.0]
    assert stacked(networks, experts, 0.0).tolist() == [2.0, 4.0]
    assert stacked(networks, experts, 1.0).tolist() == [10.0, -4.0]


def test_without_experts_a_stack_is_the_mean_of_the_networks():
    alone = np.array([[1.0, -3.5]])
    assert np.array_equal(stacked(alone, np.empty((0, 2)), EVEN), alone[0])


def test_the_one_who_knows_gets_the_weight():
    labels, good, noise = signals(4000)
    assert fit_weight(noise, good, labels) > 0.9
    assert fit_weight(good, noise, labels) < 0.1


def test_two_who_know_as_much_share_it():
    labels, good, _ = signals(2000)
    draws = np.random.default_rng(1)
    first, second = (good + 0.5 * draws.normal(size=2000) for _ in "ab")
    assert abs(fit_weight(first, second, labels) - 0.5) < 0.1


def test_changing_sides_changes_the_weight_to_its_complement():
    labels, good, noise = signals(300)
    assert fit_weight(noise, good, labels) == pytest.approx(1 - fit_weight(good, noise, labels))


def test_logits_that_are_too_steep_don_t_drive_the_weight_to_the_flatter_ones():
    labels, good, noise = signals(4000)
    assert fit_weight(20 * good, noise, labels) < 0.5


@pytest.mark.parametrize("labels", [[], [0.0, 0.0, 0.0], [1.0, 1.0]])
def test_without_both_classes_the_weight_is_a_half(labels):
    logits = np.arange(len(labels), dtype=np.float64)
    assert fit_weight(logits, -logits, np.array(labels)) == EVEN


@pytest.mark.parametrize(
    ("experts", "teachers", "expected"),
    [
        (["lightgbm"], [], 0.5),
        (["lightgbm"], ["additive"], 0.5),
        (["lightgbm"], ["additive", "lightgbm"], 0.125),
        (["additive", "lightgbm"], ["lightgbm"], 0.3125),
    ],
)
def test_experts_that_taught_the_networks_are_expected_to_add_less(experts, teachers, expected):
    finetune = FinetuneConfig(teachers=teachers, teacher_share=0.75)
    config = RunConfig.model_construct(experts=experts, finetune=finetune)
    assert prior_weight(config) == expected
    assert fit_weight(np.zeros(0), np.zeros(0), np.zeros(0), prior=expected) == expected


def test_a_handful_of_events_hardly_moves_the_weight():
    labels = np.array([1.0] * 3 + [0.0] * 30)
    perfect, useless = 4 * labels - 2, np.zeros(33)
    assert 0.5 <= fit_weight(useless, perfect, labels) < 0.8
    assert 0.2 < fit_weight(perfect, useless, labels) <= 0.5


def test_the_order_of_the_samples_does_not_matter():
    labels, good, noise = signals(200)
    order = np.random.default_rng(2).permutation(200)
    assert fit_weight(good, noise, labels) == fit_weight(good[order], noise[order], labels[order])


def test_experts_that_say_the_same_of_everybody_leave_it_at_a_half():
    labels, good, _ = signals(200)
    assert fit_weight(good, np.full(200, -1.3), labels) == pytest.approx(EVEN, abs=0.05)


@settings(max_examples=60)
@given(st.integers(0, 10_000), st.floats(-4, 3), st.floats(-4, 3), st.booleans())
def test_a_weight_is_found_for_logits_of_any_size(seed, first, second, are_apart):
    labels, good, noise = signals(40, seed=seed)
    if are_apart:
        good = good + 1000 * labels
    with np.errstate(all="raise", under="ignore"):
        assert 0 <= fit_weight(10**first * good, 10**second * noise, labels) <= 1
