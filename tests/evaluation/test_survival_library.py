"""Metrics of time-to-event tasks agree with scikit-survival."""

from clinical.evaluation import evaluate
from clinical.evaluation.horizons import Horizons
from clinical.evaluation.survival import Survival

import numpy as np
import pandas as pd
import pytest
from sksurv.metrics import (
    brier_score,
    concordance_index_censored,
    cumulative_dynamic_auc,
    integrated_brier_score,
)
from sksurv.util import Surv

N = 400
HORIZONS = (12.0, 24.0, 36.0, 60.0)
ONE = np.ones((1, N))


@pytest.fixture(scope="module")
def followed():
    """Risks [N, H], hours, observed, and the last two as scikit-survival has them."""
    generator = np.random.default_rng(3)
    rate = generator.exponential(0.02, N)
    event, end = generator.exponential(1 / rate), generator.uniform(5, 120, N)
    hours, observed = np.minimum(event, end), event <= end
    scores = 1 - np.exp(-1.4 * rate[:, None] * np.array(HORIZONS))
    return scores, hours, observed, Surv.from_arrays(observed, hours)


def test_concordance_is_that_of_the_library(followed):
    scores, hours, observed, _ = followed
    found = Survival(scores[:, 1], hours, observed, 24.0).compute(ONE, ["concordance"])
    expected = concordance_index_censored(observed, hours, scores[:, 1])[0]
    assert found["concordance"][0] == pytest.approx(expected, abs=1e-9)


def test_brier_and_auroc_at_a_horizon_are_those_of_the_library(followed):
    scores, hours, observed, known = followed
    for place, horizon in enumerate(HORIZONS):
        found = Survival(scores[:, place], hours, observed, horizon).compute(ONE, Survival.names)
        _, (expected,) = brier_score(known, known, 1 - scores[:, [place]], [horizon])
        assert found["Brier at horizon"][0] == pytest.approx(expected, abs=1e-9)
        (expected,), _ = cumulative_dynamic_auc(known, known, scores[:, place], [horizon])
        assert found["AUROC at horizon"][0] == pytest.approx(expected, abs=1e-9)


def test_the_integrated_brier_score_is_that_of_the_library(followed):
    scores, hours, observed, known = followed
    found = Horizons(scores, hours, observed, HORIZONS).compute(ONE, Horizons.names)
    expected = integrated_brier_score(known, known, 1 - scores, HORIZONS)
    assert found["integrated Brier"][0] == pytest.approx(expected, abs=1e-9)


def test_scaled_it_is_zero_for_the_rate_of_each_horizon(followed):
    _, hours, observed, known = followed
    rates = []
    for horizon in HORIZONS:
        one = Survival(np.full(N, 0.5), hours, observed, horizon)
        _, scored, counts = one._at_horizon
        rates.append(counts @ scored.labels / counts.sum())
    same = Horizons(np.tile(rates, (N, 1)), hours, observed, HORIZONS).compute(ONE, Horizons.names)
    assert same["scaled integrated Brier"][0] == pytest.approx(0, abs=1e-12)
    assert same["integrated Brier"][0] == pytest.approx(
        integrated_brier_score(known, known, np.tile(1 - np.array(rates), (N, 1)), HORIZONS)
    )


def test_observed_events_are_those_of_kaplan_and_meier(followed):
    scores, hours, observed, _ = followed
    found = Survival(scores[:, 1], hours, observed, 24.0).compute(
        ONE, ["observed / expected at horizon"]
    )
    surviving = 1.0
    for time in np.unique(hours[observed & (hours <= 24)]):
        surviving *= 1 - (hours[observed] == time).sum() / (hours >= time).sum()
    status = Survival(scores[:, 1], hours, observed, 24.0)
    known, _, counts = status._at_horizon
    expected = (1 - surviving) * counts.sum() / (counts @ scores[known, 1])
    assert found["observed / expected at horizon"][0] == pytest.approx(expected, abs=1e-9)


def table(followed, horizons):
    scores, hours, observed, _ = followed
    parts = [
        pd.DataFrame(
            {
                "subject_id": np.arange(N),
                "prediction_time": pd.Timestamp("2150-01-01"),
                "task": "death",
                "horizon_hours": HORIZONS[place],
                "score": scores[:, place],
                "label": hours,
                "label_observed": observed,
            }
        )
        for place in horizons
    ]
    return pd.concat(parts, ignore_index=True)


def test_horizons_are_judged_together_in_whatever_order_they_stand(followed):
    found = evaluate(table(followed, [2, 0, 1, 3]), resamples=20).table
    row = found[found["metric"] == "integrated Brier"].iloc[0]
    scores, _, _, known = followed
    expected = integrated_brier_score(known, known, 1 - scores, HORIZONS)
    assert row["value"] == pytest.approx(expected, abs=1e-9)
    assert row["low"] < row["value"] < row["high"]
    assert row["note"] == "from 12 to 60 hours"


def test_one_horizon_is_not_integrated(followed):
    found = evaluate(table(followed, [1]), resamples=5).table
    assert "integrated Brier" not in set(found["metric"])
