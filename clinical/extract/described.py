"""What codes.parquet says of codes in words: a description, and of a variable its unit."""

from clinical.extract.schema import Extract
from clinical.extract.tables import collect, scan_file

from collections.abc import Collection

import meds
import polars as pl

WORDS = ("description", "unit")


def described(extract: Extract, codes: Collection[str]) -> dict[str, dict[str, str]]:
    """Code -> `description` and `unit`, as far as metadata/codes.parquet gives them.

    MEDS knows no unit: a column of that name counts where it holds texts.

    Args:
        extract: whose table is read.
        codes: those wanted.
    """
    path = extract.path / meds.code_metadata_filepath
    if not path.exists():
        return {}
    rows = scan_file(path, where=meds.code_metadata_filepath)
    columns = rows.collect_schema()
    texts = [n for n in WORDS if isinstance(columns.get(n), pl.String | pl.Categorical | pl.Enum)]
    if "code" not in columns or not texts:
        return {}
    wanted = rows.select("code", *(pl.col(name).cast(pl.String) for name in texts))
    found = {}
    for code, *said in collect(wanted, where=meds.code_metadata_filepath).iter_rows():
        words = {name: text for name, text in zip(texts, said, strict=True) if text}
        if code in codes and words:
            found[code] = words
    return found
