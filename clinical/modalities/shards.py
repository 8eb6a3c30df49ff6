"""One shard of an extract: cut to what its samples may see, then written as arrays.

A shard is the unit of parallel work; only one at a time (one a worker) is in memory.
"""

from clinical.cohort.columns import write_table
from clinical.cohort.fitted import code_hash
from clinical.cohort.window import ages, visible
from clinical.config import RunConfig, keywords, pick
from clinical.extract.schema import Extract
from clinical.given_weights import local_weights
from clinical.modalities import MODALITIES, Counts, Modality, Statistics, route
from clinical.modalities.routing import matches
from clinical.modalities.static import AGE

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import meds
import numpy as np
import polars as pl
from numpy.typing import NDArray

CODES_FILE = "relation_codes.arrow"
SEEN_FILE = "seen_codes.arrow"
"""`modality, code, events` (once for each sample that sees them) of a shard to score."""

_FRAME = {
    "sample": pl.Int64,
    "event": pl.Int64,
    "subject": pl.Int64,
    "hours": pl.Float64,
    "code": pl.String,
    "numeric_value": pl.Float32,
    "text_value": pl.String,
    "image_path": pl.String,
}
_COLUMNS = [pl.col(name).cast(dtype) for name, dtype in _FRAME.items()]


def modalities_of(config: RunConfig) -> dict[str, Modality]:
    """The data side of every configured modality."""
    made = {}
    for name, modality in config.modalities.items():
        entry = MODALITIES[name]
        options = pick(modality.options, entry)
        if "weights" in keywords(entry):
            options["weights"] = local_weights(name, modality)
        made[name] = entry(**options)
    return made


@dataclass(frozen=True)
class CodeQuery:
    """Which raw code to note of each sample: the newest visible one that fits.

    Attributes:
        pattern: Regular expression of whole codes; None for no code at all.
        window_hours: How long before the prediction time it is looked for; None for any time.
    """

    pattern: str | None
    window_hours: float | None


@dataclass(frozen=True)
class ShardJob:
    """What a worker needs to cut one shard, and to write it.

    Attributes:
        extract: Where the events are.
        config: The modalities.
        queries: Codes to note, by the name of the relation that asks.
        number: Row of `extract.shards`.
        samples: `subject_id, prediction_time` of the shard's samples, in their order.
        threads: That decode its images.
        is_part: Only the events of the samples' subjects are read, and counted from 0.
    """

    extract: Extract
    config: RunConfig
    queries: Mapping[str, CodeQuery]
    number: int
    samples: pl.DataFrame
    threads: int = 1
    is_part: bool = False

    def cut(self, folder: Path) -> dict[str, pl.DataFrame]:
        """The visible frame of each modality; the codes asked for go into `folder`."""
        whose = self.samples["subject_id"] if self.is_part else None
        events = self.extract.read_checked(self.extract.shards[self.number], subjects=whose)
        events = events.with_columns(pl.int_range(pl.len(), dtype=pl.Int64).alias("event"))
        samples = self.samples.with_columns(pl.int_range(pl.len(), dtype=pl.Int64).alias("sample"))
        routed = events.with_columns(_routing(self.config))
        windows = {name: self.config.modality_window(name) for name in self.config.modalities}
        seen = visible(routed, samples, windows).rename({"subject_id": "subject"})
        frames = {
            name: seen.filter(pl.col("modality") == name).select(_COLUMNS) for name in windows
        }
        if "static" in frames:
            frames["static"] = _with_age(frames["static"], events, samples)
        codes = {name: _newest_code(events, samples, query) for name, query in self.queries.items()}
        if codes:
            write_table(folder / CODES_FILE, codes)
        return frames

    def write(
        self,
        frames: Mapping[str, pl.DataFrame],
        statistics: Mapping[str, Statistics],
        folder: Path,
    ) -> dict[str, Counts]:
        """Write the visible frames as arrays; what each modality saw, cut or left out."""
        codes = self.extract.codes()
        return {
            name: {"visible_events": frames[name].height}
            | modality.write(
                frames[name],
                self.samples.height,
                statistics[name],
                folder,
                read_image=self.extract.image,
                workers=self.threads,
                codes=codes,
            )
            for name, modality in modalities_of(self.config).items()
        }


@dataclass(frozen=True)
class ScratchJob:
    """The two steps of training: cut into scratch files, and write from them after fitting."""

    shard: ShardJob
    folder: Path

    def path(self, modality: str) -> Path:
        """The visible frame of one modality."""
        return self.folder / f"{modality}.visible.parquet"

    def cut(self) -> None:
        """Leave the visible frames in the folder."""
        self.folder.mkdir()
        for name, frame in self.shard.cut(self.folder).items():
            frame.write_parquet(self.path(name), compression="lz4")


