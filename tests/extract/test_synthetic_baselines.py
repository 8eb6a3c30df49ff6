"""Simple models trained on 20,000 stays stay below what the readings they look at would allow."""

from clinical.extract.synthetic import causes
from clinical.extract.synthetic.bayes import (
    References,
    outbreak_posterior,
    risk_given,
    risks,
)
from clinical.extract.synthetic.render_events import render_events
from clinical.extract.synthetic.render_notes import DISCHARGE, render_notes
from clinical.extract.synthetic.stays import Stays, draw_stays

import numpy as np
import polars as pl
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

pytestmark = pytest.mark.slow("trains on 20,000 stays")


@pytest.fixture(scope="module")
def stays() -> Stays:
    return draw_stays(np.random.default_rng(31), 20_000, outbreak=True)


def auroc(stays: Stays, features: object, strength: float) -> float:
    model = make_pipeline(
        StandardScaler(with_mean=False), LogisticRegression(C=strength, max_iter=300)
    )
    scores = cross_val_predict(model, features, stays.died, cv=3, method="decision_function")
    return float(roc_auc_score(stays.died, scores))


def auroc_of_reading(stays: Stays, cause: int) -> float:
    """Of the Bayes risk that knows this reading, and with severity the stay's own marker."""
    known = np.zeros(stays.readings.shape, dtype=bool)
    known[:, cause] = True
    known[:, causes.FRAILTY] &= stays.has_note
    outbreak = np.full(len(stays), causes.OUTBREAK_SHARE)
    if cause == causes.SEVERITY:
        none = np.zeros(len(stays))
        alone = References(none.astype(int), none, none.astype(int), none)
        outbreak = outbreak_posterior(stays, alone)
    return float(roc_auc_score(stays.died, risk_given(stays.readings, known, outbreak)))


def test_averaging_values_falls_short(stays):
    rows = render_events(np.random.default_rng(1), stays)
    prediction = pl.Series(stays.prediction).gather(rows["stay"])
    means = (
        rows.filter(pl.col("minute") <= prediction)
        .group_by("stay", "code")
        .agg(pl.col("numeric_value").mean())
        .pivot(on="code", index="stay", values="numeric_value")
        .sort("stay")
        .drop("stay")
        .to_numpy()
    )
    means = np.where(np.isnan(means), np.nanmean(means, axis=0), means)
    possible = auroc_of_reading(stays, causes.SEVERITY) - 0.5
    assert possible > 0.12
    assert auroc(stays, means, 0.1) - 0.5 < 0.7 * possible


@pytest.mark.parametrize(("words", "share"), [((1, 1), 0.65), ((1, 2), 0.85)])
def test_counting_words_falls_short(stays, words, share):
    rows = render_notes(np.random.default_rng(2), stays).filter(pl.col("code") != DISCHARGE)
    joined = rows.group_by("stay").agg(pl.col("text_value").str.join(" "))
    texts = np.full(len(stays), "", dtype=object)
    texts[joined["stay"].to_numpy()] = joined["text_value"].to_list()
    counts = TfidfVectorizer(ngram_range=words, min_df=20).fit_transform(texts)
    possible = auroc_of_reading(stays, causes.FRAILTY) - 0.5
    assert possible > 0.12
    best = max(auroc(stays, counts, strength) for strength in (0.0001, 0.001, 0.01)) - 0.5
    assert best < share * possible


def test_a_logistic_regression_on_all_readings_nearly_reaches_the_bayes_risk(stays):
    """So what the baselines lack is in how the modalities are read, not in how they add up."""
    known = stays.readings.copy()
    known[~stays.has_image, causes.INFILTRATE] = 0
    known[~stays.has_note, causes.FRAILTY] = 0
    truth = risks(stays, outbreak=True)
    without = float(roc_auc_score(stays.died, truth["risk_without_outbreak"]))
    assert abs(auroc(stays, known, 1.0) - without) < 0.01
