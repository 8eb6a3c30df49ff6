"""Opening an extract, and reading it whatever tool wrote its files."""

from clinical.errors import ConfigError, SchemaError
from clinical.extract.schema import Extract

import json
import pickle
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import polars as pl
import pytest

MIMIC = Path(__file__).resolve().parents[2] / ".." / "shared" / "data" / "mimic-iv-demo-meds"
TYPES = {
    "subject_id": pl.Int64,
    "time": pl.Datetime("us"),
    "code": pl.String,
    "numeric_value": pl.Float32,
    "text_value": pl.String,
    "image_path": pl.String,
}
SECRET = 918273645


def extract_of(root: Path, **shards: pl.DataFrame) -> Extract:
    (root / "data").mkdir(parents=True)
    for name, frame in shards.items():
        frame.write_parquet(root / "data" / f"{name}.parquet")
    return Extract.open(root)


def rows(*triples: tuple[int, int | None, str]) -> pl.DataFrame:
    times = [None if day is None else datetime(2020, 1, day) for _, day, _ in triples]
    return pl.DataFrame(
        {"subject_id": [t[0] for t in triples], "time": times, "code": [t[2] for t in triples]},
        schema={"subject_id": pl.Int64, "time": pl.Datetime("us"), "code": pl.String},
    )


def test_an_extract_tells_its_name_calendar_and_shards_and_holds_no_rows(root):
    extract = Extract.open(root)
    assert extract.shards == ("data/0.parquet", "data/1.parquet")
    assert extract.dataset_name == "small"
    assert extract.consistent_calendar is False
    assert len(pickle.dumps(extract)) < 1000
    assert pickle.loads(pickle.dumps(extract)) == extract  # noqa: S301  (our own bytes)


def test_shards_are_found_at_any_depth_and_no_other_file_is_needed(tmp_path):
    for name in ("b/1", "a/2", "0"):
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        rows((1, 1, "HR")).write_parquet(tmp_path / "data" / f"{name}.parquet")
    extract = Extract.open(tmp_path)
    assert extract.shards == ("data/0.parquet", "data/a/2.parquet", "data/b/1.parquet")
    assert extract.dataset_name == "unnamed"
    assert extract.splits() is None
    assert extract.samples() is None
    assert extract.codes().is_empty()
    assert extract.codes().columns == ["code", "description", "parent_codes"]


def test_all_shards_together_are_their_rows_even_if_their_columns_differ(tmp_path):
    first = rows((1, None, "GENDER//F")).with_columns(pl.lit(1.5).alias("numeric_value"))
    second = rows((2, 1, "HR")).with_columns(pl.lit("a").alias("text_value"), unit=pl.lit("x"))
    found = extract_of(tmp_path, a=first, b=second).scan().collect()
    assert dict(found.schema) == TYPES
    assert found["code"].to_list() == ["GENDER//F", "HR"]
    assert found["numeric_value"].to_list() == [1.5, None]
    assert found["text_value"].to_list() == [None, "a"]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_what_pandas_writes_reads_as_the_same_events(tmp_path, unit):
    (tmp_path / "data").mkdir()
    time = pd.Series(["2020-01-01 10:00:01", "2020-01-02"]).astype(f"datetime64[{unit}]")
    frame = pd.DataFrame(
        {
            "subject_id": pd.Series([1, 1], dtype="int32"),
            "time": time,
            "code": pd.Categorical(["HR", "HR"]),
            "numeric_value": [80.25, float("nan")],
        }
    )
    frame.to_parquet(tmp_path / "data" / "0.parquet")
    found = Extract.open(tmp_path).scan("data/0.parquet").collect()
    assert dict(found.schema) == TYPES
    assert found["time"].to_list() == [datetime(2020, 1, 1, 10, 0, 1), datetime(2020, 1, 2)]
    assert found["code"].to_list() == ["HR", "HR"]
    assert found["numeric_value"].to_list() == [80.25, None]


def test_not_a_number_is_a_missing_number(tmp_path):
    frame = rows((1, 1, "HR"), (1, 2, "HR")).with_columns(
        pl.Series("numeric_value", [float("nan"), 2.0])
    )
    found = extract_of(tmp_path, a=frame).read_checked("data/a.parquet")
    assert found["numeric_value"].to_list() == [None, 2.0]


