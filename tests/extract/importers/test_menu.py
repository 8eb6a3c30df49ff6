"""What every importer of the menu keeps to."""

from clinical.errors import ConfigError
from clinical.extract.importers import IMPORTERS
from clinical.import_commands import KNOWN

import inspect
from pathlib import Path

import pytest


@pytest.mark.parametrize("name", IMPORTERS)
def test_an_importer_has_the_signature_of_the_command_line(name):
    found = inspect.signature(IMPORTERS[name]).parameters.values()
    assert [(p.name, p.kind.name, p.default) for p in found] == [
        ("source", "POSITIONAL_OR_KEYWORD", inspect.Parameter.empty),
        ("out", "POSITIONAL_OR_KEYWORD", inspect.Parameter.empty),
        ("outcomes", "KEYWORD_ONLY", None),
        ("acknowledge_identifiers", "KEYWORD_ONLY", False),
        ("workers", "KEYWORD_ONLY", 1),
    ]


@pytest.mark.parametrize("name", IMPORTERS)
def test_a_missing_source_is_refused_and_nothing_is_left(name, tmp_path):
    with pytest.raises(ConfigError, match="there is no"):
        IMPORTERS[name](tmp_path / "absent", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", IMPORTERS)
def test_a_folder_with_files_is_not_overwritten(name, tmp_path):
    (tmp_path / "mine").write_text("x")
    with pytest.raises(ConfigError, match="exists and is not empty"):
        IMPORTERS[name](Path("source"), tmp_path)


def test_the_command_line_knows_every_importer_of_the_menu():
    assert list(KNOWN) == list(IMPORTERS)
