"""Cells as text, numbers and subjects, from whatever type a file gives them."""

import hashlib

import numpy as np
import polars as pl

HASH_BITS = 52
"""So that an id survives a tool that reads integers as doubles."""


def blank(cells: pl.Series, mask: pl.Series | np.ndarray) -> pl.Series:
    """The cells, null where `mask` holds."""
    gone = pl.lit(pl.Series(mask)).fill_null(False)
    return pl.select(pl.when(~gone).then(pl.lit(cells)).alias(cells.name)).to_series()


def as_text(cells: pl.Series) -> pl.Series:
    """Text without the spaces around it, null where none is left; 5.0 of a number is 5."""
    if cells.dtype == pl.String:
        stripped = cells.str.strip_chars()
        is_empty = stripped == ""
        return blank(stripped, is_empty) if is_empty.any() else stripped
    if cells.dtype.is_float():
        whole = cells.cast(pl.Int64, strict=False)
        is_whole = (whole.cast(cells.dtype) == cells).fill_null(False)
        text = cells.cast(pl.String).zip_with(~is_whole, whole.cast(pl.String))
        return blank(text, cells.is_nan())
    return cells.cast(pl.String)


def as_number(cells: pl.Series, *, decimal: str = ".") -> tuple[pl.Series, pl.Series]:
    """Numbers, and whether a cell holds something else.

    NaN is an empty cell. With a decimal comma a cell that has a point too is no number.
    """
    if cells.dtype == pl.String:
        text = as_text(cells) if decimal == "," else cells
        if decimal == ",":
            has_point = text.str.contains(".", literal=True).fill_null(False)
            text = text.str.replace(",", ".", literal=True).zip_with(~has_point, text + "?")
        number = text.cast(pl.Float64, strict=False)
        if number.null_count() > cells.null_count():
            # Spaces around a number are rare, and looking for them takes time.
            text = as_text(text)
            number = text.cast(pl.Float64, strict=False)
        is_given = text.is_not_null()
    elif cells.dtype.is_numeric() or isinstance(cells.dtype, pl.Decimal | pl.Boolean):
        number, is_given = cells.cast(pl.Float64), cells.is_not_null()
    else:
        number = pl.Series(cells.name, [None] * len(cells), dtype=pl.Float64)
        is_given = cells.is_not_null()
    infinite = number.is_infinite().fill_null(False)
    is_wrong = is_given & (number.is_null() | infinite)
    if infinite.any() or number.is_nan().any():
        number = blank(number.fill_nan(None), infinite)
    return number, is_wrong


def as_integer(cells: pl.Series) -> tuple[pl.Series, pl.Series]:
    """Whole numbers, and whether a cell holds something else; 12.0 is 12."""
    if cells.dtype.is_integer():
        whole = cells.cast(pl.Int64, strict=False)
        return whole, cells.is_not_null() & whole.is_null()
    text = as_text(cells)
    whole = text.cast(pl.Int64, strict=False)
    if whole.null_count() > text.null_count():
        whole = text.str.replace(r"\.0+$", "").cast(pl.Int64, strict=False)
    return whole, text.is_not_null() & whole.is_null()


def hash_ids(cells: pl.Series, name: str) -> pl.Series:
    """A whole number of 52 bits for each id that is text, by the extract's name."""
    text = as_text(cells)
    ids = text.drop_nulls().unique()
    hashed = [
        int.from_bytes(hashlib.sha256(f"{name}:{value}".encode()).digest()[:8], "big")
        >> (64 - HASH_BITS)
        for value in ids
    ]
    made = pl.Series(hashed, dtype=pl.Int64)
    return text.replace_strict(ids, made, default=None, return_dtype=pl.Int64)


def buckets(subjects: pl.Series, n_buckets: int) -> np.ndarray:
    """[N] a bucket for each subject, the same in every table; evenly filled."""
    spread = subjects.to_numpy().astype(np.int64).view(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return ((spread >> np.uint64(32)) % np.uint64(n_buckets)).astype(np.int64)
