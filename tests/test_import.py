"""`import clinical` does one thing, and the repair of torchvision's import does no other."""

import clinical

import ast
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

# Stands in for torch: remembers what was declared, and forgets it with the Library, as torch does.
FAKE_TORCH = {
    "torch/__init__.py": "import torch.library",
    "torch/library.py": """
        import weakref

        _alive = weakref.WeakSet()

        class Library:
            def __init__(self, namespace, kind):
                assert (namespace, kind) == ("torchvision", "DEF")
                self.schemas = []
                _alive.add(self)

            def define(self, schema):
                self.schemas.append(schema.split("(")[0])

        def declared():
            return sorted(name for library in _alive for name in library.schemas)
    """,
}
# Stands in for torchvision's wheel beside a CPU build of torch: a submodule that imports well, then
# one that needs the operators, and is missed as an attribute where it counts as imported too soon.
BROKEN_TORCHVISION = {
    "torchvision/__init__.py": """
        from torchvision import extension, operators, models

        runs = extension.runs
    """,
    "torchvision/extension.py": """
        import builtins

        runs = builtins.runs = getattr(builtins, "runs", 0) + 1
    """,
    "torchvision/operators.py": """
        import torch.library

        if torch.library.declared() != ["nms", "qnms"]:
            raise RuntimeError("operator torchvision::nms does not exist")
    """,
    "torchvision/models.py": "",
}


@pytest.fixture
def fakes(tmp_path: Path):
    """Writes modules to a folder that the programs of this test find before the real ones."""

    def write(*packages: dict[str, str]) -> None:
        for name, source in (item for package in packages for item in package.items()):
            path = tmp_path / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(textwrap.dedent(source))

    return write


