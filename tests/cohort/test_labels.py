"""Labels of every kind, from MEDS folders to numbers."""

import clinical  # noqa: F401
from clinical.cohort.labels import label_array, learn_answers, numbered, read_labels
from clinical.config import RunConfig, TaskConfig
from clinical.errors import ConfigError, SchemaError
from clinical.extract.schema import Extract
from clinical.extract.write import write_extract

from datetime import datetime, timedelta

import numpy as np
import polars as pl
import pytest

DAY = datetime(2150, 1, 1)
SUBJECTS = list(range(1, 7))


@pytest.fixture
def make(tmp_path):
    """Write an extract of six subjects; `labels` is folder -> columns of the first subjects."""

    def write(**labels):
        (tmp_path / "extract").mkdir()
        frames = {}
        for name, columns in labels.items():
            n = len(next(iter(columns.values())))
            keys = {"subject_id": SUBJECTS[:n], "prediction_time": [DAY] * n}
            frames[name] = pl.DataFrame({**keys, **columns}).cast(
                {"prediction_time": pl.Datetime("us")}
            )
        rows = {"subject_id": SUBJECTS, "time": [DAY] * 6, "code": ["X"] * 6}
        write_extract(
            tmp_path / "extract",
            shards=[pl.DataFrame(rows, schema_overrides={"time": pl.Datetime("us")})],
            codes=pl.DataFrame({"code": ["X"]}),
            dataset={"dataset_name": "six"},
            splits=None,
            samples=None,
            labels=frames,
        )
        return Extract.open(tmp_path / "extract")

    return write


def read(extract, *, is_optional=False, **task):
    return read_labels(extract, "t", TaskConfig(**task), is_optional=is_optional)


def test_each_class_of_a_multilabel_task_has_a_column_and_may_be_unknown(make):
    extract = make(a={"boolean_value": [True, False]}, b={"boolean_value": [None, True, False]})
    found = read(extract, kind="multilabel", labels=["tasks/a", "tasks/b"]).sort("subject_id")
    assert found["label.t/a"].to_list() == [1, 0, None]
    assert found["label.t/b"].to_list() == [None, 1, 0]
    absent = {"kind": "multilabel", "labels": ["tasks/c", "tasks/b"]}
    found = read(extract, is_optional=True, **absent)
    assert found["label.t/c"].null_count() == 3
    with pytest.raises(ConfigError, match="tasks/c"):
        read(extract, **absent)


def test_hours_and_whether_they_are_of_the_event_stand_beside_each_other(make):
    columns = {"float_value": [5.0, 6.0, None], "boolean_value": [True, False, None]}
    found = read(make(a=columns), kind="time_to_event", labels="tasks/a", horizon_hours=8)
    assert found["label.t"].to_list() == [5, 6, None]
    assert found["label.t/observed"].to_list() == [1, 0, None]


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"float_value": [5.0, 6.0], "boolean_value": [True, None]}, "1 labels have only one of"),
        ({"float_value": [5.0, 6.0]}, "2 labels have only one of"),
        ({"float_value": [-5.0], "boolean_value": [True]}, "1 labels are of hours before"),
        ({"float_value": [np.inf], "boolean_value": [True]}, "1 labels are infinite"),
    ],
)
def test_hours_that_make_no_sense_are_refused(make, columns, words):
    with pytest.raises(SchemaError, match=f"tasks/a: {words}"):
        read(make(a=columns), kind="time_to_event", labels="tasks/a", horizon_hours=8)


def test_a_value_that_is_no_number_is_unknown(make):
    columns = {"float_value": [1.5, np.nan, None]}
    found = read(make(a=columns), kind="regression", labels="tasks/a", unit="days")
    assert found["label.t"].to_list() == [1.5, None, None]


def test_an_empty_text_is_no_class(make):
    extract = make(a={"categorical_value": ["x", "", " "]})
    with pytest.raises(SchemaError, match="tasks/a: 2 labels are empty texts"):
        read(extract, kind="multiclass", labels="tasks/a")


def test_a_built_in_task_of_another_kind_is_refused(make):
    with pytest.raises(
        ConfigError, match=r"tasks\.t\.builder: mortality makes no labels of a regression"
    ):
        read(make(), kind="regression", builder="mortality", unit="days", anchor="X")


@pytest.mark.parametrize(("death", "expected"), [("GONE", "say no"), ("DIED", None)])
def test_a_built_in_task_that_finds_no_outcome_is_warned_of(tmp_path, caplog, death, expected):
    days = [DAY + timedelta(days=n) for n in (0, 4, 0, 4)]
    codes = ["IN//ICU", f"HOSPITAL_DISCHARGE//{death}", "IN//ICU", "HOSPITAL_DISCHARGE//HOME"]
    rows = {"subject_id": [1, 1, 2, 2], "time": days, "code": codes}
    write_extract(
        tmp_path,
        shards=[pl.DataFrame(rows, schema_overrides={"time": pl.Datetime("us")})],
        codes=pl.DataFrame({"code": codes}).unique(),
        dataset={"dataset_name": "two"},
        splits=None,
        samples=None,
        labels={},
    )
    extract = Extract.open(tmp_path)
    labels = read(extract, kind="binary", builder="mortality", anchor="IN//ICU", after_hours=24)
    assert labels.height == 2
    said = [r.getMessage() for r in caplog.records if "the builder made" in r.getMessage()]
    if expected is None:
        assert not said
    else:
        (message,) = said
        assert "tasks.t: all 2 labels that the builder made say no" in message


def config(**tasks):
    modalities = {"static": {"encoder": "mlp"}}
    return RunConfig.model_validate(
        {"extract": "e", "out": "o", "tasks": tasks, "modalities": modalities}
    )


def cohort(**columns):
    splits = ["train"] * 3 + ["held_out"]
    return pl.DataFrame({"subject_id": [1, 2, 3, 4], "split": splits, **columns})


def test_classes_are_learned_from_train_and_become_their_places(caplog):
    run = config(t={"kind": "multiclass", "labels": "t", "min_subjects": 1})
    raw = cohort(**{"label.t": ["b", "a", None, "z"]})
    answers = learn_answers(run, raw)
    with caplog.at_level("WARNING"):
        found = numbered(raw, answers)
    assert found["label.t"].to_list() == [1, 0, None, None]
    assert caplog.messages == [
        "tasks.t: 1 labels are of 1 classes that no train label has; they are left out"
    ]
    np.testing.assert_array_equal(
        label_array(found, "t", run.tasks["t"]), [[1], [0], [np.nan], [np.nan]]
    )


def test_values_are_learned_from_train_alone():
    run = config(t={"kind": "regression", "labels": "t", "unit": "days"})
    answer = learn_answers(run, cohort(**{"label.t": [1.0, 3.0, None, 1000.0]}))["t"]
    assert (answer.mean, answer.sd) == (2, 1)


@pytest.mark.parametrize(
    ("truth", "counts"), [([1.0, 1, None], "2 positive and 0"), ([0.0, 0, 0], "0 positive and 3")]
)
def test_a_task_with_one_class_in_train_is_named(truth, counts):
    run = config(t={"kind": "binary", "labels": "t"})
    both = [0.0 if truth[0] else 1.0]
    with pytest.raises(SchemaError, match=rf"tasks\.t: train has {counts} negative"):
        learn_answers(run, cohort(**{"label.t": truth + both}))
