"""Times of rows: written out, counted from an anchor, or the latest of several."""

from clinical.extract.importers.flat.cells import as_number, as_text, blank
from clinical.extract.importers.flat.keys import YEARS, TimeRule
from clinical.extract.importers.flat.reasons import Reason
from clinical.extract.importers.flat.templates import Template
from clinical.extract.importers.flat.written import DATETIME, ISO, nothing, read_written

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import polars as pl

DAY_END_SECONDS = 86_399
MAX_SPAN_DAYS = 1000 * 365.25
_SECONDS = {"seconds": 1.0, "minutes": 60.0, "hours": 3600.0, "days": 86400.0}
_CLOCK = r"^(\d{1,4}):([0-5]\d)(?::([0-5]\d(?:\.\d+)?))?$"
_HHMMSS = r"^(\d{1,6})(\.\d+)?$"
_NOT_WRONG = (0, int(Reason.NO_TIME))


@dataclass(frozen=True)
class TimeSettings:
    """What holds for all times of a table.

    Attributes:
        formats: Tried before ISO 8601.
        zone: Where times with a zone are put; without it they have no place.
        decimal: The mark of decimal fractions.
        years: The first and the last that a time may be in.
    """

    formats: tuple[str, ...] = ()
    zone: str | None = None
    decimal: str = "."
    years: tuple[int, int] = YEARS


@dataclass(frozen=True)
class ReadTimes:
    """Times of rows.

    Attributes:
        values: [N] Datetime in microseconds, null where there is none.
        why: [N] the `Reason` for it, 0 where there is a time.
        is_date: [N] it is a day without a time, placed at its end.
        is_twice: [N] it lies in the hour that is there twice where summer time ends.
    """

    values: pl.Series
    why: np.ndarray
    is_date: np.ndarray
    is_twice: np.ndarray


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
    values = nothing(frame.height)
    why = np.full(frame.height, Reason.NO_TIME, dtype=np.uint8)
    is_date, is_twice = _no(frame.height), _no(frame.height)
    for rule in rules:
        pending = why == Reason.NO_TIME
        if not pending.any():
            break
        if pending.all():
            found = _read(frame, rule, settings, is_anchor=is_anchor)
            values, why = found.values, found.why.copy()
        else:
            found = _read(frame.filter(pl.Series(pending)), rule, settings, is_anchor=is_anchor)
            values = values.scatter(np.flatnonzero(pending), found.values)
            why[pending] = found.why
        is_date[pending], is_twice[pending] = found.is_date, found.is_twice
    return ReadTimes(values, why, is_date, is_twice)


def _read(
    frame: pl.DataFrame, rule: TimeRule, settings: TimeSettings, *, is_anchor: bool
) -> ReadTimes:
    if rule.latest is not None:
        return _latest([_read(frame, r, settings, is_anchor=is_anchor) for r in rule.latest])
    if rule.anchor:
        return _count(frame, rule, settings)
    no = _no(frame.height)
    if rule.day is not None:
        day = pl.Series("time", [rule.day], dtype=DATETIME)
        return ReadTimes(day.new_from_index(0, frame.height), no.astype(np.uint8), no, no)
    cells = _cells(frame, rule.date or rule.column or "")
    usual = (*settings.formats, *ISO)
    found = read_written(cells, rule.formats, settings.zone, usual=usual)
    values, is_day = found.values, found.is_day
    if rule.date is not None:
        midnight = (values.dt.time() == datetime.min.time()).fill_null(False)
        is_day = is_day | midnight.to_numpy()
    is_date = no if is_anchor else is_day & values.is_not_null().to_numpy()
    if is_date.any():
        end = pl.Series([DAY_END_SECONDS * 1_000_000], dtype=pl.Duration("us"))
        values = values.zip_with(~pl.Series(is_date), values + end)
    why = _far(values, found.why, settings.years)
    return ReadTimes(blank(values, why != 0), why, is_date & (why == 0), found.is_twice)


def _latest(found: Sequence[ReadTimes]) -> ReadTimes:
    """The latest of several times of each row; those that are empty don't count."""
    frame = pl.DataFrame([read.values.alias(str(n)) for n, read in enumerate(found)])
    values = frame.select(pl.max_horizontal(pl.all()).cast(DATETIME).alias("time")).to_series()
    why = np.where(values.is_null(), Reason.NO_TIME, 0).astype(np.uint8)
    is_date, is_twice = _no(len(why)), _no(len(why))
    for read in found:
        # Nobody knows whether a time that can't be read was the latest.
        is_wrong = ~np.isin(read.why, _NOT_WRONG) & np.isin(why, _NOT_WRONG)
        why[is_wrong] = read.why[is_wrong]
        is_chosen = (read.values == values).fill_null(False).to_numpy()
        is_date |= is_chosen & read.is_date
        is_twice |= is_chosen & read.is_twice
    return ReadTimes(blank(values, why != 0), why, is_date & (why == 0), is_twice & (why == 0))


def _no(n_rows: int) -> np.ndarray:
    return np.zeros(n_rows, dtype=bool)


def _cells(frame: pl.DataFrame, column: str) -> pl.Series:
    template = Template.parse(column)
    if not template.columns:
        return frame[column]
    texts = {name: as_text(frame[name]) for name in template.columns}
    made = pl.DataFrame([series.alias(name) for name, series in texts.items()])
    return made.select(template.render({name: pl.col(name) for name in texts})).to_series()


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
    why = _far(values, why, settings.years)
    no = _no(frame.height)
    return ReadTimes(blank(values, why != 0), why, no, no)


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


def _far(values: pl.Series, why: np.ndarray, years: tuple[int, int]) -> np.ndarray:
    first, last = datetime(years[0], 1, 1), datetime(years[1], 12, 31, 23, 59, 59, 999_999)
    is_far = ((values < first) | (values > last)).fill_null(False).to_numpy()
    return np.where((why == 0) & is_far, np.uint8(Reason.FAR), why)
