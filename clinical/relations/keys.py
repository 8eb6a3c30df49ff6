"""What a relation may know of samples, and what it makes of it: keys, then edges.

Nothing here holds a label, an identifier or anything later than a prediction time.
"""

from clinical.cohort.columns import Array
from clinical.containers import Container
from clinical.modalities import Statistics

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Protocol, Self

import numpy as np
from numpy.typing import NDArray

Keys = dict[str, Array]
"""Arrays [N, ...], one row a sample."""

Blocks = Callable[[Sequence[str]], Iterator[Mapping[str, Container]]]
"""Starts a pass over the samples: the named modalities of one block of them after the other."""


@dataclass(frozen=True)
class Inputs:
    """What keys may be computed from.

    Attributes:
        prediction_time: [N] int64, microseconds.
        code: [N] int64, hash of the sample's newest code that fits the relation's pattern; 0 is
            none.
        modalities: The configured ones.
        blocks: The stored inputs.
        statistics: Modality -> what it learned from train.
        sample: [N] int64, hash of subject and prediction time.
        embedding: [N, D] float64, what a pretrained network makes of each sample by itself, NaN
            where nothing is visible; None before there is such a network.
    """

    prediction_time: NDArray[np.int64]
    code: NDArray[np.int64]
    modalities: tuple[str, ...]
    blocks: Blocks
    statistics: Mapping[str, Statistics] = field(default_factory=dict)
    sample: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    embedding: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.prediction_time)


@dataclass(frozen=True)
class Given:
    """A user's edges into some samples, those that each may know of.

    Attributes:
        where: The table, for messages.
        sample: [E] int64, which of the samples, ascending.
        subject: [E] int64, hash of the subject who is looked at.
        other: [E] int64, hash of the sample that is; 0 = every one of that subject.
        weight: [E] float32 in (0, 1].
    """

    where: str
    sample: NDArray[np.int64]
    subject: NDArray[np.int64]
    other: NDArray[np.int64]
    weight: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.sample)

    def take(self, index: Array) -> Self:
        """The edges into some of the samples, counted anew."""
        ends = (np.searchsorted(self.sample, index, side) for side in ("left", "right"))
        sample, edge = spread(*ends)
        return type(self)(
            self.where, sample, self.subject[edge], self.other[edge], self.weight[edge]
        )


def spread(first: Array, stop: Array) -> tuple[Array, Array]:
    """For runs from `first` [N] up to `stop` [N]: the run of each place, and the places."""
    run = np.repeat(np.arange(len(first)), stop - first)
    start = np.cumsum(stop - first) - (stop - first)
    return run, np.arange(len(run)) - start[run] + first[run]


@dataclass(frozen=True)
class Keyed:
    """Samples as a relation sees them.

    Attributes:
        keys: Arrays [N, ...] of the relation's own.
        subject: [N] int64, hash of the subject; never related to itself.
        row: [N] int64, the rows of the embedding memory; for those scored, of the store.
        given: A user's edges into them; None for references.
    """

    keys: Keys
    subject: NDArray[np.int64]
    row: NDArray[np.int64]
    given: Given | None = None

    def __len__(self) -> int:
        return len(self.row)

    def take(self, index: Array) -> Self:
        """Some of them."""
        keys = {name: array[index] for name, array in self.keys.items()}
        given = None if self.given is None else self.given.take(index)
        return type(self)(keys, self.subject[index], self.row[index], given)

    def joined(self, other: Self) -> Self:
        """These references, then others."""
        if not len(self):
            return other
        if not len(other):
            return self
        keys = {
            name: np.concatenate([array, other.keys[name]]) for name, array in self.keys.items()
        }
        return type(self)(
            keys,
            np.concatenate([self.subject, other.subject]),
            np.concatenate([self.row, other.row]),
        )


