"""Hidden edges against non-edges: what popularity alone is worth, and what is left beside it."""

import clinical  # noqa: F401
from clinical.errors import SchemaError
from clinical.evaluation.links import evaluate_links

from itertools import product

import numpy as np
import pandas as pd
import pytest


def pairs(*, n: int, knows: float, seed: int = 0) -> pd.DataFrame:
    """n patients and five codes of falling popularity, half of each patient's hidden.

    Args:
        n: patients.
        knows: how far the score knows the patient beside the codes' popularity.
        seed: of the draws.
    """
    draws = np.random.default_rng(seed)
    common = np.array([0.5, 0.4, 0.3, 0.2, 0.1])
    edge = draws.random((n, 5)) < common
    score = common + knows * edge + 0.1 * draws.random((n, 5))
    subject, code = np.indices(edge.shape)
    return pd.DataFrame(
        {
            "subject_id": subject.ravel() // 2,
            "code": np.array(list("abcde"))[code.ravel()],
            "score": np.clip(score.ravel(), 0, 1),
            "train_subjects": np.array([50, 40, 30, 20, 10])[code.ravel()],
            "is_edge": edge.ravel(),
        }
    )


def naive(links: pd.DataFrame, column: str, *, matched: bool) -> float:
    """Pair by pair; matched, an edge meets each non-edge by its code's share of the edges."""
    edges, others = (links[links["is_edge"] == is_edge] for is_edge in (True, False))
    share = edges["code"].value_counts() / others["code"].value_counts()
    won = total = 0.0
    for (_, edge), (_, other) in product(edges.iterrows(), others.iterrows()):
        weight = share.get(other["code"], 0.0) if matched else 1.0
        gap = edge[column] - other[column]
        won += weight * (0.5 if gap == 0 else float(gap > 0))
        total += weight
    return won / total


@pytest.mark.parametrize("matched", [False, True])
def test_the_areas_are_those_of_a_naive_loop(matched):
    links = pairs(n=12, knows=0.05)
    row = evaluate_links(links, resamples=2).iloc[int(matched)]
    assert row["auroc"] == pytest.approx(naive(links, "score", matched=matched))
    assert row["popularity"] == pytest.approx(naive(links, "train_subjects", matched=matched))


def test_matched_popularity_is_worth_nothing_and_knowing_the_patient_is():
    knowing = evaluate_links(pairs(n=400, knows=0.2), resamples=100).set_index("negatives")
    popular = evaluate_links(pairs(n=400, knows=0.0), resamples=100).set_index("negatives")
    assert knowing.loc["popularity-matched", "popularity"] == pytest.approx(0.5)
    assert popular.loc["popularity-matched", "auroc"] == pytest.approx(0.5, abs=0.03)
    assert popular.loc["all non-edges", "auroc"] > 0.6
    low, high = knowing.loc["popularity-matched", ["difference_low", "difference_high"]]
    assert 0.05 < low < knowing.loc["popularity-matched", "difference"] < high


def test_a_code_without_non_edges_cannot_be_matched():
    links = pairs(n=30, knows=0.2)
    alone = links.iloc[:3].assign(code="z", is_edge=True)
    rows = evaluate_links(pd.concat([links, alone]), resamples=2)
    assert rows["edges"].tolist() == [links["is_edge"].sum() + 3, links["is_edge"].sum()]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"is_edge": False}, "no hidden edges"),
        ({"score": 1.5}, "30 scores are not between"),
        ({"score": np.nan}, "30 scores are not between"),
    ],
)
def test_what_cannot_be_judged_is_refused(change, message):
    with pytest.raises(SchemaError, match=message):
        evaluate_links(pairs(n=6, knows=0.1).assign(**change))


def test_a_missing_column_is_named():
    with pytest.raises(SchemaError, match="no column is_edge"):
        evaluate_links(pairs(n=6, knows=0.1).drop(columns="is_edge"))
