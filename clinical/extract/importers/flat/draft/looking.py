"""What can be seen of tables: their files, their columns and what kind of cells these hold."""

from clinical.errors import ClinicalError
from clinical.extract.importers.flat.cells import as_number, as_text
from clinical.extract.importers.flat.delimited import HEADER_BYTES
from clinical.extract.importers.flat.files import DELIMITED, PARQUET, SourceFile, find_files
from clinical.extract.importers.flat.keys import Times
from clinical.extract.importers.flat.mapping import FileRule, MappingConfig
from clinical.extract.importers.flat.source import Source
from clinical.extract.importers.flat.streams import open_bytes
from clinical.extract.importers.flat.times import TimeSettings, read_times
from clinical.extract.importers.flat.written import is_day_format

import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import polars as pl
from pydantic import TypeAdapter

SAMPLE_ROWS = 20_000
SAMPLE_FILES = 5
FORMATS = (
    *("%d.%m.%Y %H:%M:%S", "%d.%m.%Y %H:%M", "%d.%m.%Y", "%m/%d/%Y %H:%M", "%m/%d/%Y"),
    *("%d/%m/%Y %H:%M", "%d/%m/%Y", "%Y%m%d", "%Y/%m/%d"),
)
"""Beside ISO 8601; where a sample fits several, the first is guessed and asked about."""
FILE_NUMBER = "file_id"
MARKERS = ("NA", "N/A", "NULL", "null", "None", "?", "-", ".", "NaN", "nan")
"""What often stands for nothing."""
FLAGS = frozenset(("0", "1", "y", "n", "yes", "no", "true", "false"))

_TIMES = TypeAdapter(Times)
_MOST = 0.9
_MARKS = (",", ";", "\t", "|")


@dataclass(frozen=True)
class SeenColumn:
    """A column of a sample.

    Attributes:
        name: As the files have it.
        is_time: Nearly all cells are times.
        formats: Those beside ISO 8601 that fit; several where it can't be told.
        is_day: The times are days, written as such or as midnight.
        is_number: Nearly all cells are numbers, with a comma where `has_comma`.
        is_flag: All cells are 0 or 1, yes or no.
        is_whole: Nearly all cells are whole numbers.
        markers: Words among numbers and times that often stand for nothing.
        cells: The different ones.
        is_unique: No cell is there twice.
        mean_length: Characters of a cell.
    """

    name: str
    is_time: bool
    formats: tuple[str, ...]
    is_day: bool
    is_number: bool
    has_comma: bool
    is_flag: bool
    is_whole: bool
    markers: tuple[str, ...]
    cells: frozenset[str]
    is_unique: bool
    mean_length: float


@dataclass(frozen=True)
class SeenTable:
    """Files of one shape.

    Attributes:
        name: A word for it.
        pattern: Of its files.
        n_files: How many there are.
        separator: Where it isn't the one of the file's name.
        encoding: Of its text.
        columns: In order; those that the name of the file gives come last.
        n_rows: Of the sample.
        problem: Why it could not be looked at, and nothing else is known then.
    """

    name: str
    pattern: str
    n_files: int
    separator: str | None
    encoding: str
    columns: tuple[SeenColumn, ...]
    n_rows: int
    problem: str | None = None

    def column(self, name: str) -> SeenColumn | None:
        """A column by its name."""
        return next((column for column in self.columns if column.name == name), None)


def look(source: Path) -> tuple[list[SeenTable], dict[str, int]]:
    """Every table of a folder, and how many files of other kinds there are, by their ending."""
    patterns: dict[str, int] = {}
    others: dict[str, int] = {}
    for name in _names(source):
        ending = Path(name.lower().removesuffix(".gz")).suffix
        if ending in (*DELIMITED, PARQUET):
            patterns[name] = patterns.get(name, 0) + 1
        else:
            others[ending or "no ending"] = others.get(ending or "no ending", 0) + 1
    return _named([_look_at(source, *group) for group in _groups(list(patterns))]), others


def _named(tables: list[SeenTable]) -> list[SeenTable]:
    """Tables with a name of their own each."""
    seen: Counter[str] = Counter()
    found = []
    for table in tables:
        seen[table.name] += 1
        again = seen[table.name]
        found.append(table if again == 1 else replace(table, name=f"{table.name}_{again}"))
    return found


def _names(source: Path) -> Iterator[str]:
    for folder, inner, names in os.walk(source):
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith("."):
                yield (Path(folder) / name).relative_to(source).as_posix()


def _groups(names: list[str]) -> Iterator[tuple[str, int]]:
    """Patterns with the number of their files: names that differ in one number are one table."""
    alike: dict[str, list[str]] = {}
    for name in names:
        alike.setdefault(re.sub(r"\d+", "0", name), []).append(name)
    for same in alike.values():
        if len(same) == 1:
            yield _plain(same[0]), 1
            continue
        pieces = [re.split(r"(\d+)", name) for name in same]
        varying = [n for n in range(1, len(pieces[0]), 2) if len({p[n] for p in pieces}) > 1]
        if len(varying) == 1:
            pattern = list(pieces[0])
            pattern[varying[0]] = f"{{{FILE_NUMBER}}}"
            yield _plain("".join(pattern)), len(same)
        else:
            yield from ((_plain(name), 1) for name in same)


def _plain(name: str) -> str:
    """Without .gz, which a pattern finds by itself."""
    return name[:-3] if name.lower().endswith(".gz") else name


