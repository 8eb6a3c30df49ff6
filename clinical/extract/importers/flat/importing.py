"""From a mapping and a folder of tables to an extract.

Units of files are imported by themselves, then parts of subjects are sorted into shards; each unit
and each part may be another process's, and what is done stays done if the import is interrupted.
"""

from clinical.errors import ConfigError, SchemaError
from clinical.extract.importers.flat.accounts import Account
from clinical.extract.importers.flat.lookup_accounts import LookupAccounts
from clinical.extract.importers.flat.mapping import MappingConfig
from clinical.extract.importers.flat.merging import Merged
from clinical.extract.importers.flat.opening import (
    OpenedTable,
    made_from,
    open_lookups,
    open_tables,
)
from clinical.extract.importers.flat.parts import Part, n_parts, write_part
from clinical.extract.importers.flat.splits import make_splits
from clinical.extract.importers.flat.unit import Unit, import_unit, units_of
from clinical.extract.importers.report import ImportReport
from clinical.extract.privacy import guard_import
from clinical.extract.write import check_new, resumable_draft, write_extract
from clinical.places import check_no_file
from clinical.processes import over_jobs

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

FOLDER = "import"
"""In the extract: the mapping, the counts and the rejects of its import."""
UNITS = ".units"
LEAST_BYTES = 64 * 2**20
"""Of text, from which on further processes are worth their start."""


def import_flat(
    mapping: str | Path,
    source: str | Path,
    out: str | Path,
    overrides: Sequence[str] = (),
    *,
    acknowledge_identifiers: bool = False,
    workers: int = 1,
) -> ImportReport:
    """Write the extract that a mapping makes of the tables of a folder.

    Every record is either imported or left out, and counted by table and reason; where it stands
    and why it was left out is in `import/rejects.parquet` of the extract, without any of its cells.
    Tables that the source doesn't have are counted and passed over. An import that was interrupted
    goes on where it stopped when it is called again with the same.

    Args:
        mapping: A YAML file; see docs/bring_your_own.md.
        source: A folder, which is only read.
        out: A new or empty folder outside the source.
        overrides: Of the mapping, such as `tables.notes=null`.
        acknowledge_identifiers: Write the extract even if it has what looks like identifiers of
            people; the same as the mapping's key.
        workers: Processes, of which a small source uses one; the extract is the same with any
            number. A script that asks for several begins under `if __name__ == "__main__"`.

    Raises:
        ConfigError: The mapping is invalid or names columns that aren't there, with all problems at
            once; a path does not exist, or `out` is not empty.
        SchemaError: A file is damaged; with its name, or its number where a table has several; or
            the extract has identifiers.
    """
    config = MappingConfig.read(Path(mapping), overrides)
    source, out = Path(source), Path(out)
    if out.resolve().is_relative_to(source.resolve()):
        raise ConfigError(f"out: {out} is within the source; choose a folder beside it")
    check_new(out)
    check_no_file(source, what="source", remedy="give the folder that holds the tables")
    if not source.is_dir():
        raise ConfigError(f"source: there is no folder {source}; check the path")
    tables = open_tables(source, config, where=str(mapping))
    lookups = open_lookups(source, config)
    absent = {
        "tables": [table.name for table in tables if not table.source.files],
        "lookups": [name for name, lookup in lookups.items() if not lookup.files],
    }
    with resumable_draft(out, made_from(config, tables, lookups)) as root:
        (root / FOLDER).mkdir(exist_ok=True)
        (root / UNITS).mkdir(exist_ok=True)
        is_large = sum(table.n_bytes for table in tables) >= LEAST_BYTES
        work = _Work(config, source, root, workers if is_large else 1)
        vouched = acknowledge_identifiers or config.acknowledge_identifiers
        units = work.units(tables)
        counted = LookupAccounts.read(lookups)
        report = work.finish(units, counted, absent, acknowledged=vouched)
        _write_down(root / FOLDER, config, report)
        shutil.rmtree(root / UNITS)
    return report


def _write_down(folder: Path, config: MappingConfig, report: ImportReport) -> None:
    plain = config.model_dump(mode="json", exclude_unset=True)
    used = yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)
    counts = json.dumps(report.counts, indent=1, ensure_ascii=False)
    (folder / "mapping.yaml").write_text(used, encoding="utf-8")
    (folder / "counts.json").write_text(counts + "\n", encoding="utf-8")


@dataclass(frozen=True)
class _Work:
    """An import under way."""

    config: MappingConfig
    source: Path
    root: Path
    workers: int

    def units(self, tables: Sequence[OpenedTable]) -> list[Path]:
        """Import every unit; the folders of what they give, in order."""
        n_bytes = sum(table.n_bytes for table in tables)
        parts = [part for table in tables for part in units_of(table)]
        units = [
            Unit(
                table=part,
                config=self.config,
                source=self.source,
                root=self.root,
                folder=self.root / UNITS / f"unit-{number:05d}",
                n_parts=n_parts(n_bytes),
            )
            for number, part in enumerate(parts)
        ]
        for _ in over_jobs(import_unit, units, workers=self.workers):
            pass
        return [unit.folder for unit in units]

    def finish(
        self,
        units: Sequence[Path],
        lookups: LookupAccounts,
        absent: Mapping[str, Sequence[str]],
        *,
        acknowledged: bool | Sequence[str],
    ) -> ImportReport:
        """Sort the events into shards and write everything else."""
        merged = Merged.read(units, self.config, lookups)
        if not any(account.events for account in merged.accounts.values()):
            raise SchemaError("no row gives an event; " + _most(merged.accounts))
        subjects = merged.subjects()
        labels, label_counts = merged.outcomes.tasks(subjects)
        declared = ("image_path",) if merged.images else ()
        jobs = self._parts(units, merged, declared)
        left_out = [*over_jobs(write_part, jobs, workers=self.workers)]
        n_repeated, n_later = (sum(counts) for counts in zip(*left_out, strict=True))
        merged.write_rejects(self.root / FOLDER / "rejects.parquet")
        config = self.config
        write_extract(
            self.root,
            shards=None,
            codes=merged.codebook.table(),
            dataset={
                "dataset_name": config.name,
                "etl_name": "clinical import flat",
                **({"license": config.license} if config.license else {}),
                "consistent_calendar": config.consistent_calendar,
                "additional_value_modality_columns": list(declared),
            },
            splits=make_splits(subjects, config, merged.together),
            samples=merged.outcomes.all_samples(subjects),
            labels=labels,
        )
        identifiers = guard_import(self.root, acknowledged=acknowledged)
        counts = merged.counts((n_repeated, n_later), absent, label_counts | identifiers)
        return ImportReport(config.name, counts, tables=tuple(merged.accounts))

    def _parts(
        self, units: Sequence[Path], merged: Merged, declared: tuple[str, ...]
    ) -> list[Part]:
        return [
            Part(
                number=number,
                shard=shard,
                root=self.root,
                done=self.root / UNITS / f"part-{number}.json",
                units=tuple(units[place] for place in places),
                numbers=tuple(merged.numbers[place] for place in places),
                codes=merged.codebook.texts(),
                once=merged.once(),
                declared=declared,
            )
            for shard, (number, places) in enumerate(merged.parts().items())
        ]


def _most(accounts: dict[str, Account]) -> str:
    """The commonest reason of all, in words."""
    name, account = max(accounts.items(), key=lambda item: item[1].read, default=("", Account()))
    if not account.left_out:
        return "the tables are empty"
    why, count = account.left_out.most_common(1)[0]
    return f"of {account.read:,} rows of {name}, {count:,}: {why.words}"
