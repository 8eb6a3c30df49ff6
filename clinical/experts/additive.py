"""A sum of curves, one a feature, in a few straight pieces each.

Most of what separates patients are thresholds on single exact statistics (trees of depth one are
close to full ones), so a sum of curves ranks well, needs few labels and can be read. Its constants
were chosen on PhysioNet 2012 set-b, from 1 % of its labels to all of them.
"""

from clinical.errors import BundleError

import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Whole = NDArray[np.int64]

PIECES = 10
"""Pieces between the extreme train values of a feature, of as many train values each."""
RAREST = 0.002
"""Share of the samples on either side of a feature, a piece or a gap that may say something."""
PRIOR_SD = 1.0
"""Of a train sample's logit before any label is seen, where all weights are shrunk alike."""
SPARSITY = 1.8
"""Inverse of the L1 penalty, times the labels' noise; see `_sparse`."""
SPARSE_FROM = 20
"""Samples of the rarer class from which the sparse fit counts as much as the other; of fewer it
picks its curves by chance, and counts less in proportion."""
INTERCEPT_SCALING = 10.0
"""So far the sparse solver's penalty on the intercept is weakened: it follows the base rate."""
MOST_CELLS = 2**26
"""Of the design that is fitted (0.25 GB, and ten times that in the solver); of more samples a
random part is."""
CHUNK = 256


@dataclass(frozen=True)
class Pieces:
    """What the curves are made of (Gorishniy et al., 2022, arXiv:2203.05556).

    Attributes:
        n_features: F.
        feature: [P] the feature of each piece.
        low, high: [P] where the piece rises from 0 to 1.
        average: [P] what the train values fill of it on average; taken off, so that a missing
            value stands for an average one.
        gap: [Q] features whose absence counts, one of those that are always absent together.
        share: [Q] of the train samples that lack it; taken off.
    """

    n_features: int
    feature: Whole
    low: Floats
    high: Floats
    average: Floats
    gap: Whole
    share: Floats

    @classmethod
    def of(cls, features: np.ndarray) -> Self:
        """Of train features [N, F], NaN where missing."""
        found: list[tuple[int, float, float, float]] = []
        first: dict[bytes, int] = {}
        for column, values in enumerate(features.T):
            unseen = np.isnan(values)
            seen = values[~unseen].astype(np.float64)
            if RAREST <= unseen.mean() <= 1 - RAREST:
                first.setdefault(unseen.tobytes(), column)
            if len(seen):
                knots = np.unique(np.quantile(seen, np.linspace(0, 1, PIECES + 1)))
                for low, high in pairwise(knots):
                    filled = ((seen - low) / (high - low)).clip(0, 1)
                    if min((filled > 0).mean(), (filled < 1).mean()) >= RAREST:
                        found.append((column, low, high, filled.mean()))
        feature, low, high, average = np.array(found, dtype=np.float64).reshape(-1, 4).T
        gap = np.array(list(first.values()), dtype=np.int64)
        share = np.isnan(features[:, gap]).mean(axis=0)
        return cls(features.shape[1], feature.astype(np.int64), low, high, average, gap, share)

    def __len__(self) -> int:
        return len(self.feature) + len(self.gap)

    def design(self, features: np.ndarray) -> np.ndarray:
        """[N, F] -> [N, P + Q] float32, each on average 0 over the train samples."""
        design = np.empty((len(features), len(self)), dtype=np.float32)
        for start in range(0, len(features), CHUNK):
            some = features[start : start + CHUNK]
            filled = (some[:, self.feature] - self.low) / (self.high - self.low)
            pieces, gaps = np.split(design[start : start + CHUNK], [len(self.feature)], axis=1)
            pieces[:] = np.nan_to_num(filled.clip(0, 1) - self.average)
            gaps[:] = np.isnan(some[:, self.gap]) - self.share
        return design


