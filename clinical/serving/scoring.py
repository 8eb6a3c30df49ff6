"""The patients of a request as an extract, and the rows that a predictor gives of it."""

from clinical.cohort.store import CONTEXT, FITTED, Store
from clinical.extract.images.checking import n_pixels, unreadable
from clinical.extract.schema import Extract
from clinical.extract.write import write_extract
from clinical.manifest import MANIFEST, digest_of
from clinical.predictor import Predictor
from clinical.predictor.stream import PORTION
from clinical.preparation import ToScore
from clinical.relations.linking import Contemporaries, relations_of
from clinical.serving.limits import Limits, RefusedError
from clinical.serving.messages import Answer, Patient, Prediction, Request

import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl

EVENTS = {
    "subject_id": pl.Int64(),
    "time": pl.Datetime("us"),
    "code": pl.String(),
    "numeric_value": pl.Float32(),
    "text_value": pl.String(),
    "image_path": pl.String(),
}
PORTION_PAIRS = 500_000
"""Pairs of an event and a prediction time that are in memory at once, some 100 MB; one sample at
least."""
SAMPLES = {"subject_id": pl.Int64(), "prediction_time": pl.Datetime("us")}


class Scorer:
    """Scores the patients of requests, from any thread.

    What all requests share, the context among it, is prepared once, into a private folder that
    goes with the scorer; what a request brings is beside it until it is answered.

    Args:
        predictor: of a finished bundle.
        context: extract whose samples may serve as unlabelled contemporaries.
    """

    def __init__(
        self, predictor: Predictor, limits: Limits, context: str | Path | None = None
    ) -> None:
        self.predictor = predictor
        self.limits = limits
        config, fitted = predictor.bundle.config, predictor.bundle.fitted
        looks_around = any(relation.in_time for relation in relations_of(config).values())
        self._context = Path(context) if context is not None and looks_around else None
        self._folder = tempfile.TemporaryDirectory(prefix="clinical-serve-")
        self._around: Contemporaries | None = None
        around: Store | None = None
        if self._context is not None:
            there = Extract.open(self._context)
            nobody = pl.DataFrame(schema=SAMPLES)
            shared = ToScore(config, fitted, there, nobody, there, is_own_context=False)
            shared.write_shared(self.folder)
            self._around = shared.contemporaries(self.folder / CONTEXT)
            around = Store.open(self.folder / CONTEXT)
        else:
            (self.folder / FITTED).mkdir()
            fitted.write(self.folder / FITTED)
        self._memories = predictor.panel.memories_with(around)

    @property
    def folder(self) -> Path:
        """Where patients' data is while they are scored."""
        return Path(self._folder.name)

    def close(self) -> None:
        """Remove the folder."""
        self._folder.cleanup()

    @cached_property
    def bundle(self) -> str:
        """What tells the model from any other."""
        return digest_of(self.predictor.bundle.folder / MANIFEST)

    def answer(self, request: Request) -> Answer:
        """The scores of a request.

        Raises:
            RefusedError: it has a person twice, or a time, or an image that cannot be read; or its
                images are too large.
            SchemaError: its events break the schema of an extract.
        """
        _check_once(request.patients)
        with tempfile.TemporaryDirectory(prefix="request-", dir=self.folder) as folder:
            extract = Path(folder)
            _write(request, extract)
            if "images" in self.predictor.bundle.config.modalities:
                _check_images(request.patients, extract, self.limits)
            places = {patient.subject_id: n for n, patient in enumerate(request.patients)}
            found: list[Prediction] = []
            for rows in self._score(extract, request.patients):
                rows.insert(0, "patient", rows["subject_id"].map(places))
                found += _predictions(rows)
        found.sort(key=lambda each: (each.patient, each.prediction_time))
        return Answer(bundle=self.bundle, predictions=found)

    def _score(self, extract: Path, patients: Sequence[Patient]) -> Iterator[pd.DataFrame]:
        """The rows of `Predictor.score`, a portion of the samples after the other.

        A patient of whom nothing is visible has a reason.
        """
        bundle = self.predictor.bundle
        to_score = ToScore.open(bundle.config, bundle.fitted, extract, context=self._context)
        store = self.folder / f"{extract.name}-store"  # beside what is shared
        for piece in _portions(to_score.cohort, patients):
            try:
                prepared = to_score.portion(
                    piece, store, around=self._around, embed=self.predictor.embed_keys
                )
                rows = np.arange(prepared.n_samples)
                yield self.predictor.score_store(prepared, rows, memories=self._memories)
            finally:
                shutil.rmtree(store, ignore_errors=True)


