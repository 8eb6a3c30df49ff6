"""What of a patient's own record moved a score: modalities, variables, words, image regions."""

from clinical.cohort.store import Store
from clinical.errors import ConfigError
from clinical.explain.asked import binary_tasks
from clinical.explain.closely import Closely
from clinical.explain.explanation import InputExplanation
from clinical.explain.neighbours import neighbours_of
from clinical.explain.shapley import Shared, parts_of, share_out
from clinical.explain.sources import pictures_of
from clinical.extract.schema import Extract
from clinical.predictor import Predictor
from clinical.predictor.panel import Memories

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
from numpy.typing import NDArray

KEYS = ("subject_id", "prediction_time")
HIGHEST = 20
STEPS = 32
MAY_BE_NULL = ("start", "end", "events", "file_row")
"""Whole numbers that not every row of a table has."""

Rows = NDArray[np.int64]


def explain_inputs(
    predictor: Predictor | str | Path,
    extract: str | Path,
    *,
    samples: pd.DataFrame | None = None,
    context: str | Path | None = None,
    work: str | Path | None = None,
    task: str | None = None,
    highest: int = HIGHEST,
    steps: int = STEPS,
    with_text: bool = False,
) -> InputExplanation:
    """What each modality adds to the scores of an extract, and for some where in it.

    All that is said is in the log odds that networks and experts give together before they are
    calibrated, and of the model, not of the world: a word that moves a score need not be why the
    patient is ill.

    `modalities` are exact Shapley values over the modalities that a sample has, and the graph
    where it has neighbours (`shapley.py`); they add up to `logit` less `logit_nothing`. `variables`
    are Owen values (`owen.py`): those of a modality add up to its Shapley value. `words`
    are integrated gradients from a blank note (`gradients.py`), added up by word, and what counted
    phrases add through their pieces; those of a sample add up to what its notes add to a patient of
    whom all else is held fixed, but for `gap`, the error of the steps. `regions` are, slice by
    slice, integrated gradients from even images (`maps.py`), with a `gap` of their own, or Grad-CAM
    where the backbone is frozen, and the shares of the coarse view. Words and regions are of the
    networks alone, by their weight: what an expert makes of a note or image is in the Shapley
    values only.
    `neighbours` are effects of leaving out relations and single neighbours, which are no shares.

    Args:
        predictor: or the folder of its bundle.
        extract, samples, context, work: as for `Predictor.score`.
        task: to explain; by default every binary one.
        highest: samples of the highest scores by each task whose variables, words, regions and
            neighbours are looked at: each takes `steps` passes forward and back through the
            encoders of notes and of images (of these for each task), and some `2 * DRAWN` through
            that of events for each of its variables.
        steps: of integrated gradients, those of images at most.
        with_text: also give the words themselves. Without it no text of a note is in a table.

    Returns:
        The tables `modalities`, `variables`, `words` and `regions`, which
        data_schemas/explained_*.json describe, `neighbours` as `explain_neighbours` gives it, and
        pictures and pages of the samples looked at.

    Raises:
        BundleError, SchemaError: as for `Predictor.load` and `Predictor.score`.
        ConfigError: the model has no such binary task, `highest` is negative, or `steps` not
            positive.
    """
    if not isinstance(predictor, Predictor):
        predictor = Predictor.load(predictor)
    tasks = binary_tasks(predictor, task)
    check_effort(highest, steps)
    with predictor.prepared(extract, samples=samples, context=context, work=work) as (store, rows):
        return inputs_of(
            predictor,
            store,
            rows,
            Extract.open(extract),
            tasks=tasks,
            highest=highest,
            steps=steps,
            with_text=with_text,
        )


def check_effort(highest: int, steps: int = STEPS) -> None:
    """Refuse what cannot be done.

    Raises:
        ConfigError: `highest` is negative, or `steps` not positive.
    """
    if highest < 0:
        raise ConfigError(f"highest: is {highest}; give 0 or more samples to look at closely")
    if steps < 1:
        raise ConfigError(f"steps: is {steps}; give at least 1, 32 is usual")


