"""Writing an extract: whole or not at all, in MEDS' own types."""

from clinical.errors import ConfigError, SchemaError
from clinical.extract.write import draft_folder, resumable_draft, write_extract
from clinical.unfinished import unfinished

import json
from datetime import datetime, timedelta
from pathlib import Path

import meds
import polars as pl
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

DAY = datetime(2020, 1, 1)


def one_event(**columns: object) -> pl.DataFrame:
    return pl.DataFrame({"subject_id": [7], "time": [DAY], "code": ["HR"], **columns})


def write(root: Path, *shards: pl.DataFrame, **more: object) -> None:
    arguments = {"codes": pl.DataFrame({"code": ["HR"]}), "dataset": {"dataset_name": "x"}, **more}
    root.mkdir(exist_ok=True)
    write_extract(root, shards=list(shards), **arguments)


def test_the_folder_appears_only_when_the_block_has_ended(tmp_path):
    out = tmp_path / "new" / "out"
    with draft_folder(out) as draft:
        (draft / "file").write_text("x")
        assert not out.exists()
        assert draft.parent == out.parent
    assert [p.name for p in out.iterdir()] == ["file"]
    assert [p.name for p in out.parent.iterdir()] == ["out"]


def test_an_empty_folder_may_be_filled(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    with draft_folder(out) as draft:
        (draft / "file").write_text("x")
    assert (out / "file").exists()


@pytest.mark.parametrize("problem", [ValueError, KeyboardInterrupt])
def test_a_failure_leaves_neither_folder_nor_draft(tmp_path, problem):
    def fail() -> None:
        with draft_folder(tmp_path / "out") as draft:
            (draft / "file").write_text("x")
            raise problem

    with pytest.raises(problem):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_files_or_a_file_is_refused_and_left_alone(tmp_path):
    (tmp_path / "full").mkdir()
    for path in (tmp_path / "full" / "file", tmp_path / "plain"):
        path.write_text("mine")
    for out in (tmp_path / "full", tmp_path / "plain"):
        words = "exists and is not empty; remove it" if out.is_dir() else "is a file; choose"
        with (
            pytest.raises(ConfigError, match=words),
            draft_folder(out),
        ):
            pass
    assert (tmp_path / "full" / "file").read_text() == "mine"
    assert (tmp_path / "plain").read_text() == "mine"


def test_a_folder_that_another_call_has_just_finished_is_refused_and_left_alone(
    tmp_path, monkeypatch
):
    def after_another(*given, **named):
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "file").write_text("another's")
        return unfinished(*given, **named)

    monkeypatch.setattr("clinical.extract.write.unfinished", after_another)
    with (
        pytest.raises(ConfigError, match="exists and is not empty"),
        resumable_draft(tmp_path / "out", {"of": 1}),
    ):
        pass
    assert [p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*")] == ["out", "out/file"]


def test_every_file_has_exactly_the_types_of_meds(root):
    data = pq.read_table(root / "data" / "0.parquet")
    meds.DataSchema.validate(data)
    assert str(data.schema.field("image_path").type) == "string"
    meds.CodeMetadataSchema.validate(pq.read_table(root / meds.code_metadata_filepath))
    meds.SubjectSplitSchema.validate(pq.read_table(root / meds.subject_splits_filepath))
    meds.LabelSchema.validate(pq.read_table(root / "tasks" / "died" / "0.parquet"))
    meds.LabelSchema.validate(pq.read_table(root / "samples.parquet"))
    dataset = json.loads((root / meds.dataset_metadata_filepath).read_text())
    meds.DatasetMetadataSchema.validate(dataset)
    assert dataset["meds_version"] == meds.__version__


@given(
    rows=st.lists(
        st.tuples(st.integers(1, 3), st.none() | st.integers(0, 4)), min_size=1, max_size=30
    )
)
def test_rows_are_sorted_by_subject_and_time_and_equal_ones_keep_their_order(
    tmp_path_factory, rows
):
    frame = pl.DataFrame(
        {
            "subject_id": [subject for subject, _ in rows],
            "time": [None if t is None else DAY + timedelta(hours=t) for _, t in rows],
            "code": ["HR"] * len(rows),
            "numeric_value": [float(i) for i in range(len(rows))],
        },
        schema_overrides={"time": pl.Datetime("us")},
    )
    before = frame.clone()
    root = tmp_path_factory.mktemp("sorted")
    write(root, frame)
    order = sorted(
        range(len(rows)), key=lambda i: (rows[i][0], rows[i][1] is not None, rows[i][1] or 0)
    )
    written = pl.read_parquet(root / "data" / "0.parquet")
    assert written["numeric_value"].to_list() == [float(i) for i in order]
    assert frame.equals(before)


def test_a_declared_column_is_written_and_an_undeclared_one_refused(tmp_path):
    frame = one_event(unit=["1/min"])
    write(tmp_path / "a", frame, dataset={"code_modifier_columns": ["unit"]})
    assert pl.read_parquet(tmp_path / "a" / "data" / "0.parquet")["unit"].to_list() == ["1/min"]
    with pytest.raises(SchemaError, match=r"data/0\.parquet: column unit is not declared"):
        write(tmp_path / "b", frame)


def test_label_columns_that_a_task_does_not_use_are_not_written(root):
    columns = pq.read_schema(root / "tasks" / "died" / "0.parquet").names
    assert columns == ["subject_id", "prediction_time", "boolean_value"]


@pytest.mark.parametrize(
    ("shards", "message"),
    [
        ([one_event(), one_event()], r"data/1\.parquet: 1 subjects are in an earlier shard too"),
        ([one_event(code=["new"])], r"data/0\.parquet: the codes of 1 rows are not in codes"),
        ([one_event(image_path=["a.png"])], r"data/0\.parquet: 1 rows have an image_path; declare"),
        ([one_event(time=["noon"])], r"data/0\.parquet: column time is String, not Datetime"),
        ([one_event(code=[None])], r"data/0\.parquet: 1 rows have no code"),
        ([one_event().clear()], "no events to write"),
        ([], "no events to write"),
    ],
)
def test_what_would_not_be_a_valid_extract_is_refused(tmp_path, shards, message):
    with pytest.raises(SchemaError, match=message):
        write(tmp_path / "out", *shards)
