"""What a pretrained network makes of samples, exactly enough to choose neighbours by."""

from clinical.batch import ClinicalBatch
from clinical.cohort.store import Store
from clinical.config import RunConfig
from clinical.containers import Container
from clinical.datamodule import make_loader
from clinical.model import ClinicalModel

import copy
from dataclasses import fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

BATCH_SIZE = 64


def key_embedding(config: RunConfig, store: Store, model: ClinicalModel) -> np.ndarray:
    """[N, D] float64 the fused summaries of all samples of a store, before any message.

    NaN where nothing is visible. In double precision, since a choice among neighbours magnifies
    the last bits of single precision, which depend on who else is in the batch; so on the CPU.

    Args:
        config: of the run.
        store: whose neighbours are not read.
        model: as pretraining left it; it stays as it is.
    """
    double = copy.deepcopy(model).cpu().double().eval()
    found: np.ndarray = np.full((store.n_samples, model.width), np.nan)
    seen = np.flatnonzero(store.samples["reason"].is_null().to_numpy())
    loader = make_loader(store.folder, config, seen, batch_size=BATCH_SIZE)
    with torch.inference_mode():
        for batch in loader:
            found[batch.row.numpy()] = double.embed(_double(batch)).numpy()
    return found


def _double(batch: ClinicalBatch) -> ClinicalBatch:
    return batch.replace(**{name: _doubled(each) for name, each in batch.inputs.items()})


def _doubled(container: Any) -> Container:
    values = {field.name: getattr(container, field.name) for field in fields(container)}
    changed: Container = replace(
        container,
        **{
            name: value.double()
            for name, value in values.items()
            if isinstance(value, Tensor) and value.is_floating_point()
        },
    )
    return changed