def cut_to_scratch(job: ScratchJob) -> None:
    """`ScratchJob.cut`, for a worker."""
    job.cut()


def write_from_scratch(
    job: tuple[ScratchJob, Mapping[str, Statistics]],
) -> dict[str, Counts]:
    """Write a shard's arrays from its scratch files and remove those."""
    scratch, statistics = job
    names = list(scratch.shard.config.modalities)
    frames = {name: pl.read_parquet(scratch.path(name)) for name in names}
    counts = scratch.shard.write(frames, statistics, scratch.folder)
    for name in names:
        scratch.path(name).unlink()
    return counts


def cut_and_write(
    job: tuple[ShardJob, Path, Mapping[str, Statistics]],
) -> dict[str, Counts]:
    """Cut a shard and write its arrays with statistics learned before."""
    shard, folder, statistics = job
    folder.mkdir()
    frames = shard.cut(folder)
    by_code = [
        frame.group_by("code").len().select(pl.lit(name).alias("modality"), "code", events="len")
        for name, frame in frames.items()
    ]
    pl.concat(by_code).write_ipc(folder / SEEN_FILE)
    return shard.write(frames, statistics, folder)


def jobs_of(
    extract: Extract, config: RunConfig, cohort: pl.DataFrame, queries: Mapping[str, CodeQuery]
) -> list[ShardJob]:
    """One job for each shard that has samples, in the order of the cohort.

    The threads of all that run at once are as many as the workers that may be used.
    """
    keys = ("subject_id", "prediction_time")
    groups = list(cohort.group_by("shard", maintain_order=True))
    threads = max(config.trainer.workers // max(len(groups), 1), 1)
    return [
        ShardJob(extract, config, queries, int(number), rows.select(keys), threads)
        for (number,), rows in groups
    ]


def fit_modalities(
    config: RunConfig,
    shards: Sequence[ScratchJob],
    train: Sequence[NDArray[np.int64]],
    *,
    codes: pl.DataFrame,
) -> dict[str, Statistics]:
    """What each modality learns from the visible frames of train samples.

    Args:
        config: The modalities.
        shards: Cut to scratch.
        train: The train samples of each shard, as rows of it.
        codes: `metadata/codes.parquet`.
    """

    def frames(name: str, *columns: pl.Expr) -> Iterator[pl.DataFrame]:
        for shard, rows in zip(shards, train, strict=True):
            visible_frame = pl.scan_parquet(shard.path(name))
            mine = visible_frame.filter(pl.col("sample").is_in(rows.tolist()))
            yield mine.select(*columns or [pl.all()]).collect()

    shown = {
        name: {code for frame in frames(name, pl.col("code").unique()) for code in frame["code"]}
        for name in config.modalities
    }
    statistics = {}
    for name, modality in modalities_of(config).items():
        elsewhere = frozenset[str]().union(*(shown[other] for other in shown if other != name))
        found = modality.fit(
            partial(frames, name), seed=config.seed, codes=codes, elsewhere=elsewhere
        )
        # What scoring will read back from the bundle is what training uses.
        statistics[name] = json.loads(json.dumps(found))
    return statistics


def _routing(config: RunConfig) -> pl.Expr:
    notes = config.modalities.get("notes")
    return route(
        notes.options.get("codes", ()) if notes else (),
        {name: modality.select for name, modality in config.modalities.items()},
        config.modalities,
    )


def _with_age(static: pl.DataFrame, events: pl.DataFrame, samples: pl.DataFrame) -> pl.DataFrame:
    births = events.filter(pl.col("code") == meds.birth_code).select("subject_id", "time", "event")
    rows = ages(births, samples).select(
        "sample",
        "event",
        pl.col("subject_id").alias("subject"),
        pl.lit(None, pl.Float64).alias("hours"),
        pl.lit(AGE).alias("code"),
        pl.col("years").alias("numeric_value"),
        pl.lit(None, pl.String).alias("text_value"),
        pl.lit(None, pl.String).alias("image_path"),
    )
    return pl.concat([static, rows.select(_COLUMNS)]).sort("sample", "event")


def _newest_code(
    events: pl.DataFrame, samples: pl.DataFrame, query: CodeQuery
) -> NDArray[np.int64]:
    """Per sample the hash of the newest visible code that fits, 0 = none."""
    newest = np.zeros(samples.height, dtype=np.int64)
    if query.pattern is None:
        return newest
    named = matches([query.pattern], where="graph.relations.codes")
    chosen = events.filter(named).with_columns(pl.lit("code").alias("modality"))
    seen = visible(chosen, samples, {"code": query.window_hours})
    last = seen.unique("sample", keep="last", maintain_order=True).select("sample", "code")
    hashes = {code: code_hash(code) for code in last["code"].unique()}
    newest[last["sample"].to_numpy()] = [hashes[code] for code in last["code"]]
    return newest
