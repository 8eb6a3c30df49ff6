"""Salted hashes by which subjects, samples and codes are known without being named."""

import hashlib

import numpy as np
from numpy.typing import NDArray


def subject_hashes(subjects: NDArray[np.int64], dataset_name: str, salt: str) -> NDArray[np.int64]:
    """A salted 64-bit hash [N] of (dataset_name, subject_id): equal for equal subjects only."""
    unique, inverse = np.unique(subjects, return_inverse=True)
    hashes = [_hash(f"{salt}\0{dataset_name}\0{subject}") for subject in unique.tolist()]
    return np.array(hashes, dtype=np.int64)[inverse]


def number_hashes(subjects: NDArray[np.int64], salt: str) -> NDArray[np.int64]:
    """A salted 64-bit hash [N] of the subject_id alone, for subjects [N] that are all different."""
    hashes = [_hash(f"{salt}\0number\0{subject}") for subject in subjects.tolist()]
    return np.array(hashes, dtype=np.int64)


def sample_hashes(
    subject_hash: NDArray[np.int64], prediction_time: NDArray[np.int64], salt: str
) -> NDArray[np.int64]:
    """A salted 64-bit hash [N] of subject and prediction time."""
    pairs = zip(subject_hash.tolist(), prediction_time.tolist(), strict=True)
    return np.array([_hash(f"{salt}\0{who}\0{when}") for who, when in pairs], dtype=np.int64)


def code_hash(code: str) -> int:
    """A 64-bit hash of a code, never 0, which stands for no code."""
    return _hash(f"code\0{code}") or 1


def _hash(text: str) -> int:
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)
