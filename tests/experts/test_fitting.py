"""The baseline of every kind of task, from few, censored or invisible labels."""

from clinical.answers import Multiclass, Regression, TimeToEvent
from clinical.cohort.store import LEARNING
from clinical.config import RunConfig
from clinical.experts import fitting
from clinical.experts.fitting import Flat

import numpy as np
import polars as pl
import pytest

NAN = np.nan


class Table:
    """Train samples, of which some have nothing visible."""

    def __init__(self, n, *, invisible=(), **labels):
        reason = [("nothing visible" if i in invisible else None) for i in range(n)]
        labels = {name: pl.Series(values, dtype=pl.Float64) for name, values in labels.items()}
        self.samples = pl.DataFrame(
            {"split": ["train"] * n, "reason": pl.Series(reason, dtype=pl.String), **labels}
        )

    def rows(self, split):
        assert split in LEARNING
        there = (pl.col("split") == split) & pl.col("reason").is_null()
        return np.flatnonzero(self.samples.select(there).to_series())


def scores(store, features, answer, **task):
    task = {"labels": "t", **task}
    raw = {
        "extract": "e",
        "out": "o",
        "tasks": {"t": task},
        "modalities": {"static": {"encoder": "mlp"}},
    }
    place = np.where(store.samples["reason"].is_null(), np.arange(len(features)), -1)
    flat = Flat(features, place)
    rows = store.rows("train")[:4]
    return fitting._baseline(RunConfig.model_validate(raw), store, rows, flat, "t", answer)


def test_trees_of_a_horizon_stand_for_those_who_were_censored_before_it():
    draws = np.random.default_rng(0)
    n = 3000
    event, end = draws.exponential(60, n), draws.exponential(30, n)
    features = np.zeros((n, 1), dtype=np.float32)  # so that all that can be learned is the rate
    hours, happened = np.minimum(event, end), (event <= end).astype(float)
    store = Table(n, **{"label.t": hours, "label.t/observed": happened})
    answer = TimeToEvent((24.0, 48.0), (24.0, 48.0))
    found = scores(store, features, answer, kind="time_to_event", horizon_hours=[24, 48])
    truth = [(event <= 24).mean(), (event <= 48).mean()]
    np.testing.assert_allclose(found, [truth] * 4, atol=0.04)
    # Of the samples with a known status too many have the event.
    assert np.nanmean(answer.outcomes(np.stack([hours, happened], 1))[:, 1]) > truth[1] + 0.1


FEW = {
    "multiclass": (
        Multiclass(("a", "b", "c")),
        {"label.t": [1.0, 1, 1, 1, 2, 0, NAN, NAN]},
        {},
        [1 / 6, 4 / 6, 1 / 6],
    ),
    "regression": (
        Regression(4.0, 2.0),
        {"label.t": [2.0] * 4 + [4, 4, NAN, NAN]},
        {"unit": "m"},
        [8 / 3],
    ),
    "time_to_event": (
        TimeToEvent((10.0,), (10.0,)),
        {
            "label.t": [20.0] * 4 + [5, 5, NAN, NAN],
            "label.t/observed": [0.0] * 4 + [1, 1, NAN, NAN],
        },
        {"horizon_hours": 10},
        [2 / 6],
    ),
}


@pytest.mark.parametrize("kind", FEW)
@pytest.mark.parametrize("invisible", [range(4, 6), range(6)], ids=["one class", "no label"])
def test_where_the_visible_labels_are_alike_or_absent_all_of_train_speak(kind, invisible):
    answer, labels, keys, expected = FEW[kind]
    store = Table(8, invisible=invisible, **labels)
    found = scores(store, np.zeros((8, 1), dtype=np.float32), answer, kind=kind, **keys)
    np.testing.assert_allclose(found, [expected] * len(found))
    assert len(found) >= 2
