"""How predictions are written to a file: as they are, or as another tool reads them."""

from clinical.config import RunConfig
from clinical.config_file import likely
from clinical.errors import ConfigError

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
import pandas as pd
import pyarrow as pa

_TYPES = {
    "subject_id": pa.int64(),
    "prediction_time": pa.timestamp("us"),
    "task": pa.string(),
    "class": pa.string(),
    "horizon_hours": pa.float64(),
    "score": pa.float64(),
    "label": pa.float64(),
    "label_observed": pa.bool_(),
    "kind": pa.string(),
    "in_set": pa.bool_(),
    "other_in_set": pa.bool_(),
    "low": pa.float64(),
    "high": pa.float64(),
    "coverage": pa.float64(),
    "calibration": pa.string(),
    "reason": pa.string(),
    "modalities": pa.string(),
    "logit": pa.float64(),
    "logit_nothing": pa.float64(),
}
"""Of every column, so that a portion in which one is all null has the type of the others."""

MEDS_EVALUATION = pa.schema(
    [
        ("subject_id", pa.int64()),
        ("prediction_time", pa.timestamp("us")),
        ("boolean_value", pa.bool_()),
        ("predicted_boolean_value", pa.bool_()),
        ("predicted_boolean_probability", pa.float64()),
    ]
)
THRESHOLD = 0.5
"""From which on a probability is predicted to be a yes, where a tool asks for one."""


class Format(Protocol):
    """What a file of predictions looks like."""

    @classmethod
    def of(cls, config: RunConfig, task: str | None) -> Self:
        """For the tasks of a bundle, or for one of them.

        Raises:
            ConfigError: the format cannot hold what was asked for.
        """

    def rows(self, predictions: pd.DataFrame) -> tuple[pa.Table, dict[str, int]]:
        """The rows of some predictions, and how many became what."""

    def check(self, counts: Mapping[str, int]) -> None:
        """Refuse a file that would be of no use.

        Raises:
            ConfigError: saying why, and what to do.
        """


@dataclass(frozen=True)
class Predictions:
    """All of them, as `data_schemas/predictions.json` has them."""

    @classmethod
    def of(cls, config: RunConfig, task: str | None) -> Self:
        if task is not None:
            raise ConfigError("task: predictions hold every task; leave it out")
        return cls()

    def rows(self, predictions: pd.DataFrame) -> tuple[pa.Table, dict[str, int]]:
        # What else there may be are Shapley values and typicality, a column a part.
        schema = pa.schema([(name, _TYPES.get(name, pa.float64())) for name in predictions.columns])
        table = pa.Table.from_pandas(predictions, schema=schema, preserve_index=False)
        unscored = int(predictions["score"].isna().sum())
        return table, {"rows scored": len(predictions) - unscored, "without a score": unscored}

    def check(self, counts: Mapping[str, int]) -> None:
        """Any will do."""


@dataclass(frozen=True)
class MedsEvaluation:
    """The five columns of the package meds-evaluation, of one binary task.

    It judges whole columns, so that rows without a score or a label are left out.
    """

    task: str

    @classmethod
    def of(cls, config: RunConfig, task: str | None) -> Self:
        binary = config.binary_tasks
        if task is None and len(binary) == 1:
            (task,) = binary
        if task is None:
            raise ConfigError(
                "task: meds-evaluation judges one binary task, and the bundle has "
                f"{len(binary)}{': name one of ' if binary else ''}{', '.join(binary)}"
            )
        if task not in binary:
            raise ConfigError(f"task: the bundle has no binary task {task}{likely(task, binary)}")
        return cls(task)

    def rows(self, predictions: pd.DataFrame) -> tuple[pa.Table, dict[str, int]]:
        mine = predictions[predictions["task"] == self.task]
        has_score, has_label = mine["score"].notna(), mine["label"].notna()
        kept = mine[has_score & has_label]
        score = kept["score"].to_numpy(dtype=np.float64)
        columns = {
            "subject_id": kept["subject_id"].to_numpy(),
            "prediction_time": kept["prediction_time"].to_numpy(),
            "boolean_value": kept["label"].to_numpy() == 1,
            "predicted_boolean_value": score >= THRESHOLD,
            "predicted_boolean_probability": score,
        }
        counts = {
            "rows written": len(kept),
            "left out: no score": int((~has_score).sum()),
            "left out: no label": int((has_score & ~has_label).sum()),
        }
        return pa.table(columns, schema=MEDS_EVALUATION), counts

    def check(self, counts: Mapping[str, int]) -> None:
        if not counts["rows written"]:
            raise ConfigError(
                f"labels: no row of {self.task} has both a score and a label, and meds-evaluation "
                "judges nothing else; say where labels are, or write predictions"
            )


FORMATS: dict[str, type[Format]] = {"predictions": Predictions, "meds-evaluation": MedsEvaluation}
