"""One relation's message: attention over the memory rows of a sample's neighbours, gated."""

from clinical.batch import Neighbours
from clinical.graph.agreement import agreed_directions, followed
from clinical.graph.memory import EmbeddingMemory

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_N_COUNTS = 2
_N_DIRECTIONS = 4


@dataclass(frozen=True)
class Message:
    """What the neighbours by one relation say to each sample.

    Attributes:
        content: [B, D]; the relation's learned "no neighbour" state where there is none.
        gate: [B] in [0, 1], share of the neighbours' word that is let in; 0 where there is none.
        linked: [B] bool, the sample has a neighbour.
    """

    content: Tensor
    gate: Tensor
    linked: Tensor


class MessagePassing(nn.Module):
    """Attention from a sample's trunk to its neighbours' rows, with a null row beside them.

    The null row makes each head a shrunken mean, sum(a m) / (c + sum(a)), with c learned: the
    estimate of what the neighbours share when each is a noisy reading of it. The first head
    looks at closeness only, so that a plain average over the neighbours is always to be had;
    the others also compare the neighbours with the sample, at first hardly. Rows enter
    linearly, and the number of neighbours, on which the precision of a mean depends, is told.

    What the pooled rows say along the directions on which neighbours agree with a patient
    (`agreement.py`) has a small path of its own, which few labels suffice to learn; what they say
    otherwise starts from nothing.

    Projecting the query rather than the rows keeps a step at O(B K D).

    Args:
        width: D, width of the trunk and of the memory's rows.
        heads: attention patterns, at least 1.
        dropout: on the non-linear part, in training.
    """

    directions: Tensor

    def __init__(self, width: int, *, heads: int = 3, dropout: float = 0.1) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.query = nn.Linear(width, (heads - 1) * width)
        nn.init.normal_(self.query.weight, std=0.1 / math.sqrt(width))
        nn.init.zeros_(self.query.bias)
        self.closeness = nn.Parameter(torch.ones(heads))
        self.null_logit = nn.Parameter(torch.full((heads,), math.log(4.0)))
        self.register_buffer("directions", torch.zeros(width, _N_DIRECTIONS))
        self._readings: Tensor | None = None
        self.agreed = _Word(heads * _N_DIRECTIONS + _N_COUNTS, width, dropout=0.0)
        self.whole = _Word(heads * width + _N_COUNTS, width, dropout=dropout)
        self.whole.start_from_nothing()
        self.gate = nn.Linear(width + _N_COUNTS, 1)
        nn.init.zeros_(self.gate.weight)
        nn.init.zeros_(self.gate.bias)
        self.no_neighbour = nn.Parameter(torch.randn(width) / math.sqrt(width))

    def forward(self, fused: Tensor, memory: EmbeddingMemory, edges: Neighbours) -> Message:
        """One hop.

        Args:
            fused: [B, D], the samples before message passing.
            memory: rows that `edges` point to.
            edges: the relation's neighbours of these samples.
        """
        linked = edges.rows >= 0
        rows = memory.read(edges.rows)
        trunk = self.norm(fused)
        attention = self._attention(trunk, rows, edges.weight, linked)
        counts = _counts(edges.weight, linked)
        pooled = torch.einsum("bhk,bkd->bhd", attention, rows)
        agreed = pooled @ self.directions
        word = self.agreed(torch.cat([agreed.flatten(1), counts], 1))
        word = word + self.whole(torch.cat([pooled.flatten(1), counts], 1))
        anyone = linked.any(1)
        gate = torch.sigmoid(self.gate(torch.cat([trunk, counts], 1))[:, 0]) * anyone
        return Message(self.no_neighbour + gate[:, None] * word, gate, anyone)

    @torch.no_grad()
    def find_directions(self, memory: EmbeddingMemory, edges: Neighbours, subject: Tensor) -> int:
        """Find on what the references' neighbours agree with them; how many directions hold.

        Args:
            memory: of the references.
            edges: the neighbours of every reference, [N, K].
            subject: [N] int64, whose row it is.
        """
        linked = (edges.rows >= 0).any(1)
        own, others = memory.standard(), memory.means(edges)
        found = agreed_directions(own[linked], others[linked], subject[linked], most=_N_DIRECTIONS)
        self.directions = found.to(self.directions)
        self._readings = own @ self.directions
        return int(found.any(0).sum())

    @torch.no_grad()
    def follow(self, memory: EmbeddingMemory) -> None:
        """Keep reading the same of the references after the encoders have moved their rows."""
        if self._readings is not None:
            found = followed(self._readings.cpu(), memory.standard().cpu())
            self.directions = found.to(self.directions)

    def silence(self, fused: Tensor) -> Message:
        """What is heard by a relation that is closed: nobody's neighbour, for nobody [B, D]."""
        nothing = fused.new_zeros(len(fused))
        return Message(self.no_neighbour.expand(len(fused), -1), nothing, nothing.bool())

    def _attention(self, trunk: Tensor, rows: Tensor, weight: Tensor, linked: Tensor) -> Tensor:
        """[B, H, K] shares of the neighbours; with the null row's they sum to 1."""
        size, width = trunk.shape
        query = self.query(trunk).view(size, self.heads - 1, width)
        likeness = torch.einsum("bhd,bkd->bhk", query, rows) / math.sqrt(width)
        likeness = F.pad(likeness, (0, 0, 1, 0))
        near = torch.log(weight.clamp_min(1e-6))
        logits = likeness + self.closeness[:, None] * near[:, None]
        logits = logits.masked_fill(~linked[:, None], -torch.inf)
        null = self.null_logit.expand(size, self.heads)[..., None]
        return torch.softmax(torch.cat([null, logits], 2), 2)[..., 1:]


class _Word(nn.Module):
    """What is read of the neighbours, made into a message: a linear part and a curved one."""

    def __init__(self, n_inputs: int, width: int, *, dropout: float) -> None:
        super().__init__()
        self.linear = nn.Linear(n_inputs, width)
        self.first = nn.Linear(n_inputs, width)
        self.dropout = nn.Dropout(dropout)
        self.last = nn.Linear(width, width)

    def start_from_nothing(self) -> None:
        """A random start would be one more thing to unlearn."""
        for layer in (self.linear, self.last):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, read: Tensor) -> Tensor:
        """[B, n_inputs] -> [B, D]."""
        curved = self.last(self.dropout(F.gelu(self.first(read))))
        word: Tensor = self.linear(read) + curved
        return word


def _counts(weight: Tensor, linked: Tensor) -> Tensor:
    """[B, 2] how many neighbours there are, plainly and by closeness, on a log scale."""
    total = torch.stack([linked.sum(1).to(weight), (weight * linked).sum(1)], 1)
    return torch.log1p(total) / 3.0
