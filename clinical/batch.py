"""What flows between the data side and the model: samples, their relatives and what is asked.

Axis letters, used everywhere: B samples, T steps (events, codes), V variables, S summary
statistics of a variable or codes behind an edge, R rows (chunks of notes, or images and slices,
of a batch; any number per sample), L word pieces, C channels, F what a frozen encoder makes of a
row, D width, K neighbours, A aspects, N rows of a table.
"""

from clinical.containers import Container, Tensors, check_tensor

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Neighbours(Tensors):
    """One relation's edges into the samples of a batch.

    Attributes:
        rows: [B, K] int64, rows of the embedding memory; -1 where there is no neighbour.
        weight: [B, K] float32 in (0, 1], how close the neighbour is; 0 where there is none.
        codes: [B, K, S] int32, rows of the code vocabulary through which the edge exists, -1 where
            there is none; None for a relation that is not about codes.
        parts: [B, K, S] float32, what each of them adds to the weight; they add up to it unless
            an edge has more than S codes.
    """

    rows: Tensor
    weight: Tensor
    codes: Tensor | None = None
    parts: Tensor | None = None

    def __post_init__(self) -> None:
        check_tensor("rows", self.rows, (None, None), floating=False)
        check_tensor("weight", self.weight, tuple(self.rows.shape), floating=True)
        if (self.codes is None) != (self.parts is None):
            raise ValueError("codes and parts: one is there without the other")
        if self.codes is not None and self.parts is not None:
            check_tensor("codes", self.codes, (*self.rows.shape, None), floating=False)
            check_tensor("parts", self.parts, tuple(self.codes.shape), floating=True)

    def drop(self, samples: Tensor) -> "Neighbours":
        """The same without the edges into `samples` [B] bool."""
        return self.keep(~samples[:, None].expand_as(self.rows))

    def keep(self, edges: Tensor) -> "Neighbours":
        """Those of `edges` [B, K] bool."""
        coded = {}
        if self.codes is not None and self.parts is not None:
            lost = ~edges[..., None]
            coded = {
                "codes": self.codes.masked_fill(lost, -1),
                "parts": self.parts.masked_fill(lost, 0.0),
            }
        return self.replace(
            rows=self.rows.masked_fill(~edges, -1),
            weight=self.weight.masked_fill(~edges, 0.0),
            **coded,
        )


@dataclass(frozen=True)
class Target(Tensors):
    """The truth of one task.

    Attributes:
        value: float32, 0 where not observed. [B] 0 or 1, the place of a class, or a value; [B, C]
            0 or 1 for each class; [B, 2] hours, and whether they are those of the event (1 or 0).
        observed: bool of the same shape, the label is known.
    """

    value: Tensor
    observed: Tensor

    def __post_init__(self) -> None:
        check_tensor("value", self.value, (None,) * min(max(self.value.dim(), 1), 2), floating=True)
        check_tensor("observed", self.observed, tuple(self.value.shape), floating=False)


@dataclass(frozen=True)
class ClinicalBatch:
    """Some samples: what is visible of them, who is related to them, and what is asked.

    Attributes:
        row: [B] int64, row of the sample in its store.
        inputs: modality name -> its container, for every configured modality.
        neighbours: relation name -> edges into these samples.
        targets: task name -> truth; empty when scoring.
        withheld: modality name -> [B] bool, samples of which it is encoded but kept from whatever
            brings modalities together; an objective's doing, so empty but in pretraining.
    """

    row: Tensor
    inputs: Mapping[str, Container]
    neighbours: Mapping[str, Neighbours]
    targets: Mapping[str, Target]
    withheld: Mapping[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        size = len(self)
        for name, samples in self.withheld.items():
            check_tensor(f"withheld {name}", samples, (size,), floating=False)
        for name, container in self.inputs.items():
            if len(container.present) != size:
                raise ValueError(f"{name}: {len(container.present)} samples in a batch of {size}")
        for relation, edges in self.neighbours.items():
            if len(edges.rows) != size:
                raise ValueError(f"{relation}: {len(edges.rows)} samples in a batch of {size}")

    def __len__(self) -> int:
        return int(self.row.shape[0])

    def seen(self, modality: str) -> Tensor:
        """[B] bool: the modality is present, and not withheld."""
        present = self.inputs[modality].present
        return present & ~self.withheld[modality] if modality in self.withheld else present

    def replace(self, **inputs: Container) -> "ClinicalBatch":
        """A new batch with the containers of some modalities exchanged."""
        return replace(self, inputs={**self.inputs, **inputs})

    def timeless(self) -> "ClinicalBatch":
        """A new batch in which no modality says when it was recorded, or as what."""
        return self.replace(**{name: c.timeless() for name, c in self.inputs.items()})

    def without_relation(self, name: str) -> "ClinicalBatch":
        """A new batch in which no sample has a neighbour by the relation `name`."""
        if name not in self.neighbours:
            return self
        edges = self.neighbours[name]
        everyone = torch.ones(len(self), dtype=torch.bool, device=edges.rows.device)
        return replace(self, neighbours={**self.neighbours, name: edges.drop(everyone)})

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> "ClinicalBatch":
        """A new batch on another device."""
        return ClinicalBatch(
            row=self.row.to(device, non_blocking=non_blocking),
            inputs={k: v.to(device, non_blocking=non_blocking) for k, v in self.inputs.items()},
            neighbours={
                k: v.to(device, non_blocking=non_blocking) for k, v in self.neighbours.items()
            },
            targets={k: v.to(device, non_blocking=non_blocking) for k, v in self.targets.items()},
            withheld={k: v.to(device, non_blocking=non_blocking) for k, v in self.withheld.items()},
        )
