"""DeLong's test: whether one model ranks better than another, without resampling.

The structural components are found from ranks (Sun and Xu, 2014), in O(N log N). Rows of one
subject are not independent: components are added up within subjects, as Obuchowski (1997) does for
clustered data, which is DeLong's (1988) variance where each subject has one row.
"""

from __future__ import annotations

from clinical.evaluation.judged import Judged

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, rankdata

Array = NDArray[np.float64]

PLAIN = "DeLong (1988)"
CLUSTERED = "DeLong, rows clustered by subject (Obuchowski, 1997)"
Z_95 = float(norm.ppf(0.975))


def auroc_covariance(
    scores: Array, labels: Array, subjects: NDArray[np.int64]
) -> tuple[Array, Array]:
    """AUROC of several sets of scores on the same rows, and how they vary together.

    Args:
        scores: [S, N].
        labels: [N] 0.0 or 1.0, both of them there.
        subjects: [N] whose row it is.

    Returns:
        [S] AUROC; [S, S] covariance, NaN with fewer than two subjects of either label.
    """
    is_positive = labels == 1
    components = np.stack([_components(each, is_positive) for each in scores])
    auroc = components[:, is_positive].mean(axis=1)
    _, place = np.unique(subjects, return_inverse=True)
    of_positives, of_negatives = (
        _by_subject(np.where(rows, components - auroc[:, None], 0.0), place)
        for rows in (is_positive, ~is_positive)
    )
    m, n = int(is_positive.sum()), int((~is_positive).sum())
    covariance = _scaled(of_positives, place[is_positive]) / m**2
    covariance += _scaled(of_negatives, place[~is_positive]) / n**2
    # Of subjects with rows of both labels; without any it is 0.
    n_subjects = int(place.max()) + 1
    across = of_positives @ of_negatives.T * (n_subjects / max(n_subjects - 1, 1)) / (m * n)
    return auroc, covariance + across + across.T


def _components(scores: Array, is_positive: NDArray[np.bool_]) -> Array:
    """[N] the share of the rows of the other label that each row is on the right side of."""
    m, n = int(is_positive.sum()), int((~is_positive).sum())
    among_all = rankdata(scores)
    found = np.empty(len(scores))
    found[is_positive] = (among_all[is_positive] - rankdata(scores[is_positive])) / n
    found[~is_positive] = 1 - (among_all[~is_positive] - rankdata(scores[~is_positive])) / m
    return found


def _by_subject(values: Array, place: NDArray[np.int64]) -> Array:
    """[S, I] sums of [S, N] over each subject's rows."""
    return np.stack([np.bincount(place, weights=each) for each in values])


def _scaled(sums: Array, with_it: NDArray[np.int64]) -> Array:
    """[S, S] products of sums over subjects, of whom only those in `with_it` have such rows."""
    count = len(np.unique(with_it))
    scale = count / (count - 1) if count > 1 else math.nan
    return np.asarray(sums @ sums.T * scale)


def delong_row(judged: Judged) -> dict[str, Any] | None:
    """The test between a model and its baseline; None where there are no two AUROC to compare.

    Returns:
        task, class, model, baseline, difference (of AUROC), low, high (95 % interval),
        standard_error, z, p_value (two-sided), method.
    """
    labels = judged.labels
    if judged.kind != "binary" or judged.baseline is None or len(np.unique(labels)) < 2:
        return None
    scores = np.stack([judged.scores, judged.baseline])
    auroc, covariance = auroc_covariance(scores, labels, judged.subjects)
    contrast = np.array([1.0, -1.0])
    # Scores that rank alike have no variance but for rounding.
    error = math.sqrt(max(float(contrast @ covariance @ contrast), 0.0))
    difference = float(auroc[0] - auroc[1])
    z = difference / error if error > 1e-12 else math.nan
    p_value = 2 * float(norm.sf(abs(z))) if math.isfinite(z) else math.nan
    return {
        "task": judged.task,
        "class": judged.label_class,
        "model": float(auroc[0]),
        "baseline": float(auroc[1]),
        "difference": difference,
        "low": difference - Z_95 * error,
        "high": difference + Z_95 * error,
        "standard_error": error,
        "z": z,
        "p_value": p_value,
        "method": PLAIN if len(np.unique(judged.subjects)) == len(labels) else CLUSTERED,
    }
