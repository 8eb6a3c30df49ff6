"""The data side of each modality: learn from train, write a shard, read a batch."""

from clinical.modalities.codes import Codes
from clinical.modalities.contract import Counts, Frames, Modality, Reader, Statistics
from clinical.modalities.events import Events
from clinical.modalities.images import Images
from clinical.modalities.notes import Notes
from clinical.modalities.routing import route
from clinical.modalities.static import Static

MODALITIES: dict[str, type[Modality]] = {
    "events": Events,
    "static": Static,
    "notes": Notes,
    "images": Images,
    "codes": Codes,
}

__all__ = ["MODALITIES", "Counts", "Frames", "Modality", "Reader", "Statistics", "route"]
