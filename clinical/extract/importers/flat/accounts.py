"""What became of every row: counts by table and reason, and the places of what was left out."""

from clinical.extract.importers.flat.reasons import ABSENT, Reason

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

REJECTS_SCHEMA = pa.schema(
    [
        ("table", pa.string()),
        ("file", pa.string()),
        ("row", pa.int64()),
        ("rule", pa.string()),
        ("reason", pa.string()),
        ("row_left_out", pa.bool_()),
    ]
)
_ABSENT = np.array([int(reason) for reason in ABSENT])


@dataclass
class Account:
    """Of one table.

    Attributes:
        files: How many it has.
        read: Records of its files.
        imported: Those that gave an event, a label or a sample; read less imported is left out.
        left_out: Records by the reason for giving nothing.
        cells: By reason, what was wrong in records that gave something else.
        events: Events made of it.
        dates: Days without a time, placed at their end.
        twice: Times within the hour that is there twice where summer time ends.
        empty_files: Files without a single character.
        unmatched: For each lookup, rows whose key it doesn't have.
    """

    files: int = 0
    read: int = 0
    imported: int = 0
    left_out: Counter[Reason] = field(default_factory=Counter)
    cells: Counter[Reason] = field(default_factory=Counter)
    events: int = 0
    dates: int = 0
    twice: int = 0
    empty_files: int = 0
    unmatched: Counter[str] = field(default_factory=Counter)

    def add(self, other: "Account") -> None:
        """Take in the counts of other files of the table."""
        for name, count in vars(other).items():
            # Counters add up like numbers.
            setattr(self, name, getattr(self, name) + count)

    def rows(self, table: str) -> dict[str, int]:
        """Counts with their words."""
        counts = {"rows read": self.read, "rows imported": self.imported}
        counts |= {f"rows left out, {why.words}": n for why, n in self.left_out.most_common()}
        counts |= {f"cells left out, {why.words}": n for why, n in self.cells.most_common()}
        counts |= {
            f"rows whose key lookups.{name} doesn't have": n
            for name, n in self.unmatched.items()
            if n
        }
        counts |= {"events": self.events}
        if self.dates:
            counts["dates without a time, placed at the day's end"] = self.dates
        if self.twice:
            counts["times in the hour that is there twice where summer time ends"] = self.twice
        if self.empty_files:
            counts["files that are empty"] = self.empty_files
        return {f"{table}: {words}": count for words, count in counts.items()}


class Rejects:
    """Writes the places of what was left out; no cell of the source is in it."""

    def __init__(self, path: Path) -> None:
        self._writer = pq.ParquetWriter(path, REJECTS_SCHEMA, compression="zstd")

    def close(self) -> None:
        """Finish the file."""
        self._writer.close()

    def add(
        self,
        table: str,
        files: Sequence[str],
        places: tuple[np.ndarray, np.ndarray],
        rule: str | None,
        why: np.ndarray,
        is_whole: np.ndarray,
    ) -> None:
        """Note rows or cells.

        Args:
            table: Its name in the mapping.
            files: What the files of the table are called.
            places: [M] the file's position and the record's number.
            rule: The path of the rule that a cell is of; None for a whole row.
            why: [M] the `Reason`.
            is_whole: [M] whether nothing else of the row was imported either.
        """
        if not len(why):
            return
        words = pl.Series([reason.words for reason in Reason])
        frame = pl.DataFrame(
            {
                "table": pl.Series([table]).new_from_index(0, len(why)),
                "file": pl.Series(files).gather(places[0]),
                "row": places[1],
                "rule": pl.Series([rule], dtype=pl.String).new_from_index(0, len(why)),
                "reason": words.gather(why.astype(np.uint32) - 1),
                "row_left_out": is_whole,
            }
        )
        self._writer.write_table(frame.to_arrow().cast(REJECTS_SCHEMA))


class BatchAccount:
    """Which rows of a batch gave something, while its rules are applied one after the other."""

    def __init__(self, why: np.ndarray) -> None:
        """Start with why rows aren't even asked: [batch] a `Reason`, 0 for those that are."""
        self._first = why.copy()
        self._gave = np.zeros(len(why), dtype=bool)
        self._is_told = np.zeros(len(why), dtype=bool)
        self._wrong: list[tuple[str, np.ndarray, np.ndarray]] = []

    def note(self, path: str, at: np.ndarray, why: np.ndarray) -> None:
        """What a rule made of its rows: `at` [N] their places in the batch, `why` [N]."""
        self._gave[at[why == 0]] = True
        fails = np.flatnonzero(why)
        if not len(fails):
            return
        is_wrong = ~np.isin(why[fails], _ABSENT)
        wrong = fails[is_wrong]
        # What is wrong says more of a row than what it simply does not have.
        later = at[fails[~is_wrong]]
        empty = self._first[later] == 0
        self._first[later[empty]] = why[fails[~is_wrong]][empty]
        if len(wrong):
            untold = ~self._is_told[at[wrong]]
            self._first[at[wrong[untold]]] = why[wrong[untold]]
            self._is_told[at[wrong]] = True
            self._wrong.append((path, at[wrong], why[wrong]))

    def close(
        self,
        account: Account,
        rejects: Rejects,
        table: str,
        files: Sequence[str],
        places: tuple[np.ndarray, np.ndarray],
    ) -> None:
        """Add the batch to the table's account and to the rejects.

        Args:
            account: Of the table.
            rejects: Where the places go.
            table: Its name.
            files: What its files are called.
            places: [batch] file and record of each row.
        """
        out = ~self._gave
        account.read += len(out)
        account.imported += int(self._gave.sum())
        _count(account.left_out, self._first[out])
        for path, at, why in self._wrong:
            _count(account.cells, why[self._gave[at]])
            there = (places[0][at], places[1][at])
            rejects.add(table, files, there, path, why, out[at])
        whole = np.flatnonzero(out & ~self._is_told)
        there = (places[0][whole], places[1][whole])
        rejects.add(table, files, there, None, self._first[whole], np.ones(len(whole), dtype=bool))


def _count(counter: Counter[Reason], why: np.ndarray) -> None:
    for number, count in enumerate(np.bincount(why, minlength=1)):
        if count and number:
            counter[Reason(number)] += int(count)


def add_ragged(
    account: Account,
    rejects: Rejects,
    table: str,
    files: Sequence[str],
    ragged: Sequence[tuple[int, int]],
) -> None:
    """Count records that have more or fewer cells than the header."""
    if not ragged:
        return
    places = np.array(ragged, dtype=np.int64).reshape(-1, 2)
    why = np.full(len(places), Reason.RAGGED, dtype=np.uint8)
    account.read += len(places)
    account.left_out[Reason.RAGGED] += len(places)
    whole = np.ones(len(places), dtype=bool)
    rejects.add(table, files, (places[:, 0], places[:, 1]), None, why, whole)
