"""Times of rows: written out, or counted from an anchor."""

from clinical.extract.importers.flat.cells import as_number, as_text, blank
from clinical.extract.importers.flat.keys import TimeRule
from clinical.extract.importers.flat.reasons import Reason
from clinical.extract.importers.flat.templates import Template

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

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
DAY_END_SECONDS = 86_399
MAX_SPAN_DAYS = 1000 * 365.25
_SECONDS = {"seconds": 1.0, "minutes": 60.0, "hours": 3600.0, "days": 86400.0}
_EARLIEST, _LATEST = datetime(1, 1, 1), datetime(9999, 12, 31, 23, 59, 59)
_OFFSET = r"\d(?:Z|[+-]\d{2}:?\d{2})$"
_CLOCK = r"^(\d{1,4}):([0-5]\d)(?::([0-5]\d(?:\.\d+)?))?$"
_HHMMSS = r"^(\d{1,6})(\.\d+)?$"
_DATETIME = pl.Datetime("us")


@dataclass(frozen=True)
class TimeSettings:
    """What holds for all times of a table.

    Attributes:
        formats: Tried before ISO 8601.
        zone: Where times with a zone are put; without it they have no place.
        decimal: The mark of decimal fractions.
    """

    formats: tuple[str, ...] = ()
    zone: str | None = None
    decimal: str = "."


@dataclass(frozen=True)
class ReadTimes:
    """Times of rows.

    Attributes:
        values: [N] Datetime in microseconds, null where there is none.
        why: [N] the `Reason` for it, 0 where there is a time.
        n_dates: How many were days without a time, placed at their end.
    """

    values: pl.Series
    why: np.ndarray
    n_dates: int


def read_times(
    frame: pl.DataFrame,
    rules: Sequence[TimeRule],
    settings: TimeSettings,
    *,
    is_anchor: bool = False,
) -> ReadTimes:
    """The time of each row, by the first rule whose cells aren't empty.

    Args:
        frame: The columns that the rules name.
        rules: At least one.
        settings: Of the table.
        is_anchor: Other times are counted from it: a day without a time is its start.
    """
    values = pl.Series("time", [None], dtype=_DATETIME).new_from_index(0, frame.height)
    why = np.full(frame.height, Reason.NO_TIME, dtype=np.uint8)
    n_dates = 0
    for rule in rules:
        pending = why == Reason.NO_TIME
        if not pending.any():
            break
        if pending.all():
            found = _read(frame, rule, settings, is_anchor=is_anchor)
            values, why = found.values, found.why
        else:
            found = _read(frame.filter(pl.Series(pending)), rule, settings, is_anchor=is_anchor)
            values = values.scatter(np.flatnonzero(pending), found.values)
            why = why.copy()
            why[pending] = found.why
        n_dates += found.n_dates
    return ReadTimes(values, why, n_dates)


def _read(
    frame: pl.DataFrame, rule: TimeRule, settings: TimeSettings, *, is_anchor: bool
) -> ReadTimes:
    if rule.anchor:
        return _count(frame, rule, settings)
    if rule.day is not None:
        day = pl.Series("time", [rule.day], dtype=_DATETIME)
        return ReadTimes(day.new_from_index(0, frame.height), _none(frame.height), 0)
    cells = _cells(frame, rule.date or rule.column or "")
    values, is_date, why = _written(cells, rule.formats, settings)
    if rule.date is not None:
        is_date = is_date | (values.dt.time() == datetime.min.time())
    is_date = (is_date & values.is_not_null()).fill_null(False)
    if not is_anchor and is_date.any():
        end = pl.Series([DAY_END_SECONDS * 1_000_000], dtype=pl.Duration("us"))
        values = values.zip_with(~is_date, values + end)
    why = _far(values, why)
    return ReadTimes(blank(values, why != 0), why, int(is_date.sum()))


def _none(n_rows: int) -> np.ndarray:
    return np.zeros(n_rows, dtype=np.uint8)


def _cells(frame: pl.DataFrame, column: str) -> pl.Series:
    template = Template.parse(column)
    if not template.columns:
        return frame[column]
    texts = {name: as_text(frame[name]) for name in template.columns}
    made = pl.DataFrame([series.alias(name) for name, series in texts.items()])
    return made.select(template.render({name: pl.col(name) for name in texts})).to_series()


def _written(
    cells: pl.Series, formats: Sequence[str], settings: TimeSettings
) -> tuple[pl.Series, pl.Series, np.ndarray]:
    """Times as they are written, which of them are days, and the reasons of the others."""
    why = np.where(cells.is_null(), Reason.NO_TIME, 0).astype(np.uint8)
    is_day = pl.Series([isinstance(cells.dtype, pl.Date)]).new_from_index(0, len(cells))
    if isinstance(cells.dtype, pl.Date):
        return cells.cast(_DATETIME), is_day, why
    if isinstance(cells.dtype, pl.Datetime):
        if cells.dtype.time_zone is None:
            return cells.cast(_DATETIME), is_day, why
        if settings.zone is None:
            why[why == 0] = Reason.ZONED
            return _nothing(len(cells)), is_day, why
        local = cells.dt.convert_time_zone(settings.zone).dt.replace_time_zone(None)
        return local.cast(_DATETIME), is_day, why
    if cells.dtype != pl.String and not formats:
        # A bare number may be a year, a count of days or seconds: only a format or an anchor says.
        why[why == 0] = Reason.BAD_TIME
        return _nothing(len(cells)), is_day, why
    return _parse(as_text(cells), formats or (*settings.formats, *ISO), settings.zone)


