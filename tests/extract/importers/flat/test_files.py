"""Which files a pattern finds."""

from clinical.errors import SchemaError
from clinical.extract.importers.flat.files import captures, find_files

import pytest

NAMES = (
    *("labs.csv", "hosp/admissions.csv.gz", "hosp/Patients.CSV", "icu/events.parquet"),
    *("set/a/p000001.psv", "set/a/p000002.psv", "set/b/p000003.psv", ".hidden/labs.csv"),
)


@pytest.fixture
def found(source):
    for name in NAMES:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text("x")

    def do(*patterns, **options):
        files = find_files(source, patterns, **options)
        return [file.path.relative_to(source).as_posix() for file in files]

    return do


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("labs.csv", ["labs.csv"]),
        ("hosp/admissions.csv", ["hosp/admissions.csv.gz"]),
        ("icu/events.csv", ["icu/events.parquet"]),
        ("hosp/patients.csv", []),
        ("*.csv", ["labs.csv"]),
        ("set/*.psv", []),
        ("set/*/*.psv", ["set/a/p000001.psv", "set/a/p000002.psv", "set/b/p000003.psv"]),
        ("**/p{n}.psv", ["set/a/p000001.psv", "set/a/p000002.psv", "set/b/p000003.psv"]),
        ("set/a/p00000?.psv", ["set/a/p000001.psv", "set/a/p000002.psv"]),
        ("abs.csv", []),
        ("l.bs.csv", []),
    ],
)
def test_a_pattern_finds_its_files_in_order(found, pattern, expected):
    assert found(pattern) == expected


def test_case_is_ignored_where_the_mapping_says_so(found):
    assert found("hosp/patients.csv", ignore_case=True) == ["hosp/Patients.CSV"]


def test_braces_capture_a_part_of_the_name(found, source):
    (first, *_) = find_files(source, ["set/{part}/p{patient}.psv"])
    assert first.captured == {"part": "a", "patient": "000001"}
    assert captures(["set/{part}/p{patient}.psv"]) == ["part", "patient"]


def test_a_file_that_two_patterns_find_is_read_once(found):
    assert found("labs.csv", "*.csv") == ["labs.csv"]


def test_the_same_table_in_two_kinds_of_files_is_refused(found, source):
    (source / "labs.parquet").write_text("x")
    with pytest.raises(SchemaError, match="such as labs"):
        found("labs.csv")
