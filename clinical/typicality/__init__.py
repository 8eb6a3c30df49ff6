"""How typical a sample is of train, and whether a cohort differs from it."""

from clinical.typicality.drift import Variable, drift_table
from clinical.typicality.tally import Tally, weights
from clinical.typicality.telling import drift_file, warning
from clinical.typicality.typicality import Looked, Typicality, fit_typicality
from clinical.typicality.views import table_of

__all__ = [
    "Looked",
    "Tally",
    "Typicality",
    "Variable",
    "drift_file",
    "drift_table",
    "fit_typicality",
    "table_of",
    "warning",
    "weights",
]
