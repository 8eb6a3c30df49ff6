"""Scoring tells how much of an extract the model knew, and warns where that is little."""

from clinical.cohort.counts import Recognised
from clinical.errors import ConfigError
from clinical.scoring import Explained, embed_extract, explain_extract, score_extract

from pathlib import Path

import pandas as pd
import polars as pl
import pytest

TIMES = ["subject_id", "prediction_time"]


@pytest.fixture(scope="module")
def foreign(finished, hospital_tools, tmp_path_factory) -> Path:
    """The hospital, with every number but those of the heart rate under a code of its own."""
    own = pl.col("numeric_value").is_not_null() & (pl.col("code") != "HR")
    return hospital_tools.alter(
        finished.extract,
        tmp_path_factory.mktemp("foreign") / "extract",
        lambda frame: frame.with_columns(
            pl.when(own & pl.col("time").is_not_null())
            .then("LOCAL//" + pl.col("code"))
            .otherwise("code")
            .alias("code")
        ),
    )


def visible_numbers(extract: Path, *, hours: int) -> pl.DataFrame:
    """Timed numbers in the window, once for each sample that sees them: a naive join."""
    events = pl.read_parquet(extract / "data" / "**" / "*.parquet")
    joined = events.filter(pl.col("numeric_value").is_not_null()).join(
        pl.read_parquet(extract / "samples.parquet"), on="subject_id"
    )
    ago = pl.col("prediction_time") - pl.col("time")
    return joined.filter(ago.is_between(pl.duration(hours=0), pl.duration(hours=hours)))


def test_the_samples_events_and_unknown_codes_of_a_modality_are_counted(finished, foreign):
    scored = score_extract(finished.bundle, foreign)
    seen = visible_numbers(foreign, hours=48)
    rates = seen.filter(pl.col("code") == "HR")
    (events,) = (one for one in scored.recognised if one.modality == "events")
    assert events == Recognised(
        "events",
        samples=rates.select(TIMES).n_unique(),
        events=seen.height,
        unknown=seen.height - rates.height,
    )
    assert 0 < events.unknown < events.events


def test_an_extract_that_the_model_knows_has_no_unknown_code_and_no_warning(finished, caplog):
    scored = score_extract(finished.bundle, finished.extract)
    present = scored.predictions["modalities"].str.split("+").explode().value_counts()
    assert {one.modality: one.samples for one in scored.recognised} == dict(present)
    assert all(one.events > one.unknown for one in scored.recognised)
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


def test_a_warning_says_where_most_codes_are_unknown(finished, foreign, caplog, hospital_tools):
    score_extract(finished.bundle, foreign)
    (line,) = (record.message for record in caplog.records if record.levelname == "WARNING")
    assert "visible events of events have a code that the model has not learned" in line
    assert str(hospital_tools.FIRST)[:6] not in line


ASKING = [score_extract, embed_extract, explain_extract]


@pytest.mark.parametrize("ask", ASKING)
def test_a_place_that_cannot_hold_what_is_written_is_told_before_anything_is_asked(ask, tmp_path):
    (tmp_path / "file").write_text("mine")
    for out, words in ((tmp_path, "is a folder"), (tmp_path / "file" / "x", "file is a file")):
        with pytest.raises(ConfigError, match=words):
            ask(tmp_path / "no-bundle", tmp_path / "no-extract", out=out)


@pytest.mark.parametrize("ask", ASKING)
def test_what_is_written_is_what_is_given_back_and_nothing_half_written_stays(
    ask, finished, tmp_path
):
    out = tmp_path / "new" / "answer.parquet"
    given = ask(finished.bundle, finished.extract, out=out)
    if not isinstance(given, pd.DataFrame):
        given = given.neighbours if isinstance(given, Explained) else given.predictions
    pd.testing.assert_frame_equal(pd.read_parquet(out), given, check_dtype=False)
    assert [path.name for path in out.parent.iterdir()] == ["answer.parquet"]
