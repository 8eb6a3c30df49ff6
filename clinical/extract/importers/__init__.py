"""The menu of raw sources that `clinical import` can read."""

from clinical.extract.importers.mapped import mapped_importer
from clinical.extract.importers.physionet2012 import import_physionet2012
from clinical.extract.importers.report import Importer, ImportReport

IMPORTERS: dict[str, Importer] = {
    "physionet2012": import_physionet2012,
    "covid_chestxray": mapped_importer("covid_chestxray"),
    "mimic3": mapped_importer("mimic3"),
    "mimic4": mapped_importer("mimic4"),
    "eicu": mapped_importer("eicu"),
}

__all__ = ["IMPORTERS", "ImportReport", "Importer"]
