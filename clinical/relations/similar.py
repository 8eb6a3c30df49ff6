"""Patients who look alike: in static columns and measurements, or to a pretrained network."""

from clinical.containers import Container, TimeSeries, Vector
from clinical.errors import ConfigError
from clinical.modalities import MODALITIES
from clinical.relations.index import MOST_EXACT, Index, build
from clinical.relations.keys import Edges, Inputs, Keyed, Keys, check_array
from clinical.relations.neighbours import edges, nearest
from clinical.relations.probing import Points

from collections.abc import Collection, Iterator, Mapping
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

_SCALE_FLOOR = 0.1
_CONSTANT = 1e-6
_KEY_DIGITS = 6
_PAIRS_OF = 512
_ROWS = 4096
_MEASURED = frozenset({"events", "static"})

Floats = NDArray[np.float64]


class Similar:
    """The nearest references by a key of what is known of a patient.

    By features these are static columns and event summaries, each with a flag for having been
    observed; what is not observed counts as average. By embedding it is what a pretrained network
    makes of the patient's own data, whatever the modalities; during pretraining nobody has such
    neighbours. Every column is standardised by the reference, and their principal components are
    the key. The weight of an edge is exp(-distance / typical distance). Among more than
    `MOST_EXACT` references an index finds most of the nearest instead of all.

    Args:
        by: "features", or "embedding", which takes pretraining.
        metric: "cosine" compares directions, "euclidean" also lengths of the keys.
        width: Principal components of the key.
        static_weight: Multiplies the standardised static columns, against the events' summaries;
            of features alone.
    """

    in_time: bool = False
    fits_on: ClassVar[int | None] = 20_000
    from_table: ClassVar[bool] = False

    def __init__(
        self,
        *,
        by: Literal["features", "embedding"] = "features",
        metric: Literal["cosine", "euclidean"] = "cosine",
        width: int = 32,
        static_weight: float = 1.0,
    ) -> None:
        if metric not in ("cosine", "euclidean") or width < 1 or static_weight < 0:
            raise ConfigError(
                "graph.relations: similar needs a metric of cosine or euclidean, a width of at "
                "least 1 and a static_weight of at least 0"
            )
        if by not in ("features", "embedding") or (by == "embedding" and static_weight != 1):
            raise ConfigError(
                "graph.relations: similar compares by features or by embedding, and only features "
                "have a static_weight"
            )
        self.by_embedding = by == "embedding"
        self.feeds = frozenset(MODALITIES) if self.by_embedding else _MEASURED
        self.codes: str | None = None
        self.window_hours: float | None = None
        self._metric = metric
        self._width = width
        self._static_weight = static_weight

    def check(self, modalities: Collection[str]) -> None:
        """Refuse a run with none of the modalities that it reads."""
        if not self.feeds & set(modalities):
            raise ConfigError(
                "graph.relations: similar compares events and static, and neither is configured; "
                "add one to modalities or remove the relation"
            )

    def fit(self, reference: Inputs) -> Keys:
        """Scales, components and the typical distance; three passes over the reference."""
        parameters = self._fit_scales(reference)
        parameters |= self._fit_components(reference, parameters)
        key = self.keys(reference, parameters)
        chosen = np.flatnonzero(key["known"])
        chosen = chosen[np.linspace(0, len(chosen) - 1, min(len(chosen), _PAIRS_OF)).astype(int)]
        parameters["typical_distance"] = np.array([_typical_distance(key["key"][chosen])])
        return parameters

    def keys(self, inputs: Inputs, parameters: Keys) -> Keys:
        """The key [N, D] float64, and whether the sample has anything to compare."""
        parts, known = [np.empty((0, parameters["components"].shape[1]))], [np.empty(0, np.uint8)]
        for values, present in self._features(inputs):
            key = self._standardise(values, parameters) - parameters["centre"]
            key = np.round(key @ parameters["components"], _KEY_DIGITS)
            if self._metric == "cosine":
                length = np.sqrt(np.square(key).sum(1, keepdims=True))
                key = np.round(key / np.maximum(length, _CONSTANT), _KEY_DIGITS)
            parts.append(key)
            known.append(present.astype(np.uint8))
        return {"key": np.concatenate(parts), "known": np.concatenate(known)}

    def index(self, reference: Keyed, parameters: Keys, *, k: int) -> Keys:
        """An inverted-file index where references are many."""
        known = np.flatnonzero(reference.keys["known"])
        if len(known) <= MOST_EXACT:
            return {}
        return build(reference.keys["key"], reference.subject, known, k=k).arrays()

    def neighbours(self, samples: Keyed, reference: Keyed, parameters: Keys, *, k: int) -> Edges:
        """The k nearest references; a sample without events and static columns has none.

        Raises:
            BundleError: The index among the parameters is damaged.
        """
        found = Edges.none(len(samples), k)
        if not len(reference):
            return found
        asked = np.flatnonzero(samples.keys["known"])
        query = _points(samples).take(asked)
        index = Index.read(parameters)
        if index is None:
            admitted = _points(reference).take(np.flatnonzero(reference.keys["known"]))
            rows, distance = nearest(
                query.key,
                admitted.key,
                query_subject=query.subject,
                reference_subject=admitted.subject,
                reference_row=admitted.row,
                k=k,
            )
        else:
            rows, distance = index.nearest(query, _points(reference), k=k)
        near = edges(rows, np.exp(-distance / parameters["typical_distance"]))
        found.rows[asked], found.weight[asked] = near.rows, near.weight
        return found

    def check_fitted(
        self,
        parameters: Keys,
        reference: Keys,
        *,
        n_reference: int,
        sizes: Mapping[str, Mapping[str, int]],
    ) -> None:
        """Refuse keys of another width than the components give, or not one a reference."""
        components = check_array(parameters, "components", kind="f", shape=(None, None))
        n_columns, width = components.shape
        for name in ("mean", "scale", "centre"):
            check_array(parameters, name, kind="f", shape=(n_columns,))
        check_array(parameters, "typical_distance", kind="f", shape=(1,))
        check_array(reference, "key", kind="f", shape=(n_reference, width))
        check_array(reference, "known", kind="u", shape=(n_reference,))

    def _features(self, inputs: Inputs) -> Iterator[tuple[Floats, NDArray[np.bool_]]]:
        """Columns [B, F] (NaN = not observed), then their flags; and who has anything [B]."""
        if self.by_embedding:
            yield from _embedded(inputs)
            return
        names = sorted(self.feeds & set(inputs.modalities))
        for block in inputs.blocks(names):
            columns, flags = zip(*(_columns(block[name]) for name in names), strict=True)
            present = np.concatenate(flags, axis=1).sum(1) > 0
            yield np.concatenate([*columns, *flags], axis=1).astype(np.float64), present

    def _fit_scales(self, reference: Inputs) -> Keys:
        count, total, square, weight = (np.zeros(0) for _ in range(4))
        for values, _ in self._features(reference):
            if not len(count):
                count, total, square = (np.zeros(values.shape[1]) for _ in range(3))
            observed = ~np.isnan(values)
            filled = np.where(observed, values, 0)
            count += observed.sum(0)
            total += filled.sum(0)
            square += np.square(filled).sum(0)
        mean = total / np.maximum(count, 1)
        sd = np.sqrt(np.maximum(square / np.maximum(count, 1) - np.square(mean), 0))
        # A rare flag's own deviation would let it outweigh everything else, and so would that of
        # a direction in which a network hardly tells patients apart.
        floor = _SCALE_FLOOR * (sd.max() if self.by_embedding else 1.0)
        weight = np.where(sd > _CONSTANT, 1 / np.maximum(sd, floor), 0)
        return {"mean": mean, "scale": weight * self._column_weights(reference)}

    def _column_weights(self, reference: Inputs) -> Floats | float:
        if self.by_embedding:
            return 1.0
        names = sorted(self.feeds & set(reference.modalities))
        block: Mapping[str, Container] = next(iter(reference.blocks(names)))
        factor = {name: self._static_weight if name == "static" else 1.0 for name in names}
        parts = [(factor[name], _columns(block[name])) for name in names]
        columns = [np.full(values.shape[1], weight) for weight, (values, _) in parts]
        flags = [np.full(observed.shape[1], weight) for weight, (_, observed) in parts]
        return np.concatenate([*columns, *flags])

    def _standardise(self, values: Floats, parameters: Keys) -> Floats:
        centred: Floats = (values - parameters["mean"]) * parameters["scale"]
        return np.where(np.isnan(centred), 0, centred)

    def _fit_components(self, reference: Inputs, parameters: Keys) -> Keys:
        """Leading eigenvectors of the covariance, each with its largest entry positive."""
        n_columns = len(parameters["mean"])
        total, products = np.zeros(n_columns), np.zeros((n_columns, n_columns))
        for values, _ in self._features(reference):
            standard = self._standardise(values, parameters)
            total += standard.sum(0)
            products += standard.T @ standard
        centre = total / len(reference)
        covariance = products / len(reference) - np.outer(centre, centre)
        variances, vectors = np.linalg.eigh(covariance)
        # Fewer references than components span fewer: the rest would be noise in every key.
        n_spanned = max(1, int((variances > _CONSTANT * variances[-1]).sum()))
        leading = vectors[:, ::-1][:, : min(self._width, n_spanned)]
        largest = np.abs(leading).argmax(0)
        leading = leading * np.sign(leading[largest, np.arange(leading.shape[1])])
        return {"centre": centre, "components": leading}


