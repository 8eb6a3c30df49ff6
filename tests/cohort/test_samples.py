import clinical  # noqa: F401
from clinical.cohort.samples import half, scoring_cohort, training_cohort
from clinical.config import RunConfig
from clinical.errors import ConfigError, SchemaError
from clinical.extract.schema import Extract
from clinical.extract.write import write_extract

import logging
from datetime import datetime, timedelta

import polars as pl
import pytest

DAY = datetime(2150, 1, 1)
SUBJECTS = list(range(1, 13))
TRAIN, TUNING, HELD_OUT = SUBJECTS[:6], SUBJECTS[6:10], SUBJECTS[10:]


def _samples(subjects):
    times = pl.Series([DAY] * len(subjects), dtype=pl.Datetime("us"))
    ids = pl.Series(list(subjects), dtype=pl.Int64)
    return pl.DataFrame({"subject_id": ids, "prediction_time": times})


def _labels(truth):
    values = pl.Series(list(truth.values()), dtype=pl.Boolean)
    return _samples(truth).with_columns(values.alias("boolean_value"))


@pytest.fixture
def make(tmp_path):
    """Write an extract of twelve subjects in two shards; None leaves a part out."""

    def write(*, samples=(), labels=None, splits=True, tuning=TUNING):
        root = tmp_path / "extract"
        root.mkdir()
        rows = {"subject_id": SUBJECTS, "time": [DAY] * 12, "code": ["X"] * 12}
        events = pl.DataFrame(rows, schema_overrides={"time": pl.Datetime("us")})
        split = ["train"] * 6 + ["tuning"] * 4 + ["held_out"] * 2
        frame = pl.DataFrame({"subject_id": SUBJECTS, "split": split})
        moved = pl.col("subject_id").is_in(tuning) | (pl.col("split") != "tuning")
        write_extract(
            root,
            shards=[events[6:], events[:6]],
            codes=pl.DataFrame({"code": ["X"]}),
            dataset={"dataset_name": "twelve"},
            splits=frame.filter(moved) if splits else None,
            samples=None if samples is None else _samples(samples),
            labels={name: _labels(truth) for name, truth in (labels or {}).items()},
        )
        return Extract.open(root)

    return write


@pytest.fixture
def config(tmp_path):
    tasks = {name: {"kind": "binary", "labels": f"tasks/{name}"} for name in ("a", "b")}
    return RunConfig.model_validate(
        {"extract": "e", "out": "o", "tasks": tasks, "modalities": {"static": {"encoder": "mlp"}}}
    )


BOTH = {"a": {s: s % 2 == 0 for s in SUBJECTS}, "b": {s: s < 3 for s in SUBJECTS[:8]}}


def test_the_cohort_is_the_samples_and_those_of_every_label(make, config):
    labels = {"a": {1: True, 2: False, 9: True}, "b": {1: True, 3: False}}
    cohort = training_cohort(make(samples=[2, 7, 8, 9, 10], labels=labels), config)
    assert sorted(cohort["subject_id"]) == [1, 2, 3, 7, 8, 9, 10]
    by_subject = {row["subject_id"]: row for row in cohort.to_dicts()}
    assert (by_subject[1]["label.a"], by_subject[1]["label.b"]) == (1.0, 1.0)
    assert (by_subject[3]["label.a"], by_subject[3]["label.b"]) == (None, 0.0)
    assert by_subject[7]["label.a"] is None


def test_samples_are_in_the_order_of_shard_subject_and_time(make, config):
    cohort = training_cohort(make(samples=SUBJECTS[::-1], labels=BOTH), config)
    assert cohort.height == len(SUBJECTS)
    assert cohort["shard"].to_list() == [0] * 6 + [1] * 6
    assert cohort["subject_id"].to_list() == [*SUBJECTS[6:], *SUBJECTS[:6]]


def test_splits_are_by_subject_and_tuning_is_halved_by_its_hash(make, config):
    cohort = training_cohort(make(samples=SUBJECTS, labels=BOTH), config)
    split = dict(cohort.select("subject_id", "split").iter_rows())
    assert {split[s] for s in TRAIN} == {"train"}
    assert {split[s] for s in HELD_OUT} == {"held_out"}
    assert {s: split[s] for s in TUNING} == {s: half(s) for s in TUNING}


def test_the_halves_are_even_and_fixed_forever():
    halves = [half(subject) for subject in range(10_000)]
    assert 4800 < halves.count("select") < 5200
    # Golden: a change would silently move subjects between choosing and calibrating.
    assert [half(s) for s in (7, 8, 9, 10)] == ["select", "select", "calibrate", "calibrate"]


