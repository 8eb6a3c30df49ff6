"""The tables to judge, from the files in which they lie."""

from __future__ import annotations

from clinical.errors import ConfigError, SchemaError
from clinical.places import check_file

from pathlib import Path

import pandas as pd


def read_scores(table: str | Path | pd.DataFrame, what: str = "predictions") -> pd.DataFrame:
    """A Parquet file of predictions; a frame is given back as it is.

    Raises:
        ConfigError: there is no such file, or it is a folder.
        SchemaError: it is no Parquet file.
    """
    if isinstance(table, pd.DataFrame):
        return table
    check_file(Path(table), what=what, usual=(f"{what}.parquet", "predictions.parquet"))
    return _read(Path(table), what)


def read_labels(table: str | Path | pd.DataFrame | None) -> pd.DataFrame | None:
    """Labels from a Parquet file, or from a folder of them as MEDS has it; frames pass.

    Raises:
        ConfigError: there is neither, or the folder is no label folder.
        SchemaError: a file is no Parquet file.
    """
    if table is None or isinstance(table, pd.DataFrame):
        return table
    path = Path(table)
    if not path.is_dir():
        check_file(path, what="labels")
    elif (path / "data").is_dir():
        inside = sorted(folder for folder in (path / "tasks").glob("*") if folder.is_dir())
        remedy = f"such as {inside[0]}" if inside else "which holds one task"
        raise ConfigError(f"labels: {path} is an extract; give a folder of labels, {remedy}")
    elif next(path.rglob("*.parquet"), None) is None:
        raise ConfigError(f"labels: there is no Parquet file in {path}; give a folder of labels")
    return _read(path, "labels")


def _read(path: Path, what: str) -> pd.DataFrame:
    try:
        return pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise SchemaError(f"{what}: {path} is not readable Parquet; write it again") from error
