"""The truth of the synthetic hospital: exact, calibrated, and as difficult as it was set to be."""

from clinical.extract.synthetic import causes
from clinical.extract.synthetic.bayes import (
    References,
    find_references,
    outbreak_posterior,
    risk_given,
    risks,
)
from clinical.extract.synthetic.stays import WEEK, Stays, draw_stays

import numpy as np
import polars as pl
import pytest
from scipy.integrate import quad
from scipy.special import expit
from scipy.stats import norm


def expected_auroc(score: np.ndarray, risk: np.ndarray) -> float:
    """AUROC of a score over all labels that the risks could bring, instead of over one draw."""
    risk = risk[np.argsort(score, kind="stable")]
    survivors_below = np.cumsum(1 - risk) - (1 - risk)
    return float(risk @ survivors_below / (risk.sum() * (1 - risk).sum()))


@pytest.fixture(scope="module", params=[0, 1])
def large(request: pytest.FixtureRequest) -> tuple[Stays, pl.DataFrame]:
    stays = draw_stays(np.random.default_rng(request.param), 20_000, outbreak=True)
    return stays, risks(stays, outbreak=True)


def test_the_expected_auroc_is_that_of_the_pairs():
    rng = np.random.default_rng(0)
    score, risk = rng.normal(size=30), rng.random(30)
    pairs = [(i, j) for i in range(30) for j in range(30) if i != j]
    weights = [risk[i] * (1 - risk[j]) for i, j in pairs]
    right = sum(w for w, (i, j) in zip(weights, pairs, strict=True) if score[i] > score[j])
    # A patient's pair with itself is in the product of the sums, and in no ordering.
    total = risk.sum() * (1 - risk).sum()
    assert expected_auroc(score, risk) == pytest.approx(right / total)


def test_prevalence_and_bayes_auroc_are_as_set(large):
    stays, truth = large
    risk = truth["risk"].to_numpy()
    assert 0.10 <= stays.died.mean() <= 0.20
    assert 0.80 <= expected_auroc(risk, risk) <= 0.88


@pytest.mark.parametrize("cause", causes.CAUSES)
def test_each_cause_is_worth_two_to_five_points(large, cause):
    risk = large[1]["risk"].to_numpy()
    without = large[1][f"risk_without_{cause}"].to_numpy()
    worth = expected_auroc(risk, risk) - expected_auroc(without, risk)
    assert 0.02 <= worth <= 0.05


def test_every_risk_is_calibrated_to_the_labels(large):
    stays, truth = large
    for name in truth.columns:
        risk = truth[name].to_numpy()
        for tenth in np.array_split(np.argsort(risk), 10):
            error = stays.died[tenth].mean() - risk[tenth].mean()
            noise = np.sqrt((risk[tenth] * (1 - risk[tenth])).sum()) / len(tenth)
            # Patients of an outbreak share what the risk does not know, hence the wider noise.
            assert abs(error) < 4.5 * noise


def test_a_second_stay_says_nothing_of_the_lasting_causes():
    latents, surprises, variance = [], 0.0, 0.0
    for seed in range(100, 103):
        stays = draw_stays(np.random.default_rng(seed), 20_000, outbreak=True)
        is_second = np.concatenate([[False], stays.subject[1:] == stays.subject[:-1]])
        assert 0.05 < is_second.mean() < 0.15
        latents.append(stays.latents[is_second][:, [causes.FRAILTY, causes.CHRONIC]])
        risk = risks(stays, outbreak=True)["risk_without_chronic_disease"].to_numpy()[is_second]
        surprises += (stays.died[is_second] - risk).sum()
        variance += (risk * (1 - risk)).sum()
    pooled = np.concatenate(latents)
    # If every survivor came back with the same chance, these means were -0.14.
    assert np.abs(pooled.mean(axis=0)).max() < 4 / np.sqrt(len(pooled))
    assert abs(surprises) < 3 * np.sqrt(variance)


