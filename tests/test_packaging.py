"""What is installed is what lies here, from a wheel elsewhere and in the editable environment."""

import clinical

import ast
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SOURCES = ["pyproject.toml", "LICENSE", "README.md", "clinical", "configs", "data_schemas"]

# Prints where clinical was found and every file of it that users or the program read by name.
REPORT = """
import importlib.resources, json, clinical

def files(package):
    root = importlib.resources.files(package)
    found = [root, *(entry for entry in root.iterdir() if entry.is_dir())]
    return {
        f"{folder.name}/{entry.name}": entry.read_text()
        for folder in found
        for entry in folder.iterdir()
        if entry.name.endswith((".yaml", ".json", "py.typed"))
    }

print(json.dumps({
    "home": clinical.__file__,
    "configs": str(importlib.resources.files("clinical.configs")),
    "version": clinical.__version__,
    "files": files("clinical.configs") | files("clinical.data_schemas"),
    "typed": importlib.resources.files("clinical").joinpath("py.typed").is_file(),
}))
"""


def report(folder: Path, **environment: str) -> dict[str, object]:
    """What a fresh interpreter finds, started in a folder without the sources."""
    done = subprocess.run(
        [sys.executable, "-c", REPORT],
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def resources(root: Path) -> dict[str, str]:
    return {
        f"{path.parent.name}/{path.name}": path.read_text()
        for folder in [root / "configs", root / "data_schemas"]
        for path in folder.rglob("*")
        if path.suffix in {".yaml", ".json"}
    }


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what the wheel is built from, so that building leaves nothing in the checkout."""
    copy = tmp_path_factory.mktemp("source")
    for name in SOURCES:
        path = ROOT / name
        if path.is_dir():
            shutil.copytree(path, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif path.exists():
            shutil.copy(path, copy)
    return copy


@pytest.fixture(scope="module")
def installed_wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds the wheel's content and nothing else."""
    pip = [sys.executable, "-m", "pip", "--quiet", "--no-input"]
    offline = ["--no-deps", "--no-build-isolation"]
    target = tmp_path_factory.mktemp("site")
    subprocess.run([*pip, "install", *offline, "--target", target, source], check=True)
    return target


def test_the_wheel_installed_elsewhere_brings_its_configs_and_schemas(
    installed_wheel, source, tmp_path
):
    found = report(tmp_path, PYTHONPATH=str(installed_wheel))
    assert found["home"] == str(installed_wheel / "clinical" / "__init__.py")
    assert found["configs"] == str(installed_wheel / "clinical" / "configs")
    assert found["version"] == clinical.__version__
    assert found["files"] == resources(source)
    assert found["typed"]


def test_the_wheel_installed_elsewhere_runs_the_command(installed_wheel, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "clinical.cli", "--help"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(installed_wheel)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "synthesize" in done.stdout


def test_the_wheel_brings_every_module_and_no_test(installed_wheel, source):
    here = {path.relative_to(source).as_posix() for path in (source / "clinical").rglob("*.py")}
    there = {path.relative_to(installed_wheel).as_posix() for path in installed_wheel.rglob("*.py")}
    assert there - here == {"clinical/configs/__init__.py", "clinical/data_schemas/__init__.py"}
    assert here <= there


def test_the_wheel_names_its_licence_and_its_command(installed_wheel):
    (information,) = installed_wheel.glob("clinical-*.dist-info")
    assert "License-Expression: Apache-2.0" in (information / "METADATA").read_text()
    assert "Apache License" in (information / "licenses" / "LICENSE").read_text()
    assert "clinical = clinical.cli:main" in (information / "entry_points.txt").read_text()


def test_the_environment_of_the_tests_reads_the_configs_where_they_are_edited(tmp_path):
    found = report(tmp_path, PYTHONPATH="")
    assert found["home"] == str(ROOT / "clinical" / "__init__.py")
    assert found["configs"] == str(ROOT / "configs")
    assert found["files"] == resources(ROOT)


def test_every_folder_with_modules_is_a_listed_package():
    folders = {path.parent.relative_to(ROOT) for path in (ROOT / "clinical").rglob("*.py")}
    missing = [folder for folder in folders if not (ROOT / folder / "__init__.py").exists()]
    assert missing == []
    expected = {".".join(folder.parts) for folder in folders}
    expected |= {"clinical.configs", "clinical.data_schemas"}
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == expected


def test_the_help_of_the_command_imports_no_heavy_library(tmp_path):
    program = """
import sys
from clinical.cli import main
sys.argv = ["clinical", "--help"]
try:
    main()
finally:
    heavy = {"matplotlib", "numpy", "pandas", "polars", "pyarrow", "sklearn", "torch"}
    print("heavy:", sorted(heavy & set(sys.modules)), file=sys.stderr)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.strip() == "heavy: []"
    assert "Usage" in done.stdout


# Dependencies: ranges with reasons, and pins inside them


OPTIONAL = [name for name in PROJECT["project"]["optional-dependencies"] if name != "test"]
TESTED = [name for name in OPTIONAL if name != "minilm"]
IMPORTED = ["trees", "lora", "dicom", "nifti", "serve", "aces"]


def requirements(extras: list[str]) -> dict[str, Requirement]:
    table = PROJECT["project"]
    lines = [*table["dependencies"]]
    for extra in extras:
        lines += table["optional-dependencies"][extra]
    found = [Requirement(line) for line in lines]
    return {each.name: each for each in found if each.name != "clinical"}


def pins(file: str) -> dict[str, str]:
    lines = (ROOT / file).read_text().splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def test_every_pin_lies_in_its_range_and_every_range_has_a_pin():
    ranges = requirements(list(PROJECT["project"]["optional-dependencies"]))
    exact = pins("constraints.txt")
    assert set(exact) == set(ranges)
    assert [name for name in ranges if not ranges[name].specifier.contains(exact[name])] == []


def test_the_lowest_versions_are_the_lower_bounds():
    bounds = {
        name: next(each.version for each in requirement.specifier if each.operator == ">=")
        for name, requirement in requirements(TESTED).items()
    }
    lowest = pins("constraints-lowest.txt")
    assert {name: Version(v) for name, v in lowest.items()} == {
        name: Version(v) for name, v in bounds.items()
    }


def test_what_the_package_imports_is_declared_and_what_is_declared_is_imported():
    nodes = [
        node
        for path in (ROOT / "clinical").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
    ]
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
    modules = {name.split(".")[0] for name in names} - sys.stdlib_module_names - {"clinical"}
    # es-aces holds polars below 2, so that not every environment of the tests has it.
    owners = {**importlib.metadata.packages_distributions(), "aces": ["es-aces"]}
    used = {canonicalize_name(owners[module][0]) for module in modules}
    assert used == set(requirements(IMPORTED))


def test_both_generations_of_polars_and_pandas_are_admitted():
    ranges = requirements([])
    for name, versions in {"polars": ["1.44", "2.1"], "pandas": ["2.3.3", "3.1"]}.items():
        assert all(ranges[name].specifier.contains(version) for version in versions)


def test_every_dependency_has_its_reason_beside_it():
    text = (ROOT / "pyproject.toml").read_text().split("dependencies = [", 1)[1]
    text = text.split("\ntest = [", 1)[0]
    lines = re.findall(r'^    "(?!clinical\[)[^"]+",(.*)$', text, flags=re.MULTILINE)
    assert len(lines) == len(requirements(OPTIONAL))
    assert [line for line in lines if not re.match(r"\s+# \S+ \S+", line)] == []
