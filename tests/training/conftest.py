"""Small random batches and narrow models, and stages of training on them."""

import clinical  # noqa: F401
from clinical.model import ClinicalModel
from clinical.objectives import OBJECTIVES
from clinical.sections import FinetuneConfig, PretrainConfig
from clinical.training.finetune import FinetuneStage
from clinical.training.pretrain import PretrainStage
from clinical.training.probe import Probe
from clinical.training.recipes import RECIPES, add_adapters
from clinical.training.stage import References

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader


@pytest.fixture(scope="session")
def synthetic() -> ModuleType:
    """The module of small random batches, loaded by path."""
    path = Path(__file__).resolve().parents[1] / "clinical_batches.py"
    spec = importlib.util.spec_from_file_location("clinical_batches", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


RECIPES_HERE = [name for name in RECIPES if name != "lora" or importlib.util.find_spec("peft")]
"""Those that need no extra which is not installed."""


@pytest.fixture(scope="session")
def recipes_here() -> list[str]:
    return RECIPES_HERE


@pytest.fixture(params=RECIPES_HERE)
def recipe(request: pytest.FixtureRequest) -> str:
    """Each recipe in turn."""
    return request.param


def loader(batches: list[Any]) -> DataLoader[Any]:
    # A generator of its own, as `make_loader` has: starting a pass must not draw from the global.
    return DataLoader(
        batches, batch_size=None, collate_fn=lambda batch: batch, generator=torch.Generator()
    )


class Workshop:
    """What a stage needs, from a seed.

    The references are the first samples of the training batches, in reversed order.
    """

    def __init__(self, synthetic: ModuleType) -> None:
        self.synthetic = synthetic
        rows = synthetic.N_REFERENCE
        self.reference_batch = synthetic.make_batch(rows, seed=9)
        self.train = [synthetic.make_batch(6, seed=seed) for seed in range(3)]
        self.tuning = [synthetic.make_batch(6, seed=seed) for seed in (10, 11)]

    def references(self) -> References:
        some = self.synthetic.take
        order = np.arange(self.synthetic.N_REFERENCE)[::-1]
        parts = [some(self.reference_batch, torch.arange(start, start + 4)) for start in (0, 4, 8)]
        return References(loader(parts), order.copy())

    def finetune(
        self,
        *,
        seed: int = 1,
        learning_rate: float = 1e-2,
        teacher_risks: Mapping[str, torch.Tensor] | None = None,
        keep: Literal["best", "last"] = "best",
        recipe: str = "full",
        model: ClinicalModel | None = None,
    ) -> FinetuneStage:
        config = self.synthetic.make_config()
        model = self.synthetic.make_model(config, seed=seed) if model is None else model
        add_adapters(model, RECIPES[recipe], seed=seed)
        return FinetuneStage(
            model.train(),
            self.references(),
            config=FinetuneConfig(learning_rate=learning_rate, keep=keep, recipe=recipe),
            tasks=config.tasks,
            teacher_risks=teacher_risks or {},
            seed=seed,
        )

    def pretrain(
        self,
        *,
        seed: int = 1,
        names: tuple[str, ...] = ("tokens", "edges"),
        balance: Literal["fixed", "uncertainty"] = "fixed",
        probe_every: int | None = None,
    ) -> Any:
        # Lightning leaves the mode as it finds it: in evaluation mode nothing would be dropped.
        model = self.synthetic.make_model(seed=seed).train()
        weights = {name: {"weight": 1.0} for name in names}
        config = PretrainConfig(objectives=weights, balance=balance, probe_every=probe_every)
        return PretrainStage(
            model,
            self.references(),
            config=config,
            objectives={name: OBJECTIVES[name](model) for name in names},
            feeds={"similar": frozenset({"events"}), "same_unit": frozenset({"codes"})},
            key_codes={},
            seed=seed,
            probe=self.probe() if probe_every else None,
        )

    def probe(self) -> Probe:
        return Probe(
            self.synthetic.make_config().tasks,
            train=loader(self.train),
            select=loader(self.tuning),
            subject=np.arange(6),
        )

    def loaders(self) -> dict[str, DataLoader[Any]]:
        return {"train": loader(self.train), "tuning": loader(self.tuning)}


@pytest.fixture
def workshop(synthetic: ModuleType) -> Workshop:
    return Workshop(synthetic)
