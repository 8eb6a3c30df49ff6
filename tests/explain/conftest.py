"""An untrained panel on a small hospital: two networks, an expert that reads every modality."""

import clinical
from clinical.encoders.bert import BertEncoder

import importlib.util
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

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
def frozen_bert():
    """Makes a frozen encoder of notes for a model: random, of a family that counts its padding."""

    def make(model) -> BertEncoder:
        sizes = model.sizes["notes"]
        config = {
            "model_type": "roberta",
            "vocab_size": sizes["vocabulary"],
            "hidden_size": 24,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 32,
            "max_position_embeddings": sizes["max_tokens"] + 1 + sizes["pad"],
            "pad_token_id": sizes["pad"],
            "initializer_range": 0.3,
        }
        width = model.encoders["notes"].width
        torch.manual_seed(1)
        return BertEncoder({**sizes, "config": config}, width=width, train="frozen").eval()

    return make


@pytest.fixture(scope="session")
def small_extract(tmp_path_factory):
    """Forty subjects, all with a note, some without an image and some with stacks of them."""
    folder = tmp_path_factory.mktemp("hospital") / "extract"
    return load("small_hospital").build(folder, stacks=True)


@pytest.fixture(scope="session")
def small_predictor(small_extract, tmp_path_factory):
    hospital = load("small_hospital")
    folder = tmp_path_factory.mktemp("run")
    config = hospital.configure(small_extract, folder, tasks=TASKS, ensemble=2)
    # A note of six words is two chunks that share one of them, a stack is read as three slices.
    config.modalities["notes"].options.update(max_tokens=6, overlap=1)
    config.modalities["images"].options.update(slices=3, channels=3)
    bundle = hospital.untrained(config)
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
