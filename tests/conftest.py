"""What every test starts from: no network, one thread, and torchvision made importable."""

import clinical  # noqa: F401  (first: it repairs torchvision's import for all that follows)

import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

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


@pytest.fixture(scope="session")
def hospital_tools() -> ModuleType:
    """tests/finished_hospital.py."""
    name = "finished_hospital"
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec
    assert spec.loader
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all processes of a test run."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session")
def hospital(hospital_tools: Any, shared_folder: Path) -> Path:
    """A synthetic extract of 200 subjects; not to be written to."""
    return hospital_tools.once(shared_folder, "hospital", hospital_tools.build)


@pytest.fixture(scope="session")
def finished(hospital_tools: Any, shared_folder: Path, hospital: Path) -> Any:
    """A finished tiny run on the hospital; not to be written to."""
    out = hospital_tools.once(
        shared_folder, "finished", lambda folder: hospital_tools.finish(hospital, folder)
    )
    screen = out.with_name(f"{out.name}.screen").read_text()
    return hospital_tools.Finished(hospital, out, screen)


@pytest.fixture
def command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., tuple[int, str, str]]:
    """`command("run", path, ...)`: the command line in this process, started in tmp_path.

    Gives the exit code and what was written to stdout and stderr.
    """
    from clinical.cli import main

    def call(*arguments: Any) -> tuple[int, str, str]:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["clinical", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main()
        out, err = capsys.readouterr()
        return int(stopped.value.code or 0), out, err

    return call
