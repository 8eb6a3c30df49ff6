"""Fine-tuning by episodes: to tell a few patients of each class apart from a few others of each.

Prototypical networks (Snell et al., 2017, arXiv:1703.05175). It practises what scoring does: from
labelled patients to prototypes, and from these to patients who had no part in them.

Episodes are drawn for their classes. Batches that come as they are would hold of a class of one in
a hundred nobody at all, or nobody who asks beside one who supports, and most would teach nothing.
"""

from clinical.batch import ClinicalBatch
from clinical.cohort.labels import label_array
from clinical.cohort.store import Store
from clinical.config import RunConfig, TaskConfig
from clinical.datamodule import StoreDataset, make_loader, sampled_loader
from clinical.errors import SchemaError
from clinical.heads.prototypical import classes_of
from clinical.model import ClinicalModel
from clinical.sections import FinetuneConfig
from clinical.training.finetune import FinetuneStage
from clinical.training.prototypes import Labelled, prototypical
from clinical.training.seeds import derive_seed, generator
from clinical.training.stage import References

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

Rows = NDArray[np.int64]


class EpisodicStage(FinetuneStage):
    """Fine-tuning of prototypical heads: each batch is an episode of every task.

    Args:
        model: trained in place; all its heads are prototypical.
        references: None where no relation is configured.
        config: schedule.
        tasks: name -> task.
        seed: of the run.
        labelled: the samples behind the prototypes that score.
        subject: [N] int64, whose sample each row of the store is.
    """

    def __init__(
        self,
        model: ClinicalModel,
        references: References | None,
        *,
        config: FinetuneConfig,
        tasks: dict[str, TaskConfig],
        seed: int,
        labelled: Labelled,
        subject: Tensor,
    ) -> None:
        super().__init__(model, references, config=config, tasks=tasks, teacher_risks={}, seed=seed)
        self.labelled = labelled
        self.subject = subject

    def begin(self, *, device: torch.device) -> None:
        """Put prototypes of the weights as they are into the heads, and a temperature that fits."""
        home = self.model.memory.device
        self.model.to(device)
        if self.references is not None:
            self.references.refresh(self.model, device=device)
        self.labelled.begin(self.model, device=device)
        self.model.to(home)

    def refresh_memory(self) -> None:
        """Bring the embedding memory, and then the prototypes, up to the present weights."""
        super().refresh_memory()
        self.labelled.write(self.model, device=self.device)
        self._memory_is_fresh = True

    def training_step(self, batch: ClinicalBatch, index: int) -> Tensor:
        aspects = self.model(batch).aspects
        draws = generator(self.seed, self.name, "episode", self.current_epoch, index)
        subject = self.subject[batch.row.cpu()]
        losses = []
        for task in self.tasks:
            head, target = prototypical(self.model, task), batch.targets[task]
            is_class = classes_of(target, head.n_classes).cpu()
            supports = supporters(is_class, subject, draws).to(self.device)
            losses.append(head.episode_loss(aspects[task], target, supports))
        loss = torch.stack(losses).sum()
        self.log_figures("train", {"loss": loss.detach()}, size=len(batch))
        return loss


def supporters(is_class: Tensor, subject: Tensor, draws: torch.Generator) -> Tensor:
    """Who supports the prototypes of an episode; the others ask.

    All samples of a subject are on one side. Half of each class's subjects support it, and one more
    where they are odd: who is alone supports. A subject of several counts for the rarest first.

    Args:
        is_class: [B, C] bool, nobody of a class where the label is unknown.
        subject: [B] int64.
        draws: of the sides.

    Returns:
        [B] bool.
    """
    people, person = subject.unique(return_inverse=True)
    rank = torch.randperm(len(people), generator=draws)
    members = [person[of].unique() for of in is_class.T]
    sides: dict[int, bool] = {}
    for own in sorted(members, key=len):
        drawn: list[int] = own[rank[own].argsort()].tolist()
        missing = (len(drawn) + 1) // 2 - sum(sides.get(one, False) for one in drawn)
        for number, one in enumerate(one for one in drawn if one not in sides):
            sides[one] = number < missing
    return torch.tensor([sides.get(one, False) for one in person.tolist()], dtype=torch.bool)


