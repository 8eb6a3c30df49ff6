"""Events with a number: irregular measurements and exact summaries of them."""

from clinical.cohort.columns import Ragged, open_columns, write_table
from clinical.containers import SUMMARY_STATISTICS, TimeSeries
from clinical.errors import ConfigError
from clinical.modalities.contract import Counts, Frames, Statistics, nonzero
from clinical.modalities.quantiles import Quantiles
from clinical.modalities.sampling import Sample
from clinical.modalities.summaries import SLOPE, Summaries, summarise

from collections import Counter
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

S = len(SUMMARY_STATISTICS)
FILE = "events.arrow"


class Events:
    """Vitals, labs and all other timed numbers.

    The vocabulary is the codes that carry a finite number in train, the most frequent first.
    Values are stored as positions (`quantiles.py`), and so are the summaries, each statistic of
    each variable by its own knots.

    Args:
        max_variables: Size of the vocabulary; rarer codes are unknown.
        max_events: The newest events of a sample that are kept; summaries are of all.
        summary_variables: The most frequent variables, which have summaries.
        quantiles: Knots of a variable with more distinct values than this.
    """

    def __init__(
        self,
        *,
        max_variables: int = 2000,
        max_events: int = 2048,
        summary_variables: int = 128,
        quantiles: int = 32,
    ) -> None:
        if min(max_variables, max_events) < 1 or summary_variables < 0 or quantiles < 2:
            raise ConfigError(
                "events: max_variables and max_events must be at least 1, quantiles at least 2 "
                "and summary_variables not negative"
            )
        self.max_variables = max_variables
        self.max_events = max_events
        self.summary_variables = summary_variables
        self.quantiles = quantiles

    def fit(
        self,
        shards: Frames,
        *,
        seed: int,
        codes: pl.DataFrame | None = None,
        elsewhere: frozenset[str] = frozenset(),
    ) -> Statistics:
        """Vocabulary and knots from train; what codes are is not used."""
        vocabulary = self._vocabulary(shards)
        n_summaries = min(len(vocabulary), self.summary_variables)
        generator = np.random.default_rng(seed)
        values = Sample(len(vocabulary), generator)
        statistics = Sample(n_summaries * S, generator)
        for frame in shards():
            known = _known(_numbers(frame, Counter()), vocabulary, Counter())
            values.add(known["variable"].to_numpy(), known["numeric_value"].to_numpy())
            found = _summaries(known, n_summaries)
            kept = np.ones(found.statistics.shape, dtype=bool)
            kept[:, SLOPE] = found.has_slope
            statistics.add(_statistic_rows(found)[kept], found.statistics[kept])
        values_knots = Quantiles.fit(*values.get(), len(vocabulary), knots=self.quantiles)
        summary_knots = Quantiles.fit(*statistics.get(), n_summaries * S, knots=self.quantiles)
        return {
            "vocabulary": vocabulary,
            "values": values_knots.to_json(),
            "summaries": summary_knots.to_json(),
        }

    def _vocabulary(self, shards: Frames) -> list[str]:
        counts: Counter[str] = Counter()
        for frame in shards():
            counted = _numbers(frame, Counter()).group_by("code").len()
            counts.update(dict(counted.iter_rows()))
        frequent_first = sorted(counts, key=lambda code: (-counts[code], code))
        return frequent_first[: self.max_variables]

    def sizes(self, statistics: Statistics) -> dict[str, int]:
        """`variables` V of the vocabulary and `summary_variables` of `TimeSeries.summary`."""
        return {
            "variables": len(statistics["vocabulary"]),
            "summary_variables": len(statistics["summaries"]["values"]) // S,
        }

    def variables(self, statistics: Statistics) -> Sequence[str]:
        """The vocabulary."""
        vocabulary: Sequence[str] = statistics["vocabulary"]
        return vocabulary

    def entries(self, statistics: Statistics) -> Sequence[str]:
        """The vocabulary."""
        return self.variables(statistics)

    def write(
        self,
        visible: pl.DataFrame,
        n_samples: int,
        statistics: Statistics,
        folder: Path,
        *,
        read_image: Callable[[str], Path],
        workers: int = 1,
        codes: pl.DataFrame | None = None,
    ) -> Counts:
        """Write one shard.

        Returns:
            `without_number`, `without_time`, `not_finite`, `unknown_codes`, `cut_events`.
        """
        counts: Counter[str] = Counter()
        known = _known(_numbers(visible, counts), statistics["vocabulary"], counts)
        kept = known.filter(pl.int_range(pl.len()).reverse().over("sample") < self.max_events)
        counts["cut_events"] = known.height - kept.height
        variable = kept["variable"].to_numpy()
        knots = Quantiles.from_json(statistics["values"])
        summary, summary_variable = self._summary_columns(known, n_samples, statistics)
        rows = kept["sample"].to_numpy()
        columns = {
            "variable": variable,
            "value": knots.apply(kept["numeric_value"].to_numpy(), variable),
            "hours": kept["hours"].to_numpy().astype(np.float32),
        }
        ragged = {name: Ragged.from_rows(c, rows, n_samples) for name, c in columns.items()}
        ragged |= {"summary": summary, "summary_variable": summary_variable}
        write_table(folder / FILE, ragged)
        return nonzero(counts)

    def _summary_columns(
        self, known: pl.DataFrame, n_samples: int, statistics: Statistics
    ) -> tuple[Ragged, Ragged]:
        found = _summaries(known, self.sizes(statistics)["summary_variables"])
        knots = Quantiles.from_json(statistics["summaries"])
        rows = _statistic_rows(found).ravel()
        position = knots.apply(found.statistics.ravel(), rows).reshape(-1, S)
        variable = found.variable.astype(np.int32)
        return (
            Ragged.from_rows(position, found.sample, n_samples),
            Ragged.from_rows(variable, found.sample, n_samples),
        )

    def open(self, folders: Sequence[Path], statistics: Statistics) -> "EventsReader":
        """Read back what `write` left in `folders`."""
        return EventsReader(folders, self.sizes(statistics)["summary_variables"])


