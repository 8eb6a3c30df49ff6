"""Cells as text, numbers and subjects."""

from clinical.extract.importers.flat.cells import (
    as_integer,
    as_number,
    as_text,
    buckets,
    hash_ids,
)

from datetime import date

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        ([" a ", "", "  ", None, "b"], ["a", None, None, None, "b"]),
        ([1.0, 2.5, None, float("nan"), -3.0], ["1", "2.5", None, None, "-3"]),
        ([1, None], ["1", None]),
        ([True, None], ["true", None]),
        ([date(2020, 1, 2)], ["2020-01-02"]),
    ],
)
def test_cells_are_text_without_the_spaces_around_it(cells, expected):
    assert as_text(pl.Series(cells)).to_list() == expected


def test_text_that_is_no_number_is_told_and_nan_is_an_empty_cell():
    cells = ["1", " 2.5 ", "1e3", "x", "NaN", "nan", "inf", "", None, "1 2", "-.5"]
    number, is_wrong = as_number(pl.Series(cells))
    assert number.to_list() == [1.0, 2.5, 1000.0, *[None] * 7, -0.5]
    assert is_wrong.to_list() == [False] * 3 + [True, False, False, True, False, False, True, False]


def test_a_decimal_comma_is_read_where_asked_for_and_never_guessed():
    cells = pl.Series(["1,5", "1.5", "1.000,5", "2", "1,2,3", None])
    number, is_wrong = as_number(cells, decimal=",")
    assert number.to_list() == [1.5, None, None, 2.0, None, None]
    assert is_wrong.to_list() == [False, True, True, False, True, False]
    number, is_wrong = as_number(cells)
    assert number.to_list() == [None, 1.5, None, 2.0, None, None]


@given(st.lists(st.one_of(st.none(), st.floats(allow_infinity=False)), min_size=1))
def test_numbers_are_the_same_as_text_and_as_themselves(values):
    typed, wrong = as_number(pl.Series(values, dtype=pl.Float64))
    text = pl.Series([None if v is None else repr(v) for v in values], dtype=pl.String)
    read, also_wrong = as_number(text)
    assert typed.to_list() == read.to_list()
    assert not wrong.any()
    assert not also_wrong.any()


def test_whole_numbers_may_be_written_with_a_fraction_of_zero():
    cells = pl.Series(["12", "12.0", "007", " 5 ", "1.5", "x", "", "9" * 20])
    whole, is_wrong = as_integer(cells)
    assert whole.to_list() == [12, 12, 7, 5, None, None, None, None]
    assert is_wrong.to_list() == [False] * 4 + [True, True, False, True]


def test_an_id_has_one_hash_in_one_extract_and_another_in_others():
    ids = pl.Series(["a", " a", "b", None])
    first, again, other, none = hash_ids(ids, "mine")
    assert first == again != other
    assert none is None
    assert hash_ids(ids, "yours")[0] != first
    assert 0 <= first < 2**52


def test_buckets_are_evenly_filled_even_of_ids_with_a_common_factor():
    counts = np.bincount(buckets(pl.Series(np.arange(0, 80_000, 8)), 8), minlength=8)
    assert counts.min() > 1000
    assert buckets(pl.Series([-5]), 8)[0] == buckets(pl.Series([1, -5]), 8)[1]
