"""The JSON descriptions of the tables say what the code does."""

from clinical.extract.importers.flat.accounts import REJECTS_SCHEMA
from clinical.extract.tables import CODES, EDGES, EVENTS, LABELS, SAMPLES, SPLITS, Table

import importlib.resources
import json
import runpy
from pathlib import Path

import pyarrow as pa
import pytest

FOLDER = importlib.resources.files("clinical.data_schemas")
TABLES = {
    "events": EVENTS,
    "codes": CODES,
    "subject_splits": SPLITS,
    "labels": LABELS,
    "samples": SAMPLES,
    "edges": EDGES,
}
OUTPUTS = (
    "rejects",
    "predictions",
    "drift",
    "explanations",
    "explained_modalities",
    "explained_variables",
    "explained_words",
    "explained_regions",
)


def arrow_type(dtype: str) -> pa.DataType:
    if dtype.startswith("list<"):
        return pa.list_(arrow_type(dtype.removeprefix("list<").removesuffix(">")))
    return pa.type_for_alias(dtype)


def read(name: str) -> dict:
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", TABLES)
def test_the_description_of_a_table_is_the_table_that_is_read(name):
    table: Table = TABLES[name]
    columns = read(name)["columns"]
    assert [c["name"] for c in columns] == table.schema.names
    assert [arrow_type(c["dtype"]) for c in columns] == table.schema.types
    assert tuple(c["name"] for c in columns if c["required"]) == table.required
    assert tuple(c["name"] for c in columns if not c["nullable"]) == table.never_null


@pytest.mark.parametrize("name", [*TABLES, *OUTPUTS])
def test_every_table_and_column_is_described(name):
    content = read(name)
    assert content["table"] == name
    for described in (content, *content["columns"]):
        assert len(described["description"]) > 10
    assert content["path"]


def test_the_description_of_the_rejects_is_what_an_import_writes():
    columns = read("rejects")["columns"]
    assert [c["name"] for c in columns] == REJECTS_SCHEMA.names
    assert [arrow_type(c["dtype"]) for c in columns] == REJECTS_SCHEMA.types


def test_the_page_of_tables_is_rendered_from_the_descriptions():
    docs = Path(__file__).parents[2] / "docs"
    render = runpy.run_path(str(docs / "render_tables.py"))["render"]
    assert (docs / "tables.md").read_text(encoding="utf-8") == render()


def test_nothing_else_lies_in_the_folder():
    files = {entry.name for entry in FOLDER.iterdir() if entry.name.endswith(".json")}
    assert files == {f"{name}.json" for name in (*TABLES, *OUTPUTS, "variables")}
