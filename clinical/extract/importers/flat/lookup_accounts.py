"""What became of the rows of lookups, which give no events but what others need."""

from clinical.extract.importers.flat.accounts import REJECTS_SCHEMA, Account
from clinical.extract.importers.flat.cells import as_text
from clinical.extract.importers.flat.mapping import Lookup
from clinical.extract.importers.flat.reasons import Reason
from clinical.extract.importers.flat.source import FILE, ROW, Source

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import polars as pl
import pyarrow.parquet as pq


@dataclass
class LookupAccounts:
    """Of each lookup, read once though many units look things up in it.

    Attributes:
        accounts: By its name.
        rejects: The places of rows that were left out.
    """

    accounts: dict[str, Account] = field(default_factory=dict)
    rejects: list[pl.DataFrame] = field(default_factory=list)

    @classmethod
    def read(cls, lookups: Mapping[str, Source]) -> "LookupAccounts":
        """Of these lookups, as far as the source has them."""
        found = cls()
        for name, source in lookups.items():
            if source.files:
                found._take(name, source)
        return found

    def _take(self, name: str, source: Source) -> None:
        assert isinstance(source.rule, Lookup)
        account = self.accounts[name] = Account(files=len(source.files))
        keys = list(dict.fromkeys(source.rule.key))
        for batch in source.batches(keys):
            cells = pl.DataFrame([as_text(batch.frame[key]) for key in keys])
            has_key = cells.select(pl.all_horizontal(pl.all().is_not_null())).to_series()
            account.read += batch.frame.height + len(batch.ragged)
            account.imported += int(has_key.sum())
            keyless = batch.frame.filter(~has_key).select(FILE, ROW).rows()
            for places, why in ((batch.ragged, Reason.RAGGED), (keyless, Reason.NO_KEY)):
                if places:
                    account.left_out[why] += len(places)
                    self._reject(name, source, np.array(places), why)

    def _reject(self, name: str, source: Source, places: np.ndarray, why: Reason) -> None:
        files = pl.Series([file.where for file in source.files])
        self.rejects.append(
            pl.DataFrame(
                {
                    "table": [f"lookups.{name}"] * len(places),
                    "file": files.gather(places[:, 0]),
                    "row": places[:, 1],
                    "rule": pl.Series([None] * len(places), dtype=pl.String),
                    "reason": [why.words] * len(places),
                    "row_left_out": [True] * len(places),
                },
                schema_overrides={"row": pl.Int64},
            )
        )

    def write(self, writer: pq.ParquetWriter) -> None:
        """Add the places of what was left out to the rejects of tables."""
        for frame in self.rejects:
            writer.write_table(frame.to_arrow().cast(REJECTS_SCHEMA))

    def rows(self) -> dict[str, int]:
        """Counts with their words, of lookups of which rows were left out."""
        counts: dict[str, int] = {}
        for name, account in self.accounts.items():
            if account.left_out:
                said = account.rows(f"lookups.{name}")
                counts |= {words: n for words, n in said.items() if not words.endswith(": events")}
        return counts