@dataclass(frozen=True)
class Edges:
    """References of samples, the closest first.

    Attributes:
        rows: [N, K] int64, -1 where there is none.
        weight: [N, K] float32 in (0, 1], 0 where there is none.
        codes: [N, K, S] int32, rows of the code vocabulary through which an edge exists, the
            weightiest first, -1 = none; None for a relation that is not about codes.
        parts: [N, K, S] float32, what each of them adds to the weight; they add up to it unless
            an edge has more than S codes.
    """

    rows: NDArray[np.int64]
    weight: NDArray[np.float32]
    codes: NDArray[np.int32] | None = None
    parts: NDArray[np.float32] | None = None

    @classmethod
    def none(cls, n_samples: int, k: int) -> Self:
        """No edge at all."""
        return cls(np.full((n_samples, k), -1), np.zeros((n_samples, k), dtype=np.float32))

    @property
    def columns(self) -> dict[str, Array]:
        """The arrays that there are, by name: what a store keeps."""
        held: dict[str, Array | None] = {
            "rows": self.rows,
            "weight": self.weight,
            "codes": self.codes,
            "parts": self.parts,
        }
        return {name: array for name, array in held.items() if array is not None}


class Relation(Protocol):
    """One kind of edge, reference → sample; its keyword arguments are YAML keys.

    Attributes:
        in_time: It compares times of different subjects: it needs a consistent calendar and one
            data set, and admits the samples of a context as references. Among its keys is `time`,
            the prediction time.
        by_embedding: Its keys are made of `Inputs.embedding`: it has neither keys nor edges until
            a network has been pretrained.
        fits_on: References that are enough to learn from, drawn evenly; None for all.
        from_table: Its edges are `Keyed.given`, a table of the extract that has its name.
        feeds: The modalities that its key is computed from: without one of them it has no edges.
            Pretraining that hides something of one drops the relation, or, where its edges name
            their codes and only codes are hidden, what exists through those.
        codes: Pattern of the raw codes whose newest one is `Inputs.code`; None for no such.
        window_hours: How long before the prediction time that code is looked for.
    """

    in_time: bool
    by_embedding: bool
    fits_on: ClassVar[int | None]
    from_table: ClassVar[bool]
    feeds: frozenset[str]
    codes: str | None
    window_hours: float | None

    def check(self, modalities: Collection[str]) -> None:
        """Refuse configured modalities that the relation cannot work with (ConfigError)."""

    def fit(self, reference: Inputs) -> Keys:
        """Learn the parameters of the keys from the reference samples."""

    def keys(self, inputs: Inputs, parameters: Keys) -> Keys:
        """A key for every sample, whatever the others are."""

    def index(self, reference: Keyed, parameters: Keys, *, k: int) -> Keys:
        """More parameters, once all references have keys: what finds them faster, if anything.

        Later calls of `neighbours` bring the same reference, and ask for k or fewer.
        """

    def neighbours(self, samples: Keyed, reference: Keyed, parameters: Keys, *, k: int) -> Edges:
        """The k closest references of every sample, never one of its own subject."""

    def check_fitted(
        self,
        parameters: Keys,
        reference: Keys,
        *,
        n_reference: int,
        sizes: Mapping[str, Mapping[str, int]],
    ) -> None:
        """Refuse arrays that `fit` and `keys` could not have made (ValueError, KeyError).

        Args:
            parameters: As they were read from a bundle, which may come from anywhere.
            reference: The same, the keys of the references.
            n_reference: N.
            sizes: Modality -> sizes of its vocabulary and so on.
        """


def check_array(arrays: Keys, name: str, *, kind: str, shape: tuple[int | None, ...]) -> Array:
    """An array of a bundle, refused (ValueError, KeyError) if it is not as it should be.

    Args:
        arrays: By name.
        name: Of the one.
        kind: NumPy's letter: "i" whole, "u" without sign, "f" floating.
        shape: None stands for any length.
    """
    array = arrays[name]
    fits = array.ndim == len(shape) and all(
        want is None or have == want for have, want in zip(array.shape, shape, strict=True)
    )
    if not fits or array.dtype.kind != kind:
        raise ValueError(f"{name}: {array.dtype} of shape {array.shape}, not {kind} {shape}")
    if kind == "f" and not np.isfinite(array).all():
        raise ValueError(f"{name}: holds values that are not finite")
    return array