@pytest.fixture
def python(tmp_path: Path):
    """Runs a program in a fresh interpreter; returns what it printed."""

    def run(program: str) -> str:
        script = tmp_path / "program.py"
        script.write_text(textwrap.dedent(program))
        environment = os.environ | {"PYTHONPATH": str(Path(clinical.__file__).parents[1])}
        done = subprocess.run(
            [sys.executable, str(script)], capture_output=True, text=True, env=environment
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    return run


def test_importing_clinical_only_puts_one_finder_in_front_of_the_import_system(python):
    program = """
        import importlib.abc, json, logging, os, random, sys, threading, typing, warnings

        def state():
            return {
                "warnings": [str(entry) for entry in warnings.filters],
                "environment": dict(os.environ),
                "random": hash(random.getstate()),
                "logging": [len(logging.root.handlers), logging.root.level],
                "path": list(sys.path),
                "recursion": sys.getrecursionlimit(),
                "threads": threading.active_count(),
                "hooks": [id(finder) for finder in sys.meta_path],
            }

        before = state()
        import clinical
        after = state()
        added = after["hooks"][: -len(before["hooks"])]
        after["hooks"] = after["hooks"][len(added) :]
        heavy = {name.split(".")[0] for name in sys.modules} & {
            "matplotlib", "numpy", "pandas", "polars", "pyarrow", "pydantic", "pytorch_lightning",
            "sklearn", "torch", "torchvision", "transformers", "typer",
        }
        print(json.dumps([before == after, len(added), sorted(heavy)]))
    """
    assert json.loads(python(program)) == [True, 1, []]


def test_everything_that_imports_torchvision_works_after_clinical(python):
    program = """
        import clinical
        import pytorch_lightning, torchmetrics
        from transformers import BertModel
        import torch, torchvision
        from torchvision.transforms import v2

        network = torchvision.models.resnet18(num_classes=7).eval()
        scores = network(v2.Resize(64)(torch.zeros(1, 3, 80, 80)))
        print(list(scores.shape), BertModel.__name__, type(torchvision.__loader__).__name__)
    """
    assert python(program) == "[1, 7] BertModel SourceFileLoader"


def test_the_missing_operators_are_declared_and_the_import_runs_again(python, fakes):
    fakes(FAKE_TORCH, BROKEN_TORCHVISION)
    program = """
        import clinical, gc, torchvision, torch.library, torchvision.models

        gc.collect()
        assert torchvision.models and torchvision.operators
        print(torchvision.runs, torch.library.declared())
    """
    assert python(program) == "2 ['nms', 'qnms']"


def test_an_import_that_failed_before_clinical_works_after_it(python, fakes):
    fakes(FAKE_TORCH, BROKEN_TORCHVISION)
    program = """
        import sys
        try:
            import torchvision
        except RuntimeError:
            assert "torchvision.extension" in sys.modules
        import clinical
        from torchvision.models import __name__ as name
        print(name)
    """
    assert python(program) == "torchvision.models"


def test_a_healthy_torchvision_is_imported_once_and_torch_not_at_all(python, fakes):
    fakes(
        {
            "torch/__init__.py": "raise AssertionError('the repair ran')",
            "torchvision/__init__.py": "from torchvision import models; loaded = [1]",
            "torchvision/models.py": "",
        }
    )
    program = """
        import clinical, torchvision, sys
        print(torchvision.loaded, "torch" in sys.modules, type(torchvision.__loader__).__name__)
    """
    assert python(program) == "[1] False SourceFileLoader"


def test_a_torchvision_imported_before_clinical_is_left_as_it_is(python, fakes):
    fakes({"torchvision/__init__.py": ""})
    program = """
        import torchvision
        before = vars(torchvision).copy()
        import clinical
        import torchvision as after
        print(after is torchvision and vars(after) == before)
    """
    assert python(program) == "True"


@pytest.mark.parametrize(
    "failure",
    [
        "RuntimeError('operator torchvision::roi_align does not exist')",
        "RuntimeError('CUDA versions differ')",
        "ImportError('operator torchvision::nms does not exist')",
    ],
)
def test_another_error_passes_through_unchanged(python, fakes, failure):
    fakes({"torch/__init__.py": "raise AssertionError", "torchvision/__init__.py": ""})
    fakes({"torchvision/__init__.py": f"import builtins; builtins.error = {failure}; raise error"})
    program = """
        import clinical, builtins, sys
        try:
            import torchvision
        except Exception as error:
            same = error is builtins.error
            print(same, error.__context__, "torch" in sys.modules, "torchvision" in sys.modules)
    """
    assert python(program) == "True None False False"


def test_a_repair_that_does_not_help_raises_the_error_of_the_second_run(python, fakes):
    fakes(FAKE_TORCH, BROKEN_TORCHVISION)
    fakes({"torchvision/models.py": "raise RuntimeError('something else')"})
    program = """
        import clinical, sys
        try:
            import torchvision
        except RuntimeError as error:
            print(error, "torchvision" in sys.modules)
    """
    assert python(program) == "something else False"


def test_looking_for_torchvision_does_not_import_it(python, fakes):
    fakes({"torchvision/__init__.py": "raise AssertionError('imported')"})
    program = """
        import clinical, importlib.util, sys
        spec = importlib.util.find_spec("torchvision")
        source = spec.loader.get_source("torchvision")
        print(spec.name, "AssertionError" in source, "torchvision" in sys.modules)
    """
    assert python(program) == "torchvision True False"


def test_an_absent_torchvision_is_reported_as_absent(python):
    program = """
        import clinical, importlib.util, sys
        sys.path[:] = [entry for entry in sys.path if "site-packages" not in entry]
        print(importlib.util.find_spec("torchvision"))
        try:
            import torchvision
        except ModuleNotFoundError as error:
            print(error)
    """
    assert python(program) == "None\nNo module named 'torchvision'"


def test_installing_twice_adds_one_finder_and_two_copies_do_not_ask_each_other_forever(
    python, fakes
):
    fakes(FAKE_TORCH, BROKEN_TORCHVISION)
    program = """
        import clinical, importlib, sys
        from clinical import _torchvision

        before = list(sys.meta_path)
        _torchvision.install()
        assert sys.meta_path == before
        importlib.reload(_torchvision).install()  # a class of another identity: two finders now
        assert len(sys.meta_path) == len(before) + 1
        import torchvision
        print(torchvision.runs)
    """
    assert python(program) == "2"


def test_threads_that_import_at_once_get_one_module(python, fakes):
    fakes(FAKE_TORCH, BROKEN_TORCHVISION)
    program = """
        import clinical, importlib
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(16) as pool:
            modules = set(pool.map(importlib.import_module, ["torchvision"] * 16))
        print(len(modules), [module.runs for module in modules])
    """
    assert python(program) == "1 [2]"


def test_a_spawned_worker_can_import_torchvision(python, fakes):
    fakes(FAKE_TORCH, BROKEN_TORCHVISION)
    # What a data loader sends its workers is an object of clinical; the worker imports its module.
    program = """
        import multiprocessing
        from clinical.errors import ConfigError

        def answer(error):
            import torchvision
            return torchvision.runs

        if __name__ == "__main__":
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                print(pool.apply(answer, [ConfigError("x")]))
    """
    assert python(program) == "2"


def test_every_public_name_is_listed_and_a_misspelt_one_is_an_attribute_error():
    assert set(clinical.__all__) <= set(dir(clinical))
    with pytest.raises(AttributeError, match="no attribute 'evalute'"):
        clinical.evalute  # noqa: B018


@pytest.mark.parametrize("name", clinical.__all__)
def test_a_public_name_is_what_its_module_defines(name):
    assert getattr(clinical, name) is not None
    assert name == "__version__" or getattr(clinical, name).__module__.startswith("clinical.")


def test_type_checkers_see_every_public_name():
    tree = ast.parse(Path(clinical.__file__).read_text())
    imported = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert set(clinical.__all__) - {"__version__"} <= imported
