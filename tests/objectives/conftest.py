"""Batches and models for the objectives' tests."""

import clinical  # noqa: F401

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def synthetic() -> ModuleType:
    """The module of small random batches, loaded by path."""
    path = Path(__file__).resolve().parents[1] / "clinical_batches.py"
    spec = importlib.util.spec_from_file_location("clinical_batches", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
