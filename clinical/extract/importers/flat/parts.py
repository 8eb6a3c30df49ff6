"""Events on their way: written in parts by subject, then each part sorted into a shard."""

from clinical.extract.importers.flat.cells import buckets

from collections.abc import Iterator
from pathlib import Path

import meds
import numpy as np
import polars as pl
import pyarrow as pa

# A part is sorted in memory: about 2 million events of some 30 bytes, from as much text as this.
BYTES_PER_PART = 192 * 2**20
MAX_PARTS = 512

_COLUMNS = ("subject_id", "time", "code", "numeric_value", "text_value", "image_path", "once")
_ONCE = {meds.birth_code: -1, meds.death_code: -2}


def n_parts(n_bytes: int) -> int:
    """How many parts a source of so many bytes of text makes."""
    return int(min(MAX_PARTS, max(1, -(-n_bytes // BYTES_PER_PART))))


class Parts:
    """One Arrow file a part; a subject is in one part only."""

    def __init__(self, folder: Path, n_parts: int) -> None:
        self._folder, self._n_parts = folder, n_parts
        self._writers: dict[int, pa.ipc.RecordBatchStreamWriter] = {}
        self._subjects: list[pl.Series] = []
        self._words: dict[str, int] = {}
        self.n_repeated = 0
        self.n_later = 0
        folder.mkdir()

    @property
    def n_left_out(self) -> int:
        """Events that repeat others, of what is there once for a subject."""
        return self.n_repeated + self.n_later

    def add(self, events: pl.DataFrame, *, once: str | None = None) -> None:
        """Append events, which keep their order within a part.

        Args:
            events: Of one rule.
            once: Of all events of a subject with this word only the first is kept.
        """
        if events.is_empty():
            return
        number = None if once is None else self._words.setdefault(once, len(self._words))
        events = events.with_columns(pl.lit(number, dtype=pl.Int16).alias("once"))
        self._subjects.append(events["subject_id"].unique())
        numbers = buckets(events["subject_id"], self._n_parts)
        for part in np.unique(numbers):
            self._write(int(part), events.filter(pl.Series(numbers == part)))

    def _write(self, part: int, events: pl.DataFrame) -> None:
        table = events.select(_COLUMNS).to_arrow()
        if part not in self._writers:
            # The file is closed by the writer.
            sink = pa.OSFile(str(self._path(part)), "wb")
            self._writers[part] = pa.ipc.new_stream(sink, table.schema)
        self._writers[part].write_table(table)

    def subjects(self) -> pl.Series:
        """Every subject with an event, sorted."""
        return pl.concat(self._subjects).unique().sort()

    def _path(self, part: int) -> Path:
        return self._folder / f"{part}.arrows"

    def shards(self, codes: pl.Series) -> Iterator[pl.DataFrame]:
        """The events of each part, by subject and time, with the text of their codes.

        A static event that is there again with the same value counts once; of births, of deaths and
        of events that a rule says are there once, a subject's first. Parts are removed as they are
        read.

        Args:
            codes: The code of each number.
        """
        for part, writer in sorted(self._writers.items()):
            writer.close()
            with pa.OSFile(str(self._path(part))) as file:
                events = pl.from_arrow(pa.ipc.open_stream(file).read_all())
            assert isinstance(events, pl.DataFrame)
            self._path(part).unlink()
            events = self._once(events, codes).sort("subject_id", "time", maintain_order=True)
            yield events.with_columns(codes.gather(events["code"]).alias("code")).drop("once")

    def _once(self, events: pl.DataFrame, codes: pl.Series) -> pl.DataFrame:
        """Without the repeats of what is said of a subject once."""
        lasting = {n: _ONCE[code] for n, code in enumerate(codes) if code in _ONCE}
        word = pl.col("code").replace_strict(lasting, default=None, return_dtype=pl.Int16)
        is_said = pl.col("time").is_null() | word.is_not_null() | pl.col("once").is_not_null()
        said = events.select(is_said).to_series()
        if not said.any():
            return events
        of_subject = events.filter(said).with_columns(pl.coalesce("once", word).alias("once"))
        is_new = of_subject.select(pl.struct(pl.all()).is_first_distinct()).to_series()
        # Two tables may tell of one death, one of them to the minute and one to the day.
        in_time = of_subject.with_row_index("row").sort("time", maintain_order=True)
        is_first = pl.struct("subject_id", "once").is_first_distinct() | pl.col("once").is_null()
        first = in_time.filter(is_first)["row"]
        kept = is_new.to_numpy() & np.isin(np.arange(of_subject.height), first.to_numpy())
        self.n_repeated += int((~is_new).sum())
        self.n_later += int(is_new.sum() - kept.sum())
        keep = ~said.to_numpy()
        keep[~keep] = kept
        return events.filter(pl.Series(keep))
