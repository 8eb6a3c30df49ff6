"""Owen values: what the single variables of a modality add to a score (Owen, 1977).

The Shapley value of a modality is shared out among its variables: in every order in which
modalities may come, its variables come one after the other, and others before or behind all of
them. What a variable adds is averaged over all coalitions of the other parts, exactly, and over
orders of the variables, of which some are drawn (Castro et al., 2009), each with its reverse
(Mitchell et al., 2022, arXiv:2104.12199). In each order the gains add up to the Shapley value of
the modality, so the estimates do; of four variables or fewer all orders are asked.

A variable is left out as if never recorded, from the events and from what is summarised of them.
The neighbours that the modality chose stay while a single variable is left out; what their going
with the modality as a whole takes is nobody's, and told by itself.
"""

from clinical.batch import ClinicalBatch
from clinical.containers import Container
from clinical.explain.apart import Rows, keeping, variables_of
from clinical.explain.question import Question
from clinical.explain.shapley import Array, has_parts, logits_without, parts_of
from clinical.predictor.panel import NOTHING, Opinions, Panel

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import permutations
from math import factorial

import numpy as np
import torch
from numpy.typing import NDArray

DRAWN = 5
"""Orders of the variables that are drawn, each with its reverse."""
FEW = 4
"""Up to so many variables all orders are asked."""
ENCODED_AT_ONCE = 64


@dataclass(frozen=True)
class Owen:
    """The Shapley value of one modality of a sample, shared out.

    Attributes:
        variables: [G] rows of the modality's vocabulary.
        shares: task -> [G].
        errors: task -> [G] standard error of each, from the orders drawn; 0 where all were asked.
        rest: task -> what the neighbours that the modality chose add.
    """

    variables: Rows
    shares: Mapping[str, Array]
    errors: Mapping[str, Array]
    rest: Mapping[str, float]


def orders_of(n_variables: int, n_drawn: int = DRAWN) -> NDArray[np.int64]:
    """[O, G] orders of variables; of O that were drawn, order O/2 + i is the reverse of order i.

    The same for every sample with so many variables, so that nobody's depends on who else is asked.
    """
    if n_variables <= FEW:
        return np.array(list(permutations(range(n_variables))), dtype=np.int64)
    generator = np.random.default_rng(n_variables)
    drawn = np.stack([generator.permutation(n_variables) for _ in range(n_drawn)])
    return np.concatenate([drawn, drawn[:, ::-1]])