ZONED = pl.lit(datetime(2020, 1, 1, tzinfo=UTC)).alias("time")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.with_columns(ZONED), "column time has the time zone UTC; convert"),
        (lambda f: f.drop("code"), "a table of events needs the column code; it has subject_id"),
        (
            lambda f: f.with_columns(subject_id=pl.lit("1")),
            "column subject_id is String",
        ),
        (lambda f: f.with_columns(numeric_value=pl.lit("1")), "column numeric_value is String"),
        (lambda f: f.with_columns(time=pl.lit("2020")), "column time is String, not Datetime"),
        (lambda f: f.with_columns(code=pl.lit(3)), "column code is Int32, not String"),
    ],
)
def test_a_type_that_cannot_be_aligned_is_refused_with_file_and_column(tmp_path, change, message):
    extract = extract_of(tmp_path, a=change(rows((1, 1, "HR"))))
    with pytest.raises(SchemaError, match=f"data/a.parquet: {message}"):
        extract.scan()


def test_a_truncated_or_foreign_file_is_refused_by_name(root):
    file = root / "data" / "1.parquet"
    content = file.read_bytes()
    for broken in (content[:-10], content[: len(content) // 2], b"", b"subject_id,time,code\n1,,x"):
        file.write_bytes(broken)
        extract = Extract.open(root)
        with pytest.raises(SchemaError, match=r"data/1\.parquet: not a complete Parquet file"):
            extract.scan()
        assert extract.read_checked("data/0.parquet").height == 10


def test_damage_inside_a_file_is_refused_when_it_is_read(tmp_path):
    values = pl.int_range(5000).cast(pl.Float32)
    frame = pl.concat([rows((1, 1, "HR"))] * 5000).with_columns(numeric_value=values)
    extract = extract_of(tmp_path, a=frame)
    file = tmp_path / "data" / "a.parquet"
    content = bytearray(file.read_bytes())
    content[20:2000] = bytes(1980)
    file.write_bytes(content)
    with pytest.raises(SchemaError, match=r"data/a\.parquet: damaged"):
        extract.read_checked("data/a.parquet")


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ([(SECRET, 2, "a"), (SECRET, 1, "b")], "rows of 1 subjects are out of time order; sort by"),
        ([(SECRET, 2, "a"), (SECRET, None, "b")], "rows of 1 subjects are out of time order"),
        ([(SECRET, 1, "a"), (2, 1, "a"), (SECRET, 2, "b")], "rows of 1 subjects are not together"),
        ([(SECRET, 1, None)], "1 rows have no code; fill or drop them"),
        ([(None, 1, "a")], "1 rows have no subject_id"),
    ],
)
def test_rows_that_cannot_be_used_as_they_are_are_refused_without_naming_anyone(
    tmp_path, found, message
):
    extract = extract_of(tmp_path, **{"3": rows(*found)})
    with pytest.raises(SchemaError, match=rf"^data/3\.parquet: (the )?{message}") as error:
        extract.read_checked("data/3.parquet")
    assert str(SECRET) not in str(error.value)


def test_an_id_that_does_not_fit_is_refused_without_being_quoted(tmp_path):
    frame = rows((1, 1, "a")).with_columns(subject_id=pl.lit(2**63 + SECRET, dtype=pl.UInt64))
    with pytest.raises(SchemaError, match="damaged, or a value does not") as error:
        extract_of(tmp_path, a=frame).read_checked("data/a.parquet")
    assert str(2**63 + SECRET) not in f"{error.value}{error.value.__cause__}"


def test_a_number_beyond_32_bits_is_refused(tmp_path):
    frame = rows((1, 1, "a")).with_columns(numeric_value=pl.lit(1e300))
    with pytest.raises(SchemaError, match="numeric_value is infinite or beyond 32 bits in 1 rows"):
        extract_of(tmp_path, a=frame).read_checked("data/a.parquet")


def test_subjects_need_not_be_sorted_by_id(tmp_path):
    frame = rows((9, None, "a"), (9, 1, "b"), (9, 1, "c"), (3, 1, "a"))
    found = extract_of(tmp_path, a=frame).read_checked("data/a.parquet")
    assert found["code"].to_list() == ["a", "b", "c", "a"]


def test_a_subject_in_two_files_is_refused(tmp_path):
    shards = {"0": rows((1, 1, "a"), (2, 1, "a")), "1": rows((2, 2, "a"), (3, 1, "a"))}
    extract = extract_of(tmp_path, **shards)
    assert extract.subjects().rows() == [
        (1, "data/0.parquet"),
        (2, "data/0.parquet"),
        (2, "data/1.parquet"),
        (3, "data/1.parquet"),
    ]
    with pytest.raises(SchemaError, match=r"data/1\.parquet: 1 subjects are in another file too"):
        extract.check_subjects_apart()


