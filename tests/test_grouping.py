import clinical
from clinical.errors import ConfigError, SchemaError
from clinical.extract.write import write_extract

from datetime import datetime, timedelta

import pandas as pd
import polars as pl
import pytest

BIRTH = datetime(2000, 1, 1)
AT = datetime(2040, 6, 1)
HOUR = timedelta(hours=1)


def written(root, rows, *, subjects=(1, 2), samples=True):
    """An extract of (subject_id, time, code) rows, everybody asked about at AT."""
    root.mkdir()
    schema = {"subject_id": pl.Int64, "time": pl.Datetime("us"), "code": pl.String}
    events = pl.DataFrame(rows, schema=schema, orient="row").with_columns(
        numeric_value=pl.lit(None, pl.Float32), text_value=pl.lit(None, pl.String)
    )
    codes = pl.DataFrame({"code": events["code"].unique()}).with_columns(
        description=pl.lit(""), parent_codes=pl.lit(None, pl.List(pl.String))
    )
    asked = pl.DataFrame({"subject_id": list(subjects), "prediction_time": AT}).cast(
        {"prediction_time": pl.Datetime("us")}
    )
    write_extract(
        root, shards=[events], codes=codes, dataset={}, samples=asked if samples else None
    )
    return root


def test_groups_are_facts_the_newest_unit_and_the_age(tmp_path):
    rows = [
        (1, None, "GENDER//F"),
        (1, BIRTH, "MEDS_BIRTH"),
        (1, AT - 5 * HOUR, "UNIT//MICU"),
        (1, AT, "UNIT//SICU//7"),
        (1, AT + HOUR, "UNIT//CCU"),
        (2, None, "GENDER//M"),
        (2, datetime(1950, 1, 1), "MEDS_BIRTH"),
    ]
    found = clinical.groups(written(tmp_path / "e", rows))
    assert list(found) == ["subject_id", "prediction_time", "gender", "unit", "age"]
    assert list(found["gender"]) == ["F", "M"]
    assert list(found["unit"].fillna("")) == ["SICU//7", ""]
    assert list(found["age"]) == ["40 to under 65", "80 and over"]


def test_nothing_after_the_prediction_time_groups(tmp_path):
    rows = [(1, None, "GENDER//F"), (2, None, "GENDER//M"), (1, AT + HOUR / 3600, "UNIT//CCU")]
    assert "unit" not in clinical.groups(written(tmp_path / "e", rows))


def test_several_facts_of_one_kind_are_a_group_of_their_own(tmp_path):
    rows = [(1, None, "RACE//A"), (1, None, "RACE//B"), (2, None, "RACE//B"), (2, None, "RACE//B")]
    assert list(clinical.groups(written(tmp_path / "e", rows))["race"]) == ["several", "B"]


def test_a_fact_with_many_values_is_no_group(tmp_path):
    rows = [(n, None, f"ZIP//{n}") for n in range(31)] + [(n, None, "SEX//F") for n in range(31)]
    found = clinical.groups(written(tmp_path / "e", rows, subjects=range(31)))
    assert list(found) == ["subject_id", "prediction_time", "sex"]


def test_ages_and_codes_may_be_chosen(tmp_path):
    rows = [(1, BIRTH, "MEDS_BIRTH"), (1, AT, "WARD//7"), (2, AT - timedelta(days=9), "WARD//8")]
    extract = written(tmp_path / "e", rows)
    found = clinical.groups(extract, age_years=[40.5], latest={"ward": "WARD//.*"})
    assert list(found["ward"]) == ["7", "8"]
    assert found["age"].iloc[0] == "under 40.5"
    with pytest.raises(ConfigError, match="give rising ages"):
        clinical.groups(extract, age_years=[65, 18])


def test_samples_may_be_predictions_with_many_rows_each(tmp_path):
    rows = [(1, None, "GENDER//F"), (2, None, "GENDER//M")]
    extract = written(tmp_path / "e", rows, samples=False)
    with pytest.raises(SchemaError, match="give samples"):
        clinical.groups(extract)
    predictions = pd.DataFrame(
        {
            "subject_id": [2, 2],
            "prediction_time": pd.Timestamp(AT),
            "task": "x",
            "class": ["a", "b"],
        }
    )
    found = clinical.groups(extract, predictions)
    assert list(found["gender"]) == ["M"]
    assert "modalities" not in found
    found = clinical.groups(extract, predictions.assign(modalities="events+notes"))
    assert list(found["modalities"]) == ["events+notes"]


def test_an_extract_without_groups_is_refused(tmp_path):
    extract = written(tmp_path / "e", [(1, AT, "HR"), (2, AT, "HR")])
    with pytest.raises(SchemaError, match="nothing of the extract groups its samples"):
        clinical.groups(extract)


def test_an_evaluation_is_grouped_by_an_extract(tmp_path):
    n = 60
    rows = [(k, None, "GENDER//F" if k % 2 else "GENDER//M") for k in range(n)]
    extract = written(tmp_path / "e", rows, subjects=range(n))
    predictions = pd.DataFrame(
        {
            "subject_id": range(n),
            "prediction_time": pd.Timestamp(AT),
            "task": "death",
            "score": [k % 7 / 7 for k in range(n)],
            "label": [float(k % 3 == 0) for k in range(n)],
        }
    )
    found = clinical.evaluate(predictions, resamples=5).by(clinical.groups(extract, predictions))
    assert set(found.table["group"]) == {"all", "F", "M"}
