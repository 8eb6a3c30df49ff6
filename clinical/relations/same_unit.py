"""Contemporaries in the same unit: they share what goes round there."""

from clinical.cohort.window import MICROSECONDS_PER_HOUR
from clinical.errors import ConfigError
from clinical.relations.keys import Edges, Inputs, Keyed, Keys, check_array
from clinical.relations.neighbours import edges, latest

from collections.abc import Collection, Mapping
from typing import ClassVar

import numpy as np


class SameUnit:
    """The latest references whose newest unit is the sample's.

    A reference is admitted from `window_hours` before the sample's prediction time up to that
    time, both inclusive; the weight falls linearly from 1 to 0 over the window.

    Args:
        codes: Regular expression of the whole codes that name a unit.
        window_hours: How far back references are looked for, and the sample's own unit code.
    """

    in_time: bool = True
    by_embedding: bool = False
    fits_on: ClassVar[int | None] = 0
    from_table: ClassVar[bool] = False
    # Its key is one code, which training drops by itself where an objective hides it.
    feeds: frozenset[str] = frozenset()

    def __init__(self, *, codes: str = "UNIT//.*", window_hours: float = 168.0) -> None:
        if not window_hours > 0:
            raise ConfigError("graph.relations: window_hours of same_unit should be above 0")
        self.codes: str | None = codes
        self.window_hours: float | None = window_hours
        self._window = round(window_hours * MICROSECONDS_PER_HOUR)

    def check(self, modalities: Collection[str]) -> None:
        """Works with any: it reads the unit codes itself."""

    def fit(self, reference: Inputs) -> Keys:
        """Nothing to learn."""
        return {}

    def keys(self, inputs: Inputs, parameters: Keys) -> Keys:
        """The hash of the unit's code, and the prediction time."""
        return {"unit": inputs.code, "time": inputs.prediction_time}

    def index(self, reference: Keyed, parameters: Keys, *, k: int) -> Keys:
        """Nothing: sorting by unit and time is fast enough."""
        return {}

    def neighbours(self, samples: Keyed, reference: Keyed, parameters: Keys, *, k: int) -> Edges:
        """The k latest references of the unit, newest first."""
        if not len(reference):
            return Edges.none(len(samples), k)
        rows, gaps = latest(
            samples.keys["unit"],
            samples.keys["time"],
            reference.keys["unit"],
            reference.keys["time"],
            query_subject=samples.subject,
            reference_subject=reference.subject,
            reference_row=reference.row,
            k=k,
            window=self._window,
        )
        return edges(rows, 1 - gaps.astype(np.float64) / self._window)

    def check_fitted(
        self,
        parameters: Keys,
        reference: Keys,
        *,
        n_reference: int,
        sizes: Mapping[str, Mapping[str, int]],
    ) -> None:
        """Refuse keys that are not a unit and a time for every reference."""
        for name in ("unit", "time"):
            check_array(reference, name, kind="i", shape=(n_reference,))
