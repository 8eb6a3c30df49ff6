"""The networks and experts of a bundle, asked about the samples of a store."""

from clinical.batch import ClinicalBatch, Neighbours
from clinical.bundle import Bundle
from clinical.cohort.store import Store
from clinical.config_file import likely
from clinical.datamodule import make_loader
from clinical.errors import ConfigError
from clinical.experts.stack import EVEN, stacked
from clinical.model import ClinicalModel, Encoded
from clinical.relations.linking import relations_of

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

BATCH_SIZE = 64
GRAPH = "graph"
Memories = Sequence[Sequence[Tensor]]
"""[N + M, D] by network and what is left out; see `Panel.memories`."""
Watcher = Callable[[ClinicalBatch, Encoded | None], None]
NOTHING: frozenset[str] = frozenset()
"""What is left out of a whole score."""


@dataclass(frozen=True)
class Opinions:
    """What the networks and the experts of a bundle say of some samples, in logits of a task.

    Attributes:
        networks: [M, N, *shape] float64, `shape` being that of the task's answer.
        experts: [E, N] float64; E is 0 unless the task is binary.
    """

    networks: np.ndarray
    experts: np.ndarray

    @classmethod
    def unknown(
        cls, n_networks: int, n_experts: int, n_samples: int, shape: tuple[int, ...] = ()
    ) -> "Opinions":
        """To be filled in; NaN until then."""
        networks = np.full((n_networks, n_samples, *shape), np.nan)
        return cls(networks, np.full((n_experts, n_samples), np.nan))

    def of(self, samples: np.ndarray) -> "Opinions":
        """Those of some samples."""
        return Opinions(self.networks[:, samples], self.experts[:, samples])


