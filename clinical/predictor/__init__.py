"""What a finished model says of the patients of an extract."""

from clinical.predictor.predictor import Predictor

__all__ = ["Predictor"]
