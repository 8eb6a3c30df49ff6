"""Files of predictions and labels: what is read, and what is not taken for something else."""

import clinical  # noqa: F401
from clinical.errors import ConfigError
from clinical.evaluation.files import read_labels, read_thresholds

import pandas as pd
import pytest


@pytest.fixture
def labels() -> pd.DataFrame:
    return pd.DataFrame({"subject_id": [1, 2], "boolean_value": [True, False]})


def write(folder, labels, *names):
    for name in names:
        path = folder / name / "0.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        labels.to_parquet(path)


@pytest.mark.parametrize("shards", [("",), ("train", "held_out"), ("0", "1"), ("deep/er",)])
def test_the_labels_of_one_task_are_read_however_they_are_sharded(tmp_path, labels, shards):
    write(tmp_path, labels, *shards)
    assert len(read_labels(tmp_path)) == 2 * len(shards)


def test_empty_shards_of_labels_say_nothing(tmp_path, labels):
    write(tmp_path, labels, "1")
    write(tmp_path, labels.head(0).drop(columns="boolean_value"), "0")
    write(tmp_path, pd.DataFrame(), "2")
    found = read_labels(tmp_path)
    assert found is not None
    pd.testing.assert_frame_equal(found, labels)
    write(tmp_path / "nobody", labels.head(0), "0")
    assert len(read_labels(tmp_path / "nobody")) == 0


def test_a_folder_of_several_tasks_is_not_taken_for_one(tmp_path, labels):
    write(tmp_path, labels, "death", "readmission")
    with pytest.raises(ConfigError, match=r"holds 2 folders .* such as .*/death"):
        read_labels(tmp_path)


def test_thresholds_are_read_from_a_text_of_numbers_or_a_json_file(tmp_path):
    assert read_thresholds("0.1, 0.25") == [0.1, 0.25]
    file = tmp_path / "thresholds.json"
    file.write_text('{"death": {"sensitivity 0.8": 0.12}}')
    assert read_thresholds(file) == {"death": {"sensitivity 0.8": 0.12}}
    assert read_thresholds({"ours": 0.2}) == {"ours": 0.2}


@pytest.mark.parametrize(
    ("content", "words"), [("0.2 and more", "is no JSON file"), ("[0.2]", "should hold")]
)
def test_a_file_without_thresholds_is_refused(tmp_path, content, words):
    file = tmp_path / "thresholds.json"
    file.write_text(content)
    with pytest.raises(ConfigError, match=words):
        read_thresholds(str(file))
    with pytest.raises(ConfigError, match="there is no such file"):
        read_thresholds("high")
