"""Tables as they come out of hospitals: each gives its error, or is counted as left out."""

from clinical.errors import ClinicalError, ConfigError, SchemaError
from clinical.extract.importers.flat import import_flat
from clinical.extract.validate import validate

import codecs
import gzip
from datetime import datetime

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

HEADER = b"subject_id,time,code,value\n"
GOOD = b"1,2020-01-01 10:00:00,HR,80\n"
ZONED = "the time has a zone, and the mapping no time_zone"
LONG_CODE = "the code has over 200 characters, or a line break"
TABLE = {
    "files": "t.csv",
    "time": "time",
    "events": [{"code": "{code}", "value": "value"}],
}


class Result:
    """What an import made: values in order, reasons with their counts."""

    def __init__(self, out, counts):
        self.events = pl.read_parquet(out / "data" / "*.parquet")
        self.rejects = pl.read_parquet(out / "import" / "rejects.parquet")
        self.values = self.events["numeric_value"].to_list()
        self.times = self.events["time"].to_list()
        self.reasons = dict(self.rejects["reason"].value_counts().iter_rows())
        assert counts["t: rows read"] == counts["t: rows imported"] + (
            self.rejects.filter("row_left_out", pl.col("row") > 0).select("file", "row").n_unique()
        )


@pytest.fixture
def load(tmp_path):
    """Import one table: its bytes, its name, what the mapping says and validate may find."""

    def do(content, name="t.csv", *, mapping=None, finds="splits", **table):
        source = tmp_path / "source"
        source.mkdir(exist_ok=True)
        if content is not None:
            (source / name).write_bytes(content)
        raw = {"name": "bad", "subject": "subject_id", "splits": None, **(mapping or {})}
        raw["tables"] = {"t": {**TABLE, **table}}
        (tmp_path / "m.yaml").write_text(yaml.safe_dump(raw))
        try:
            report = import_flat(tmp_path / "m.yaml", source, tmp_path / "out")
        except ClinicalError:
            # Nothing half-written is left, not even hidden.
            assert sorted(p.name for p in tmp_path.iterdir()) == ["m.yaml", "source"]
            raise
        found = {finding.check for finding in validate(tmp_path / "out").findings}
        assert found <= {"splits", finds}
        return Result(tmp_path / "out", report.counts)

    return do


def parquet(**columns):
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue().to_pybytes()


# What a file may be without harm: it is read as it is meant.


@pytest.mark.parametrize(
    ("content", "table"),
    [
        (codecs.BOM_UTF8 + HEADER + GOOD, {}),
        (HEADER.replace(b"\n", b"\r\n") + GOOD.replace(b"\n", b"\r\n"), {}),
        (HEADER + GOOD.rstrip(b"\n"), {}),
        (HEADER + b"\n" + GOOD + b"\n\n", {}),
        (HEADER.replace(b",", b" , ") + GOOD, {}),
        (b'"subject_id","time","code","value"\n"1","2020-01-01 10:00:00","HR","80"\n', {}),
        (HEADER + b"1.0,2020-01-01T10:00:00.000,HR,8e1\n", {}),
        (HEADER + b"1, 2020-01-01 10:00 , HR , 80.0 \n", {}),
        ((HEADER + GOOD).decode().encode("utf-16"), {"encoding": "utf-16"}),
        ((HEADER + GOOD).replace(b",", b";"), {"separator": ";"}),
        ((HEADER + GOOD).replace(b",", b"\t"), {"separator": "\t"}),
        (GOOD, {"header": ["subject_id", "time", "code", "value"]}),
        (b",subject_id,time,code,value\n0," + GOOD, {}),
    ],
    ids=[
        *("byte order mark", "CRLF", "no last newline", "empty lines", "spaced header", "quoted"),
        *("other spellings", "spaced cells", "UTF-16", "semicolons", "tabs", "no header", "index"),
    ],
)
def test_a_file_that_only_looks_different_is_read_as_it_is_meant(load, content, table):
    made = load(content, **table)
    assert made.events.select("subject_id", "time", "code", "numeric_value").rows() == [
        (1, datetime(2020, 1, 1, 10), "HR", 80.0)
    ]
    assert made.reasons == {}


