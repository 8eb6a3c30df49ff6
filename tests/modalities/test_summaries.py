from clinical.containers import SUMMARY_STATISTICS
from clinical.modalities.summaries import summarise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

EVENT = st.tuples(
    st.integers(0, 3),  # sample
    st.integers(0, 2),  # variable
    st.integers(0, 20).map(lambda hours: hours / 4),
    st.floats(-1000, 1000, width=16),
)


def arrays(events: list[tuple[int, int, float, float]]) -> tuple[np.ndarray, ...]:
    """sample, variable, value, hours, the oldest event of each sample first."""
    ordered = sorted(events, key=lambda event: (event[0], -event[2]))
    sample, variable, hours, value = zip(*ordered, strict=True) if events else ((), (), (), ())
    return (
        np.array(sample, np.int64),
        np.array(variable, np.int32),
        np.array(value, np.float32),
        np.array(hours, np.float64),
    )


def naive(values: np.ndarray, hours: np.ndarray) -> dict[str, float]:
    time = -hours
    several = len(set(hours)) > 1
    return {
        "mean": values.mean(),
        "min": values.min(),
        "max": values.max(),
        "first": values[0],
        "last": values[-1],
        "sd": values.std(),
        "slope": np.polyfit(time - time.mean(), values, 1)[0] if several else 0.0,
        "count": len(values),
        "last_hours": hours.min(),
    }


@given(events=st.lists(EVENT, max_size=40))
def test_statistics_equal_a_naive_loop(events: list[tuple[int, int, float, float]]) -> None:
    sample, variable, value, hours = arrays(events)
    found = summarise(sample, variable, value, hours)
    pairs = sorted(set(zip(sample.tolist(), variable.tolist(), strict=True)))
    assert list(zip(found.sample, found.variable, strict=True)) == pairs
    for row, (s, v) in enumerate(pairs):
        here = (sample == s) & (variable == v)
        expected = naive(value[here].astype(float), hours[here])
        wanted = [expected[name] for name in SUMMARY_STATISTICS]
        slack = 1e-6 * float(np.ptp(value[here])) + 1e-9
        assert found.statistics[row] == pytest.approx(wanted, rel=1e-6, abs=slack)
        assert found.has_slope[row] == (len(set(hours[here])) > 1)


def test_statistics_of_three_values_are_those_worked_out_by_hand() -> None:
    # Values 1, 2, 6 at 4, 2 and 0 hours before: the slope is (6 - 1) / 4 per hour by symmetry.
    found = summarise(
        np.zeros(3, np.int64), np.zeros(3, np.int64), np.array([1.0, 2, 6]), np.array([4.0, 2, 0])
    )
    by_name = dict(zip(SUMMARY_STATISTICS, found.statistics[0], strict=True))
    assert by_name == pytest.approx(
        {
            "mean": 3.0,
            "min": 1.0,
            "max": 6.0,
            "first": 1.0,
            "last": 6.0,
            "sd": (14 / 3) ** 0.5,
            "slope": 1.25,
            "count": 3.0,
            "last_hours": 0.0,
        }
    )


def test_equal_values_have_exactly_no_spread_and_no_slope() -> None:
    value = np.full(7, np.float32(0.1))
    hours = np.array([9.1, 7.3, 5.7, 3.1, 2.2, 1.3, 0.4])
    found = summarise(np.zeros(7, np.int64), np.zeros(7, np.int64), value, hours)
    by_name = dict(zip(SUMMARY_STATISTICS, found.statistics[0], strict=True))
    assert (by_name["sd"], by_name["slope"], by_name["mean"]) == (0, 0, np.float32(0.1))


def test_a_slope_that_is_zero_but_for_rounding_is_zero() -> None:
    # Symmetric in time about its middle: no line rises through it.
    value, hours = np.array([0.1, 0.7, 0.7, 0.1]), np.array([0.9, 0.7, 0.5, 0.3])
    found = summarise(np.zeros(4, np.int64), np.zeros(4, np.int64), value, hours)
    assert found.statistics[0, SUMMARY_STATISTICS.index("slope")] == 0
    assert found.has_slope[0]


def test_inputs_are_not_mutated() -> None:
    inputs = arrays([(0, 1, 2.0, 3.0), (0, 0, 1.0, 4.0), (1, 1, 0.0, 5.0)])
    copies = [array.copy() for array in inputs]
    summarise(*inputs)
    assert all(np.array_equal(a, b) for a, b in zip(inputs, copies, strict=True))
