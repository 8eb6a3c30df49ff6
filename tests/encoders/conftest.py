"""A small container of each modality, and what a test does to any of them."""

import clinical  # noqa: F401
from clinical.containers import (
    SUMMARY_STATISTICS,
    CodeSet,
    Container,
    Images,
    TimeSeries,
    Tokens,
    Vector,
)
from clinical.encoders import ENCODERS, Encoder

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor

S = len(SUMMARY_STATISTICS)


def make_events(size: int, draws: torch.Generator) -> TimeSeries:
    steps, variables, summaries = 13, 6, 4
    length = torch.arange(size) % 5 + 9
    mask = torch.arange(steps) < length[:, None]
    return TimeSeries(
        variable=torch.randint(variables, (size, steps), generator=draws) * mask,
        value=torch.rand(size, steps, generator=draws) * 1.6 - 0.3,
        time_hours=torch.rand(size, steps, generator=draws) * 48 * mask,
        mask=mask,
        observed=mask & (torch.rand(size, steps, generator=draws) < 0.8),
        summary=torch.rand(size, summaries, S, generator=draws) * 1.6 - 0.3,
        summary_observed=torch.rand(size, summaries, generator=draws) < 0.7,
    )


def make_vector(size: int, draws: torch.Generator) -> Vector:
    observed = torch.rand(size, 5, generator=draws) < 0.7
    observed[:, 0] = True
    return Vector(torch.rand(size, 5, generator=draws) * 1.6 - 0.3, observed)


def make_notes(size: int, draws: torch.Generator) -> Tokens:
    sample = torch.arange(size).repeat_interleave(2)[: 2 * size - 1]
    length = torch.arange(len(sample)) % 5 + 4
    mask = torch.arange(8) < length[:, None]
    ids = torch.randint(5, 30, mask.shape, generator=draws) * mask
    hours = torch.rand(len(sample), generator=draws) * 48
    phrases = torch.randn(len(sample), 3, generator=draws)
    return Tokens(
        ids=ids,
        mask=mask,
        time_hours=hours,
        kind=torch.randint(0, 3, sample.shape, generator=draws),
        chunk=torch.arange(len(sample)) % 2,
        sample=sample,
        size=size,
        phrases=phrases,
    )


def make_images(size: int, draws: torch.Generator) -> Images:
    sample = torch.arange(size).repeat_interleave(2)[: 2 * size - 1]
    rows = len(sample)
    return Images(
        pixels=torch.rand(rows, 1, 16, 16, generator=draws),
        observed=torch.rand(rows, 4, 4, generator=draws) < 0.8,
        time_hours=torch.rand(rows, generator=draws) * 48,
        view=torch.randint(0, 3, (rows,), generator=draws),
        position=torch.rand(rows, generator=draws),
        sample=sample,
        size=size,
    )


def make_codes(size: int, draws: torch.Generator) -> CodeSet:
    mask = torch.arange(7) < (torch.arange(size) % 4 + 3)[:, None]
    code = torch.rand(size, 20, generator=draws).argsort(1)[:, :7]
    return CodeSet(code * mask, torch.rand(size, 7, generator=draws) * 9000 * mask, mask)


def tensors(container: Container) -> dict[str, Tensor]:
    return {name: value for name, value in vars(container).items() if isinstance(value, Tensor)}


def take(container: Any, samples: Tensor) -> Any:
    """The samples [n] int64 of a container, in that order."""
    if not isinstance(container, Tokens | Images):
        return container.replace(**{k: v[samples] for k, v in tensors(container).items()})
    rows = torch.cat([torch.nonzero(container.sample == s)[:, 0] for s in samples.tolist()])
    place = torch.full((container.size,), -1)
    place[samples] = torch.arange(len(samples))
    fields = {k: v[rows] for k, v in tensors(container).items()}
    fields["sample"] = place[fields["sample"]]
    return type(container)(**fields, size=len(samples))


STEP_FIELDS = ("variable", "value", "time_hours", "mask", "observed", "code", "ids")


def padded(container: Any, steps: int) -> Any:
    """The container with further padding steps; itself where there is nothing to pad."""
    if not isinstance(container, TimeSeries | Tokens | CodeSet):
        return container
    fields = {
        name: torch.cat((value, value.new_zeros(len(value), steps)), 1)
        for name, value in tensors(container).items()
        if name in STEP_FIELDS and value.dim() == 2
    }
    return container.replace(**fields)


