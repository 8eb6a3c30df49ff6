"""Patients who have rare codes in common: diagnoses, drugs, procedures."""

from clinical.containers import CodeSet
from clinical.errors import ConfigError
from clinical.modalities.routing import matches
from clinical.relations.keys import Edges, Inputs, Keyed, Keys, check_array
from clinical.relations.neighbours import GRID, Whole, edges
from clinical.relations.overlap import (
    HEAVIEST,
    Codes,
    Postings,
    heaviest_overlap,
    shared_codes,
)

from collections.abc import Collection, Iterator, Mapping
from typing import ClassVar

import numpy as np
import polars as pl

_BEHIND = 8
"""S: codes kept behind an edge, the rarest of those shared."""
_MOST_CODES = 64
_RAREST = HEAVIEST // _MOST_CODES - 1


class SharesCode:
    """The references that share the rarest codes with a sample.

    A code weighs its inverse document frequency, log((n + 1) / (n_with + 1)) over the references
    (Spärck Jones, 1972, doi:10.1108/eb026526). The weight of an edge is

        sum(shared codes) / (typical + sum(all codes of the reference)),

    pivoted normalisation (Singhal, Buckley & Mitra, 1996, doi:10.1145/243199.243206): a reference
    with a long list is nobody's neighbour just for that. What else the sample has doesn't enter,
    so that hiding a code of it leaves the weight which it would have had without the code.

    Only what is visible at the prediction time counts, ancestors of a code don't, and no times are
    compared.

    Cost: a sample walks through all references that have one of its codes, which `max_references`
    bounds. With up to 12 codes a sample, their frequencies by a power law, that took 0.4 ms with
    10,000 references and 1.1 ms with 1,000,000, whose lists were made in 1.5 s once, in 0.9 GB, on
    a busy core (2026-11-23, `benchmarks/shares_code.py`). Up to 25,000 references the default of
    `max_references` changes nothing; among a million it takes away the codes that more than one in
    200 has. Keys and lists take 4 bytes a reference and code each, the edges of a sample 8 bytes
    for each of `k` x 8 codes.

    Args:
        codes: Regular expression of the whole codes that count.
        max_codes: Of a sample: its rarest ones that count.
        max_share: A code that a greater share of the references has relates nobody.
        max_references: The same of their number, so that a sample's cost stays bounded.
    """

    in_time: bool = False
    by_embedding: bool = False
    # Rare codes are told apart by how rare they are.
    fits_on: ClassVar[int | None] = None
    from_table: ClassVar[bool] = False
    feeds: frozenset[str] = frozenset({"codes"})

    def __init__(
        self,
        *,
        codes: str = ".*",
        max_codes: int = 32,
        max_share: float = 0.2,
        max_references: int = 5_000,
    ) -> None:
        if not (1 <= max_codes <= _MOST_CODES and 0 < max_share <= 1 and max_references >= 1):
            raise ConfigError(
                f"graph.relations: shares_code needs max_codes of 1 to {_MOST_CODES}, a max_share "
                "above 0 and up to 1, and max_references of at least 1"
            )
        # Its key is made of the modality, not of a raw code.
        self.codes: str | None = None
        self.window_hours: float | None = None
        self._pattern = codes
        self._max_codes = max_codes
        self._max_share = max_share
        self._max_references = max_references

    def check(self, modalities: Collection[str]) -> None:
        """Refuse a run without codes, or a pattern that is none."""
        self._counts([])
        if "codes" not in modalities:
            raise ConfigError(
                "graph.relations: shares_code compares codes, which are not configured; add codes "
                "to modalities or remove the relation"
            )

    def fit(self, reference: Inputs) -> Keys:
        """Rarity of every code in steps of `GRID`, and the typical sum; two passes."""
        counts = self._counts(reference.statistics["codes"]["vocabulary"])
        n_with = np.zeros(len(counts), dtype=np.int64)
        for codes in _codes(reference):
            n_with += np.bincount(codes.code[codes.mask].numpy(), minlength=len(counts))
        rarity = np.round(np.log((len(reference) + 1) / (n_with + 1)) / GRID).astype(np.int64)
        most = min(self._max_share * len(reference), self._max_references)
        rarity[~counts | (n_with > most)] = 0
        total = _total(self._rarest(reference, rarity), rarity)
        typical = int(total[total > 0].mean()) if total.any() else 0
        return {"rarity": rarity, "typical": np.array([max(typical, 1)])}

    def keys(self, inputs: Inputs, parameters: Keys) -> Keys:
        """The rarest codes that count [N, C] int32, rarest first, -1 = none."""
        return {"code": self._rarest(inputs, parameters["rarity"])}

    def index(self, reference: Keyed, parameters: Keys, *, k: int) -> Keys:
        """Who has each code."""
        found = Postings.of(reference.keys["code"], parameters["rarity"])
        return {"member": found.member, "offset": found.offset, "total": found.total}

    def neighbours(self, samples: Keyed, reference: Keyed, parameters: Keys, *, k: int) -> Edges:
        """The k references of the greatest weight; their rows ascend."""
        rarity, own = parameters["rarity"], samples.keys["code"]
        known, typical = reference.keys["code"], int(parameters["typical"][0])
        if "member" in parameters:
            postings = Postings(*(parameters[name] for name in ("member", "offset", "total")))
        else:
            postings = Postings.of(known, rarity)
        position, weight = heaviest_overlap(
            own,
            postings,
            weight=rarity,
            typical=typical,
            query_subject=samples.subject,
            reference_subject=reference.subject,
            k=k,
        )
        shared = shared_codes(own, known, position, n_kept=_BEHIND)
        has = position >= 0
        rows = np.full_like(position, -1)
        rows[has] = reference.row[position[has]]
        parts = np.zeros(shared.shape, dtype=np.float32)
        divisor = typical + postings.total[position[has], None]
        parts[has] = _values(shared[has], rarity) / divisor
        found = edges(rows, weight)
        return Edges(found.rows, found.weight, shared, parts)

    def check_fitted(
        self,
        parameters: Keys,
        reference: Keys,
        *,
        n_reference: int,
        sizes: Mapping[str, Mapping[str, int]],
    ) -> None:
        """Refuse codes outside the vocabulary, one twice, and weights that cannot be added up."""
        n_codes = sizes["codes"]["codes"]
        rarity = check_array(parameters, "rarity", kind="i", shape=(n_codes,))
        typical = check_array(parameters, "typical", kind="i", shape=(1,))
        if ((rarity < 0) | (rarity > _RAREST)).any() or not 0 < typical[0] < 2**31:
            raise ValueError("rarity or typical: is out of range")
        code = check_array(reference, "code", kind="i", shape=(n_reference, self._max_codes))
        if ((code < -1) | (code >= n_codes)).any():
            raise ValueError("code: is outside the vocabulary")
        ordered = np.sort(code, axis=1)
        if ((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)).any():
            raise ValueError("code: stands twice in a list")
        member = check_array(parameters, "member", kind="i", shape=(None,))
        offset = check_array(parameters, "offset", kind="i", shape=(n_codes + 1,))
        total = check_array(parameters, "total", kind="i", shape=(n_reference,))
        if ((member < 0) | (member >= n_reference)).any() or (total < 0).any():
            raise ValueError("member or total: is out of range")
        if offset[0] != 0 or offset[-1] != len(member) or (np.diff(offset) < 0).any():
            raise ValueError("offset: is of other lists")
        ascends = np.diff(member) > 0
        ends = offset[1:-1]
        ascends[ends[(ends > 0) & (ends < len(member))] - 1] = True
        if not ascends.all():
            raise ValueError("member: a reference stands twice in a list, or out of order")

    def _counts(self, vocabulary: Collection[str]) -> np.ndarray:
        """[V] bool: the code fits the pattern."""
        fits = matches([self._pattern], where="graph.relations.shares_code.codes")
        frame = pl.DataFrame({"code": list(vocabulary)}, schema={"code": pl.String})
        return frame.select(fits.alias("fits"))["fits"].to_numpy()

    def _rarest(self, inputs: Inputs, rarity: Whole) -> Codes:
        """[N, C] codes of the greatest rarity, then of the lowest row."""
        found = np.full((len(inputs), self._max_codes), -1, dtype=np.int32)
        start = 0
        for codes in _codes(inputs):
            row = codes.code.numpy()
            weight = np.where(codes.mask.numpy(), rarity[row], 0) if len(rarity) else 0 * row
            order = np.where(weight > 0, ((_RAREST - weight) << 32) | row, np.iinfo(np.int64).max)
            best = np.sort(order, axis=1)[:, : self._max_codes]
            kept = np.where(best < np.iinfo(np.int64).max, best & 0xFFFFFFFF, -1)
            found[start : start + len(row), : kept.shape[1]] = kept
            start += len(row)
        return found


def _codes(inputs: Inputs) -> Iterator[CodeSet]:
    for block in inputs.blocks(["codes"]):
        codes = block["codes"]
        assert isinstance(codes, CodeSet)
        yield codes


def _values(codes: Codes, rarity: Whole) -> Whole:
    """The weight of each code, 0 for none."""
    return np.append(rarity, 0)[codes]


def _total(codes: Codes, rarity: Whole) -> Whole:
    """[N] weight of all codes of a list."""
    total: Whole = _values(codes, rarity).sum(1, dtype=np.int64)
    return total
