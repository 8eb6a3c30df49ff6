"""Metrics of the risk of an event by a horizon, where observation may end before it."""

from __future__ import annotations

from clinical.censoring import counts_by, status_by
from clinical.evaluation.metrics import (
    Ranking,
    Scored,
    auroc,
    brier,
    observed_expected,
    scaled_brier,
)

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

MANY = 10_000
"""Subjects from which on resamples of concordance are approximated: exact ones take minutes."""


@dataclass(frozen=True)
class Survival:
    """Risks by a horizon, and what happened.

    Attributes:
        scores: [N] risks in 0..1.
        hours: [N] to the event or to the end of observation.
        observed: [N] bool, it was the event.
        horizon_hours: by which the risks are.
        n_subjects: whose rows they are; of many, resamples of concordance are approximated.
    """

    scores: Array
    hours: Array
    observed: NDArray[np.bool_]
    horizon_hours: float
    n_subjects: int = 0

    names: ClassVar[tuple[str, ...]] = (
        "concordance",
        "AUROC at horizon",
        "Brier at horizon",
        "scaled Brier at horizon",
        "observed / expected at horizon",
    )
    main: ClassVar[tuple[str, ...]] = ("concordance", "AUROC at horizon", "Brier at horizon")

    @cached_property
    def status(self) -> Array:
        """[N] 1 with the event by the horizon, 0 without, NaN if not known."""
        return status_by(self.horizon_hours, self.hours, self.observed)

    @cached_property
    def pairs(self) -> list[Level]:
        """Of rows that can be compared; see `concordance`."""
        return comparable_pairs(self.scores, self.hours, self.observed)

    @cached_property
    def _pairs_of_rows(self) -> tuple[Array, Array]:
        """Of each row; see `pairs_of_rows`."""
        return pairs_of_rows(self.pairs, len(self.hours))

    @cached_property
    def _at_horizon(self) -> tuple[NDArray[np.bool_], Scored, Array]:
        """Rows of known status, their scores, and what each counts."""
        known = ~np.isnan(self.status)
        counts = counts_by(self.horizon_hours, self.hours, self.observed)[known]
        return known, Scored.of(self.scores[known], self.status[known]), counts

    def compute(self, weights: Array, metrics: Collection[str]) -> dict[str, Array]:
        """Some metrics [R] by name, for `weights [R, N]`."""
        found = {}
        if "concordance" in metrics:
            if self.n_subjects < MANY:
                found["concordance"] = concordance(self.pairs, weights)
            else:
                found["concordance"] = first_order_concordance(*self._pairs_of_rows, weights)
        known, scored, counts = self._at_horizon
        weighted = weights[:, known] * counts
        nothing = np.full(len(weights), np.nan)
        if "AUROC at horizon" in metrics:
            is_any = bool(known.any())
            found["AUROC at horizon"] = auroc(Ranking.of(scored, weighted)) if is_any else nothing
        for name, of in AT_HORIZON.items():
            if name in metrics:
                found[name] = of(scored, weighted)
        return found

    def why_undefined(self, metric: str) -> str:
        """Why a metric has no value."""
        if not len(self.hours):
            return "no labelled scores"
        if metric == "concordance":
            return "no row has the event while another is known to be without it for longer"
        if np.isnan(self.status).all():
            return f"nobody's status by {self.horizon_hours:g} hours is known"
        return f"no two rows of different status by {self.horizon_hours:g} hours"

    def notes(self, metric: str) -> list[str]:
        """What to beware of."""
        if metric == "concordance":
            events, is_many = int(self.observed.sum()), self.n_subjects >= MANY
            said = [f"only {events} events: wide, rough interval"] if events < 10 else []
            return said + ["interval to first order"] * is_many
        known, events = int((~np.isnan(self.status)).sum()), int(np.nansum(self.status))
        said = [f"{events} events by then; status known of {known}"]
        return said if metric.startswith("AUROC") else []


AT_HORIZON = {
    "Brier at horizon": brier,
    "scaled Brier at horizon": scaled_brier,
    "observed / expected at horizon": observed_expected,
}
"""Metrics of a yes-or-no label, of the rows whose status is known, each for those it stands for."""


@dataclass(frozen=True)
class Level:
    """Pairs of an earlier event and a later row, at one level of halving the time.

    Attributes:
        order: [n] the events of earlier halves and all rows of later ones: by pair of halves, then
            by rising risk, and of equal risks the events last.
        later: [n] 1 where the row, in this order, is in a later half.
        halves: [2, H] the first place in `order` of each pair of halves, and that behind its last.
        ties: [2, G] the same of equal risks of which one is an event's and another a later row's.
    """

    order: NDArray[np.int64]
    later: Array
    halves: NDArray[np.int64]
    ties: NDArray[np.int64]


