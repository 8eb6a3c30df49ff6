"""A hospital of a few dozen made-up stays with all five modalities, and a run on it.

Not a test; loaded by path, since the test folders are no packages.
"""

from clinical.bundle import Bundle, Network, write_draft
from clinical.config import RunConfig
from clinical.extract.write import write_extract
from clinical.links import learns_edges
from clinical.preparation import prepare
from clinical.training.build import build_model, scoring_memory

from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from PIL import Image

FIRST = 7_000_000  # of the subjects' numbers: a string that nothing else contains
START = datetime(2020, 1, 1)
WORDS = ("cough", "fever", "fall", "clear", "lungs", "rest", "stable", "pain")
SPLITS = {"train": 0.6, "tuning": 0.25, "held_out": 0.15}

Row = tuple[int, datetime | None, str, float | None, str | None, str | None]


def build(
    root: Path,
    *,
    n_subjects: int = 40,
    seed: int = 0,
    dataset_name: str = "small",
    consistent_calendar: bool = True,
    n_shards: int = 2,
    future: float = 1.0,
    with_splits: bool = True,
    stacks: bool = False,
) -> Path:
    """Write the extract; `future` changes what comes after the prediction times, nothing else.

    With stacks the images of half of the subjects are volumes of five slices.
    """
    root.mkdir(parents=True)
    (root / "images").mkdir()
    generator = np.random.default_rng(seed)
    rows: list[Row] = []
    labels = []
    for number in range(n_subjects):
        stays, deaths = _subject(root, generator, FIRST + number, future=future, stacks=stacks)
        rows += stays
        labels += deaths
    columns = ("subject_id", "time", "code", "numeric_value", "text_value", "image_path")
    dtypes = (pl.Int64, pl.Datetime("us"), pl.String, pl.Float32, pl.String, pl.String)
    schema = dict(zip(columns, dtypes, strict=True))
    events = pl.DataFrame(rows, schema=schema, orient="row")
    bounds = np.linspace(0, n_subjects, n_shards + 1).astype(int)
    frames = [
        events.filter(pl.col("subject_id").is_between(FIRST + low, FIRST + high - 1))
        for low, high in pairwise(bounds)
    ]
    label = pl.DataFrame(
        labels,
        schema={
            "subject_id": pl.Int64,
            "prediction_time": pl.Datetime("us"),
            "boolean_value": pl.Boolean,
        },
        orient="row",
    )
    names = list(SPLITS)
    cuts = np.cumsum([SPLITS[name] for name in names]) * n_subjects
    where = np.minimum(np.searchsorted(cuts, np.arange(n_subjects), side="right"), 2)
    splits = pl.DataFrame(
        {"subject_id": range(FIRST, FIRST + n_subjects), "split": [names[w] for w in where]}
    )
    write_extract(
        root,
        shards=frames,
        codes=events.select("code").unique(),
        dataset={
            "dataset_name": dataset_name,
            "consistent_calendar": consistent_calendar,
            "additional_value_modality_columns": ["image_path"],
        },
        splits=splits if with_splits else None,
        samples=label.select("subject_id", "prediction_time"),
        labels={"death": label},
    )
    return root


