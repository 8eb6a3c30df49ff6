"""The variables of single samples: what each adds to a logit, and what was measured when."""

from clinical.batch import ClinicalBatch
from clinical.explain.owen import Owen, Shares
from clinical.explain.question import Question
from clinical.explain.recorded import TAKEN_APART
from clinical.predictor.panel import Panel

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import polars as pl

VARIABLES: dict[str, pl.DataType] = {
    "row": pl.Int64(),
    "task": pl.String(),
    "modality": pl.String(),
    "variable": pl.String(),
    "attribution": pl.Float64(),
    "standard_error": pl.Float64(),
    "events": pl.Int64(),
    "code": pl.String(),
    "time": pl.Datetime("us"),
    "value": pl.Float64(),
    "lowest": pl.Float64(),
    "highest": pl.Float64(),
    "file": pl.String(),
    "file_row": pl.Int64(),
}


def variables_of_sample(
    panel: Panel,
    questions: Sequence[Question],
    batch: ClinicalBatch,
    *,
    vocabularies: Mapping[str, Sequence[str]],
    real: pl.DataFrame,
    tasks: Sequence[str],
) -> Iterator[pl.DataFrame]:
    """`VARIABLES` of one sample, by task and modality, the strongest variable first.

    Args:
        panel, questions, batch: see `Shares`.
        vocabularies: modality -> the names of its variables.
        real: the sample's events, as `recorded` gives them.
        tasks: binary ones.
    """
    shares = Shares(panel, questions, batch, tasks)
    told = _newest(real)
    for modality in TAKEN_APART:
        if modality not in batch.inputs or not bool(batch.inputs[modality].present[0]):
            continue
        names = vocabularies[modality]
        owen = shares.of(modality, n_variables=len(names))
        for task in tasks:
            yield (
                _frame(owen, names, modality, task, row=int(batch.row[0]))
                .join(told, on=("modality", "variable"), how="left")
                .sort(pl.col("variable").is_null(), -pl.col("attribution").abs(), "variable")
                .select(pl.col(name).cast(dtype) for name, dtype in VARIABLES.items())
            )


def _frame(owen: Owen, names: Sequence[str], modality: str, task: str, *, row: int) -> pl.DataFrame:
    """What each variable adds; a null one stands for the neighbours that the modality chose."""
    return pl.DataFrame(
        {
            "row": row,
            "task": task,
            "modality": modality,
            "variable": [*(names[place] for place in owen.variables.tolist()), None],
            "attribution": np.append(owen.shares[task], owen.rest[task]),
            "standard_error": np.append(owen.errors[task], 0.0),
        },
        schema_overrides={"variable": pl.String},
    )


def _newest(real: pl.DataFrame) -> pl.DataFrame:
    """Of each variable how many events there are, the newest of them, and the range of all."""
    newest = [pl.col(name).last() for name in ("code", "time", "value", "file", "file_row")]
    return real.group_by("modality", "variable", maintain_order=True).agg(
        pl.len().alias("events"),
        *newest,
        pl.col("value").min().alias("lowest"),
        pl.col("value").max().alias("highest"),
    )
