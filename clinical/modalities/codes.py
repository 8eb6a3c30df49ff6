"""Timed codes without a number: diagnoses, drugs, procedures, admissions."""

from clinical.cohort.columns import Ragged, open_columns, write_table
from clinical.containers import CodeSet
from clinical.errors import ConfigError
from clinical.modalities.contract import Counts, Frames, Statistics, nonzero

import logging
from collections import Counter, deque
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

logger = logging.getLogger(__name__)

FILE = "codes.arrow"


class Codes:
    """Each code once a sample, with the hours since its newest occurrence.

    The vocabulary is the codes that enough train subjects have, be it by a special case of them,
    those of the most subjects first: so it holds the classes of the ontology above its codes. A
    code outside it, rare or unseen, stands as the nearest class above it.

    Args:
        min_subjects: Train subjects who must have a code or a special case of it.
        max_codes: Size of the vocabulary.
    """

    def __init__(self, *, min_subjects: int = 3, max_codes: int = 5000) -> None:
        if min(min_subjects, max_codes) < 1:
            raise ConfigError("codes: min_subjects and max_codes must be at least 1")
        self.min_subjects = min_subjects
        self.max_codes = max_codes

    def fit(
        self,
        shards: Frames,
        *,
        seed: int,
        codes: pl.DataFrame | None = None,
        elsewhere: frozenset[str] = frozenset(),
    ) -> Statistics:
        """Vocabulary from train, and what codes.parquet says about its ontology.

        Returns:
            `vocabulary`; `parents`, for each code the rows of all its ancestors in the vocabulary,
            also through parents that are not in it; `subjects`, how many train subjects have each
            code itself, 0 where nobody is asked about it: for fewer than `min_subjects`, and where
            another modality shows the code or a special case of it, so that it could be read there
            (a drug with a dose, when it is given without); `n_subjects`, those with any code;
            `stands_as`, the row by which each code of at least `min_subjects` that is not in the
            vocabulary is known; for others it is read off the codes.parquet at hand (`rows_of`).
        """
        parents = _parents(codes)
        above = dict[str, list[str]]()
        own, any_case, n_subjects = Counter[str](), Counter[str](), 0
        for frame in shards():
            seen = frame.select("subject", pl.col("code").cast(pl.String)).unique()
            for code in seen["code"].unique():
                above.setdefault(code, _upwards(code, parents))
            n_subjects += seen["subject"].n_unique()
            own.update(_subjects(seen))
            any_case.update(_subjects(pl.concat([seen, _classes(seen, above)]).unique()))
        eligible = [code for code, count in any_case.items() if count >= self.min_subjects]
        eligible.sort(key=lambda code: (-any_case[code], code))
        vocabulary = eligible[: self.max_codes]
        shown = {above for code in elsewhere for above in (code, *_upwards(code, parents))}
        subjects = [own[code] if own[code] >= self.min_subjects else 0 for code in vocabulary]
        asked = [
            0 if code in shown else count for code, count in zip(vocabulary, subjects, strict=True)
        ]
        if n_shown := np.count_nonzero(subjects) - np.count_nonzero(asked):
            logger.info(
                "codes: nobody is asked about %d of %d codes that subjects have, since other "
                "modalities show them or special cases of them",
                n_shown,
                np.count_nonzero(subjects),
            )
        # What fewer subjects have is none of a bundle's business; an extract says it of its own.
        known = {code for code, count in own.items() if count >= self.min_subjects}
        return {
            "vocabulary": vocabulary,
            "parents": ancestors(vocabulary, parents),
            "subjects": asked,
            "n_subjects": n_subjects,
            "stands_as": nearest(vocabulary, parents, known),
        }

    def sizes(self, statistics: Statistics) -> dict[str, int]:
        """`codes` in the vocabulary."""
        return {"codes": len(statistics["vocabulary"])}

    def variables(self, statistics: Statistics) -> Sequence[str]:
        """None."""
        return ()

    def entries(self, statistics: Statistics) -> Sequence[str]:
        """The vocabulary."""
        vocabulary: Sequence[str] = statistics["vocabulary"]
        return vocabulary

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
            `unknown_codes`, events of codes that neither the vocabulary nor the ontology knows.
        """
        rows = rows_of(visible["code"].unique().to_list(), statistics, codes)
        known_as = pl.col("code").cast(pl.Enum(list(rows)), strict=False).to_physical()
        row = pl.lit(pl.Series(list(rows.values()), dtype=pl.Int32)).gather(known_as)
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


def check_statistics(statistics: Statistics, *, n_codes: int) -> None:
    """Refuse what `fit` could not have learned (ValueError, KeyError): a bundle may be anybody's.

    Args:
        statistics: As they were read.
        n_codes: V.
    """
    subjects, rows = statistics["subjects"], list(statistics["stands_as"].values())
    above = [row for of_code in statistics["parents"] for row in of_code]
    lengths = {len(statistics[name]) for name in ("vocabulary", "parents", "subjects")}
    if lengths != {n_codes}:
        raise ValueError("codes: vocabulary, parents and subjects are of other sizes")
    if not all(0 <= row < n_codes for row in (*rows, *above)):
        raise ValueError("codes: stands_as or parents name rows that are not there")
    if not all(0 <= count <= statistics["n_subjects"] for count in subjects):
        raise ValueError("codes: subjects are more than there were")


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


def _classes(seen: pl.DataFrame, above: Mapping[str, list[str]]) -> pl.DataFrame:
    """`subject, code`: everything above the codes that subjects have."""
    codes = seen["code"].unique()
    classes = pl.Series([above[code] for code in codes], dtype=pl.List(pl.String))
    table = pl.DataFrame({"code": codes, "above": classes})
    found = seen.join(table, on="code").explode("above").drop_nulls("above")
    return found.select("subject", code="above")


def _subjects(seen: pl.DataFrame) -> dict[str, int]:
    """Subjects by code, of distinct pairs."""
    return dict(seen.group_by("code").len().iter_rows())


def _upwards(code: str, parents: Mapping[str, Sequence[str]]) -> list[str]:
    """All ancestors of a code, the nearest first; a circle is walked once."""
    found = dict.fromkeys([code])
    waiting = deque([code])
    while waiting:
        for parent in sorted(parents.get(waiting.popleft(), ())):
            if parent not in found:
                found[parent] = None
                waiting.append(parent)
    return list(found)[1:]


def rows_of(
    wanted: Collection[str], statistics: Statistics, codes: pl.DataFrame | None
) -> dict[str, int]:
    """The row of the vocabulary by which each of some codes is known, without those unknown.

    Args:
        wanted: Any codes.
        statistics: What was learned from train.
        codes: metadata/codes.parquet of the extract at hand, which says what a code that train
            hardly or never saw is a case of.
    """
    vocabulary = statistics["vocabulary"]
    learned = {code: row for row, code in enumerate(vocabulary)} | statistics["stands_as"]
    strangers = [code for code in wanted if code not in learned]
    found = {code: learned[code] for code in wanted if code in learned}
    return found | nearest(vocabulary, _parents(codes) if strangers else {}, strangers)


def nearest(
    vocabulary: Sequence[str], parents: Mapping[str, Sequence[str]], codes: Collection[str]
) -> dict[str, int]:
    """The row of the nearest ancestor in the vocabulary of each of `codes` outside it, if any."""
    row = {code: number for number, code in enumerate(vocabulary)}
    found = {}
    for code in sorted(set(codes) - row.keys()):
        known = next((above for above in _upwards(code, parents) if above in row), None)
        if known is not None:
            found[code] = row[known]
    return found


def ancestors(vocabulary: Sequence[str], parents: Mapping[str, Sequence[str]]) -> list[list[int]]:
    """Rows of the ancestors of each code of the vocabulary, ascending and without itself."""
    row = {code: number for number, code in enumerate(vocabulary)}
    return [
        sorted(row[above] for above in _upwards(code, parents) if above in row)
        for code in vocabulary
    ]
