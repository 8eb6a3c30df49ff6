"""Begin fine-tuning where the best linear reading of the pretrained network is.

From few labels gradient descent finds slowly, or never, what ridge regression finds at once: which
weights the things deserve that a network adds up linearly (a modality's summary, grey levels,
counted phrases, what frozen weights say). So these weights are solved for first, and everything
learns from there: a linear probe, then fine-tuning (LP-FT, Kumar et al., 2022, arXiv:2202.10054).

The solution is written into the layers that are there, so that a network which began like this is
like any other. First each linear layer of an encoder writes its part of the solution into the
encoder's summary, in directions in which that hardly varies. Then the readout is solved to say what
the solution says, for the network as it is by then; this needs no label, so that nothing is fitted
to labels twice, and unlabelled samples serve.
"""

from clinical.batch import ClinicalBatch, Target
from clinical.encoders.encoding import Encoder
from clinical.heads import LinearHead
from clinical.model import ClinicalModel
from clinical.training.ridge import Array, Lines, fit_lines

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

logger = logging.getLogger(__name__)

MOST_SAMPLES = 20_000
"""That the regression learns from."""
MOST_READ = 4_000
"""Of which the readout is solved: it has some hundred unknowns, and no noise to average."""
FEWEST_LABELS = 8
FEWEST_PEOPLE = 10
"""Of whom a mean is kept, so that it is no patient's."""
LOUDNESS = 3.0
"""Of what is written into a summary, in its own standard deviations: the readout hears it apart."""
QUIET = 1e-3
"""Of the mean variance of a summary; a direction that varies less is as quiet as any."""
READ_RIDGE = 1e-4
"""Of each unknown's own variance; keeps the readout solvable where summaries are collinear."""

Rows = NDArray[np.int64]
Layer = tuple[str, str]
"""A modality, and the name of a linear layer of its encoder."""


@dataclass(frozen=True)
class Looked:
    """What a network makes of some samples.

    Attributes:
        row: [n] of the store.
        present: [n, M] 0 or 1.
        summaries: M of [n, D], projected; 0 where absent.
        inputs: [n, F] of each linear layer; 0 where absent.
        rest: [n, C] all tasks' logits, less what the readout's linear maps of summaries add.
        wanted: [n, C] what a line should say of each logit, NaN where unknown.
    """

    row: Rows
    present: Array
    summaries: Sequence[Array]
    inputs: Mapping[Layer, Array]
    rest: Array
    wanted: Array

    @property
    def blocks(self) -> list[Array]:
        """Of which lines are made."""
        return [self.present, *self.summaries, *self.inputs.values()]


def start_linearly(
    model: ClinicalModel,
    read: Callable[[Rows], Iterable[ClinicalBatch]],
    rows: Rows,
    *,
    unlabelled: Rows,
    subject: Rows,
    target: Callable[[str, ClinicalBatch], Target],
    generator: np.random.Generator,
    device: torch.device,
) -> bool:
    """Write into a model what ridge regressions find for its tasks, and say whether it was done.

    A logit of which fewer than `FEWEST_LABELS` samples are known begins at 0. Nothing is done
    where there are more logits than half the readout's width, which could not tell them apart.

    Args:
        model: changed in place: encoders' linear layers, the readout and the heads.
        read: batches of some rows of the store, in any order, but always the same.
        rows: whose targets are learned.
        unlabelled: further ones that may be looked at, so that few labels are not few samples.
        subject: [N] whose sample each row of the store is.
        target: what training compares a task's logits with.
        generator: draws the samples, of which not all are read.
        device: to encode on.
    """
    n_logits = sum(head.linear.out_features for head in _heads(model))
    if n_logits > model.width // 2 or not len(rows):
        logger.info("finetune: %d logits are too many to begin linearly", n_logits)
        return False
    logger.info("finetune: beginning where a linear reading ends")
    was_training, home = model.training, model.memory.device
    model.eval().to(device)
    model.readout.listen(model.heads)
    some = np.sort(generator.choice(rows, min(MOST_SAMPLES, len(rows)), replace=False))
    lines = _fit(model, _look(model, read(some), target), subject)
    everyone = np.union1d(rows, unlabelled)
    some = np.sort(generator.choice(everyone, min(MOST_READ, len(everyone)), replace=False))
    before = _look(model, read(some), target)
    _count_from_usual(model, before, subject)
    _write_encoders(model, before, lines)
    after = _look(model, read(some), target)
    _write_readout(model, after, lines(before.blocks))
    model.train(was_training).to(home)
    return True


