"""Each defect alone gives its finding and no other; all together still give every finding."""

from clinical.errors import ConfigError, SchemaError
from clinical.extract.validate import validate

import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

MIMIC = Path(__file__).resolve().parents[2] / ".." / "shared" / "data" / "mimic-iv-demo-meds"
SECRET = 918273645


def change(path: str, edit: Callable[[pl.DataFrame], pl.DataFrame]) -> Callable[[Path], None]:
    """A defect that rewrites one Parquet file of the extract."""

    def apply(root: Path) -> None:
        edit(pl.read_parquet(root / path)).write_parquet(root / path)

    return apply


def set_value(column: str, value: object, row: int) -> Callable[[pl.DataFrame], pl.DataFrame]:
    """An edit of one cell."""

    def edit(frame: pl.DataFrame) -> pl.DataFrame:
        cell = pl.lit(value, dtype=frame.schema[column])
        at_row = pl.int_range(pl.len()) == row
        return frame.with_columns(pl.when(at_row).then(cell).otherwise(column).alias(column))

    return edit


def declare_nothing(root: Path) -> None:
    (root / "metadata" / "dataset.json").write_text('{"dataset_name": "small"}')


def break_dataset(root: Path) -> None:
    # Still declares the images, so that nothing but the flag is wrong.
    content = json.loads((root / "metadata" / "dataset.json").read_text())
    (root / "metadata" / "dataset.json").write_text(
        json.dumps({**content, "consistent_calendar": 1})
    )