def test_subjects_of_a_valid_extract_are_apart(root):
    Extract.open(root).check_subjects_apart()


def test_a_folder_that_is_absent_or_no_extract_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"there is no extract at .*absent"):
        Extract.open(tmp_path / "absent")
    with pytest.raises(SchemaError, match=r"no data/\*\*/\*\.parquet; give the folder"):
        Extract.open(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not valid JSON"),
        ("[1]", "not a JSON object"),
        ('{"consistent_calendar": "yes"}', "consistent_calendar is neither true nor false"),
        ('{"dataset_name": 3}', "dataset_name|follow MEDS"),
    ],
)
def test_a_broken_dataset_file_is_refused(root, content, message):
    (root / "metadata" / "dataset.json").write_text(content)
    with pytest.raises(SchemaError, match=rf"metadata/dataset\.json: .*({message})"):
        Extract.open(root)


def test_a_consistent_calendar_is_told(root):
    (root / "metadata" / "dataset.json").write_text(json.dumps({"consistent_calendar": True}))
    assert Extract.open(root).consistent_calendar is True


def test_splits_come_from_the_metadata_or_from_the_file_that_the_user_names(root):
    extract = Extract.open(root)
    assert extract.splits().rows() == [(1, "train"), (2, "tuning"), (3, "held_out")]
    other = pl.DataFrame({"subject_id": [1], "split": ["held_out"]})
    other.write_parquet(root / "folds.parquet")
    assert extract.splits(Path("folds.parquet")).rows() == [(1, "held_out")]
    assert extract.splits(root / "folds.parquet").rows() == [(1, "held_out")]
    with pytest.raises(ConfigError, match=r"there is no file absent\.parquet"):
        extract.splits(Path("absent.parquet"))


@pytest.mark.parametrize(
    ("subjects", "splits", "message"),
    [
        ([1, SECRET, SECRET], ["train", "train", "tuning"], "1 subjects are in two splits"),
        (
            [1, SECRET],
            ["train", "test"],
            "1 subjects have a split other than train, tuning",
        ),
        ([1, SECRET], ["train", None], "1 rows have no split"),
    ],
)
def test_a_broken_split_is_refused_without_naming_anyone(root, subjects, splits, message):
    frame = pl.DataFrame({"subject_id": subjects, "split": splits})
    frame.write_parquet(root / "metadata" / "subject_splits.parquet")
    with pytest.raises(SchemaError, match=message) as error:
        Extract.open(root).splits()
    assert str(SECRET) not in str(error.value)


def test_a_subject_listed_twice_in_the_same_split_is_in_one_split(root):
    frame = pl.DataFrame({"subject_id": [1, 1], "split": ["train", "train"]})
    frame.write_parquet(root / "metadata" / "subject_splits.parquet")
    assert Extract.open(root).splits().rows() == [(1, "train")]


def test_labels_come_from_every_file_of_their_folder_also_empty_ones(root):
    folder = root / "tasks" / "died"
    more = pl.DataFrame({"subject_id": [4], "prediction_time": [datetime(2020, 1, 5)]})
    (folder / "more").mkdir()
    more.with_columns(float_value=pl.lit(2.5)).write_parquet(folder / "more" / "1.parquet")
    more.clear().write_parquet(folder / "2.parquet")
    labels = Extract.open(root).labels(Path("tasks/died"))
    assert labels.columns == [
        *("subject_id", "prediction_time", "boolean_value"),
        *("integer_value", "float_value", "categorical_value"),
    ]
    assert labels["boolean_value"].to_list() == [True, False, True, None]
    assert labels["float_value"].to_list() == [None, None, None, 2.5]
    assert labels.equals(Extract.open(root).labels(folder))


def test_shards_of_labels_without_rows_may_have_any_columns_or_none(root):
    folder = root / "tasks" / "died"
    before = Extract.open(root).labels(folder)
    for place in ("train/0", "held_out/0", "9"):
        (folder / place).parent.mkdir(exist_ok=True)
    pl.DataFrame().write_parquet(folder / "train" / "0.parquet")
    pl.DataFrame({"subject_id": [], "prediction_time": []}).write_parquet(
        folder / "held_out" / "0.parquet"
    )
    no_times = pl.DataFrame(schema={"subject_id": pl.String, "boolean_value": pl.Int64})
    no_times.write_parquet(folder / "9.parquet")
    (folder / "._0.parquet").write_bytes(b"what a copy leaves")
    (folder / "part.parquet").mkdir()
    assert Extract.open(root).labels(folder).equals(before)


