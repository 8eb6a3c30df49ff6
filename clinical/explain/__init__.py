"""What moved a score: of the graph, by leaving out relations and neighbours; of the patient's own
record, by sharing the score out among modalities, variables, words and regions of images."""

from clinical.explain.asked import binary_tasks
from clinical.explain.explanation import InputExplanation
from clinical.explain.inputs import (
    HIGHEST,
    check_effort,
    explain_inputs,
    inputs_of,
    shapley_columns,
)
from clinical.explain.neighbours import TOP, check_top, explain_neighbours, neighbours_of
from clinical.explain.summary import by_part, by_relation

__all__ = [
    "HIGHEST",
    "TOP",
    "InputExplanation",
    "binary_tasks",
    "by_part",
    "by_relation",
    "check_effort",
    "check_top",
    "explain_inputs",
    "explain_neighbours",
    "inputs_of",
    "neighbours_of",
    "shapley_columns",
]
