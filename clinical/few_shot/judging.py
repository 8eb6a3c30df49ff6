"""Scores of many draws on the same held-out patients: means, intervals, paired differences."""

from clinical.evaluation.bootstrap import bootstrap, percentile_interval
from clinical.evaluation.metrics import Scored, compute
from clinical.few_shot.draws import Size

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Array = NDArray[np.float64]

METRICS = {"AUROC": "AUROC", "AUPRC": "AUPRC (average precision)"}
"""Name in a curve -> name in the evaluation."""


@dataclass(frozen=True)
class HeldOut:
    """Whom every draw is judged on.

    Attributes:
        subjects: [N] whose sample it is.
        labels: [N] 0 or 1.
    """

    subjects: NDArray[np.int64]
    labels: Array


@dataclass(frozen=True)
class Draw:
    """What a line said of the held-out samples after one draw of labels.

    Attributes:
        line: which model.
        size: of the draw.
        number: of the draw, from 0.
        n_labels, n_positives: that it saw, of train and tuning.
        scores: [N] of the held-out samples.
    """

    line: str
    size: Size
    number: int
    n_labels: int
    n_positives: int
    scores: Array


Values = dict[str, Array]
"""Metric -> [1 + resamples]: as it is, then under each resample."""


def resampled(
    draws: Sequence[Draw], held_out: HeldOut, *, resamples: int, seed: int
) -> list[Values]:
    """The metrics of each draw, all under the same resamples of held-out subjects."""
    computes = [partial(_metrics, Scored.of(draw.scores, held_out.labels)) for draw in draws]
    whole = np.ones((1, len(held_out.labels)))
    generator = np.random.default_rng(seed)
    many = bootstrap(computes, held_out.subjects, resamples=resamples, generator=generator)
    return [
        {name: np.r_[one[name], drawn[name]] for name in METRICS}
        for one, drawn in zip((compute(whole) for compute in computes), many, strict=True)
    ]


def _metrics(scored: Scored, weights: Array) -> Values:
    found = compute(scored, weights, METRICS.values())
    return {name: found[long] for name, long in METRICS.items()}


def by_draw(draws: Sequence[Draw], values: Sequence[Values]) -> pd.DataFrame:
    """A row a line, size and draw: each metric with its interval over held-out subjects."""
    rows = []
    for draw, of_draw in zip(draws, values, strict=True):
        row: dict[str, object] = {"line": draw.line, **_size(draw.size), "draw": draw.number}
        row |= {"labels": draw.n_labels, "positives_seen": draw.n_positives}
        rows.append({**row, **_intervals(of_draw)})
    return pd.DataFrame(rows)


def by_size(
    draws: Sequence[Draw], values: Sequence[Values], *, seed: int
) -> dict[tuple[str, Size], Values]:
    """The mean over draws of each line and size, as it is and under each resample.

    A resample holds what would differ in another study: held-out subjects are drawn anew, and so
    are the draws, by the same numbers for all lines, so that differences are paired in both.
    """
    generator = np.random.default_rng([seed, 1])
    found = {}
    for size in dict.fromkeys(draw.size for draw in draws):
        own = [(d, v) for d, v in zip(draws, values, strict=True) if d.size == size]
        n_draws = len({draw.number for draw, _ in own})
        n_values = len(own[0][1]["AUROC"])
        counts = generator.multinomial(n_draws, [1 / n_draws] * n_draws, size=n_values)
        counts[0] = 1
        for line in dict.fromkeys(draw.line for draw, _ in own):
            by_number = {d.number: v for d, v in own if d.line == line}
            of_line = [by_number[number] for number in sorted(by_number)]
            found[line, size] = {
                name: (np.stack([v[name] for v in of_line], axis=1) * counts).sum(axis=1) / n_draws
                for name in METRICS
            }
    return found


def mean_table(means: Mapping[tuple[str, Size], Values]) -> pd.DataFrame:
    """A row a line and size: each metric with its interval."""
    rows = [
        {"line": line, **_size(size), **_intervals(mean)} for (line, size), mean in means.items()
    ]
    return pd.DataFrame(rows)


def difference_table(means: Mapping[tuple[str, Size], Values]) -> pd.DataFrame:
    """A row a size and other line: what the first line's mean is above it, paired."""
    first, *others = dict.fromkeys(line for line, _ in means)
    rows = []
    for size in dict.fromkeys(size for _, size in means):
        for other in others:
            gap = {k: means[first, size][k] - means[other, size][k] for k in METRICS}
            rows.append({**_size(size), "line": first, "other": other, **_intervals(gap)})
    return pd.DataFrame(rows)


def _size(size: Size) -> dict[str, float | int]:
    if size.share is not None:
        return {"share": size.share}
    return {"positives": int(size.value)}


def _intervals(values: Values) -> dict[str, float]:
    row = {}
    for name, of_metric in values.items():
        interval = percentile_interval(of_metric[1:])
        column = name.lower()
        row[column] = float(of_metric[0])
        row[f"{column}_low"], row[f"{column}_high"] = interval.low, interval.high
    return row