def test_a_task_whose_shards_are_all_empty_has_no_labels(root):
    folder = root / "tasks" / "nobody"
    folder.mkdir()
    pl.DataFrame().write_parquet(folder / "0.parquet")
    assert Extract.open(root).labels(folder).is_empty()


def test_a_shard_of_labels_with_rows_has_to_have_its_columns(root):
    pl.DataFrame({"subject_id": [1]}).write_parquet(root / "tasks" / "died" / "1.parquet")
    with pytest.raises(SchemaError, match=r"died/1\.parquet: .* needs the column prediction_time"):
        Extract.open(root).labels(Path("tasks/died"))


def test_broken_labels_and_samples_are_refused(root):
    extract = Extract.open(root)
    with pytest.raises(ConfigError, match="there is no Parquet file in tasks/absent"):
        extract.labels(Path("tasks/absent"))
    again = pl.read_parquet(root / "samples.parquet")
    again.write_parquet(root / "tasks" / "died" / "1.parquet")
    with pytest.raises(SchemaError, match="tasks/died: 3 labels repeat a subject_id"):
        extract.labels(Path("tasks/died"))
    pl.concat([again, again.head(1)]).write_parquet(root / "samples.parquet")
    with pytest.raises(SchemaError, match=r"samples\.parquet: 1 samples repeat a subject_id"):
        extract.samples()
    again.with_columns(prediction_time=pl.lit(None)).write_parquet(root / "samples.parquet")
    with pytest.raises(SchemaError, match=r"samples\.parquet: 3 rows have no prediction_time"):
        extract.samples()


def test_an_image_path_resolves_inside_the_extract(root):
    extract = Extract.open(root)
    assert extract.image("images/1.png") == root.resolve() / "images" / "1.png"
    assert extract.image("images/../images/absent.png") == root.resolve() / "images" / "absent.png"


def test_an_image_path_never_leads_out_of_the_extract(root, tmp_path):
    secret = tmp_path / f"{SECRET}.png"
    secret.write_bytes(b"x")
    (root / "images" / "link.png").symlink_to(secret)
    (root / "images" / "folder").symlink_to(tmp_path)
    (root / "images" / "loop").symlink_to(root / "images" / "loop")
    extract = Extract.open(root)
    outside = ["../" + secret.name, str(secret), "images/link.png", f"images/folder/{SECRET}.png"]
    for path in [*outside, str(root / "images" / "1.png"), f"images/{SECRET}\0.png"]:
        with pytest.raises(SchemaError, match="absolute or leads out") as error:
            extract.image(path)
        assert str(SECRET) not in str(error.value)
    assert not extract.image("images/loop").is_file()


def test_an_extract_behind_a_link_is_still_its_own_root(root, tmp_path):
    (tmp_path / "alias").symlink_to(root)
    assert Extract.open(tmp_path / "alias").image("images/1.png").is_file()


def test_the_fingerprint_is_of_data_and_metadata_wherever_they_lie(root, tmp_path):
    first = Extract.open(root).fingerprint()
    shutil.copytree(root, tmp_path / "copy")
    copy = Extract.open(tmp_path / "copy")
    shutil.rmtree(copy.path / "tasks")
    (copy.path / "samples.parquet").unlink()
    assert copy.fingerprint() == first
    splits = copy.path / "metadata" / "subject_splits.parquet"
    content = bytearray(splits.read_bytes())
    content[10] ^= 1
    splits.write_bytes(content)
    assert copy.fingerprint() != first
    splits.unlink()
    assert copy.fingerprint() != first


def test_the_fingerprint_changes_with_the_name_of_a_shard(root):
    first = Extract.open(root).fingerprint()
    (root / "data" / "1.parquet").rename(root / "data" / "2.parquet")
    assert Extract.open(root).fingerprint() != first


@pytest.mark.shared_data("mimic-iv-demo-meds")
def test_the_mimic_iv_demo_opens_with_all_its_events():
    extract = Extract.open(MIMIC)
    assert extract.dataset_name == "MIMIC-IV-demo"
    assert extract.consistent_calendar is False
    assert sum(extract.read_checked(shard).height for shard in extract.shards) == 916_166
    extract.check_subjects_apart()
    assert extract.splits()["subject_id"].n_unique() == 100
    assert extract.codes().height == 7035