def test_gzipped_text_is_read_by_the_same_pattern(load):
    assert load(gzip.compress(HEADER + GOOD), "t.csv.gz").values == [80.0]


def test_a_text_of_another_encoding_is_read_where_the_mapping_says_which(load):
    content = (HEADER + b"1,2020-01-01,K\xf6rper,80\n") + GOOD
    assert load(content, encoding="latin-1").events["code"].to_list() == ["HR", "Körper"]


# What a file may be that nothing can be read of: one error, and nothing is left.


@pytest.mark.parametrize(
    ("content", "name", "words"),
    [
        (b"", "t.csv", r"t\.csv: is empty, without even a header; copy it again"),
        (b"\n \n", "t.csv", "is empty"),
        (HEADER + b"1,2020-01-01,K\xf6rper,80\n", "t.csv", "encoding: latin-1"),
        (HEADER * 90_000 + b"1,2020-01-01,K\xf6rper,80\n", "t.csv", "encoding: latin-1"),
        (
            (HEADER + GOOD).decode().encode("utf-16"),
            "t.csv",
            "it is UTF-16; write encoding: utf-16",
        ),
        (gzip.compress(HEADER + GOOD), "t.csv", r"it is gzipped; name it \.gz"),
        (b"PK\x03\x04rest", "t.csv", "a ZIP archive or an Excel workbook"),
        (b"\xd0\xcf\x11\xe0rest", "t.csv", "an Excel workbook; save it as CSV"),
        (parquet(subject_id=[1]), "t.csv", r"it is Parquet; name it \.parquet"),
        (HEADER + GOOD, "t.csv.gz", "damaged or incomplete; copy it again"),
        (gzip.compress((HEADER + GOOD) * 9000)[:-9], "t.csv.gz", "damaged or incomplete"),
        (HEADER + GOOD, "t.parquet", "not a complete Parquet file"),
        (parquet(subject_id=[1] * 999)[:-8], "t.parquet", "not a complete Parquet file"),
        (
            HEADER + GOOD + b'1,2020-01-01,"HR,80\n' + GOOD,
            "t.csv",
            "record 2 opens .* never closed",
        ),
        (
            HEADER + GOOD + b'1,2020-01-01,"HR,80\n' + GOOD + b'1,2020-01-01,"HR,80\n',
            "t.csv",
            "record 2 has a quotation mark within a quoted cell",
        ),
        (gzip.compress(HEADER + GOOD + b'1,2020-01-01,"HR,80\n'), "t.csv.gz", "never closed"),
        (b"subject_id;time;code;value\n", "t.csv", "t.csv has no column subject_id"),
        (b"subject_id,time,code,value,value\n1,2020-01-01,HR,80,81\n", "t.csv", "value twice"),
        (HEADER, "t.csv", "no row gives an event; the tables are empty"),
        ((HEADER + GOOD).replace(b"\n", b"\r"), "t.csv", "lines end in CR alone.*save it with LF"),
        (b"x" * 2**18 + HEADER, "t.csv", "its first line is no header"),
    ],
    ids=[
        *("zero bytes", "blank", "not UTF-8", "not UTF-8 late", "UTF-16", "gzip by another name"),
        *("ZIP", "XLS", "Parquet by another name", "no gzip", "cut gzip", "no Parquet"),
        *(
            "cut Parquet",
            "open quote",
            "two open quotes",
            "open quote gzipped",
            "semicolons",
            "repeated column",
            "header alone",
            "CR alone",
            "endless header",
        ),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_with_the_remedy(load, content, name, words):
    with pytest.raises((SchemaError, ConfigError), match=words) as raised:
        load(content, name)
    assert "rper" not in str(raised.value)


def test_a_gzip_bomb_is_stopped(load, monkeypatch):
    monkeypatch.setattr("clinical.extract.importers.flat.streams.FREE_BYTES", 2**20)
    bomb = gzip.compress(HEADER + GOOD * 2**17)
    assert len(bomb) * 200 < len(GOOD) * 2**17
    with pytest.raises(SchemaError, match="unpacks to more than 200 times its size"):
        load(bomb, "t.csv.gz")


def test_a_record_without_an_end_is_stopped(load, monkeypatch):
    monkeypatch.setattr("clinical.extract.importers.flat.delimited.BLOCK_BYTES", 2**16)
    with pytest.raises(SchemaError, match=r"a record is longer than .*never closed"):
        load(HEADER + GOOD + b'1,2020-01-01,"' + b"x" * 2**18 + b'",80\n')


def test_a_table_that_is_there_plain_and_gzipped_is_refused(load, tmp_path):
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "t.csv.gz").write_bytes(gzip.compress(HEADER + GOOD))
    with pytest.raises(SchemaError, match="1 tables are there twice, plain and gzipped"):
        load(HEADER + GOOD)


@pytest.mark.parametrize("pattern", ["/etc/*.csv", "../*.csv", "a/../../t.csv"])
def test_a_pattern_that_leads_out_of_the_source_is_refused(load, pattern):
    with pytest.raises(ConfigError, match="leads out of the source"):
        load(HEADER + GOOD, files=pattern)


def test_a_broken_file_among_those_of_patients_is_called_by_its_number(load, tmp_path):
    (tmp_path / "source").mkdir()
    for name in ("smith-john-1.csv", "smith-john-2.csv"):
        (tmp_path / "source" / name).write_bytes(HEADER + GOOD)
    with pytest.raises(SchemaError, match=r"file 2 of 3, smith-john-\*.csv: not text") as raised:
        load(HEADER + b"\xff", "smith-john-1x.csv", files="smith-john-*.csv")
    assert "1x" not in str(raised.value)


# What a row may be: it is left out with its reason, and the others are read.


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (b"1,2020-01-02,HR\n", "more or fewer cells than the header"),
        (b"1,2020-01-02,HR,80,90\n", "more or fewer cells than the header"),
        (b"1,2020-01-02,HR,80,\n", "more or fewer cells than the header"),
        (b"1,2020-01-02,HR,high\n", "the value is no number"),
        (b'1,2020-01-02,HR,"80,5"\n', "the value is no number"),
        (b'1,2020-01-02,HR,"1,234"\n', "the value is no number"),
        (b"1,2020-01-02,HR,80 bpm\n", "the value is no number"),
        (b"1,2020-01-02,HR,<80\n", "the value is no number"),
        (b"1,2020-01-02,HR,0x50\n", "the value is no number"),
        (b"1,2020-01-02,HR,inf\n", "the value is no number"),
        (b"1,2020-01-02,X,1e300\n", "the value is too large or too small for 32 bits"),
        (b"1,2020-01-02,X,1e-50\n", "the value is too large or too small for 32 bits"),
        (b"1,2020-01-02,X,1.23456e-44\n", "the value is too large or too small for 32 bits"),
        (b"1,2020-01-02,HR,NaN\n", "nothing measured or said"),
        (b"1,2020-01-02,HR,\n", "nothing measured or said"),
        (b"1,2020-01-02,HR,-1\n", "the value is outside the plausible range"),
        (b"1,43832,HR,80\n", "the time is in none of the formats"),
        (b"1,43832.75,HR,80\n", "the time is in none of the formats"),
        (b"1,02/01/2020,HR,80\n", "the time is in none of the formats"),
        (b"1,2020-02-30,HR,80\n", "the time is in none of the formats"),
        (b"1,2020-01-02 25:00:00,HR,80\n", "the time is in none of the formats"),
        (b"1,2020-01-02T10:00:00Z,HR,80\n", ZONED),
        (
            b"1,2020-01-02T10:00:00+01:00,HR,80\n",
            ZONED,
        ),
        (b"1,,HR,80\n", "no time"),
        (b",2020-01-02,HR,80\n", "no subject"),
        (b"p1,2020-01-02,HR,80\n", "the subject is no whole number"),
        (b"1.5,2020-01-02,HR,80\n", "the subject is no whole number"),
        (b"99999999999999999999,2020-01-02,HR,80\n", "the subject is no whole number"),
        (b"1,2020-01-02,,80\n", "a cell of the code is empty"),
        (b"1,2020-01-02,   ,80\n", "a cell of the code is empty"),
        (
            b'1,2020-01-02,"HR\n2,2020-01-02,Temp",37\n',
            LONG_CODE,
        ),
        (
            b"1,2020-01-02," + b"x" * 201 + b",80\n",
            LONG_CODE,
        ),
        (b"80,2020-01-02,2020-01-02,HR\n", "the value is no number"),
        (HEADER, "the subject is no whole number"),
    ],
)
def test_a_row_that_says_nothing_clear_is_left_out_with_its_reason(load, row, reason):
    made = load(HEADER + GOOD + row + GOOD.replace(b"80", b"81"))
    assert made.values == [80.0, 81.0]
    assert made.reasons == {reason: 1}
    assert made.rejects["row"].to_list() == [2]


