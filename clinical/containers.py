"""One modality of a batch, as the data side hands it to the encoders: frozen tensors.

Missing is a state (`present`, `mask`, `observed`), never a zero. A container is a value:
`replace` returns a new one, and nothing writes into its tensors. Axis letters: `batch.py`.
"""

from dataclasses import dataclass, fields, replace
from typing import Any, Protocol, Self

import torch
from torch import Tensor
from torch.nn.functional import pad

SUMMARY_STATISTICS = ("mean", "min", "max", "first", "last", "sd", "slope", "count", "last_hours")
"""The S axis of `TimeSeries.summary`, in this order."""


def check_tensor(
    name: str, tensor: Tensor, shape: tuple[int | None, ...], *, floating: bool
) -> None:
    """Refuse a tensor of another shape or kind; None stands for any length."""
    fits = tensor.dim() == len(shape) and all(
        want is None or have == want for have, want in zip(tensor.shape, shape, strict=True)
    )
    if not fits:
        raise ValueError(f"{name}: shape {tuple(tensor.shape)} is not {shape}")
    if tensor.is_floating_point() != floating:
        raise ValueError(f"{name}: dtype {tensor.dtype} is not {'float' if floating else 'whole'}")


@dataclass(frozen=True)
class Tensors:
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

    def timeless(self) -> "Container":
        """The same without what two modalities of a sample share though neither is read.

        That is when something was recorded, and as what. Events alone keep the hours between them.
        """

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Self:
        """A new container on another device."""


@dataclass(frozen=True)
class TimeSeries(Tensors):
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
        check_tensor("variable", self.variable, (size, steps), floating=False)
        check_tensor("value", self.value, (size, steps), floating=True)
        check_tensor("time_hours", self.time_hours, (size, steps), floating=True)
        check_tensor("mask", self.mask, (size, steps), floating=False)
        check_tensor("observed", self.observed, (size, steps), floating=False)
        check_tensor("summary", self.summary, (size, None, len(SUMMARY_STATISTICS)), floating=True)
        shape = (size, self.summary.shape[1])
        check_tensor("summary_observed", self.summary_observed, shape, floating=False)

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

    def timeless(self) -> "TimeSeries":
        """The same in hours before a sample's own newest event, which does not say when it was."""
        hours = self.time_hours.masked_fill(~self.mask, torch.inf)
        newest = pad(hours, (0, 1), value=torch.inf).amin(1, keepdim=True)
        clock = torch.tensor([SUMMARY_STATISTICS.index("last_hours")], device=hours.device)
        return self.replace(
            time_hours=(hours - newest).masked_fill(~self.mask, 0.0),
            summary=self.summary.index_fill(2, clock, 0.0),
        )


@dataclass(frozen=True)
class Vector(Tensors):
    """Static columns.

    Attributes:
        value: [B, V] float32, position in the train distribution for a number, 1 for a
            category that the sample has.
        observed: [B, V] bool, the column is known for the sample.
    """

    value: Tensor
    observed: Tensor

    def __post_init__(self) -> None:
        check_tensor("value", self.value, (None, None), floating=True)
        check_tensor("observed", self.observed, tuple(self.value.shape), floating=False)

    @property
    def present(self) -> Tensor:
        """[B] bool: at least one known column."""
        return self.observed.any(1)

    def drop(self, samples: Tensor) -> "Vector":
        """The same with every column of `samples` [B] bool unknown."""
        return self.replace(observed=self.observed & ~samples[:, None])

    def timeless(self) -> "Vector":
        """The same: it says nothing of time."""
        return self


def _rows_present(sample: Tensor, size: int) -> Tensor:
    present = torch.zeros(size, dtype=torch.bool, device=sample.device)
    return present.index_fill(0, sample, True) if len(sample) else present


def _rows_kept(container: Tensors, keep: Tensor | slice) -> dict[str, Tensor]:
    """Every tensor of a container of rows, less the rows that are not in `keep` ([R] bool)."""
    return {
        field.name: value[keep]
        for field in fields(container)
        if isinstance(value := getattr(container, field.name), Tensor)
    }