def inputs_of(
    predictor: Predictor,
    store: Store,
    rows: Rows,
    extract: Extract,
    *,
    tasks: Sequence[str],
    highest: int = HIGHEST,
    steps: int = STEPS,
    with_text: bool = False,
    chosen: Mapping[str, Rows] | None = None,
) -> InputExplanation:
    """The same of rows [N] of a store that was prepared from `extract`.

    With `chosen`, task -> rows, these are looked at closely, in place of the highest.
    """
    panel = predictor.panel
    memories = [memory for (memory,) in panel.memories(store)]
    parts = parts_of(panel)
    shared = pl.concat(
        [
            _shares(predictor, each, parts, task)
            for each in share_out(panel, store, np.unique(rows), memories=memories)
            for task in tasks
        ]
    )
    samples = store.samples.select(*KEYS, "reason").with_columns(
        row=pl.int_range(pl.len(), dtype=pl.Int64)
    )
    if chosen is None:
        chosen = {task: _highest(shared, task, samples, highest) for task in tasks}
    found = Closely(panel, store, extract, memories, steps).look(chosen)
    return InputExplanation(
        modalities=_modalities(shared, samples, rows, tasks),
        variables=_named(found.variables, samples),
        words=_named(found.words if with_text else found.words.drop("text"), samples, "note"),
        regions=_named(found.regions, samples, "image"),
        neighbours=_heard(predictor, store, chosen),
        samples=_looked_at(shared, samples, chosen),
        events=found.events,
        notes=found.notes,
        pictures=pictures_of(extract, store, found.images),
    )


def shapley_columns(
    predictor: Predictor,
    predictions: pd.DataFrame,
    store: Store,
    rows: Rows,
    memories: Memories,
) -> pd.DataFrame:
    """Predictions with their scores shared out among modalities and the graph.

    Args:
        predictor: that made the predictions.
        predictions: of rows of the store.
        store, rows: of the samples.
        memories: of each network, with nothing left out.

    Returns:
        The predictions with further columns: logit, logit_nothing (of a patient of whom nothing is
        known) and for each part shapley_PART. The last add up to the difference of the first two;
        null where there is no score, and of tasks that are not binary.
    """
    parts, tasks = parts_of(predictor.panel), binary_tasks(predictor, None)
    shared = pl.concat(
        [
            _shares(predictor, each, parts, task)
            for each in share_out(
                predictor.panel, store, np.unique(rows), memories=[one[0] for one in memories]
            )
            for task in tasks
        ]
    )
    wide = shared.pivot("part", index=["row", "task"], values="shapley").join(
        shared.unique(["row", "task"]).select("row", "task", "logit", "logit_nothing"),
        on=["row", "task"],
    )
    keys = store.samples.select(*KEYS).with_row_index("row").with_columns(pl.col("row").cast(int))
    named = wide.join(keys, on="row").rename({part: f"shapley_{part}" for part in parts})
    columns = ["logit", "logit_nothing", *(f"shapley_{part}" for part in parts)]
    added = named.select(*KEYS, "task", *columns).to_pandas()
    added[KEYS[1]] = added[KEYS[1]].astype(predictions[KEYS[1]].dtype)
    added["task"] = added["task"].astype(predictions["task"].dtype)
    both = predictions.merge(added, on=[*KEYS, "task"], how="left", validate="many_to_one")
    both.loc[both["score"].isna(), columns] = np.nan
    return both


def _shares(predictor: Predictor, shared: Shared, parts: Sequence[str], task: str) -> pl.DataFrame:
    """Long: a row a sample and part."""
    n_parts, n = shared.present.shape
    whole = shared.whole[task]
    return pl.DataFrame(
        {
            "row": np.repeat(shared.rows, n_parts),
            "task": [task] * (n * n_parts),
            "part": [*parts] * n,
            "present": shared.present.T.ravel(),
            "shapley": shared.shares[task].T.ravel(),
            "score": np.repeat(predictor.probability(task, whole), n_parts),
            "logit": np.repeat(whole, n_parts),
            "logit_nothing": np.repeat(shared.nothing[task], n_parts),
        }
    )


