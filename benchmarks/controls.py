"""Relations that keep a relation's shape and lose its meaning: what a graph must be better than.

Importing this puts them on the menu: `random_similar`, `shuffled_same_unit` and so on. They are
for benchmarks alone: whom a sample is linked to depends on who else is in the store.
"""

from clinical.relations import RELATIONS, Edges, Keyed, Keys, Relation

from dataclasses import replace

import numpy as np

SEED = 0


def at_random(edges: Edges, samples: Keyed, reference: Keyed) -> Edges:
    """As many neighbours of everybody, of the same weights, but drawn from all references."""
    draws = np.random.default_rng(SEED).integers(0, len(reference), edges.rows.shape)
    return _linked(edges, reference.row[draws], edges.weight, samples, reference)


def shuffled(edges: Edges, samples: Keyed, reference: Keyed) -> Edges:
    """Everybody gets the neighbours of somebody else."""
    order = np.random.default_rng(SEED).permutation(len(edges.rows))
    return _linked(edges, edges.rows[order], edges.weight[order], samples, reference)


CONTROLS = {"random": at_random, "shuffled": shuffled}


def _linked(
    edges: Edges, rows: np.ndarray, weight: np.ndarray, samples: Keyed, reference: Keyed
) -> Edges:
    """Edges to these rows [N, K], without those to a sample's own subject."""
    linked = (rows >= 0) & (weight > 0)
    by_row = np.argsort(reference.row)
    place = by_row[np.searchsorted(reference.row[by_row], np.where(linked, rows, reference.row[0]))]
    linked &= reference.subject[place] != samples.subject[:, None]
    return replace(edges, rows=np.where(linked, rows, -1), weight=np.where(linked, weight, 0))


def _control(base: type[Relation], name: str) -> type[Relation]:
    rewire = CONTROLS[name]

    class Control(base):  # type: ignore[misc, valid-type]
        def neighbours(
            self, samples: Keyed, reference: Keyed, parameters: Keys, *, k: int
        ) -> Edges:
            found = super().neighbours(samples, reference, parameters, k=k)
            return rewire(found, samples, reference) if len(reference) else found

    return Control


for _base in ("similar", "same_unit"):
    for _name in CONTROLS:
        RELATIONS[f"{_name}_{_base}"] = _control(RELATIONS[_base], _name)
