"""A table of effects at a glance: what the relations did to most scores."""

import pandas as pd


def by_relation(table: pd.DataFrame) -> pd.DataFrame:
    """How far each relation moves scores, over the samples that have neighbours by it.

    Args:
        table: as `explain_neighbours` gives it.

    Returns:
        One row a task and relation: task, relation, samples (that have a score), with_neighbours
        (share of them), and the medians of the absolute effects of the whole relation on the
        score and on its log odds, median_effect and median_effect_logit, NaN without neighbours.
    """
    whole = table[table["neighbour"].isna() & table["reason"].isna()]
    rows = []
    for (task, relation), of in whole.groupby(["task", "relation"], sort=False):
        linked = of[of["n_neighbours"] > 0]
        rows.append(
            {
                "task": task,
                "relation": relation,
                "samples": len(of),
                "with_neighbours": len(linked) / len(of),
                "median_effect": linked["effect"].abs().median(),
                "median_effect_logit": linked["effect_logit"].abs().median(),
            }
        )
    return pd.DataFrame(rows)
