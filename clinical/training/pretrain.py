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
from clinical.training.seeds import generator
from clinical.training.stage import References, Stage

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn


class PretrainStage(Stage):
    """Every objective hides its share, the model runs once, the losses are added.

    An objective with `own_pass` gets a pass of its own over the batch as it came.

    Args:
        model: trained in place.
        references: None where no relation is configured.
        config: weights and schedule.
        objectives: name -> objective.
        feeds: relation -> modalities that its edges are computed from.
        key_codes: relation -> rows of the code vocabulary that its edges may exist through.
        seed: of the run.
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
        self.feeds = feeds
        self.key_codes = key_codes

    def trained_modules(self) -> Sequence[nn.Module]:
        return [self.model, self.decoders]

    def beside(self) -> nn.ModuleDict:
        return nn.ModuleDict({n: o for n, o in self.objectives.items() if o.travels})

    def training_step(self, batch: ClinicalBatch, index: int) -> Tensor:
        return self._step(batch, "train", self.current_epoch, index)

    def validation_step(self, batch: ClinicalBatch, index: int) -> None:
        # The same masks every epoch, so that epochs can be compared.
        loss = self._step(batch, "tuning", 0, index)
        self.log_figures("tuning", {"choice": -loss}, size=len(batch))

    def _step(self, batch: ClinicalBatch, split: str, epoch: int, index: int) -> Tensor:
        together = {n: o for n, o in self.objectives.items() if not o.own_pass}
        apart = [{name: o} for name, o in self.objectives.items() if o.own_pass]
        losses: dict[str, Loss] = {}
        for objectives in [together, *apart] if together else apart:
            losses |= self._pass(batch, objectives, split, epoch, index)
        total = torch.stack([self.weights[name] * loss.total for name, loss in losses.items()])
        parts = {name: value for loss in losses.values() for name, value in loss.parts.items()}
        self.log_figures(split, {"loss": total.sum().detach(), **parts}, size=len(batch))
        return total.sum()

    def _pass(
        self,
        batch: ClinicalBatch,
        objectives: Mapping[str, Objective],
        split: str,
        epoch: int,
        index: int,
    ) -> dict[str, Loss]:
        before, hidden = batch, {}
        for name, objective in objectives.items():
            draws = generator(self.seed, self.name, split, epoch, index, name)
            batch, hidden[name] = objective.hide(batch, draws)
        hides = frozenset(m for objective in objectives.values() for m in objective.hides)
        batch = drop_fed_relations(batch, hides, self.feeds)
        outputs = self.model(drop_edges_by_hidden_codes(batch, before, self.key_codes))
        return {name: o.loss(outputs, hidden[name]) for name, o in objectives.items()}
