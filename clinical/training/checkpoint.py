"""Running a stage so that it can be killed at any moment and resumed."""

from clinical.batch import ClinicalBatch
from clinical.errors import ConfigError
from clinical.places import replacing
from clinical.sections import TrainerConfig
from clinical.training.averaging import ScoringWeights
from clinical.training.stage import Stage

import logging
import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint, TQDMProgressBar
from pytorch_lightning.plugins.io import TorchCheckpointIO
from safetensors.torch import load_file, save_file
from torch import nn
from torch.utils.data import DataLoader

logger = logging.getLogger(__name__)

DONE = "model.safetensors"
BESIDE = "objectives.safetensors"
LAST = "last.ckpt"
GRADIENT_CLIP = 1.0


def is_finished(folder: Path, *, resume: bool) -> bool:
    """Whether `fit` would only load what the stage left."""
    return resume and (folder / DONE).exists()


def fit(
    stage: Stage,
    *,
    train: DataLoader[ClinicalBatch],
    tuning: DataLoader[ClinicalBatch],
    epochs: int,
    decay: float | None,
    patience: int | None,
    folder: Path,
    logs: Path,
    trainer: TrainerConfig,
    resume: bool,
    progress: bool = False,
) -> None:
    """Train a stage and leave its scoring weights in `folder/model.safetensors`.

    What else is needed later (`Stage.beside`) is averaged and kept as the model is, and left in
    `folder/objectives.safetensors`.

    With `resume`, a finished stage is loaded and an interrupted one goes on at the epoch it
    was in; the result is that of an undisturbed run.
    """
    done, last = folder / DONE, folder / LAST
    if is_finished(folder, resume=resume):
        logger.info("%s: already finished, its weights are loaded", stage.name)
        load_weights(stage.model, done)
        return
    folder.mkdir(parents=True, exist_ok=True)
    beside = stage.beside()
    weights = ScoringWeights(
        nn.ModuleList([stage.model, beside]),
        decay=decay,
        patience=patience,
        curves=logs / f"{stage.name}.csv",
        look_closer=stage.look_closer,
    )
    goes_on = resume and last.exists()
    with _quiet_lightning(), _interruptible():
        runner = _trainer(
            trainer,
            epochs=epochs,
            folder=folder,
            weights=weights,
            judges_start=stage.judges_start and not goes_on,
            progress=progress,
        )
        runner.fit(
            stage,
            train,
            tuning,
            ckpt_path=last if goes_on else None,
            weights_only=True,
        )
    if runner.interrupted:
        raise KeyboardInterrupt
    if not weights.is_kept:  # Lightning ends nothing where a resumed stage has no epoch left
        weights.keep_best()
        stage.refresh_memory()
    if len(beside):
        _save(beside, folder / BESIDE)
    _save(stage.model, done)  # the last, since with it the stage is finished
    last.unlink(missing_ok=True)


def _save(module: nn.Module, path: Path) -> None:
    with replacing(path) as draft:
        save_file({k: v.contiguous().cpu() for k, v in module.state_dict().items()}, draft)


def load_weights(model: nn.Module, path: Path, *, unless_others: str = "") -> None:
    """Put what a finished stage left into a model of the same sizes.

    Args:
        model: changed in place.
        path: of the weights.
        unless_others: leave those of the model whose names begin so as they are, if the file has
            others in their place.

    Raises:
        ConfigError: it was left by a version of the toolkit that builds other networks.
    """
    found = load_file(path)
    if unless_others:
        own = {n: w for n, w in model.state_dict().items() if n.startswith(unless_others)}
        theirs = {n for n in found if n.startswith(unless_others)}
        if theirs != own.keys():
            found = {n: w for n, w in found.items() if n not in theirs} | own
    try:
        model.load_state_dict(found)
    except RuntimeError as error:
        raise ConfigError(
            f"{path}: weights of a network that another version of the toolkit builds; start anew "
            "with overwrite=true"
        ) from error


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the checkpoint and renames: Lightning's own moves it between file systems."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        with replacing(Path(path)) as draft:
            super().save_checkpoint(checkpoint, draft, storage_options)


def _trainer(
    config: TrainerConfig,
    *,
    epochs: int,
    folder: Path,
    weights: ScoringWeights,
    judges_start: bool,
    progress: bool,
) -> pl.Trainer:
    keep = ModelCheckpoint(
        dirpath=folder,
        filename=LAST.removesuffix(".ckpt"),
        save_on_train_epoch_end=True,
        enable_version_counter=False,
    )
    bar = [TQDMProgressBar(leave=False)] if progress else []
    return pl.Trainer(
        accelerator=config.accelerator,
        devices=config.devices,
        precision=config.precision,
        max_epochs=epochs,
        gradient_clip_val=GRADIENT_CLIP,
        callbacks=[weights, keep, *bar],
        plugins=[AtomicCheckpointIO()],
        logger=False,
        enable_progress_bar=progress,
        enable_model_summary=False,
        num_sanity_val_steps=-1 if judges_start else 0,
        use_distributed_sampler=False,
    )


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Its advice on workers and log steps is about choices the configuration made."""
    named = [logging.getLogger(name) for name in ("pytorch_lightning", "lightning.pytorch")]
    levels = [log.level for log in named]
    for log in named:
        log.setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="pytorch_lightning")
        warnings.filterwarnings("ignore", module="lightning_fabric")
        try:
            yield
        finally:
            for log, level in zip(named, levels, strict=True):
                log.setLevel(level)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Lightning answers Ctrl+C with `sys.exit` and ignores the signal from then on."""
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as stop:
        raise KeyboardInterrupt from stop
    finally:
        if before is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, before)


@contextmanager
def thread_limit(threads: int | None) -> Iterator[None]:
    """Run torch with so many threads, and give back what was set before."""
    before = torch.get_num_threads()
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
