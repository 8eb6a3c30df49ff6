"""Files of predictions and labels: what is read, and what is not taken for something else."""

import clinical  # noqa: F401
from clinical.errors import ConfigError
from clinical.evaluation.files import read_labels

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


def test_a_folder_of_several_tasks_is_not_taken_for_one(tmp_path, labels):
    write(tmp_path, labels, "death", "readmission")
    with pytest.raises(ConfigError, match=r"holds 2 folders .* such as .*/death"):
        read_labels(tmp_path)
