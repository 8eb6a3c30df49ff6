"""Events on their way: written in parts by subject, then each part sorted into a shard."""

from clinical.extract.importers.flat.cells import buckets
from clinical.extract.importers.flat.codebook import Codebook

from collections.abc import Iterator, Sequence
from pathlib import Path

import meds
import numpy as np
import polars as pl
import pyarrow as pa

# A part is sorted in memory: about 2 million events of some 30 bytes, from as much text as this.
BYTES_PER_PART = 192 * 2**20
MAX_PARTS = 512

_COLUMNS = ("subject_id", "time", "code", "numeric_value", "text_value", "image_path")


def n_parts(n_bytes: int) -> int:
    """How many parts a source of so many bytes of text makes."""
    return int(min(MAX_PARTS, max(1, -(-n_bytes // BYTES_PER_PART))))


class Parts:
    """One Arrow file a part; a subject is in one part only."""

    def __init__(self, folder: Path, n_parts: int) -> None:
        self._folder, self._n_parts = folder, n_parts
        self._writers: dict[int, pa.ipc.RecordBatchStreamWriter] = {}
        self._subjects: list[pl.Series] = []
        self.n_repeated = 0
        folder.mkdir()

    def add(self, events: pl.DataFrame) -> None:
        """Append events, which keep their order within a part."""
        if events.is_empty():
            return
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

    def shards(self, codebook: Codebook) -> Iterator[pl.DataFrame]:
        """The events of each part, by subject and time, with the text of their codes.

        A static event, a birth, a death or what a mapping wants once counts once if it is there
        again with the same value. Parts are removed as they are read.
        """
        codes = codebook.texts()
        once = [n for n, code in enumerate(codes) if code in (meds.birth_code, meds.death_code)]
        once += sorted(codebook.once)
        for part, writer in sorted(self._writers.items()):
            writer.close()
            with pa.OSFile(str(self._path(part))) as file:
                events = pl.from_arrow(pa.ipc.open_stream(file).read_all())
            assert isinstance(events, pl.DataFrame)
            self._path(part).unlink()
            events = self._once(events, once).sort("subject_id", "time", maintain_order=True)
            yield events.with_columns(codes.gather(events["code"]).alias("code"))

    def _once(self, events: pl.DataFrame, once: Sequence[int]) -> pl.DataFrame:
        """Without the repeats of static events and of the codes that count once."""
        is_said = pl.col("time").is_null() | pl.col("code").is_in(once)
        said = events.select(is_said).to_series()
        of_subject = events.filter(said)
        if of_subject.height == of_subject.n_unique():
            return events
        keep = ~said.to_numpy()
        keep[~keep] = of_subject.select(pl.struct(pl.all()).is_first_distinct()).to_series()
        self.n_repeated += int((~keep).sum())
        return events.filter(pl.Series(keep))
