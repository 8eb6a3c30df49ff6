"""Splits of an import: by a hash of the subject, or of what keeps subjects together."""

from clinical.errors import SchemaError
from clinical.extract.importers.flat.cells import as_text, hash_ids
from clinical.extract.importers.flat.mapping import MappingConfig
from clinical.extract.importers.flat.rows import Rows
from clinical.extract.splitting import split_by_hash

import polars as pl


class Together:
    """Which subjects belong together, such as the stays of a person."""

    def __init__(self, config: MappingConfig) -> None:
        self._config = config
        self.pairs: list[pl.DataFrame] = []

    def add(self, table: str, rows: Rows) -> None:
        """Note the subjects of a table's rows, if the mapping says that it knows."""
        if (column := self._config.split_together.get(table)) is None:
            return
        groups = as_text(rows.frame[column])
        pairs = pl.DataFrame({"subject_id": rows.subjects, "group": groups}).drop_nulls().unique()
        self.pairs.append(pairs)

    def groups(self, subjects: pl.Series) -> pl.DataFrame:
        """`subject_id, group` (Int64), a subject that no row names being a group of its own.

        Raises:
            SchemaError: A subject is in two groups.
        """
        alone = pl.DataFrame({"subject_id": subjects, "own": subjects})
        if not self.pairs:
            return alone.rename({"own": "group"})
        pairs = pl.concat(self.pairs).unique()
        if n_twice := pairs.height - pairs["subject_id"].n_unique():
            raise SchemaError(
                f"split_together: {n_twice} subjects are in two groups; choose another column"
            )
        hashed = hash_ids(pairs["group"], self._config.name)
        joined = alone.join(pairs.with_columns(hashed.alias("group")), on="subject_id", how="left")
        return joined.select("subject_id", pl.coalesce("group", "own").alias("group"))


def make_splits(
    subjects: pl.Series, config: MappingConfig, together: Together
) -> pl.DataFrame | None:
    """`subject_id, split`, or None where the mapping wants none."""
    if config.splits is None:
        return None
    groups = together.groups(subjects)
    splits = split_by_hash(groups["group"], config.splits).rename({"subject_id": "group"})
    return groups.join(splits, on="group", how="left").select("subject_id", "split")
