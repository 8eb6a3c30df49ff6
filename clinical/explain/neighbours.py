"""Which relations and neighbours mattered for each score."""

from clinical.cohort.store import Store
from clinical.errors import ConfigError
from clinical.explain.ablation import Ablated, ablate
from clinical.explain.asked import binary_tasks
from clinical.predictor import Predictor

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl

TOP = 5
NARROWEST = 1e-12
"""Between a score and 0 or 1, so that log odds stay finite."""


def explain_neighbours(
    predictor: Predictor | str | Path,
    extract: str | Path,
    *,
    samples: pd.DataFrame | None = None,
    context: str | Path | None = None,
    work: str | Path | None = None,
    task: str | None = None,
    top: int = TOP,
) -> pd.DataFrame:
    """What each relation and each neighbour did to the scores of an extract.

    An effect is the score less the one that the same sample gets without the relation (as
    `Predictor.score(without=[relation])` gives it), or without the one neighbour and with all
    others. Effects are not shares: they add up neither to each other nor to the score.

    Args:
        predictor: or the folder of its bundle.
        extract, samples, context, work: as for `Predictor.score`.
        task: to explain; by default every binary one.
        top: neighbours shown for each sample, task and relation, by their effect on the log odds.

    Returns:
        By sample in the order of `samples` where given, task and relation: a row for the whole
        relation, whose neighbour is null, then its neighbours. Columns: subject_id,
        prediction_time, task, relation; source ("reference" or "context") and neighbour, the row
        of the bundle's references or of what `score` gives for the context; weight of the edge
        (for the whole relation their sum) and n_neighbours of the sample by the relation; score,
        score_without, effect (their difference), effect_logit (that of their log odds); reason,
        where there is no score and nothing to explain.

    Raises:
        BundleError, SchemaError: as for `Predictor.load` and `Predictor.score`.
        ConfigError: the model has no relation or no such binary task, or `top` is negative.
    """
    if not isinstance(predictor, Predictor):
        predictor = Predictor.load(predictor)
    if not predictor.bundle.config.graph.relations:
        raise ConfigError("explain: the model was trained without relations; nobody moved a score")
    tasks = binary_tasks(predictor, task)
    check_top(top)
    with predictor.prepared(extract, samples=samples, context=context, work=work) as (store, rows):
        return neighbours_of(predictor, store, rows, tasks=tasks, top=top)


def check_top(top: int) -> None:
    """Refuse fewer neighbours than none.

    Raises:
        ConfigError: `top` is negative.
    """
    if top < 0:
        raise ConfigError(f"top: is {top}; give 0 or more neighbours to show")


def neighbours_of(
    predictor: Predictor, store: Store, rows: np.ndarray, *, tasks: Sequence[str], top: int = TOP
) -> pd.DataFrame:
    """The same of rows [N] of a store; of a model that has relations."""
    found = [
        _rows(predictor, ablated, task=task, relation=relation, top=top)
        for ablated in ablate(predictor.panel, store, np.unique(rows))
        for task in tasks
        for relation in ablated.without
    ]
    n_reference = len(predictor.bundle.fitted.reference_subject)
    return _frame(pl.concat(found), store, rows=rows, n_reference=n_reference)


def _rows(
    predictor: Predictor, ablated: Ablated, *, task: str, relation: str, top: int
) -> pl.DataFrame:
    """The relation and its strongest neighbours, for each sample; neighbour -1 is the relation."""
    edges, n = ablated.edges[relation], len(ablated.rows)
    sample = np.concatenate([np.arange(n), edges.sample])
    without = np.concatenate([ablated.without[relation][task], edges.logits[task]])
    scores = [predictor.probability(task, z) for z in (ablated.whole[task][sample], without)]
    odds = [_log_odds(score) for score in scores]
    total = np.bincount(edges.sample, edges.weight, minlength=n)
    frame = pl.DataFrame(
        {
            "row": ablated.rows[sample],
            "task": [task] * len(sample),
            "relation": [relation] * len(sample),
            "neighbour": np.concatenate([np.full(n, -1), edges.neighbour]),
            "weight": np.concatenate([total, edges.weight.astype(np.float64)]),
            "n_neighbours": np.bincount(edges.sample, minlength=n)[sample],
            "score": scores[0],
            "score_without": scores[1],
            "effect": scores[0] - scores[1],
            "effect_logit": odds[0] - odds[1],
        }
    )
    strength = pl.when(pl.col("neighbour") < 0).then(np.inf).otherwise(pl.col("effect_logit").abs())
    ranked = frame.sort("row", -strength, "neighbour")
    return ranked.group_by("row", maintain_order=True).head(1 + top)


def _log_odds(score: np.ndarray) -> np.ndarray:
    inside = np.clip(score, NARROWEST, 1 - NARROWEST)
    odds: np.ndarray = np.log(inside) - np.log1p(-inside)
    return odds


def _frame(
    found: pl.DataFrame, store: Store, *, rows: np.ndarray, n_reference: int
) -> pd.DataFrame:
    """The table in the order asked for, without anything to explain where nothing is visible."""
    samples = store.samples[rows].select("subject_id", "prediction_time", "reason")
    asked = samples.with_columns(row=pl.Series(rows)).with_row_index("asked")
    neighbour, unseen = pl.col("neighbour"), pl.col("reason").is_not_null()
    numbers = ("score", "score_without", "effect", "effect_logit")
    table = (
        found.with_row_index("place")
        .join(asked, on="row")
        .filter(~unseen | (neighbour < 0))
        .sort("asked", "place")
        .with_columns(
            source=pl.when(neighbour >= n_reference)
            .then(pl.lit("context"))
            .when(neighbour >= 0)
            .then(pl.lit("reference")),
            neighbour=pl.when(neighbour >= n_reference)
            .then(neighbour - n_reference)
            .when(neighbour >= 0)
            .then(neighbour),
        )
        .with_columns(pl.when(unseen).then(np.nan).otherwise(name).alias(name) for name in numbers)
    )
    texts = ("task", "relation", "source", "reason")
    return pd.DataFrame(
        {
            "subject_id": table["subject_id"].to_numpy(),
            "prediction_time": table["prediction_time"].to_numpy(),
            **{name: pd.Series(table[name].to_list(), dtype="string") for name in texts[:3]},
            "neighbour": pd.Series(table["neighbour"].to_list(), dtype="Int64"),
            "weight": table["weight"].to_numpy(),
            "n_neighbours": table["n_neighbours"].to_numpy(),
            **{name: table[name].to_numpy() for name in numbers},
            "reason": pd.Series(table["reason"].to_list(), dtype="string"),
        }
    )
