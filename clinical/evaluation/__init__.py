"""Judge a predictions table, whoever made it; needs no model and no torch."""

from clinical.evaluation.card import model_card
from clinical.evaluation.comparison import Comparison, compare
from clinical.evaluation.evaluation import Evaluation
from clinical.evaluation.judging import evaluate
from clinical.evaluation.thresholds import choose_thresholds
from clinical.evaluation.training_curves import plot_training_curves, save_training_curves

__all__ = [
    "Comparison",
    "Evaluation",
    "choose_thresholds",
    "compare",
    "evaluate",
    "model_card",
    "plot_training_curves",
    "save_training_curves",
]
