"""A synthetic hospital: an extract in which what can be known about each patient is known.

Six hidden causes decide who dies. Each shows in one modality, as a noisy scalar reading of it that
the modality renders almost exactly (`render_*.py`); the outbreak shows in the stays of the same
unit and week together. `truth.parquet` holds the risk that a perfect reader of the readings would
give (`bayes.py`), with all of them and without each cause.
"""

from clinical.errors import ConfigError
from clinical.extract.images import is_installed
from clinical.extract.synthetic.bayes import risks
from clinical.extract.synthetic.ontology import described_codes
from clinical.extract.synthetic.phrases import KINDS
from clinical.extract.synthetic.render_admissions import (
    DESCRIPTIONS,
    render_admissions,
    render_static,
)
from clinical.extract.synthetic.render_codes import render_codes
from clinical.extract.synthetic.render_ct import CODE as CT_CODE
from clinical.extract.synthetic.render_ct import render_ct
from clinical.extract.synthetic.render_events import MEASUREMENTS, render_events
from clinical.extract.synthetic.render_images import CODE as IMAGE_CODE
from clinical.extract.synthetic.render_images import render_images
from clinical.extract.synthetic.render_notes import DISCHARGE, render_notes
from clinical.extract.synthetic.stays import Integers, Stays, draw_stays
from clinical.extract.variables import code_table
from clinical.extract.write import draft_folder, write_extract

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
import polars as pl

TASK = "in_hospital_mortality"
TRUTH = "truth.parquet"
MIN_SUBJECTS = 10
SUBJECTS_PER_SHARD = 1000
# A Monday: outbreaks change with the calendar's weeks.
CALENDAR_BEGIN = datetime(2015, 1, 5)
# Of stays with an image that have a CT in the place of the X-ray, where there are any.
SHARE_CT = 0.5
SHARES = {"tuning": 0.15, "held_out": 0.15}

__all__ = ["synthesize"]


