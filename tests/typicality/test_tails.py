"""Surprise is what ranks among known numbers say, made continuous."""

from clinical.typicality.tails import KNOTS, Tails

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st


def surprise(known: list[float], values: list[float], *, beyond: bool = False) -> np.ndarray:
    tails = Tails.fit([np.array(known, dtype=float)], beyond=beyond)
    return tails(torch.tensor(values, dtype=torch.float64)[:, None])[:, 0].numpy()


def naive(known: list[float], value: float) -> float:
    return -np.log((1 + sum(each >= value for each in known)) / (len(known) + 1))


def test_a_surprise_is_the_log_of_the_rank_at_known_numbers_by_hand():
    found = surprise([1.0, 2.0, 2.0, 5.0], [0.0, 1.0, 2.0, 5.0])
    np.testing.assert_allclose(found, -np.log([1, 5 / 5, 4 / 5, 2 / 5]))


def test_between_known_numbers_it_is_linear_and_beyond_all_of_them_it_ends():
    found = surprise([0.0, 1.0, 2.0], [1.5, 100.0])
    between = -(np.log(3 / 4) + np.log(2 / 4)) / 2
    np.testing.assert_allclose(found, [between, np.log(4)])


@given(
    st.lists(st.integers(-5, 5), min_size=1, max_size=30),
    st.floats(-7, 7, allow_nan=False),
)
def test_it_is_never_more_than_the_rank_says_so_that_its_p_value_holds(known, value):
    (found,) = surprise([float(each) for each in known], [value])
    assert found <= naive(known, value) + 1e-9


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=20), st.booleans())
def test_it_never_falls(known, beyond):
    found = surprise(known, np.linspace(-6, 6, 101).tolist(), beyond=beyond)
    assert (np.diff(found) >= -1e-9).all()
    assert found[0] == 0


def test_close_numbers_do_not_make_it_steep():
    known = [0.0, 1.0, 1.0 + 1e-9, 1.0 + 2e-9, 2.0]
    below, above = surprise(known, [1.0 - 1e-6, 1.0 + 1e-6])
    assert above - below < 1e-4
    assert above <= naive(known, 1.0 + 1e-6)


def test_an_exponential_tail_goes_on_as_it_was():
    known = np.random.default_rng(0).exponential(size=20_000)
    found = surprise(known.tolist(), [2.0, 8.0, 15.0], beyond=True)
    np.testing.assert_allclose(found, [2.0, 8.0, 15.0], rtol=0.1)


def test_many_numbers_are_kept_by_few_knots():
    known = np.random.default_rng(0).normal(size=50_000)
    tails = Tails.fit([known], beyond=False)
    assert tails.x.shape[1] <= KNOTS + 1
    (found,) = surprise(known.tolist(), [3.0])
    assert found == pytest.approx(naive(known.tolist(), 3.0), abs=0.05)


def test_each_column_has_its_own_tail_and_what_is_unknown_stays_so():
    tails = Tails.fit([np.array([1.0, 2.0]), np.array([]), np.array([np.nan, 7.0])], beyond=False)
    found = tails(torch.tensor([[2.0, 2.0, torch.nan], [9.0, 9.0, 9.0]])).numpy()
    expected = [[-np.log(2 / 3), 0, np.nan], [np.log(3), 0, np.log(2)]]
    np.testing.assert_allclose(found, expected)


def test_tails_survive_a_file_and_others_are_refused():
    tails = Tails.fit([np.arange(5.0), np.arange(3.0)], beyond=True)
    tensors = tails.to_tensors()
    again = Tails.from_tensors(tensors)
    values = torch.tensor([[3.5, 9.0]])
    assert torch.equal(again(values), tails(values))
    with pytest.raises(ValueError, match="slope should be float64 of shape"):
        Tails.from_tensors({**tensors, "slope": tensors["slope"][:1]})
