"""Run the notebooks in their order and write them with what they show.

python notebooks/execute.py          # all; or name some: 03_score_and_explain
Each reads what those before it left in notebooks/work, which running all begins anew.
"""

import os
import shutil
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).parent
NOTEBOOKS = sorted(HERE.glob("*.ipynb"))
SECONDS_A_CELL = 600


def executed(path: Path, folder: Path) -> nbformat.NotebookNode:
    """A notebook with its outputs, run in a folder, without what differs from run to run."""
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=SECONDS_A_CELL,
        resources={"metadata": {"path": str(folder)}},
        record_timing=False,
    )
    # Of a kernel without widgets; its text names a folder of this machine.
    client.execute(env=os.environ | {"PYTHONWARNINGS": "ignore:IProgress not found"})
    notebook.metadata.language_info = {"name": "python"}
    for place, cell in enumerate(notebook.cells):
        cell.id, cell.metadata = f"cell-{place}", nbformat.NotebookNode()
    return notebook


def main(names: list[str]) -> None:
    """Execute those of these names, or all."""
    if not names:
        shutil.rmtree(HERE / "work", ignore_errors=True)
    for path in NOTEBOOKS:
        if not names or path.stem in names:
            nbformat.write(executed(path, HERE), path)


if __name__ == "__main__":
    main(sys.argv[1:])
