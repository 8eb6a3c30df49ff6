"""A sum of curves, one a feature, in a few straight pieces each.

Most of what separates patients are thresholds on single exact statistics (trees of depth one are
close to full ones), so a sum of curves is hard to beat, needs few labels, is fitted in seconds and
can be read.
"""

from clinical.errors import BundleError

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Whole = NDArray[np.int64]

PIECES = 10
"""Pieces between the extreme train values of a feature, of as many train values each."""
FEWEST = 0.002
"""Share of the samples that must lack a feature, and have it, for its absence to count."""
PRIOR_SD = 1.0
"""Of a train sample's logit before any label is seen, where all weights are shrunk alike."""
SPARSITY = 1.8
"""Inverse of the L1 penalty, times what the labels could say at most; see `_sparse`."""
INTERCEPT_SCALING = 10.0
"""So far the solver's penalty on the intercept is weakened: it is to follow the base rate."""
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
        gap: [Q] features whose absence counts.
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
        feature: list[int] = []
        knots: list[Floats] = []
        for column, values in enumerate(features.T):
            seen = values[~np.isnan(values)].astype(np.float64)
            if len(seen):
                knots.append(np.unique(np.quantile(seen, np.linspace(0, 1, PIECES + 1))))
                feature += [column] * (len(knots[-1]) - 1)
        low = np.concatenate([np.empty(0), *(k[:-1] for k in knots)])
        high = np.concatenate([np.empty(0), *(k[1:] for k in knots)])
        of_piece = np.array(feature, dtype=np.int64)
        share = np.isnan(features).mean(axis=0)
        gap = np.flatnonzero((share >= FEWEST) & (share <= 1 - FEWEST))
        average = np.nanmean(_filled(features[:, of_piece], low, high), axis=0)
        return cls(features.shape[1], of_piece, low, high, average, gap, share[gap])

    def __len__(self) -> int:
        return len(self.feature) + len(self.gap)

    def design(self, features: np.ndarray) -> np.ndarray:
        """[N, F] -> [N, P + Q] float32, each on average 0 over the train samples."""
        filled = _filled(features[:, self.feature], self.low, self.high) - self.average
        gaps = np.isnan(features[:, self.gap]) - self.share
        return np.concatenate([np.nan_to_num(filled), gaps], axis=1).astype(np.float32)


def _filled(values: np.ndarray, low: Floats, high: Floats) -> Floats:
    """[N, P] how far values fill their pieces, NaN where missing."""
    filled: Floats = ((values - low) / (high - low)).clip(0, 1)
    return filled


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
        """Fit the curves twice, shrunk alike and mostly flat, and take the mean of both.

        The mean ranks better than either, from a handful of labels to thousands.

        Args:
            features: [N, F], NaN where missing.
            labels: [N] 0 or 1, both present.
            seed: of the order in which the sparse solver visits the weights.
            threads: not used; the sparse solver has one.
        """
        pieces = Pieces.of(features)
        if not len(pieces):
            return cls(pieces, np.empty(0), float(np.log(labels.mean() / (1 - labels.mean()))))
        design = pieces.design(features)
        models = (_dense(design, labels), _sparse(design, labels, seed))
        weight = np.mean([model.coef_[0] for model in models], axis=0, dtype=np.float64)
        return cls(pieces, weight, float(np.mean([model.intercept_[0] for model in models])))

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
            lists = {f.name: np.array(raw[f.name], _kind(f.name)) for f in fields(Pieces)[1:]}
            pieces = Pieces(int(raw["n_features"]), **lists)
            found = cls(pieces, np.array(raw["weight"], np.float64), float(raw["intercept"]))
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            raise BundleError("additive: its text is damaged; get the bundle anew") from error
        found._check()
        return found

    def _check(self) -> None:
        pieces = self.pieces
        of_piece = (pieces.feature, pieces.low, pieces.high, pieces.average)
        of_gap = (pieces.gap, pieces.share)
        fits = (
            all(values.shape == pieces.feature.shape for values in of_piece)
            and all(values.shape == pieces.gap.shape for values in of_gap)
            and self.weight.shape == (len(pieces),)
        )
        if fits:
            columns = np.concatenate([pieces.feature, pieces.gap])
            numbers = np.concatenate([*of_piece, *of_gap, self.weight, [self.intercept]])
            fits = (
                bool(np.isfinite(numbers).all())
                and bool(((columns >= 0) & (columns < pieces.n_features)).all())
                and bool((pieces.low < pieces.high).all())
            )
        if not fits:
            raise BundleError("additive: its numbers do not fit together; get the bundle anew")

    def logit(self, features: np.ndarray) -> np.ndarray:
        """[N, F] features, NaN where missing -> [N] uncalibrated logits."""
        parts = [
            self.pieces.design(features[start : start + CHUNK]) @ self.weight
            for start in range(0, len(features), CHUNK)
        ]
        return self.intercept + np.concatenate([np.empty(0), *parts])


def _kind(field: str) -> type:
    return np.int64 if field in ("feature", "gap") else np.float64


def _dense(design: np.ndarray, labels: np.ndarray) -> Any:
    """Logistic regression whose prior gives a train sample's logit the same spread everywhere."""
    from sklearn.linear_model import LogisticRegression

    variance = float(np.square(design).sum(axis=1, dtype=np.float64).mean())
    return LogisticRegression(C=PRIOR_SD**2 / variance, max_iter=1000).fit(design, labels)


def _sparse(design: np.ndarray, labels: np.ndarray, seed: int) -> Any:
    """Logistic regression with an L1 penalty (Tibshirani, 1996), which leaves most weights at 0.

    The penalty grows with the noise of the gradient, by the root of the labels' summed variance.
    """
    from sklearn.linear_model import LogisticRegression

    # From 1.8 on scikit-learn reads the kind of penalty from l1_ratio alone.
    is_new = LogisticRegression().penalty == "deprecated"
    return LogisticRegression(
        **({"l1_ratio": 1.0} if is_new else {"penalty": "l1"}),
        C=SPARSITY / float(np.sqrt(len(labels) * labels.var())),
        solver="liblinear",
        intercept_scaling=INTERCEPT_SCALING,
        random_state=seed % 2**31,
        max_iter=1000,
    ).fit(design, labels)
