"""A file of scores, written portion by portion, that a killed process goes on with.

Beside the file, in a hidden folder of its name, lie the portions that are done, each complete or
not there, and what they are made from. The finished file is made of them, and the folder goes. One
call at a time works in it, and a portion says what it was made from, so that no file is ever made
of the portions of two calls.
"""

from clinical.cohort.fingerprint import Identity
from clinical.cohort.selection import Selection, with_labels
from clinical.config_file import likely
from clinical.conformal import USUAL_COVERAGE, check_coverage
from clinical.errors import ConfigError, SchemaError
from clinical.explain import binary_tasks, shapley_columns
from clinical.extract.schema import Extract
from clinical.manifest import MANIFEST, digest_of, write_json
from clinical.places import check_parquet, replacing
from clinical.prediction_format import FORMATS, Format
from clinical.predictor import Predictor
from clinical.predictor.stream import PORTION, Portion, Stream
from clinical.preparation import ToScore
from clinical.recognition import Recognised, together
from clinical.training.checkpoint import thread_limit
from clinical.typicality import Tally, drift_file, drift_table, warning
from clinical.unfinished import unfinished

import hashlib
import importlib.metadata
import json
import logging
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch

logger = logging.getLogger(__name__)

OWN = Selection()
"""The samples that an extract names itself."""

Progress = Callable[[int, int], None]
"""Called with the samples that are scored, and all."""


@dataclass(frozen=True)
class Scored:
    """What scoring an extract into a file gives.

    Attributes:
        out: the file.
        counts: of rows, by what became of them.
        recognised: how much of each modality of the extract the model knew.
        notes: task -> what has to be said of its calibration.
        drift: how the cohort differs from the one trained on, as `data_schemas/drift.json` has it.
    """

    out: Path
    counts: dict[str, int]
    recognised: list[Recognised]
    notes: dict[str, str]
    drift: pd.DataFrame


