"""From an extract to a store: cut, learn from train, write, relate.

A store is written beside its place and renamed when it is complete, so that nothing half-written
is ever used. One made of the same extract, samples, labels and settings is used again.
"""

from clinical.cohort.fitted import Fitted
from clinical.cohort.store import Store
from clinical.preparation.scoring import ToScore, prepare_for_scoring
from clinical.preparation.training import prepare

__all__ = ["Fitted", "Store", "ToScore", "prepare", "prepare_for_scoring"]
