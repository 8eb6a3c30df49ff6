"""Times as sources write them: texts in formats, ISO 8601, or typed columns."""

from clinical.extract.importers.flat.cells import as_text
from clinical.extract.importers.flat.reasons import Reason

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

ISO = (
    "%Y-%m-%d %H:%M:%S",
    "%Y-%m-%d",
    "%Y-%m-%dT%H:%M:%S",
    "%Y-%m-%d %H:%M:%S%.f",
    "%Y-%m-%dT%H:%M:%S%.f",
    "%Y-%m-%d %H:%M",
    "%Y-%m-%dT%H:%M",
)
DATETIME = pl.Datetime("us")
# Behind a time of day: 10-11-2012 ends in no offset.
_OFFSET = r"(?:T\d{2,6}|:\d{2})(?:\.\d+)?(?:Z|[+-]\d{2}:?\d{2})$"
_FOUR_DIGITS = 1000


@dataclass(frozen=True)
class Written:
    """Times of cells.

    Attributes:
        values: [N] Datetime in microseconds, null where there is none.
        is_day: [N] it is a day without a time.
        is_twice: [N] it lies in the hour that a clock goes through twice, where summer time ends.
        why: [N] the `Reason` for no time, 0 where there is one.
    """

    values: pl.Series
    is_day: np.ndarray
    is_twice: np.ndarray
    why: np.ndarray


def read_written(
    cells: pl.Series, formats: Sequence[str], zone: str | None, *, usual: Sequence[str] = ISO
) -> Written:
    """Times as cells have them.

    Args:
        cells: [N] text, dates or times.
        formats: Of these cells, tried one after the other.
        zone: Where times with a zone are put; without it they have no place.
        usual: Tried where these cells have no formats of their own.
    """
    why = np.where(cells.is_null(), Reason.NO_TIME, 0).astype(np.uint8)
    no = np.zeros(len(cells), dtype=bool)
    if isinstance(cells.dtype, pl.Date):
        return Written(cells.cast(DATETIME), ~no, no, why)
    if isinstance(cells.dtype, pl.Datetime):
        if cells.dtype.time_zone is None:
            return Written(cells.cast(DATETIME), no, no, why)
        if zone is None:
            why[why == 0] = Reason.ZONED
            return Written(nothing(len(cells)), no, no, why)
        values, is_twice = _local(cells, zone)
        return Written(values, no, is_twice, why)
    if cells.dtype != pl.String and not formats:
        # A bare number may be a year, a count of days or seconds: only a format or an anchor says.
        why[why == 0] = Reason.BAD_TIME
        return Written(nothing(len(cells)), no, no, why)
    return _parse(as_text(cells), formats or usual, zone)


def nothing(n_rows: int) -> pl.Series:
    """[N] no time at all."""
    return pl.Series("time", [None], dtype=DATETIME).new_from_index(0, n_rows)


def is_day_format(pattern: str) -> bool:
    """Whether a format has no time of day."""
    return re.search(r"%[-_0^#]?[HIkTRcXsr]", pattern) is None


def _parse(text: pl.Series, formats: Sequence[str], zone: str | None) -> Written:
    values = nothing(len(text))
    is_day, is_twice = np.zeros(len(text), dtype=bool), np.zeros(len(text), dtype=bool)
    why = np.where(text.is_null(), Reason.NO_TIME, Reason.BAD_TIME).astype(np.uint8)
    for pattern in formats:
        pending = np.flatnonzero(why == Reason.BAD_TIME)
        if not len(pending):
            break
        is_all = len(pending) == len(text)
        found = _strptime(text if is_all else text.gather(pending), pattern)
        is_found = found.is_not_null().to_numpy()
        if is_all:
            values = found
        elif is_found.any():
            values = values.scatter(pending[is_found], found.filter(pl.Series(is_found)))
        why[pending[is_found]] = 0
        is_day[pending[is_found]] = is_day_format(pattern)
    pending = np.flatnonzero(why == Reason.BAD_TIME)
    if len(pending) and (offset := text.gather(pending).str.contains(_OFFSET).to_numpy()).any():
        zoned = pending[offset]
        if zone is None:
            why[zoned] = Reason.ZONED
        else:
            found, twice = _local(_with_offset(text.gather(zoned)), zone)
            is_found = found.is_not_null().to_numpy()
            values = values.scatter(zoned[is_found], found.filter(pl.Series(is_found)))
            is_twice[zoned] = twice
            why[zoned[is_found]] = 0
    return Written(values.alias("time"), is_day, is_twice, why)


def _strptime(text: pl.Series, pattern: str) -> pl.Series:
    has_whole_year = re.search("%[-_0^#]?[YF]", pattern) is not None
    for part, others in (("%m", "mbBhjyDFxc"), ("%d", "dejDFxc")):
        # A year alone is its first day, a month alone the same.
        if re.search(f"%[-_0^#]?[{others.replace('y', '')}]", pattern) is None:
            text, pattern = text + "-01", f"{pattern}-{part}"
    found = text.str.to_datetime(pattern, time_unit="us", strict=False, exact=True)
    if has_whole_year and (is_short := (found.dt.year() < _FOUR_DIGITS).fill_null(False)).any():
        # %Y takes 20 for the year 20; a format with %y may follow that knows better.
        found = found.zip_with(~is_short, nothing(len(found)))
    return found


def _with_offset(text: pl.Series) -> pl.Series:
    plain = text.str.replace("Z$", "+00:00").str.replace(" ", "T", literal=True)
    plain = plain.str.replace(r"([+-]\d{2})(\d{2})$", "${1}:${2}")
    plain = plain.str.replace(r"(T\d{2}:\d{2})([+-])", "${1}:00${2}")
    return plain.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f%:z", time_unit="us", strict=False)


def _local(zoned: pl.Series, zone: str) -> tuple[pl.Series, np.ndarray]:
    """[N] what a clock of the zone shows, and whether it shows that twice."""
    local = zoned.dt.convert_time_zone(zone).dt.replace_time_zone(None).cast(DATETIME)
    once = local.dt.replace_time_zone(zone, ambiguous="null", non_existent="null")
    return local, (once.is_null() & local.is_not_null()).to_numpy()
