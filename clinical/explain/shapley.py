"""Shapley values of a patient's parts: what each modality, and the graph, adds to a score.

The players of the game are the modalities that the sample has, and the graph where it has
neighbours. A coalition is worth the uncalibrated logit that the panel gives when everything else
is left out as if never recorded, as `Predictor.score(without=...)` leaves it out: a relation whose
neighbours are chosen by a modality goes with it. Others stay as they are: a modality is left out
of this patient, not of the contemporaries in the context.

All coalitions are asked, so the values are exact (Shapley, 1953): they add up to the logit less
that of a patient of whom nothing is known.
"""

from clinical.batch import ClinicalBatch, Neighbours
from clinical.cohort.store import Store
from clinical.explain.question import again
from clinical.model import ClinicalModel, Encoded
from clinical.predictor.panel import GRAPH, NOTHING, Opinions, Panel, encode

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import factorial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

ASKED_AT_ONCE = 256
"""Coalitions answered together: each costs as much as a sample without its encoders."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Shared:
    """The uncalibrated logits of some samples, networks and experts together, shared out.

    Attributes:
        rows: [N] int64, of the store.
        present: [P, N] bool, the sample has the part.
        whole: task -> [N] with everything.
        nothing: task -> [N] with nothing.
        shares: task -> [P, N], which add up to `whole` less `nothing`; exactly 0 where not present.
    """

    rows: NDArray[np.int64]
    present: NDArray[np.bool_]
    whole: Mapping[str, Array]
    nothing: Mapping[str, Array]
    shares: Mapping[str, Array]


def parts_of(panel: Panel) -> list[str]:
    """P names: the modalities, then "graph" where there is a relation."""
    config = panel.bundle.config
    return [*config.modalities, *([GRAPH] if config.graph.relations else [])]


def share_out(
    panel: Panel, store: Store, rows: NDArray[np.int64], *, memories: Sequence[Tensor]
) -> Iterator[Shared]:
    """Share out the logits of the binary tasks, a batch at a time; every sample is encoded once.

    Args:
        panel: to be asked.
        store: of the samples.
        rows: [N].
        memories: of each network, with nothing left out; see `Panel.memories`.
    """
    parts = parts_of(panel)
    for batch in panel.batches(store, rows):
        has = has_parts(batch, parts)
        players = (has << np.arange(len(parts))[:, None]).sum(0)
        worth = _worth(panel, batch, parts, players=players, memories=memories)
        everyone, coalitions = np.arange(len(players)), np.arange(1 << len(parts))[:, None]
        # A part that a sample lacks changes nothing in any coalition: it is a dummy player.
        full = {task: logits[players & coalitions, everyone] for task, logits in worth.items()}
        yield Shared(
            rows=batch.row.numpy(),
            present=has.astype(bool),
            whole={task: logits[-1] for task, logits in full.items()},
            nothing={task: logits[0] for task, logits in full.items()},
            shares={task: shapley_values(logits) for task, logits in full.items()},
        )


def shapley_values(worth: Array) -> Array:
    """Exact Shapley values.

    Args:
        worth: [2^P, N] of every coalition; in coalition number c is player p if c has the bit 2^p.

    Returns:
        [P, N].
    """
    n_players = len(worth).bit_length() - 1
    coalitions = np.arange(len(worth))
    size = ((coalitions[:, None] >> np.arange(n_players)) & 1).sum(1)
    values = np.zeros((n_players, worth.shape[1]))
    weight = np.array(
        [
            factorial(n) * factorial(n_players - n - 1) / factorial(n_players)
            for n in range(n_players)
        ]
    )
    for player in range(n_players):
        others = coalitions[(coalitions >> player) & 1 == 0]
        gains = worth[others | (1 << player)] - worth[others]
        values[player] = weight[size[others]] @ gains
    return values


def has_parts(batch: ClinicalBatch, parts: Sequence[str]) -> NDArray[np.int64]:
    """[P, B] 0 or 1; of the graph 1 if the sample has a neighbour by any relation."""
    linked = torch.zeros(len(batch), dtype=torch.bool)
    for edges in batch.neighbours.values():
        linked |= (edges.rows >= 0).any(1)
    found = [linked if part == GRAPH else batch.inputs[part].present for part in parts]
    return torch.stack(found).numpy().astype(np.int64)


def _worth(
    panel: Panel,
    batch: ClinicalBatch,
    parts: Sequence[str],
    *,
    players: NDArray[np.int64],
    memories: Sequence[Tensor],
) -> dict[str, Array]:
    """Task -> [2^P, B] logit of each coalition of parts that the sample has; NaN of others."""
    coalition, sample = np.nonzero((np.arange(1 << len(parts))[:, None] & ~players) == 0)
    # Named by what is left out of those that the sample has: a relation chosen by a modality
    # that it lacks is not left out with it.
    lost = players[sample] & ~coalition
    without = {
        number: panel.left_out_with([part for p, part in enumerate(parts) if number >> p & 1])
        for number in np.unique(lost).tolist()
    }
    networks = [
        logits_without(
            network.model,
            encode(network.model, batch),
            batch.neighbours,
            memory=memory,
            sample=sample,
            lost=lost,
            without=without,
        )
        for network, memory in zip(panel.bundle.networks, memories, strict=True)
    ]
    experts = _experts(panel, batch, sample, lost, without)
    logits = panel.logits(
        {
            task: Opinions(
                networks=np.stack([said[task] for said in networks]),
                experts=experts.get(task, np.empty((0, len(sample)))),
            )
            for task in panel.bundle.config.binary_tasks
        }
    )
    worth = {task: np.full((1 << len(parts), len(players)), np.nan) for task in logits}
    for task, found in logits.items():
        worth[task][coalition, sample] = found
    return worth


@torch.inference_mode()
def logits_without(
    model: ClinicalModel,
    encoded: Encoded,
    neighbours: Mapping[str, Neighbours],
    *,
    memory: Tensor,
    sample: NDArray[np.int64],
    lost: NDArray[np.int64],
    without: Mapping[int, frozenset[str]],
) -> dict[str, Array]:
    """Task -> [C] logits of one network for samples less what each lost.

    Args:
        model: of the network.
        encoded, neighbours: of some samples.
        memory: what the network reads its neighbours from.
        sample: [C] places among the samples.
        lost: [C] numbers of what is left out.
        without: what each number means; see `Panel.left_out_with`.
    """
    kept = {
        number: torch.tensor([name not in gone for name in model.modalities])
        for number, gone in without.items()
    }
    answers: list[Mapping[str, Tensor]] = []
    for start in range(0, len(sample), ASKED_AT_ONCE):
        numbers = lost[start : start + ASKED_AT_ONCE].tolist()
        places = torch.from_numpy(sample[start : start + ASKED_AT_ONCE])
        taken, edges = again(encoded, neighbours, places)
        present = taken.present & torch.stack([kept[number] for number in numbers])
        heard = {name: _heard(each, name, numbers, without) for name, each in edges.items()}
        less = Encoded(taken.encodings, taken.summaries, present)
        answers.append(model.answer(less, heard, memory=memory).logits)
    return {
        task: torch.cat([answer[task] for answer in answers]).double().numpy()
        for task in answers[0]
    }


def _heard(
    edges: Neighbours,
    relation: str,
    numbers: Sequence[int],
    without: Mapping[int, frozenset[str]],
) -> Neighbours:
    return edges.drop(torch.tensor([relation in without[number] for number in numbers]))


def _experts(
    panel: Panel,
    batch: ClinicalBatch,
    sample: NDArray[np.int64],
    lost: NDArray[np.int64],
    without: Mapping[int, frozenset[str]],
) -> dict[str, Array]:
    """Task -> [E, C] logits of the experts, who see no neighbours; empty without experts."""
    if not panel.bundle.experts:
        return {}
    modalities = frozenset(panel.bundle.config.modalities)
    said: dict[frozenset[str], dict[str, Array]] = {}
    found: dict[str, Array] = {}
    for number, gone in without.items():
        unseen = gone & modalities or NOTHING
        if unseen not in said:
            said[unseen] = panel.expert_logits(batch, unseen)
        mine = lost == number
        for task, logits in said[unseen].items():
            values = found.setdefault(task, np.full((len(logits), len(sample)), np.nan))
            values[:, mine] = logits[:, sample[mine]]
    return found
