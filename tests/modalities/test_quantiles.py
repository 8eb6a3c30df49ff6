from clinical.modalities.quantiles import Quantiles

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

FINITE = st.floats(-1e6, 1e6, width=32)
COLUMN = arrays(np.float32, st.integers(1, 300), elements=FINITE)
FEW = arrays(np.float32, st.integers(2, 300), elements=st.sampled_from([0.0, 1.0, 1.5, 7.0]))


def fit_one(values: np.ndarray, knots: int = 32) -> Quantiles:
    return Quantiles.fit(values, np.zeros(len(values), int), 1, knots=knots)


def naive_position(knots: Quantiles, variable: int, value: float) -> float:
    own = slice(knots.offsets[variable], knots.offsets[variable + 1])
    x, y = knots.values[own], knots.positions[own]
    if len(x) == 0:
        return 0.5
    if value <= x[0]:
        return y[0]
    for low, high, at, beyond in zip(x[:-1], x[1:], y[:-1], y[1:], strict=True):
        if value <= high:
            return at + (beyond - at) * (value - low) / (high - low)
    return y[-1]


@given(values=st.one_of(COLUMN, FEW))
def test_a_greater_value_has_no_smaller_position(values: np.ndarray) -> None:
    knots = fit_one(values)
    ascending = np.sort(np.concatenate([values, values * 2, values + 0.5]))
    assert np.all(np.diff(knots.apply(ascending, np.zeros(len(ascending), int))) >= 0)


def test_continuous_train_values_are_uniform_between_the_extreme_quantiles() -> None:
    values = np.random.default_rng(0).lognormal(sigma=1.5, size=20_000)
    position = np.sort(fit_one(values, knots=256).apply(values, np.zeros(20_000, int)))
    at = np.searchsorted(position, np.linspace(0, 1, 21)) / 20_000
    assert np.abs(at - np.linspace(0.005, 0.995, 21)).max() < 0.003


def test_equal_values_share_the_middle_of_their_positions() -> None:
    # Ranks 0..9 of ten values are positions 0, 1/9, ..., 1: three zeros, then seven ones.
    knots = fit_one(np.array([0, 0, 0, 1, 1, 1, 1, 1, 1, 1]))
    assert knots.apply([0, 1], [0, 0]) == pytest.approx([1 / 9, 6 / 9])


def test_a_constant_variable_is_in_the_middle_and_comes_back() -> None:
    knots = fit_one(np.full(5, 3.0))
    assert knots.apply([3.0, 100.0], [0, 0]).tolist() == [0.5, 0.5]
    assert knots.invert([0.5], [0]).tolist() == [3.0]


def test_a_variable_without_train_values_is_in_the_middle_and_has_no_value() -> None:
    knots = Quantiles.fit([1.0, 2.0], [1, 1], 2, knots=32)
    assert knots.apply([7.0], [0]).tolist() == [0.5]
    assert np.isnan(knots.invert([0.5], [0])[0])


def test_tails_rise_by_one_over_the_range_and_stop() -> None:
    knots = fit_one(np.array([10.0, 20.0]))  # positions 0 and 1
    values = [5.0, 10.0, 20.0, 25.0, 1e9, -1e9]
    assert knots.apply(values, [0] * 6).tolist() == [-0.5, 0.0, 1.0, 1.5, 2.0, -1.0]


def test_an_outlier_does_not_squeeze_the_other_values() -> None:
    values = np.random.default_rng(0).normal(size=10_000)
    plain = fit_one(values).apply(values, np.zeros(10_000, int))
    values[0] = 1e12
    spoiled = fit_one(values).apply(values, np.zeros(10_000, int))
    assert np.abs(plain - spoiled)[1:].max() < 0.002


@given(values=st.one_of(COLUMN, FEW), share=st.floats(0, 1))
def test_values_inside_the_range_come_back(values: np.ndarray, share: float) -> None:
    knots = fit_one(values)
    low, high = float(values.min()), float(values.max())
    value = low + share * (high - low)
    back = knots.invert(knots.apply([value], [0]), [0])[0]
    if low == high:
        assert back == low
        return
    # Positions are float32, and the flattest stretch between knots has the greatest error.
    steepest = np.max(np.diff(knots.values) / np.diff(knots.positions))
    clipped = np.clip(value, knots.values[0], knots.values[-1])
    assert back == pytest.approx(clipped, abs=steepest * 3e-7)


@given(
    values=COLUMN,
    variables=arrays(np.int64, 40, elements=st.integers(0, 3)),
    asked=arrays(np.float32, 40, elements=FINITE),
)
def test_vectorised_positions_equal_a_loop(
    values: np.ndarray, variables: np.ndarray, asked: np.ndarray
) -> None:
    of = np.arange(len(values)) % 3  # variable 3 is never seen
    knots = Quantiles.fit(values, of, 4, knots=8)
    naive = [naive_position(knots, v, float(x)) for v, x in zip(variables, asked, strict=True)]
    assert knots.apply(asked, variables) == pytest.approx(naive, abs=1e-6)


def test_knots_survive_json_exactly() -> None:
    values = np.random.default_rng(0).normal(size=300)
    knots = Quantiles.fit(values, np.arange(300) % 3, 5, knots=16)
    back = Quantiles.from_json(json.loads(json.dumps(knots.to_json())))
    assert np.array_equal(back.values, knots.values)
    assert np.array_equal(back.positions, knots.positions)
    assert np.array_equal(back.offsets, knots.offsets)


def test_no_variables_at_all_are_accepted() -> None:
    knots = Quantiles.fit([], [], 0, knots=32)
    assert len(Quantiles.from_json(knots.to_json())) == 0
    assert len(knots.apply([], [])) == 0
