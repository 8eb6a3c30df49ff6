"""The weights that score: a moving average of those trained, the best or the last."""

from clinical.training.curves import Curves

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn


class ScoringWeights(pl.Callback):
    """Averages weights while training, validates with the average and keeps the best epoch.

    A stage says how good an epoch is by `tuning/choice`; of one that doesn't, the last is kept.
    Where Lightning's first look at the tuning split is a full one, the weights that a stage begins
    with are judged like those of an epoch, and may remain.

    Validation, early stopping and the embedding memory all use the average, since it is what
    scores. Everything needed to resume travels in the checkpoint.

    Args:
        model: whose weights are averaged: the network, and what is kept with it.
        decay: of the exponential moving average, or None to score with the last step's weights.
        patience: epochs without improvement before training stops, or None.
        curves: where the epoch's figures are kept.
        look_closer: figures of an epoch beside those that are logged, and of the start (0), for
            which the model has the weights that score.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        decay: float | None,
        patience: int | None,
        curves: Path,
        look_closer: Callable[[int], dict[str, float]] = lambda epoch: {},
    ) -> None:
        self.model = model
        self.decay = decay
        self.patience = patience
        self.curves = Curves(curves)
        self.look_closer = look_closer
        self.average: dict[str, Tensor] = {}
        self.best: dict[str, Tensor] = {}
        self.best_figure = -math.inf
        self.waited = 0
        self.is_kept = False
        self._trained: dict[str, Tensor] = {}
        self._closer: dict[str, float] = {}

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not self.average:
            self.average = {n: p.detach().clone() for n, p in self._learned()}
        device = next(self.model.parameters()).device
        self.average = {name: value.to(device) for name, value in self.average.items()}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._is_exhausted():
            trainer.should_stop = True
        if trainer.global_step == 0 and (figures := self.look_closer(0)):
            self.curves.add(0, figures)

    @torch.no_grad()
    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        step = trainer.global_step
        # A long memory would keep the random start in the average for the first epochs.
        decay = min(self.decay or 0.0, (1 + step) / (10 + step))
        for name, parameter in self._learned():
            self.average[name].lerp_(parameter, 1 - decay)

    @torch.no_grad()
    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        for name, parameter in self._learned():
            self._trained[name] = parameter.detach().clone()
            parameter.copy_(self.average[name])

    @torch.no_grad()
    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # Read here and not in on_validation_epoch_end: the module's own figures exist only now.
        choice = trainer.callback_metrics.get("tuning/choice")
        if choice is None or float(choice) > self.best_figure or not self.best:
            self.best_figure, self.waited = -math.inf if choice is None else float(choice), 0
            self.best = {k: v.detach().clone() for k, v in self.model.state_dict().items()}
        else:
            self.waited += 1
        if not trainer.sanity_checking:
            self._closer = self.look_closer(trainer.current_epoch + 1)
        for name, parameter in self._learned():
            parameter.copy_(self._trained[name])
        self._trained = {}
        if trainer.sanity_checking:
            self.curves.add(0, _figures(trainer))

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.curves.add(trainer.current_epoch + 1, _figures(trainer) | self._closer)
        if self._is_exhausted():
            trainer.should_stop = True

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.keep_best()

    def keep_best(self) -> None:
        """Give the model the weights that score."""
        if self.best:
            self.model.load_state_dict(self.best)
        self.is_kept = True

    def _learned(self) -> Iterator[tuple[str, nn.Parameter]]:
        """All but frozen parameters, which may be many and are their own average."""
        return ((n, p) for n, p in self.model.named_parameters() if p.requires_grad)

    def _is_exhausted(self) -> bool:
        return self.patience is not None and self.waited >= self.patience

    def state_dict(self) -> dict[str, Any]:
        return {
            "average": self.average,
            "best": self.best,
            "best_figure": self.best_figure,
            "waited": self.waited,
            "curves": self.curves.rows,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.average = state_dict["average"]
        self.best = state_dict["best"]
        self.best_figure = state_dict["best_figure"]
        self.waited = state_dict["waited"]
        self.curves.rows = state_dict["curves"]


def _figures(trainer: pl.Trainer) -> dict[str, float]:
    return {name: float(value) for name, value in trainer.callback_metrics.items()}