@torch.no_grad()
def _look(
    model: ClinicalModel,
    batches: Iterable[ClinicalBatch],
    target: Callable[[str, ClinicalBatch], Target],
) -> Looked:
    found: dict[object, list[Tensor]] = {}

    def add(name: object, value: Tensor) -> None:
        found.setdefault(name, []).append(value.cpu())

    for batch in batches:
        there = batch.to(model.memory.device)
        encoded = model.encode(there)
        outputs = model.answer(encoded, there.neighbours)
        add("row", batch.row)
        add("present", encoded.present)
        add("summaries", encoded.summaries * encoded.present[..., None])
        for layer in _layers(model):
            add(layer, encoded.encodings[layer[0]].read_linearly[layer[1]])
        told = model.readout.of_summaries(encoded.summaries, encoded.present)
        logits, wanted = [], []
        for task, head in zip(model.heads, _heads(model), strict=True):
            linear = told[task] @ head.linear.weight.T
            logits.append((outputs.logits[task].view(linear.shape) - linear).cpu())
            value, known = head.wanted(target(task, batch))
            wanted.append(value.masked_fill(~known, torch.nan))
        add("rest", torch.cat(logits, 1))
        add("wanted", torch.cat(wanted, 1))
    whole = {name: torch.cat(parts).numpy() for name, parts in found.items()}
    return Looked(
        row=whole["row"],
        present=whole["present"].astype(np.float64),
        summaries=list(whole["summaries"].astype(np.float64).transpose(1, 0, 2)),
        inputs={layer: whole[layer].astype(np.float64) for layer in _layers(model)},
        rest=whole["rest"].astype(np.float64),
        wanted=whole["wanted"].astype(np.float64),
    )


def _heads(model: ClinicalModel) -> list[LinearHead]:
    """Of the tasks, in their order."""
    return [cast(LinearHead, model.head(task)) for task in model.heads]


def _layers(model: ClinicalModel) -> dict[Layer, nn.Linear]:
    """The encoders' layers whose output reaches a summary as it is."""
    return {
        (modality, name): layer
        for modality in model.modalities
        for name, layer in cast(Encoder, model.encoders[modality]).linear_layers().items()
    }


def _fit(model: ClinicalModel, seen: Looked, subject: Rows) -> Lines:
    """A line a logit; those of which the same samples are known are fitted together."""
    subject, blocks = subject[seen.row], seen.blocks
    heads = _heads(model)
    task = np.repeat(np.arange(len(heads)), [head.linear.out_features for head in heads])
    known = ~np.isnan(seen.wanted)
    weights, constant = [np.zeros((x.shape[1], len(task))) for x in blocks], np.zeros(len(task))
    for number, head in enumerate(heads):
        kinds, of_kind = np.unique(known[:, task == number], axis=1, return_inverse=True)
        shares: Sequence[float] = ()
        for kind in np.argsort(-kinds.sum(0), kind="stable"):
            own, rows = np.flatnonzero(task == number)[of_kind.reshape(-1) == kind], kinds[:, kind]
            if rows.sum() < FEWEST_LABELS:
                continue
            wanted, read = seen.wanted[rows][:, own], [x[rows] for x in blocks]
            found = fit_lines(
                read, wanted, subject[rows], are_probabilities=head.says_logits, shares=shares
            )
            shares = found.shares
            if head.chooses_one:
                found = _weighed_against_each_other(found, wanted)
            constant[own] = found.constant
            for all_of, some in zip(weights, found.weights, strict=True):
                all_of[:, own] = some
    return Lines(weights, constant)


def _weighed_against_each_other(lines: Lines, wanted: Array) -> Lines:
    """From log odds of each of some classes to logits of which a softmax is taken.

    These are the logarithms of the probabilities, about the share of each class: exact for two
    classes, whose log odds would count twice.
    """
    half = 0.5 / (len(wanted) + 1)
    mean = wanted.mean(0).clip(half, 1 - half)
    constant = np.log(mean) + (1 - mean) * (lines.constant - np.log(mean / (1 - mean)))
    return Lines([w * (1 - mean) for w in lines.weights], constant)


def _count_from_usual(model: ClinicalModel, seen: Looked, subject: Rows) -> None:
    """Let layers count what they read from its mean, if it is of enough people to be nobody's."""
    for number, modality in enumerate(model.modalities):
        is_there = seen.present[:, number] > 0
        if len(np.unique(subject[seen.row[is_there]])) < FEWEST_PEOPLE:
            continue
        for (of, name), read in seen.inputs.items():
            if of == modality:
                usual = torch.from_numpy(read[is_there].mean(0)).to(model.memory)
                cast(Encoder, model.encoders[modality]).count_from(name, usual)


