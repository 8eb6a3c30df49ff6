"""Some rows of a file of scores, explained from the patients' own records: tables and pages."""

from clinical.errors import ConfigError, SchemaError
from clinical.explain import HIGHEST, InputExplanation, inputs_of
from clinical.extract.schema import Extract
from clinical.places import check_no_file, replacing
from clinical.predictor import Predictor
from clinical.training.checkpoint import thread_limit

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd
import polars as pl
from numpy.typing import NDArray

KEYS = ["subject_id", "prediction_time"]
WORD = "highest"


@dataclass(frozen=True)
class Chosen:
    """Which rows of a file of scores are looked at, and whether each gets a page.

    Attributes:
        rows: of the file, from 0; None for the highest scores.
        highest: how many of each binary task, where no rows are named.
        with_pages: each gets a page.
    """

    rows: Sequence[int] | None = None
    highest: int = HIGHEST
    with_pages: bool = False

    @classmethod
    def of(cls, pages: str | None) -> Self:
        """Read what a user gives: "12,57", or "highest:5"; without it there are no pages.

        Raises:
            ConfigError: it is neither.
        """
        if pages is None:
            return cls()
        word, colon, number = pages.partition(":")
        if word.strip() == WORD and colon and number.strip().isdecimal() and int(number):
            return cls(highest=int(number), with_pages=True)
        given = [part.strip() for part in pages.split(",")]
        if not all(part.isdecimal() for part in given):
            raise ConfigError(
                f"explain-pages: {pages} is not understood; give rows of the file from 0, as in "
                f"12,57, or {WORD}:5"
            )
        return cls(rows=list(dict.fromkeys(map(int, given))), with_pages=True)

    def among(self, scores: pl.DataFrame) -> pl.DataFrame:
        """The rows meant, as place (in the file), subject_id, prediction_time and task.

        Args:
            scores: of the file, with its columns kind, score and logit.

        Raises:
            ConfigError: there is no such row, or nothing in it that can be explained.
        """
        placed = scores.with_row_index("place").with_columns(pl.col("place").cast(pl.Int64))
        binary = (pl.col("kind") == "binary") & pl.col("score").is_not_null()
        named = placed.select("place", *KEYS, "task", "logit", can=binary.fill_null(False))
        if self.rows is None:
            ranked = named.filter("can").sort(-pl.col("logit"), "place")
            return ranked.group_by("task", maintain_order=True).head(self.highest)
        if beyond := [row for row in self.rows if row >= placed.height]:
            raise ConfigError(
                f"explain-pages: the file has no row {beyond[0]}; its {placed.height:,} rows are "
                "counted from 0"
            )
        found = named[list(self.rows)]
        if not found["can"].all():
            row = found.filter(~pl.col("can"))["place"][0]
            raise ConfigError(
                f"explain-pages: row {row} has no score, or not of a binary task; choose another"
            )
        return found


@dataclass(frozen=True)
class Looked:
    """What was written.

    Attributes:
        folder: of the tables and pages.
        explained: the same, to go on with.
        pages: one a row that was asked for.
    """

    folder: Path
    explained: InputExplanation
    pages: list[Path]


def folder_beside(out: Path) -> Path:
    """Where the tables and pages of a file of scores go."""
    return out.with_name(f"{out.stem}.explained")


def check_folder(out: Path) -> None:
    """Refuse what is in the way before anything is scored.

    Raises:
        ConfigError: a file has the name of the folder.
    """
    check_no_file(folder_beside(out), what="explain", remedy="move it away, or change --out")


def look_closer(
    bundle: str | Path,
    extract: str | Path,
    scores: str | Path,
    chosen: Chosen,
    *,
    context: str | Path | None = None,
    threads: int | None = None,
) -> Looked:
    """Explain some rows of a file of scores; see `clinical.explain_inputs` for what is told.

    Tables, and the pages asked for, go into a folder beside the file. They hold patients' values;
    the pages also the notes and images.

    Args:
        bundle, extract, context, threads: that the scores are of.
        scores: file that `score_extract` wrote with `explain`.
        chosen: which rows.

    Raises:
        ConfigError: as `Chosen.among`.
        SchemaError: the file is of another extract, bundle or context.
    """
    scores = Path(scores)
    table = pl.read_parquet(scores, columns=[*KEYS, "task", "kind", "score", "logit"])
    asked = chosen.among(table)
    with thread_limit(threads):
        predictor = Predictor.load(bundle)
        samples = asked.select(KEYS).unique(maintain_order=True).to_pandas()
        with predictor.prepared(extract, samples=samples, context=context) as (store, rows):
            places = _rows_by_task(asked, samples, rows)
            explained = inputs_of(
                predictor,
                store,
                rows,
                Extract.open(extract),
                tasks=list(places),
                chosen=places,
            )
            _check_same(asked, table, explained.samples)
            folder = folder_beside(scores)
            explained.write(folder)
            pages = _write_pages(explained, asked, folder) if chosen.with_pages else []
    return Looked(folder, explained, pages)


def _rows_by_task(
    asked: pl.DataFrame, samples: pd.DataFrame, rows: NDArray[np.int64]
) -> Mapping[str, NDArray[np.int64]]:
    """Task -> rows of the store, in the order asked for."""
    stored = pl.from_pandas(samples).with_columns(row=pl.Series(rows.astype(np.int64)))
    found = asked.with_row_index("asked").join(stored, on=KEYS).sort("asked")
    tasks = found["task"].unique(maintain_order=True)
    return {task: found.filter(pl.col("task") == task)["row"].to_numpy() for task in tasks}


def _ranked(asked: pl.DataFrame) -> pl.DataFrame:
    """With rank, the place among the rows of the task."""
    return asked.with_columns(rank=pl.int_range(pl.len(), dtype=pl.Int64).over("task"))


def _check_same(asked: pl.DataFrame, table: pl.DataFrame, looked: pd.DataFrame) -> None:
    """Refuse to explain a score that is not the file's."""
    ours = pl.from_pandas(looked[["task", "rank", "score"]])
    both = _ranked(asked).join(ours, on=["task", "rank"])
    there = table["score"].gather(both["place"])
    if n_other := int(((there - both["score"]).abs() > 1e-4).sum()):
        raise SchemaError(
            f"scores: {n_other} scores of the file are not those of this bundle, extract and "
            "context; score again"
        )


def _write_pages(explained: InputExplanation, asked: pl.DataFrame, folder: Path) -> list[Path]:
    """One HTML file a row; no name tells whose it is."""
    pages = []
    for place, task, rank in _ranked(asked).select("place", "task", "rank").iter_rows():
        pages.append(folder / f"row-{place}.html")
        with replacing(pages[-1]) as draft:
            draft.write_text(explained.page_html(rank, task=task, row=place), encoding="utf-8")
    return pages
