"""What holds for every expert of the menu."""

from clinical.errors import BundleError
from clinical.experts import EXPERTS

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score


@pytest.fixture(params=EXPERTS)
def kind(request):
    if request.param == "lightgbm":
        pytest.importorskip("lightgbm")
    return EXPERTS[request.param]


@pytest.fixture
def fitted(kind, table):
    return kind.fit(*table(400, seed=0), seed=1, threads=1)


def test_it_ranks_samples_it_never_saw(fitted, table):
    features, labels = table(400, seed=1)
    assert roc_auc_score(labels, fitted.logit(features)) > 0.85


def test_its_text_holds_all_of_it(kind, fitted, table):
    features, _ = table(300, seed=1)
    again = kind.read(fitted.text)
    assert again.n_features == fitted.n_features == 6
    assert np.array_equal(again.logit(features), fitted.logit(features))


def test_a_sample_has_the_same_logit_alone_and_among_others(fitted, table):
    features, _ = table(300, seed=1)
    alone = np.concatenate([fitted.logit(row[None]) for row in features[-5:]])
    np.testing.assert_allclose(alone, fitted.logit(features)[-5:], atol=1e-9)


def test_the_same_seed_gives_the_same_expert(kind, fitted, table):
    assert kind.fit(*table(400, seed=0), seed=1, threads=1).text == fitted.text


def test_nothing_known_and_numbers_never_seen_get_a_finite_logit(fitted):
    odd = np.array([[np.nan] * 6, [1e30] * 6, [-1e30] * 6], dtype=np.float32)
    assert np.isfinite(fitted.logit(odd)).all()
    assert fitted.logit(odd[:0]).shape == (0,)


def test_features_that_say_nothing_leave_the_base_rate(kind, table):
    _, labels = table(400, seed=0)
    empty = np.full((400, 3), np.nan, dtype=np.float32)
    empty[:, 1] = 7.0
    logit = kind.fit(empty, labels, seed=1, threads=1).logit(empty[:2])
    np.testing.assert_allclose(logit, np.log(labels.mean() / (1 - labels.mean())), atol=1e-3)


def test_a_few_labels_are_enough_to_fit(kind, table):
    features, _ = table(4, seed=0)
    labels = np.array([0.0, 1.0, 0.0, 1.0])
    assert np.isfinite(kind.fit(features, labels, seed=1, threads=1).logit(features)).all()


def test_thirty_labels_tell_samples_apart(kind, table):
    features, _ = table(200, seed=1)
    logit = kind.fit(*table(30, seed=0), seed=1, threads=1).logit(features)
    assert len(np.unique(logit)) > 5


@pytest.mark.parametrize("text", ["", "{", "[1]", "tree", "{}"])
def test_damaged_text_is_refused(kind, text):
    with pytest.raises(BundleError):
        kind.read(text)
