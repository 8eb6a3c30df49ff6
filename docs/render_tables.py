"""Write docs/tables.md, the tables that the toolkit reads and writes, from data_schemas/.

python docs/render_tables.py
"""

import json
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
SCHEMAS = FOLDER.parent / "data_schemas"
INPUTS = ("events", "codes", "subject_splits", "labels", "samples", "edges")
HEAD = """# Tables

Every table that the toolkit reads or writes, rendered from `data_schemas/` by
`python docs/render_tables.py`. `clinical validate` checks those of an extract. All are Parquet; the
types are those of Arrow. A column that is optional may be absent, one without nulls has a value in
every row.
"""


def render() -> str:
    """The page."""
    others = {path.stem for path in SCHEMAS.glob("*.json")} - {*INPUTS, "variables"}
    parts = [HEAD, "## Of an extract\n", *map(_table, INPUTS)]
    parts += ["## Written by the toolkit\n", *map(_table, sorted(others)), _variables()]
    return "\n".join(parts)


def _table(name: str) -> str:
    content = json.loads((SCHEMAS / f"{name}.json").read_text(encoding="utf-8"))
    lines = [f"### {name}\n", f"`{content['path']}`: {content['description']}.\n"]
    lines += ["| column | type | | meaning |", "|---|---|---|---|"]
    for column in content["columns"]:
        notes = [] if column["required"] else ["optional"]
        notes += [] if column["nullable"] else ["no nulls"]
        cells = (f"`{column['name']}`", column["dtype"], ", ".join(notes), column["description"])
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _variables() -> str:
    variables = json.loads((SCHEMAS / "variables.json").read_text(encoding="utf-8"))
    lines = ["## Variables\n", "Codes whose values outside the range are no measurements.\n"]
    lines += ["| code | unit | range | LOINC | meaning |", "|---|---|---|---|---|"]
    for one in variables:
        low, high = one["plausible"]
        codes = ", ".join(f"`{code}`" for code in (one["code"], *one.get("synonyms", ())))
        loinc = one.get("loinc", "")
        row = (codes, one["unit"], f"{low:g} to {high:g}", loinc, one["description"])
        lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    (FOLDER / "tables.md").write_text(render(), encoding="utf-8")
