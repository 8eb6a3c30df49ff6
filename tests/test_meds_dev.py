"""The commands of meds_dev/model.yaml train and predict, as MEDS-DEV would run them."""

import clinical

import os
import shutil
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
import yaml
from meds_evaluation.evaluate import evaluate_binary_classification

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "meds_dev"
QUICK = "pretrain.epochs=1 finetune.epochs=1 evaluate.resamples=5 trainer.threads=1"


@pytest.fixture(scope="module")
def places(hospital, tmp_path_factory) -> dict[str, str]:
    """What MEDS-DEV fills in: a dataset without samples of its own, and labels beside it."""
    root = tmp_path_factory.mktemp("meds dev")
    dataset = shutil.copytree(hospital, root / "dataset")
    labels = shutil.move(dataset / "tasks" / "in_hospital_mortality", root / "labels")
    (dataset / "samples.parquet").unlink()
    (root / "predict").mkdir()
    return {
        "dataset_dir": str(dataset),
        "labels_dir": str(labels),
        "model_dir": str(FOLDER),
        "model_initialization_dir": str(root / "train"),
        "split": "held_out",
        "demo": "False",
    }


def run(command: str) -> None:
    """As MEDS-DEV does, with the interpreter of these tests behind `clinical`."""
    script = f'set -e\nclinical() {{ "{sys.executable}" -m clinical.cli "$@"; }}\n{command}\n'
    package = str(Path(clinical.__file__).parents[1])
    environment = os.environ | {"PYTHONPATH": package}
    done = subprocess.run(
        ["bash", "-c", script], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]


def test_the_commands_train_and_predict_what_meds_evaluation_judges(places):
    commands = yaml.safe_load((FOLDER / "model.yaml").read_text())["commands"]["supervised"]
    trained = places["model_initialization_dir"]
    run(f"{commands['train'].format(output_dir=trained, **places)} {QUICK}")
    predict = str(Path(trained).with_name("predict"))
    run(commands["predict"].format(output_dir=predict, **places))
    predictions = pl.read_parquet(Path(predict) / "predictions.parquet")
    splits = pl.read_parquet(
        Path(places["dataset_dir"]) / "metadata" / "subject_splits.parquet"
    ).filter(pl.col("split") == "held_out")
    labels = pl.read_parquet(Path(places["labels_dir"]) / "*.parquet")
    expected = labels.join(splits, on="subject_id", how="semi")
    keys = ["subject_id", "prediction_time", "boolean_value"]
    assert predictions.select(keys).sort(keys).equals(expected.select(keys).sort(keys))
    judged = evaluate_binary_classification(predictions)
    assert 0 <= judged["samples_equally_weighted"]["roc_auc_score"] <= 1