def _subject(
    root: Path, generator: np.random.Generator, subject: int, *, future: float, stacks: bool
) -> tuple[list[Row], list[tuple[int, datetime, bool]]]:
    birth = START - timedelta(days=365.25 * float(generator.uniform(20, 80)))
    rows: list[Row] = [
        (subject, None, "GENDER//F" if subject % 2 else "GENDER//M", None, None, None),
        (subject, birth, "MEDS_BIRTH", None, None, None),
    ]
    labels = []
    admission = START + timedelta(hours=int(generator.integers(0, 400)))
    for _ in range(1 + subject % 3 // 2):
        severity = float(generator.normal())
        rows.append((subject, admission, f"UNIT//{subject % 2}", None, None, None))
        for code, scale in (("HR", 10.0), ("LAC", 1.0)):
            for hour in sorted(generator.uniform(0, 47, size=int(generator.integers(1, 6)))):
                value = scale * (severity + float(generator.normal()))
                rows.append((subject, admission + timedelta(hours=hour), code, value, None, None))
        text = " ".join(generator.choice(WORDS, size=6))
        rows.append((subject, admission + timedelta(hours=2), "NOTE//1", None, text, None))
        rows.append((subject, admission, f"DX//{generator.integers(4)}", None, None, None))
        if generator.random() < 0.6:
            is_stack = stacks and subject % 2 == 1
            name = f"images/{subject}-{len(rows)}.{'nii' if is_stack else 'png'}"
            pixels = generator.integers(0, 255, (12, 10), dtype=np.uint8)
            _write_image(pixels, root / name, is_stack=is_stack)
            rows.append((subject, admission + timedelta(hours=3), "XRAY", None, None, name))
        prediction = admission + timedelta(hours=48)
        died = bool(generator.random() < 0.4)
        labels.append((subject, prediction, died))
        admission += timedelta(days=20)
    later = prediction + timedelta(minutes=1)
    rows.append((subject, later, "HR", 500.0 * future, None, None))
    rows.append((subject, later, f"DX//LATE{future:g}", None, None, None))
    rows.append((subject, later, "NOTE//1", None, f"outcome {future:g}", None))
    rows.append((subject, later, "UNIT//9", None, None, None))
    if died:
        rows.append((subject, later, "MEDS_DEATH", None, None, None))
    rows.sort(key=lambda row: (row[1] is not None, row[1] or birth))
    return rows, labels


def _write_image(pixels: np.ndarray, path: Path, *, is_stack: bool) -> None:
    """Grey levels as a picture, or as five slices that get darker."""
    if not is_stack:
        Image.fromarray(pixels).save(path)
        return
    import nibabel  # an extra

    voxels = np.stack([pixels.T // (1 + place) for place in range(5)], axis=-1)
    nibabel.save(nibabel.Nifti1Image(voxels.astype(np.int16), np.eye(4)), path)


def configure(extract: Path, out: Path, **changes: Any) -> RunConfig:
    """A run on all five modalities and both relations; `changes` replace top-level keys."""
    raw = {
        "extract": extract,
        "out": out,
        "seed": 3,
        "window_hours": 48,
        "tasks": {"death": {"kind": "binary", "labels": "tasks/death"}},
        "modalities": {
            "events": {"encoder": "event_set"},
            "static": {"encoder": "mlp"},
            "notes": {
                "encoder": "bert",
                "codes": ["NOTE//.*"],
                "min_subjects": 1,
                "max_tokens": 16,
            },
            "images": {"encoder": "cnn", "size": 16, "patch": 8},
            "codes": {"encoder": "bag", "window_hours": None, "min_subjects": 1},
        },
        "graph": {"relations": {"similar": {"k": 4, "width": 6}, "same_unit": {"k": 3}}},
    }
    return RunConfig.model_validate({**raw, **changes})


def untrained(config: RunConfig) -> Bundle:
    """A bundle of networks as they are before they learn anything, prepared for in `config.out`."""
    store = prepare(config, config.out / "store")
    networks = []
    for number in range(config.ensemble):
        torch.manual_seed(number)
        model = build_model(config.model_copy(update={"seed": number}), store).eval()
        for name in config.graph.relations:  # new ones do not listen yet
            torch.nn.init.normal_(model.directions(name))
        memory = scoring_memory(config, store, model, device=torch.device("cpu"))
        networks.append(Network(model, memory))
    folder = config.out / "bundle"
    write_draft(
        folder,
        config=config,
        fitted=store.fitted,
        networks=networks,
        experts={},
        pretrained=networks[::-1] if learns_edges(config) else (),
    )
    return Bundle.read(folder, draft=True)