@dataclass(frozen=True)
class Tokens(Tensors):
    """Notes as word pieces, one row a chunk of a note.

    Attributes:
        ids: [R, L] int64, word pieces, padded where `mask` is false.
        mask: [R, L] bool.
        time_hours: [R] float32, hours from the note to the prediction time.
        kind: [R] int64, row of the vocabulary of kinds of notes (their codes); 0 for one that
            train did not have.
        chunk: [R] int64, which chunk of its note the row is, from 0.
        sample: [R] int64, the sample in the batch that the row belongs to, ascending.
        size: B.
        phrases: [R, K] float32, what counted phrases say of each chunk; K may be 0.
        encoded: [R, F] float32, what the frozen part of the encoder made of each row; `ids` and
            `mask` may then have no columns. None where it is still to be computed.
    """

    ids: Tensor
    mask: Tensor
    time_hours: Tensor
    kind: Tensor
    chunk: Tensor
    sample: Tensor
    size: int
    phrases: Tensor
    encoded: Tensor | None = None

    def __post_init__(self) -> None:
        rows, length = self.ids.shape
        check_tensor("phrases", self.phrases, (rows, None), floating=True)
        check_tensor("ids", self.ids, (rows, length), floating=False)
        check_tensor("mask", self.mask, (rows, length), floating=False)
        check_tensor("time_hours", self.time_hours, (rows,), floating=True)
        for name in ("kind", "chunk", "sample"):
            check_tensor(name, getattr(self, name), (rows,), floating=False)
        if self.encoded is not None:
            check_tensor("encoded", self.encoded, (rows, None), floating=True)

    @property
    def present(self) -> Tensor:
        """[B] bool: at least one note."""
        return _rows_present(self.sample, self.size)

    def drop(self, samples: Tensor) -> "Tokens":
        """The same without the notes of `samples` [B] bool."""
        return self.replace(**_rows_kept(self, ~samples[self.sample]))

    def timeless(self) -> "Tokens":
        """The same, written at the prediction time, of an unknown kind, each chunk a first one."""
        return self.replace(
            time_hours=torch.zeros_like(self.time_hours),
            kind=torch.zeros_like(self.kind),
            chunk=torch.zeros_like(self.chunk),
        )

    def rows(self, some: slice) -> "Tokens":
        """Some rows of the same batch."""
        return self.replace(**_rows_kept(self, some))


@dataclass(frozen=True)
class Images(Tensors):
    """Grey images, one row an image or a slice of a stack of them.

    Attributes:
        pixels: [R, C, H, W] float32, 0 (black) to 1 (white); C is 1, or 3: the row between its
            neighbours in the stack, which a single image repeats.
        observed: [R, H/p, W/p] bool, the patch of p x p pixels may be seen (false: hidden by
            an objective).
        time_hours: [R] float32, hours from the image to the prediction time.
        view: [R] int64, row of the vocabulary of views (the images' codes); 0 for one that train
            did not have.
        position: [R] float32 in [0, 1], from the first slice of the stack to the last; 0.5 for
            a single image.
        sample: [R] int64, the sample in the batch that the row belongs to, ascending.
        size: B.
        encoded: [R, F] float32, what the frozen part of the encoder made of each row; `pixels`
            may then have no height. None where it is still to be computed.
    """

    pixels: Tensor
    observed: Tensor
    time_hours: Tensor
    view: Tensor
    position: Tensor
    sample: Tensor
    size: int
    encoded: Tensor | None = None

    def __post_init__(self) -> None:
        rows = self.pixels.shape[0]
        check_tensor("pixels", self.pixels, (rows, None, None, None), floating=True)
        check_tensor("observed", self.observed, (rows, None, None), floating=False)
        check_tensor("time_hours", self.time_hours, (rows,), floating=True)
        check_tensor("view", self.view, (rows,), floating=False)
        check_tensor("position", self.position, (rows,), floating=True)
        check_tensor("sample", self.sample, (rows,), floating=False)
        if self.encoded is not None:
            check_tensor("encoded", self.encoded, (rows, None), floating=True)

    @property
    def present(self) -> Tensor:
        """[B] bool: at least one image."""
        return _rows_present(self.sample, self.size)

    def drop(self, samples: Tensor) -> "Images":
        """The same without the images of `samples` [B] bool."""
        return self.replace(**_rows_kept(self, ~samples[self.sample]))

    def timeless(self) -> "Images":
        """The same, taken at the prediction time, of an unknown view."""
        return self.replace(
            time_hours=torch.zeros_like(self.time_hours), view=torch.zeros_like(self.view)
        )

    def rows(self, some: slice) -> "Images":
        """Some rows of the same batch."""
        return self.replace(**_rows_kept(self, some))


@dataclass(frozen=True)
class CodeSet(Tensors):
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
        check_tensor("code", self.code, (None, None), floating=False)
        check_tensor("time_hours", self.time_hours, shape, floating=True)
        check_tensor("mask", self.mask, shape, floating=False)

    @property
    def present(self) -> Tensor:
        """[B] bool: at least one code."""
        return self.mask.any(1)

    def drop(self, samples: Tensor) -> "CodeSet":
        """The same without the codes of `samples` [B] bool."""
        return self.replace(mask=self.mask & ~samples[:, None])

    def timeless(self) -> "CodeSet":
        """The same, all of the prediction time: the hours between codes are those of events."""
        return self.replace(time_hours=torch.zeros_like(self.time_hours))
