"""Samples of a run held against the record beside splits by time."""

from clinical.cohort.boundaries import check_as_recorded
from clinical.cohort.samples import training_cohort
from clinical.cohort.splits import make_splits
from clinical.config import RunConfig
from clinical.errors import LeakageError, SchemaError
from clinical.extract.schema import Extract
from clinical.extract.write import write_extract

import json
from datetime import datetime, timedelta

import polars as pl
import pytest

DAY = datetime(2020, 1, 1)
N = 40
US = pl.Datetime("us")


def write(root, *, later_stays):
    """Forty subjects who come a day after each other and, if so wanted, all again 300 days on."""
    rows = []
    for n in range(N):
        comes = DAY + timedelta(days=n)
        rows.append((n, comes, "ICU_ADMISSION"))
        rows.append((n, comes + timedelta(hours=90), "HOSPITAL_DISCHARGE"))
        if later_stays:
            rows.append((n, comes + timedelta(days=300), "ICU_ADMISSION"))
            rows.append((n, comes + timedelta(days=304), "HOSPITAL_DISCHARGE"))
    schema = {"subject_id": pl.Int64, "time": US, "code": pl.String}
    samples = pl.DataFrame(
        {"subject_id": range(N), "prediction_time": [DAY + timedelta(days=n) for n in range(N)]},
        schema={"subject_id": pl.Int64, "prediction_time": US},
    )
    root.mkdir()
    write_extract(
        root,
        shards=[pl.DataFrame(rows, schema=schema, orient="row")],
        codes=pl.DataFrame({"code": ["ICU_ADMISSION", "HOSPITAL_DISCHARGE"]}),
        dataset={"consistent_calendar": True},
        samples=samples,
    )
    return Extract.open(root)


def config_of(extract, **keys):
    task = {"kind": "binary", "builder": "mortality", "after_hours": 1}
    return RunConfig.model_validate(
        {
            "extract": str(extract.path),
            "out": "o",
            "tasks": {"mortality": task},
            "modalities": {"codes": {"encoder": "bag"}},
            **keys,
        }
    )


def test_samples_that_a_task_of_the_run_makes_later_are_refused(tmp_path):
    extract = write(tmp_path / "e", later_stays=True)
    own = extract.path / "metadata" / "subject_splits.parquet"
    made = make_splits(extract.path, "time", out=own)
    assert made.record["subjects"]["train"] == 28
    # Each of the 28 comes again in the time of the others; of 6 in tuning as well.
    with pytest.raises(LeakageError, match=r"28 samples of train .* 6 of tuning .*clinical cohort"):
        training_cohort(extract, config_of(extract))


def test_splits_that_the_configuration_names_are_checked_by_their_own_record(tmp_path):
    extract = write(tmp_path / "e", later_stays=True)
    make_splits(extract.path, out=extract.path / "metadata" / "subject_splits.parquet")
    assert training_cohort(extract, config_of(extract)).height == 3 * N
    make_splits(extract.path, "time", out=tmp_path / "mine.parquet")
    with pytest.raises(LeakageError, match=r"or remove mine\.json"):
        training_cohort(extract, config_of(extract, splits=tmp_path / "mine.parquet"))


def test_samples_that_stay_before_the_dates_are_taken(tmp_path):
    extract = write(tmp_path / "e", later_stays=False)
    at = {
        "tuning_from": DAY + timedelta(days=20, hours=2),
        "held_out_from": DAY + timedelta(days=35, hours=2),
    }
    own = extract.path / "metadata" / "subject_splits.parquet"
    make_splits(extract.path, "time", out=own, **at)
    cohort = training_cohort(extract, config_of(extract))
    assert cohort.filter(pl.col("split") == "train")["prediction_time"].max() < at["tuning_from"]


COHORT = pl.DataFrame({"split": ["train", None], "prediction_time": [DAY, DAY]})
DATES = {"tuning_from": "2020-01-01T00:00:01", "held_out_from": "2020-01-01T00:00:01"}


def test_a_date_is_inclusive_and_samples_in_no_split_are_passed_over(tmp_path):
    record = tmp_path / "splits.json"
    record.write_text(json.dumps({"by": "time", **DATES}))
    check_as_recorded(tmp_path / "splits.parquet", COHORT)
    record.write_text(json.dumps({"by": "time", **DATES, "tuning_from": DAY.isoformat()}))
    with pytest.raises(LeakageError, match="1 samples of train"):
        check_as_recorded(tmp_path / "splits.parquet", COHORT)


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "{}",
        json.dumps({"by": "time", "tuning_from": "2020-01-01"}),
        json.dumps({"by": "time", **DATES, "tuning_from": "May"}),
        json.dumps({"by": "time", **DATES, "tuning_from": 2020}),
        json.dumps({"by": "time", **DATES, "tuning_from": "2020-01-01T00:00:00+01:00"}),
    ],
)
def test_a_record_that_says_no_dates_is_told(tmp_path, text):
    (tmp_path / "splits.json").write_text(text)
    with pytest.raises(SchemaError, match=r"splits\.json: does not say by what rule"):
        check_as_recorded(tmp_path / "splits.parquet", COHORT)