def test_years_of_two_digits_are_none_of_a_format_with_four(load):
    time = {"column": "time", "formats": "%m/%d/%Y"}
    made = load(HEADER + b"1,12/31/20,HR,80\n1,12/31/2020,HR,81\n1,12/31/202,HR,82\n", time=time)
    assert made.times == [datetime(2020, 12, 31, 23, 59, 59)]
    assert made.reasons == {"the time is in none of the formats": 2}


def test_mistyped_years_are_left_out_and_the_mapping_narrows_them(load):
    rows = b"1,2020-01-01,HR,80\n1,0202-01-01,HR,81\n1,2999-01-01,HR,82\n1,2202-01-01,HR,83\n"
    made = load(HEADER + rows)
    assert made.values == [80.0, 83.0]
    assert made.reasons == {
        "the time is outside the years of the mapping": 1,
        "the time is in none of the formats": 1,
    }


def test_years_of_the_mapping_leave_out_what_lies_outside_them(load):
    rows = b"1,2020-01-01,HR,80\n1,1899-12-31,HR,81\n1,2027-01-01,HR,82\n"
    made = load(HEADER + rows, mapping={"years": [1900, 2026]})
    assert made.values == [80.0]
    assert made.reasons == {"the time is outside the years of the mapping": 2}


BIRTHS = [
    {"code": "MEDS_BIRTH", "time": {"column": "code", "formats": ["%d.%m.%y", "%Y-%m-%d"]}},
    {"code": "HR", "value": "value"},
]


