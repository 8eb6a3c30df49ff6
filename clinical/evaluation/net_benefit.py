"""Decision curves: what acting on a risk is worth, by how readily one acts (Vickers, Elkin 2006).

Whoever acts from a risk of p on takes (1 - p) / p needless actions for one needed one. Net benefit
counts in these terms: true alerts, less false ones times p / (1 - p), a patient.
"""

from __future__ import annotations

from clinical.errors import ConfigError
from clinical.evaluation.bootstrap import TAILS, bootstrap
from clinical.evaluation.judged import Judged, YesOrNo
from clinical.evaluation.metrics import ratio

from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Array = NDArray[np.float64]

STEP = 0.01
LEAST_REACH = 0.1


def decision_curve(
    judged: Judged, risks: Sequence[float] | None, *, resamples: int, seed: int
) -> pd.DataFrame:
    """Net benefit at each risk from which on one acts.

    Args:
        judged: scores and labels of a yes or no.
        risks: [T] between 0 and 1; by default every 1 % up to where twice the event rate and the
            top 1 % of the scores are.
        resamples, seed: of the bootstrap by subject.

    Returns:
        [T] rows: risk, model, model_low, model_high, with a baseline also baseline and difference
        (model - baseline) with their intervals, and act_on_all; acting on nobody is 0.

    Raises:
        ConfigError: a risk is not between 0 and 1.
    """
    sets = {"model": judged.scores}
    if judged.baseline is not None:
        sets["baseline"] = judged.baseline
    seen = [one for scores in sets.values() if (one := judged.yes_or_no(scores)) is not None]
    at = np.asarray(_usual(seen[0]) if risks is None else risks, dtype=np.float64)
    if wrong := [risk for risk in at if not 0 < risk < 1]:
        raise ConfigError(f"risks: {wrong[0]:g} should be between 0 and 1")
    table = pd.DataFrame({"risk": at})
    if not seen[0].known.any():
        return table.assign(model=np.nan, model_low=np.nan, model_high=np.nan, act_on_all=np.nan)
    computes = [partial(_curve, one, at) for one in seen]
    ones = np.ones((1, len(judged.subjects)))
    points = [compute(ones) for compute in computes]
    generator = np.random.default_rng(seed)
    draws = bootstrap(computes, judged.subjects, resamples=resamples, generator=generator)
    curves = {
        name: (point["curve"][0], drawn["curve"])
        for name, point, drawn in zip(sets, points, draws, strict=True)
    }
    if judged.baseline is not None:
        first, second = curves["model"], curves["baseline"]
        curves["difference"] = (first[0] - second[0], first[1] - second[1])
    for name, (value, drawn) in curves.items():
        low, high = np.nanquantile(drawn, TAILS, axis=0)
        table[name], table[f"{name}_low"], table[f"{name}_high"] = value, low, high
    return table.assign(act_on_all=points[0]["all"][0])


def _curve(seen: YesOrNo, risks: Array, weights: Array) -> dict[str, Array]:
    """Net benefit [R, T] of acting from each risk on, and of acting on everybody."""
    alerts = seen.alerts(risks, weights)
    odds = risks / (1 - risks)
    return {
        "curve": ratio(alerts.true - alerts.false * odds, alerts.total),
        "all": ratio(alerts.positives - alerts.negatives * odds, alerts.total),
    }


def _usual(seen: YesOrNo) -> Array:
    """Risks every 1 %, as far as they may matter."""
    reach = LEAST_REACH
    if len(seen.counts):
        rate = float(seen.counts @ seen.scored.labels / seen.counts.sum())
        reach = max(reach, 2 * rate, float(np.quantile(seen.scored.scores, 0.99)))
    reach = min(0.95, np.ceil(reach * 20) / 20)
    return np.asarray(np.arange(1, round(reach / STEP) + 1) * STEP)
