"""Beginning from a finished bundle whose vocabularies only partly overlap with a run's own."""

from clinical.transfer.apart import lineage_of
from clinical.transfer.source import Source
from clinical.transfer.start import Start, begin

__all__ = ["Source", "Start", "begin", "lineage_of"]
