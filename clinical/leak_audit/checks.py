"""The audit: what must not reach a score, shown not to on the user's own data."""

from clinical.cohort.store import Store
from clinical.errors import ConfigError
from clinical.leak_audit.bench import Bench
from clinical.leak_audit.changes import (
    AT_ONCE,
    Scrambler,
    cut_of,
    is_known,
    is_later,
    shuffled,
    with_edges,
    with_edges_to_self,
    with_other_labels,
    with_twins,
    without,
    without_labels,
)
from clinical.leak_audit.excerpt import Excerpt
from clinical.leak_audit.graph import Graph, other_splits
from clinical.leak_audit.line import BLIND, LEAK, Line, Moves
from clinical.places import check_above, replacing
from clinical.predictor import Predictor

import json
import logging
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd

logger = logging.getLogger(__name__)

SAMPLES = 200
N_ALONE = 20
"""Samples that are scored one by one."""

CONTROL, LABELS, FUTURE = "control", "labels", "future"
OTHERS, BATCH, CONTEXT = "other patients", "batch-mates", "context"

_NOW = timedelta(0)


@dataclass(frozen=True)
class Audit:
    """What an audit found.

    Attributes:
        lines: one a change.
    """

    lines: tuple[Line, ...]

    @property
    def table(self) -> pd.DataFrame:
        """check, change, samples, moved, largest (move of a score; NaN for edges), verdict."""
        rows = pd.DataFrame([asdict(line) for line in self.lines])
        return rows.astype({"largest": "float64"})

    @property
    def passed(self) -> bool:
        """Whether nothing leaked and the controls saw what they should."""
        return not any(line.verdict in (LEAK, BLIND) for line in self.lines)

    def write(self, path: Path) -> None:
        """Write the table as .json or .csv, whole or not at all.

        Raises:
            ConfigError: `path` is another kind of file, a folder, or below a file.
        """
        check_out(path)
        table = self.table
        if path.suffix == ".csv":
            text = table.to_csv(index=False)
        else:
            rows = json.loads(table.to_json(orient="records", double_precision=15))
            text = json.dumps({"passed": self.passed, "lines": rows}, indent=2) + "\n"
        with replacing(path) as draft:
            draft.write_text(text, encoding="utf-8")


def check_out(path: Path) -> None:
    """Refuse a place where the table cannot be written (ConfigError)."""
    if path.is_dir() or path.suffix not in (".json", ".csv"):
        raise ConfigError(f"{path}: name a .json or .csv file for the audit's table")
    check_above(path, what="out")


def audit(
    predictor: Predictor,
    extract: str | Path,
    *,
    samples: int = SAMPLES,
    context: str | Path | None = None,
    splits: str | Path | None = None,
    seed: int = 0,
) -> Audit:
    """Change what must not matter, and see whether the scores of some samples move.

    Args:
        predictor: the model; its calibration, which could hide a difference, is left out.
        extract: a MEDS folder; it is only read.
        samples: how many are drawn, each of another subject.
        context: extract of contemporaries, as for `Predictor.score`.
        splits: file of the splits that the model was trained with, if not the extract's own.
        seed: of what is drawn.

    Raises:
        ConfigError: too few samples are asked for.
        SchemaError: the extract breaks its schema, or nothing in it is visible.
    """
    if samples < 2:
        raise ConfigError("samples: give at least 2, for no patient is another's batch-mate alone")
    with tempfile.TemporaryDirectory() as temporary:
        bench = Bench.open(
            predictor,
            Path(extract),
            Path(temporary),
            context=None if context is None else Path(context),
            samples=samples,
            seed=seed,
        )
        checks: list[Callable[[Bench], Iterator[Line]]] = [
            _controls,
            _labels,
            _future,
            _other_patients,
            _batch_mates,
            _own_subject,
            lambda bench: _edges(bench, None if splits is None else Path(splits)),
            _context,
        ]
        lines = []
        for check in checks:
            for line in check(bench):
                logger.info("%s: %s: %s", line.check, line.change, line.verdict)
                lines.append(line)
    return Audit(tuple(lines))


def _moves(bench: Bench, changed: Excerpt) -> Moves:
    """Of the samples that a change concerns."""
    concerned = changed.altered_subjects(bench.excerpt)
    return Moves.between(bench.copied, bench.score(changed), concerned)


def _controls(bench: Bench) -> Iterator[Line]:
    """What a model sees must move its scores, or the rest of the audit shows nothing."""
    cut = cut_of(bench.drawn)
    scrambler = Scrambler(bench.excerpt, bench.seed)
    altered = scrambler.altered(is_known(cut))
    yield _moves(bench, altered).must_move(CONTROL, "visible events altered: must move")
    planted = scrambler.planted(cut, after=_NOW)
    change = "events planted now: must move"
    yield _moves(bench, planted).must_move(CONTROL, change)


