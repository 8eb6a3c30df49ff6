"""Visible frames by hand."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest

SCHEMA = {
    "sample": pl.Int64,
    "event": pl.Int64,
    "subject": pl.Int64,
    "hours": pl.Float64,
    "code": pl.String,
    "numeric_value": pl.Float32,
    "text_value": pl.String,
    "image_path": pl.String,
}

MakeFrame = Callable[[Sequence[Mapping[str, Any]]], pl.DataFrame]


@pytest.fixture
def make_frame() -> MakeFrame:
    """Rows as mappings; an event and a subject of their own unless they say otherwise."""

    def make(rows: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
        filled = [
            {"event": number, "subject": row["sample"], "code": "X", **row}
            for number, row in enumerate(rows)
        ]
        return pl.DataFrame(
            {name: [row.get(name) for row in filled] for name in SCHEMA}, schema=SCHEMA
        )

    return make


@pytest.fixture
def no_images() -> Callable[[str], Path]:
    """For modalities that must not ask for an image."""

    def refuse(path: str) -> Path:
        raise AssertionError("no image was expected to be read")

    return refuse