def emptied(container: Any) -> Any:
    """The container of a batch in which nobody has anything: no row, no step."""
    everyone = torch.ones(len(container.present), dtype=torch.bool)
    container = container.drop(everyone)
    if not isinstance(container, TimeSeries | Tokens | CodeSet):
        return container
    fields = {
        name: value[:, :0]
        for name, value in tensors(container).items()
        if name in STEP_FIELDS and value.dim() == 2
    }
    return container.replace(**fields)


def garbled(container: Any) -> Any:
    """The container with NaN wherever its contract says that nothing may be read."""
    fields = tensors(container)
    if isinstance(container, TimeSeries):
        fields["value"] = fields["value"].masked_fill(~container.observed, torch.nan)
        fields["time_hours"] = fields["time_hours"].masked_fill(~container.mask, torch.nan)
        hidden = ~container.summary_observed[..., None]
        fields["summary"] = fields["summary"].masked_fill(hidden, torch.nan)
    elif isinstance(container, Vector):
        fields["value"] = fields["value"].masked_fill(~container.observed, torch.nan)
    elif isinstance(container, CodeSet):
        fields["time_hours"] = fields["time_hours"].masked_fill(~container.mask, torch.nan)
    elif isinstance(container, Tokens):
        fields["ids"] = fields["ids"].masked_fill(~container.mask, 9)
    elif isinstance(container, Images):
        hidden = ~container.observed.repeat_interleave(4, 1).repeat_interleave(4, 2)
        fields["pixels"] = fields["pixels"].masked_fill(hidden[:, None], torch.nan)
    return container.replace(**fields)


@dataclass(frozen=True)
class Case:
    """An entry of the menu, how to build it small, and containers for it."""

    name: str
    make: Callable[[int, torch.Generator], Any]
    sizes: Mapping[str, int]
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def entry(self) -> type[Encoder]:
        return ENCODERS[self.name]

    def encoder(self, **options: Any) -> Encoder:
        torch.manual_seed(3)
        return self.entry(self.sizes, **{"width": 16, **self.options, **options}).eval()

    def container(self, size: int = 5) -> Any:
        return self.make(size, torch.Generator().manual_seed(7))

    take = staticmethod(take)
    padded = staticmethod(padded)
    garbled = staticmethod(garbled)
    emptied = staticmethod(emptied)
    tensors = staticmethod(tensors)


NOTES = {"vocabulary": 30, "max_tokens": 12, "pad": 0, "phrases": 3, "kinds": 3}
MODERN = {
    "model_type": "modernbert",
    "vocab_size": 30,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "local_attention": 4,
    "embedding_dropout": 0.1,
    **dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id"), 0),
}

EVENTS = {"variables": 6, "summary_variables": 4}

IMAGES = {"size": 16, "patch": 4, "views": 3}

CASES = {
    "event_set": Case("event_set", make_events, EVENTS),
    "event_set, full": Case("event_set", make_events, EVENTS, {"latents": None}),
    "two_axis": Case("two_axis", make_events, EVENTS),
    "two_axis, with a rest": Case("two_axis", make_events, EVENTS, {"grid_variables": 3}),
    "mlp": Case("mlp", make_vector, {"columns": 5}),
    "bert": Case("bert", make_notes, NOTES, {"layers": 1}),
    "bert, of given weights": Case("bert", make_notes, {**NOTES, "config": MODERN}),
    "bert, frozen": Case("bert", make_notes, {**NOTES, "config": MODERN}, {"train": "frozen"}),
    # Two stages for speed; test_cnn.py runs all four.
    "cnn": Case("cnn", make_images, IMAGES, {"stages": 2}),
    "cnn, frozen": Case("cnn", make_images, IMAGES, {"stages": 2, "train": "frozen"}),
    "bag": Case("bag", make_codes, {"codes": 20}),
}


@pytest.fixture(params=list(CASES))
def case(request: pytest.FixtureRequest) -> Case:
    """Each case in turn."""
    return CASES[request.param]


@pytest.fixture
def described() -> set[str]:
    """The entries of the menu that have a case."""
    return {case.name for case in CASES.values()}


@pytest.fixture
def events() -> TimeSeries:
    return make_events(5, torch.Generator().manual_seed(7))


@pytest.fixture
def vector() -> Vector:
    return make_vector(5, torch.Generator().manual_seed(7))


@pytest.fixture
def notes() -> Tokens:
    return make_notes(5, torch.Generator().manual_seed(7))


@pytest.fixture
def images() -> Images:
    return make_images(5, torch.Generator().manual_seed(7))


@pytest.fixture
def codes() -> CodeSet:
    return make_codes(5, torch.Generator().manual_seed(7))
