"""What all units of an import gave, together."""

from clinical.errors import SchemaError
from clinical.extract.importers.flat.accounts import REJECTS_SCHEMA, Account
from clinical.extract.importers.flat.codebook import Codebook
from clinical.extract.importers.flat.images import FOLDER as IMAGES
from clinical.extract.importers.flat.labels import Outcomes
from clinical.extract.importers.flat.lookup_accounts import LookupAccounts
from clinical.extract.importers.flat.mapping import MappingConfig
from clinical.extract.importers.flat.saved import REJECTS, UnitResult
from clinical.extract.importers.flat.splits import Together

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import meds
import numpy as np
import polars as pl
import pyarrow.parquet as pq


@dataclass
class Merged:
    """The sum of the units, in their order.

    Attributes:
        units: Their folders.
        codebook: All codes.
        numbers: [codes of the unit] for each unit: the places of its codes among all.
        accounts: Of each table.
        outcomes: All labels and samples.
        together: Which subjects belong together.
        images: For each image in the extract where it is in the source.
        lookups: What became of the rows of lookups.
    """

    units: Sequence[Path]
    together: Together
    outcomes: Outcomes
    lookups: LookupAccounts
    codebook: Codebook = field(default_factory=Codebook)
    numbers: list[np.ndarray] = field(default_factory=list)
    accounts: dict[str, Account] = field(default_factory=dict)
    images: dict[str, str] = field(default_factory=dict)
    _subjects: list[pl.Series] = field(default_factory=list)
    _parts: dict[int, list[int]] = field(default_factory=dict)

    @classmethod
    def read(
        cls, units: Sequence[Path], config: MappingConfig, lookups: LookupAccounts
    ) -> "Merged":
        """The units' folders, each of which is done."""
        lenient = {
            task
            for table in config.used_tables.values()
            for task, rule in table.labels.items()
            if rule.drop_conflicts
        }
        merged = cls(units, Together(config), Outcomes(lenient=lenient), lookups)
        for folder in units:
            merged._add(UnitResult.read(folder))
        return merged

    def _add(self, unit: UnitResult) -> None:
        self.numbers.append(self.codebook.absorb(unit.codebook))
        self.accounts.setdefault(unit.table, Account()).add(unit.account)
        for task, frames in unit.outcomes.labels.items():
            self.outcomes.labels.setdefault(task, []).extend(frames)
        self.outcomes.samples.extend(unit.outcomes.samples)
        self.together.pairs.extend(unit.pairs)
        for target, origin in unit.images.items():
            if self.images.setdefault(target, origin) != origin:
                raise SchemaError(
                    f"images: a file of {IMAGES}/ is beside that folder in the source, too; "
                    "give one of them another name"
                )
        self._subjects.append(unit.subjects)
        for part in unit.parts:
            self._parts.setdefault(part, []).append(len(self.numbers) - 1)

    def subjects(self) -> pl.Series:
        """Every subject with an event, sorted."""
        return pl.concat(self._subjects).unique().sort()

    def parts(self) -> dict[int, list[int]]:
        """The parts in which somebody is, in order, each with the places of units that have it."""
        return dict(sorted(self._parts.items()))

    def once(self) -> tuple[int, ...]:
        """Places of the codes of which a repeat counts once."""
        always = (meds.birth_code, meds.death_code)
        codes = enumerate(self.codebook.codes)
        return tuple(n for n, code in codes if code in always or n in self.codebook.once)

    def write_rejects(self, path: Path) -> None:
        """The places of everything that was left out, table after table."""
        with pq.ParquetWriter(path, REJECTS_SCHEMA, compression="zstd") as writer:
            for folder in self.units:
                with pq.ParquetFile(folder / REJECTS) as file:
                    for batch in file.iter_batches():
                        writer.write_batch(batch)
            self.lookups.write(writer)

    def counts(
        self,
        left_out: tuple[int, int],
        absent: Mapping[str, Sequence[str]],
        others: Mapping[str, int],
    ) -> dict[str, int]:
        """The counts of the report.

        Args:
            left_out: Events that were there before, and those after a subject's first.
            absent: Tables and lookups that the source does not have.
            others: Of labels and the like.
        """
        counts = {
            "subjects": len(self.subjects()),
            "events written": sum(a.events for a in self.accounts.values()) - sum(left_out),
            "codes": len(self.codebook.codes),
        }
        further = {
            "static events, births and deaths that repeat another": left_out[0],
            "births, deaths and others of which the first counts, after it": left_out[1],
            "codes with values in several units": self.codebook.n_of_several_units,
            "images": len(self.images),
        }
        counts |= {words: count for words, count in further.items() if count}
        counts |= others
        for name, account in self.accounts.items():
            counts |= account.rows(name)
        counts |= self.lookups.rows()
        for kind, names in absent.items():
            if names:
                counts[f"{kind} not in the source: {', '.join(names)}"] = len(names)
        return counts
