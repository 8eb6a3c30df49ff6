"""Every notebook runs, in its order, and the committed ones show what they show when they run."""

import importlib.util
import re
from pathlib import Path

import nbformat
import pytest

FOLDER = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
LONGEST_CELL = 40  # a configuration, line by line
LARGEST = 1_000_000


@pytest.fixture(scope="module")
def execute():
    """notebooks/execute.py."""
    spec = importlib.util.spec_from_file_location("execute", FOLDER / "execute.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Where they run one after the other: each reads what those before left in its `work`."""
    return tmp_path_factory.mktemp("notebooks")


def kinds(notebook: nbformat.NotebookNode) -> list[set[str]]:
    """What each cell shows."""
    return [
        {kind for output in cell.get("outputs", []) for kind in output.get("data", {})}
        for cell in notebook.cells
    ]


@pytest.mark.timeout(900)  # one of them trains a model, on a core that it may share
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_notebook_runs_and_shows_what_the_committed_one_shows(
    path, execute, folder, monkeypatch
):
    monkeypatch.delenv("MPLBACKEND", raising=False)  # the tests' own backend shows nothing
    found = kinds(execute.executed(path, folder))
    assert found == kinds(nbformat.read(path, as_version=4))
    assert {"image/png", "text/html"} <= set.union(*found)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_committed_notebook_ran_from_top_to_bottom_and_names_no_folder_of_a_machine(path):
    cells = [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert {each.output_type for each in outputs} <= {"execute_result", "display_data", "stream"}
    assert not [each for each in outputs if each.get("name") == "stderr"]
    assert not re.search(r"/(tmp|home|root|work/main)/", path.read_text())
    assert path.stat().st_size < LARGEST


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_teaches_in_short_cells(path):
    cells = [c.source for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]
    assert max(len(source.splitlines()) for source in cells) <= LONGEST_CELL
    assert not [each for each in cells if re.search(r"^ *(def|class) ", each, re.MULTILINE)]