def test_no_held_out_subject_is_needed(make, config):
    cohort = training_cohort(make(samples=SUBJECTS[:10], labels=BOTH), config)
    assert set(cohort["split"]) >= {"train"}


def test_an_empty_cohort_is_an_error(make, config):
    with pytest.raises(SchemaError, match="cohort is empty"):
        scoring_cohort(make(samples=[]), config)


def test_scoring_without_samples_and_labels_says_what_to_write(make, config):
    with pytest.raises(SchemaError, match=r"samples\.parquet: there is none.*write one"):
        scoring_cohort(make(samples=None), config)


def test_scoring_needs_neither_splits_nor_all_labels(make, config):
    extract = make(samples=[1, 2], labels={"b": {3: True}}, splits=False)
    cohort = scoring_cohort(extract, config)
    assert cohort["subject_id"].to_list() == [1, 2, 3]
    assert cohort["label.a"].null_count() == 3
    assert cohort["label.b"].to_list() == [None, None, 1.0]
    assert cohort["split"].null_count() == 3


def test_given_samples_replace_those_of_the_extract_and_count_once(make, config):
    given = _samples([5, 5, 6]).with_columns(pl.col("prediction_time").dt.cast_time_unit("ns"))
    cohort = scoring_cohort(make(samples=[1], labels={"a": {6: True}}), config, samples=given)
    assert cohort["subject_id"].to_list() == [5, 6]
    assert cohort["label.a"].to_list() == [None, 1.0]
    assert cohort["prediction_time"].dtype == pl.Datetime("us")


def test_a_sample_of_a_subject_without_events_is_kept(make, config):
    cohort = scoring_cohort(make(samples=[1, 99]), config)
    assert sorted(cohort["subject_id"]) == [1, 99]


def test_labels_of_unknown_subjects_are_counted(make, config):
    labels = {**BOTH, "a": {**BOTH["a"], 98: True, 99: False}}
    with pytest.raises(SchemaError, match="tasks/a: 2 labels are of 2 subjects"):
        training_cohort(make(labels=labels), config)


def test_training_needs_splits(make, config):
    with pytest.raises(SchemaError, match=r"subject_splits.*name a file"):
        training_cohort(make(labels=BOTH, splits=False), config)


def test_training_needs_tuning_subjects_in_both_halves(make, config):
    with pytest.raises(ConfigError, match="no sample is in tuning"):
        training_cohort(make(labels=BOTH, tuning=[]), config)


def test_one_half_of_tuning_is_not_enough(make, config):
    alone = [s for s in TUNING if half(s) == half(TUNING[0])]
    with pytest.raises(ConfigError, match=r"none on (select|calibrate); give more"):
        training_cohort(make(labels=BOTH, tuning=alone), config)


def test_a_missing_label_folder_is_an_error_in_training(make, config):
    with pytest.raises(ConfigError, match="tasks/b"):
        training_cohort(make(labels={"a": BOTH["a"]}), config)


def test_a_task_may_be_built_from_events(make, config):
    task = {"kind": "binary", "builder": "mortality", "anchor": "X", "after_hours": 24}
    built = RunConfig.model_validate({**config.model_dump(), "tasks": {"died": task}})
    cohort = scoring_cohort(make(samples=None), built)
    assert cohort.height == 12
    assert set(cohort["prediction_time"]) == {DAY + timedelta(hours=24)}
    assert cohort["label.died"].null_count() == 12  # nothing says how a stay ended


def test_no_message_names_a_subject(make, config):
    labels = {**BOTH, "a": {**BOTH["a"], 987654: True}}
    with pytest.raises(SchemaError) as error:
        training_cohort(make(labels=labels), config)
    assert "987654" not in str(error.value)


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        (SUBJECTS[:8], "samples: 8 from samples.parquet, 4 more from labels alone"),
        (SUBJECTS, "samples: 12 from samples.parquet, 0 more from labels alone"),
        (None, "samples: 12, all from labels: no samples.parquet"),
    ],
)
def test_it_is_told_how_many_samples_only_the_labels_have(make, config, caplog, samples, expected):
    truth = {subject: bool(subject % 2) for subject in SUBJECTS}
    extract = make(samples=samples, labels={"a": truth, "b": truth})
    with caplog.at_level(logging.INFO):
        training_cohort(extract, config)
        scoring_cohort(extract, config)
    assert caplog.messages == [expected, expected]
