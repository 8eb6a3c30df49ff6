"""Delimited text block by block, against Python's own reader."""

from clinical.errors import SchemaError
from clinical.extract.importers.flat import delimited
from clinical.extract.importers.flat.files import SourceFile
from clinical.extract.importers.flat.mapping import FileRule
from clinical.extract.importers.flat.streams import WatchedQuotes

import csv
import io
import itertools

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

RULE = FileRule(files=("t.csv",))
CELLS = st.text(st.sampled_from("ab1,\"\n' é"), max_size=6)
RECORDS = st.lists(st.lists(CELLS, min_size=1, max_size=4), max_size=30)


def read(path, rule=RULE, columns=("a", "b", "c")):
    file = SourceFile(path, path.name, {})
    header = delimited.read_header(file, rule)
    blocks = list(delimited.read_blocks(file, rule, header, columns, ()))
    frames = [pl.from_arrow(block.table) for block in blocks]
    frame = pl.concat(frames) if frames else pl.DataFrame()
    rows = np.concatenate([block.rows for block in blocks]) if blocks else np.empty(0)
    return frame, rows.tolist(), [row for block in blocks for row in block.ragged]


@pytest.mark.parametrize("block_bytes", [64, 2**20])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(records=RECORDS)
def test_records_and_their_numbers_are_those_of_a_plain_reader(
    tmp_path, monkeypatch, block_bytes, records
):
    monkeypatch.setattr(delimited, "BLOCK_BYTES", block_bytes)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL)
    writer.writerows([["a", "b", "c"], *records])
    (tmp_path / "t.csv").write_text(text.getvalue(), newline="")
    frame, rows, ragged = read(tmp_path / "t.csv")
    whole = {n: record for n, record in enumerate(records, start=1) if len(record) == 3}
    assert dict(zip(rows, frame.rows(), strict=True)) == {
        n: tuple(cell or None for cell in record) for n, record in whole.items()
    }
    assert ragged == [n for n, record in enumerate(records, start=1) if len(record) != 3]


def test_a_header_over_several_lines_counts_as_none_of_the_records(tmp_path):
    (tmp_path / "t.csv").write_text('"a",b,"c\nc"\n1,2,3\n4,5\n6,7,8\n')
    frame, rows, ragged = read(tmp_path / "t.csv", columns=("a", "c\nc"))
    assert frame.rows() == [("1", "3"), ("6", "8")]
    assert (rows, ragged) == ([1, 3], [2])


def test_empty_lines_before_the_header_are_passed_over(tmp_path):
    (tmp_path / "t.csv").write_text("\n\na,b,c\n1,2,3\n4,5\n")
    frame, rows, ragged = read(tmp_path / "t.csv")
    assert frame.rows() == [("1", "2", "3")]
    assert (rows, ragged) == ([1], [2])


def test_a_mark_within_a_plain_cell_is_only_a_mark(tmp_path):
    (tmp_path / "t.csv").write_text('a,b,c\n1,5" tube,3\n4,5,6\n')
    frame, _, _ = read(tmp_path / "t.csv")
    assert frame["b"].to_list() == ['5" tube', "5"]


def test_a_mark_that_swallows_lines_in_a_column_nobody_reads_is_told(tmp_path):
    (tmp_path / "t.csv").write_text('a,b,c\n1,2,"x\n3,4,5\n6,7,"y\n')
    with pytest.raises(SchemaError, match="record 1 has a quotation mark within a quoted cell"):
        read(tmp_path / "t.csv", columns=("a",))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b'\xef\xbb\xbf"a","b"\n"1","2"\n', False),
        (b'"a ""b"" c",d\n', False),
        (b'a,"b\nc"\n', False),
        (b'"a"b,c\n', True),
        (b'a"b,c\n', True),
        (b'"a\n', True),
    ],
)
def test_marks_that_stand_around_cells_are_not_suspicious(content, expected):
    watched = WatchedQuotes(io.BytesIO(content), ",")
    watched.read()
    assert watched.is_suspicious == expected


@given(
    text=st.text(st.sampled_from('",\nab'), max_size=40),
    cuts=st.lists(st.integers(0, 40), max_size=4),
)
def test_a_mark_is_suspicious_wherever_the_stream_is_cut(text, cuts):
    edges = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    whole = WatchedQuotes(io.BytesIO(text.encode()), ",")
    whole.read()
    pieces = WatchedQuotes(io.BytesIO(text.encode()), ",")
    for begin, end in itertools.pairwise(edges):
        pieces.read(end - begin)
    assert pieces.is_suspicious == whole.is_suspicious
    if not whole.is_suspicious:
        list(csv.reader(io.StringIO(text, newline=""), strict=True))  # raises nothing


def test_records_of_no_column_that_is_asked_for_are_still_counted(tmp_path):
    (tmp_path / "t.csv").write_text("a,b,c\n1,2,3\n4,5,6\n")
    _, rows, _ = read(tmp_path / "t.csv", columns=("z",))
    assert rows == [1, 2]
