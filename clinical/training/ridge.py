"""Ridge regression on blocks of features, each shrunk as far as it tells nothing of new subjects.

How strongly a block is shrunk is chosen by the exact error of leaving each subject out, so that
nothing has to be fitted again; a block that tells nothing ends up with next to no weight.
"""

from clinical.calibration import fit_logistic

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

Array = NDArray[np.float64]

SHARES = tuple(np.geomspace(1e-4, 1.0, 7))
"""Prior variance of what a block adds, in variances of the target: 1e-4 is next to nothing. More
than the target varies would fit a handful of labels by heart, which leaving out does not always
see: of 68 transcriptions chosen for their labels, up to 30 cost 0.036 of average precision."""
FIRST_SHARE = SHARES[4]
FREE = 1e-9
"""Penalty of the constant."""
TURNS = 2
"""In which each block's share is chosen, beside those of the others."""
JUDGED = 2000
"""Samples left out to choose by, about; all are fitted on."""
FEWEST_JUDGED = 100
"""Subjects left out at least, however many samples each has."""


@dataclass(frozen=True)
class Lines:
    """Linear functions of the same blocks.

    Attributes:
        weights: [F, C] of each block.
        constant: [C], added.
        shares: of the blocks, by which they were shrunk.
    """

    weights: Sequence[Array]
    constant: Array
    shares: Sequence[float] = ()

    def __call__(self, blocks: Sequence[Array]) -> Array:
        """[n, C] of blocks [n, F]."""
        parts = [x @ w for x, w in zip(blocks, self.weights, strict=True)]
        found: Array = np.sum(parts, axis=0) + self.constant
        return found


def fit_lines(
    blocks: Sequence[Array],
    targets: Array,
    subject: NDArray[np.int64],
    *,
    are_probabilities: bool,
    shares: Sequence[float] = (),
) -> Lines:
    """The lines that should err least on new subjects.

    Args:
        blocks: at least one, [n, F] each.
        targets: [n, C], in 0..1 where they are probabilities; nothing is unknown.
        subject: [n] whose sample it is; subjects are left out whole.
        are_probabilities: the lines are their logits.
        shares: of the blocks, where they were chosen for targets like these; else they are now.
    """
    mean, spread = targets.mean(0), targets.std(0)
    centres = [x.mean(0) for x in blocks]
    centred = [x - c for x, c in zip(blocks, centres, strict=True)]
    sizes = [np.sqrt((x**2).sum(1).mean()) or 1.0 for x in centred]
    scaled = [x / size for x, size in zip(centred, sizes, strict=True)]
    varied = np.where(spread > 0, spread, 1.0)
    problem = _LeastSquares(scaled, (targets - mean) / varied, subject)
    shares = shares or problem.choose()
    fit = problem.solve(shares)
    slope, constant = spread, mean
    if are_probabilities:
        left_out, known = fit.left_out, targets[problem.judged]
        found = [_as_logit(left_out[:, c], known[:, c], mean[c]) for c in range(len(mean))]
        slope, constant = np.array(found).T
    constant = constant + slope * fit.constant
    ends = np.cumsum([x.shape[1] for x in blocks])[:-1]
    own = [w * slope / size for w, size in zip(np.split(fit.weights, ends), sizes, strict=True)]
    shift = np.sum([c @ w for c, w in zip(centres, own, strict=True)], axis=0)
    return Lines(own, constant - shift, shares)


@dataclass(frozen=True)
class _Fit:
    """Weights [F, C] and constants [C], and [j, C] values of the judged samples by all other
    subjects' targets."""

    weights: Array
    constant: Array
    left_out: Array


class _LeastSquares:
    """Least squares on scaled blocks, for any prior variances of the blocks.

    Attributes:
        judged: [j] samples whose error chooses: whole subjects, spread evenly, nothing is drawn.
    """

    def __init__(self, blocks: Sequence[Array], targets: Array, subject: NDArray[np.int64]) -> None:
        self.widths = [x.shape[1] for x in blocks]
        # A constant is fitted with the rest: the mean of all would tell of who is left out.
        self.design = np.hstack([np.ones((len(subject), 1)), *blocks])
        self.gram = self.design.T @ self.design
        self.product = self.design.T @ targets
        self.targets = targets
        names, place = np.unique(subject, return_inverse=True)
        every = min(np.ceil(len(subject) / JUDGED), len(names) // FEWEST_JUDGED)
        every = max(1, int(every))
        chosen = np.flatnonzero(np.isin(place, np.arange(0, len(names), every)))
        self.judged = chosen[np.argsort(place[chosen], kind="stable")]
        ends = np.flatnonzero(np.diff(place[self.judged])) + 1
        self._subjects = np.split(np.arange(len(self.judged)), ends)

    def choose(self) -> list[float]:
        """The share of each block, one after the other."""
        ends = np.cumsum([1, *self.widths])
        varied = [self.design[:, a:b].any() for a, b in pairwise(ends)]
        shares, known = (FIRST_SHARE,) * len(self.widths), dict[tuple[float, ...], float]()
        for _ in range(TURNS):
            for block in np.flatnonzero(varied):
                tried = [(*shares[:block], share, *shares[block + 1 :]) for share in SHARES]
                known |= {each: self._error(each) for each in tried if each not in known}
                shares = min(tried, key=lambda each: known[each])
        return list(shares)

    def _error(self, shares: Sequence[float]) -> float:
        error = self.solve(shares).left_out - self.targets[self.judged]
        return float(np.mean(error**2))

    def solve(self, shares: Sequence[float]) -> _Fit:
        """The fit on all samples, from which those without a subject follow (Allen, 1974): of the
        subject's residual r and its part H of the hat matrix, the error is (I - H)^-1 r."""
        penalty = np.repeat([FREE, *(1.0 / np.asarray(shares))], [1, *self.widths])
        own, known = self.design[self.judged], self.targets[self.judged]
        solver = cho_factor(self.gram + np.diag(penalty), lower=True, check_finite=False)
        weights = cho_solve(solver, self.product, check_finite=False)
        spread = cho_solve(solver, own.T, check_finite=False).T
        residual = known - own @ weights
        error = residual / np.maximum(1.0 - (spread * own).sum(1), 1e-6)[:, None]
        for some in self._subjects:
            if len(some) > 1:
                hat = spread[some] @ own[some].T
                error[some] = np.linalg.solve(np.eye(len(some)) - hat, residual[some])
        return _Fit(weights[1:], weights[0], known - error)


def _as_logit(value: Array, target: Array, mean: float) -> tuple[float, float]:
    """Slope and constant of the logit by a regression's value in the target's standard deviations.

    Values are those of subjects left out, so that what was fitted too closely is shrunk. A slope
    below zero, of a regression that learned nothing, is none.
    """
    inside = np.clip(mean, 0.5 / (len(value) + 1), 1 - 0.5 / (len(value) + 1))
    # A first guess as wide as itself: a handful of labels says little of the slope.
    start = np.array([1 / np.sqrt(inside * (1 - inside)), np.log(inside / (1 - inside))])
    design = np.column_stack([value, np.ones(len(value))])
    slope, constant = fit_logistic(
        design, target, start=start, ridge=np.array([start[0] ** -2, 0.01])
    )
    if not np.isfinite([slope, constant]).all() or slope <= 0:
        return 0.0, float(start[1])
    return float(slope), float(constant)
