"""Any relational extract, by a declarative mapping."""

from clinical.extract.importers.flat.importing import import_flat

__all__ = ["import_flat"]
