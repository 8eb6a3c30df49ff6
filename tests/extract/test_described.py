"""What codes.parquet says of codes: descriptions and units, as far as they are there."""

import clinical  # noqa: F401
from clinical.extract.described import described
from clinical.extract.schema import Extract

import polars as pl
import pytest


@pytest.fixture
def extract(tmp_path) -> Extract:
    (tmp_path / "data").mkdir()
    (tmp_path / "metadata").mkdir()
    pl.DataFrame({"subject_id": [1], "code": ["HR"]}).write_parquet(tmp_path / "data/0.parquet")
    return Extract.open(tmp_path)


def write(extract: Extract, **columns) -> None:
    table = pl.DataFrame({"code": ["HR", "LAC", "K"], **columns})
    table.write_parquet(extract.path / "metadata" / "codes.parquet")


def test_words_of_the_codes_that_are_wanted(extract):
    write(extract, description=["Heart rate", None, "Potassium"], unit=["1/min", "mmol/L", None])
    assert described(extract, {"HR", "LAC", "X"}) == {
        "HR": {"description": "Heart rate", "unit": "1/min"},
        "LAC": {"unit": "mmol/L"},
    }


def test_a_unit_that_is_no_text_is_none(extract):
    write(extract, description=["Heart rate", "", None], unit=[1, 2, 3])
    assert described(extract, {"HR", "LAC", "K"}) == {"HR": {"description": "Heart rate"}}


def test_without_words_or_a_table_there_are_none(extract):
    assert described(extract, {"HR"}) == {}
    write(extract)
    assert described(extract, {"HR"}) == {}
