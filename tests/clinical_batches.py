"""Small random batches of all five modalities and two relations, and a model that fits them.

Not a test; loaded by path, since the test folders are no packages.
"""

import clinical  # noqa: F401
from clinical.answers import Answer
from clinical.batch import ClinicalBatch, Neighbours, Target
from clinical.config import RunConfig
from clinical.containers import SUMMARY_STATISTICS, CodeSet, Images, TimeSeries, Tokens, Vector
from clinical.model import ClinicalModel

from collections.abc import Mapping

import torch
from torch import Tensor

N_REFERENCE = 12
N_VARIABLES, N_SUMMARIES = 6, 5

SIZES = {
    "events": {"variables": N_VARIABLES, "summary_variables": N_SUMMARIES},
    "static": {"columns": 4},
    "notes": {
        "vocabulary": 40,
        "max_tokens": 12,
        "pad": 0,
        "cls": 2,
        "sep": 3,
        "mask": 4,
        "special": 5,
        "phrases": 3,
    },
    "images": {"size": 32, "patch": 8},
    "codes": {"codes": 15},
}

ENCODERS = {
    "events": {"encoder": "event_set", "width": 16, "layers": 1},
    "static": {"encoder": "mlp", "width": 16},
    "notes": {"encoder": "bert", "width": 16, "layers": 1},
    "images": {"encoder": "cnn", "width": 16, "stages": 1},
    "codes": {"encoder": "bag", "width": 16},
}


def make_config(
    *,
    modalities: tuple[str, ...] = tuple(ENCODERS),
    relations: tuple[str, ...] = ("similar", "same_unit"),
    tasks: tuple[str, ...] = ("mortality", "readmission"),
    fusion: str = "attention",
) -> RunConfig:
    """A configuration of narrow encoders."""
    return RunConfig.model_validate(
        {
            "extract": "extract",
            "out": "out",
            "tasks": {name: {"kind": "binary", "labels": name} for name in tasks},
            "modalities": {name: ENCODERS[name] for name in modalities},
            "fusion": {"kind": fusion, "width": 16},
            "graph": {"relations": {name: {"k": 3} for name in relations}},
        }
    )


def make_model(
    config: RunConfig | None = None,
    *,
    seed: int = 0,
    answers: Mapping[str, Answer] | None = None,
) -> ClinicalModel:
    """A model with a filled memory, in evaluation mode; all tasks are binary without answers."""
    torch.manual_seed(seed)
    config = config or make_config()
    model = ClinicalModel(config, SIZES, n_reference=N_REFERENCE, answers=answers)
    if config.graph.relations:
        model.set_memory(torch.randn(N_REFERENCE, model.width))
        # As if trained: a new network hears nothing yet of what neighbours say.
        for relation in config.graph.relations:
            model.directions(relation).normal_()
    return model.eval()


def make_batch(size: int = 8, *, seed: int = 0) -> ClinicalBatch:
    """Random samples; every third lacks notes, images or codes, in turn."""
    draws = torch.Generator().manual_seed(seed)
    missing = torch.arange(size) % 3
    return ClinicalBatch(
        row=torch.arange(size),
        inputs={
            "events": make_events(size, draws),
            "static": Vector(
                torch.rand(size, 4, generator=draws),
                (torch.rand(size, 4, generator=draws) < 0.8),
            ),
            "notes": make_notes(torch.arange(size)[missing != 0], size, draws),
            "images": make_images(torch.arange(size)[missing != 1], size, draws),
            "codes": make_codes(missing != 2, draws),
        },
        neighbours={
            name: make_neighbours(size, draws, without=i) for i, name in enumerate(RELATIONS)
        },
        targets={name: make_target(size, draws) for name in ("mortality", "readmission")},
    )


RELATIONS = ("similar", "same_unit")


def make_events(size: int, draws: torch.Generator, *, steps: int = 14) -> TimeSeries:
    """Events newest last; the summaries are of the events' own values."""
    length = torch.randint(4, steps + 1, (size, 1), generator=draws)
    mask = torch.arange(steps) < length
    variable = torch.randint(N_VARIABLES, (size, steps), generator=draws) * mask
    value = torch.rand(size, steps, generator=draws) * mask
    hours = (48 * torch.rand(size, steps, generator=draws)).sort(1, descending=True).values
    summary = torch.rand(size, N_SUMMARIES, len(SUMMARY_STATISTICS), generator=draws)
    measured = torch.zeros(size, N_SUMMARIES, dtype=torch.bool)
    for v in range(N_SUMMARIES):
        has = mask & (variable == v)
        measured[:, v] = has.any(1)
        summary[:, v, 0] = (value * has).sum(1) / has.sum(1).clamp_min(1)
    return TimeSeries(
        variable=variable,
        value=value,
        time_hours=hours * mask,
        mask=mask,
        observed=mask.clone(),
        summary=summary * measured[..., None],
        summary_observed=measured,
    )


