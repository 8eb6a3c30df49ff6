"""What is calibrated is of people, however many rows they have."""

from clinical.typicality import Looked, Typicality, fit_typicality
from clinical.typicality.surprise import Seen
from clinical.typicality.views import Table

import numpy as np
import pytest
import torch

N = 300


def looked(value: np.ndarray) -> Looked:
    """Samples of one variable at `value` [N]."""
    known = torch.ones(len(value), 1, dtype=torch.bool)
    table = Table(torch.from_numpy(value).float()[:, None, None], known)
    return Looked({"static": Seen(known[:, 0], table, None)}, {"static": table})


@pytest.fixture(scope="module")
def fitted() -> Typicality:
    draws = np.random.default_rng(0)
    train = looked(draws.normal(size=N))
    return fit_typicality([train], np.arange(N), {"static": ["Weight"]}, draws)


def everything(known: Typicality, value: np.ndarray) -> np.ndarray:
    return known.p_values(known.surprise(looked(value)))[:, -1].numpy()


def test_a_few_long_quiet_stays_do_not_make_others_atypical(fitted):
    draws = np.random.default_rng(1)
    quiet, others = 0.1 * draws.normal(size=2000), draws.normal(size=190)
    whose = np.concatenate([np.repeat(np.arange(10), 200), np.arange(10, 200)])
    known = fitted.calibrate([looked(quiet), looked(others)], whose)
    assert known.n_calibrated == 200
    np.testing.assert_allclose(known.reference.total, [200, 200, N])
    found = everything(known, draws.normal(size=4000))
    assert 0.01 < (found <= 0.05).mean() <= 0.06
    assert found.min() >= 1 / 201 - 1e-9


def test_fewer_than_ten_people_calibrate_nothing_however_many_rows_they_have(fitted):
    rows = np.random.default_rng(1).normal(size=900)
    known = fitted.calibrate([looked(rows)], np.arange(900) % 9)
    assert known.n_calibrated == 0
    assert np.isnan(everything(known, rows[:5])).all()


def test_nothing_that_is_kept_is_the_distance_of_the_most_unusual_of_train():
    value = np.random.default_rng(0).normal(size=N)
    value[7] = 30.0
    draws = np.random.default_rng(1)
    known = fit_typicality([looked(value)], np.arange(N), {"static": ["Weight"]}, draws)
    variables = known.modalities["static"].variables
    away = variables.distances.log_distance(looked(value).tables["static"].value)
    kept = variables.tails.x[variables.tails.x.isfinite()]
    assert len(kept) <= N / 10
    assert kept.max() < away[7].item() - 1


@pytest.mark.parametrize("n_rows", [1, 4])
def test_rows_of_train_share_the_weight_of_their_person(n_rows):
    value = np.random.default_rng(0).normal(size=45).repeat(n_rows)
    whose = np.arange(45).repeat(n_rows)
    draws = np.random.default_rng(1)
    known = fit_typicality([looked(value)], whose, {"static": ["Weight"]}, draws)
    kept = known.modalities["static"].variables.tails.x
    assert 1 <= kept.isfinite().sum() <= 4
