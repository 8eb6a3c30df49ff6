"""Which samples of an extract a finished model is asked about, where it is not all of its own."""

from clinical.cohort.samples import scoring_cohort
from clinical.cohort.time_rule import TimeRule
from clinical.config import RunConfig
from clinical.config_file import likely
from clinical.errors import ConfigError, SchemaError
from clinical.extract.schema import SPLIT_NAMES, Extract
from clinical.extract.tables import SAMPLES
from clinical.places import parquet_files

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import polars as pl

KEYS = ["subject_id", "prediction_time"]


@dataclass(frozen=True)
class Selection:
    """Samples from a file or by rule, or the extract's own, perhaps of one split alone.

    Attributes:
        file: Parquet file with subject_id and prediction_time, or a folder of such, as labels are.
        rule: When to predict.
        split: Of metadata/subject_splits.parquet.
    """

    file: Path | None = None
    rule: TimeRule | None = None
    split: str | None = None

    @classmethod
    def of(
        cls,
        *,
        samples: str | Path | None = None,
        at: str | None = None,
        every: str | None = None,
        until: Sequence[str] = (),
        split: str | None = None,
    ) -> Self:
        """Read what a user gives.

        Args:
            samples: As `file`.
            at, every, until: As for `TimeRule.parse`.
            split: As above.

        Raises:
            ConfigError: A rule cannot be read or stands beside a file, or there is no such split.
        """
        if at is None and (every is not None or until):
            raise ConfigError('every: repeats what "at" begins; say when, as in "ICU_ADMISSION"')
        if at is not None and samples is not None:
            raise ConfigError("samples: a file and a rule cannot both say when to predict")
        if split is not None and split not in SPLIT_NAMES:
            raise ConfigError(
                f"split: there is no {split}{likely(split, SPLIT_NAMES)}; known are "
                f"{', '.join(SPLIT_NAMES)}"
            )
        rule = None if at is None else TimeRule.parse(at, every=every, until=until)
        return cls(None if samples is None else Path(samples), rule, split)

    def samples(self, extract: Extract, config: RunConfig) -> pl.DataFrame | None:
        """`subject_id, prediction_time` of those chosen; None where it is all the extract's own.

        Raises:
            ConfigError: There is no such file.
            SchemaError: It breaks its schema, or nothing is chosen.
        """
        chosen = None
        if self.file is not None:
            chosen = _read(self.file)
        elif self.rule is not None:
            chosen = self.rule.samples(extract)
        if self.split is None:
            return chosen
        splits = extract.splits()
        if splits is None:
            raise SchemaError(
                "metadata/subject_splits.parquet: there is none; write one, or leave the split out"
            )
        whole = scoring_cohort(extract, config).select(KEYS) if chosen is None else chosen
        subjects = splits.filter(pl.col("split") == self.split)
        found = whole.join(subjects, on="subject_id", how="semi")
        if found.is_empty():
            raise SchemaError(f"split: none of {whole.height:,} samples is in {self.split}")
        return found


def with_labels(config: RunConfig, labels: Sequence[str]) -> RunConfig:
    """The configuration with other places of labels.

    Args:
        config: Of a bundle.
        labels: A folder where there is one task, `TASK=FOLDER` for each otherwise.

    Raises:
        ConfigError: There is no such task or folder, or a task has a folder a class.
    """
    tasks = dict(config.tasks)
    for given in labels:
        name, is_named, folder = given.partition("=")
        if not is_named or name not in tasks:
            if len(tasks) > 1:
                raise ConfigError(
                    f"labels: {given} names no task; give TASK=FOLDER of {', '.join(tasks)}"
                )
            (name,), folder = tasks, given
        if tasks[name].kind == "multilabel":
            raise ConfigError(
                f"labels: {name} has a folder for each class; put them where the configuration "
                "has them in the extract"
            )
        path = Path(folder).absolute()
        if not path.is_dir():
            raise ConfigError(f"labels: there is no folder {folder}; check the path")
        tasks[name] = tasks[name].model_copy(update={"labels": path, "builder": None})
    return config.model_copy(update={"tasks": tasks})


def _read(path: Path) -> pl.DataFrame:
    """All samples of a file or of a folder's files."""
    if not path.exists():
        raise ConfigError(f"samples: there is no such file as {path}; check the path")
    files = parquet_files(path) if path.is_dir() else [path]
    if not files:
        raise ConfigError(f"samples: there is no Parquet file in {path}; check the path")
    return pl.concat([SAMPLES.read(file, where=file.name) for file in files]).unique()