def _look_at(source: Path, pattern: str, n_files: int) -> SeenTable:
    name = re.sub(r"\W+", "_", Path(re.sub(r"\{\w+\}", "", pattern)).with_suffix("").as_posix())
    name = name.strip("_").lower() or "table"
    separator, encoding = None, "utf-8"
    try:
        files = find_files(source, [pattern])
        if not files[0].is_parquet:
            separator, encoding = _sniff(files[0])
        rule = FileRule(files=(pattern,), separator=separator, encoding=encoding)
        config = MappingConfig.model_validate(
            {"name": "draft", "subject": "x", "tables": {"x": {"files": pattern, "samples": _NOW}}}
        )
        opened = Source.open(source, rule, config)
        sample = _sample(opened)
    except ClinicalError as error:
        return SeenTable(name, pattern, n_files, separator, encoding, (), 0, problem=str(error))
    columns = tuple(_see(sample[name]) for name in opened.columns)
    return SeenTable(name, pattern, n_files, separator, encoding, columns, sample.height)


_NOW = {"time": {"day": "2000-01-01"}}


def _sample(source: Source) -> pl.DataFrame:
    """The first rows of the first files, or of one where there is one."""
    few = Source(
        source.rule,
        source.files[:SAMPLE_FILES],
        source.headers[:SAMPLE_FILES],
        (),
        source.missing,
        source.captured,
    )
    frames = [pl.DataFrame(schema=dict.fromkeys(few.columns, pl.String))]
    n_rows = 0
    for batch in few.batches(few.columns):
        frames.append(batch.frame.select(few.columns))
        n_rows += batch.frame.height
        if n_rows >= SAMPLE_ROWS:
            break
    # Without the empty frame the types of Parquet columns stay.
    return pl.concat(frames[1:] or frames, how="vertical_relaxed").head(SAMPLE_ROWS)


def _sniff(file: SourceFile) -> tuple[str | None, str]:
    """What separates the cells of a text file, None where its name says so, and its encoding."""
    with open_bytes(file) as stream:
        start = stream.read(HEADER_BYTES)
    encoding = "utf-8"
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        encoding = "utf-16"
    else:
        try:
            start[: start.rfind(b"\n") + 1].decode("utf-8")
        except UnicodeDecodeError:
            encoding = "latin-1"
    first = start.decode(encoding, errors="replace").partition("\n")[0]
    counts = {mark: first.count(mark) for mark in _MARKS}
    best = max(_MARKS, key=lambda mark: counts[mark])
    name = file.path.name.lower().removesuffix(".gz")
    usual = "|" if name.endswith(".psv") else "\t" if name.endswith(".tsv") else ","
    return (None if not counts[best] or best == usual else best), encoding


def _see(cells: pl.Series) -> SeenColumn:
    text = as_text(cells).drop_nulls()
    markers = [word for word in MARKERS if (text == word).any()]
    is_said = ~text.is_in(markers)
    given, text = cells.filter(as_text(cells).is_not_null()).filter(is_said), text.filter(is_said)
    n_given = max(1, len(text))
    n_numbers = len(as_number(given)[0].drop_nulls())
    n_with_comma = len(as_number(given, decimal=",")[0].drop_nulls())
    has_comma = n_numbers < _MOST * n_given <= n_with_comma
    is_number = len(text) > 0 and (n_numbers >= _MOST * n_given or has_comma)
    formats, is_time, is_day = _seen_formats(given, n_given, is_number=is_number)
    values = frozenset(text.unique().to_list())
    return SeenColumn(
        name=cells.name,
        is_time=is_time,
        formats=formats,
        is_day=is_day,
        is_number=is_number and not is_time,
        has_comma=has_comma,
        is_flag=bool(values) and {value.lower() for value in values} <= FLAGS,
        is_whole=len(text) > 0 and int(text.str.contains(r"^-?\d+$").sum()) >= _MOST * n_given,
        # NaN is nothing to numbers by itself, and "None" among texts may be a finding.
        markers=tuple(w for w in markers if w.lower() != "nan") if is_number or is_time else (),
        cells=values,
        is_unique=len(values) == len(text) == len(cells),
        mean_length=float(text.str.len_chars().mean() or 0),  # type: ignore[arg-type]
    )


def _seen_formats(
    given: pl.Series, n_given: int, *, is_number: bool
) -> tuple[tuple[str, ...], bool, bool]:
    """Formats that fit nearly all cells, whether any or ISO 8601 does, and if they are days."""
    if len(given) == 0 or given.dtype.is_numeric():
        return (), False, False
    if given.dtype == pl.String and given.str.contains(r"^\s*\d").sum() < _MOST * n_given:
        return (), False, False  # the formats that are tried all begin with a digit
    frame = pl.DataFrame({"t": given})

    def share(rule: object) -> tuple[float, float]:
        read = read_times(frame, _TIMES.validate_python(rule), TimeSettings(zone="UTC"))
        n_read = len(read.values.drop_nulls())
        n_midnight = int((read.values.dt.time() == datetime.min.time()).sum())
        return n_read / n_given, (int(read.is_date.sum()) + n_midnight) / max(1, n_read)

    fits, of_days = share("t")
    if fits >= _MOST:
        return (), True, of_days > _MOST
    if is_number and not as_text(given).str.contains(r"^(?:19|20|21|22)\d{6}$").all():
        return (), False, False
    found = tuple(f for f in FORMATS if share({"column": "t", "formats": [f]})[0] >= _MOST)
    return found, bool(found), bool(found) and is_day_format(found[0])
