"""Timed codes without a number: diagnoses, drugs, procedures, admissions."""

from clinical.batch import CodeSet
from clinical.cohort.columns import Ragged, open_columns, write_table
from clinical.errors import ConfigError
from clinical.modalities.contract import Counts, Frames, Statistics, nonzero

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

FILE = "codes.arrow"


class Codes:
    """Each code once a sample, with the hours since its newest occurrence.

    The vocabulary is the codes of enough train subjects, those of the most subjects first.

    Args:
        min_subjects: Train subjects who must have a code.
        max_codes: Size of the vocabulary; rarer codes are unknown.
    """

    def __init__(self, *, min_subjects: int = 3, max_codes: int = 5000) -> None:
        if min(min_subjects, max_codes) < 1:
            raise ConfigError("codes: min_subjects and max_codes must be at least 1")
        self.min_subjects = min_subjects
        self.max_codes = max_codes

    def fit(self, shards: Frames, *, seed: int, codes: pl.DataFrame | None = None) -> Statistics:
        """Vocabulary from train, and what codes.parquet says about its ontology.

        Returns:
            `vocabulary`, and `parents`: for each code the rows of all its ancestors that are in
            the vocabulary themselves, also through parents that are not.
        """
        subjects: Counter[str] = Counter()
        for frame in shards():
            counted = frame.group_by("code").agg(pl.col("subject").n_unique())
            subjects.update(dict(counted.iter_rows()))
        eligible = [code for code in subjects if subjects[code] >= self.min_subjects]
        vocabulary = sorted(eligible, key=lambda code: (-subjects[code], code))[: self.max_codes]
        return {"vocabulary": vocabulary, "parents": ancestors(vocabulary, _parents(codes))}

    def sizes(self, statistics: Statistics) -> dict[str, int]:
        """`codes` in the vocabulary."""
        return {"codes": len(statistics["vocabulary"])}

    def write(
        self,
        visible: pl.DataFrame,
        n_samples: int,
        statistics: Statistics,
        folder: Path,
        *,
        read_image: Callable[[str], Path],
        workers: int = 1,
    ) -> Counts:
        """Write one shard.

        Returns:
            `unknown_codes`, events of codes outside the vocabulary.
        """
        vocabulary = pl.Enum(statistics["vocabulary"])
        row = pl.col("code").cast(vocabulary, strict=False).to_physical().cast(pl.Int32)
        # A code without a time is always visible, as if it had just become available.
        hours = pl.col("hours").fill_null(0.0).cast(pl.Float32)
        known = visible.select("sample", row=row, hours=hours).filter(pl.col("row").is_not_null())
        once = known.group_by("sample", "row").agg(pl.col("hours").min())
        once = once.sort(["sample", "hours", "row"], descending=[False, True, False])
        samples = once["sample"].to_numpy()
        table = {
            "code": Ragged.from_rows(once["row"].to_numpy(), samples, n_samples),
            "hours": Ragged.from_rows(once["hours"].to_numpy(), samples, n_samples),
        }
        write_table(folder / FILE, table)
        return nonzero({"unknown_codes": visible.height - known.height})

    def open(self, folders: Sequence[Path], statistics: Statistics) -> "CodesReader":
        """Read back what `write` left in `folders`."""
        return CodesReader(folders)


class CodesReader:
    """Stored codes of all shards."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self._columns = open_columns([folder / FILE for folder in folders])

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """[N] distinct codes of each sample."""
        return self._columns["code"].lengths

    @property
    def present(self) -> NDArray[np.bool_]:
        """[N] at least one code."""
        return self.lengths > 0

    def collate(self, rows: NDArray[np.int64]) -> CodeSet:
        """The samples at `rows` [B], oldest code first, padded to the longest."""
        code, mask = self._columns["code"].take_ragged(rows).padded()
        hours, _ = self._columns["hours"].take_ragged(rows).padded()
        return CodeSet(
            code=torch.from_numpy(code).long(),
            time_hours=torch.from_numpy(hours),
            mask=torch.from_numpy(mask),
        )


def _parents(codes: pl.DataFrame | None) -> dict[str, list[str]]:
    """Direct parents by code, from the columns of MEDS metadata/codes.parquet."""
    if codes is None or "parent_codes" not in codes.columns:
        return {}
    listed = codes.select("code", "parent_codes").drop_nulls()
    return {code: list(parents) for code, parents in listed.iter_rows()}


def ancestors(vocabulary: Sequence[str], parents: Mapping[str, Sequence[str]]) -> list[list[int]]:
    """Rows of the ancestors of each code of the vocabulary, ascending and without itself."""
    row = {code: number for number, code in enumerate(vocabulary)}
    found = []
    for code in vocabulary:
        seen, waiting = {code}, list(parents.get(code, ()))
        while waiting:
            parent = waiting.pop()
            if parent not in seen:
                seen.add(parent)
                waiting.extend(parents.get(parent, ()))
        found.append(sorted(row[other] for other in seen - {code} if other in row))
    return found
