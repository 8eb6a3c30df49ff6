"""The JSON descriptions of the tables say what the code does."""

from clinical.extract.tables import CODES, EDGES, EVENTS, LABELS, SAMPLES, SPLITS, Table

import importlib.resources
import json

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
    "predictions",
    "drift",
    "explanations",
    "explained_modalities",
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


def test_nothing_else_lies_in_the_folder():
    files = {entry.name for entry in FOLDER.iterdir() if entry.name.endswith(".json")}
    assert files == {f"{name}.json" for name in (*TABLES, *OUTPUTS, "variables")}