def score_extract(
    bundle: str | Path,
    extract: str | Path,
    *,
    out: str | Path,
    selection: Selection = OWN,
    labels: Sequence[str] = (),
    context: str | Path | None = None,
    coverage: float = USUAL_COVERAGE,
    form: str = "predictions",
    task: str | None = None,
    explain: bool = False,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Scored:
    """Score the samples of an extract in portions, and warn where the model knows little of it.

    Memory depends on the context and on what the events of a portion's subjects take, not on how
    many samples there are, of which only the list is held. What a killed call has scored, the same
    call again goes on with.

    Args:
        bundle: folder of the bundle.
        extract: a MEDS folder; neither splits nor labels are needed.
        out: Parquet file to write, atomically: by event file, subject and prediction time. Beside
            it comes the drift table, `<its name>.drift.parquet`.
        selection: which samples; by default the extract's own and those of its labels.
        labels: folders of labels that lie elsewhere than in training, see `with_labels`.
        context: extract whose samples may serve as unlabelled contemporaries.
        coverage: of sets and intervals, in whole hundredths from 0.5 to 0.99.
        form: of `FORMATS`.
        task: for formats of one task; by default the bundle's only binary one.
        explain: also share each score of a binary task out among its parts, see `shapley_columns`.
        threads: batches that are scored beside each other, a core each; by default one a core.
        progress: told after each portion.

    Raises:
        BundleError, ConfigError, SchemaError: as `Predictor.load` and `Predictor.score`; nothing
            is left beside `out` then.
        ConfigError: another call is writing the same file.
    """
    target = Path(out)
    check_parquet(target, what="out")
    check_coverage(coverage)
    predictor = Predictor.load(bundle)
    if form not in FORMATS:
        raise ConfigError(f"format: there is no {form}{likely(form, FORMATS)}")
    layout = FORMATS[form].of(predictor.bundle.config, task)
    if explain and form != "predictions":
        raise ConfigError(f"explain: {form} has no columns for it; write predictions")
    if explain:
        binary_tasks(predictor, None)
    config = with_labels(predictor.bundle.config, labels)
    predictor = Predictor(replace(predictor.bundle, config=config))
    at_once = threads or torch.get_num_threads()
    with thread_limit(1), _once_each():
        samples = selection.samples(Extract.open(extract), config)
        to_score = ToScore.open(
            config,
            predictor.bundle.fitted,
            Path(extract),
            samples=samples,
            context=None if context is None else Path(context),
        )
        made_from = {
            "clinical": importlib.metadata.version("clinical"),
            "bundle": digest_of(Path(bundle) / MANIFEST),
            "samples": _samples_digest(to_score),
            "context": _context_digest(to_score),
            "coverage": coverage,
            "form": form,
            "explain": explain,
            "task": task,
            "portion": PORTION,
        }
        folder = target.with_name(f".{target.name}.parts")
        with unfinished(folder, made_from, what=f"out: {target}") as digest:
            beside = partial(shapley_columns, predictor) if explain else None
            stream = Stream(predictor, to_score, folder, coverage, at_once, beside)
            parts = _Parts(folder, layout, digest)
            parts.fill(stream, progress)
            facts = parts.finish(target, len(stream))
            known = stream.typicality
            drift = drift_table(known.rows, facts.tally, known.reference)
            _write_drift(drift, drift_file(target))
    for one in facts.recognised:
        _warn(extract, one)
    if (said := warning(drift)) is not None:
        logger.warning("%s: %s", extract, said)
    notes = {
        name: fit.reason
        for name, fit in predictor.bundle.named_calibrations.items()
        if fit.reason is not None
    }
    return Scored(target, facts.counts, facts.recognised, notes, drift)


def score(
    bundle: str | Path,
    extract: str | Path,
    *,
    out: str | Path | None = None,
    context: str | Path | None = None,
    samples: str | Path | None = None,
    at: str | None = None,
    every: str | None = None,
    until: Sequence[str] = (),
    split: str | None = None,
    labels: Sequence[str] = (),
    coverage: float = USUAL_COVERAGE,
    explain: bool = False,
    threads: int | None = None,
) -> pd.DataFrame:
    """Score the samples of an extract with a finished bundle, in portions of constant memory.

    Args:
        bundle: folder of the bundle.
        extract: a MEDS folder; neither splits nor labels are needed.
        out: Parquet file to write, atomically; what a killed call has scored, the same call again
            goes on with. Beside it, in `<its name>.drift.parquet`, stands how the cohort as a
            whole differs from the one trained on.
        context: extract whose samples may serve as unlabelled contemporaries.
        samples: Parquet file with subject_id and prediction_time, or a folder of such.
        at: a rule instead, such as "ICU_ADMISSION + 48h": a sample for each event of that code.
        every: such as "6h": from then on again and again, until the stay ends.
        until: codes that end a stay, see `TimeRule.parse`.
        split: of metadata/subject_splits.parquet, to score its subjects alone.
        labels: folders of labels that lie elsewhere than in training; `TASK=FOLDER` of several.
        coverage: of conformal sets and intervals.
        explain: also give columns that share each score out: logit, logit_nothing and a Shapley
            value for each modality and the graph, `shapley_events` and so on.
        threads: batches that are scored beside each other; by default one a core.

    Returns:
        The predictions, one row a sample, task, class and horizon: all in memory, which
        `clinical score` on the command line never has.
    """
    selection = Selection.of(samples=samples, at=at, every=every, until=until, split=split)
    with tempfile.TemporaryDirectory() as temporary:
        target = Path(temporary) / "predictions.parquet" if out is None else Path(out)
        score_extract(
            bundle,
            extract,
            out=target,
            selection=selection,
            labels=labels,
            context=context,
            coverage=coverage,
            explain=explain,
            threads=threads,
        )
        return pd.read_parquet(target)


@dataclass(frozen=True)
class _Facts:
    """Of all portions together."""

    counts: dict[str, int]
    recognised: list[Recognised]
    tally: Tally


@dataclass(frozen=True)
class _Parts:
    """The portions of a file that are done.

    Attributes:
        folder: where they lie.
        layout: of the file.
        made_from: digest of all that they are made from.
    """

    folder: Path
    layout: Format
    made_from: str

    def path(self, number: int) -> Path:
        """Of a portion's rows."""
        return self.folder / f"{number:07d}.parquet"

    def facts(self, number: int) -> dict[str, Any] | None:
        """What is known of a portion beside its rows; None unless both are those of this call."""
        rows, beside = self.path(number), self.path(number).with_suffix(".json")
        if not (rows.is_file() and beside.is_file()):
            return None
        found: dict[str, Any] = json.loads(beside.read_text(encoding="utf-8"))
        is_own = found["made_from"] == self.made_from and found["rows"] == digest_of(rows)
        return found if is_own else None

    def fill(self, stream: Stream, progress: Progress | None) -> None:
        """Score the portions that are missing."""
        total = sum(stream.sizes)
        done = {number for number in range(len(stream)) if self.facts(number) is not None}
        if done:
            logger.info("going on: %d of %d portions are scored already", len(done), len(stream))
        scored = 0
        for number, size in enumerate(stream.sizes):
            if number not in done:
                self._write(number, stream.score(number))
            scored += size
            if progress is not None:
                progress(scored, total)

    def _write(self, number: int, portion: Portion) -> None:
        rows, counts = self.layout.rows(portion.predictions)
        with replacing(self.path(number)) as draft:
            pq.write_table(rows, draft)
        facts = {
            "made_from": self.made_from,
            "rows": digest_of(self.path(number)),
            "seen": portion.seen,
            "counts": counts,
            "recognised": [one.to_json() for one in portion.recognised],
            "tally": portion.tally.to_json(),
        }
        with replacing(self.path(number).with_suffix(".json")) as draft:
            write_json(draft, facts)

    def finish(self, target: Path, n_parts: int) -> _Facts:
        """Make the file of all portions, one after the other.

        Raises:
            SchemaError: nothing is visible of any sample.
            ConfigError: a portion is gone, or of something else.
        """
        seen, counts, known, tallies = 0, Counter[str](), [], []
        for number in range(n_parts):
            if (facts := self.facts(number)) is None:
                raise ConfigError(
                    f"out: {self.folder} was changed while {target.name} was scored; run it again"
                )
            seen += facts["seen"]
            counts.update(facts["counts"])
            tallies.append(Tally.from_json(facts["tally"]))
            if facts["recognised"]:
                known.append([Recognised.from_json(one) for one in facts["recognised"]])
        if not seen:
            raise SchemaError(
                "data: nothing is visible of any sample; check prediction times, the model's "
                "window_hours and modalities"
            )
        self.layout.check(counts)
        with replacing(target) as draft:
            first = pq.read_schema(self.path(0))
            with pq.ParquetWriter(draft, first) as writer:
                for number in range(n_parts):
                    rows: pa.Table = pq.read_table(self.path(number), schema=first)
                    writer.write_table(rows)
        return _Facts(dict(counts), together(known), sum(tallies[1:], tallies[0]))


def _write_drift(drift: pd.DataFrame, path: Path) -> None:
    with replacing(path) as draft:
        drift.to_parquet(draft, index=False)


def _samples_digest(to_score: ToScore) -> str:
    """Of everything that the samples, their labels and their inputs are read from."""
    total = hashlib.sha256(to_score.identity.made_from.encode())
    for column in ("subject_id", "prediction_time"):
        total.update(to_score.cohort[column].to_physical().to_numpy().tobytes())
    return total.hexdigest()


def _context_digest(to_score: ToScore) -> str | None:
    if to_score.context is None:
        return None
    if to_score.is_own_context:
        return to_score.identity.made_from
    identity = Identity.of(to_score.config, to_score.context, to_score.identity.settings)
    return identity.made_from


class _New(logging.Filter):
    """Lets through what one handler has not been told yet."""

    def __init__(self) -> None:
        super().__init__()
        self._said = set[str]()

    def filter(self, record: logging.LogRecord) -> bool:
        before = len(self._said)
        self._said.add(record.getMessage())
        return len(self._said) > before


@contextmanager
def _once_each() -> Iterator[None]:
    """What is logged of one portion need not be said of each."""
    filters = [(handler, _New()) for handler in logging.getLogger().handlers]
    for handler, new in filters:
        handler.addFilter(new)
    try:
        yield
    finally:
        for handler, new in filters:
            handler.removeFilter(new)


def _warn(extract: str | Path, one: Recognised) -> None:
    if not one.samples:
        logger.warning(
            "%s: nothing the model knows of %s is visible for any sample; are its codes, "
            "columns and files those of the extract it was trained on?",
            extract,
            one.modality,
        )
    elif 2 * one.unknown > one.events:
        logger.warning(
            "%s: %s of %s visible events of %s have a code that the model has not learned; are "
            "its codes spelt as in the extract it was trained on?",
            extract,
            f"{one.unknown:,}",
            f"{one.events:,}",
            one.modality,
        )
