"""What a predictor notes of the samples it scores: how typical they are, and what they are."""

from clinical.batch import ClinicalBatch
from clinical.bundle import Bundle
from clinical.cohort.store import Store
from clinical.modalities.shards import modalities_of
from clinical.model import Encoded
from clinical.predictor.panel import Panel, encode
from clinical.typicality import (
    Looked,
    Tally,
    Typicality,
    drift_table,
    fit_typicality,
    table_of,
    weights,
)

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

FIT_SAMPLES = 20_000
"""Train samples at most that densities are fitted on."""

MOST_CODES = 128
"""Codes at most that are counted, those of most train subjects."""

Floats = NDArray[np.float64]


@dataclass
class Watch:
    """Told of every batch while it is scored, in any order and by any thread.

    Attributes:
        typicality: of the bundle.
        p_values: [N, M + 1] of the samples of a store, NaN until they were seen.
        weight: [N] of each sample in the tally, so that a person's add up to 1.
    """

    typicality: Typicality
    p_values: Floats
    weight: Floats
    _counted: dict[int, Tally] = field(default_factory=dict)

    @classmethod
    def of(cls, typicality: Typicality, store: Store, weight: Floats | None = None) -> "Watch":
        """Over the samples of a store, by default each person of whom counts once."""
        n_values = len(typicality.modalities) + 1
        weight = weights(store.samples["subject_id"].to_numpy()) if weight is None else weight
        return cls(typicality, np.full((store.n_samples, n_values), np.nan), weight)

    def __call__(self, batch: ClinicalBatch, encoded: Encoded | None) -> None:
        """Take note of a batch, as the first network encodes it if there is one."""
        rows = batch.row.numpy()
        looked = self.typicality.look(batch, None if encoded is None else encoded.summaries)
        p_values = self.typicality.p_values(self.typicality.surprise(looked))
        self.p_values[rows] = p_values.numpy()
        self._counted[int(rows.min())] = self.typicality.tally(looked, p_values, self.weight[rows])

    @property
    def tally(self) -> Tally:
        """Of all batches so far, the same whatever their order."""
        nothing = Tally.nothing(len(self.typicality.rows))
        return sum((self._counted[first] for first in sorted(self._counted)), nothing)

    def drift(self) -> pd.DataFrame:
        """How what was counted differs from train; see `drift_table`."""
        known = self.typicality
        return drift_table(known.rows, self.tally, known.reference)


def typicality_of(bundle: Bundle, store: Store) -> Typicality:
    """Densities from train and p-values from `calibrate`, by the networks of a draft.

    There are no p-values where networks learned the labels of `calibrate`, or it has fewer than ten
    people.

    Args:
        bundle: the draft, whose first network reads what has no variables of its own.
        store: of the run.
    """
    generator = np.random.default_rng(bundle.config.seed)
    rows = store.rows("train")
    if len(rows) > FIT_SAMPLES:
        rows = np.sort(generator.choice(rows, FIT_SAMPLES, replace=False))
    panel = Panel(bundle)
    variables = _variables(bundle, panel, store, rows)
    train = list(_looked(panel, store, rows, variables))
    subject = store.samples["subject_id"].to_numpy()
    whose = subject[np.concatenate([at for at, _ in train])]
    fitted = fit_typicality([looked for _, looked in train], whose, variables, generator)
    spare = store.rows("calibrate")[: 0 if bundle.config.finetune.learn_tuning else None]
    others = list(_looked(panel, store, spare, variables))
    whose = subject[np.concatenate([spare[:0], *(at for at, _ in others)])]
    return fitted.calibrate([looked for _, looked in others], whose)


def _variables(
    bundle: Bundle, panel: Panel, store: Store, rows: np.ndarray
) -> dict[str, Sequence[str]]:
    """Modality -> names of its variables, in the order in which a batch has them."""
    batch = next(panel.batches(store, rows[:1]))
    found: dict[str, Sequence[str]] = {}
    for name, modality in modalities_of(bundle.config).items():
        statistics = bundle.fitted.statistics[name]
        known = modality.variables(statistics) or statistics.get("vocabulary", ())
        table = table_of(batch.inputs[name], min(len(known), MOST_CODES))
        found[name] = () if table is None else known[: table.observed.shape[1]]
    return found


@torch.inference_mode()
def _looked(
    panel: Panel, store: Store, rows: np.ndarray, variables: dict[str, Sequence[str]]
) -> Iterator[tuple[np.ndarray, Looked]]:
    """Rows of a store and what is looked at of them, a batch each."""
    if not len(rows):
        return
    networks = panel.bundle.networks
    for batch in panel.batches(store, rows):
        encoded = encode(networks[0].model, batch) if networks else None
        summaries = None if encoded is None else encoded.summaries
        yield batch.row.numpy(), Looked.at(batch, summaries, variables)