def _nothing(n_rows: int) -> pl.Series:
    return pl.Series("time", [None], dtype=_DATETIME).new_from_index(0, n_rows)


def _parse(
    text: pl.Series, formats: Sequence[str], zone: str | None
) -> tuple[pl.Series, pl.Series, np.ndarray]:
    values = _nothing(len(text))
    is_date = np.zeros(len(text), dtype=bool)
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
        is_date[pending[is_found]] = is_day_format(pattern)
    pending = np.flatnonzero(why == Reason.BAD_TIME)
    if len(pending) and (offset := text.gather(pending).str.contains(_OFFSET).to_numpy()).any():
        zoned = pending[offset]
        if zone is None:
            why[zoned] = Reason.ZONED
        else:
            found = _in_zone(text.gather(zoned), zone)
            is_found = found.is_not_null().to_numpy()
            values = values.scatter(zoned[is_found], found.filter(pl.Series(is_found)))
            why[zoned[is_found]] = 0
    return values.alias("time"), pl.Series(is_date), why


def is_day_format(pattern: str) -> bool:
    """Whether a format has no time of day."""
    return re.search(r"%[-_0^#]?[HIkTRcXsr]", pattern) is None


def _strptime(text: pl.Series, pattern: str) -> pl.Series:
    for part, others in (("%m", "mbBhjyDFxc"), ("%d", "dejDFxc")):
        # A year alone is its first day, a month alone the same.
        if re.search(f"%[-_0^#]?[{others.replace('y', '')}]", pattern) is None:
            text, pattern = text + "-01", f"{pattern}-{part}"
    return text.str.to_datetime(pattern, time_unit="us", strict=False, exact=True)


def _in_zone(text: pl.Series, zone: str) -> pl.Series:
    plain = text.str.replace("Z$", "+00:00").str.replace(" ", "T", literal=True)
    plain = plain.str.replace(r"([+-]\d{2})(\d{2})$", "${1}:${2}")
    plain = plain.str.replace(r"(T\d{2}:\d{2})([+-])", "${1}:00${2}")
    read = plain.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f%:z", time_unit="us", strict=False)
    return read.dt.convert_time_zone(zone).dt.replace_time_zone(None)


def _count(frame: pl.DataFrame, rule: TimeRule, settings: TimeSettings) -> ReadTimes:
    """Times at a distance from an anchor."""
    anchor = read_times(frame, rule.anchor, settings, is_anchor=True)
    assert rule.span is not None
    unit, given = rule.span
    if isinstance(given, str):
        numbers, is_wrong = _span(frame[given], unit, settings.decimal)
    else:
        numbers = pl.Series([float(given)]).new_from_index(0, frame.height)
        is_wrong = pl.Series([False]).new_from_index(0, frame.height)
    why = np.where(numbers.is_null(), Reason.NO_TIME, anchor.why).astype(np.uint8)
    why[is_wrong.to_numpy()] = Reason.BAD_TIME
    sign = -1 if rule.before else 1
    days = numbers * (365.25 if unit == "years" else _SECONDS.get(unit, 1.0) / 86400)
    why[(days.abs() > MAX_SPAN_DAYS).fill_null(False).to_numpy() & (why == 0)] = Reason.FAR
    numbers = blank(numbers, why != 0)
    if unit == "years":
        values = _years(anchor.values, numbers * sign)
    else:
        micros = (numbers * (_SECONDS.get(unit, 1.0) * 1e6 * sign)).round().cast(pl.Int64)
        values = anchor.values + micros.cast(pl.Duration("us"))
    why = _far(values, why)
    return ReadTimes(blank(values, why != 0), why, 0)


def _span(cells: pl.Series, unit: str, decimal: str) -> tuple[pl.Series, pl.Series]:
    """How far, in the unit; a clock in seconds."""
    if unit not in ("clock", "hhmmss"):
        return as_number(cells, decimal=decimal)
    text = as_text(cells)
    if unit == "clock":
        parts = [text.str.extract(_CLOCK, group).cast(pl.Float64) for group in (1, 2, 3)]
        seconds = parts[0] * 3600 + parts[1] * 60 + parts[2].fill_null(0.0)
    else:
        whole = text.str.extract(_HHMMSS, 1).cast(pl.Int64)
        minutes, rest = whole // 100 % 100, whole % 100
        fraction = text.str.extract(_HHMMSS, 2).cast(pl.Float64).fill_null(0.0)
        seconds = (whole // 10_000 * 3600 + minutes * 60 + rest).cast(pl.Float64) + fraction
        seconds = blank(seconds, (minutes > 59) | (rest > 59))
    return seconds, text.is_not_null() & seconds.is_null()


def _years(anchors: pl.Series, years: pl.Series) -> pl.Series:
    """Whole years by the calendar, the rest as days."""
    whole = years.cast(pl.Int64)
    rest = ((years - whole) * 365.25 * 86400 * 1e6).round().cast(pl.Int64).cast(pl.Duration("us"))
    frame = pl.DataFrame({"anchor": anchors, "by": whole.cast(pl.String) + "y"})
    moved = frame.select(pl.col("anchor").dt.offset_by(pl.col("by"))).to_series()
    return moved + rest


def _far(values: pl.Series, why: np.ndarray) -> np.ndarray:
    is_far = ((values < _EARLIEST) | (values > _LATEST)).fill_null(False).to_numpy()
    return np.where((why == 0) & is_far, np.uint8(Reason.FAR), why)
