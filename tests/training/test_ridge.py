"""Ridge regression: exact without the subject, deaf to blocks that tell nothing."""

from clinical.calibration import sigmoid
from clinical.training.ridge import _LeastSquares, fit_lines

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score


def draw(n: int, *, seed: int = 0, n_useless: int = 40) -> tuple[list[np.ndarray], np.ndarray]:
    """A block of five features that tell the logit, and one that tells nothing."""
    rng = np.random.default_rng(seed)
    told, useless = rng.normal(3.0, 2.0, (n, 5)), rng.normal(size=(n, n_useless))
    return [told, useless], (told - 3.0) @ np.array([0.5, -0.5, 0.25, 0.0, 0.0])


def test_a_subject_is_left_out_as_if_the_rest_were_fitted_again() -> None:
    rng = np.random.default_rng(0)
    blocks = [rng.normal(size=(40, 3)), rng.normal(size=(40, 6))]
    targets, subject = rng.normal(size=(40, 2)), rng.integers(0, 15, 40)
    problem, shares = _LeastSquares(blocks, targets, subject), [0.3, 0.01]
    fit = problem.solve(shares)
    design = np.hstack([np.ones((40, 1)), *blocks])
    penalty = np.diag(np.repeat([0.0, 1 / 0.3, 1 / 0.01], [1, 3, 6]))
    assert sorted(problem.judged) == list(range(40))
    for place, row in enumerate(problem.judged):
        others = subject != subject[row]
        gram = design[others].T @ design[others] + penalty
        again = np.linalg.solve(gram, design[others].T @ targets[others])
        assert fit.left_out[place] == pytest.approx(design[row] @ again)


def test_finds_the_logit_and_shrinks_what_tells_nothing() -> None:
    blocks, logit = draw(3000)
    labels = (np.random.default_rng(1).random(3000) < sigmoid(logit)).astype(float)
    lines = fit_lines(blocks, labels[:, None], np.arange(3000), are_probabilities=True)
    assert lines.weights[0][:3, 0] == pytest.approx([0.5, -0.5, 0.25], abs=0.1)
    assert np.abs(lines.weights[1]).max() < 0.03
    new, truth = draw(2000, seed=5)
    said = lines(new)[:, 0]
    assert np.corrcoef(said, truth)[0, 1] > 0.97
    assert np.polyfit(said, truth, 1) == pytest.approx([1.0, 0.0], abs=0.15)


def test_what_only_tells_subjects_apart_earns_no_weight() -> None:
    rng = np.random.default_rng(0)
    subject = np.repeat(np.arange(60), 5)
    fingerprint = np.eye(60)[subject] + 0.01 * rng.normal(size=(300, 60))
    labels = (rng.random(60) < 0.5).astype(float)[subject]
    lines = fit_lines([fingerprint], labels[:, None], subject, are_probabilities=True)
    spread = lines([fingerprint])[:, 0].std()
    each = fit_lines([fingerprint], labels[:, None], np.arange(300), are_probabilities=True)
    assert spread < 0.3 < each([fingerprint])[:, 0].std()


def test_several_targets_share_how_far_blocks_are_shrunk() -> None:
    blocks, logit = draw(400)
    rng = np.random.default_rng(1)
    targets = np.column_stack([logit, -2 * logit + 7]) + 0.1 * rng.normal(size=(400, 2))
    lines = fit_lines(blocks, targets, np.arange(400), are_probabilities=False)
    assert np.abs(lines(blocks) - np.column_stack([logit, -2 * logit + 7])).max() < 0.5


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_one_answer_alone_is_said_of_everybody(value) -> None:
    blocks, _ = draw(50)
    lines = fit_lines(blocks, np.full((50, 1), value), np.arange(50), are_probabilities=True)
    said = lines(blocks)
    assert np.ptp(said) < 1e-9
    assert abs(sigmoid(said) - value).max() < 0.05


def test_a_handful_of_labels_gives_no_wild_logits() -> None:
    blocks, logit = draw(12)
    labels = (logit > 0).astype(float)
    lines = fit_lines(blocks, labels[:, None], np.arange(12), are_probabilities=True)
    new, truth = draw(500, seed=3)
    said = lines(new)[:, 0]
    assert np.abs(said).max() < 10
    assert roc_auc_score(truth > 0, said) > 0.6


def test_features_that_never_vary_change_nothing() -> None:
    blocks, logit = draw(200)
    labels = (np.random.default_rng(1).random(200) < sigmoid(logit)).astype(float)[:, None]
    alone = fit_lines(blocks, labels, np.arange(200), are_probabilities=True)
    beside = fit_lines([*blocks, np.ones((200, 2))], labels, np.arange(200), are_probabilities=True)
    np.testing.assert_allclose(alone(blocks), beside([*blocks, np.ones((200, 2))]), atol=1e-6)


def test_many_subjects_choose_however_many_samples_each_has() -> None:
    blocks, logit = draw(6000)
    subject = np.arange(6000) // 100
    judged = _LeastSquares(blocks, logit[:, None], subject).judged
    assert len(np.unique(subject[judged])) == 60


def test_shares_that_were_chosen_before_are_used_again() -> None:
    blocks, logit = draw(300)
    targets, subject = logit[:, None], np.arange(300)
    first = fit_lines(blocks, targets, subject, are_probabilities=False)
    again = fit_lines(blocks, targets, subject, are_probabilities=False, shares=first.shares)
    other = fit_lines(blocks, targets, subject, are_probabilities=False, shares=[1e-3, 1e-3])
    np.testing.assert_array_equal(first(blocks), again(blocks))
    assert np.abs(first(blocks) - other(blocks)).max() > 0.01