def synthesize(
    out: Path, *, subjects: int, seed: int, outbreak: bool = True, ct: bool = False
) -> None:
    """Write a synthetic hospital with all five modalities, labels and the truth.

    The same arguments give the same tables; another seed is another hospital of the same kind.
    Beside the extract, and no part of it, lies `truth.parquet`: for each sample `risk`, the Bayes
    risk given the readings of its present modalities and of its permitted references, and
    `risk_without_<cause>`, the same with that cause's readings withheld.

    Args:
        out: A new or empty folder.
        subjects: How many people; some have two stays, each stay is a sample.
        seed: Not negative; it is in the `dataset_name`.
        outbreak: Whether units can have outbreaks at all.
        ct: Whether half of the stays with an image have a CT in the place of the X-ray: a small
            DICOM series that shows the same reading, so that the risks stay the same.

    Raises:
        ConfigError: `out` is not empty, `subjects` or `seed` is too small, or pydicom is missing.
    """
    if subjects < MIN_SUBJECTS:
        raise ConfigError(
            f"subjects is {subjects}; give at least {MIN_SUBJECTS}, so that every split has some"
        )
    if seed < 0:
        raise ConfigError(f"seed is {seed}; give 0 or a positive number")
    if ct and not is_installed("dicom"):
        raise ConfigError("ct needs pydicom; pip install 'clinical[dicom]'")
    n_shards = -(-subjects // SUBJECTS_PER_SHARD)
    drawing, splitting, *rendering = np.random.SeedSequence(seed).spawn(2 + n_shards)
    stays = draw_stays(np.random.default_rng(drawing), subjects, outbreak=outbreak)
    samples = _samples(stays)
    name = f"synthetic-hospital-{subjects}-seed-{seed}"
    name += "" if outbreak else "-without-outbreaks"
    with draft_folder(Path(out)) as root:
        write_extract(
            root,
            shards=_render_shards(root, stays, rendering, ct=ct),
            codes=_codes(ct=ct),
            dataset={
                "dataset_name": f"{name}-with-ct" if ct else name,
                "etl_name": "clinical synthesize",
                "consistent_calendar": True,
                "additional_value_modality_columns": ["image_path"],
            },
            splits=_splits(np.random.default_rng(splitting), subjects),
            samples=samples,
            labels={TASK: samples.with_columns(pl.Series("boolean_value", stays.died))},
        )
        truth = pl.concat([samples, risks(stays, outbreak=outbreak)], how="horizontal")
        truth.write_parquet(root / TRUTH)


def _render_shards(
    root: Path, stays: Stays, seeds: list[np.random.SeedSequence], *, ct: bool
) -> Iterator[pl.DataFrame]:
    for number, seed in enumerate(seeds):
        low, high = np.searchsorted(
            stays.subject, [number * SUBJECTS_PER_SHARD, (number + 1) * SUBJECTS_PER_SHARD]
        )
        yield _render(root, number, stays.take(slice(int(low), int(high))), seed, ct=ct)


def _render(
    root: Path, number: int, stays: Stays, seed: np.random.SeedSequence, *, ct: bool
) -> pl.DataFrame:
    """Every event of some stays, and their images. A generator each: no renderer shifts another."""
    rngs = [np.random.default_rng(child) for child in seed.spawn(7)]
    has_ct = stays.has_image & ct & (rngs[6].random(len(stays)) < SHARE_CT)
    filmed = replace(stays, has_image=stays.has_image & ~has_ct)
    scanned = replace(stays, has_image=has_ct)
    rows = pl.concat(
        [
            render_static(rngs[0], stays),
            render_admissions(rngs[1], stays),
            render_codes(rngs[2], stays),
            render_events(rngs[3], stays),
            render_notes(rngs[4], stays),
            render_images(rngs[5], filmed, root, f"images/{number}"),
            *([render_ct(rngs[6], scanned, root, f"ct/{number}")] if ct else []),
        ],
        how="diagonal",
    )
    subject = pl.Series("subject_id", _subject_ids(stays))
    return rows.select(
        subject.gather(rows["stay"]),
        _to_time(rows["minute"]).alias("time"),
        "code",
        "numeric_value",
        "text_value",
        "image_path",
    )


def _samples(stays: Stays) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "subject_id": _subject_ids(stays),
            "prediction_time": _to_time(pl.Series(stays.prediction)),
        }
    )


def _subject_ids(stays: Stays) -> Integers:
    return stays.subject + 1


def _to_time(minutes: pl.Series) -> pl.Series:
    microseconds = minutes.cast(pl.Int64) * 60_000_000
    return microseconds.cast(pl.Duration("us")) + CALENDAR_BEGIN


def _splits(rng: np.random.Generator, n_subjects: int) -> pl.DataFrame:
    split = np.full(n_subjects, "train", dtype="<U8")
    order, start = rng.permutation(n_subjects), 0
    for name, share in SHARES.items():
        end = start + round(share * n_subjects)
        split[order[start:end]] = name
        start = end
    return pl.DataFrame({"subject_id": np.arange(n_subjects) + 1, "split": split})


def _codes(*, ct: bool) -> pl.DataFrame:
    """Every code that any hospital of this kind can have, so that the table never differs."""
    notes = {f"NOTE//{kind}": f"Note: {kind.lower().replace('_', ' ')}" for kind in KINDS}
    described = {
        **DESCRIPTIONS,
        **notes,
        DISCHARGE: "Note: discharge summary",
        IMAGE_CODE: "Chest X-ray",
        **({CT_CODE: "Computed tomography of the chest"} if ct else {}),
    }
    rows = [*described_codes(), *((code, text, []) for code, text in described.items())]
    table = pl.DataFrame(
        rows,
        schema={
            "code": pl.String,
            "description": pl.String,
            "parent_codes": pl.List(pl.String),
        },
        orient="row",
    )
    measured = code_table(measurement.code for measurement in MEASUREMENTS)
    return pl.concat([table, measured], how="diagonal")
