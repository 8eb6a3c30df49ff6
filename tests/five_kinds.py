"""Labels of all five kinds for the synthetic hospital, and a run that learns them at once.

Not a test; loaded by path, since the test folders are no packages. Age decides them all, with some
noise, so that a small network has something to find in few epochs.
"""

from clinical.experiment import Run

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

TASKS: dict[str, dict[str, Any]] = {
    "old": {"kind": "binary", "labels": "tasks/old"},
    "group": {"kind": "multiclass", "labels": "tasks/group"},
    "findings": {"kind": "multilabel", "labels": ["tasks/senior", "tasks/junior"]},
    "years": {"kind": "regression", "labels": "tasks/years", "unit": "years"},
    "event": {"kind": "time_to_event", "labels": "tasks/event", "horizon_hours": [100, 400]},
}
UNKNOWN = 0.4
"""Share of the labels of each task that are left out."""


def write_labels(extract: Path, *, seed: int = 0) -> None:
    """Write `tasks/…` for the extract's own samples."""
    samples = pl.read_parquet(extract / "samples.parquet")
    events = pl.concat(
        [pl.read_parquet(path) for path in sorted((extract / "data").rglob("*.parquet"))]
    )
    born = events.filter(pl.col("code") == "MEDS_BIRTH").select("subject_id", born="time")
    samples = samples.join(born, on="subject_id", how="left").sort("subject_id", "prediction_time")
    age = (samples["prediction_time"] - samples["born"]).dt.total_days().to_numpy() / 365.25
    draws = np.random.default_rng(seed)
    age = age + draws.normal(0, 2, len(age))
    standard = (age - age.mean()) / age.std()
    event = draws.exponential(200 * np.exp(-1.5 * standard))
    end = draws.uniform(50, 800, len(age))  # of observation
    names = np.array(["adult", "middle", "old"])
    keys = samples.select("subject_id", "prediction_time")

    def write(name: str, **columns: np.ndarray) -> None:
        known = draws.random(len(keys)) > UNKNOWN
        frame = keys.with_columns(**{k: pl.Series(v) for k, v in columns.items()}).filter(known)
        (extract / "tasks" / name).mkdir(parents=True, exist_ok=True)
        frame.write_parquet(extract / "tasks" / name / "0.parquet")

    write("old", boolean_value=standard > 0)
    write("group", categorical_value=names[np.digitize(standard, [-0.5, 0.5])])
    write("senior", boolean_value=standard > 0.5)
    write("junior", boolean_value=standard < -0.5)
    write("years", float_value=age.astype(np.float32))
    write(
        "event",
        float_value=np.minimum(event, end).astype(np.float32),
        boolean_value=event <= end,
    )


def configure(extract: Path, out: Path, **changes: Any) -> Run:
    """A run on static columns and events that learns the five tasks; `changes` replace keys."""
    raw = {
        "extract": extract,
        "out": out,
        "seed": 3,
        "tasks": TASKS,
        "modalities": {
            "static": {"encoder": "mlp", "width": 16},
            "events": {"encoder": "event_set", "width": 16, "layers": 1},
        },
        "fusion": {"kind": "gated", "width": 32},
        "graph": {"relations": {"similar": {"k": 4}}},
        "experts": ["additive"],
        "finetune": {"epochs": 25, "batch_size": 16, "learning_rate": 0.01, "patience": None},
        "evaluate": {"resamples": 50},
        "trainer": {"accelerator": "cpu", "threads": 1},
    }
    return Run.parse({**raw, **changes}, where="five kinds")
