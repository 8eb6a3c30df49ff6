"""The verb: draw labels, fine-tune on each draw, judge all of them on the held-out split."""

from clinical import pipeline
from clinical.cohort.store import Store
from clinical.config import RunConfig
from clinical.errors import ConfigError
from clinical.experts.fitting import Flat, store_labels
from clinical.experts.lightgbm import LightGBM
from clinical.few_shot.draws import (
    Size,
    draw_rows,
    labelled_rows,
    labelled_store,
    too_few,
)
from clinical.few_shot.judging import Draw, HeldOut, by_draw, by_size, resampled
from clinical.few_shot.lines import (
    PRETRAINED,
    SCRATCH,
    TREES,
    few_labels,
    network_risks,
    tree_risks,
)
from clinical.few_shot.result import LearningCurve
from clinical.places import check_no_file, replacing
from clinical.preflight import check_machine
from clinical.relations.embedded import check_pretrains
from clinical.run_folder import check_run_folder, clear, write_down
from clinical.training.build import with_edges_by_embedding
from clinical.unfinished import alone

import logging
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

logger = logging.getLogger(__name__)

FOLDER = "learning-curve"
POSITIVES = (1, 2, 4, 8, 16, 32, 64, 128)
DRAWS = 5


def learning_curve(
    config: RunConfig,
    *,
    positives: Sequence[int] = POSITIVES,
    shares: Sequence[float] | None = None,
    draws: int = DRAWS,
    scratch: bool = False,
    resamples: int = 1000,
    task: str | None = None,
) -> LearningCurve:
    """Learn from few labels, again and again, by EHRSHOT's protocol (arXiv:2307.02028).

    The store and the pretrained weights are made once; each draw fine-tunes on k positives and k
    negatives of train and the same of tuning, learns them all and chooses nothing by them. All
    lines see the same draws, and all are judged on the whole held-out split. What is finished in
    `out/learning-curve` is not run again; a killed call goes on; `overwrite` starts anew.

    Args:
        config: of the run; its `out` is where the folder is made.
        positives: k, ascending or not.
        shares: of the labels of train and tuning instead, of each class, with two positives of
            train at least; 1 is all of them, of which there is one draw.
        draws: of each size.
        scratch: also the line of the same networks without pretraining.
        resamples: of the bootstrap by held-out subject.
        task: which, where the configuration has several; the others are left out.

    Raises:
        ConfigError: the task is not binary; nobody held out has a label, or all have the same; no
            size can be drawn; the folder is of other settings, and `overwrite` is not said, or
            another call is at work in it.
        SchemaError: the extract or its labels break their schema.
    """
    if draws < 1 or resamples < 1:
        raise ConfigError("draws and resamples: give 1 or more of each")
    sizes = [Size(share=each) for each in shares or ()] or [Size(positives=k) for k in positives]
    if not sizes:
        raise ConfigError("positives: none given; name at least one")
    own = _of_one_task(config, task)
    lines = _lines(own, scratch=scratch)
    check_no_file(own.out, what="out", remedy="choose another out=")
    with alone(own.out, what="learning-curve"):
        work = _Work(own, _begin(own))
        held_out = work.held_out()
        possible, skipped = work.possible(sorted(set(sizes), key=lambda size: size.value))
        found = [
            draw
            for size in possible
            for number in range(1 if size.share == 1 else draws)
            for draw in work.scores(size, number, lines)
        ]
    values = resampled(found, held_out, resamples=resamples, seed=own.seed)
    curve = LearningCurve(
        by_draw(found, values),
        by_size(found, values, seed=own.seed),
        skipped,
        work.task,
        len(held_out.labels),
    )
    curve.save(own.out)
    return curve


def _of_one_task(config: RunConfig, task: str | None) -> RunConfig:
    """The configuration of the draws, with one binary task and a folder of its own."""
    if task is None and len(config.tasks) > 1:
        names = ", ".join(config.tasks)
        raise ConfigError(f"tasks: a learning curve is of one task; say which of {names} by task")
    name = next(iter(config.tasks)) if task is None else task
    if name not in config.tasks:
        raise ConfigError(f"task: there is no {name}; known are {', '.join(config.tasks)}")
    kind = config.tasks[name].kind
    if kind != "binary":
        raise ConfigError(
            f"tasks.{name}: is a {kind} task, and a learning curve draws positives of a "
            "binary one; name a binary task"
        )
    own = {"tasks": {name: config.tasks[name]}, "out": config.out / FOLDER}
    return few_labels(config.model_copy(update=own))


def _lines(config: RunConfig, *, scratch: bool) -> dict[str, RunConfig | None]:
    """Name of each line -> the networks' configuration; None for trees."""
    lines: dict[str, RunConfig | None] = {}
    if config.begins_trained:
        lines[PRETRAINED] = config
    if scratch or not config.begins_trained:
        finetune = config.finetune.model_copy(update={"init": None})
        unlearned = config.model_copy(update={"pretrain": None, "finetune": finetune})
        check_pretrains(unlearned)
        lines[SCRATCH] = unlearned
    if LightGBM.is_installed():
        lines[TREES] = None
    else:
        logger.warning("no line of LightGBM: install it with `pip install 'clinical[trees]'`")
    return lines


