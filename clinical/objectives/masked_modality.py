"""Keep one modality of a sample from the fusion, and find it by what the others made."""

from clinical.batch import ClinicalBatch
from clinical.errors import ConfigError
from clinical.objectives.contrast import (
    LEAST_GUESSING,
    Contrastive,
    Scale,
    candidates,
    guessing,
    surprise,
)
from clinical.objectives.objective import (
    Loss,
    ModelOutputs,
    SizedModel,
    add_parts,
    check_share,
    uniform,
)

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

_WHERE = "pretrain.objectives.masked_modality"


@dataclass(frozen=True)
class WithheldModality:
    """Which modality of each sample was kept from the fusion.

    Attributes:
        chosen: modality -> [B] bool.
        present: modality -> [B] bool, those among whom a sample's own is to be found.
        subject: [B] int64.
    """

    chosen: Mapping[str, Tensor]
    present: Mapping[str, Tensor]
    subject: Tensor


class MaskedModality(Contrastive):
    """Withhold one of a sample's modalities, predict its summary from the fused others.

    The encoder still reads it, in the same pass, and its summary, without a gradient, is what is
    to be predicted: no encoder is drawn towards what is easily predicted. A prediction is judged
    by how well it finds the sample's own summary among those of other subjects in the batch. So
    nothing can collapse: were all summaries the same, or all predictions, it would be guessing,
    which is 1 in the units of the loss. Of a sample with one modality nothing is withheld.

    It is no part of the joint pass: no modality says when it was recorded (`timeless`), since hours
    that several share would be found in what is withheld, and nothing else of it be understood.

    Args:
        model: of whose sizes the predictors are.
        share: of the samples with two modalities or more.
        width: of the space in which predictions are compared.

    Raises:
        ConfigError: fewer than two modalities, a share outside 0 to 1, or no width.
    """

    own_pass: ClassVar[bool] = True

    def __init__(self, model: SizedModel, *, share: float = 0.5, width: int = 64) -> None:
        super().__init__()
        self.check({}, modalities=tuple(model.sizes), frozen=model.frozen)
        if width < 1:
            raise ConfigError(f"{_WHERE}.width: {width} should be at least 1")
        self.share = check_share("masked_modality.share", share)
        self.predict = nn.ModuleDict(
            {
                name: nn.Sequential(
                    nn.Linear(model.width, 2 * model.width),
                    nn.GELU(),
                    nn.Linear(2 * model.width, width),
                )
                for name in model.sizes
            }
        )
        self.project = nn.ModuleDict(
            {
                name: nn.Sequential(nn.LayerNorm(own), nn.Linear(own, width, bias=False))
                for name, own in model.encoder_widths.items()
            }
        )
        self.scale = Scale()

    @classmethod
    def check(
        cls, options: Mapping[str, Any], *, modalities: Sequence[str], frozen: Collection[str]
    ) -> None:
        """Refuse fewer than two modalities."""
        if len(modalities) < 2:
            raise ConfigError(
                f"{_WHERE}: needs two modalities, one to be found by the other, and there is only "
                f"{', '.join(modalities)}; configure another under modalities or remove the "
                "objective"
            )

    def hide(
        self, batch: ClinicalBatch, generator: torch.Generator
    ) -> tuple[ClinicalBatch, WithheldModality]:
        """Choose samples that have two modalities or more, one of each, and hide the clock."""
        names = list(self.predict)
        present = torch.stack([batch.seen(name) for name in names], 1)
        asked = uniform((len(batch),), generator, present) < self.share
        asked &= present.sum(1) > 1
        which = uniform((len(batch), len(names)), generator, present)
        which = which.masked_fill(~present, -1.0).argmax(1)
        chosen = {name: asked & (which == place) for place, name in enumerate(names)}
        withheld = {
            name: (batch.inputs[name].present & ~batch.seen(name)) | chosen[name] for name in names
        }
        there = {name: batch.inputs[name].present for name in names}
        return replace(batch.timeless(), withheld=withheld), WithheldModality(
            chosen, there, self.subjects(batch)
        )

    def loss(self, outputs: ModelOutputs, hidden: WithheldModality) -> Loss:
        """Mean over all that was withheld, in units of guessing, to which each modality adds."""
        judged = {name: self._judged(name, outputs, hidden) for name in self.predict}
        total = torch.stack([guessing(fits) for _, fits in judged.values()]).sum()
        parts = {
            f"masked_modality/{name}": nats.sum() / total.clamp_min(LEAST_GUESSING)
            for name, (nats, _) in judged.items()
        }
        return add_parts(parts)

    def _judged(
        self, name: str, outputs: ModelOutputs, hidden: WithheldModality
    ) -> tuple[Tensor, Tensor]:
        """Surprises [n] of the samples without this modality, and their candidates [n, N]."""
        there = torch.nonzero(hidden.present[name])[:, 0]
        asking = torch.nonzero(hidden.chosen[name][there])[:, 0]
        target = outputs.encodings[name].summary[there].detach()
        fits = candidates(hidden.subject[there], asking)
        predicted = self.predict[name](outputs.fused[there[asking]])
        key = self.project[name](target)
        return surprise(predicted, key, asking, fits, self.scale()), fits
