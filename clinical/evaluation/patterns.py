"""Which modalities samples have, as groups of patients to judge scores by."""

from __future__ import annotations

from clinical.evaluation.gathering import SAMPLE

from collections.abc import Sequence

import pandas as pd

PATTERN = "modalities"
"""The column of predictions that names those present, joined by "+"; and of groups by them."""


def patterns(predictions: pd.DataFrame, modalities: Sequence[str]) -> pd.DataFrame:
    """Groups of samples by what they have, the fullest first: `evaluation.by(patterns(...))`.

    Args:
        predictions: with a column modalities.
        modalities: all that the model reads, in its order.

    Returns:
        A row a sample: subject_id, prediction_time, and modalities, which says "everything",
        "without notes" or "events alone", in an ordered category.
    """
    on = [*SAMPLE, PATTERN]
    table = predictions[on].drop_duplicates(list(SAMPLE), ignore_index=True)
    present = {each: each.split("+") for each in table[PATTERN].value_counts().index}
    order = sorted(present, key=lambda each: -len(present[each]))
    names = {each: pattern_name(present[each], modalities) for each in order}
    named = pd.Categorical(table[PATTERN].map(names), list(names.values()), ordered=True)
    return table.assign(**{PATTERN: named})


def pattern_name(present: Sequence[str], modalities: Sequence[str]) -> str:
    """What is there, or what is not, whichever is shorter.

    >>> pattern_name(["events", "codes"], ["events", "notes", "codes"])
    'without notes'
    """
    absent = [name for name in modalities if name not in present]
    if not absent:
        return "everything"
    if len(absent) <= len(modalities) / 2:
        return f"without {', '.join(absent)}"
    return f"{there} alone" if (there := ", ".join(filter(None, present))) else "nothing"
