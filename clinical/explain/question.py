"""One sample of which one modality varies, while everything else about it is held fixed."""

from clinical.batch import ClinicalBatch, Neighbours
from clinical.containers import Container
from clinical.encoders.encoding import Encoding
from clinical.model import ClinicalModel, Encoded

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor


def again(
    encoded: Encoded, neighbours: Mapping[str, Neighbours], sample: Tensor
) -> tuple[Encoded, dict[str, Neighbours]]:
    """Some samples of a batch, each as often as it is named, to be asked about once more.

    Args:
        encoded: what a network makes of the batch's modalities.
        neighbours: of the batch.
        sample: [S] int64, their places in the batch.
    """
    encodings = {
        name: Encoding(
            summary=encoding.summary[sample],
            tokens=encoding.tokens[sample],
            token_mask=encoding.token_mask[sample],
            # Of no use to what follows the encoders, and not by sample everywhere.
            states=encoding.states[:0],
        )
        for name, encoding in encoded.encodings.items()
    }
    edges = {
        name: Neighbours(rows=edges.rows[sample], weight=edges.weight[sample])
        for name, edges in neighbours.items()
    }
    return Encoded(encodings, encoded.summaries[sample], encoded.present[sample]), edges


@dataclass(frozen=True)
class Question:
    """What a network says of a sample, as a function of one modality's encoding.

    Held fixed are the other modalities, the neighbours (also where the modality chose them) and
    what is read of them.

    Attributes:
        model: of the network, in evaluation mode.
        encoded: what it makes of the sample, a batch of one.
        neighbours: of the sample.
        memory: what the neighbours are read from.
    """

    model: ClinicalModel
    encoded: Encoded
    neighbours: Mapping[str, Neighbours]
    memory: Tensor

    @classmethod
    @torch.no_grad()
    def of(cls, model: ClinicalModel, batch: ClinicalBatch, memory: Tensor) -> "Question":
        """About the only sample of a batch."""
        # Not in inference mode, whose tensors cannot be part of what is differentiated.
        return cls(model, model.encode(batch), batch.neighbours, memory)

    def logits(self, modality: str, encoding: Encoding) -> Mapping[str, Tensor]:
        """Task -> [S] logits of the sample, once for each of S encodings of the modality."""
        varied, neighbours = self.varied(modality, encoding)
        return self.model.answer(varied, neighbours, memory=self.memory).logits

    @torch.no_grad()
    def reencoded(
        self, modality: str, container: Container
    ) -> tuple[Encoded, dict[str, Neighbours]]:
        """The sample once for each of S versions of the modality, which may be absent."""
        encoding = self.model.encoders[modality](container)
        varied, neighbours = self.varied(modality, encoding)
        present = varied.present.clone()
        present[:, self.model.modalities.index(modality)] = container.present
        return Encoded(varied.encodings, varied.summaries, present), neighbours

    def varied(self, modality: str, encoding: Encoding) -> tuple[Encoded, dict[str, Neighbours]]:
        """The sample once for each of S encodings of the modality, and its neighbours."""
        size, at = len(encoding.summary), self.model.modalities.index(modality)
        same = torch.zeros(size, dtype=torch.int64)
        taken, neighbours = again(self.encoded, self.neighbours, same)
        own = self.model.project[modality](encoding.summary)
        summaries = [own if i == at else one for i, one in enumerate(taken.summaries.unbind(1))]
        encodings = {**taken.encodings, modality: encoding}
        return Encoded(encodings, torch.stack(summaries, 1), taken.present), neighbours