def _begin(config: RunConfig) -> Store:
    """The store of all draws, and the weights that they begin with, made once."""
    fresh = config.overwrite
    check_machine(config)
    check_run_folder(config.model_copy(update={"resume": not fresh}))
    if fresh:
        clear(config.out)
        for name in ("scores", "draws"):
            shutil.rmtree(config.out / name, ignore_errors=True)
    going_on = config.model_copy(update={"resume": True, "overwrite": False})
    if config.is_pretrained:
        pipeline.pretrain(going_on)
        return with_edges_by_embedding(going_on, pipeline.prepare(going_on))
    store = pipeline.prepare(going_on)
    write_down(going_on, store.fingerprint)
    return store


@dataclass(frozen=True)
class _Work:
    """The draws of a curve, in a folder that keeps the scores of those that are finished.

    Attributes:
        config: of the curve.
        store: with all labels.
    """

    config: RunConfig
    store: Store

    @property
    def task(self) -> str:
        """Whose labels are drawn."""
        return next(iter(self.config.tasks))

    @cached_property
    def rows(self) -> NDArray[np.int64]:
        """[N] the held-out samples with a label, and anything to score them by."""
        rows, labels = self.store.rows("held_out"), store_labels(self.store, self.task)
        is_seen = self.store.samples["reason"].is_null().to_numpy()
        found: NDArray[np.int64] = rows[~np.isnan(labels[rows]) & is_seen[rows]]
        return found

    @cached_property
    def labelled(self) -> dict[tuple[str, int], NDArray[np.int64]]:
        """What can be drawn."""
        return labelled_rows(self.store, self.task)

    @cached_property
    def flat(self) -> Flat:
        """What trees read, of all draws."""
        return Flat.of(self.config, self.store, self.rows)

    @property
    def finished(self) -> Path:
        """Folder of the scores: of these very labels, so that no others' are taken for them."""
        return self.config.out / "scores" / str(self.store.manifest["made_from"])[:16]

    def held_out(self) -> HeldOut:
        """Whom every draw is judged on.

        Raises:
            ConfigError: there are no two outcomes to tell apart.
        """
        labels = store_labels(self.store, self.task)[self.rows]
        if len(np.unique(labels)) < 2:
            raise ConfigError(
                f"tasks.{self.task}: the {len(labels):,} labelled held-out samples have not both "
                "outcomes, so nothing could be judged; hold out more subjects, or label them"
            )
        subjects = self.store.samples["subject_id"].to_numpy()[self.rows]
        return HeldOut(subjects, labels)

    def possible(self, sizes: Sequence[Size]) -> tuple[list[Size], dict[str, str]]:
        """Sizes that can be drawn, and why each of the others cannot.

        Raises:
            ConfigError: none can.
        """
        reasons = {size: too_few(size, self.labelled) for size in sizes}
        skipped = {size.name: why for size, why in reasons.items() if why is not None}
        for name, why in skipped.items():
            logger.warning("%s: not drawn: %s", name, why)
        possible = [size for size in sizes if reasons[size] is None]
        if not possible:
            raise ConfigError(
                f"tasks.{self.task}: no draw is possible: {next(iter(skipped.values()))}; ask for "
                "fewer positives, or label more"
            )
        return possible, skipped

    def scores(self, size: Size, number: int, lines: dict[str, RunConfig | None]) -> Iterator[Draw]:
        """What each line says after a draw, made now or before."""
        name = f"{size.name}-{number}"
        seen = draw_rows(size, self.labelled, seed=(self.config.seed, number))
        missing = {k: v for k, v in lines.items() if not self._file(name, k).exists()}
        if missing:
            folder = self.config.out / "draws" / name
            few = labelled_store(self.store, seen, folder / "store")
            for line, config in missing.items():
                self._keep(self._score(few, config, folder / line), self._file(name, line))
                logger.info("%s: %s labels, draw %d is finished", line, f"{len(seen):,}", number)
            shutil.rmtree(folder)
        n_positives = int(store_labels(self.store, self.task)[seen].sum())
        for line in lines:
            scores = pl.read_parquet(self._file(name, line))["score"].to_numpy()
            yield Draw(line, size, number, len(seen), n_positives, scores)

    def _score(self, few: Store, line: RunConfig | None, folder: Path) -> NDArray[np.float64]:
        if line is None:
            return tree_risks(self.config, few, self.flat, self.rows)
        own = line.model_copy(update={"out": folder, "resume": True})
        return network_risks(own, few, self.rows, pretrained_in=self.config.out)

    def _file(self, name: str, line: str) -> Path:
        return self.finished / name / f"{line}.parquet"

    def _keep(self, scores: NDArray[np.float64], path: Path) -> None:
        keys = self.store.samples[self.rows].select("subject_id", "prediction_time")
        with replacing(path) as draft:
            keys.with_columns(score=pl.Series(scores)).write_parquet(draft)
