"""How far samples lie from those of train: squared Mahalanobis distances."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.covariance import ledoit_wolf
from torch import Tensor

LEAST_VARIANCE = 1e-4
"""Of the mean variance, added to each: what never varies in train is not infinitely far."""

TINY = 1e-8

FEWEST = 20
"""Train samples without which nothing is said of a distance."""

NOWHERE = -20.0
"""The log of a squared distance of zero."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Mahalanobis:
    """Distances from train in V spaces of D dimensions each, by their mean and covariance.

    The covariance is shrunk (Ledoit & Wolf 2004), so that a few samples are enough for it.

    Attributes:
        mean: [V, D] float64.
        whiten: [V, D, D] float64, of which the product with a difference from the mean has the
            squared distance for its squared length; zero where train had too few samples.
    """

    mean: Tensor
    whiten: Tensor

    @classmethod
    def fit(cls, values: NDArray[Any], observed: NDArray[np.bool_]) -> "Mahalanobis":
        """From `values` [N, V, D] of train, of which those `observed` [N, V] count."""
        _, n_spaces, width = values.shape
        mean, whiten = np.zeros((n_spaces, width)), np.zeros((n_spaces, width, width))
        for space in range(n_spaces):
            known = values[observed[:, space], space].astype(np.float64)
            if width and len(known) >= FEWEST:
                mean[space] = known.mean(axis=0)
                whiten[space] = _whitening(known)
        return cls(*(torch.from_numpy(each) for each in (mean, whiten)))

    @classmethod
    def crossed(
        cls, values: Tensor, observed: NDArray[np.bool_], fold: NDArray[np.int64]
    ) -> tuple["Mahalanobis", Tensor]:
        """Of all samples, and how far each lies from those of the other folds.

        From what a density was fitted on, distances are too small.

        Args:
            values: [N, V, D] of train.
            observed: [N, V].
            fold: [N] of each sample.

        Returns:
            the distances, and [N, V] their logarithms, NaN where not observed.
        """
        away = torch.full(observed.shape, torch.nan, dtype=torch.float64)
        for one in np.unique(fold):
            own = torch.from_numpy(fold == one)
            others = cls.fit(values.numpy()[fold != one], observed[fold != one])
            away[own] = others.log_distance(values[own])
        away = away.masked_fill(~torch.from_numpy(observed), torch.nan)
        return cls.fit(values.numpy(), observed), away

    def log_distance(self, values: Tensor) -> Tensor:
        """[B, V] the logarithm of the squared distances of `values` [B, V, D]."""
        # Rounded as float32 it would be another in another batch.
        away = torch.einsum("vde,bve->bvd", self.whiten, values.double() - self.mean)
        return away.square().sum(2).clamp(min=np.exp(NOWHERE)).log()

    def to_tensors(self) -> dict[str, Tensor]:
        """What `from_tensors` reads."""
        return {"mean": self.mean, "whiten": self.whiten}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> "Mahalanobis":
        """What `to_tensors` gave.

        Raises:
            ValueError: they are of different spaces.
        """
        found = cls(tensors["mean"], tensors["whiten"])
        n_spaces, width = found.mean.shape
        shape = (n_spaces, width, width)
        is_double = found.mean.dtype == found.whiten.dtype == torch.float64
        if not is_double or tuple(found.whiten.shape) != shape:
            raise ValueError("distances: mean and covariance are of different spaces")
        return found


def _whitening(known: Floats) -> Floats:
    """[D, D] W with WᵀW the inverse of the shrunk covariance of `known` [n, D]."""
    covariance, _ = ledoit_wolf(known)
    least = LEAST_VARIANCE * np.trace(covariance) / len(covariance) + TINY
    covariance = covariance + least * np.eye(len(covariance))
    whitening: Floats = np.linalg.inv(np.linalg.cholesky(covariance))
    return whitening
