"""How well hidden edges between patients and codes are told from edges that never were."""

from clinical.errors import SchemaError
from clinical.evaluation.bootstrap import bootstrap, percentile_interval
from clinical.evaluation.metrics import Scored, compute

from functools import partial

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Array = NDArray[np.float64]

COLUMNS = ("subject_id", "code", "score", "train_subjects", "is_edge")
ALL = "all non-edges"
MATCHED = "popularity-matched"


def evaluate_links(links: pd.DataFrame, *, resamples: int = 1000, seed: int = 0) -> pd.DataFrame:
    """AUROC of hidden edges against non-edges, beside that of how common each code is.

    Against all non-edges, a score is already good that only knows which codes are common.
    Popularity-matched, each code's non-edges together weigh as much as its edges: so both have
    each code equally often, popularity is worth exactly 0.5, and what is left is to know the
    patient. A code that everybody or nobody was hidden from is not part of that.

    Args:
        links: one row a sample and candidate code, all candidates of each sample:
            `subject_id, code, score, train_subjects, is_edge`; the last is true where the code
            was hidden, and what `Predictor.link(top=None)` gives has the rest.
        resamples: of the bootstrap, which draws subjects.
        seed: of the bootstrap.

    Returns:
        A row for each choice of non-edges: `negatives, edges, subjects, auroc, low, high,
        popularity, popularity_low, popularity_high, difference, difference_low,
        difference_high`, with 95 % intervals.

    Raises:
        SchemaError: a column is missing, a score is not between 0 and 1, or there are no edges or
            no non-edges.
    """
    _check(links)
    labels = links["is_edge"].to_numpy().astype(np.float64)
    subjects = links["subject_id"].to_numpy().astype(np.int64)
    common = links["train_subjects"].to_numpy().astype(np.float64)
    sides = (links["score"].to_numpy().astype(np.float64), common / max(common.max(), 1.0))
    sorted_sides = [Scored.of(scores, labels) for scores in sides]
    rows = []
    for name, weight in ((ALL, np.ones(len(links))), (MATCHED, _matched(links["code"], labels))):
        computes = [partial(_auroc, scored, weight) for scored in sorted_sides]
        points = [float(of(np.ones((1, len(links))))["AUROC"][0]) for of in computes]
        draws = bootstrap(
            computes, subjects, resamples=resamples, generator=np.random.default_rng(seed)
        )
        model, popular = (drawn["AUROC"] for drawn in draws)
        counted = (labels > 0) & (weight > 0)
        row: dict[str, object] = {"negatives": name, "edges": int(counted.sum())}
        row["subjects"] = len(np.unique(subjects[counted]))
        row |= _with_interval("auroc", points[0], model)
        row |= _with_interval("popularity", points[1], popular)
        row |= _with_interval("difference", points[0] - points[1], model - popular)
        rows.append(row)
    return pd.DataFrame(rows).rename(columns={"auroc_low": "low", "auroc_high": "high"})


def _matched(code: pd.Series, labels: Array) -> Array:
    """[N] weights by which edges and non-edges have each code equally often."""
    _, place = np.unique(code.to_numpy().astype(str), return_inverse=True)
    edges = np.bincount(place, weights=labels)
    non_edges = np.bincount(place, weights=1 - labels)
    share = np.divide(edges, non_edges, out=np.zeros_like(edges), where=non_edges > 0)
    of_edge = (non_edges > 0).astype(np.float64)
    weights: Array = np.where(labels > 0, of_edge[place], share[place])
    return weights


def _auroc(scored: Scored, weight: Array, drawn: Array) -> dict[str, Array]:
    return compute(scored, drawn * weight, ["AUROC"])


def _with_interval(name: str, value: float, draws: Array) -> dict[str, float]:
    around = percentile_interval(draws)
    return {name: value, f"{name}_low": around.low, f"{name}_high": around.high}


def _check(links: pd.DataFrame) -> None:
    missing = [column for column in COLUMNS if column not in links.columns]
    if missing:
        raise SchemaError(
            f"links: there is no column {', '.join(missing)}; take the table that Predictor.link "
            "gives and add is_edge, true where the code was hidden"
        )
    outside = int((~links["score"].between(0, 1)).sum())
    if outside:
        raise SchemaError(f"links: {outside} scores are not between 0 and 1; give probabilities")
    if links["is_edge"].nunique() < 2:
        raise SchemaError(
            "links: there are no hidden edges, or nothing but these; give all candidates "
            "(top=None) of patients from whom codes were hidden"
        )
