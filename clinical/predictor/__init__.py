"""What a finished model says of the patients of an extract."""

from clinical.predictor.predictor import Predictor
from clinical.predictor.zero_shot import Prompts

__all__ = ["Predictor", "Prompts"]
