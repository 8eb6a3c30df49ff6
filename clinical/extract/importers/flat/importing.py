"""From a mapping and a folder of tables to an extract."""

from clinical.errors import ConfigError, SchemaError
from clinical.extract.importers.flat.accounts import Account, BatchAccount, Rejects, add_ragged
from clinical.extract.importers.flat.codebook import Codebook
from clinical.extract.importers.flat.events import EventMaker
from clinical.extract.importers.flat.images import ImageFolder
from clinical.extract.importers.flat.keys import TimeRule
from clinical.extract.importers.flat.labels import Outcomes, read_labels
from clinical.extract.importers.flat.mapping import LabelRule, MappingConfig, SampleRule
from clinical.extract.importers.flat.opening import OpenedTable, Rule, open_tables
from clinical.extract.importers.flat.parts import Parts, n_parts
from clinical.extract.importers.flat.reasons import Reason
from clinical.extract.importers.flat.rows import LookedUp, Rows, make_rows
from clinical.extract.importers.flat.source import FILE, ROW
from clinical.extract.importers.flat.splits import Together, make_splits
from clinical.extract.importers.flat.times import ReadTimes, TimeSettings, read_times
from clinical.extract.importers.report import ImportReport
from clinical.extract.privacy import guard_import
from clinical.extract.write import draft_folder, write_extract
from clinical.places import check_no_file

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import yaml

FOLDER = "import"
"""In the extract: the mapping, the counts and the rejects of its import."""


def import_flat(
    mapping: str | Path,
    source: str | Path,
    out: str | Path,
    overrides: Sequence[str] = (),
    *,
    acknowledge_identifiers: bool = False,
) -> ImportReport:
    """Write the extract that a mapping makes of the tables of a folder.

    Every record is either imported or left out, and counted by table and reason; where it stands
    and why it was left out is in `import/rejects.parquet` of the extract, without any of its cells.
    Tables that the source doesn't have are counted and passed over.

    Args:
        mapping: A YAML file; see docs/bring_your_own.md.
        source: A folder, which is only read.
        out: A new or empty folder outside the source.
        overrides: Of the mapping, such as `tables.notes=null`.
        acknowledge_identifiers: Write the extract even if it has what looks like identifiers of
            people; the same as the mapping's key.

    Raises:
        ConfigError: The mapping is invalid or names columns that aren't there, with all problems at
            once; a path does not exist, or `out` is not empty.
        SchemaError: A file is damaged; with its name, or its number where a table has several; or
            the extract has identifiers.
    """
    source, out = Path(source), Path(out)
    if out.resolve().is_relative_to(source.resolve()):
        raise ConfigError(f"out: {out} is within the source; choose a folder beside it")
    with draft_folder(out) as root:
        check_no_file(source, what="source", remedy="give the folder that holds the tables")
        if not source.is_dir():
            raise ConfigError(f"source: there is no folder {source}; check the path")
        config = MappingConfig.read(Path(mapping), overrides)
        tables = open_tables(source, config, where=str(mapping))
        (root / FOLDER).mkdir()
        work = _Work(config, source, root, sum(table.n_bytes for table in tables))
        try:
            for table in tables:
                work.take(table)
        finally:
            work.rejects.close()
        report = work.finish(acknowledged=acknowledge_identifiers)
        _write_down(root / FOLDER, config, report)
    return report


def _write_down(folder: Path, config: MappingConfig, report: ImportReport) -> None:
    plain = config.model_dump(mode="json", exclude_unset=True)
    used = yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)
    counts = json.dumps(report.counts, indent=1, ensure_ascii=False)
    (folder / "mapping.yaml").write_text(used, encoding="utf-8")
    (folder / "counts.json").write_text(counts + "\n", encoding="utf-8")