def make_notes(sample: Tensor, size: int, draws: torch.Generator) -> Tokens:
    """One note of [CLS] words [SEP] for each of the samples."""
    n_rows, length = len(sample), SIZES["notes"]["max_tokens"]
    ids = torch.randint(5, 40, (n_rows, length), generator=draws)
    end = torch.randint(5, length, (n_rows,), generator=draws)
    ids[:, 0] = SIZES["notes"]["cls"]
    ids[torch.arange(n_rows), end] = SIZES["notes"]["sep"]
    mask = torch.arange(length) <= end[:, None]
    hours = 48 * torch.rand(n_rows, generator=draws)
    phrases = torch.randn(n_rows, SIZES["notes"]["phrases"], generator=draws)
    return Tokens(
        ids=ids.masked_fill(~mask, 0),
        mask=mask,
        time_hours=hours,
        kind=torch.zeros(n_rows, dtype=torch.int64),
        chunk=torch.zeros(n_rows, dtype=torch.int64),
        sample=sample,
        size=size,
        phrases=phrases,
    )


def make_images(sample: Tensor, size: int, draws: torch.Generator) -> Images:
    """One noisy image for each of the samples, with a bright corner in half of them."""
    pixels = 0.5 * torch.rand(len(sample), 1, 32, 32, generator=draws)
    pixels[::2, :, :16, :16] += 0.5
    observed = torch.ones(len(sample), 4, 4, dtype=torch.bool)
    return Images(
        pixels=pixels,
        observed=observed,
        time_hours=48 * torch.rand(len(sample), generator=draws),
        view=torch.zeros(len(sample), dtype=torch.int64),
        position=torch.full((len(sample),), 0.5),
        sample=sample,
        size=size,
    )


def make_codes(present: Tensor, draws: torch.Generator, *, steps: int = 6) -> CodeSet:
    """Distinct codes of each sample that is present."""
    size, n_codes = len(present), SIZES["codes"]["codes"]
    order = torch.rand(size, n_codes, generator=draws).argsort(1)[:, :steps]
    length = torch.randint(3, steps + 1, (size, 1), generator=draws)
    mask = (torch.arange(steps) < length) & present[:, None]
    hours = 1000 * torch.rand(size, steps, generator=draws)
    return CodeSet(order * mask, hours * mask, mask)


def make_neighbours(size: int, draws: torch.Generator, *, without: int) -> Neighbours:
    """Three neighbours a sample, one place empty now and then, one sample without any."""
    rows = torch.randint(N_REFERENCE, (size, 3), generator=draws)
    rows[torch.rand(size, 3, generator=draws) < 0.2] = -1
    rows[without % size] = -1
    weight = torch.rand(size, 3, generator=draws).clamp_min(0.1)
    return Neighbours(rows, weight * (rows >= 0))


def make_target(size: int, draws: torch.Generator) -> Target:
    """Alternating labels, the last unknown."""
    value = (torch.rand(size, generator=draws) < 0.5).float()
    value[:2] = torch.tensor([0.0, 1.0])[: min(size, 2)]
    observed = torch.arange(size) < max(size - 1, 1)
    return Target(value * observed, observed)


def take(batch: ClinicalBatch, samples: Tensor) -> ClinicalBatch:
    """The samples [n] int64 of a batch, in that order, padded as they were."""
    place = torch.full((len(batch),), -1)
    place[samples] = torch.arange(len(samples))
    inputs = {}
    for name, container in batch.inputs.items():
        fields = {k: v for k, v in vars(container).items() if isinstance(v, Tensor)}
        if isinstance(container, Tokens | Images):
            where = place[container.sample]
            rows = torch.nonzero(where >= 0)[:, 0]
            rows = rows[where[rows].argsort(stable=True)]
            fields = {k: v[rows] for k, v in fields.items()}
            fields |= {"sample": where[rows], "size": len(samples)}
        else:
            fields = {k: v[samples] for k, v in fields.items()}
        inputs[name] = type(container)(**fields)
    return ClinicalBatch(
        row=batch.row[samples],
        inputs=inputs,
        neighbours={
            k: Neighbours(v.rows[samples], v.weight[samples]) for k, v in batch.neighbours.items()
        },
        targets={
            k: Target(v.value[samples], v.observed[samples]) for k, v in batch.targets.items()
        },
    )
