"""Which alerts may be told of: rates times rows are counts of people, too."""

from __future__ import annotations

from clinical.evaluation.judged import Judged

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]


def shown_alerts(judged: Judged, at: Mapping[str, float], smallest: int) -> list[str]:
    """Names of the thresholds whose rates may be told.

    Alerted or not, with the event or without: rates times rows give these four counts. Each is of
    nobody or of enough people, and so is what one threshold alerts beyond another that is told.

    Args:
        judged: scores and labels of a task.
        at: thresholds by name; those first are told rather than later ones.
        smallest: number of people below which nothing is told.
    """
    seen = judged.yes_or_no(judged.scores)
    if seen is None:
        return []
    subjects, event = judged.subjects[seen.known], seen.scored.labels == 1
    told: dict[str, Bools] = {}
    for name, threshold in at.items():
        alerted = seen.scored.scores >= threshold
        others = [alerted, ~alerted, *(alerted ^ each for each in told.values())]
        if not any(
            0 < len(np.unique(subjects[rows & outcome])) < smallest
            for rows in others
            for outcome in (event, ~event)
        ):
            told[name] = alerted
    return list(told)


def shown_everywhere(
    judged: Judged, sets: Sequence[Bools], at: Mapping[str, float], smallest: int
) -> dict[str, float]:
    """The thresholds whose rates may be told of each of some sets of rows [N]."""
    told = dict(at)
    for rows in sets:
        if rows.any() and told:
            names = shown_alerts(judged.part(rows), told, smallest)
            told = {name: told[name] for name in names}
    return told