@dataclass
class _Work:
    """An import under way."""

    config: MappingConfig
    folder: Path
    root: Path
    n_bytes: int
    accounts: dict[str, Account] = field(default_factory=dict)
    absent: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.lookups = LookedUp(self.folder, self.config)
        self.codebook = Codebook()
        self.outcomes = Outcomes()
        self.together = Together(self.config)
        self.images = ImageFolder(self.folder, self.root)
        self.parts = Parts(self.root / ".parts", n_parts(self.n_bytes))
        self.rejects = Rejects(self.root / FOLDER / "rejects.parquet")

    def take(self, table: OpenedTable) -> None:
        """Import a table, one batch after the other."""
        if not table.source.files:
            self.absent.append(table.name)
            return
        account = self.accounts[table.name] = Account(files=len(table.source.files))
        names = [file.where for file in table.source.files]
        settings = TimeSettings(self.config.time_formats, self.config.time_zone, table.rule.decimal)
        for batch in table.source.batches(table.columns):
            add_ragged(account, self.rejects, table.name, names, batch.ragged)
            if batch.frame.is_empty():
                continue
            rows = make_rows(batch.frame, table.rule, self.config, self.lookups)
            self.together.add(table.name, rows)
            of_batch = BatchAccount(rows.why)
            if rows.frame.height:
                self._apply(table, rows, settings, account, of_batch)
            places = (batch.frame[FILE].to_numpy(), batch.frame[ROW].to_numpy())
            of_batch.close(account, self.rejects, table.name, names, places)
        for file in table.source.empty:
            place, why = np.zeros(1, dtype=np.int64), np.array([Reason.EMPTY_FILE])
            self.rejects.add(table.name, [file.where], (place, place), None, why, place == 0)
            account.empty_files += 1

    def _apply(
        self,
        table: OpenedTable,
        rows: Rows,
        settings: TimeSettings,
        account: Account,
        of_batch: BatchAccount,
    ) -> None:
        """Every rule of a table on the rows of a batch."""
        known: dict[str, ReadTimes] = {}

        def times(rule: Rule) -> ReadTimes | None:
            rules = table.rule.time_of(rule)
            return None if rules is None else _times(rows, rules, settings, known)

        maker = EventMaker(
            self.codebook,
            self.images,
            self.config.units,
            table.rule.decimal,
            self.config.keep_impossible,
        )
        for cells in table.cells:
            found = maker.make(rows, cells, times(cells.rule))
            of_batch.note(cells.path, rows.at, found.why)
            account.events += found.events.height
            self.parts.add(found.events)
        for task, label in table.rule.labels.items():
            self._label(task, label, rows, times(label), table, of_batch)
        if table.rule.samples is not None:
            self._label(None, table.rule.samples, rows, times(table.rule.samples), table, of_batch)
        account.dates += sum(read.n_dates for read in known.values())

    def _label(
        self,
        task: str | None,
        rule: LabelRule | SampleRule,
        rows: Rows,
        times: ReadTimes | None,
        table: OpenedTable,
        of_batch: BatchAccount,
    ) -> None:
        assert times is not None  # the mapping is refused where a label has no time
        why, frame = read_labels(rows, rule, times, table.rule.decimal)
        of_batch.note("samples" if task is None else f"labels.{task}", rows.at, why)
        if task is None:
            self.outcomes.samples.append(frame)
        else:
            self.outcomes.labels.setdefault(task, []).append(frame)
            if isinstance(rule, LabelRule) and rule.drop_conflicts:
                self.outcomes.lenient.add(task)

    def finish(self, *, acknowledged: bool) -> ImportReport:
        """Sort the events into shards and write everything else."""
        if not any(account.events for account in self.accounts.values()):
            raise SchemaError("no row gives an event; " + _most(self.accounts))
        subjects = self.parts.subjects()
        tasks, label_counts = self.outcomes.tasks(subjects)
        config = self.config
        write_extract(
            self.root,
            shards=self.parts.shards(self.codebook),
            codes=self.codebook.table(),
            dataset={
                "dataset_name": config.name,
                "etl_name": "clinical import flat",
                **({"license": config.license} if config.license else {}),
                "consistent_calendar": config.consistent_calendar,
                "additional_value_modality_columns": ["image_path"] if self.images.n_copied else [],
            },
            splits=make_splits(subjects, config, self.together),
            samples=self.outcomes.all_samples(subjects),
            labels=tasks,
        )
        shutil.rmtree(self.root / ".parts")
        vouched = acknowledged or config.acknowledge_identifiers
        identifiers = guard_import(self.root, acknowledged=vouched)
        return self._report(len(subjects), label_counts | identifiers)

    def _report(self, n_subjects: int, others: dict[str, int]) -> ImportReport:
        counts = {
            "subjects": n_subjects,
            "events written": sum(a.events for a in self.accounts.values()) - self.parts.n_repeated,
            "codes": len(self.codebook.codes),
        }
        further = {
            "static events, births and deaths that repeat another": self.parts.n_repeated,
            "codes with values in several units": self.codebook.n_of_several_units,
            "images": self.images.n_copied,
        }
        counts |= {words: count for words, count in further.items() if count}
        counts |= others
        for name, account in self.accounts.items():
            counts |= account.rows(name)
        for kind, names in (("tables", self.absent), ("lookups", self.lookups.absent)):
            if names:
                counts[f"{kind} not in the source: {', '.join(names)}"] = len(names)
        return ImportReport(self.config.name, counts, tables=tuple(self.accounts))


def _times(
    rows: Rows, rules: tuple[TimeRule, ...], settings: TimeSettings, known: dict[str, ReadTimes]
) -> ReadTimes:
    """Times of a rule, read once however many entries of the table have it."""
    key = repr(rules)
    if key not in known:
        known[key] = read_times(rows.frame, rules, settings)
    return known[key]


def _most(accounts: dict[str, Account]) -> str:
    """The commonest reason of all, in words."""
    name, account = max(accounts.items(), key=lambda item: item[1].read, default=("", Account()))
    if not account.left_out:
        return "the tables are empty"
    why, count = account.left_out.most_common(1)[0]
    return f"of {account.read:,} rows of {name}, {count:,}: {why.words}"
