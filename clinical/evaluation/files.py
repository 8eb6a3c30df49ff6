"""The tables to judge, from the files in which they lie."""

from __future__ import annotations

from clinical.errors import ConfigError, SchemaError
from clinical.evaluation.thresholds import Thresholds
from clinical.places import check_file, parquet_files

import json
from pathlib import Path

import pandas as pd

SPLITS = ("train", "tuning", "held_out")
"""Folders that the labels of one task may be sharded into, beside numbers."""
USUAL = {
    "predictions": ("predictions.parquet",),
    "baseline": ("predictions_baseline.parquet", "predictions.parquet"),
}
"""What a file of each kind is called in a run folder."""


def read_scores(table: str | Path | pd.DataFrame, what: str = "predictions") -> pd.DataFrame:
    """A Parquet file of predictions; a frame is given back as it is.

    Raises:
        ConfigError: there is no such file, or it is a folder.
        SchemaError: it is no Parquet file.
    """
    if isinstance(table, pd.DataFrame):
        return table
    check_file(Path(table), what=what, usual=USUAL[what])
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
    else:
        _check_one_task(path)
    return _read(path, "labels")


def read_thresholds(given: str | Path | Thresholds | None) -> Thresholds | None:
    """Thresholds from a JSON file, or from numbers in a text, such as "0.1,0.2"; others pass.

    Raises:
        ConfigError: a text is neither, or the file does not hold numbers by name.
    """
    if not isinstance(given, str | Path):
        return given
    numbers = _numbers_in(str(given))
    if numbers is not None:
        return numbers
    path = Path(given)
    check_file(path, what="thresholds", usual=("thresholds.json",))
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"thresholds: {path} is no JSON file; give {{name: number}}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"thresholds: {path} should hold {{name: number}}, by task or for all")
    return content


def _numbers_in(text: str) -> list[float] | None:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        return None


def _check_one_task(path: Path) -> None:
    """Several tasks' labels read as one would be judged without a word."""
    files = [file.relative_to(path) for file in parquet_files(path)]
    if not files:
        raise ConfigError(f"labels: there is no Parquet file in {path}; give a folder of labels")
    folders = sorted({file.parts[0] for file in files if len(file.parts) > 1})
    if len(folders) > 1 and not all(name in SPLITS or name.isdigit() for name in folders):
        raise ConfigError(
            f"labels: {path} holds {len(folders)} folders of Parquet files, which may be tasks; "
            f"give that of one task, such as {path / folders[0]}"
        )


def _read(path: Path, what: str) -> pd.DataFrame:
    """One file, or all of a folder but the empty ones, whose columns may be of any type."""
    try:
        if not path.is_dir():
            return pd.read_parquet(path)
        parts = [pd.read_parquet(file) for file in parquet_files(path)]
        return pd.concat([part for part in parts if len(part)] or parts[:1], ignore_index=True)
    except (OSError, ValueError) as error:
        raise SchemaError(f"{what}: {path} is not readable Parquet; write it again") from error
