"""An untrained panel on a small hospital: two networks, an expert that reads every modality."""

import clinical

import importlib.util
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

TASKS = {name: {"kind": "binary", "labels": "tasks/death"} for name in ("death", "transfer")}


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, Path(__file__).parents[1] / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@dataclass(frozen=True)
class Summing:
    """An expert that is moved by every feature, and by two at a time."""

    scale: float

    def logit(self, features: np.ndarray) -> np.ndarray:
        known = np.nan_to_num(features.astype(np.float64))
        total = known @ np.linspace(-1, 1, known.shape[1])
        return self.scale * np.tanh(total) + 0.3 * np.isnan(features[:, 0]) * known[:, -1]


@pytest.fixture(scope="session")
def small_extract(tmp_path_factory):
    """Forty subjects, some without an image, all with a note."""
    return load("small_hospital").build(tmp_path_factory.mktemp("hospital") / "extract")


@pytest.fixture(scope="session")
def small_predictor(small_extract, tmp_path_factory):
    hospital = load("small_hospital")
    folder = tmp_path_factory.mktemp("run")
    bundle = hospital.untrained(hospital.configure(small_extract, folder, tasks=TASKS, ensemble=2))
    experts = {"summing": {"death": Summing(0.7), "transfer": Summing(-0.4)}}
    stack = {"death": 0.25, "transfer": 0.5}
    return clinical.Predictor(replace(bundle, experts=experts, stack=stack))


@pytest.fixture(scope="session")
def small_store(small_predictor, small_extract, tmp_path_factory):
    """The prepared hospital, without contemporaries."""
    with small_predictor.prepared(
        small_extract, work=tmp_path_factory.mktemp("work") / "store"
    ) as (store, _):
        yield store


@pytest.fixture(scope="session")
def batches():
    """tests/clinical_batches.py."""
    return load("clinical_batches")
