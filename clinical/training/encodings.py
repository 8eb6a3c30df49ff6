"""What frozen weights make of notes and images, computed once and kept in the store.

Each shard keeps a file a modality, named by the digest of the weights and of what they were built
of. A file takes its place when it is complete, so that a killed run goes on where it was; those of
other weights are removed, since a store serves one run.
"""

from clinical.cohort.columns import Ragged, write_blocks
from clinical.cohort.store import Store
from clinical.config import RunConfig
from clinical.containers import Images, Tokens
from clinical.encoders import Encoder
from clinical.modalities.contract import RowReader
from clinical.modalities.occurrences import encodings_path
from clinical.modalities.shards import modalities_of
from clinical.model import ClinicalModel
from clinical.places import replacing

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import cast

import numpy as np
import torch

logger = logging.getLogger(__name__)

ENTRIES_AT_ONCE = 32
ROWS_AT_ONCE = 64
"""A stack of slices is one entry and many rows."""
ENTRIES_IN_BLOCK = 1024


def keep_encodings(config: RunConfig, store: Store, model: ClinicalModel) -> Mapping[str, str]:
    """Encode every entry of the store that frozen weights read and that is not kept yet.

    Args:
        config: of the run.
        store: whose shards keep the encodings.
        model: with the frozen weights in place; it stays as it is.

    Returns:
        Frozen modality -> the digest by which a loader finds its encodings.
    """
    digests = model.frozen_digests()
    for name, digest in digests.items():
        _keep(config, store, name, digest, cast(Encoder, model.encoders[name]))
    return digests


def _keep(config: RunConfig, store: Store, name: str, digest: str, encoder: Encoder) -> None:
    modality, statistics = modalities_of(config)[name], store.fitted.statistics[name]
    device = next(encoder.parameters()).device
    missing = [s for s in store.shards if not encodings_path(s, name, digest).exists()]
    if missing:
        logger.info("modalities.%s: encoding once with frozen weights", name)
    was_training = encoder.training
    encoder.eval().to(fastest_device(config))
    for shard in missing:
        reader = cast(RowReader, modality.open([shard], statistics))
        with replacing(encodings_path(shard, name, digest)) as draft, _full_precision():
            write_blocks(draft, ({"encoded": block} for block in _blocks(encoder, reader)))
    encoder.train(was_training).to(device)
    for shard in store.shards:
        for path in shard.glob(encodings_path(shard, name, "*").name):
            if path != encodings_path(shard, name, digest):
                path.unlink()


@torch.inference_mode()
def _blocks(encoder: Encoder, reader: RowReader) -> Iterator[Ragged]:
    """[n, rows, F] float32 of all entries, in their order; at least one block."""
    assert encoder.encoded_width is not None
    device = next(encoder.parameters()).device
    nothing = np.empty((0, encoder.encoded_width), dtype=np.float32)
    for start in range(0, max(reader.n_entries, 1), ENTRIES_IN_BLOCK):
        entries = np.arange(start, min(start + ENTRIES_IN_BLOCK, reader.n_entries))
        found, lengths = [nothing], []
        for first in range(0, len(entries), ENTRIES_AT_ONCE):
            some = entries[first : first + ENTRIES_AT_ONCE]
            container = cast(Tokens | Images, reader.collate_entries(some))
            lengths.append(np.bincount(container.sample.numpy(), minlength=len(some)))
            for row in range(0, len(container.sample), ROWS_AT_ONCE):
                rows = container.rows(slice(row, row + ROWS_AT_ONCE)).to(device)
                found.append(encoder.encode_rows(rows).float().cpu().numpy())
        counts = np.concatenate([np.empty(0, dtype=np.int64), *lengths])
        yield Ragged.from_lengths(np.concatenate(found), counts)


@contextmanager
def _full_precision() -> Iterator[None]:
    """Products of an accelerator as a CPU computes them, which is where a bundle may score."""
    matmul, convolutions = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(matmul)
        torch.backends.cudnn.allow_tf32 = convolutions


def fastest_device(config: RunConfig) -> torch.device:
    """The accelerator that the run may use."""
    name = config.trainer.accelerator
    if name in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return torch.device("cuda")
    if name in ("auto", "gpu", "mps") and torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")
