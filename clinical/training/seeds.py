"""Seeds that depend on where in the run we are, so that an interrupted epoch can be replayed."""

import hashlib
import random

import numpy as np
import torch


def derive_seed(seed: int, *parts: str | int) -> int:
    """A 63-bit seed from the run's seed and a place such as ("pretrain", epoch, step)."""
    text = "/".join(str(part) for part in (seed, *parts))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def seed_globals(seed: int, *parts: str | int) -> None:
    """Seed the global generators of Python, NumPy and torch; only the training loop does."""
    derived = derive_seed(seed, *parts)
    random.seed(derived)
    np.random.seed(derived % 2**32)  # noqa: NPY002  (third-party code may draw from it)
    torch.manual_seed(derived)


def generator(seed: int, *parts: str | int) -> torch.Generator:
    """A CPU generator of its own for one place in the run."""
    return torch.Generator().manual_seed(derive_seed(seed, *parts))
