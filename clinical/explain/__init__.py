"""What in the graph moved a score: relations and neighbours, by leaving each out."""

from clinical.explain.neighbours import TOP, explain_neighbours
from clinical.explain.summary import by_relation

__all__ = ["TOP", "by_relation", "explain_neighbours"]
