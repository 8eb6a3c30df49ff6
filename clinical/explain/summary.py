"""Tables of effects at a glance: what relations and modalities did to most scores."""

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


def by_part(table: pd.DataFrame) -> pd.DataFrame:
    """What each part adds to most scores, over the samples that have it.

    Args:
        table: `InputExplanation.modalities`.

    Returns:
        One row a task and part: task, part, samples (that have a score), with_part (share of
        them), median_shapley and median_size, the medians of its Shapley value and of its absolute
        value in log odds; NaN where nobody has it.
    """
    rows = []
    for (task, part), of in table[table["reason"].isna()].groupby(["task", "part"], sort=False):
        has = of[of["present"]]
        rows.append(
            {
                "task": task,
                "part": part,
                "samples": len(of),
                "with_part": len(has) / len(of),
                "median_shapley": has["shapley"].median(),
                "median_size": has["shapley"].abs().median(),
            }
        )
    return pd.DataFrame(rows)