@dataclass(frozen=True)
class Additive:
    """The curves of one task.

    Attributes:
        pieces: of which the curves are made.
        weight: [P + Q] what each adds to the logit.
        intercept: the logit where nothing adds.
    """

    pieces: Pieces
    weight: Floats
    intercept: float

    @classmethod
    def check(cls) -> None:
        """Nothing is needed beyond what the toolkit always installs."""

    @classmethod
    def fit(cls, features: np.ndarray, labels: np.ndarray, *, seed: int, threads: int) -> Self:
        """Fit the curves twice, all shrunk alike and most left flat, and weigh the two.

        Args:
            features: [N, F], NaN where missing.
            labels: [N] 0 or 1, both present.
            seed: of the order in which the sparse solver visits the weights, and of the samples
                that are fitted where there are too many.
            threads: of the other solver.
        """
        from threadpoolctl import threadpool_limits

        pieces = Pieces.of(features)
        if not len(pieces):
            return cls(pieces, np.empty(0), float(np.log(labels.mean() / (1 - labels.mean()))))
        kept = _some(labels, MOST_CELLS // len(pieces), seed)
        design, labels = pieces.design(features[kept]), labels[kept]
        with threadpool_limits(threads), _without_warnings():
            models = (_dense(design, labels), _sparse(design, labels, seed))
        sparse = 0.5 * min(1.0, min(labels.sum(), (1 - labels).sum()) / SPARSE_FROM)
        shares = [1 - sparse, sparse]
        weight = np.average([model.coef_[0] for model in models], axis=0, weights=shares)
        intercept = np.average([model.intercept_[0] for model in models], weights=shares)
        return cls(pieces, weight.astype(np.float64), float(intercept))

    @property
    def n_features(self) -> int:
        """F, the features that it reads."""
        return self.pieces.n_features

    @property
    def text(self) -> str:
        """As JSON: its numbers, one list a field."""
        pieces = {
            name: value.tolist() if isinstance(value, np.ndarray) else value
            for name, value in asdict(self.pieces).items()
        }
        own = {"weight": self.weight.tolist(), "intercept": self.intercept}
        return json.dumps(pieces | own, indent=1) + "\n"

    @classmethod
    def read(cls, text: str) -> Self:
        """What `text` holds.

        Raises:
            BundleError: it is damaged.
        """
        try:
            raw: Mapping[str, Any] = json.loads(text)
            lists = {field.name: _list(raw, field.name) for field in fields(Pieces)[1:]}
            pieces = Pieces(int(raw["n_features"]), **lists)
            found = cls(pieces, _list(raw, "weight"), float(raw["intercept"]))
            found._check()
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
            raise BundleError("additive: its text is damaged; get the bundle anew") from error
        return found

    def _check(self) -> None:
        """Refuse with a ValueError what `fit` could not have left."""
        pieces = self.pieces
        of_piece = (pieces.feature, pieces.low, pieces.high, pieces.average)
        of_gap = (pieces.gap, pieces.share)
        if {len(values) for values in of_piece} != {len(pieces.feature)}:
            raise ValueError("pieces")
        if {len(values) for values in of_gap} != {len(pieces.gap)}:
            raise ValueError("gaps")
        shares = np.concatenate([pieces.average, pieces.share])
        columns = np.concatenate([pieces.feature, pieces.gap])
        numbers = np.concatenate([pieces.low, pieces.high, self.weight, [self.intercept]])
        fits = (
            len(self.weight) == len(pieces) <= (PIECES + 1) * pieces.n_features,
            np.isfinite(numbers).all(),
            ((columns >= 0) & (columns < pieces.n_features)).all(),
            ((shares >= 0) & (shares <= 1)).all(),
            (pieces.low < pieces.high).all(),
        )
        if not all(fits):
            raise ValueError("numbers")

    def logit(self, features: np.ndarray) -> np.ndarray:
        """[N, F] features, NaN where missing -> [N] uncalibrated logits."""
        parts = [
            self.pieces.design(features[start : start + CHUNK]) @ self.weight
            for start in range(0, len(features), CHUNK)
        ]
        return self.intercept + np.concatenate([np.empty(0), *parts])


def _list(raw: Mapping[str, Any], field: str) -> np.ndarray:
    """A field's list of numbers; a ValueError if it is anything else."""
    whole = field in ("feature", "gap")
    kind = int if whole else (int, float)
    values = raw[field]
    if not isinstance(values, list) or not all(isinstance(v, kind) for v in values):
        raise ValueError(field)
    return np.array(values, dtype=np.int64 if whole else np.float64)


def _some(labels: np.ndarray, n: int, seed: int) -> np.ndarray:
    """At most `n` rows and at least two, of each class as large a share as of the other."""
    if len(labels) <= n:
        return np.arange(len(labels))
    draws = np.random.default_rng(seed)
    parts = []
    for value in (0, 1):
        rows = np.flatnonzero(labels == value)
        parts.append(draws.choice(rows, max(1, n * len(rows) // len(labels)), replace=False))
    return np.sort(np.concatenate(parts))


@contextmanager
def _without_warnings() -> Iterator[None]:
    """A solver that stops early is close enough, and says so in its own library's words."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _dense(design: np.ndarray, labels: np.ndarray) -> Any:
    """Logistic regression whose prior gives a train sample's logit the same spread everywhere."""
    from sklearn.linear_model import LogisticRegression

    variance = float(np.einsum("np,np->", design, design, dtype=np.float64) / len(design))
    return LogisticRegression(C=PRIOR_SD**2 / variance, max_iter=1000).fit(design, labels)


def _sparse(design: np.ndarray, labels: np.ndarray, seed: int) -> Any:
    """Logistic regression with an L1 penalty (Tibshirani, 1996), which leaves most weights at 0.

    The penalty grows as the noise of the gradient does: with the root of the labels' summed
    variance.
    """
    from sklearn.linear_model import LogisticRegression

    # From 1.8 on scikit-learn reads the kind of penalty from l1_ratio alone.
    is_new = getattr(LogisticRegression(), "penalty", "deprecated") == "deprecated"
    return LogisticRegression(
        **({"l1_ratio": 1.0} if is_new else {"penalty": "l1"}),
        C=SPARSITY / float(np.sqrt(len(labels) * labels.var())),
        solver="liblinear",
        intercept_scaling=INTERCEPT_SCALING,
        random_state=seed % 2**31,
        max_iter=1000,
    ).fit(design, labels)