def _portions(cohort: pl.DataFrame, patients: Sequence[Patient]) -> list[pl.DataFrame]:
    """The samples in pieces of up to `PORTION`, and about `PORTION_PAIRS` with their events."""
    n_events = {patient.subject_id: len(patient.events) for patient in patients}
    events = cohort["subject_id"].replace_strict(n_events, return_dtype=pl.Int64())
    before = events.clip(lower_bound=PORTION_PAIRS // PORTION + 1).cum_sum().shift(1, fill_value=0)
    parts = cohort.with_columns((before // PORTION_PAIRS).alias("portion"))
    return parts.partition_by("portion", maintain_order=True, include_key=False)


def _check_once(patients: list[Patient]) -> None:
    """Refuse a person, or a prediction time of theirs, that is there twice.

    Raises:
        RefusedError: naming the patients by their places.
    """
    first: dict[int, int] = {}
    for place, patient in enumerate(patients):
        before = first.setdefault(patient.subject_id, place)
        if before != place:
            raise RefusedError(
                422,
                f"patients {before} and {place} have one subject_id; give a person once, with "
                "all events and prediction_times",
            )
        if len(set(patient.prediction_times)) < len(patient.prediction_times):
            raise RefusedError(422, f"patient {place} has a prediction time twice; give each once")


def _write(request: Request, folder: Path) -> None:
    """Write the extract of a request."""
    rows = list(_rows(request.patients, folder))
    events = pl.DataFrame(rows, schema=EVENTS, orient="row")
    listed = pl.DataFrame(
        {
            "code": [each.code for each in request.codes],
            "parent_codes": [each.parent_codes for each in request.codes],
        },
        schema={"code": pl.String(), "parent_codes": pl.List(pl.String())},
    )
    codes = listed.join(events.select("code").unique(), on="code", how="full", coalesce=True)
    samples = [
        (each.subject_id, time) for each in request.patients for time in each.prediction_times
    ]
    write_extract(
        folder,
        shards=[events],
        codes=codes,
        dataset={
            "dataset_name": request.dataset_name,
            "consistent_calendar": request.consistent_calendar,
            "additional_value_modality_columns": ["image_path"],
        },
        samples=pl.DataFrame(samples, schema=SAMPLES, orient="row"),
    )


def _rows(patients: Iterable[Patient], folder: Path) -> Iterable[tuple[Any, ...]]:
    """By `EVENTS`; images are written as they come."""
    n_images = 0
    for patient in patients:
        for event in patient.events:
            path = None
            if event.image is not None:
                path = image_path(n_images)
                (folder / "images").mkdir(exist_ok=True)
                (folder / path).write_bytes(event.image)
                n_images += 1
            yield (
                patient.subject_id,
                event.time,
                event.code,
                event.numeric_value,
                event.text_value,
                path,
            )


def image_path(number: int) -> str:
    """Where an image of a request lies: what it is, its content says."""
    return f"images/{number}"


def _check_images(patients: Iterable[Patient], folder: Path, limits: Limits) -> None:
    """Refuse images that cannot be read; in a large extract they would be counted as absent.

    Raises:
        RefusedError: naming the first of them by its place; or together they have, by their
            headers, more pixels than a request may have.
    """
    extract = Extract.open(folder)
    with_image = [
        (place, number)
        for place, patient in enumerate(patients)
        for number, event in enumerate(patient.events)
        if event.image is not None
    ]
    found = sum(n_pixels(extract, image_path(count)) for count in range(len(with_image))) / 1e6
    if found > limits.megapixels:
        raise RefusedError(
            413,
            f"images of {found:,.1f} megapixels together are more than {limits.megapixels:,g}; "
            "send fewer or smaller ones",
        )
    for count, (place, number) in enumerate(with_image):
        if reason := unreadable(extract, image_path(count)):
            raise RefusedError(
                422,
                f"patients.{place}.events.{number}.image: {reason}; send the file of a PNG, JPEG, "
                "DICOM or NIfTI image, or leave the event out",
            )


def _predictions(rows: pd.DataFrame) -> Iterable[Prediction]:
    known = {field.alias or name for name, field in Prediction.model_fields.items()}
    for row in rows.to_dict("records"):
        said = {
            str(name): None if pd.isna(value) else value
            for name, value in row.items()
            if name in known
        }
        yield Prediction.model_validate(said)
