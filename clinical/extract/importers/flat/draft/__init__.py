"""A first mapping of a folder: guesses, and the questions that only its owner can answer."""

from clinical.extract.importers.flat.draft.writing import draft_mapping

__all__ = ["draft_mapping"]