@torch.no_grad()
def _write_encoders(model: ClinicalModel, seen: Looked, lines: Lines) -> None:
    """Let each encoder's linear layers say together what the lines make of their inputs.

    They say it in directions of their own, louder than the summary that they are added to.
    """
    layers = _layers(model)
    found = dict(zip(layers, lines.weights[1 + len(seen.summaries) :], strict=True))
    whole = float(np.linalg.norm(lines(seen.blocks).std(0)))
    for number, modality in enumerate(model.modalities):
        own = [layer for layer in layers if layer[0] == modality]
        if not own or not any(found[layer].any() for layer in own):
            continue
        project = cast(nn.Linear, model.project[modality]).weight.double().cpu().numpy()
        width = project.shape[1]
        said = np.sum([seen.inputs[layer] @ found[layer] for layer in own], axis=0)
        # Of many logits only as many mixtures as there is room for, the strongest.
        _, _, mixtures = np.linalg.svd(said - said.mean(0), full_matrices=False)
        mixtures = mixtures[: max(1, width // 4)]
        is_there = seen.present[:, number] > 0
        if is_there.sum() < 2:
            continue
        summaries = seen.summaries[number][is_there]
        directions = _quiet_directions(project, summaries, n=len(mixtures))
        heard = (said @ mixtures.T) @ (project @ directions).T
        summary = np.linalg.norm(summaries.std(0))
        loudness = LOUDNESS * summary / np.maximum(np.linalg.norm(heard[is_there].std(0)), 1e-12)
        # What tells little is not to drown the summary.
        loudness *= min(1.0, np.linalg.norm(said.std(0)) / max(whole, 1e-12))
        for layer in own:
            added = loudness * directions @ mixtures @ found[layer].T
            layers[layer].weight.add_(torch.from_numpy(added).to(layers[layer].weight))


def _quiet_directions(project: Array, summaries: Array, *, n: int) -> Array:
    """[W, n] of an encoder's output, orthogonal: in which the readout tells best what is added.

    Of a `project` [D, W] of the output and the `summaries` [m, D] it gave. Where these hardly vary,
    little of what an encoder says already is mixed with what it is to say.
    """
    covariance = np.atleast_2d(np.cov(summaries, rowvar=False))
    covariance += QUIET * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    heard_apart = project.T @ np.linalg.solve(covariance + 1e-12 * np.eye(len(project)), project)
    _, directions = np.linalg.eigh(heard_apart)
    found: Array = directions[:, ::-1][:, :n]
    return found


@torch.no_grad()
def _write_readout(model: ClinicalModel, seen: Looked, said: Array) -> None:
    """Let the tasks' logits be what was `said` [n, C], as far as linear maps of summaries can."""
    n_modalities, width = len(seen.summaries), model.width
    design = np.hstack([*seen.summaries, seen.present, np.ones((len(said), 1))])
    gram = design.T @ design / len(said)
    ridge = READ_RIDGE * max(1.0, 3 * len(gram) / len(said)) ** 2
    gram += ridge * np.diag(np.diag(gram)) + 1e-9 * np.eye(len(gram))
    found = np.linalg.solve(gram, design.T @ (said - seen.rest) / len(said))
    maps = found[: n_modalities * width].reshape(n_modalities, width, -1)
    of_presence, constant = found[n_modalities * width : -1], found[-1]
    heads = _heads(model)
    weight = torch.cat([head.linear.weight for head in heads]).double().cpu().numpy()
    sizes = [head.linear.out_features for head in heads]
    own = np.linalg.pinv(weight)
    for number in range(n_modalities):
        scale = np.repeat([model.readout.scale(task)[number].item() for task in model.heads], sizes)
        linear, absent = model.readout.linear_map(number), model.readout.absent[number]
        before = linear.weight.double().cpu().numpy()
        # Only what the heads read of the map is replaced: the rest is other aspects' too.
        after = before + own @ (maps[number].T / scale[:, None] - weight @ before)
        linear.weight.copy_(torch.from_numpy(after))
        is_there = seen.present[:, number] > 0
        silent = -of_presence[number]
        if is_there.all():  # what is never missing here may be elsewhere, and is average then
            silent = maps[number].T @ seen.summaries[number].mean(0)
        short = silent - maps[number].T @ absent.double().cpu().numpy()
        change = np.linalg.pinv(maps[number].T, rcond=1e-2) @ short
        usual = (
            np.sqrt((seen.summaries[number][is_there] ** 2).sum(1).mean()) if any(is_there) else 0
        )
        change *= min(1.0, usual / max(float(np.linalg.norm(change)), 1e-12))
        absent.add_(torch.from_numpy(change).to(absent))
    shift = np.split(constant + of_presence.sum(0), np.cumsum(sizes)[:-1])
    for head, own_shift in zip(heads, shift, strict=True):
        head.linear.bias.add_(torch.from_numpy(own_shift).to(head.linear.bias))