def test_the_outbreak_hardly_shows_in_one_patient(large):
    stays, truth = large
    none = np.zeros(len(stays))
    alone = outbreak_posterior(stays, References(none.astype(int), none, none.astype(int), none))
    known = np.ones(stays.readings.shape, dtype=bool)
    known[:, causes.INFILTRATE], known[:, causes.FRAILTY] = stays.has_image, stays.has_note
    risk = truth["risk"].to_numpy()
    without = expected_auroc(truth["risk_without_outbreak"].to_numpy(), risk)
    by_itself = expected_auroc(risk_given(stays.readings, known, alone), risk) - without
    assert 0 < by_itself < 0.25 * (expected_auroc(risk, risk) - without)


@pytest.mark.parametrize("subjects", [100, 1000, 20_000])
def test_the_median_sample_has_eight_references_whatever_the_size(subjects):
    stays = draw_stays(np.random.default_rng(3), subjects, outbreak=True)
    references = find_references(stays)
    assert np.median(references.n_same) >= 8
    assert np.median(references.n_same + references.n_before) < 40


def naive_posterior(stays: Stays, i: int) -> float:
    """Both weeks' states, each with its prior and the density of every permitted marker."""
    age = stays.prediction[i] - stays.prediction
    permitted = (stays.subject != stays.subject[i]) & (stays.unit == stays.unit[i])
    permitted &= (age >= 0) & (age <= WEEK)
    permitted[i] = True
    same_week = stays.admission // WEEK == stays.admission[i] // WEEK
    share, joint = causes.OUTBREAK_SHARE, {}
    for before in (0, 1):
        for now in (0, 1):
            chance = share + causes.OUTBREAK_PERSISTENCE * (before - share)
            prior = (share if before else 1 - share) * (chance if now else 1 - chance)
            mean = causes.OUTBREAK_SHIFT * np.where(same_week, now, before)
            joint[before, now] = prior * norm.pdf(stays.marker - mean)[permitted].prod()
    return (joint[0, 1] + joint[1, 1]) / sum(joint.values())


def test_the_outbreak_posterior_is_that_of_a_naive_enumeration():
    stays = draw_stays(np.random.default_rng(4), 400, outbreak=True)
    fast = outbreak_posterior(stays, find_references(stays))
    naive = [naive_posterior(stays, i) for i in range(len(stays))]
    np.testing.assert_allclose(fast, naive, atol=1e-9)


def test_a_later_stay_changes_no_earlier_risk():
    stays = draw_stays(np.random.default_rng(5), 500, outbreak=True)
    cut = np.median(stays.admission)
    earlier = stays.take(np.flatnonzero(stays.admission <= cut))
    whole = risks(stays, outbreak=True).filter(pl.Series(stays.admission <= cut))
    part = risks(earlier, outbreak=True)
    np.testing.assert_allclose(part.to_numpy(), whole.to_numpy(), atol=1e-12)


def test_an_absent_modality_is_worth_nothing(large):
    stays, truth = large
    absent = {"frailty": ~stays.has_note, "infiltrate": ~stays.has_image}
    for cause, rows in absent.items():
        difference = (truth["risk"] - truth[f"risk_without_{cause}"]).to_numpy()
        assert not difference[rows].any()
        assert difference[~rows].all()
    assert 0.13 < absent["frailty"].mean() < 0.17
    assert 0.37 < absent["infiltrate"].mean() < 0.43


@pytest.mark.parametrize(("mean", "variance"), [(-3.0, 4.0), (0.5, 0.3), (6.0, 7.0), (-1.0, 0.0)])
def test_the_mean_of_a_sigmoid_is_its_integral(mean, variance):
    spread = np.sqrt(variance)
    exact = quad(lambda z: expit(mean + spread * z) * norm.pdf(z), -12, 12)[0]
    fast = causes.mean_sigmoid(np.array([mean]), np.array([variance]))[0]
    assert fast == pytest.approx(exact, abs=1e-6)


def test_readings_are_the_causes_with_noise(large):
    stays, _ = large
    first = np.concatenate([[True], stays.subject[1:] != stays.subject[:-1]])
    latents, readings = stays.latents[first], stays.readings[first]
    np.testing.assert_allclose(latents.std(axis=0), 1, atol=0.03)
    np.testing.assert_allclose((readings - latents).std(axis=0), causes.READING_NOISE, atol=0.02)
    correlation = np.corrcoef(np.concatenate([latents, readings - latents], axis=1).T)
    assert np.abs(correlation - np.eye(10)).max() < 0.04
