"""Which samples a run is judged on."""

from clinical.cohort.store import Store
from clinical.errors import ConfigError
from clinical.experiment import Run
from clinical.finishing import NOT_HELD_OUT, Judged, _thresholds

from types import SimpleNamespace

import numpy as np
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
