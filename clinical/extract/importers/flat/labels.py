"""Labels and samples of rows."""

from clinical.errors import SchemaError
from clinical.extract.importers.flat.cells import as_integer, as_number, as_text
from clinical.extract.importers.flat.mapping import LabelRule, SampleRule
from clinical.extract.importers.flat.reasons import Reason
from clinical.extract.importers.flat.rows import Rows, matches
from clinical.extract.importers.flat.times import ReadTimes

from dataclasses import dataclass, field

import numpy as np
import polars as pl

TRUE = ("1", "1.0", "true", "yes", "y", "t")
FALSE = ("0", "0.0", "false", "no", "n", "f")
_KEYS = ["subject_id", "prediction_time"]


def read_labels(
    rows: Rows, rule: LabelRule | SampleRule, times: ReadTimes, decimal: str
) -> tuple[np.ndarray, pl.DataFrame]:
    """A label for each row, or the reason why there is none.

    Returns:
        [N] the `Reason` or 0, and `subject_id, prediction_time` with MEDS' columns of the rest.
    """
    why = times.why.copy()
    why[~matches(rows.frame, rule.where)] = Reason.FILTERED
    values = {}
    for name, column in rule.columns.items() if isinstance(rule, LabelRule) else ():
        values[name], is_wrong = _read(rows.frame[column], name, decimal)
        why[is_wrong.to_numpy() & (why == 0)] = Reason.BAD_LABEL
        why[values[name].is_null().to_numpy() & (why == 0)] = Reason.NO_VALUE
    if isinstance(rule, LabelRule) and isinstance(rule.boolean, dict):
        values["boolean_value"] = pl.Series(matches(rows.frame, rule.boolean))
    frame = pl.DataFrame({"subject_id": rows.subjects, "prediction_time": times.values, **values})
    return why, frame.filter(pl.Series(why == 0))


def _read(cells: pl.Series, name: str, decimal: str) -> tuple[pl.Series, pl.Series]:
    if name == "boolean_value":
        text = as_text(cells).str.to_lowercase()
        value = text.replace_strict(
            [*TRUE, *FALSE],
            [True] * len(TRUE) + [False] * len(FALSE),
            default=None,
            return_dtype=pl.Boolean,
        )
        return value, text.is_not_null() & value.is_null()
    if name == "integer_value":
        return as_integer(cells)
    if name == "float_value":
        return as_number(cells, decimal=decimal)
    return as_text(cells), pl.Series([False]).new_from_index(0, len(cells))


@dataclass
class Outcomes:
    """The labels and samples of all tables.

    Attributes:
        labels: For each task its frames.
        lenient: Tasks whose labels are left out where they differ.
        samples: Prediction times that rows name outright.
    """

    labels: dict[str, list[pl.DataFrame]] = field(default_factory=dict)
    lenient: set[str] = field(default_factory=set)
    samples: list[pl.DataFrame] = field(default_factory=list)

    def tasks(self, subjects: pl.Series) -> tuple[dict[str, pl.DataFrame], dict[str, int]]:
        """One frame a task, and counts of labels left out.

        A label that is there twice counts once. Subjects without an event can't be predicted for.

        Raises:
            SchemaError: Two labels of one subject and time differ.
        """
        tasks, counts = {}, {}
        for name, frames in self.labels.items():
            frame = pl.concat(frames).unique(maintain_order=True)
            if name in self.lenient:
                differs = frame.select(_KEYS).is_duplicated()
                if n_dropped := frame.filter(differs).select(_KEYS).n_unique():
                    counts[f"{name}: labels left out, as rows of one time differ"] = n_dropped
                frame = frame.filter(~differs)
            if n_differing := frame.height - frame.select(_KEYS).n_unique():
                raise SchemaError(
                    f"labels.{name}: {n_differing} labels differ from another of their subject and "
                    "time; say with where: which rows count, or drop_conflicts: true"
                )
            known = _of_subjects(frame, subjects)
            counts[f"{name}: labels"] = known.height
            if n_unknown := frame.height - known.height:
                counts[f"{name}: labels of subjects without an event"] = n_unknown
            tasks[name] = known
        return tasks, counts

    def all_samples(self, subjects: pl.Series) -> pl.DataFrame | None:
        """Prediction times named outright, of subjects with an event; None where none are."""
        if not self.samples:
            return None
        frame = pl.concat(self.samples).unique(maintain_order=True)
        return _of_subjects(frame, subjects)


def _of_subjects(frame: pl.DataFrame, subjects: pl.Series) -> pl.DataFrame:
    return frame.join(pl.DataFrame({"subject_id": subjects}), on="subject_id", how="semi")