def _labels(bench: Bench) -> Iterator[Line]:
    for change, changed in (
        ("exchanged, samples.parquet too", with_other_labels),
        ("removed, samples.parquet too", lambda e, _: without_labels(e)),
    ):
        yield _moves(bench, changed(bench.excerpt, bench.seed)).must_not_move(LABELS, change)


def _future(bench: Bench) -> Iterator[Line]:
    """Events of a drawn sample's subject later than its prediction time, and later edges."""
    cut, excerpt = cut_of(bench.drawn), bench.excerpt
    scrambler = Scrambler(excerpt, bench.seed)
    planted = scrambler.planted(cut, after=AT_ONCE)
    for change, changed in (
        ("values, codes, notes, images altered", scrambler.altered(is_later(cut))),
        ("deleted", without(excerpt, is_later(cut))),
        ("implausible events planted", with_edges(planted, cut, after=AT_ONCE, seed=bench.seed)),
    ):
        yield _moves(bench, changed).must_not_move(FUTURE, change)


def _other_patients(bench: Bench) -> Iterator[Line]:
    excerpt, drawn = bench.excerpt, bench.drawn
    line = Moves.between(bench.in_place, bench.copied)
    yield line.must_not_move(OTHERS, "all others of the extract removed")
    for change, changed in (
        ("copies and further samples added", with_twins(excerpt, bench.cohort)),
        ("other order, other files", shuffled(excerpt, bench.seed)),
    ):
        found = bench.score(changed)
        yield Moves.between(bench.copied, found).must_not_move(OTHERS, change)
    folder = bench.place(excerpt)
    alone = [
        bench.score(folder, samples=drawn[n], around=_around(bench, drawn["subject_id"][n]))
        for n in range(min(N_ALONE, drawn.height))
    ]
    among = drawn["subject_id"].head(N_ALONE).to_list()
    found = pd.concat(alone, ignore_index=True)
    yield Moves.between(bench.copied, found, among).must_not_move(OTHERS, "scored one by one")


def _around(bench: Bench, subject: int) -> Excerpt | None:
    """The context as far as it matters for one sample; somebody, where nobody matters."""
    if bench.around is None:
        return None
    anybody = bench.around.samples["subject_id"].head(1)
    return bench.around.only(bench.contemporaries.get(subject, set(anybody)))


def _batch_mates(bench: Bench) -> Iterator[Line]:
    """Three batches of other sizes, and mixed, from the same prepared store."""
    assert bench.copied is not None
    store = Store.open(bench.folder / "copied")
    order = np.random.default_rng(bench.seed).permutation(store.n_samples)
    parts = np.split(order, [store.n_samples // 2, store.n_samples * 5 // 6])
    found = [bench.predictor.score_store(store, rows) for rows in parts if len(rows)]
    moves = Moves.between(bench.copied, pd.concat(found, ignore_index=True))
    yield moves.must_not_move(BATCH, "other batches, of other sizes")


def _own_subject(bench: Bench) -> Iterator[Line]:
    yield bench.graph.own_subject("looked for among neighbours")
    fitted = bench.graph.planted()
    predictor = Predictor(replace(bench.predictor.bundle, fitted=fitted))
    tables = [name for name, relation in bench.relations.items() if relation.from_table]
    work = bench.folder / "planted"
    bench.score(with_edges_to_self(bench.excerpt, tables), predictor=predictor, work=work)
    graph = Graph(Store.open(work), fitted, bench.relations)
    yield graph.own_subject("planted as a nearest reference")


def _edges(bench: Bench, splits: Path | None) -> Iterator[Line]:
    fitted = bench.predictor.bundle.fitted
    table = bench.extract.splits(None if splits is None else splits.absolute())
    yield other_splits(fitted, table, bench.extract.dataset_name)
    yield bench.graph.time(bench.extract, bench.context)


def _context(bench: Bench) -> Iterator[Line]:
    """Events of the context's subjects after the latest prediction time of each."""
    if bench.around is None:
        return
    cut = cut_of(bench.around.samples)
    scrambler = Scrambler(bench.around, bench.seed, with_codes=False)
    for change, changed in (
        ("future values, notes, images altered", scrambler.altered(is_later(cut))),
        ("future deleted", without(bench.around, is_later(cut))),
        ("future events planted", scrambler.planted(cut, after=AT_ONCE)),
    ):
        yield _context_moves(bench, changed).must_not_move(CONTEXT, change)
    altered = scrambler.altered(is_known(cut))
    change = "visible events altered: may move"
    yield _context_moves(bench, altered).may_move(CONTEXT, change)


def _context_moves(bench: Bench, changed: Excerpt) -> Moves:
    assert bench.around is not None
    touched = changed.altered_subjects(bench.around)
    concerned = [who for who, whom in bench.contemporaries.items() if whom & touched]
    found = bench.score(bench.excerpt, around=changed)
    return Moves.between(bench.copied, found, concerned)
