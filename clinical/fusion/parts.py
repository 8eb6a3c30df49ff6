"""What a fusion reads: the modalities of a batch, each encoded by itself."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Parts:
    """The modalities of a batch, M of them.

    Attributes:
        summaries: [B, M, D], in the width of the trunk; anything where not present.
        present: [B, M] bool; of a modality that is not present nothing is read, its tokens
            neither.
        tokens: M of [B, T, D_m], in each encoder's own width, the newest last where they have
            times; anything where not in `masks`.
        masks: M of [B, T] bool, a token stands here.
    """

    summaries: Tensor
    present: Tensor
    tokens: Sequence[Tensor]
    masks: Sequence[Tensor]
