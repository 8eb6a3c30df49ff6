"""What flows between the data side and the model: frozen containers of tensors.

Axis letters, used everywhere: B samples, T steps (events, codes), V variables, S summary
statistics of a variable or codes behind an edge, R rows (notes or images of a batch, any number
per sample), L word pieces, D width, K neighbours, A aspects, N rows of a table.

Missing is a state (`present`, `mask`, `observed`), never a zero. A container is a value:
`replace` returns a new one, and nothing writes into its tensors.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol, Self

import torch
from torch import Tensor

SUMMARY_STATISTICS = ("mean", "min", "max", "first", "last", "sd", "slope", "count", "last_hours")
"""The S axis of `TimeSeries.summary`, in this order."""


def _check(name: str, tensor: Tensor, shape: tuple[int | None, ...], *, floating: bool) -> None:
    """Refuse a tensor of another shape or kind; None stands for any length."""
    fits = tensor.dim() == len(shape) and all(
        want is None or have == want for have, want in zip(tensor.shape, shape, strict=True)
    )
    if not fits:
        raise ValueError(f"{name}: shape {tuple(tensor.shape)} is not {shape}")
    if tensor.is_floating_point() != floating:
        raise ValueError(f"{name}: dtype {tensor.dtype} is not {'float' if floating else 'whole'}")


@dataclass(frozen=True)
class _Tensors:
    """Shared by the containers: replace fields, move to a device."""

    def replace(self, **changes: Any) -> Self:
        """A new container with some fields exchanged."""
        return replace(self, **changes)

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Self:
        """A new container on another device."""
        moved = {
            field.name: value.to(device, non_blocking=non_blocking)
            for field in fields(self)
            if isinstance(value := getattr(self, field.name), Tensor)
        }
        return replace(self, **moved)


class Container(Protocol):
    """One modality of a batch."""

    @property
    def present(self) -> Tensor:
        """[B] bool: the sample has something visible of this modality."""

    def drop(self, samples: Tensor) -> "Container":
        """The same without anything of `samples` [B] bool, as if never recorded."""

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Self:
        """A new container on another device."""


@dataclass(frozen=True)
class TimeSeries(_Tensors):
    """Irregular measurements, one step an event, and exact summaries of each variable.

    Values are positions among the train split's values of the same variable: 0 and 1 are its
    extreme quantiles, between them the empirical distribution function, linear beyond.

    Attributes:
        variable: [B, T] int64, row of the variable vocabulary; 0 where `mask` is false.
        value: [B, T] float32, position in the train distribution of the variable.
        time_hours: [B, T] float32, hours before the prediction time, at least 0.
        mask: [B, T] bool, an event stands here.
        observed: [B, T] bool, its value may be read (false: hidden by an objective).
        summary: [B, V, S] float32, `SUMMARY_STATISTICS` of the window, each as its position
            in the train distribution of that statistic.
        summary_observed: [B, V] bool, the variable was measured and its summary may be read.
    """

    variable: Tensor
    value: Tensor
    time_hours: Tensor
    mask: Tensor
    observed: Tensor
    summary: Tensor
    summary_observed: Tensor

    def __post_init__(self) -> None:
        size, steps = self.variable.shape
        _check("variable", self.variable, (size, steps), floating=False)
        _check("value", self.value, (size, steps), floating=True)
        _check("time_hours", self.time_hours, (size, steps), floating=True)
        _check("mask", self.mask, (size, steps), floating=False)
        _check("observed", self.observed, (size, steps), floating=False)
        _check("summary", self.summary, (size, None, len(SUMMARY_STATISTICS)), floating=True)
        shape = (size, self.summary.shape[1])
        _check("summary_observed", self.summary_observed, shape, floating=False)

    @property
    def present(self) -> Tensor:
        """[B] bool: at least one event."""
        return self.mask.any(1)

    def drop(self, samples: Tensor) -> "TimeSeries":
        """The same without the events and summaries of `samples` [B] bool."""
        keep = ~samples[:, None]
        return self.replace(
            mask=self.mask & keep,
            observed=self.observed & keep,
            summary_observed=self.summary_observed & keep,
        )


@dataclass(frozen=True)
class Vector(_Tensors):
    """Static columns.

    Attributes:
        value: [B, V] float32, position in the train distribution for a number, 1 for a
            category that the sample has.
        observed: [B, V] bool, the column is known for the sample.
    """

    value: Tensor
    observed: Tensor

    def __post_init__(self) -> None:
        _check("value", self.value, (None, None), floating=True)
        _check("observed", self.observed, tuple(self.value.shape), floating=False)

    @property
    def present(self) -> Tensor:
        """[B] bool: at least one known column."""
        return self.observed.any(1)

    def drop(self, samples: Tensor) -> "Vector":
        """The same with every column of `samples` [B] bool unknown."""
        return self.replace(observed=self.observed & ~samples[:, None])


def _rows_present(sample: Tensor, size: int) -> Tensor:
    present = torch.zeros(size, dtype=torch.bool, device=sample.device)
    return present.index_fill(0, sample, True) if len(sample) else present


@dataclass(frozen=True)
class Tokens(_Tensors):
    """Notes as word pieces, one row a note (or a chunk of one).

    Attributes:
        ids: [R, L] int64, word pieces, padded where `mask` is false.
        mask: [R, L] bool.
        time_hours: [R] float32, hours from the note to the prediction time.
        sample: [R] int64, the sample in the batch that the row belongs to, ascending.
        size: B.
        phrases: [R, K] float32, what counted phrases say of each note; K may be 0.
    """

    ids: Tensor
    mask: Tensor
    time_hours: Tensor
    sample: Tensor
    size: int
    phrases: Tensor

    def __post_init__(self) -> None:
        rows, length = self.ids.shape
        _check("phrases", self.phrases, (rows, None), floating=True)
        _check("ids", self.ids, (rows, length), floating=False)
        _check("mask", self.mask, (rows, length), floating=False)
        _check("time_hours", self.time_hours, (rows,), floating=True)
        _check("sample", self.sample, (rows,), floating=False)

    @property
    def present(self) -> Tensor:
        """[B] bool: at least one note."""
        return _rows_present(self.sample, self.size)

    def drop(self, samples: Tensor) -> "Tokens":
        """The same without the notes of `samples` [B] bool."""
        keep = ~samples[self.sample]
        return self.replace(
            ids=self.ids[keep],
            mask=self.mask[keep],
            time_hours=self.time_hours[keep],
            sample=self.sample[keep],
            phrases=self.phrases[keep],
        )


@dataclass(frozen=True)
class Images(_Tensors):
    """Grey images, one row an image.

    Attributes:
        pixels: [R, 1, H, W] float32, 0 (black) to 1 (white).
        observed: [R, H/p, W/p] bool, the patch of p x p pixels may be seen (false: hidden by
            an objective).
        time_hours: [R] float32, hours from the image to the prediction time.
        sample: [R] int64, the sample in the batch that the row belongs to, ascending.
        size: B.
    """

    pixels: Tensor
    observed: Tensor
    time_hours: Tensor
    sample: Tensor
    size: int

    def __post_init__(self) -> None:
        rows = self.pixels.shape[0]
        _check("pixels", self.pixels, (rows, 1, None, None), floating=True)
        _check("observed", self.observed, (rows, None, None), floating=False)
        _check("time_hours", self.time_hours, (rows,), floating=True)
        _check("sample", self.sample, (rows,), floating=False)

    @property
    def present(self) -> Tensor:
        """[B] bool: at least one image."""
        return _rows_present(self.sample, self.size)

    def drop(self, samples: Tensor) -> "Images":
        """The same without the images of `samples` [B] bool."""
        keep = ~samples[self.sample]
        return self.replace(
            pixels=self.pixels[keep],
            observed=self.observed[keep],
            time_hours=self.time_hours[keep],
            sample=self.sample[keep],
        )


@dataclass(frozen=True)
class CodeSet(_Tensors):
    """Diagnoses, drugs, procedures and other codes without a number; each code once a sample.

    Attributes:
        code: [B, T] int64, row of the code vocabulary; 0 where `mask` is false.
        time_hours: [B, T] float32, hours from its newest occurrence to the prediction time.
        mask: [B, T] bool.
    """

    code: Tensor
    time_hours: Tensor
    mask: Tensor

    def __post_init__(self) -> None:
        shape = tuple(self.code.shape)
        _check("code", self.code, (None, None), floating=False)
        _check("time_hours", self.time_hours, shape, floating=True)
        _check("mask", self.mask, shape, floating=False)

    @property
    def present(self) -> Tensor:
        """[B] bool: at least one code."""
        return self.mask.any(1)

    def drop(self, samples: Tensor) -> "CodeSet":
        """The same without the codes of `samples` [B] bool."""
        return self.replace(mask=self.mask & ~samples[:, None])


@dataclass(frozen=True)
class Neighbours(_Tensors):
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
        _check("rows", self.rows, (None, None), floating=False)
        _check("weight", self.weight, tuple(self.rows.shape), floating=True)
        if (self.codes is None) != (self.parts is None):
            raise ValueError("codes and parts: one is there without the other")
        if self.codes is not None and self.parts is not None:
            _check("codes", self.codes, (*self.rows.shape, None), floating=False)
            _check("parts", self.parts, tuple(self.codes.shape), floating=True)

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
class Target(_Tensors):
    """The truth of one task.

    Attributes:
        value: float32, 0 where not observed. [B] 0 or 1, the place of a class, or a value; [B, C]
            0 or 1 for each class; [B, 2] hours, and whether they are those of the event (1 or 0).
        observed: bool of the same shape, the label is known.
    """

    value: Tensor
    observed: Tensor

    def __post_init__(self) -> None:
        _check("value", self.value, (None,) * min(max(self.value.dim(), 1), 2), floating=True)
        _check("observed", self.observed, tuple(self.value.shape), floating=False)


@dataclass(frozen=True)
class ClinicalBatch:
    """Some samples: what is visible of them, who is related to them, and what is asked.

    Attributes:
        row: [B] int64, row of the sample in its store.
        inputs: modality name -> its container, for every configured modality.
        neighbours: relation name -> edges into these samples.
        targets: task name -> truth; empty when scoring.
    """

    row: Tensor
    inputs: Mapping[str, Container]
    neighbours: Mapping[str, Neighbours]
    targets: Mapping[str, Target]

    def __post_init__(self) -> None:
        size = len(self)
        for name, container in self.inputs.items():
            if len(container.present) != size:
                raise ValueError(f"{name}: {len(container.present)} samples in a batch of {size}")
        for relation, edges in self.neighbours.items():
            if len(edges.rows) != size:
                raise ValueError(f"{relation}: {len(edges.rows)} samples in a batch of {size}")

    def __len__(self) -> int:
        return int(self.row.shape[0])

    def replace(self, **inputs: Container) -> "ClinicalBatch":
        """A new batch with the containers of some modalities exchanged."""
        return replace(self, inputs={**self.inputs, **inputs})

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
        )