@dataclass(frozen=True)
class Shares:
    """One sample whose modalities are shared out among their variables.

    Attributes:
        panel: to be asked.
        questions: about the sample, one a network.
        batch: of the sample alone.
        tasks: binary ones.
    """

    panel: Panel
    questions: Sequence[Question]
    batch: ClinicalBatch
    tasks: Sequence[str]

    def of(self, modality: str, *, n_variables: int) -> Owen:
        """Share out the Shapley value of a modality that the sample has.

        Args:
            modality: of those that have variables.
            n_variables: V of its vocabulary.
        """
        container = self.batch.inputs[modality]
        variables = variables_of(container)
        orders = orders_of(len(variables))
        # [O, G + 1, G]: after each step of each order, which variables have come.
        come = np.argsort(orders, axis=1)[:, None] < np.arange(len(variables) + 1)[:, None]
        kept, place = np.unique(come.reshape(-1, len(variables)), axis=0, return_inverse=True)
        parts = [
            self._worth(modality, keeping(container, variables, some, n_variables=n_variables))
            for some in np.array_split(kept, -(-len(kept) // ENCODED_AT_ONCE))
        ]
        none = keeping(container, variables, kept[:1] & False, n_variables=n_variables)
        gone = self._worth(modality, none, without_it=True)
        shares, errors, rest = {}, {}, {}
        for task in self.tasks:
            worth = np.concatenate([part[task] for part in parts])
            steps = worth[place.reshape(come.shape[:2])]
            gains = np.empty(orders.shape)
            np.put_along_axis(gains, orders, np.diff(steps, axis=1), axis=1)
            shares[task], errors[task] = gains.mean(0), _standard_error(gains, len(variables))
            rest[task] = float(steps[0, 0] - gone[task][0])
        return Owen(variables, shares, errors, rest)

    @cached_property
    def _players(self) -> int:
        has = has_parts(self.batch, parts_of(self.panel))[:, 0]
        return int((has << np.arange(len(has))).sum())

    def _worth(
        self, modality: str, varied: Container, *, without_it: bool = False
    ) -> dict[str, Array]:
        """Task -> [S] logit of each version of the modality, on average over the coalitions of the
        other parts, as the Shapley value weighs them."""
        parts, size = parts_of(self.panel), len(varied.present)
        own = 1 << parts.index(modality)
        others = self._players & ~own
        coalitions = [c for c in range(1 << len(parts)) if c & ~others == 0]
        lost = [others & ~c | (own if without_it else 0) for c in coalitions]
        n_others = others.bit_count()
        weight = np.array(
            [
                factorial(c.bit_count()) * factorial(n_others - c.bit_count())
                for c in coalitions
            ]
        ) / factorial(n_others + 1)  # fmt: skip
        without = {
            number: self.panel.left_out_with([p for i, p in enumerate(parts) if number >> i & 1])
            for number in lost
        }
        logits = self._logits(modality, varied, np.repeat(lost, size), without)
        return {
            task: weight @ found.reshape(len(coalitions), size) for task, found in logits.items()
        }

    def _logits(
        self,
        modality: str,
        varied: Container,
        lost: NDArray[np.int64],
        without: Mapping[int, frozenset[str]],
    ) -> dict[str, Array]:
        """Task -> [R * S] logits of the panel, the versions one after the other for each loss."""
        sample = np.tile(np.arange(len(varied.present)), len(lost) // len(varied.present))
        said = []
        for question in self.questions:
            encoded, neighbours = question.reencoded(modality, varied)
            said.append(
                logits_without(
                    question.model,
                    encoded,
                    neighbours,
                    memory=question.memory,
                    sample=sample,
                    lost=lost,
                    without=without,
                )
            )
        experts = self._experts(modality, varied, list(dict.fromkeys(lost.tolist())), without)
        opinions = {
            task: Opinions(
                networks=np.stack([one[task] for one in said]),
                experts=experts.get(task, np.empty((0, len(sample)))),
            )
            for task in self.tasks
        }
        return self.panel.logits(opinions)

    def _experts(
        self,
        modality: str,
        varied: Container,
        losses: Sequence[int],
        without: Mapping[int, frozenset[str]],
    ) -> dict[str, Array]:
        """Task -> [E, R * S] logits of the experts; empty where there are none."""
        bundle = self.panel.bundle
        if not bundle.experts:
            return {}
        tabulator, size = bundle.tabulator, len(varied.present)
        everyone = torch.ones(size, dtype=torch.bool)
        rows, columns = torch.zeros(size, dtype=torch.int64), tabulator.columns(modality)
        own = tabulator.only(modality)
        found = []
        for number in losses:
            gone = without[number] & frozenset(bundle.config.modalities) or NOTHING
            inputs = {modality: varied.drop(everyone) if modality in gone else varied}
            features = tabulator.features(self.batch, gone).repeat(size, axis=0)
            features[:, columns] = own.features(ClinicalBatch(rows, inputs, {}, {}))
            found.append(features)
        return self.panel.logits_of_features(np.concatenate(found))


def _standard_error(gains: Array, n_variables: int) -> Array:
    """[G] of the mean of gains [O, G], of which those of an order and its reverse go together."""
    if n_variables <= FEW:
        return np.zeros(n_variables)
    pairs = gains.reshape(2, -1, n_variables).mean(0)
    error: Array = pairs.std(0, ddof=1) / np.sqrt(len(pairs))
    return error
