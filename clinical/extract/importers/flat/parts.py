"""Events on their way: each unit writes them in parts by subject; a part becomes a shard."""

from clinical.errors import SchemaError
from clinical.extract.importers.flat.cells import buckets
from clinical.extract.write import write_shard
from clinical.places import replacing

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import meds
import numpy as np
import polars as pl
import pyarrow as pa

# A part is sorted in memory: about 2 million events of some 30 bytes, from as much text as this.
BYTES_PER_PART = 192 * 2**20
MAX_PARTS = 512

_COLUMNS = ("subject_id", "time", "code", "numeric_value", "text_value", "image_path", "first_of")
_LASTING = {meds.birth_code: -1, meds.death_code: -2}
"""Of these a subject has one, so that they need no word in a mapping."""


def n_parts(n_bytes: int) -> int:
    """How many parts a source of so many bytes of text makes."""
    return int(min(MAX_PARTS, max(1, -(-n_bytes // BYTES_PER_PART))))


def part_file(folder: Path, part: int) -> Path:
    """Of a unit's events."""
    return folder / f"{part}.arrows"


class PartWriter:
    """One Arrow file a part; a subject is in the same part in every unit."""

    def __init__(self, folder: Path, n_parts: int) -> None:
        self._folder, self._n_parts = folder, n_parts
        self._writers: dict[int, pa.ipc.RecordBatchStreamWriter] = {}
        self._subjects: list[pl.Series] = []

    def add(self, events: pl.DataFrame, *, first_of: int | None = None) -> None:
        """Append events, which keep their order within a part.

        Args:
            events: Of one rule.
            first_of: Number of the word of which a subject's first event counts.
        """
        if events.is_empty():
            return
        events = events.with_columns(pl.lit(first_of, dtype=pl.Int16).alias("first_of"))
        self._subjects.append(events["subject_id"].unique())
        numbers = buckets(events["subject_id"], self._n_parts)
        for part in np.unique(numbers):
            self._write(int(part), events.filter(pl.Series(numbers == part)))

    def _write(self, part: int, events: pl.DataFrame) -> None:
        table = events.select(_COLUMNS).to_arrow()
        if part not in self._writers:
            # The file is closed by the writer.
            sink = pa.OSFile(str(part_file(self._folder, part)), "wb")
            self._writers[part] = pa.ipc.new_stream(sink, table.schema)
        self._writers[part].write_table(table)

    def close(self) -> None:
        """Finish the files."""
        for writer in self._writers.values():
            writer.close()

    @property
    def written(self) -> list[int]:
        """The parts that have events."""
        return sorted(self._writers)

    def subjects(self) -> pl.Series:
        """Every subject with an event, sorted."""
        if not self._subjects:
            return pl.Series("subject_id", [], dtype=pl.Int64)
        return pl.concat(self._subjects).unique().sort()


@dataclass(frozen=True)
class Part:
    """One part of all units, and the shard it becomes.

    Attributes:
        number: Of the part.
        shard: Of the shard.
        root: The extract.
        done: File that tells that the shard is written, and how many events were left out.
        units: The folders of the units that wrote events into it, in order.
        numbers: [codes of the unit] for each unit: the places of its codes in `codes`.
        codes: All codes of the extract.
        once: Places of the codes that count once.
        declared: Columns beyond MEDS' own.
    """

    number: int
    shard: int
    root: Path
    done: Path
    units: tuple[Path, ...]
    numbers: tuple[np.ndarray, ...]
    codes: pl.Series
    once: tuple[int, ...]
    declared: tuple[str, ...]


def write_part(part: Part) -> tuple[int, int]:
    """Write the shard of a part, unless it is there; how many events were repeats, or came later.

    A static event, a birth, a death or what a mapping wants once counts once if it is there again
    with the same value. Of births, deaths and what a mapping wants the first of, a subject's first
    counts: two tables may tell of one death, one of them to the minute and one to the day. The
    files of the units are removed.

    Raises:
        SchemaError: A file of a unit is not there any more.
    """
    if not part.done.exists():
        events, n_repeated = _once(_with_lasting(_read(part), part.codes), part.once)
        events, n_later = _first(events)
        events = events.drop("first_of").sort("subject_id", "time", maintain_order=True)
        events = events.with_columns(part.codes.gather(events["code"]).alias("code"))
        write_shard(part.root, part.shard, events, part.codes, part.declared)
        with replacing(part.done) as draft:
            draft.write_text(json.dumps([n_repeated, n_later]), encoding="utf-8")
    for folder in part.units:
        part_file(folder, part.number).unlink(missing_ok=True)
    n_repeated, n_later = json.loads(part.done.read_text(encoding="utf-8"))
    return n_repeated, n_later


def _read(part: Part) -> pl.DataFrame:
    """The events of all units, in their order, with codes as places in all codes."""
    found = []
    for folder, numbers in zip(part.units, part.numbers, strict=True):
        try:
            with pa.OSFile(str(part_file(folder, part.number))) as file:
                events = pl.from_arrow(pa.ipc.open_stream(file).read_all())
        except FileNotFoundError:
            raise SchemaError(
                f"{folder.name}, part {part.number}: a file of the unfinished import is gone; let "
                "nothing else work in its folder, and import again"
            ) from None
        assert isinstance(events, pl.DataFrame)
        found.append(events.with_columns(code=pl.Series(numbers[events["code"].to_numpy()])))
    return pl.concat(found)


def _with_lasting(events: pl.DataFrame, codes: pl.Series) -> pl.DataFrame:
    """With the numbers of births and deaths among the words."""
    lasting = {n: _LASTING[code] for n, code in enumerate(codes) if code in _LASTING}
    number = pl.col("code").replace_strict(lasting, default=None, return_dtype=pl.Int16)
    return events.with_columns(pl.coalesce("first_of", number).alias("first_of"))


def _first(events: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    """Without what is not a subject's first event of its word."""
    said = events["first_of"].is_not_null()
    if not said.any():
        return events, 0
    in_time = events.filter(said).with_row_index("//row").sort("time", maintain_order=True)
    rows = in_time.filter(pl.struct("subject_id", "first_of").is_first_distinct())["//row"]
    keep = ~said.to_numpy()
    keep[~keep] = np.isin(np.arange(in_time.height), rows.to_numpy())
    return events.filter(pl.Series(keep)), int((~keep).sum())


def _once(events: pl.DataFrame, once: Sequence[int]) -> tuple[pl.DataFrame, int]:
    """Without the repeats of static events and of the codes that count once."""
    is_said = pl.col("time").is_null() | pl.col("code").is_in(list(once))
    said = events.select(is_said).to_series()
    of_subject = events.filter(said)
    if of_subject.height == of_subject.n_unique():
        return events, 0
    keep = ~said.to_numpy()
    keep[~keep] = of_subject.select(pl.struct(pl.all()).is_first_distinct()).to_series()
    return events.filter(pl.Series(keep)), int((~keep).sum())