def _points(keyed: Keyed) -> Points:
    return Points(keyed.keys["key"], keyed.subject, keyed.row)


def _embedded(inputs: Inputs) -> Iterator[tuple[Floats, NDArray[np.bool_]]]:
    """What the network makes of some samples [B, D], and of whom anything is visible [B]."""
    assert inputs.embedding is not None, "keys by embedding before there is one"
    for start in range(0, len(inputs), _ROWS):
        embedding = inputs.embedding[start : start + _ROWS]
        yield embedding, np.asarray(np.isfinite(embedding).all(axis=1))


def _columns(container: Container) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """A modality's columns [B, F] (NaN = not observed), and their flags [B, V]."""
    if isinstance(container, Vector):
        observed = container.observed.numpy()
        return np.where(observed, container.value.numpy(), np.float32(np.nan)), observed
    assert isinstance(container, TimeSeries)
    observed = container.summary_observed.numpy()
    summary = container.summary.numpy()
    values = np.where(observed[:, :, None], summary, np.float32(np.nan))
    return values.reshape(len(values), -1), observed


def _typical_distance(keys: Floats) -> float:
    gaps = np.sqrt(np.square(keys[:, None] - keys[None]).sum(2))
    between = gaps[np.triu_indices(len(keys), 1)]
    median = float(np.median(between)) if len(between) else 0.0
    return median if median > 0 else 1.0