class EventsReader:
    """Stored events of all shards."""

    def __init__(self, folders: Sequence[Path], summary_variables: int) -> None:
        self._columns = open_columns([folder / FILE for folder in folders])
        self._summary_variables = summary_variables

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """[N] events of each sample."""
        return self._columns["hours"].lengths

    @property
    def present(self) -> NDArray[np.bool_]:
        """[N] at least one event."""
        return self.lengths > 0

    def collate(self, rows: NDArray[np.int64]) -> TimeSeries:
        """The samples at `rows` [B], padded to the longest of them."""
        variable, mask = self._columns["variable"].take_ragged(rows).padded()
        value, _ = self._columns["value"].take_ragged(rows).padded()
        hours, _ = self._columns["hours"].take_ragged(rows).padded()
        summary, summary_observed = self._summaries(rows)
        stands = torch.from_numpy(mask)
        return TimeSeries(
            variable=torch.from_numpy(variable).long(),
            value=torch.from_numpy(value),
            time_hours=torch.from_numpy(hours),
            mask=stands,
            observed=stands,
            summary=torch.from_numpy(summary),
            summary_observed=torch.from_numpy(summary_observed),
        )

    def _summaries(self, rows: NDArray[np.int64]) -> tuple[NDArray[Any], NDArray[Any]]:
        sparse = self._columns["summary"].take_ragged(rows)
        at = (sparse.row, self._columns["summary_variable"].take_ragged(rows).values)
        summary = np.zeros((len(rows), self._summary_variables, S), dtype=np.float32)
        observed = np.zeros(summary.shape[:2], dtype=bool)
        summary[at], observed[at] = sparse.values, True
        return summary, observed


def _numbers(frame: pl.DataFrame, counts: Counter[str]) -> pl.DataFrame:
    """The timed events with a finite number; what is left out is counted."""
    timed = frame.filter(pl.col("hours").is_not_null())
    numbered = timed.filter(pl.col("numeric_value").is_not_null())
    finite = numbered.filter(pl.col("numeric_value").is_finite())
    counts["without_time"] += frame.height - timed.height
    counts["without_number"] += timed.height - numbered.height
    counts["not_finite"] += numbered.height - finite.height
    return finite.select("sample", "code", "numeric_value", "hours")


def _known(numbers: pl.DataFrame, vocabulary: Sequence[str], counts: Counter[str]) -> pl.DataFrame:
    """The events of the vocabulary in the order given, with `variable`, its row."""
    variable = pl.col("code").cast(pl.Enum(vocabulary), strict=False).to_physical()
    known = numbers.select("sample", "numeric_value", "hours", variable=variable.cast(pl.Int32))
    known = known.filter(pl.col("variable").is_not_null())
    counts["unknown_codes"] += numbers.height - known.height
    return known


def _summaries(known: pl.DataFrame, n_variables: int) -> Summaries:
    frame = known.filter(pl.col("variable") < n_variables)
    columns = ("sample", "variable", "numeric_value", "hours")
    return summarise(*(frame[column].to_numpy() for column in columns))


def _statistic_rows(found: Summaries) -> NDArray[np.int64]:
    """[P, S] row of the knots of each statistic."""
    return found.variable[:, None] * S + np.arange(S)
