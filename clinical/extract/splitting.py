"""Splits by a hash of the subject: the same subject gets the same split in every import."""

import hashlib
from collections.abc import Mapping

import polars as pl


def split_by_hash(subject_ids: pl.Series, shares: Mapping[str, float]) -> pl.DataFrame:
    """Assign every subject to a split by a hash of its id alone.

    A subject's split doesn't depend on the others, so shares are met on average only; adding
    subjects moves none. The hash is salted with a word of its own, so that another hash of the
    subject, such as the one that halves `tuning`, is independent of it.

    Args:
        subject_ids: Any number of subjects, repeats allowed.
        shares: Split names and shares that sum to 1, in the order of cutting.

    Returns:
        `subject_id, split`, sorted by subject.
    """
    assert abs(sum(shares.values()) - 1) < 1e-9, shares
    subjects = subject_ids.unique().sort()
    splits = []
    for subject in subjects:
        digest = hashlib.sha256(f"clinical-split:{subject}".encode()).digest()
        position = int.from_bytes(digest[:8], "big") / 2**64
        splits.append(_name_at(position, shares))
    return pl.DataFrame({"subject_id": subjects, "split": pl.Series(splits, dtype=pl.String)})


def _name_at(position: float, shares: Mapping[str, float]) -> str:
    upper = 0.0
    for name, share in shares.items():
        upper += share
        if position < upper:
            return name
    return name
