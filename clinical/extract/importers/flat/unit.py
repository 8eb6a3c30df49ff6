"""Some files of one table, imported by themselves into a folder: one unit of work."""

from clinical.extract.importers.flat.accounts import Account, BatchAccount, Rejects, add_ragged
from clinical.extract.importers.flat.codebook import Codebook
from clinical.extract.importers.flat.events import EventMaker
from clinical.extract.importers.flat.images import ImageFolder
from clinical.extract.importers.flat.keys import TimeRule
from clinical.extract.importers.flat.labels import Outcomes, read_labels
from clinical.extract.importers.flat.mapping import LabelRule, MappingConfig, SampleRule
from clinical.extract.importers.flat.opening import OpenedTable, Rule
from clinical.extract.importers.flat.parts import PartWriter
from clinical.extract.importers.flat.reasons import Reason
from clinical.extract.importers.flat.rows import LookedUp, Rows, make_rows
from clinical.extract.importers.flat.saved import REJECTS, UnitResult
from clinical.extract.importers.flat.source import FILE, ROW
from clinical.extract.importers.flat.splits import Together
from clinical.extract.importers.flat.times import ReadTimes, TimeSettings, read_times

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

UNIT_BYTES = 64 * 2**20
"""Of the files of a unit, so that thousands of small ones are a few units; a file is never cut."""


@dataclass(frozen=True)
class Unit:
    """Files of one table and where what they give belongs.

    Attributes:
        table: With these files alone.
        config: The whole mapping.
        source: Folder of the source.
        root: The extract, for its images.
        folder: Of what the unit gives; it is there when the unit is done.
        n_parts: How many parts subjects are divided into.
    """

    table: OpenedTable
    config: MappingConfig
    source: Path
    root: Path
    folder: Path
    n_parts: int


def units_of(table: OpenedTable) -> Iterator[OpenedTable]:
    """The table with some of its files after the other; the first has those that are empty."""
    files, sizes = table.source.files, [f.path.stat().st_size for f in table.source.files]
    ends, size = [], 0
    for number, more in enumerate(sizes, start=1):
        size += more
        if size >= UNIT_BYTES or number == len(files):
            ends.append(number)
            size = 0
    for start, end in zip([0, *ends], ends, strict=False):
        source = replace(
            table.source,
            files=files[start:end],
            headers=table.source.headers[start:end],
            empty=table.source.empty if start == 0 else (),
        )
        yield replace(table, source=source)


def import_unit(unit: Unit) -> None:
    """Leave what the files give in the unit's folder, unless it was there before."""
    if unit.folder.exists():
        return
    draft = unit.folder.with_name(f"{unit.folder.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)  # of an import that was killed
    draft.mkdir()
    _Work(unit, draft).run()
    draft.rename(unit.folder)


class _Work:
    """A unit under way."""

    def __init__(self, unit: Unit, draft: Path) -> None:
        self.table, self.config, self.draft = unit.table, unit.config, draft
        self.account = Account(files=len(unit.table.source.files))
        self.lookups = LookedUp(unit.source, unit.config, list(unit.table.rule.join))
        self.codebook = Codebook()
        self.outcomes = Outcomes()
        self.together = Together(unit.config)
        self.images = ImageFolder(unit.source, unit.root)
        self.parts = PartWriter(draft, unit.n_parts)
        self.rejects = Rejects(draft / REJECTS)

    def run(self) -> None:
        """Read the files, one batch after the other, and write what they give."""
        try:
            self._take()
        finally:
            self.rejects.close()
            self.parts.close()
        UnitResult(
            table=self.table.name,
            account=self.account,
            codebook=self.codebook,
            outcomes=self.outcomes,
            pairs=self.together.pairs,
            images=self.images.copied,
            subjects=self.parts.subjects(),
            parts=self.parts.written,
        ).write(self.draft)

    def _take(self) -> None:
        name, source = self.table.name, self.table.source
        names = [file.where for file in source.files]
        decimal = self.table.rule.decimal
        config = self.config
        settings = TimeSettings(config.time_formats, config.time_zone, decimal, config.years)
        for batch in source.batches(self.table.columns):
            add_ragged(self.account, self.rejects, name, names, batch.ragged)
            if batch.frame.is_empty():
                continue
            rows = make_rows(batch.frame, self.table.rule, self.config, self.lookups)
            self.account.unmatched.update(rows.unmatched)
            self.together.add(name, rows)
            of_batch = BatchAccount(rows.why)
            if rows.frame.height:
                self._apply(rows, settings, of_batch)
            places = (batch.frame[FILE].to_numpy(), batch.frame[ROW].to_numpy())
            of_batch.close(self.account, self.rejects, name, names, places)
        for file in source.empty:
            place, why = np.zeros(1, dtype=np.int64), np.array([Reason.EMPTY_FILE])
            self.rejects.add(name, [file.where], (place, place), None, why, place == 0)
            self.account.empty_files += 1

    def _apply(self, rows: Rows, settings: TimeSettings, of_batch: BatchAccount) -> None:
        """Every rule of the table on the rows of a batch."""
        rule = self.table.rule
        known: dict[str, ReadTimes] = {}

        def times(of: Rule) -> ReadTimes | None:
            rules = rule.time_of(of)
            return None if rules is None else _times(rows, rules, settings, known)

        units, keep = self.config.units, self.config.keep_impossible
        maker = EventMaker(self.codebook, self.images, units, rule.decimal, keep)
        words = self.config.words
        for cells in self.table.cells:
            found = maker.make(rows, cells, times(cells.rule))
            of_batch.note(cells.path, rows.at, found.why)
            self.account.events += found.events.height
            word = cells.rule.first_of
            self.parts.add(found.events, first_of=None if word is None else words.index(word))
        for task, label in rule.labels.items():
            self._label(task, label, rows, times(label), of_batch)
        if rule.samples is not None:
            self._label(None, rule.samples, rows, times(rule.samples), of_batch)
        self.account.dates += sum(int(read.is_date.sum()) for read in known.values())
        self.account.twice += sum(int(read.is_twice.sum()) for read in known.values())

    def _label(
        self,
        task: str | None,
        rule: LabelRule | SampleRule,
        rows: Rows,
        times: ReadTimes | None,
        of_batch: BatchAccount,
    ) -> None:
        assert times is not None  # the mapping is refused where a label has no time
        why, frame = read_labels(rows, rule, times, self.table.rule.decimal)
        of_batch.note("samples" if task is None else f"labels.{task}", rows.at, why)
        if task is None:
            self.outcomes.samples.append(frame)
        else:
            self.outcomes.labels.setdefault(task, []).append(frame)


def _times(
    rows: Rows, rules: Sequence[TimeRule], settings: TimeSettings, known: dict[str, ReadTimes]
) -> ReadTimes:
    """Times of a rule, read once however many entries of the table have it."""
    key = repr(rules)
    if key not in known:
        known[key] = read_times(rows.frame, rules, settings)
    return known[key]
