"""Fine-tuning: learn the tasks from labels, and from teachers where there are any."""

from clinical.batch import ClinicalBatch, Target
from clinical.config import TaskConfig
from clinical.model import ClinicalModel
from clinical.sections import FinetuneConfig
from clinical.training.recipes import RECIPES, Freezing, parts_of
from clinical.training.stage import References, Stage

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn


class FinetuneStage(Stage):
    """All tasks together on one trunk; a target that is neither labelled nor taught is masked.

    The epoch is chosen on `select`, by the mean over tasks of the AUROC, or of minus the loss for a
    task that is not binary or has one class; or it is the last, if the configuration says so.

    Args:
        model: trained in place.
        references: None where no relation is configured.
        config: schedule and recipe.
        tasks: name -> task.
        teacher_risks: task -> [N] the teachers' risk for each row of the store, NaN where they
            say nothing; learned in training beside the label, or alone where there is none.
        seed: of the run.
    """

    name = "finetune"

    def __init__(
        self,
        model: ClinicalModel,
        references: References | None,
        *,
        config: FinetuneConfig,
        tasks: dict[str, TaskConfig],
        teacher_risks: Mapping[str, Tensor],
        seed: int,
    ) -> None:
        super().__init__(
            model,
            references,
            seed=seed,
            learning_rate=config.learning_rate,
            weight_decay=config.weight_decay,
        )
        self.tasks = tasks
        self.teacher_risks = dict(teacher_risks)
        self.teacher_share = config.teacher_share
        self.keeps_last = config.keep == "last"
        self.judges_start = not self.keeps_last
        recipe = RECIPES[config.recipe]
        self.falloff = recipe.falloff
        self._freezing = Freezing(model, recipe)
        self._tuning: list[tuple[dict[str, Tensor], dict[str, Target]]] = []

    def trained_parts(self) -> Sequence[Sequence[nn.Module]]:
        return super().trained_parts() if self.falloff == 1 else parts_of(self.model)

    def setup(self, stage: str) -> None:
        self._freezing.begin()

    def on_train_epoch_start(self) -> None:
        super().on_train_epoch_start()
        self._freezing.turn_to(self.current_epoch)

    def teardown(self, stage: str) -> None:
        self._freezing.end()

    def on_train_start(self) -> None:
        super().on_train_start()
        self.teacher_risks = {k: v.to(self.device) for k, v in self.teacher_risks.items()}

    def training_step(self, batch: ClinicalBatch, index: int) -> Tensor:
        logits = self.model(batch).logits
        targets = {name: self.target(name, batch) for name in self.tasks}
        loss = torch.stack(list(self._losses(logits, targets).values())).sum()
        self.log_figures("train", {"loss": loss.detach()}, size=len(batch))
        return loss

    def validation_step(self, batch: ClinicalBatch, index: int) -> None:
        logits = self.model(batch).logits
        self._tuning.append(
            ({k: v.float() for k, v in logits.items()}, dict(batch.targets)),
        )

    def target(self, task: str, batch: ClinicalBatch) -> Target:
        """What training compares a task's logits with."""
        target = batch.targets[task]
        if task not in self.teacher_risks:
            return target
        risk = self.teacher_risks[task][batch.row]
        taught = ~risk.isnan()
        risk = risk.nan_to_num()
        mixed = torch.where(target.observed, target.value.lerp(risk, self.teacher_share), risk)
        return Target(
            value=torch.where(taught, mixed, target.value), observed=target.observed | taught
        )

    def _losses(
        self, logits: Mapping[str, Tensor], targets: Mapping[str, Target]
    ) -> dict[str, Tensor]:
        return {
            name: self.model.head(name).loss(logits[name], targets[name]) for name in self.tasks
        }

    def on_validation_epoch_end(self) -> None:
        figures: dict[str, Tensor | float] = {}
        choices, losses = [], []
        for task in self.tasks:
            logits = torch.cat([scores[task] for scores, _ in self._tuning])
            targets = [truths[task] for _, truths in self._tuning]
            target = Target(
                value=torch.cat([t.value for t in targets]),
                observed=torch.cat([t.observed for t in targets]),
            )
            loss = self.model.head(task).loss(logits, target)
            losses.append(loss)
            auroc = self.model.head(task).auroc(logits, target)
            if auroc is not None:
                figures[f"auroc/{task}" if len(self.tasks) > 1 else "auroc"] = auroc
            choices.append(-loss if auroc is None else auroc)
        figures["loss"] = torch.stack(losses).sum()
        if not self.keeps_last:
            figures["choice"] = torch.stack(choices).mean()
        self.log_figures("tuning", figures, size=1)
        self._tuning = []