@pytest.mark.parametrize(
    ("rows", "late"),
    [
        (b"1,2020-01-01,01.02.45,80\n2,2020-01-01,01.02.75,80\n", 1),
        (b"1,1950-06-01,2020-01-01,80\n2,1950-06-01,2020-01-01,80\n", 2),
    ],
    ids=["a birth in the future", "birth and time swapped"],
)
def test_births_after_the_first_event_are_told_by_validate(load, tmp_path, rows, late):
    load(HEADER + rows, events=BIRTHS, finds="birth first")
    (found,) = [f for f in validate(tmp_path / "out").findings if f.check == "birth first"]
    assert found.count == late
    assert "look at the format of birth dates" in found.remedy


@pytest.mark.parametrize(
    ("swapped", "reason"),
    [
        ("time,subject_id,code,value", "the subject is no whole number"),
        ("subject_id,code,time,value", "the time is in none of the formats"),
        ("subject_id,time,value,code", "the value is no number"),
    ],
)
def test_a_table_whose_columns_are_swapped_is_refused_with_the_reason(load, swapped, reason):
    with pytest.raises(SchemaError, match=f"of 2 rows of t, 2: {reason}"):
        load(swapped.encode() + b"\n" + GOOD * 2)


def test_decimal_commas_are_read_where_the_mapping_says_so_and_points_are_then_refused(load):
    rows = (
        b"1;2020-01-01;HR;80,5\n1;2020-01-02;HR;1.234,5\n1;2020-01-03;HR;80.5\n1;2020-01-04;HR;7\n"
    )
    made = load(HEADER.replace(b",", b";") + rows, separator=";", decimal=",")
    assert made.values == [80.5, 7.0]
    assert made.reasons == {"the value is no number": 2}


