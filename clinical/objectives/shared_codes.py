"""What is left of edges through shared codes once some of a sample's codes are hidden."""

from clinical.batch import Neighbours
from clinical.relations.neighbours import GRID

import torch
from torch import Tensor


def without_codes(edges: Neighbours, codes: Tensor, hidden: Tensor) -> Neighbours:
    """Only edges that a sample would have had, had its hidden codes never been recorded.

    An edge loses its hidden codes and their parts of the weight, and ends with the last one.
    That is not enough: of a full list, the others owe the hidden code their place in it, and a
    reference that another code would have brought in instead is not known. So an edge that now
    comes after the last one of the full list ends too. A reference that isn't listed comes after
    it with or without the hidden code: whatever stays would have stood before all of those.

    Of a sample with more codes than count (`max_codes`) the rarest of those left stand in: the next
    one is not known here.

    Codes beyond the S that are kept are not known: where any code of a sample is hidden, they no
    longer count. Edges that don't name their codes are left as they are.

    Args:
        edges: K edges into each sample; a full list ends with the least weight and, of equal
            ones, the greatest row.
        codes: [B, T] rows of the code vocabulary.
        hidden: [B, T] bool, the code of the sample is hidden.
    """
    if edges.codes is None or edges.parts is None:
        return edges
    gone = (edges.codes[..., None] == codes[:, None, None]) & hidden[:, None, None]
    left = (edges.codes >= 0) & ~gone.any(3)
    parts = edges.parts.masked_fill(~left, 0.0)
    # An edge that names S codes may exist through more.
    loses = gone.any(3).any(2) | (hidden.any(1, keepdim=True) & (edges.codes >= 0).all(2))
    weight = torch.where(loses, parts.sum(2).clamp_min(GRID), edges.weight)
    poorer = edges.replace(weight=weight, codes=edges.codes.masked_fill(~left, -1), parts=parts)
    return poorer.keep(left.any(2) & (_before_last(edges, weight) | ~hidden.any(1, keepdim=True)))


def _before_last(edges: Neighbours, weight: Tensor) -> Tensor:
    """[B, K] bool: with `weight`, the edge would still be in the list, or the list isn't full."""
    steps, before = _steps(weight), _steps(edges.weight)
    last = before.amin(1, keepdim=True)
    last_row = edges.rows.masked_fill(before != last, -1).amax(1, keepdim=True)
    still = (steps > last) | ((steps == last) & (edges.rows <= last_row))
    return still | (edges.rows < 0).any(1, keepdim=True)


def _steps(weight: Tensor) -> Tensor:
    """Weights in whole steps: sums of parts differ from the whole in the last digits."""
    return (weight / GRID).round()
