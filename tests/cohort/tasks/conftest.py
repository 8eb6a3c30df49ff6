from datetime import datetime, timedelta

import polars as pl
import pytest

BASE = datetime(2150, 1, 1)


def events_of(*rows, subject=1):
    """Events of one subject, each (hours since BASE or None, code) or (hours, code, number)."""
    return pl.DataFrame(
        [
            (
                subject,
                None if hour is None else BASE + timedelta(hours=hour),
                code,
                *(more or (None,)),
            )
            for hour, code, *more in rows
        ],
        schema={
            "subject_id": pl.Int64,
            "time": pl.Datetime("us"),
            "code": pl.String,
            "numeric_value": pl.Float64,
        },
        orient="row",
    )


@pytest.fixture(scope="session")
def events():
    return events_of


@pytest.fixture(scope="session")
def base():
    return BASE
