"""Which samples a run is judged on."""

from clinical.cohort.store import Store
from clinical.finishing import NOT_HELD_OUT, Judged

import numpy as np
import polars as pl
import pytest


@pytest.fixture
def store(finished) -> Store:
    return Store.open(finished.out / "store")


def with_labels(store: Store, split: str, value: float | None) -> Store:
    """The store, all labels of a split replaced."""
    label = "label.in_hospital_mortality"
    changed = pl.when(pl.col("split") == split).then(pl.lit(value, pl.Float64)).otherwise(label)
    store.__dict__["samples"] = store.samples.with_columns(changed.alias(label))
    return store


def test_a_run_is_judged_on_its_held_out_split(store):
    judged = Judged.of(store)
    assert judged.description == "held_out"
    assert np.array_equal(judged.rows, store.rows("held_out"))


def test_one_class_among_the_held_out_is_judged_all_the_same(store):
    assert Judged.of(with_labels(store, "held_out", 0.0)).description == "held_out"


def test_without_a_held_out_label_the_tuning_split_is_judged_and_the_name_says_so(store):
    judged = Judged.of(with_labels(store, "held_out", None))
    assert judged.description == NOT_HELD_OUT
    both = [*store.rows("select"), *store.rows("calibrate")]
    assert judged.rows.tolist() == sorted(both)