def _highest(shared: pl.DataFrame, task: str, samples: pl.DataFrame, n: int) -> Rows:
    """The rows of the highest scores of a task, the highest first."""
    seen = samples.filter(pl.col("reason").is_null()).select("row")
    of = shared.filter(pl.col("task") == task).unique("row").join(seen, on="row", how="semi")
    # By the logit: a calibration may give many samples one score.
    ranked: Rows = of.sort(-pl.col("logit"), "row")["row"].head(n).to_numpy()
    return ranked


def _modalities(
    shared: pl.DataFrame, samples: pl.DataFrame, rows: Rows, tasks: Sequence[str]
) -> pd.DataFrame:
    """In the order asked for, by task; without numbers where nothing is visible."""
    asked = pl.DataFrame({"row": rows.astype(np.int64), "asked": np.arange(len(rows))})
    order = pl.DataFrame({"task": list(tasks), "place": np.arange(len(tasks))})
    numbers = ("shapley", "score", "logit", "logit_nothing")
    unseen = pl.col("reason").is_not_null()
    table = (
        shared.with_row_index("part_place")
        .join(asked, on="row")
        .join(order, on="task")
        .join(samples, on="row")
        .sort("asked", "place", "part_place")
        .with_columns(pl.when(unseen).then(np.nan).otherwise(name).alias(name) for name in numbers)
    )
    columns = (*KEYS, "task", "part", "present", *numbers, "reason")
    return _to_pandas(table.select(columns))


def _looked_at(
    shared: pl.DataFrame, samples: pl.DataFrame, chosen: Mapping[str, Rows]
) -> pd.DataFrame:
    """row, task, rank (from 0), subject_id, prediction_time and score of those looked at."""
    ranked = pl.concat(
        [
            pl.DataFrame(
                {"row": of, "task": [task] * len(of), "rank": np.arange(len(of))},
                schema={"row": pl.Int64, "task": pl.String, "rank": pl.Int64},
            )
            for task, of in chosen.items()
        ]
    )
    scores = shared.unique(["row", "task"]).select("row", "task", "score")
    found = ranked.join(scores, on=["row", "task"]).join(samples.drop("reason"), on="row")
    return _to_pandas(found.sort("task", "rank"))


def _heard(predictor: Predictor, store: Store, chosen: Mapping[str, Rows]) -> pd.DataFrame | None:
    """What relations and neighbours did to the scores looked at; None without either."""
    if not predictor.bundle.config.graph.relations:
        return None
    found = [
        neighbours_of(predictor, store, rows, tasks=[task])
        for task, rows in chosen.items()
        if len(rows)
    ]
    return pd.concat(found, ignore_index=True) if found else None


def _named(found: pl.DataFrame, samples: pl.DataFrame, what: str = "number") -> pd.DataFrame:
    """Rows of the store by their subject and time, `number` by what it counts."""
    table = found.with_row_index("place").join(samples.drop("reason"), on="row").sort("place")
    own = [name for name in found.columns if name != "row"]
    names = {"number": what} if "number" in own else {}
    return _to_pandas(table.select(*KEYS, *own).rename(names))


def _to_pandas(frame: pl.DataFrame) -> pd.DataFrame:
    """With the types of the data schemas."""
    columns: dict[str, pd.Series | np.ndarray] = {}
    for name, dtype in frame.schema.items():
        if dtype == pl.String:
            columns[name] = pd.Series(frame[name].to_list(), dtype="string")
        elif name in MAY_BE_NULL:
            columns[name] = pd.Series(frame[name].to_list(), dtype="Int64")
        else:
            columns[name] = frame[name].to_numpy()
    return pd.DataFrame(columns)
