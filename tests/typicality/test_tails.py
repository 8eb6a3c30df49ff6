"""Surprise is what ranks among people say, made continuous, and keeps no number of anybody."""

from clinical.typicality.tails import KNOTS, Tails

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

LEVELS = np.array([0.02, 0.05, 0.1, 0.2, 0.5])


def surprise(
    known: Sequence[float],
    values: Sequence[float],
    subjects: Sequence[int] | None = None,
    *,
    beyond: bool = False,
) -> np.ndarray:
    whose = None if subjects is None else np.array(subjects)
    tails = Tails.fit([np.array(known, dtype=float)], whose, beyond=beyond)
    return tails(torch.tensor(values, dtype=torch.float64)[:, None])[:, 0].numpy()


def naive(known: Sequence[float], subjects: Sequence[int], value: float) -> float:
    """By the rank among people, each of whom is the share of their rows."""
    rows = list(zip(known, subjects, strict=True))
    mine = {whose: [each for each, other in rows if other == whose] for whose in set(subjects)}
    reached = sum(sum(each >= value for each in own) / len(own) for own in mine.values())
    return -np.log((1 + reached) / (len(mine) + 1))


def rates(draw, fit, n_times: int = 200) -> np.ndarray:
    """How often a p-value of somebody new is no more than each of `LEVELS`."""
    found = []
    for _ in range(n_times):
        known, subjects = fit()
        p_values = np.exp(-surprise(known, draw(500), subjects))
        found.append([(p_values <= level + 1e-9).mean() for level in LEVELS])
    return np.mean(found, axis=0)


def test_a_surprise_is_the_log_of_the_rank_at_every_tenth_of_equal_steps_by_hand():
    # Of 1 to 99: nothing up to 20, which 80 reach; then 30, 40, ... and 90, which 10 reach.
    tails = Tails.fit([np.arange(1.0, 100.0)], beyond=False)
    said = -np.log(np.array([100, 71, 61, 51, 41, 31, 21, 11]) / 100)
    np.testing.assert_allclose(tails.surprise[0, :-1], said)
    # The grid has steps of 50 / 24 between quartiles 25 and 75, rounded to 2; a third beside it.
    x = tails.x[0, :-1].numpy()
    np.testing.assert_allclose((x / 2) % 1, 1 / 3)
    np.testing.assert_allclose(x[0], 20 + 2 / 3)
    assert surprise(np.arange(1.0, 100.0), [0.0, 20.0, 1e6]).tolist() == [0, 0, np.log(100)]


people = st.lists(st.integers(0, 24), min_size=1, max_size=150)


@given(people, st.integers(0, 2**32 - 1), st.integers(-7, 7), st.sampled_from([1.0, 0.37, 1e6]))
def test_it_is_never_more_than_the_rank_of_people_says_so_that_its_p_value_holds(
    subjects, seed, value, unit
):
    known = np.random.default_rng(seed).integers(-5, 6, len(subjects)) * unit
    (found,) = surprise(known, [value * unit], subjects)
    assert found <= naive(known, subjects, value * unit) + 1e-7


def test_numbers_that_crowd_before_a_knot_are_not_called_rarer_than_they_are():
    # Twenty reach 1 and ten 10, but nineteen 9.9: a line from 1 to 10 would call it ten or eleven.
    known = [0.0] * 20 + [1.0] + [9.9] * 9 + [10.0] * 10
    (found,) = surprise(known, [9.9])
    assert 0 < found <= -np.log(20 / 41) + 1e-9


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=60), st.booleans())
def test_it_never_falls(known, beyond):
    found = surprise(known, np.linspace(-6, 6, 101).tolist(), beyond=beyond)
    assert (np.diff(found) >= -1e-9).all()
    assert found[0] == 0


@pytest.mark.parametrize("n", [40, 200, 1000])
def test_with_a_row_each_p_values_are_as_rare_as_they_say_and_hardly_rarer(n):
    draws = np.random.default_rng(n)
    found = rates(
        lambda size: draws.exponential(size=size), lambda: (draws.exponential(size=n), None)
    )
    assert (found <= LEVELS + 0.003).all()
    # What ten people decide together cannot be told exactly.
    assert (found >= LEVELS - 10 / n).all()
    if n == 1000:
        np.testing.assert_allclose(found, LEVELS, atol=0.01)


