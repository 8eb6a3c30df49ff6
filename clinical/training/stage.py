"""What pretraining and fine-tuning share: seeds, the optimizer and the embedding memory."""

from clinical.batch import ClinicalBatch
from clinical.model import ClinicalModel
from clinical.training.optim import build_optimizer, warmup_cosine
from clinical.training.seeds import seed_globals

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

MEMORY_KEY = "clinical_memory"


class References:
    """The samples that the graph may look at, in the order of the memory's rows.

    Args:
        loader: batches over the reference samples, in any order.
        rows: [N] store row of each memory row.
    """

    def __init__(self, loader: DataLoader[ClinicalBatch], rows: np.ndarray) -> None:
        self.loader = loader
        self.rows = rows

    @torch.no_grad()
    def refresh(self, model: ClinicalModel, *, device: torch.device) -> None:
        """Encode every reference, nothing hidden, and put the result into the model's memory."""
        was_training = model.training
        model.eval()
        position = torch.full((int(self.rows.max()) + 1,), -1, dtype=torch.long)
        position[torch.from_numpy(self.rows)] = torch.arange(len(self.rows))
        embedding = torch.zeros(len(self.rows), model.width)
        for batch in self.loader:
            embedding[position[batch.row]] = model.embed(batch.to(device)).float().cpu()
        model.set_memory(embedding.to(device))
        model.follow_directions()
        model.train(was_training)


class Stage(pl.LightningModule):
    """One training stage.

    Args:
        model: trained in place.
        references: None where no relation is configured.
        seed: of the run.
        learning_rate: peak of the schedule.
        weight_decay: of AdamW.
    """

    name: str
    judges_start = False
    """Whether the weights it begins with are judged as those of an epoch are."""
    falloff = 1.0
    """What the learning rate of one of the trained parts is divided by for the next."""

    def __init__(
        self,
        model: ClinicalModel,
        references: References | None,
        *,
        seed: int,
        learning_rate: float,
        weight_decay: float,
    ) -> None:
        super().__init__()
        self.model = model
        self.references = references
        self.seed = seed
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self._memory_is_fresh = False

    def trained_modules(self) -> Sequence[nn.Module]:
        """The modules whose parameters this stage optimizes."""
        return [self.model]

    def trained_parts(self) -> Sequence[Sequence[nn.Module]]:
        """The same modules, apart where they learn at rates of their own."""
        return [self.trained_modules()]

    def beside(self) -> nn.ModuleDict:
        """What is needed later besides the model, by name."""
        return nn.ModuleDict()

    def configure_optimizers(self) -> Any:
        optimizer = build_optimizer(
            self.trained_parts(),
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            falloff=self.falloff,
        )
        total = max(1, int(self.trainer.estimated_stepping_batches))
        scheduler = warmup_cosine(optimizer, total_steps=total)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }

    def on_train_start(self) -> None:
        if not self._memory_is_fresh:
            self.refresh_memory()

    def on_train_epoch_start(self) -> None:
        seed_globals(self.seed, self.name, self.current_epoch)

    def on_validation_epoch_start(self) -> None:
        self.refresh_memory()

    def refresh_memory(self) -> None:
        """Bring the embedding memory up to the present weights, if anything will read it."""
        if self.references is not None and self.model.open_relations:
            self.references.refresh(self.model, device=self.device)
            self._memory_is_fresh = True

    def on_train_end(self) -> None:
        self.refresh_memory()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if self.references is not None:
            checkpoint[MEMORY_KEY] = self.model.memory.cpu().clone()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if self.references is not None:
            self.model.set_memory(checkpoint[MEMORY_KEY])
            self._memory_is_fresh = True

    def look_closer(self, epoch: int) -> dict[str, float]:
        """Figures of the weights that score by an epoch's end, 0 being the start, beside those that
        are logged of batches."""
        return {}

    def log_figures(self, split: str, figures: dict[str, Tensor | float], *, size: int) -> None:
        """Log epoch means under `train/…` or `tuning/…`."""
        named = {f"{split}/{name}": value for name, value in figures.items()}
        self.log_dict(named, on_step=False, on_epoch=True, batch_size=size)