def comparable_pairs(scores: Array, hours: Array, observed: NDArray[np.bool_]) -> list[Level]:
    """All pairs of a row with an event and one known to be without it for longer.

    Every pair of different times is told apart at exactly one bit of the times' ranks, so that
    log2(N) sorts find N² pairs.
    """
    # At the same time who is censored is known to be without the event for longer.
    _, rank = np.unique(np.stack([hours, ~observed]), axis=1, return_inverse=True)
    rank = rank.reshape(-1)
    _, risk = np.unique(scores, return_inverse=True)
    n_risks = int(risk.max(initial=0)) + 1
    found = []
    for bit in range(int(rank.max(initial=0)).bit_length()):
        is_later = (rank >> bit) & 1 == 1
        rows = np.flatnonzero(is_later | observed)
        half = rank[rows] >> (bit + 1)
        key = half * n_risks + risk[rows]
        order = np.argsort(2 * key + ~is_later[rows], kind="stable")
        later = is_later[rows[order]].astype(np.float64)
        first, last = equal = _spans(key[order])
        n_later = np.diff(np.append(0, later.cumsum()[last - 1]))
        found.append(
            Level(
                order=rows[order],
                later=later,
                halves=_spans(half[order]),
                ties=equal[:, (n_later > 0) & (n_later < last - first)],
            )
        )
    return found


def _spans(ordered: NDArray[np.int64]) -> NDArray[np.int64]:
    """[2, G] the first place of each group of equal ones, and that behind its last."""
    cuts = np.flatnonzero(np.diff(ordered)) + 1
    return np.stack([np.append(0, cuts), np.append(cuts, len(ordered))])


def concordance(pairs: list[Level], weights: Array) -> Array:
    """Harrell's C [R]: how often of a comparable pair the earlier event had the higher risk.

    Equal risks count one half (Harrell et al., 1982).
    """
    right, total = np.zeros(len(weights)), np.zeros(len(weights))
    # Made once: fresh pages would cost more than the sums. The first place holds the 0 before all.
    space = np.zeros((3, *np.add(weights.shape, (0, 1))))
    for level in pairs:
        own, events, later = space[:, :, : len(level.order) + 1]
        np.take(weights, level.order, axis=1, out=own[:, 1:], mode="clip")
        np.multiply(own[:, 1:], level.later, out=later[:, 1:])
        own -= later
        np.cumsum(own, axis=1, out=events)
        np.cumsum(later, axis=1, out=later)
        # Each event with the later rows up to it, less those of other halves and half of equals.
        right += np.einsum("rn,rn->r", own, later)
        there, before, beside = _of_groups(events, later, level.halves)
        right -= np.einsum("rh,rh->r", there, before)
        total += np.einsum("rh,rh->r", there, beside)
        there, _, beside = _of_groups(events, later, level.ties)
        right -= np.einsum("rg,rg->r", there, beside) / 2
    result = np.full(len(weights), np.nan)
    np.divide(right, total, out=result, where=total > 0)
    return result


def _of_groups(events: Array, later: Array, spans: NDArray[np.int64]) -> tuple[Array, Array, Array]:
    """Of each group [R, G]: its events, the later rows before it, and those in it."""
    first, last = spans
    before = np.take(later, first, axis=1)
    there = np.take(events, last, axis=1) - np.take(events, first, axis=1)
    return there, before, np.take(later, last, axis=1) - before


def pairs_of_rows(pairs: list[Level], n_rows: int) -> tuple[Array, Array]:
    """[N] the pairs of each row, as the earlier or the later one: the right ones, and all."""
    right, total = np.zeros((2, n_rows))
    for level in pairs:
        is_later = level.later == 1
        later = np.append(0.0, np.cumsum(is_later))
        events = np.append(0.0, np.cumsum(~is_later))
        first, last = np.repeat(level.halves, np.diff(level.halves, axis=0)[0], axis=1)
        total[level.order] += np.where(
            is_later, events[last] - events[first], later[last] - later[first]
        )
        # Above a later row are the events of its own risk too, below an event the later rows.
        here = np.where(is_later, events[last] - events[1:], later[1:] - later[first])
        sizes = np.diff(level.ties, axis=0)[0]
        first, last = np.repeat(level.ties, sizes, axis=1)
        tied = first + np.arange(len(first)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        equal = np.where(is_later[tied], events[last] - events[first], later[last] - later[first])
        here[tied] -= equal / 2
        right[level.order] += here
    return right, total


def first_order_concordance(right: Array, total: Array, weights: Array) -> Array:
    """Harrell's C [R] of weights near 1, from the pairs of each row with all the others.

    Exact for weights of 1. Otherwise both sums of pairs lack what is of second order in the
    weights less 1: of S resampled subjects about 1 / sqrt(S) of the standard error.
    """
    above = weights @ right - right.sum() / 2
    below = weights @ total - total.sum() / 2
    result = np.full(len(weights), np.nan)
    np.divide(above, below, out=result, where=below > 0)
    return result