class EpisodeSampler(Sampler[Rows]):
    """Batches of rows, each drawn as an episode of one task; the tasks take turns.

    Of the classes that have samples some are drawn, all if the batch has room for two of each, and
    of each class as many subjects, with one sample each; where a class has fewer, the others have
    its room. An epoch has as many episodes as it would have batches. The draws are a function of
    seed and epoch alone.

    Args:
        classes: task -> [N] float64, the place of its class for each row of the store; NaN where
            unknown.
        subject: [N] whose sample each row is.
        rows: to draw from.
        batch_size: of samples, 4 or more.
        seed: of the draws.
    """

    def __init__(
        self,
        classes: Mapping[str, NDArray[np.float64]],
        subject: Rows,
        *,
        rows: Rows,
        batch_size: int,
        seed: int,
    ) -> None:
        by_task = [_by_class(place[rows], rows, subject) for place in classes.values()]
        self._tasks = [found for found in by_task if found]
        self._n_episodes = -(-len(rows) // batch_size) if self._tasks else 0
        self._batch_size = batch_size
        self._seed = seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the draws; the training loop calls it at each epoch's start."""
        self._epoch = epoch

    def __len__(self) -> int:
        return self._n_episodes

    def __iter__(self) -> Iterator[Rows]:
        draws = np.random.default_rng([self._seed, self._epoch])
        first = self._epoch * len(self)
        for number in range(first, first + len(self)):
            yield self._episode(self._tasks[number % len(self._tasks)], draws)

    def _episode(self, classes: list[list[Rows]], draws: np.random.Generator) -> Rows:
        n_ways = min(len(classes), self._batch_size // 2)
        drawn = [classes[c] for c in draws.choice(len(classes), n_ways, replace=False)]
        taken: list[int] = []
        for number, people in enumerate(sorted(drawn, key=len)):
            room = (self._batch_size - len(taken)) // (n_ways - number)
            for one in draws.choice(len(people), min(room, len(people)), replace=False):
                taken.append(draws.choice(people[one]))
        return np.array(taken, dtype=np.int64)


def _by_class(place: NDArray[np.float64], rows: Rows, subject: Rows) -> list[list[Rows]]:
    """The rows of each subject of each class that has any."""
    return [_by_subject(rows[place == c], subject) for c in np.unique(place[~np.isnan(place)])]


def _by_subject(rows: Rows, subject: Rows) -> list[Rows]:
    """The rows of each subject that has any."""
    rows = rows[np.argsort(subject[rows], kind="stable")]
    ends = np.flatnonzero(np.diff(subject[rows])) + 1
    return np.split(rows, ends)


def episodic(
    config: RunConfig,
    store: Store,
    model: ClinicalModel,
    references: References | None,
    *,
    rows: Rows,
    encodings: Mapping[str, str],
) -> tuple[EpisodicStage, DataLoader[ClinicalBatch]]:
    """The stage that teaches prototypical heads, and its episodes, drawn anew each epoch.

    Args:
        config: of the network, with its seed.
        store: what was prepared.
        model: to train.
        references: None where no relation is configured.
        rows: of the store, whose labels are learned.
        encodings: frozen modality -> digest of what its weights made of the rows.

    Raises:
        SchemaError: none of the rows has a label.
    """
    settings, subject = config.finetune, store.samples["subject_id"].to_numpy()
    sampler = EpisodeSampler(
        {name: label_array(store.samples, name, t)[:, 0] for name, t in config.tasks.items()},
        subject,
        rows=rows,
        batch_size=settings.batch_size,
        seed=derive_seed(config.seed, EpisodicStage.name, "order"),
    )
    if not len(sampler):
        raise SchemaError("tasks: no sample to learn from has a label; label train subjects")
    everyone = make_loader(
        store.folder, config, rows, batch_size=settings.batch_size, encodings=encodings
    )
    stage = EpisodicStage(
        model,
        references,
        config=settings,
        tasks=config.tasks,
        seed=config.seed,
        labelled=Labelled(everyone),
        subject=torch.from_numpy(subject.copy()),
    )
    return stage, sampled_loader(StoreDataset(store.folder, config, encodings), config, sampler)
