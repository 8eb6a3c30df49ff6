"""Which samples a run is judged on, and what tuning decides."""

from clinical.cohort.store import Store
from clinical.errors import ConfigError
from clinical.experiment import Run
from clinical.finishing import NOT_HELD_OUT, Judged, _calibrate, _chosen_by, _thresholds, _typical

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pandas as pd
import polars as pl
import pytest


@pytest.fixture
def store(finished) -> Store:
    return Store.open(finished.out / "store")


@pytest.fixture
def config(finished, hospital_tools):
    return Run.read(hospital_tools.TINY, hospital_tools.overrides(finished.extract, finished.out))


def with_labels(store: Store, split: str, value: float | None) -> Store:
    """The store, all labels of a split replaced."""
    label = "label.in_hospital_mortality"
    changed = pl.when(pl.col("split") == split).then(pl.lit(value, pl.Float64)).otherwise(label)
    store.__dict__["samples"] = store.samples.with_columns(changed.alias(label))
    return store


def test_a_run_is_judged_on_its_held_out_split(config, store):
    judged = Judged.of(config, store)
    assert judged.description == "held_out"
    assert np.array_equal(judged.rows, store.rows("held_out"))


def test_one_class_among_the_held_out_is_judged_all_the_same(config, store):
    assert Judged.of(config, with_labels(store, "held_out", 0.0)).description == "held_out"


def test_without_a_held_out_label_the_tuning_split_is_judged_and_the_name_says_so(config, store):
    judged = Judged.of(config, with_labels(store, "held_out", None))
    assert judged.description == NOT_HELD_OUT
    both = [*store.rows("select"), *store.rows("calibrate")]
    assert judged.rows.tolist() == sorted(both)


def test_nothing_is_left_to_judge_by_where_tuning_is_learned_and_no_one_held_out(config, store):
    settings = config.finetune.model_copy(update={"learn_tuning": True})
    learned = config.model_copy(update={"finetune": settings})
    assert Judged.of(learned, store).description == "held_out"
    with pytest.raises(ConfigError, match="add a held_out split"):
        Judged.of(learned, with_labels(store, "held_out", None))


@pytest.mark.parametrize(
    ("labels", "words"),
    [(0.0, "loss: select has no positives"), (1.0, "loss: select has no negatives")],
)
def test_one_class_in_select_is_told_since_the_loss_chose_the_epoch(config, store, labels, words):
    assert _chosen_by(config, with_labels(store, "select", labels)) == {
        "in_hospital_mortality": words
    }
    one = store.samples["subject_id"] == store.samples["subject_id"][int(store.rows("select")[0])]
    label = pl.when(one).then(1.0 - labels).otherwise("label.in_hospital_mortality")
    store.__dict__["samples"] = store.samples.with_columns(
        label.alias("label.in_hospital_mortality")
    )
    assert _chosen_by(config, store) == {"in_hospital_mortality": "AUROC"}


def test_an_epoch_that_nothing_chose_is_told(config, store):
    settings = config.finetune.model_copy(update={"keep": "last"})
    found = _chosen_by(config.model_copy(update={"finetune": settings}), store)
    assert found == {"in_hospital_mortality": "nothing: the last epoch is kept"}


def test_calibration_and_sets_are_fitted_on_calibrate_alone(config, store, finished, tmp_path):
    bundle = shutil.copytree(finished.bundle, tmp_path / "bundle")
    fitted = [bundle / name for name in ("calibration.json", "conformal.json")]
    before = [path.read_text() for path in fitted]
    for split in ("train", "select", "held_out"):
        _calibrate(bundle, with_labels(store, split, 1.0))
        assert [path.read_text() for path in fitted] == before
    _calibrate(bundle, with_labels(store, "calibrate", 1.0))
    calibration, sets = (json.loads(path.read_text())["in_hospital_mortality"] for path in fitted)
    assert calibration["reason"] == "not calibrated: no negatives to fit on"
    assert sets["no"]["n"] == 0
    assert sets["yes"]["n"] == len(store.rows("calibrate"))


def test_calibration_and_sets_count_people_however_many_samples_each_has(store, finished, tmp_path):
    bundle = shutil.copytree(finished.bundle, tmp_path / "bundle")
    rolling = pl.col("subject_id") // 10  # of ten subjects in a row
    store.__dict__["samples"] = store.samples.with_columns(rolling)
    _calibrate(bundle, store)
    rows = store.samples[store.rows("calibrate")]
    label = "label.in_hospital_mortality"
    people = {
        value: rows.filter(pl.col(label) == value)["subject_id"].n_unique() for value in (0, 1)
    }
    assert rows["subject_id"].n_unique() < rows.height
    fitted = [bundle / name for name in ("calibration.json", "conformal.json")]
    calibration, sets = (json.loads(path.read_text())["in_hospital_mortality"] for path in fitted)
    assert (calibration["n"], calibration["events"]) == (rows["subject_id"].n_unique(), people[1])
    assert {name: one["n"] for name, one in sets.items()} == {"no": people[0], "yes": people[1]}


@pytest.mark.parametrize(
    "changes",
    [
        {"finetune": {"learn_tuning": True}},
        {"evaluate": {"thresholds": {}}},
    ],
)
def test_no_thresholds_are_chosen_on_learned_patients_or_where_none_are_asked_for(
    config, store, changes
):
    sections = {
        name: getattr(config, name).model_copy(update=values) for name, values in changes.items()
    }
    bundle = SimpleNamespace(config=config.model_copy(update=sections))
    assert _thresholds(SimpleNamespace(bundle=bundle), store) == {}


def test_atypical_are_people_whose_samples_share_one_weight():
    # One long stay that is atypical throughout, one half of which is, and six others, one unscored.
    subjects = [1] * 50 + [2] * 4 + [3, 4, 5, 6, 7, 8]
    typical = [0.01] * 50 + [0.01, 0.01, 0.9, 0.9] + [0.05, 0.02, 0.5, 0.5, 0.5, None]
    rows = pd.DataFrame(
        {"subject_id": subjects, "prediction_time": range(60), "typicality": typical}
    )
    both_tasks = pd.concat([rows, rows])
    predictor = SimpleNamespace(bundle=SimpleNamespace(typicality=SimpleNamespace(n_calibrated=80)))
    # 1 + 1/2 + 1 + 1 people, to the nearest whole (even) one.
    assert _typical(predictor, both_tasks) == {
        "calibrated_on": 80,
        "level": 0.05,
        "judged": 7,
        "atypical": 4,
    }
