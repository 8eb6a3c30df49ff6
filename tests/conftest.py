"""What every test starts from: no network, one thread, and torchvision made importable."""

import clinical  # noqa: F401  (first: it repairs torchvision's import for all that follows)

import os
from pathlib import Path

import pytest
from hypothesis import settings

SHARED_DATA = Path(__file__).resolve().parents[1] / ".." / "shared" / "data"

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["MPLBACKEND"] = "Agg"
# xdist runs one worker a core: more threads inside each would only make them wait for one another.
# One thread also adds floats in one order, so that a learning test learns the same everywhere.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shared core can stall any example, which says nothing about the code; the same examples each
# time, so that a change is judged by what it changed.
settings.register_profile("project", deadline=None, derandomize=True, database=None)
settings.load_profile("project")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run the tests marked slow as well")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if (marker := item.get_closest_marker("slow")) and not config.getoption("--slow"):
            why = ", ".join(map(str, marker.args)) or "takes over ten seconds"
            item.add_marker(pytest.mark.skip(reason=f"slow ({why}); run with --slow"))
        if marker := item.get_closest_marker("shared_data"):
            folder = SHARED_DATA.joinpath(*marker.args)
            if not folder.exists():
                where = "/".join(["../shared/data", *marker.args])
                item.add_marker(pytest.mark.skip(reason=f"no real data at {where}"))
