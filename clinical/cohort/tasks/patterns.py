"""Codes as the YAML of a task names them: regular expressions of whole codes."""

from collections.abc import Sequence
from typing import Annotated

import polars as pl
from pydantic import AfterValidator


def _compiled(pattern: str) -> str:
    try:
        pl.Series([""], dtype=pl.String).str.contains(f"^(?:{pattern})$")
    except pl.exceptions.ComputeError:
        raise ValueError(
            f"{pattern} is no regular expression; escape what it means literally"
        ) from None
    return pattern


Pattern = Annotated[str, AfterValidator(_compiled)]


def spoken(pattern: str) -> str:
    """A pattern as a reader wants it: without an ending that leaves the rest of a code open."""
    return pattern.removesuffix("(//.*)?").removesuffix("//.*")


def matches(patterns: Sequence[str]) -> pl.Expr:
    """Whether a whole `code` matches one of some regular expressions; of none, no code does."""
    if not patterns:
        return pl.lit(False)
    joined = "|".join(f"(?:{pattern})" for pattern in patterns)
    return pl.col("code").str.contains(f"^(?:{joined})$")
