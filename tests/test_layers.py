"""The layers of docs/architecture.md: a file imports from lower ones or from its own folder."""

import clinical

import ast
import re
from pathlib import Path

import pytest

PACKAGE = Path(clinical.__file__).parent
PAGE = PACKAGE.parent / "docs" / "architecture.md"


def levels(page: str) -> dict[str, int]:
    """The level of each file or folder of clinical/ by the page's table: | layer | `name` ... |."""
    rows = re.findall(r"^\| (\d+) \| (.*?) \|", page, flags=re.MULTILINE)
    return {name: int(level) for level, names in rows for name in re.findall(r"`(\w+)/?`", names)}


LEVEL = levels(PAGE.read_text())
LEVEL["errors"] = -2  # of layer 0, and open to the rest of it
LEVEL["places"] = -1  # the same; it imports the errors
LEVEL["sections"] = -1  # the same; of them the configuration is made
LEVEL["containers"] = -1  # of layer 0, and open to batch.py, which holds them
LEVEL["_torchvision"] = 0  # for clinical/__init__.py alone

# Evaluation works on a table of predictions from any model: layer 0 only (of which batch.py holds
# tensors), and no torch.
CONFINED = {"evaluation": {"errors", "places", "calibration", "censoring", "config"}}
FORBIDDEN_PACKAGES = {"evaluation": {"torch", "torchvision", "pytorch_lightning", "torchmetrics"}}

MAX_LINES = 400


def units(package: Path) -> dict[Path, str]:
    """The files of a package, each with the file or folder of the top that it belongs to."""
    return {
        path: path.relative_to(package).parts[0].removesuffix(".py")
        for path in sorted(package.rglob("*.py"))
        if path != package / "__init__.py"
    }


def imported_modules(source: str) -> set[str]:
    """Every module that a source names in an import, wherever in the file it stands."""
    modules: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level:
            modules.add("." * node.level + (node.module or ""))
        elif isinstance(node, ast.ImportFrom):
            # `from clinical import cohort` names clinical.cohort.
            modules |= {f"{node.module}.{alias.name}" for alias in node.names}
    return modules


def may_import(unit: str) -> set[str]:
    lower = {name for name, level in LEVEL.items() if level < LEVEL[unit]}
    return lower & CONFINED.get(unit, lower) | {unit}


def broken_rules(package: Path) -> list[str]:
    """What breaks the layers, one sentence each."""
    found = set()
    for path, unit in units(package).items():
        where = path.relative_to(package).as_posix()
        if unit not in LEVEL:
            found.add(f"{where}: {unit} has no layer; give it one in docs/architecture.md")
            continue
        for module in imported_modules(path.read_text()):
            top, _, rest = module.partition(".")
            if top == "clinical":
                top = rest.partition(".")[0]
                is_allowed = top in may_import(unit)
            else:
                is_allowed = top != "" and top not in FORBIDDEN_PACKAGES.get(unit, set())
            if not is_allowed:
                found.add(f"{where}: {unit} may not import {top or module}")
    return sorted(found)


def test_a_file_imports_from_lower_layers_or_its_own_folder():
    assert broken_rules(PACKAGE) == []


def test_no_file_is_longer_than_four_hundred_lines():
    lengths = {path: len(path.read_text().splitlines()) for path in PACKAGE.rglob("*.py")}
    assert {path.name: n for path, n in lengths.items() if n > MAX_LINES} == {}


def test_no_file_or_folder_is_a_bag_of_leftovers():
    names = {path.stem for path in PACKAGE.rglob("*")}
    assert names.isdisjoint({"base", "common", "helpers", "misc", "utils", "util"})


def test_no_module_of_the_top_level_has_the_name_of_a_public_verb():
    # Importing it would put the module where the verb was.
    assert set(units(PACKAGE).values()).isdisjoint(clinical.__all__)


@pytest.mark.parametrize(
    ("file", "source", "rule"),
    [
        ("cohort/store.py", "import clinical.model", "cohort may not import model"),
        ("cohort/store.py", "from clinical import model", "cohort may not import model"),
        ("cohort/store.py", "def f():\n    from clinical.cli import main", "may not import cli"),
        (
            "graph/memory.py",
            "from clinical.encoders.mlp import MLP",
            "graph may not import encoders",
        ),
        ("datamodule.py", "from clinical.preparation import f", "may not import preparation"),
        ("objectives/edges.py", "from clinical.model import Model", "may not import model"),
        ("pipeline.py", "import clinical.cli", "pipeline may not import cli"),
        ("errors.py", "import clinical.config", "errors may not import config"),
        ("evaluation/report.py", "import torch.nn", "evaluation may not import torch"),
        ("evaluation/report.py", "import clinical.batch", "evaluation may not import batch"),
        ("evaluation/report.py", "import clinical.cohort", "evaluation may not import cohort"),
        ("cohort/store.py", "from .. import errors", "may not import .."),
        ("cohort/store.py", "from . import window", "may not import ."),
        ("cohort/store.py", "from clinical import run", "cohort may not import run"),
        ("errors.py", "import clinical", "errors may not import clinical"),
        ("helpers.py", "", "helpers has no layer"),
    ],
)
def test_a_planted_violation_is_found(tmp_path, file, source, rule):
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text(source)
    (found,) = broken_rules(tmp_path)
    assert found.startswith(f"{file}: ")
    assert rule in found


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("cohort/store.py", "from clinical.cohort.window import cut\nimport clinical.extract.meds"),
        ("cohort/store.py", "import torch, clinicalist\nfrom clinical.errors import SchemaError"),
        ("evaluation/report.py", "import numpy\nfrom clinical.calibration import fit"),
        ("cli.py", "from clinical.pipeline import Run"),
        ("config.py", "from clinical.errors import ConfigError"),
    ],
)
def test_what_the_layers_allow_is_let_through(tmp_path, file, source):
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text(source)
    assert broken_rules(tmp_path) == []