def truncate(path: str) -> Callable[[Path], None]:
    def apply(root: Path) -> None:
        content = (root / path).read_bytes()
        (root / path).write_bytes(content[: len(content) // 2])

    return apply


def remove(path: str) -> Callable[[Path], None]:
    return lambda root: (root / path).unlink()


FIRST, SECOND = "data/0.parquet", "data/1.parquet"
CODES, SPLITS = "metadata/codes.parquet", "metadata/subject_splits.parquet"
ZONED = pl.lit(datetime(2020, 1, 1, tzinfo=UTC))
BORN_LATE = pl.Series(["GENDER//F", "HR", "HR", "MEDS_BIRTH", "IMAGE//chest"])
MORE = pl.DataFrame({"subject_id": [2], "split": ["train"]})

EDGES = "edges/household.parquet"


def relate(**columns: list[object]) -> Callable[[Path], None]:
    """A table of edges from the first subject to the second, with other columns."""

    def apply(root: Path) -> None:
        (root / "edges").mkdir()
        edges = {"subject_id": [1], "other_subject_id": [2], **columns}
        pl.DataFrame(edges).write_parquet(root / EDGES)

    return apply


# Each defect, and the one finding that it makes: check, severity, file, count.
DEFECTS = {
    "truncated": (truncate(SECOND), ("file", "error", SECOND, 1)),
    "no code column": (
        change(SECOND, lambda f: f.rename({"code": "concept"})),
        ("schema", "error", SECOND, 1),
    ),
    "zoned": (
        change(SECOND, lambda f: f.with_columns(time=ZONED)),
        ("time zone", "error", SECOND, 1),
    ),
    "null code": (change(FIRST, set_value("code", None, 2)), ("code", "error", FIRST, 1)),
    "empty code": (
        change(FIRST, set_value("code", "", 2)),
        [("code", "error", FIRST, 1), ("codes listed", "error", CODES, 1)],
    ),
    "null subject": (
        change(FIRST, set_value("subject_id", None, 4)),
        ("subject_id", "error", FIRST, 1),
    ),
    "reversed": (change(FIRST, pl.DataFrame.reverse), ("time order", "error", FIRST, 2)),
    "interleaved": (
        change(FIRST, lambda f: pl.concat([f[0:2], f[5:], f[2:5]])),
        ("subject together", "error", FIRST, 1),
    ),
    "infinite": (
        change(FIRST, set_value("numeric_value", float("inf"), 3)),
        ("finite", "error", FIRST, 1),
    ),
    "NaN": (
        change(FIRST, set_value("numeric_value", float("nan"), 2)),
        ("finite", "warning", FIRST, 1),
    ),
    "impossible": (
        change(FIRST, set_value("numeric_value", 900.0, 2)),
        ("plausible range", "warning", FIRST, 1),
    ),
    "born late": (
        change(SECOND, lambda f: f.with_columns(code=BORN_LATE)),
        ("birth first", "warning", SECOND, 1),
    ),
    "in two files": (
        change(SECOND, lambda f: pl.concat([f, f.with_columns(subject_id=pl.lit(2, pl.Int64))])),
        [
            ("subject in one file", "error", FIRST, 1),
            ("subject in one file", "error", SECOND, 1),
        ],
    ),
    "unlisted code": (
        change(CODES, lambda f: f.filter(pl.col("code") != "HR")),
        ("codes listed", "error", CODES, 1),
    ),
    "codes twice": (
        change(CODES, lambda f: pl.concat([f, f.head(2)])),
        ("codes listed", "error", CODES, 2),
    ),
    "no codes": (remove(CODES), ("codes listed", "warning", CODES, 5)),
    "no splits": (remove(SPLITS), ("splits", "warning", SPLITS, 3)),
    "two splits": (change(SPLITS, lambda f: pl.concat([f, MORE])), ("splits", "error", SPLITS, 1)),
    "unknown split": (
        change(SPLITS, lambda f: f.with_columns(split=pl.lit("test"))),
        ("splits", "error", SPLITS, 3),
    ),
    "without split": (change(SPLITS, lambda f: f.head(1)), ("splits", "error", SPLITS, 2)),
    "image missing": (remove("images/3.png"), ("images exist", "error", SECOND, 1)),
    "image truncated": (truncate("images/1.png"), ("images readable", "warning", FIRST, 1)),
    "image outside": (
        change(FIRST, set_value("image_path", "../../1.png", 4)),
        ("images inside", "error", FIRST, 1),
    ),
    "image undeclared": (
        declare_nothing,
        [
            ("image_path declared", "error", FIRST, 2),
            ("image_path declared", "error", SECOND, 1),
        ],
    ),
    "nameless": (remove("metadata/dataset.json"), None),
    "dataset.json": (break_dataset, None),
    "unknown sample": (
        change("samples.parquet", set_value("subject_id", SECRET, 0)),
        ("samples", "error", "samples.parquet", 1),
    ),
    "unknown label": (
        change("tasks/died/0.parquet", set_value("subject_id", SECRET, 0)),
        ("labels", "error", "tasks/died", 1),
    ),
    "labels without time": (
        change("tasks/died/0.parquet", lambda f: f.drop("prediction_time")),
        ("labels", "error", "tasks/died", 1),
    ),
    "edges of a weight": (relate(weight=[1.5]), ("edges", "error", EDGES, 1)),
    "edges to nobody": (relate(other_subject_id=[None]), ("edges", "error", EDGES, 1)),
    "edges of a zone": (
        relate(time=[datetime(2020, 1, 1, tzinfo=UTC)]),
        ("edges", "error", EDGES, 1),
    ),
    "an edge to itself": (relate(other_subject_id=[1]), ("edges", "warning", EDGES, 1)),
    "an unknown edge": (relate(subject_id=[SECRET]), ("edges", "warning", EDGES, 1)),
}
ALONE = {name: (apply, found) for name, (apply, found) in DEFECTS.items() if found is not None}


def found_in(root: Path) -> list[tuple[str, str, str, int]]:
    return [(f.check, f.severity, f.file, f.count) for f in validate(root).findings]


def test_a_valid_extract_has_no_finding(root):
    validation = validate(root)
    assert validation.findings == ()
    assert validation.ok


@pytest.mark.parametrize("name", ALONE)
def test_a_defect_gives_its_finding_and_no_other(root, name):
    apply, expected = ALONE[name]
    apply(root)
    expected = expected if isinstance(expected, list) else [expected]
    assert found_in(root) == expected
    assert validate(root).ok == all(severity == "warning" for _, severity, _, _ in expected)


@pytest.mark.parametrize(("name", "severity"), [("nameless", "warning"), ("dataset.json", "error")])
def test_a_defect_of_the_metadata_does_not_hide_the_rest(root, name, severity):
    DEFECTS[name][0](root)
    remove("images/3.png")(root)
    found = found_in(root)
    assert ("dataset.json", severity, "metadata/dataset.json", 1) in found
    assert ("images exist", "error", SECOND, 1) in found


def test_a_newborn_may_have_events_on_the_day_of_its_birth(root):
    day_end = pl.Series([None, datetime(2020, 1, 1, 23, 59, 59), *[datetime(2020, 1, 2)] * 3])
    change(SECOND, lambda f: f.with_columns(time=day_end.dt.cast_time_unit("us")))(root)
    change(SECOND, set_value("time", datetime(2020, 1, 1), 2))(root)
    change(SECOND, lambda f: f.sort("time"))(root)
    assert validate(root).findings == ()


def test_edges_that_are_as_they_should_be_are_no_finding(root):
    relate(weight=[0.5], time=[datetime(2020, 1, 1)], prediction_time=[None])(root)
    assert validate(root).findings == ()


def test_many_defects_are_all_found_at_once(root):
    for name in ("reversed", "impossible", "codes twice", "two splits", "image outside", "zoned"):
        DEFECTS[name][0](root)
    assert {check for check, *_ in found_in(root)} >= {
        *("time order", "codes listed", "splits", "images inside", "time zone"),
    }


def test_no_finding_names_a_subject_or_a_path(root):
    change(FIRST, set_value("image_path", f"../{SECRET}.png", 4))(root)
    change(SECOND, lambda f: f.reverse().with_columns(subject_id=pl.lit(SECRET)))(root)
    validation = validate(root)
    assert not validation.ok
    assert str(SECRET) not in validation.to_json()


def test_the_remedy_of_an_impossible_value_tells_code_range_and_unit(root):
    DEFECTS["impossible"][0](root)
    (finding,) = validate(root).findings
    assert finding.remedy == "rows of HR outside 0 to 500 1/min; check the unit or drop them"


def test_json_is_the_same_findings(root):
    DEFECTS["two splits"][0](root)
    content = json.loads(validate(root).to_json())
    assert content == {
        "ok": False,
        "findings": [
            {
                "check": "splits",
                "severity": "error",
                "file": SPLITS,
                "count": 1,
                "remedy": "subjects are in two splits; keep one of them",
            }
        ],
    }


def test_validating_changes_nothing(root, tmp_path):
    shutil.copytree(root, tmp_path / "before")
    validate(root)
    for path in sorted(p for p in root.rglob("*") if p.is_file()):
        assert path.read_bytes() == (tmp_path / "before" / path.relative_to(root)).read_bytes()


def test_what_is_no_extract_at_all_is_an_error_not_a_finding(tmp_path):
    with pytest.raises(ConfigError, match="there is no extract"):
        validate(tmp_path / "absent")
    with pytest.raises(SchemaError, match="no data/"):
        validate(tmp_path)


@pytest.mark.shared_data("mimic-iv-demo-meds")
def test_the_mimic_iv_demo_is_valid():
    assert validate(MIMIC).ok