def test_a_few_long_quiet_stays_call_nobody_else_atypical():
    draws = np.random.default_rng(0)
    subjects = np.concatenate([np.repeat(np.arange(10), 200), np.arange(10, 200)])

    def fit():
        quiet = 0.3 * draws.exponential(size=(10, 1)) + 0.05 * draws.random((10, 200))
        return np.append(quiet, draws.exponential(size=190)), subjects

    found = rates(lambda size: draws.exponential(size=size), fit, n_times=60)
    assert found[1] == pytest.approx(0.04, abs=0.015)
    assert (found <= LEVELS + 0.01).all()


def test_rows_of_somebody_who_has_more_of_the_same_change_nothing():
    draws = np.random.default_rng(0)
    known = draws.exponential(size=60)
    more = draws.integers(1, 5, 60)
    values = np.linspace(0, 9, 50)
    often = surprise(np.repeat(known, more), values, np.repeat(np.arange(60), more))
    np.testing.assert_allclose(often, surprise(known, values), atol=1e-9)


@pytest.mark.parametrize("beyond", [True, False])
@pytest.mark.parametrize("n", [10, 17, 60, 400])
def test_what_is_kept_is_nobodys_number_and_of_ten_people_at_least(n, beyond):
    known = np.random.default_rng(n).exponential(size=n)
    tails = Tails.fit([known], beyond=beyond)
    kept = tails.x[tails.x.isfinite()].numpy()
    assert 1 <= len(kept) <= n / 10
    assert np.abs(kept[:, None] - known).min() > 1e-6
    # The largest number by itself moves no knot, wherever it is.
    known[known.argmax()] *= 1000
    other = Tails.fit([known], beyond=beyond)
    if n > 10:
        assert torch.equal(other.x, tails.x)
    assert torch.equal(other.surprise, tails.surprise)


def test_the_slope_beyond_tells_of_a_largest_number_no_more_than_its_size():
    known = np.random.default_rng(0).exponential(size=60)
    largest = known.argmax()
    for beyond in (True, False):
        slopes = set()
        for by in np.linspace(20, 40, 100):
            known[largest] = by
            slopes.add(Tails.fit([known], beyond=beyond).slope.item())
        assert len(slopes) <= 5


def test_nothing_is_surprising_where_fewer_than_ten_people_are_known():
    rows, whose = np.random.default_rng(0).normal(size=900), np.arange(900) % 9
    for beyond in (True, False):
        tails = Tails.fit([rows], whose, beyond=beyond)
        assert not tails.x.isfinite().any()
        assert tails(torch.tensor([[99.0]])).item() == 0


def test_close_numbers_do_not_make_it_steep():
    known = [0.0] * 20 + [1.0 + 1e-9 * each for each in range(20)] + [2.0] * 20
    below, above = surprise(known, [1.0 - 1e-6, 1.0 + 1e-6])
    assert above - below < 1e-4
    assert above <= naive(known, range(60), 1.0 + 1e-6)


def test_an_exponential_tail_goes_on_as_it_was():
    known = np.random.default_rng(0).exponential(size=20_000)
    found = surprise(known, [2.0, 8.0, 15.0], beyond=True)
    np.testing.assert_allclose(found, [2.0, 8.0, 15.0], rtol=0.15)


def test_many_numbers_are_kept_by_few_knots():
    known = np.random.default_rng(0).normal(size=50_000)
    tails = Tails.fit([known], beyond=False)
    assert tails.x.shape[1] <= KNOTS + 1
    (found,) = surprise(known, [2.5])
    exact = -np.log((1 + (known >= 2.5).sum()) / 50_001)
    assert found == pytest.approx(exact, abs=0.07)


def test_each_column_has_its_own_tail_and_what_is_unknown_stays_so():
    columns = [np.arange(40.0), np.full(40, np.nan), np.append(np.full(20, np.nan), np.ones(20))]
    tails = Tails.fit(columns, beyond=False)
    found = tails(torch.tensor([[0.0, 2.0, torch.nan], [99.0, 9.0, 9.0]])).numpy()
    np.testing.assert_allclose(found, [[0, 0, np.nan], [np.log(41), 0, np.log(21)]])


def test_tails_survive_a_file_and_others_are_refused():
    tails = Tails.fit([np.arange(50.0), np.arange(30.0)], beyond=True)
    tensors = tails.to_tensors()
    again = Tails.from_tensors(tensors)
    values = torch.tensor([[35.0, 90.0]])
    assert torch.equal(again(values), tails(values))
    with pytest.raises(ValueError, match="slope should be float64 of shape"):
        Tails.from_tensors({**tensors, "slope": tensors["slope"][:1]})
