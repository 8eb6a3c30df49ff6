"""Masked pretraining: hide parts of unlabelled samples, predict them."""

from clinical.batch import ClinicalBatch
from clinical.model import ClinicalModel
from clinical.objectives import (
    Loss,
    Objective,
    drop_edges_by_hidden_codes,
    drop_fed_relations,
)
from clinical.sections import PretrainConfig
from clinical.training.balance import Balance
from clinical.training.probe import Probe
from clinical.training.seeds import generator
from clinical.training.stage import References, Stage

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn


class PretrainStage(Stage):
    """Every objective hides its share, the model runs once, the losses are added.

    Objectives with `own_pass` share a second pass, over the batch as it came. Weights are those of
    the configuration, balanced by what losses usually are where it asks for that (`Balance`). The
    epoch is chosen by minus the sum under the configured weights alone.

    Args:
        model: trained in place.
        references: None where no relation is configured.
        config: weights and schedule.
        objectives: name -> objective.
        feeds: relation -> modalities that its edges are computed from.
        key_codes: relation -> rows of the code vocabulary that its edges may exist through.
        seed: of the run.
        probe: asked about the start, and every `config.probe_every` epochs.
    """

    name = "pretrain"

    def __init__(
        self,
        model: ClinicalModel,
        references: References | None,
        *,
        config: PretrainConfig,
        objectives: Mapping[str, Objective],
        feeds: Mapping[str, frozenset[str]],
        key_codes: Mapping[str, Tensor],
        seed: int,
        probe: Probe | None = None,
    ) -> None:
        super().__init__(
            model,
            references,
            seed=seed,
            learning_rate=config.learning_rate,
            weight_decay=config.weight_decay,
        )
        self.objectives = dict(objectives)
        self.decoders = nn.ModuleList(self.objectives.values())
        self.weights = {name: config.objectives[name].weight for name in objectives}
        self.balance = Balance(tuple(objectives)) if config.balance == "uncertainty" else None
        self.feeds = feeds
        self.key_codes = key_codes
        self.probe = probe
        self.probe_every = config.probe_every

    @property
    def passes(self) -> list[dict[str, Objective]]:
        """Objectives that share a view of the batch, and so a run of the model."""
        of_view = [
            {name: o for name, o in self.objectives.items() if o.own_pass == apart}
            for apart in (False, True)
        ]
        return [objectives for objectives in of_view if objectives]

    def trained_modules(self) -> Sequence[nn.Module]:
        return [self.model, self.decoders]

    def beside(self) -> nn.ModuleDict:
        return nn.ModuleDict({n: o for n, o in self.objectives.items() if o.travels})

    def look_closer(self, epoch: int) -> dict[str, float]:
        """What a linear probe tells of each task by now."""
        if self.probe is None or self.probe_every is None or epoch % self.probe_every:
            return {}
        found = self.probe(self.model, device=self.device)
        aurocs = {f"probe/{task}": one.auroc for task, one in found.items()}
        return aurocs | {f"probe/{task}/error": one.error for task, one in found.items()}

    def training_step(self, batch: ClinicalBatch, index: int) -> Tensor:
        losses = self._losses(batch, "train", self.current_epoch, index)
        if self.balance is None:
            return self._sum(losses)
        self.balance.note(losses)
        shares = self.balance.shares()
        self.log_figures(
            "train", {f"weight/{n}": self.weights[n] * shares[n] for n in losses}, size=len(batch)
        )
        total: Tensor = self.balance(losses, self.weights)
        return total

    def validation_step(self, batch: ClinicalBatch, index: int) -> None:
        # The same masks every epoch, so that epochs can be compared.
        loss = self._sum(self._losses(batch, "tuning", 0, index))
        self.log_figures("tuning", {"choice": -loss}, size=len(batch))

    def hide(
        self,
        batch: ClinicalBatch,
        objectives: Mapping[str, Objective],
        split: str,
        epoch: int,
        index: int,
    ) -> tuple[ClinicalBatch, dict[str, Any]]:
        """A batch in which the objectives of one pass hid their share, and what each knows of it.

        Nothing is left that was chosen with what is hidden.
        """
        before, hidden = batch, {}
        for name, objective in objectives.items():
            draws = generator(self.seed, self.name, split, epoch, index, name)
            batch, hidden[name] = objective.hide(batch, draws)
        hides = frozenset(m for objective in objectives.values() for m in objective.hides)
        batch = drop_fed_relations(batch, hides, self.feeds)
        return drop_edges_by_hidden_codes(batch, before, self.key_codes), hidden

    def _losses(
        self, batch: ClinicalBatch, split: str, epoch: int, index: int
    ) -> dict[str, Tensor]:
        """The total of each objective, which is logged with its parts and their weighted sum.

        What is logged as loss, and chosen by, has the configured weights: one ruler for all epochs,
        however the objectives are balanced.
        """
        losses: dict[str, Loss] = {}
        for objectives in self.passes:
            masked, hidden = self.hide(batch, objectives, split, epoch, index)
            outputs = self.model(masked)
            losses |= {name: o.loss(outputs, hidden[name]) for name, o in objectives.items()}
        totals = {name: loss.total for name, loss in losses.items()}
        figures = {f"objective/{name}": total.detach() for name, total in totals.items()}
        for loss in losses.values():
            figures |= loss.parts
        self.log_figures(split, {"loss": self._sum(totals).detach(), **figures}, size=len(batch))
        return totals

    def _sum(self, losses: Mapping[str, Tensor]) -> Tensor:
        return torch.stack([self.weights[name] * loss for name, loss in losses.items()]).sum()