@dataclass(frozen=True)
class Panel:
    """Everybody in a bundle who has an opinion.

    What can be left out is a modality, as if never recorded, or a relation, as if nobody had
    neighbours by it; `left_out_with` says what goes with it.
    """

    bundle: Bundle

    def left_out_with(self, without: Sequence[str]) -> frozenset[str]:
        """The modalities and relations that are left out with those named.

        "graph" is every relation, and a relation whose neighbours are chosen by a modality goes
        with it.

        Raises:
            ConfigError: a name that the model does not have.
        """
        config = self.bundle.config
        relations = frozenset(config.graph.relations)
        known = {*config.modalities, *relations, GRAPH}
        for name in without:
            if name not in known:
                raise ConfigError(f"without: the model has no {name}{likely(name, known)}")
        if GRAPH in without:
            return frozenset(without) | relations
        fed = relations_of(config).items()
        return frozenset(without) | {n for n, r in fed if not r.feeds.isdisjoint(without)}

    def batches(self, store: Store, rows: np.ndarray) -> Iterator[ClinicalBatch]:
        """The samples at `rows` of a store, in an order of its own; `batch.row` says which."""
        loader = make_loader(
            store.folder,
            self.bundle.config,
            rows,
            batch_size=BATCH_SIZE,
            encodings=self._encodings,
        )
        return iter(loader)

    @cached_property
    def _encodings(self) -> dict[str, str]:
        """Modality -> digest of its frozen weights, where nobody asks for more than they see.

        A run's own store may keep what they made of the rows.
        """
        if self.bundle.experts or not self.bundle.networks:
            return {}
        first, *others = [network.model.frozen_digests() for network in self.bundle.networks]
        return {n: d for n, d in first.items() if all(other.get(n) == d for other in others)}

    def logits(self, opinions: Mapping[str, Opinions]) -> dict[str, np.ndarray]:
        """Uncalibrated logits, networks and experts together: task -> [N, *shape] float64."""
        stack = self.bundle.stack
        return {
            task: stacked(said.networks, said.experts, stack.get(task, EVEN))
            for task, said in opinions.items()
        }

    def network_share(self, task: str) -> float:
        """What the networks' mean counts for beside the experts', of a binary task: 0 to 1."""
        has_expert = any(task in tasks for tasks in self.bundle.experts.values())
        return 1 - self.bundle.stack.get(task, EVEN) if has_expert else 1.0

    def opinions(
        self,
        store: Store,
        rows: np.ndarray,
        left_out: Sequence[frozenset[str]] = (NOTHING,),
        *,
        memories: Memories | None = None,
        at_once: int = 1,
        watch: Watcher | None = None,
    ) -> list[dict[str, Opinions]]:
        """Uncalibrated logits of each network and expert by task, without each of `left_out`.

        What is left out, the context lacks as well.

        Args:
            store, rows: of the samples.
            left_out: see `left_out_with`.
            memories: those of the store and of `left_out`, where they are known already.
            at_once: batches that are asked about beside each other, each in a thread.
            watch: told of each batch, whole, and of what the first network makes of it.
        """
        networks = self.bundle.networks
        found = [self._unknown(store.n_samples) for _ in left_out]
        known = self.memories(store, left_out) if memories is None else memories

        def ask(batch: ClinicalBatch) -> None:
            at = batch.row.numpy()
            if watch is not None and not networks:
                watch(batch, None)
            for number, network in enumerate(networks):
                encoded = encode(network.model, batch)
                if watch is not None and not number:
                    watch(batch, encoded)
                asked = self.answers(
                    network.model,
                    batch,
                    encoded=encoded,
                    left_out=left_out,
                    memories=known[number],
                )
                for opinions, logits in zip(found, asked, strict=True):
                    for task, logit in logits.items():
                        opinions[task].networks[number, at] = logit.double().numpy()
            for opinions, without in zip(found, left_out, strict=True):
                for task, by_expert in self.expert_logits(batch, without).items():
                    opinions[task].experts[:, at] = by_expert

        beside_each_other(ask, self.batches(store, rows), threads=at_once)
        return [{task: said.of(rows) for task, said in each.items()} for each in found]

    def _unknown(self, n_samples: int) -> dict[str, Opinions]:
        """Opinions by task, to be filled in."""
        n_networks, experts = len(self.bundle.networks), self.bundle.experts.values()
        return {
            task: Opinions.unknown(
                n_networks, sum(task in tasks for tasks in experts), n_samples, answer.shape
            )
            for task, answer in self.bundle.answers.items()
        }

    @torch.inference_mode()
    def answers(
        self,
        model: ClinicalModel,
        batch: ClinicalBatch,
        *,
        encoded: Encoded,
        left_out: Sequence[frozenset[str]],
        memories: Sequence[Tensor],
    ) -> list[Mapping[str, Tensor]]:
        """[B, *shape] logits of a network by task, without each of `left_out`.

        Args:
            model: of the network.
            batch: whose neighbours are heard.
            encoded: what the network makes of the batch's modalities; see `encode`.
            left_out: see `left_out_with`.
            memories: what it reads its neighbours from, for each of `left_out`; see `memories`.
        """
        return [
            model.answer(
                self._less(encoded, without), _less_relations(batch, without), memory=memory
            ).logits
            for without, memory in zip(left_out, memories, strict=True)
        ]

    def expert_logits(
        self, batch: ClinicalBatch, without: frozenset[str] = NOTHING
    ) -> dict[str, np.ndarray]:
        """[E, B] logits of the experts by binary task; empty where there are none."""
        if not self.bundle.experts:
            return {}
        return self.logits_of_features(self.bundle.tabulator.features(batch, without))

    def logits_of_features(self, features: np.ndarray) -> dict[str, np.ndarray]:
        """The same of flat features [B, F], as the bundle's tabulator gives them."""
        experts = self.bundle.experts.values()
        return {
            task: np.stack([expert[task].logit(features) for expert in experts])
            for task in self.bundle.config.binary_tasks
        }

    def memories(
        self, store: Store, left_out: Sequence[frozenset[str]] = (NOTHING,)
    ) -> list[list[Tensor]]:
        """[N + M, D] a network and `left_out`: the references' embeddings, then the context's."""
        return self.memories_with(store.context, left_out)

    def memories_with(
        self,
        context: Store | None,
        left_out: Sequence[frozenset[str]] = (NOTHING,),
        *,
        at_once: int = 1,
    ) -> list[list[Tensor]]:
        """The same, of any store whose context this is; `at_once` as for `opinions`."""
        networks = self.bundle.networks
        if context is None:
            return [[network.memory] * len(left_out) for network in networks]
        embeddings = [
            torch.zeros(len(left_out), context.n_samples, network.memory.shape[1])
            for network in networks
        ]

        def embed(batch: ClinicalBatch) -> None:
            with torch.inference_mode():
                for network, each in zip(networks, embeddings, strict=True):
                    encoded = network.model.encode(batch)
                    for embedding, without in zip(each, left_out, strict=True):
                        embedding[batch.row] = network.model.fuse(self._less(encoded, without))

        everybody = self.batches(context, np.arange(context.n_samples))
        beside_each_other(embed, everybody, threads=at_once)
        # Half precision, as the references have it in the bundle.
        return [
            [torch.cat([network.memory, e.to(torch.float16).float()]) for e in each]
            for network, each in zip(networks, embeddings, strict=True)
        ]

    def as_pretrained(self) -> "Panel":
        """A panel of the networks as pretraining left them, without experts."""
        networks = self.bundle.pretrained_networks()
        return Panel(replace(self.bundle, networks=networks, experts={}, stack={}))

    def of_first_network(self) -> "Panel":
        """A panel of the first network alone, without experts."""
        first = self.bundle.networks[:1]
        return Panel(replace(self.bundle, networks=first, experts={}, stack={}))

    def _less(self, encoded: Encoded, without: frozenset[str]) -> Encoded:
        kept = torch.tensor([name not in without for name in self.bundle.config.modalities])
        return replace(encoded, present=encoded.present & kept)


def beside_each_other(
    work: Callable[[ClinicalBatch], None], batches: Iterable[ClinicalBatch], *, threads: int
) -> None:
    """Do some work on every batch, in so many threads; few batches are in memory at once.

    Torch's own threads, which share each operation, have to wait for each other at its end.
    """
    if threads == 1:
        for batch in batches:
            work(batch)
        return
    with ThreadPoolExecutor(threads) as pool:
        pending = deque[Future[None]]()
        for batch in batches:
            pending.append(pool.submit(work, batch))
            if len(pending) > threads:
                pending.popleft().result()
        for future in pending:
            future.result()


@torch.inference_mode()
def encode(model: ClinicalModel, batch: ClinicalBatch) -> Encoded:
    """The batch's modalities as a network encodes them, without a gradient."""
    return model.encode(batch)


def _less_relations(batch: ClinicalBatch, without: frozenset[str]) -> Mapping[str, Neighbours]:
    for name in without & batch.neighbours.keys():
        batch = batch.without_relation(name)
    return batch.neighbours