def test_negative_offsets_are_before_the_anchor_and_absurd_ones_are_left_out(load):
    time = {"after": datetime(2020, 1, 1), "minutes": "time"}
    made = load(HEADER + b"1,-90,HR,80\n1,1e15,HR,81\n1,-1e15,HR,82\n1,soon,HR,83\n", time=time)
    assert made.times == [datetime(2019, 12, 31, 22, 30)]
    assert made.reasons == {
        "the time is outside the years of the mapping": 2,
        "the time is in none of the formats": 1,
    }


def test_columns_of_files_in_another_order_are_read_by_their_names(load, tmp_path):
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "t1.csv").write_bytes(
        b"value,code,time,subject_id\n70,HR,2020-01-01,1\n"
    )
    made = load(HEADER + GOOD, "t2.csv", files="t*.csv")
    assert sorted(made.values) == [70.0, 80.0]


def test_an_empty_file_among_others_is_listed(load, tmp_path):
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "t1.csv").write_bytes(b"")
    made = load(HEADER + GOOD, "t2.csv", files="t*.csv")
    assert made.values == [80.0]
    assert made.reasons == {"the file is empty": 1}


# Parquet: types instead of text.


def test_parquet_of_nested_or_binary_columns_is_refused_where_they_are_mapped(load):
    fields = {"subject_id": [1], "time": [datetime(2020, 1, 1)], "code": ["HR"]}
    for cells, kind in (([[80.0]], "list"), ([{"x": 1}], "struct"), ([b"80"], "binary")):
        with pytest.raises(SchemaError, match=f"column value is {kind}.*unnest it"):
            load(parquet(**fields, value=cells), "t.parquet", files="t.parquet")
    made = load(parquet(**fields, value=[80.0], other=[[1]]), "t.parquet", files="t.parquet")
    assert made.values == [80.0]


def test_parquet_types_are_read_by_their_meaning(load):
    content = parquet(
        subject_id=pa.array([1.0, 2.0, None, 2.5]),
        time=pa.array([datetime(2020, 1, 1)] * 4, pa.timestamp("ns")),
        code=pa.array(["HR", "HR", "HR", "HR"]).dictionary_encode(),
        value=pa.array([80, 81, 82, 83], pa.decimal128(6, 2)),
    )
    made = load(content, "t.parquet", files="t.parquet")
    assert made.events["subject_id"].to_list() == [1, 2]
    assert made.values == [80.0, 81.0]
    assert made.reasons == {"no subject": 1, "the subject is no whole number": 1}


def test_parquet_times_with_a_zone_need_the_mapping_to_say_where(load):
    zoned = pa.array([datetime(2020, 7, 1, 8)], pa.timestamp("us", "UTC"))
    fields = {"subject_id": [1], "code": ["HR"], "value": [80]}
    content = parquet(**fields, time=zoned)
    with pytest.raises(SchemaError, match=ZONED):
        load(content, "t.parquet", files="t.parquet")
    made = load(content, "t.parquet", files="t.parquet", mapping={"time_zone": "Europe/Zurich"})
    assert made.times == [datetime(2020, 7, 1, 10)]


def test_identifiers_of_patients_are_in_no_message(load):
    for content in (
        HEADER + b"Planted,2020-01-01,HR,80\n",
        HEADER + b"1,Planted,HR,80\n",
        HEADER + b"1,2020-01-01,HR,Planted\n",
        HEADER + b'1,2020-01-01,"Planted,80\n',
        HEADER + b"1,2020-01-01,Planted\xff,80\n",
    ):
        with pytest.raises(ClinicalError) as raised:
            load(content)
        assert "Planted" not in str(raised.value)
