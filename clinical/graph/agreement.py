"""On what neighbours agree with a patient: directions found without a label, and followed.

What goes round among related patients shows in each of them, faintly; in their neighbours' mean
it stands out. The directions of the memory along which the two go together are where a message
is worth reading, and there are few of them, so that few labels suffice to learn what they mean.
"""

import torch
from torch import Tensor

RIDGE = 1e-3
"""Of a covariance, as a share of its mean variance."""
CONFIRMED = 4.0
"""Standard errors that a correlation must exceed in the half that it was not found in."""


def agreed_directions(own: Tensor, others: Tensor, subject: Tensor, *, most: int) -> Tensor:
    """Canonical directions (Hotelling, 1936, doi:10.1093/biomet/28.3-4.321) that hold elsewhere.

    Args:
        own: [N, D] rows of the references.
        others: [N, D] means over their neighbours.
        subject: [N] int64, whose row it is; what is found in half of the subjects, every other one
            in the order of their rows, is confirmed in the others. A subject counts once however
            many rows it has, and its number tells nothing else: it may be a salted hash.
        most: R.

    Returns:
        [D, R] float32; along each, `others` has a variance of 1. From the first that is not
        confirmed on, columns are zero.
    """
    own, others = (x.double() - x.double().mean(0) for x in (own, others))
    found = torch.zeros(own.shape[1], most)
    half = _places(subject) % 2 == 0
    if min(len(subject[h].unique()) for h in (half, ~half)) <= own.shape[1]:
        return found
    held = torch.stack(
        [_correlation(own[~h], others[~h], *_fit(own[h], others[h])) for h in (half, ~half)]
    ).mean(0)[:most]
    n_kept = int((held > CONFIRMED / len(subject.unique()) ** 0.5).long().cumprod(0).sum())
    _, directions = _fit(own, others)
    found[:, :n_kept] = _upright(directions[:, :n_kept]).float()
    return found


def _places(subject: Tensor) -> Tensor:
    """[N] the place of each row's subject among all, in the order of their first rows."""
    subjects, which = subject.unique(return_inverse=True)
    row = torch.arange(len(subject), device=subject.device)
    first = torch.full_like(subjects, len(subject)).scatter_reduce(0, which, row, "amin")
    return first.argsort().argsort()[which]


def followed(readings: Tensor, rows: Tensor) -> Tensor:
    """Directions along which rows that the encoders have moved read what they did before.

    Args:
        readings: [N, R] of the references along the directions when these were found; a column
            of zeros for one that was not.
        rows: [N, D] of the same references now.

    Returns:
        [D, R] float32; what is read along each spreads as far as it did.
    """
    wanted, rows = (x.double() - x.double().mean(0) for x in (readings, rows))
    solved = torch.linalg.solve(_covariance(rows), rows.T @ wanted / len(rows))
    spread, spread_before = ((x).std(0, correction=0) for x in (rows @ solved, wanted))
    stretched = solved * spread_before / spread.clamp_min(1e-12)
    return torch.where(spread_before > 0, stretched, 0.0).float()


def _fit(own: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """Directions [D, D] of either, the closest agreement first."""
    whiten = [torch.linalg.inv(torch.linalg.cholesky(_covariance(x))) for x in (own, others)]
    cross = whiten[0] @ (own.T @ others / len(own)) @ whiten[1].T
    left, _, right = torch.linalg.svd(cross)
    return whiten[0].T @ left, whiten[1].T @ right.T


def _covariance(rows: Tensor) -> Tensor:
    covariance = rows.T @ rows / len(rows)
    ridge = RIDGE * covariance.diagonal().mean().clamp_min(1e-12)
    return covariance + ridge * torch.eye(len(covariance), dtype=rows.dtype)


def _correlation(own: Tensor, others: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """[D] of what is read of either along each direction."""
    a, b = own @ left, others @ right
    a, b = a - a.mean(0), b - b.mean(0)
    return (a * b).mean(0) / (a.square().mean(0) * b.square().mean(0)).sqrt().clamp_min(1e-12)


def _upright(directions: Tensor) -> Tensor:
    """Each with its largest entry positive: an eigenvector's sign is chance."""
    largest = directions.abs().argmax(0)
    signs: Tensor = directions.gather(0, largest[None]).sign()
    return directions * signs
