"""The outcome file of the PhysioNet 2012 challenge; only the death in hospital is read of it."""

from clinical.errors import SchemaError
from clinical.places import check_file

from pathlib import Path

import polars as pl

USUAL = tuple(f"Outcomes-{letter}.txt" for letter in "abc")


def read_outcomes(path: Path) -> pl.DataFrame:
    """`subject_id, boolean_value`, one row a record.

    SAPS-I, SOFA, Length_of_stay and Survival stay unread: they sum up or follow the stay.

    Raises:
        ConfigError: There is no such file, or it is a folder.
        SchemaError: It lacks a column, a value is not 0 or 1, or a record is in it twice.
    """
    check_file(path, what="outcomes", usual=USUAL)
    where = path.name
    try:
        text = pl.read_csv(path, infer_schema_length=0)
    except (pl.exceptions.PolarsError, OSError):
        raise SchemaError(f"{where}: not a CSV file; give Outcomes-a.txt or its like") from None
    needed = ("RecordID", "In-hospital_death")
    if absent := [name for name in needed if name not in text.columns]:
        raise SchemaError(
            f"{where}: no column {', '.join(absent)}; give Outcomes-a.txt or its like"
        )
    frame = text.select(
        pl.col("RecordID").str.strip_chars().cast(pl.Int64, strict=False).alias("subject_id"),
        pl.col("In-hospital_death").str.strip_chars().cast(pl.Int64, strict=False).alias("death"),
    )
    is_valid = pl.col("subject_id").is_not_null() & pl.col("death").is_in([0, 1])
    if n_invalid := frame.filter(~is_valid.fill_null(False)).height:
        raise SchemaError(
            f"{where}: {n_invalid} rows have no RecordID, or an In-hospital_death other than "
            "0 or 1; correct or remove them"
        )
    if n_again := frame.height - frame["subject_id"].n_unique():
        raise SchemaError(f"{where}: {n_again} rows repeat a RecordID; keep one of each")
    return frame.select("subject_id", (pl.col("death") == 1).alias("boolean_value"))
